"""Connect Four against known answers: counted positions, a plain board of lists, and mirrored games."""

from __future__ import annotations

import random
import re

import pytest
import torch
from torch import Tensor

from palaestra.envs.core import map_state
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.games.bitboards import BoardShape, line_cells, mirrored
from palaestra.envs.games.connect_four import ConnectFour, ConnectFourState
from palaestra.envs.rendering.picture import picture

PERFT = [7, 49, 343, 2401, 16807, 117649, 823536]  # games of so many moves that have not ended before
Board = list[list[int]]  # of each column the stones from below, by player


def fresh(game: ConnectFour, count: int = 1) -> ConnectFourState:
    return game.reset(Rng(env_keys(0, torch.arange(count)), 0))


def played(game: ConnectFour, columns: str) -> tuple[ConnectFourState, float, bool]:
    """A game of one board by its columns, counted from 1; state, reward and end after the last one."""
    state, reward, over = fresh(game), torch.zeros(1), torch.zeros(1, dtype=torch.bool)
    for column in columns:
        assert not over.item(), "the game has ended before"
        state, reward, over = game.step(state, torch.tensor([int(column) - 1]), Rng(env_keys(0, torch.arange(1)), 1))
    return state, reward.item(), bool(over.item())


def test_games_of_up_to_seven_moves_are_counted_right() -> None:
    game, counts = ConnectFour(), []
    state = fresh(game)
    for _ in PERFT:
        rows, columns = game.action_mask(state).nonzero().unbind(1)
        counts.append(len(rows))
        after, _, over = game.step(map_state(lambda field: field[rows], state), columns, Rng(rows, 1))  # noqa: B023
        state = map_state(lambda field: field[~over], after)  # noqa: B023
    assert counts == PERFT


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ("1212121", "upright"),
        ("1122334", "level"),
        ("12233434474", "diagonal, rising"),
        ("76655454414", "diagonal, falling"),
        ("4455667", "level, at the edge"),
    ],
)
def test_four_in_a_line_win(columns: str, line: str) -> None:
    state, reward, over = played(ConnectFour(), columns)
    assert (reward, over) == (1.0, True), line
    assert line_cells(int(state.other), BoardShape(6, 7)).bit_count() == 4
    assert line_cells(int(state.own), BoardShape(6, 7)) == 0


@pytest.mark.parametrize("columns", ["121212", "111222", "11122", "6677112", "112233", "1234567"])
def test_what_is_no_line_does_not_win(columns: str) -> None:
    """Three, and stones that lie side by side in the bits but not on the board."""
    assert played(ConnectFour(), columns)[1:] == (0.0, False)


def test_no_line_goes_around_the_edge() -> None:
    """The top of a column and the bottom of the next one are no neighbours."""
    game = ConnectFour()
    assert not played(game, "12121221")[2]
    top = sum(1 << bit for bit in (3, 4, 5, 7))  # rows 4, 5, 6 of the first column and row 1 of the second
    assert line_cells(top, game.shape) == 0


def test_a_full_board_without_a_line_is_a_draw() -> None:
    columns = draw_of(ConnectFour())
    state, reward, over = played(ConnectFour(), columns)
    assert (len(columns), reward, over) == (42, 0.0, True)
    assert not ConnectFour().action_mask(state).any()


def draw_of(game: ConnectFour) -> str:
    """A drawn game, found by playing at random."""
    chance = random.Random(0)
    for _ in range(20_000):
        columns: list[int] = []
        board: Board = [[] for _ in range(game.columns)]
        while True:
            free = [c for c in range(game.columns) if len(board[c]) < game.rows]
            if not free:
                return "".join(str(c + 1) for c in columns)
            column = chance.choice(free)
            columns.append(column)
            board[column].append(len(columns) & 1)
            if plain_win(board, column):
                break
    raise AssertionError("no drawn game found")


def plain_win(board: Board, column: int) -> bool:
    """Whether the newest stone of a column is in a line of four, by walking from it."""
    row = len(board[column]) - 1
    own = board[column][row]

    def run(dx: int, dy: int) -> int:
        count, x, y = 0, column + dx, row + dy
        while 0 <= x < len(board) and 0 <= y < len(board[x]) and board[x][y] == own:
            count, x, y = count + 1, x + dx, y + dy
        return count

    return any(1 + run(dx, dy) + run(-dx, -dy) >= 4 for dx, dy in ((0, 1), (1, 0), (1, 1), (1, -1)))


@pytest.mark.parametrize(("rows", "columns"), [(6, 7), (4, 4), (4, 5), (5, 4), (7, 6)])
def test_random_games_are_those_of_a_plain_board(rows: int, columns: int) -> None:
    """Rewards, ends, legal columns and what is seen, move by move; one in ten moves is for a full column."""
    game, chance = ConnectFour(rows, columns, observation="grid"), random.Random(rows * 10 + columns)
    for _ in range(60):
        board: Board = [[] for _ in range(columns)]
        state, over, moves = fresh(game), False, 0
        while not over:
            legal = [len(stones) < rows for stones in board]
            assert game.action_mask(state).tolist() == [legal]
            assert torch.equal(game.observe(state)[0], plain_view(board, rows, moves & 1))
            assert game.player(state).tolist() == [moves & 1]
            any_column = chance.random() < 0.1
            column = chance.choice([c for c in range(columns) if any_column or legal[c]])
            state, reward, ends = game.step(state, torch.tensor([column]), Rng(torch.tensor([0]), 1))
            if not legal[column]:
                expected = (-1.0, True)
            else:
                board[column].append(moves & 1)
                wins = plain_win(board, column)
                expected = (float(wins), wins or all(len(stones) == rows for stones in board))
            moves += 1
            over = bool(ends.item())
            assert (reward.item(), over) == expected


def plain_view(board: Board, rows: int, player: int) -> Tensor:
    seen = torch.zeros(2, rows, len(board))
    for column, stones in enumerate(board):
        for row, owner in enumerate(stones):
            seen[int(owner != player), rows - 1 - row, column] = 1.0
    return seen


def test_the_flat_observation_is_the_grid_in_a_row() -> None:
    flat, grid = ConnectFour(), ConnectFour(observation="grid")
    state, _, _ = played(flat, "4435261")
    assert torch.equal(flat.observe(state), grid.observe(state).flatten(1))
    threats = ConnectFour(threats=True).observe(state)
    assert torch.equal(threats, ConnectFour(observation="grid", threats=True).observe(state).flatten(1))
    assert torch.equal(threats[:, :84], flat.observe(state))
    assert flat.observation_space.shape == (84,)
    assert grid.observation_space.shape == (2, 6, 7)


@pytest.mark.parametrize(("rows", "columns"), [(6, 7), (4, 4), (4, 12), (5, 10), (7, 6)])
def test_threats_are_the_empty_cells_that_would_complete_a_line(rows: int, columns: int) -> None:
    """Beside trying every empty cell of a plain board; boards go up to the largest that there are."""
    game, chance = ConnectFour(rows, columns, "grid", threats=True), random.Random(rows * columns)
    seen = set()
    for _ in range(8):
        board: Board = [[] for _ in range(columns)]
        state, over, moves = fresh(game), False, 0
        while not over:
            planes = game.observe(state)[0]
            assert torch.equal(planes[:2], plain_view(board, rows, moves & 1))
            assert torch.equal(planes[2:], plain_threats(board, rows, moves & 1))
            seen |= {(plane, round(planes[plane].sum().item())) for plane in (2, 3)}
            column = chance.choice([c for c in range(columns) if len(board[c]) < rows])
            state, _, ends = game.step(state, torch.tensor([column]), Rng(torch.tensor([0]), 1))
            board[column].append(moves & 1)
            moves, over = moves + 1, bool(ends.item())
    assert {(2, 2), (3, 2)} <= seen  # several at once, of either player


def plain_threats(board: Board, rows: int, player: int) -> Tensor:
    owner = {(c, r): one for c, stones in enumerate(board) for r, one in enumerate(stones)}
    seen = torch.zeros(3, rows, len(board))
    for column, stones in enumerate(board):
        for row in range(len(stones), rows):
            for plane, mover in ((0, player), (1, 1 - player)):
                seen[plane, rows - 1 - row, column] = completes(owner, mover, column, row)
        if len(stones) < rows:
            seen[2, rows - 1 - len(stones), column] = 1.0
    return seen


def completes(owner: dict[tuple[int, int], int], mover: int, column: int, row: int) -> bool:
    """Whether one of the lines of four through an empty cell has three stones of the mover beside it."""
    lines = (
        [(column + dx * k, row + dy * k) for k in range(first, first + 4) if k]
        for dx, dy in ((0, 1), (1, 0), (1, 1), (1, -1))
        for first in range(-3, 1)
    )
    return any(all(owner.get(cell) == mover for cell in line) for line in lines)


def test_a_mirrored_game_is_the_mirror_of_the_game() -> None:
    game, columns = ConnectFour(), "4435261"
    state, other = played(game, columns)[0], played(game, "".join(str(8 - int(c)) for c in columns))[0]
    assert int(mirrored(state.own, game.shape)) == int(other.own)
    assert int(mirrored(state.other, game.shape)) == int(other.other)
    assert int(mirrored(other.own, game.shape)) == int(state.own)


def test_the_first_player_wins_as_often_as_in_a_plain_simulation() -> None:
    """Random play on lists of stones: 0.5575 of 200,000 games (standard error 0.0011), and 0.0025 drawn."""
    game, count = ConnectFour(), 40_000
    keys = env_keys(3, torch.arange(count))
    state, alive = game.reset(Rng(keys, 0)), torch.ones(count, dtype=torch.bool)
    result = torch.zeros(count)  # of the first player
    for ply in range(1, 43):
        mask = game.action_mask(state)
        action = Rng(keys, ply).choice(mask | ~mask.any(1, keepdim=True))
        state, reward, over = game.step(state, action, Rng(keys, ply))
        result = torch.where(alive, reward if ply & 1 else -reward, result)
        alive &= ~over
    shares = [(result == value).float().mean().item() for value in (1.0, 0.0)]
    assert abs(shares[0] - 0.5575) < 5 * (0.25 / count + 0.0011**2) ** 0.5
    assert abs(shares[1] - 0.0025) < 5 * (0.0025 / count + 0.0025 / 200_000) ** 0.5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rows": 3}, "rows must be a whole number of at least 4, got 3"),
        ({"columns": 7.0}, "columns must be a whole number of at least 4, got 7.0"),
        ({"rows": 8, "columns": 8}, "takes 72 bits, (rows + 1) × columns, and there are 62: name fewer"),
        ({"threats": 1}, "threats must be true or false, got 1"),
        ({"observation": "planes"}, 'observation must be "flat" or "grid", got \'planes\''),
    ],
)
def test_boards_that_there_are_not_are_refused(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        ConnectFour(**arguments)  # type: ignore[arg-type]


def test_only_the_newest_stones_are_marked() -> None:
    """Without an earlier picture only the first moves are known to be new."""
    game = ConnectFour()

    def marked(columns: str, *past: str) -> int:
        """Pixels of the marks, which are brighter than stones."""
        states = [map_state(lambda field: field[0].numpy(), played(game, text)[0]) for text in (*past, columns)]
        image = picture(game, states[-1], past=states[:-1])
        return int((image[100:630].min(2) > 200).sum())

    one = marked("4")
    assert one > 20
    assert marked("44435") == 0
    assert marked("44435", "4443") == pytest.approx(one, rel=0.1)
    assert marked("44435", "444") == pytest.approx(2 * one, rel=0.1)
