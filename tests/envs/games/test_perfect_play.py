"""Perfect play on small boards against a plain search and published counts; the solver on published positions."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from palaestra.envs.core import map_state
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.games import exact_values, solver
from palaestra.envs.games.bitboards import BoardShape, has_line, mirrored
from palaestra.envs.games.connect_four import ConnectFour, ConnectFourState

SMALL = BoardShape(4, 4)
Position = tuple[tuple[int, ...], ...]  # of each column the stones from below, by player


def wins(position: Position, column: int) -> bool:
    """Whether the newest stone of a column is in a line of four, by walking from it."""
    row = len(position[column]) - 1
    own = position[column][row]

    def run(dx: int, dy: int) -> int:
        count, x, y = 0, column + dx, row + dy
        while 0 <= x < 4 and 0 <= y < len(position[x]) and position[x][y] == own:
            count, x, y = count + 1, x + dx, y + dy
        return count

    return any(1 + run(dx, dy) + run(-dx, -dy) >= 4 for dx, dy in ((0, 1), (1, 0), (1, 1), (1, -1)))


def plain_values() -> dict[Position, int]:
    """The value of every position of 4 × 4 for the player whose turn it is, by a search of all games."""
    known: dict[Position, int] = {}

    def value(position: Position) -> int:
        if position in known:
            return known[position]
        player, best = sum(map(len, position)) & 1, -2
        for column in range(4):
            if len(position[column]) < 4:
                after = (*position[:column], (*position[column], player), *position[column + 1 :])
                drawn = sum(map(len, after)) == 16
                best = max(best, 1 if wins(after, column) else 0 if drawn else -value(after))
        known[position] = best
        return best

    value(((), (), (), ()))
    return known


def stones(position: Position, player: int) -> int:
    return sum(
        1 << (column * 5 + row)
        for column, cells in enumerate(position)
        for row, owner in enumerate(cells)
        if owner == player
    )


def test_every_position_of_four_by_four_has_the_value_that_a_plain_search_finds() -> None:
    plain = plain_values()
    table = exact_values.value_table(SMALL)
    assert len(table.keys) == len(plain) == 134_289
    turns = [sum(map(len, position)) & 1 for position in plain]
    own = torch.tensor([stones(position, turn) for position, turn in zip(plain, turns, strict=True)])
    other = torch.tensor([stones(position, 1 - turn) for position, turn in zip(plain, turns, strict=True)])
    assert torch.equal(table.of(own, other), torch.tensor([*plain.values()], dtype=torch.float32))


def layers_with_finished_games(shape: BoardShape) -> Iterator[Tensor]:
    shifts = torch.tensor(shape.shifts).unsqueeze(1)
    own = other = torch.zeros(1, dtype=torch.int64)
    yield exact_values.position_key(own, other)
    while len(own):
        cells, legal = exact_values.moves_of(own, other, shape)
        after, left = (own.unsqueeze(1) | cells)[legal], other.unsqueeze(1).expand_as(cells)[legal]
        keys, of_key = exact_values.position_key(left, after).unique(return_inverse=True)
        yield keys
        one = torch.empty_like(keys).scatter_(0, of_key, torch.arange(len(of_key)))  # a move that leads to each
        goes_on = one[~has_line(after[one], shifts)]
        own, other = left[goes_on], after[goes_on]


@pytest.mark.parametrize(("rows", "columns", "count"), [(4, 4, 161_029), (5, 4, 1_706_255)])
def test_there_are_as_many_positions_as_published(rows: int, columns: int, count: int) -> None:
    assert sum(len(keys) for keys in layers_with_finished_games(BoardShape(rows, columns))) == count


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (5, 4)])
def test_small_boards_are_drawn_and_mirrored_positions_have_one_value(rows: int, columns: int) -> None:
    shape = BoardShape(rows, columns)
    none = torch.zeros(1, dtype=torch.int64)
    assert exact_values.value_table(shape).of(none, none).item() == 0.0
    own, other = exact_values._layers(shape)[7]
    table = exact_values.value_table(shape)
    assert torch.equal(table.of(own, other), table.of(mirrored(own, shape), mirrored(other, shape)))


def test_a_board_without_a_solver_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    state = ConnectFourState(*torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"known on 6 × 7 and on boards of up to 20 cells, not on this one"):
        ConnectFour(5, 6).game_value(state)
    monkeypatch.setattr(solver, "is_installed", lambda: False)
    solver._engine.cache_clear()
    with pytest.raises(ValueError, match=r'needs a solver: pip install "palaestra\[games\]"'):
        ConnectFour().game_value(state)
    assert not ConnectFour().has("game_value")
    assert ConnectFour(4, 4).has("game_value")


needs_solver = pytest.mark.skipif(importlib.util.find_spec("bitbully") is None, reason="bitbully is not installed")


@needs_solver
def test_the_solver_knows_published_values() -> None:
    """The first move in the middle wins, beside it draws, and further out loses (Allen, Allis)."""
    bottoms = ConnectFour().bottoms
    assert solver.solved_values(torch.zeros(1).long(), torch.zeros(1).long()).item() == 1.0
    assert (-solver.solved_values(torch.zeros(7).long(), bottoms)).tolist() == [-1.0, -1.0, 0.0, 1.0, 0.0, -1.0, -1.0]


@needs_solver
def test_the_solver_agrees_with_a_search_near_the_end() -> None:
    """Positions with ten free cells, by playing out all moves."""
    game = ConnectFour()
    state = random_positions(game, 32, 40)
    found = game.game_value(state)
    assert torch.equal(found, searched(game, state))
    assert len(found.unique()) == 3


def random_positions(game: ConnectFour, moves: int, count: int) -> ConnectFourState:
    """Positions after so many random moves in which the game goes on."""
    keys = env_keys(5, torch.arange(40_000))
    state, alive = game.reset(Rng(keys, 0)), torch.ones(len(keys), dtype=torch.bool)
    for ply in range(1, moves + 1):
        mask = game.action_mask(state)
        action = Rng(keys, ply).choice(mask | ~mask.any(1, keepdim=True))
        state, _, over = game.step(state, action, Rng(keys, ply))
        alive &= ~over
    rows = alive.nonzero().squeeze(1)[:count]
    assert len(rows) == count
    return map_state(lambda field: field[rows], state)


def searched(game: ConnectFour, state: ConnectFourState) -> Tensor:
    """Values by playing out all moves."""
    shape = game.shape

    def line(own: int) -> bool:
        return any(
            own & (own >> s) & (own >> 2 * s) & (own >> 3 * s)
            for s in (1, shape.height - 1, shape.height, shape.height + 1)
        )

    def value(own: int, other: int, left: int) -> int:
        best = -1
        for column in range(shape.columns):
            stone = ((own | other) + shape.bottom(column)) & shape.column(column)
            if stone:
                if line(own | stone):
                    return 1
                best = max(best, 0 if left == 1 else -value(other, own | stone, left - 1))
        return best

    rows = zip(state.own.tolist(), state.other.tolist(), state.moves.tolist(), strict=True)
    return torch.tensor([float(value(own, other, shape.cells - moves)) for own, other, moves in rows])
