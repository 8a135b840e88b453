"""The best response to a policy in a game for two, exact: how much perfect knowledge of it can win.

1. Forwards: the positions that can be reached where the responder makes any moves and the policy its own, each once. A
   policy that is sure of its moves comes into few: on boards of 20 cells into thousands, of millions that there are.
2. Backwards: the responder's value of a position is the most that a move leads to where it is his turn, and the
   policy's expectation where it is the policy's. Once as first player, once as second.
3. Exploitability is NashConv over the number of players: the mean over both sides of what the best response earns above
   the value of the game. That value is one side's gain and the other's loss, so the mean is that of the two best
   responses' returns: 0 for perfect play, at most 1 where a win is worth 1.

Games without chance alone have such positions. A game is too large if a player who always makes the first legal move
comes into more of them than are looked at, which is known before a policy is asked.

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
from palaestra.envs.wrappers.two_players.against_opponent import AgainstOpponent
from palaestra.envs.wrappers.two_players.opponents import legal_moves

MOST_POSITIONS = 2_000_000  # that are reached against one policy, by one side
FEW_POSITIONS = 200_000  # which take seconds, and may be looked at again and again
_TRIED, _DRAWS = 1024, 8  # moves of a layer in which chance is looked for, and with how many different random numbers
Probabilities = Callable[[Any], Tensor]
"""A policy: probabilities float [N, A] of the actions in N states."""


class TooLargeError(ValueError):
    """A game has more positions than are looked at."""


class ChanceError(ValueError):
    """A game begins, or goes on, by chance."""


@dataclass(frozen=True)
class _Layer:
    """Positions after so many moves, and what each action leads to.

    Attributes:
        mine: bool [M], it is the responder's turn.
        share: float64 [M, A], probabilities of the actions: the policy's, or 1 for each legal one of the responder.
        earned: float64 [M, A], by the responder.
        child: int64 [M, A], the place in the next layer; −1 where the game is over, and of actions without a share.
    """

    mine: Tensor
    share: Tensor
    earned: Tensor
    child: Tensor


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


def best_response(
    game: TensorEnv[Any], policy: Probabilities, most: int = MOST_POSITIONS, batch: int = 65_536
) -> BestResponse:
    """The exact best response to a policy, which is asked in positions that it can come into, ``batch`` at a time.

    Raises:
        TooLargeError: if more than ``most`` positions can be reached.
        ChanceError: if the game has chance.
    """
    returns: list[float] = []
    asked = 0
    for responder in (0, 1):
        layers = _reached(game, policy, responder, most, batch)
        asked += sum(int((~layer.mine).sum()) for layer in layers)
        later = torch.zeros(0, dtype=torch.float64)
        for layer in reversed(layers):
            later = _values(layer, later)
        returns.append(float(later[0]))
    return BestResponse(returns[0], returns[1], asked)


def require_small(game: TensorEnv[Any], most: int = MOST_POSITIONS) -> None:
    """Raise a TooLargeError, or a ChanceError, unless it has best responses; see the module."""

    def first_move(state: Any) -> Tensor:
        legal = legal_moves(game, state)
        return torch.nn.functional.one_hot(legal.byte().argmax(1), legal.shape[1])

    best_response(game, first_move, most)


def small_game(rules: TensorEnv[Any] | None) -> AgainstOpponent | None:
    """Rules that are a game against an opponent with few positions and no chance; None for any other, and for none."""
    if not isinstance(rules, AgainstOpponent):
        return None
    try:
        require_small(rules.env, FEW_POSITIONS)
    except (TooLargeError, ChanceError):
        return None
    return rules


def _reached(game: TensorEnv[Any], policy: Probabilities, responder: int, most: int, batch: int) -> list[_Layer]:
    """The positions that a responder can reach, layer by layer."""
    layers, count = [], 0
    state = _without_chance(lambda rng: game.reset(rng), 1)
    while state is not None:
        count += (found := _rows(state))
        if count > most:
            raise TooLargeError(f"{type(game).__name__} has too many positions, over {most:,}")
        mine, share = game.player(state) == responder, legal_moves(game, state).double()
        own = (~mine).nonzero().squeeze(1)
        for first in range(0, len(own), batch):
            part = own[first : first + batch]
            share[part] = policy(some_rows(state, part)).double()
        places, state, earned = _following(game, state, share)
        child = torch.full(share.shape, -1)
        child[share > 0] = places
        gains = torch.zeros_like(share)
        gains[share > 0] = earned
        layers.append(_Layer(mine, share, torch.where(mine.unsqueeze(1), gains, -gains).view(found, -1), child))
    return layers


def _following(game: TensorEnv[Any], state: Any, share: Tensor) -> tuple[Tensor, Any, Tensor]:
    """Where the moves that have a share lead to, in the order of their places.

    Returns:
        Places int64 [K] among the next states, −1 where the game is over; these states, each once, None without any;
        what the moves earn their players, float64 [K].
    """
    rows, moves = (share > 0).nonzero().unbind(1)
    before, actions = some_rows(state, rows), moves + int(getattr(game.action_space, "start", 0))
    some = slice(_TRIED)
    _without_chance(lambda rng: game.step(some_rows(before, some), actions[some], rng), min(_TRIED, len(rows)))
    after, earned, over = game.step(before, actions, Rng(rows, 0))
    places, going = torch.full_like(rows, -1), (~over).nonzero().squeeze(1)
    if not len(going):
        return places, None, earned.double()
    after = some_rows(after, going)
    first, places[going] = _each_once(after)
    return places, some_rows(after, first), earned.double()


def _rows(state: Any) -> int:
    return len(next(iter(state_fields(state).values())))


def _without_chance(call: Callable[[Rng], Any], count: int) -> Any:
    """What a call of the rules gives, whatever its random numbers are.

    Raises:
        ChanceError: if it depends on them.
    """
    one, *others = (call(Rng(env_keys(draw, torch.arange(count)), 0)) for draw in range(_DRAWS))
    for other in others:
        pairs = zip(_tensors(one), _tensors(other), strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            raise ChanceError("best responses are found in games without chance alone")
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


def _values(layer: _Layer, later: Tensor) -> Tensor:
    """What the responder gets in all from the positions of a layer, float64 [M]; ``later`` is of the next one."""
    rest = torch.where(layer.child < 0, 0.0, later[layer.child.clamp(min=0)]) if len(later) else 0.0
    values = layer.earned + rest
    best = values.masked_fill(layer.share == 0, -torch.inf).amax(1)
    return torch.where(layer.mine, best, (layer.share * values).sum(1))
