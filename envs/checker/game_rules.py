"""The rule of the conformance checker on games for two players: whose turn it is, which moves are legal, who has won.

A game is played both as the environment of one of its players, which all other rules look at, and here as itself, by
random legal moves of both.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.checker.findings import DoesNotApply
from palaestra.envs.checker.value_rules import Subject, first_row
from palaestra.envs.core import TensorEnv
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.rng import Rng, Stream, child_key, env_keys, sample_actions
from palaestra.envs.wrappers.two_players.game_view import is_game
from palaestra.envs.wrappers.two_players.opponents import legal_moves

MOST_MOVES = 200  # of a game that is looked at


def two_players(subject: Subject) -> str | None:
    """Player 0 begins, turns alternate, legal moves are there while a game goes on, and values keep within rewards."""
    game: Any = next((rules for rules in rules_within(subject.env) if is_game(rules)), None)
    if game is None:
        return DoesNotApply("it is for games: write player(state), whose turn it is, if two play")
    game, indices = copy.deepcopy(game).to("cpu"), torch.arange(subject.num_envs)
    keys = child_key(env_keys(subject.seed, indices, Stream.CHECKER), 0)
    state, alive = game.reset(Rng(keys, 0)), torch.ones(subject.num_envs, dtype=torch.bool)
    for move in range(1, MOST_MOVES + 1):
        if fault := _turn_fault(game, state, move, alive):
            return fault
        mask = legal_moves(game, state)
        if (none := alive & ~mask.any(1)).any():
            return f"action_mask of env {first_row(none)} allows no move at move {move}, though its game goes on"
        state, _, over = game.step(state, sample_actions(game.action_space, Rng(keys, move), mask), Rng(keys, move))
        if move == 1 and over.any():
            return f"the game of env {first_row(over)} ends with its first move, before the other player had one"
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
