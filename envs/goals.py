"""Goals in observations, and the rewards that an environment gives for having reached them.

A goal environment, as those of gymnasium-robotics and panda-gym are, has observations in a Dict: with what is asked for
under ``desired_goal`` and what is the case under ``achieved_goal``. Its method ``compute_reward(achieved_goal,
desired_goal, info)`` says what a step is worth that leads to the first while the second is asked for. It is asked for
many steps at once, with goals [B, …] and an empty ``info`` for each, as Stable-Baselines3 asks it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces

from palaestra.envs.core import Array, BatchedEnv, EnvError
from palaestra.envs.core.user_code import RAISED, describe

ACHIEVED, DESIRED = "achieved_goal", "desired_goal"
RULE = "compute_reward"
GoalRule = Callable[[Array, Array, Any], Any]


def without_goals(space: Space[Any]) -> str:
    """The reason why observations in ``space`` hold no goals; empty if they do."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {}
    if missing := [key for key in (ACHIEVED, DESIRED) if key not in parts]:
        return f"observations have no {' and no '.join(missing)}"
    achieved, desired = parts[ACHIEVED], parts[DESIRED]
    if not all(isinstance(part, spaces.Box | spaces.MultiBinary) for part in (achieved, desired)):
        return f"{ACHIEVED} and {DESIRED} must be a Box or MultiBinary"
    if achieved.shape != desired.shape:
        return f"{ACHIEVED} has shape {achieved.shape}, {DESIRED} {desired.shape}"
    return ""


def check_goals(batch: BatchedEnv) -> None:
    """Raise an EnvError unless observations hold goals, and the rewards for two of them can be asked for."""
    if why := without_goals(batch.single_observation_space):
        raise EnvError(why)
    goals: Any = batch.single_observation_space
    batch.goal_rewards(*(torch.zeros(2, *goals[key].shape) for key in (ACHIEVED, DESIRED)))


def rewards_of_goals(rule: GoalRule, achieved: Array, desired: Array) -> Array:
    """Rewards, float32 [B], of steps that lead to ``achieved`` [B, …] while ``desired`` [B, …] is asked for.

    Raises:
        EnvError: if the rule raises, or gives something else than B finite numbers.
    """
    try:
        told: Any = rule(achieved, desired, [{} for _ in achieved])
        rewards = np.asarray(told, dtype=np.float32)
    except RAISED as error:
        raise EnvError(
            f"{RULE} raises {describe(error)} where it is asked for {len(achieved)} goals at once"
        ) from error
    if rewards.shape != (len(achieved),):
        told = f"an array of the shape {rewards.shape}" if rewards.shape else f"one number, {rewards}"
        raise EnvError(f"{RULE} must give {len(achieved)} numbers for {len(achieved)} goals at once, it gives {told}")
    if not np.isfinite(rewards).all():
        raise EnvError(f"{RULE} gives {rewards[~np.isfinite(rewards)][0]}")
    return rewards
