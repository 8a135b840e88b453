"""The best response to a policy in a small game for two, exact: how much perfect knowledge of it can win.

1. All positions that can be reached are found forwards, each once; they are those of a game without chance.
2. Backwards, the responder's value of a position is the most that a move leads to where it is his turn, and the
   policy's expectation where it is the policy's. Once as first player, once as second.
3. Exploitability is NashConv over the number of players: the mean over both sides of what the best response earns above
   the value of the game. That value is one side's gain and the other's loss, so the mean is that of the two best
   responses' returns: 0 for perfect play, at most 1 where a win is worth 1.

Source: NashConv and exploitability as Lanctot et al. have them, "A unified game-theoretic approach to multiagent
reinforcement learning", NeurIPS 2017, section 2, and "OpenSpiel", arXiv:1908.09453, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core import TensorEnv
from palaestra.envs.core.batching.records import some_rows, state_fields
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.wrappers.two_players.opponents import legal_moves

MOST_POSITIONS = 2_000_000
MOST_IN_LAYER = 300_000  # after so many moves; by far fewer than all, so that a large game is given up within a second
_TRIED, _DRAWS = 1024, 8  # moves of a layer in which chance is looked for, and with how many different random numbers
Probabilities = Callable[[Any], Tensor]
"""A policy: probabilities float [N, A] of the actions in N states."""


class TooLargeError(ValueError):
    """A game has more positions than are looked at."""


@dataclass(frozen=True)
class _Layer:
    """Positions after so many moves, and what each action leads to.

    Attributes:
        player: int64 [M] whose turn it is.
        legal: bool [M, A].
        earned: float64 [M, A], of the player who moves.
        child: int64 [M, A], the place in the next layer; −1 where the game is over.
    """

    state: Any
    player: Tensor
    legal: Tensor
    earned: Tensor
    child: Tensor


class AllPositions:
    """The positions of a game in which it goes on, found once for any number of policies."""

    def __init__(self, game: TensorEnv[Any], most: int = MOST_POSITIONS) -> None:
        """Find them.

        Raises:
            TooLargeError: if there are more than ``most``, or than ``MOST_IN_LAYER`` after the same number of moves.
            ValueError: if the game has chance.
        """
        self.layers: list[_Layer] = []
        self.count = 0
        state = _without_chance(lambda rng: game.reset(rng), 1)
        while state is not None:
            found = _rows(state)
            self.count += found
            if self.count > most or found > MOST_IN_LAYER:
                raise TooLargeError(f"{type(game).__name__} has too many positions, over {min(self.count, most):,}")
            layer, state = _layer(game, state)
            self.layers.append(layer)


def _layer(game: TensorEnv[Any], state: Any) -> tuple[_Layer, Any]:
    """A layer, and the states of the next one; None if the game is over wherever it leads."""
    legal = legal_moves(game, state)
    (n, count), first = legal.shape, int(getattr(game.action_space, "start", 0))
    actions = torch.arange(first, first + count).repeat(n)
    rows = torch.arange(n).repeat_interleave(count)
    before = some_rows(state, rows)
    some = slice(_TRIED)
    _without_chance(lambda rng: game.step(some_rows(before, some), actions[some], rng), min(_TRIED, n * count))
    after, earned, over = game.step(before, actions, Rng(rows, 0))
    going = (~over & legal.flatten()).nonzero().squeeze(1)
    child = torch.full((n * count,), -1)
    following = None
    if len(going):
        after = some_rows(after, going)
        first_rows, places = _each_once(after)
        child[going], following = places, some_rows(after, first_rows)
    layer = _Layer(state, game.player(state), legal, earned.double().view(n, count), child.view(n, count))
    return layer, following


def _rows(state: Any) -> int:
    return len(next(iter(state_fields(state).values())))


def _without_chance(call: Callable[[Rng], Any], count: int) -> Any:
    """What a call of the rules gives, whatever its random numbers are.

    Raises:
        ValueError: if it depends on them.
    """
    one, *others = (call(Rng(env_keys(draw, torch.arange(count)), 0)) for draw in range(_DRAWS))
    for other in others:
        pairs = zip(_tensors(one), _tensors(other), strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            raise ValueError("best responses are found in games without chance alone")
    return one


def _tensors(found: Any) -> list[Tensor]:
    if isinstance(found, tuple) and not hasattr(found, "_fields"):
        return [tensor for part in found for tensor in _tensors(part)]
    return [found] if isinstance(found, Tensor) else list(state_fields(found).values())


def _each_once(state: Any) -> tuple[Tensor, Tensor]:
    """Rows that have all different states, and for each row the place of its state among those."""
    columns = [column for field in state_fields(state).values() for column in field.reshape(len(field), -1).unbind(1)]
    places = torch.zeros(len(columns[0]), dtype=torch.int64)
    for column in columns:
        kinds, inverse = torch.unique(column, return_inverse=True)
        _, places = torch.unique(places * len(kinds) + inverse, return_inverse=True)
    first = torch.empty(int(places.max()) + 1, dtype=torch.int64)
    first[places] = torch.arange(len(places))
    return first, places


@dataclass(frozen=True)
class BestResponse:
    """What a best response to a policy earns.

    Attributes:
        first, second: returns as first and as second player.
        asked: positions in which the policy was asked.
    """

    first: float
    second: float
    asked: int

    @property
    def exploitability(self) -> float:
        """See the module."""
        return (self.first + self.second) / 2


def best_response(positions: AllPositions, policy: Probabilities, batch: int = 65_536) -> BestResponse:
    """The exact best response to a policy, which is asked in positions that it can come into, ``batch`` at a time."""
    returns: list[float] = []
    asked = 0
    for responder in (0, 1):
        shares = _shares(positions, policy, responder, batch)
        asked += sum(int((share.sum(1) > 0).sum()) for share in shares)
        later = torch.zeros(0, dtype=torch.float64)
        for layer, share in zip(reversed(positions.layers), reversed(shares), strict=True):
            later = _values(layer, share, later, responder)
        returns.append(float(later[0]))
    return BestResponse(returns[0], returns[1], asked)


def _shares(positions: AllPositions, policy: Probabilities, responder: int, batch: int) -> list[Tensor]:
    """The policy's probabilities float64 [M, A] in each layer, 0 where it is not to move or never comes."""
    reached = torch.ones(1, dtype=torch.bool)
    shares = []
    for layer, following in zip(positions.layers, (*positions.layers[1:], None), strict=True):
        share = torch.zeros_like(layer.earned)
        own = (reached & (layer.player != responder)).nonzero().squeeze(1)
        for first in range(0, len(own), batch):
            rows = own[first : first + batch]
            share[rows] = policy(some_rows(layer.state, rows)).double()
        shares.append(share)
        if following is not None:
            taken = torch.where((layer.player == responder).unsqueeze(1), layer.legal, share > 0)
            led = layer.child[taken & reached.unsqueeze(1)]
            reached = torch.zeros(len(following.player), dtype=torch.bool)
            reached[led[led >= 0]] = True
    return shares


def _values(layer: _Layer, share: Tensor, later: Tensor, responder: int) -> Tensor:
    """What the responder gets in all, float64 [M], in positions that are reached; ``later`` is of the next layer."""
    mine = (layer.player == responder).unsqueeze(1)
    earned = torch.where(mine, layer.earned, -layer.earned)
    rest = torch.where(layer.child < 0, 0.0, later[layer.child.clamp(min=0)]) if len(later) else 0.0
    values = earned + rest
    best = values.masked_fill(~layer.legal, -torch.inf).amax(1)
    return torch.where(mine.squeeze(1), best, (share * values).sum(1))
