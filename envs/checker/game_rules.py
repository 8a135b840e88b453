"""The rule of the checker on games for two players: whose turn it is, which moves are legal, and what they earn.

A game is played both as the environment of one of its players, which all other rules look at, and here as itself, by
random legal moves of both. Where perfect play is known (``game_value``), it must be consistent: a position is worth the
most of what its moves earn, each its reward less what the position after it is worth to the other player. That holds
for the truth alone, in games that end; so it finds a value, or a reward, that is the other player's.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.checker.findings import DoesNotApply
from palaestra.envs.checker.value_rules import Subject, first_row
from palaestra.envs.core import TensorEnv
from palaestra.envs.core.batching.records import some_rows
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.errors import check_returned
from palaestra.envs.core.rng import Rng, Stream, child_key, env_keys, sample_actions
from palaestra.envs.wrappers.two_players.game_view import is_game
from palaestra.envs.wrappers.two_players.opponents import legal_moves, move_values

MOST_MOVES = 200  # of a game that is looked at
VALUED, SECONDS = 16, 1.0  # positions whose value is looked at after so many moves, and for how long: solvers take time
ROUNDING = 1e-4


def two_players(subject: Subject) -> str | None:
    """Player 0 begins, turns alternate, legal moves are there while a game goes on, values are those of the moves."""
    game: Any = next((rules for rules in rules_within(subject.env) if is_game(rules)), None)
    if game is None:
        return DoesNotApply("it is for games: write player(state), whose turn it is, if two play")
    game, indices = copy.deepcopy(game).to("cpu"), torch.arange(subject.num_envs)
    keys = child_key(env_keys(subject.seed, indices, Stream.CHECKER), 0)
    state, alive = game.reset(Rng(keys, 0)), torch.ones(subject.num_envs, dtype=torch.bool)
    end = time.perf_counter() + SECONDS
    for move in range(1, MOST_MOVES + 1):
        if fault := _turn_fault(game, state, move, alive):
            return fault
        mask = legal_moves(game, state)
        if (none := alive & ~mask.any(1)).any():
            return f"action_mask of env {first_row(none)} allows no move at move {move}, though its game goes on"
        before, draws = state, Rng(keys, move)
        state, _, over = game.step(before, sample_actions(game.action_space, Rng(keys, move), mask), draws)
        if move == 1 and over.any():
            return f"the game of env {first_row(over)} ends with its first move, before the other player had one"
        if not draws.used and time.perf_counter() < end and (fault := _value_fault(game, before, move, alive)):
            return fault
        alive &= ~over
        if not alive.any():
            return None
    return None


def _turn_fault(game: TensorEnv[Any], state: Any, move: int, alive: Tensor) -> str | None:
    turn: Any = game.player(state)
    if not isinstance(turn, Tensor) or turn.shape != alive.shape or turn.dtype != torch.int64:
        got = f"{turn.dtype} {tuple(turn.shape)}" if isinstance(turn, Tensor) else type(turn).__name__
        return f"player must return an int64 tensor of shape {tuple(alive.shape)}, got {got}"
    expected = (move - 1) & 1
    if (wrong := alive & (turn != expected)).any():
        row = first_row(wrong)
        return (
            f"player of env {row} is {int(turn[row])} at move {move}, not {expected}: player 0 begins, turns alternate"
        )
    return None


def _value_fault(game: TensorEnv[Any], state: Any, move: int, alive: Tensor) -> str | None:
    """What is wrong with the value of some of the positions in which games go on, of rules without chance."""
    if not game.has("game_value"):
        return None
    rows = alive.nonzero().squeeze(1)[:VALUED]
    some = some_rows(state, rows)
    value: Any = game.game_value(some)
    check_returned(game, "game_value", value, tuple(rows.shape), torch.float32)
    best = move_values(game, some, None, Rng(rows, 0)).amax(1)
    wrong = (value - best).abs() > ROUNDING * (1.0 + best.abs())
    if not wrong.any():
        return None
    row = first_row(wrong)
    return (
        f"game_value of env {int(rows[row])} is {float(value[row]):g} at move {move}, but the best of its moves earns"
        f" {float(best[row]):g}: its reward, which is the mover's, less game_value of the position after it"
    )
