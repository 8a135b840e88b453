"""The tree search: against one written plainly, trees worked by hand, forced moves, and perfect values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.agents.search.evaluations import uniform
from palaestra.agents.search.puct import C_BASE, C_INIT, DEEPEST, Evaluate, TreeSearch
from palaestra.envs.core import TensorEnv, map_state
from palaestra.envs.core.rng import Rng, env_keys, sample_actions
from palaestra.envs.games.connect_four import ConnectFour, ConnectFourState
from palaestra.envs.wrappers.two_players.opponents import keeps_value, legal_moves, move_values


@dataclass(frozen=True)
class HeapState:
    left: Tensor  # int64 [N] stones
    moves: Tensor  # int64 [N]


class Heap(TensorEnv[HeapState]):
    """Take stone after stone, one or two at once (moves 3 and 4); each stone earns a tenth, or more of them."""

    def __init__(self, stones: int, chance: bool = False, tenths: float = 1) -> None:
        self.stones, self.chance, self.tenths = stones, chance, tenths
        self.observation_space, self.action_space = Box(0.0, 1.0, (1,)), Discrete(2, start=3)

    def reset(self, rng: Rng) -> HeapState:
        none = torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device)
        return HeapState(none + self.stones, none)

    def step(self, state: HeapState, action: Tensor, rng: Rng) -> tuple[HeapState, Tensor, Tensor]:
        taken = action - 2 if not self.chance else action - 2 + 0 * rng.integers(0, 2)
        left = state.left - taken
        return HeapState(left, state.moves + 1), 0.1 * self.tenths * taken.float() - (left < 0).float(), left <= 0

    def observe(self, state: HeapState) -> Tensor:
        return (state.left / self.stones).unsqueeze(1)

    def player(self, state: HeapState) -> Tensor:
        return state.moves & 1

    def action_mask(self, state: HeapState) -> Tensor:
        return torch.tensor([0, 1], device=self.device) < state.left.unsqueeze(1)


def begun(game: TensorEnv[Any], count: int, plies: int, seed: int = 5) -> Any:
    """States after so many random moves each, of games that go on."""
    keys = env_keys(seed, torch.arange(4 * count))
    state, alive = game.reset(Rng(keys, 0)), torch.ones(4 * count, dtype=torch.bool)
    for ply in range(1, plies + 1):
        mask = legal_moves(game, state)
        moves = sample_actions(game.action_space, Rng(keys, ply), mask | ~mask.any(1, keepdim=True))
        state, _, over = game.step(state, moves, Rng(keys, ply))
        alive &= ~over
    rows = alive.nonzero().flatten()[:count]
    assert len(rows) == count
    return map_state(lambda field: field[rows], state)


def scrambled(game: TensorEnv[Any], state: Any, legal: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities and values without meaning, which are a function of each position."""
    first, second = list(vars(state).values())[:2]
    numbers = torch.arange(1, legal.shape[1] + 2) * (first * 31 + second * 17 + 1).unsqueeze(1)
    noise = (numbers % 97).float() / 97.0
    priors = (noise[:, :-1] + 0.05) * legal
    return priors / priors.sum(1, keepdim=True).clamp(min=1e-6), noise[:, -1] * 2.0 - 1.0


class Node:
    """A position of the plain search, and what is known of its moves."""

    def __init__(self, game: TensorEnv[Any], state: Any, evaluate: Evaluate) -> None:
        self.state = state
        legal = legal_moves(game, state)
        priors, value = evaluate(game, state, legal)
        self.priors, self.value, self.reward = priors[0].tolist(), float(value), 0.0
        self.moves = legal[0].nonzero().flatten().tolist()
        self.visits, self.totals = dict.fromkeys(self.moves, 0), dict.fromkeys(self.moves, 0.0)
        self.bounds = dict.fromkeys(self.moves, (-1.0, 1.0))
        self.children: dict[int, Node] = {}
        self.next = self.choice() if self.moves else 0

    def worth(self) -> tuple[float, float]:
        """Bounds of the position."""
        return max(low for low, _ in self.bounds.values()), max(high for _, high in self.bounds.values())

    def mean(self, move: int) -> float:
        low, high = self.bounds[move]
        return min(max(self.totals[move] / max(self.visits[move], 1), low), high)

    def choice(self) -> int:
        count, (sure, hoped) = 1 + sum(self.visits.values()), self.worth()
        factor = (math.log((1 + count + C_BASE) / C_BASE) + C_INIT) * math.sqrt(count)
        useful = [move for move in self.moves if self.bounds[move][1] > sure or self.bounds[move][0] >= hoped]
        return max(useful, key=lambda m: self.mean(m) + factor * self.priors[m] / (1 + self.visits[m]))

    def narrow(self, move: int, low: float, high: float) -> None:
        self.bounds[move] = max(self.bounds[move][0], low), min(self.bounds[move][1], high)


def plain_search(game: TensorEnv[Any], state: Any, evaluate: Evaluate, simulations: int) -> Node:
    """The root of one board's tree, by one node after the other."""
    first, nothing = int(game.action_space.start), Rng(torch.zeros(1, dtype=torch.int64), 0)  # type: ignore[attr-defined]
    root = Node(game, state, evaluate)
    for _ in range(simulations):
        node, path = root, [(root, root.next)]
        while node.next in node.children:
            node = node.children[node.next]
            path.append((node, node.next))
        move = node.next
        after, reward, ended = game.step(node.state, torch.tensor([move + first]), nothing)
        new, over = Node(game, after, evaluate), bool(ended)
        new.reward = float(reward)
        gain = new.reward - (0.0 if over else new.value)
        if over:
            node.narrow(move, new.reward, new.reward)
        else:
            node.children[move] = new
        for place in reversed(range(len(path))):
            node, move = path[place]
            low, high = node.bounds[move]
            gain = min(max(gain, low), high)
            node.visits[move] += 1
            node.totals[move] += gain
            gain = node.reward - gain
        worth = [node.worth() for node, _ in path]
        for node, _ in path:
            node.next = node.choice()
        for (node, move), (child, _), (low, high) in zip(path, path[1:], worth[1:], strict=False):
            node.narrow(move, child.reward - high, child.reward - low)
    return root


def rows_of(state: Any, row: int) -> Any:
    return map_state(lambda field: field[row : row + 1], state)


@pytest.mark.parametrize(("game", "plies"), [(ConnectFour(4, 4), 8), (Heap(9), 4)], ids=["four", "heap"])
def test_every_tree_is_that_of_a_search_written_plainly(game: TensorEnv[Any], plies: int) -> None:
    """Positions near the end have trees that are complete, and lines that end; the heap earns on the way."""
    state, simulations = begun(game, 12, plies), 80
    found = TreeSearch(game, scrambled, simulations)(state)
    proven = 0
    for row in range(12):
        root = plain_search(game, rows_of(state, row), scrambled, simulations)
        moves = root.moves
        assert found.visits[row, moves].tolist() == list(root.visits.values())
        assert found.values[row, moves].tolist() == pytest.approx([root.mean(move) for move in moves], abs=1e-5)
        assert found.low[row, moves].tolist() == pytest.approx([low for low, _ in root.bounds.values()], abs=1e-5)
        assert found.high[row, moves].tolist() == pytest.approx([high for _, high in root.bounds.values()], abs=1e-5)
        proven += root.worth()[0] > root.worth()[1] - 1e-6
    assert proven > 0, "some of these positions are solved on the way"


def test_a_tree_worked_by_hand() -> None:
    """Two stones: to take both ends the game and earns 0.2; to take one earns 0.1, and then the other player 0.1."""
    game, root = Heap(2), HeapState(torch.tensor([2]), torch.tensor([0]))
    steps = [TreeSearch(game, uniform, n)(root) for n in range(1, 5)]
    # 1: both look alike, the first is taken; 2: U = 1.25 · 0.5 · √2 / 2 against twice that; the second ends the game
    # 3: of the second nothing is left to learn; the first earns 0.1, and then the other player 0.1, which ends it too
    # 4: the first again, which was chosen before it was proven to earn 0
    assert [step.visits[0].tolist() for step in steps] == [[1, 0], [1, 1], [2, 1], [3, 1]]
    assert [pytest.approx(step.values[0].tolist()) for step in steps] == [[0.1, 0], [0.1, 0.2], [0, 0.2], [0, 0.2]]
    assert [pytest.approx(step.low[0].tolist()) for step in steps] == [[-1, -1], [-1, 0.2], [0, 0.2], [0, 0.2]]
    assert [int(step.best()) for step in steps] == [0, 1, 1, 1]


def four(text: str, rows: int = 6, columns: int = 7) -> tuple[ConnectFour, ConnectFourState]:
    """The position after stones in these columns, counted from 1."""
    game = ConnectFour(rows, columns)
    state = game.reset(Rng(torch.zeros(1, dtype=torch.int64), 0))
    for digit in text:
        state, _, over = game.step(state, torch.tensor([int(digit) - 1]), Rng(torch.zeros(1, dtype=torch.int64), 0))
        assert not over
    return game, state


@pytest.mark.parametrize(
    ("moves", "forced"),
    [("112233", 4), ("313233", 6), ("4141417", 4), ("32324245", 4), ("4455", 3)],
    ids=["a level win", "a block, upright", "another", "both could win: the win", "a double threat"],
)
def test_forced_moves_are_found_without_any_knowledge(moves: str, forced: int) -> None:
    game, state = four(moves)
    found = TreeSearch(game, uniform, 200)(state)
    values = move_values(game, state, 3, Rng(torch.zeros(1, dtype=torch.int64), 0))[0]
    best = (values == values.max()).nonzero().flatten().tolist()
    assert int(found.best()) in best, (found, values)


def perfect(game: TensorEnv[Any], state: Any, legal: Tensor) -> tuple[Tensor, Tensor]:
    priors, _ = uniform(game, state, legal)
    return priors, game.game_value(state)


def test_with_perfect_values_every_move_keeps_the_value() -> None:
    game = ConnectFour(4, 4)
    for plies in (0, 3, 6, 9):
        state = begun(game, 100 if plies else 1, plies)
        assert keeps_value(game, state, TreeSearch(game, perfect, 32)(state).best()).all()


def test_more_simulations_keep_the_value_more_often_and_are_counted() -> None:
    game = ConnectFour(4, 4)
    state, shares = begun(game, 400, 9), []
    for simulations in (4, 16, 64, 256):
        found = TreeSearch(game, uniform, simulations)(state)
        assert (found.visits.sum(1) == simulations).all()
        assert (found.visits[~legal_moves(game, state)] == 0).all()
        shares.append(float(keeps_value(game, state, found.best()).float().mean()))
    assert shares == sorted(shares)
    assert shares[0] < 0.75
    assert shares[-1] > 0.95


def test_a_board_is_searched_alike_alone_and_among_others() -> None:
    game = ConnectFour(5, 4)
    state = begun(game, 40, 5)
    search = TreeSearch(game, scrambled, 50)
    whole, again = search(state), search(state)
    assert torch.equal(whole.visits, again.visits), "nothing is left of an earlier search in memory that is used again"
    for row in (0, 7, 39):
        alone = search(rows_of(state, row))
        assert torch.equal(alone.visits[0], whole.visits[row])
        assert torch.equal(alone.values[0], whole.values[row])


def test_many_boards_are_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    game = ConnectFour(4, 4)
    state = begun(game, 25, 4)
    whole = TreeSearch(game, scrambled, 20)(state)
    monkeypatch.setattr("palaestra.agents.search.puct.BOARDS_AT_ONCE", 10)
    parts = TreeSearch(game, scrambled, 20)(state)
    assert torch.equal(parts.visits, whole.visits)
    assert torch.equal(parts.values, whole.values)


def test_paths_beyond_the_deepest_row_are_evaluated_again() -> None:
    """With one legal move there is one path, which grows by a row with each simulation, up to that depth."""

    def one_by_one(game: TensorEnv[Any], state: Any, legal: Tensor) -> tuple[Tensor, Tensor]:
        return torch.tensor([[1.0, 0.0]]).expand(legal.shape[0], 2), state.left.float() / 1000.0

    game = Heap(1000, tenths=0.1)
    found = TreeSearch(game, one_by_one, DEEPEST + 40)(game.reset(Rng(torch.zeros(1, dtype=torch.int64), 0)))
    assert float(found.visits.sum()) == DEEPEST + 40
    assert torch.isfinite(found.values).all()


def test_nothing_waits_for_the_device() -> None:
    """On the meta device whatever looks at a number raises."""
    game = ConnectFour(4, 4)
    game.to("meta")
    state = game.reset(Rng(torch.zeros(6, dtype=torch.int64, device="meta"), 0))
    found = TreeSearch(game, uniform, 8)(state)
    assert found.best().shape == (6,)
    assert found.best().device.type == "meta"


def test_what_cannot_be_searched_is_refused() -> None:
    game = ConnectFour(4, 4)
    with pytest.raises(ValueError, match="simulations must be 1 to 10,000, got 0"):
        TreeSearch(game, uniform, 0)
    with pytest.raises(ValueError, match="Heap draws random numbers in its moves: a search needs rules without chance"):
        TreeSearch(Heap(5, chance=True), uniform, 4)
    with pytest.raises(ValueError, match=r"Heap is worth up to 1\.2 to a player, and a search needs −1 to 1: divide"):
        TreeSearch(Heap(2, tenths=6), uniform, 4)
    TreeSearch(Heap(2, tenths=5), uniform, 4)
    search = TreeSearch(game, uniform, 10)
    search.simulations = 10**10
    with pytest.raises(MemoryError, match="a search of 10,000,000,000 simulations on 1 boards needs"):
        search(game.reset(Rng(torch.zeros(1, dtype=torch.int64), 0)))
