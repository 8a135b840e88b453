"""Names of columns of ``progress.csv``, and what people read of training returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

STEP, ITERATION = "global_step", "time/total_timesteps"  # in every row, in every iteration's row
TRAINING, EVALUATION = "training, exploring", "evaluation, greedy"
DECIDED = "self-play games that one side wins"  # the training returns of an agent that moves for both players


def moves_for_both(env_kwargs: Any) -> bool:
    """True if by the environment's arguments of a run its agent moves for both players of a game while it trains.

    What stands in place of returns of training is no score then: the share of games that one side wins.
    """
    return isinstance(env_kwargs, Mapping) and env_kwargs.get("opponent") == "self"
