"""Positions of a game for two that are drawn from mixed play, moves in them, and games played on from them.

1. Each side of each game has a player of its own, drawn among random play, one-ply and two-ply lookahead and, where
   there is one, the agent that is judged. Of each game one position is drawn, all plies of it equally likely, so that
   positions are independent. It is the one of (seed, number), whatever other positions are drawn; only where the agent
   is among the players does it depend on it.
2. A move keeps the value of the game if perfect play would still end as before it. Where any legal move does, there is
   no decision to judge.
3. Going on: the player to move plays against perfect play, until the game is over or a move of his loses value, which
   perfect play never gives back. Among the moves that keep the value perfect play makes one that two-ply lookahead
   would make, drawn: a lost game is not thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core import TensorEnv
from palaestra.envs.core.batching.records import map_state, some_rows
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.wrappers.two_players.opponents import (
    LOOKAHEAD,
    LookaheadOpponent,
    Opponent,
    RandomOpponent,
    legal_moves,
    move_values,
    with_perfect_play,
)

MOST_PLIES = 1000  # of a game; one without an end goes no further
_PLAYERS: tuple[Opponent, ...] = (
    RandomOpponent(),
    *(LookaheadOpponent(name, plies) for name, plies in LOOKAHEAD.items()),
)
_GOING_ON, _BEGUN = 1, 2  # the numbers of the random numbers of games that go on and begin, beside drawn ones' 0


@dataclass(frozen=True)
class Positions:
    """Positions in which a game goes on.

    Attributes:
        numbers: int64 [N], which ones of the seed they are.
        ply: int64 [N] moves made before.
    """

    state: Any
    numbers: Tensor
    ply: Tensor
    seed: int

    def of(self, rows: Tensor) -> Positions:
        """Those that bool [N] or int64 [n] rows name."""
        return Positions(some_rows(self.state, rows), self.numbers[rows], self.ply[rows], self.seed)


@dataclass(frozen=True)
class JudgedMoves:
    """Moves in positions, beside perfect play.

    Attributes:
        value: float32 [N] of the position, for the player to move.
        kept: bool [N], the move keeps it.
        decision: bool [N], another legal move would not, or this one does not.
    """

    value: Tensor
    kept: Tensor
    decision: Tensor


def mixed_positions(game: TensorEnv[Any], seed: int, numbers: Tensor, agent: Opponent | None = None) -> Positions:
    """Draw positions.

    Args:
        seed: at least 0.
        numbers: int64 [N], of the positions.
        agent: who plays a part of the sides; None for the scripted players alone.
    """
    players: tuple[Opponent, ...] = _PLAYERS if agent is None else (*_PLAYERS, agent)
    keys = _game_keys(seed, numbers, 0)
    start = Rng(keys, 0)
    state = game.reset(start.spawn())
    who = start.integers(0, len(players), (2,))  # [N, 2] of each side
    drawn, ply, live = state, torch.zeros_like(numbers), torch.ones_like(numbers, dtype=torch.bool)
    for step in range(1, MOST_PLIES + 1):
        rng = Rng(keys, step)
        taken = live & (rng.uniform() < 1.0 / step)  # of so many plies each is the drawn one with the same probability
        drawn, ply = _put(taken, state, drawn), ply.masked_fill(taken, step - 1)
        mover = who.gather(1, game.player(state).unsqueeze(1)).squeeze(1)
        action = torch.zeros_like(numbers)
        for place, player in enumerate(players):
            rows = ((mover == place) & live).nonzero().squeeze(1)
            if len(rows):
                own = player(game, some_rows(state, rows), rng.of_rows(rows).spawn())
                action = action.index_copy(0, rows, own)
        state, _, over = game.step(state, action, rng.spawn())
        live &= ~over
        if not live.any():
            break
    return Positions(drawn, numbers, ply, seed)


def first_positions(game: TensorEnv[Any], seed: int, count: int, side: int) -> Positions:
    """Positions in which the player of that side, 0 or 1, makes the first of his moves; perfect play made those before.

    Args:
        count: of games; those that end before are left out.
    """
    numbers = torch.arange(count)
    rng = Rng(_game_keys(seed, numbers, _BEGUN), 0)
    state = game.reset(rng.spawn())
    ply, live = torch.zeros_like(numbers), torch.ones_like(numbers, dtype=torch.bool)
    for _ in range(side):
        state, _, over = game.step(state, _resisting(game, state, game.game_value(state), rng.spawn()), rng.spawn())
        ply, live = ply + 1, live & ~over
    return Positions(state, numbers, ply, seed).of(live)


def _game_keys(seed: int, numbers: Tensor, purpose: int) -> Tensor:
    return child_key(env_keys(seed, numbers), torch.full_like(numbers, purpose))


def _put(taken: Tensor, new: Any, old: Any) -> Any:
    """States with those of some rows put into others."""
    rows = taken.nonzero().squeeze(1)
    return map_state(lambda a, b: a.index_copy(0, rows, b[rows]), old, new)


def judged(game: TensorEnv[Any], positions: Positions, action: Tensor) -> JudgedMoves:
    """What moves, int64 [N], do to the value of the game."""
    values = move_values(game, positions.state, None, Rng(_game_keys(positions.seed, positions.numbers, 0), 0))
    best, first = values.amax(1), int(getattr(game.action_space, "start", 0))
    kept = values.gather(1, (action - first).unsqueeze(1)).squeeze(1) >= best
    worst = values.masked_fill(~legal_moves(game, positions.state), torch.inf).amin(1)
    return JudgedMoves(best, kept, (worst < best) | ~kept)


@torch.no_grad()
def holds_value(game: TensorEnv[Any], positions: Positions, value: Tensor, agent: Opponent) -> Tensor:
    """True where the player to move plays the game to its end without losing value against perfect play, bool [N].

    Args:
        value: float32 [N] of the positions.
        agent: who plays for the player to move.
    """
    keys = _game_keys(positions.seed, positions.numbers, _GOING_ON)
    rows, state, held = torch.arange(len(value)), positions.state, torch.ones_like(value, dtype=torch.bool)
    for step in range(1, MOST_PLIES + 1):
        rng = Rng(keys[rows], step)
        after, earned, over = game.step(state, agent(game, state, rng.spawn()), rng.spawn())
        reached = with_perfect_play(game, after, earned, over)
        kept = reached >= value[rows]
        held[rows] = kept
        left = (kept & ~over).nonzero().squeeze(1)
        rows, state, rng = rows[left], some_rows(after, left), rng.of_rows(left)
        if not len(rows):
            break
        state, _, over = game.step(state, _resisting(game, state, -value[rows], rng.spawn()), rng.spawn())
        left = (~over).nonzero().squeeze(1)
        rows, state = rows[left], some_rows(state, left)
        if not len(rows):
            break
    return held


def _resisting(game: TensorEnv[Any], state: Any, value: Tensor, rng: Rng) -> Tensor:
    """Perfect play's moves int64 [N] in positions of that value, see the module.

    Moves are looked at one after the other, in the order in which they would be taken, until one keeps the value.
    """
    ahead = move_values(game, state, 2, rng.spawn())
    order = rng.uniform(0.0, 1.0, (ahead.shape[1],)) + (ahead == ahead.amax(1, keepdim=True))
    order = order.masked_fill(~legal_moves(game, state), -1.0).argsort(1, descending=True)
    action, open_ = torch.zeros_like(order[:, 0]), torch.arange(len(order))
    for place in range(order.shape[1]):
        chosen = order[open_, place] + int(getattr(game.action_space, "start", 0))
        after, earned, over = game.step(some_rows(state, open_), chosen, Rng(torch.zeros_like(chosen), 0))
        action[open_] = chosen
        keeps = with_perfect_play(game, after, earned, over) >= value[open_]
        open_ = open_[~keeps]
        if not len(open_):
            break
    return action
