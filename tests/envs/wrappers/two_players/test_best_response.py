"""Best responses and exploitability: perfect play has none, others have what a plain recursion over lists finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from palaestra.envs.core.rng import Rng
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.wrappers.two_players.best_response import TooLargeError, best_response, require_small
from palaestra.envs.wrappers.two_players.opponents import legal_moves, move_values

Cells = tuple[tuple[int, ...], ...]  # of each column the stones from below, by player
SMALL = ConnectFour(4, 4)


def uniform(state: Any) -> Tensor:
    legal = legal_moves(SMALL, state).double()
    return legal / legal.sum(1, keepdim=True)


def leftmost(state: Any) -> Tensor:
    assert len(state.moves), "asked of no position"
    return one_hot(legal_moves(SMALL, state).byte().argmax(1), 4)


def perfect(state: Any) -> Tensor:
    """Any of the moves that keep the value, all alike."""
    values = move_values(SMALL, state, None, Rng(torch.zeros_like(state.moves), 0))
    best = values == values.amax(1, keepdim=True)
    return best / best.sum(1, keepdim=True)


def won(cells: Cells, column: int) -> bool:
    """The newest stone of a column is in a line of four, each line counted cell by cell."""
    row, own = len(cells[column]) - 1, cells[column][-1]

    def run(dx: int, dy: int) -> int:
        x, y, count = column + dx, row + dy, 0
        while 0 <= x < 4 and 0 <= y < len(cells[x]) and cells[x][y] == own:
            x, y, count = x + dx, y + dy, count + 1
        return count

    return any(run(dx, dy) + run(-dx, -dy) >= 3 for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)))


def plain_response(share: Callable[[Cells, list[int]], dict[int, float]], responder: int) -> float:
    """The best response's return from the empty board, by a recursion over positions as lists."""

    @cache
    def value(cells: Cells) -> float:
        mover = sum(map(len, cells)) % 2
        sign = 1.0 if mover == responder else -1.0
        legal = [column for column in range(4) if len(cells[column]) < 4]
        found = {}
        for column in legal:
            after = (*cells[:column], (*cells[column], mover), *cells[column + 1 :])
            full = sum(map(len, after)) == 16
            found[column] = sign if won(after, column) else 0.0 if full else value(after)
        if mover == responder:
            return max(found.values())
        return sum(probability * found[column] for column, probability in share(cells, legal).items())

    return value(((), (), (), ()))


PLAIN: dict[str, Callable[[Cells, list[int]], dict[int, float]]] = {
    "uniform": lambda cells, legal: dict.fromkeys(legal, 1 / len(legal)),
    "leftmost": lambda cells, legal: {legal[0]: 1.0},
}


@pytest.mark.parametrize(("name", "policy"), [("uniform", uniform), ("leftmost", leftmost)])
def test_the_best_response_is_what_a_plain_recursion_finds(name: str, policy: Any) -> None:
    found = best_response(SMALL, policy)
    first, second = (plain_response(PLAIN[name], responder) for responder in (0, 1))
    assert found.first == pytest.approx(first, abs=1e-9)
    assert found.second == pytest.approx(second, abs=1e-9)
    assert found.exploitability == pytest.approx((first + second) / 2, abs=1e-9)


def test_a_policy_is_asked_where_it_comes_alone() -> None:
    """134,289 positions go on on 4 × 4 (tests/envs/games/test_perfect_play.py); a policy without chance sees few."""
    assert best_response(SMALL, uniform, batch=1000).asked == 134_289, "each on one of the two sides"
    assert best_response(SMALL, leftmost).asked < 5_000


def test_perfect_play_has_no_exploitability() -> None:
    found = best_response(SMALL, perfect)
    assert (found.first, found.second, found.exploitability) == (0.0, 0.0, 0.0)


def test_batches_change_nothing() -> None:
    assert best_response(SMALL, uniform, batch=777) == best_response(SMALL, uniform)


@dataclass(frozen=True)
class Heap:
    left: Tensor  # int64 [N]
    moves: Tensor  # int64 [N]


class LastStone(ConnectFour):
    """Take one or two stones from a heap: who takes the last one wins, so four are a win for the first player."""

    def __init__(self, lucky: bool = False) -> None:
        super().__init__(4, 4)
        self.lucky = lucky

    def reset(self, rng: Rng) -> Any:
        none = torch.zeros(rng.num_envs, dtype=torch.int64)
        return Heap(none + 4, none)

    def step(self, state: Any, action: Tensor, rng: Rng) -> Any:
        taken = (action + 1).clamp(max=2)
        if self.lucky:
            taken = rng.integers(1, 3)
        left = state.left - taken
        return Heap(left.clamp(min=0), state.moves + 1), torch.sign(0.5 + left.clamp(max=0)) * (left <= 0), left <= 0

    def action_mask(self, state: Any) -> Tensor:
        return torch.arange(4) < state.left.clamp(max=2).unsqueeze(1)


def test_a_game_worked_by_hand() -> None:
    """A policy that always takes one of four stones: a responder who begins takes one, and of the two that come back to
    him both; second he takes one of three, and of two the policy leaves him the last."""
    one = best_response(LastStone(), lambda state: one_hot(torch.zeros_like(state.left), 4))
    assert (one.first, one.second, one.exploitability) == (1.0, 1.0, 1.0)

    def best(state: Any) -> Tensor:
        """To leave three stones to the other player."""
        return one_hot(torch.where(state.left % 3 == 2, 1, 0), 4)

    found = best_response(LastStone(), best)
    assert (found.first, found.second) == (1.0, -1.0), "the first player wins against anybody, if he knows how"
    assert found.exploitability == 0.0


def test_games_with_chance_and_large_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="best responses are found in games without chance alone"):
        require_small(LastStone(lucky=True))
    with pytest.raises(TooLargeError, match="ConnectFour has too many positions, over 1,000"):
        best_response(SMALL, uniform, most=1000)
    with pytest.raises(TooLargeError, match="ConnectFour has too many positions, over 2,000,000"):
        require_small(ConnectFour(6, 7))
    require_small(ConnectFour(5, 5), most=25_000)
