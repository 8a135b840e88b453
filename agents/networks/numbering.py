"""Choices by the environment's own numbers, which may begin anywhere, and by the agents', which count from 0.

Models have the environment's spaces, and what comes into a model and leaves it has the environment's numbers; networks,
distributions and memories count from 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor

from palaestra.envs.core import StepResult

_Translation = Callable[[Any], Any]  # of tensors and of NumPy arrays


class Numbering:
    """Translates observations and actions of one environment, with any leading dimensions."""

    def __init__(self, observation_space: Space[Any], action_space: Space[Any]) -> None:
        self._seen, self._acted = _shift(observation_space, -1), _shift(action_space, 1)
        self._shown, self._chosen = _shift(observation_space, 1), _shift(action_space, -1)
        if isinstance(action_space, spaces.Box) and np.issubdtype(action_space.dtype, np.integer):
            self._acted = functools.partial(_whole, dtype=action_space.dtype)
        self.renames_observations, self.renames_actions = self._seen is not None, self._acted is not None

    def from_env(self, obs: Any) -> Any:
        """Observations that count from 0."""
        return obs if self._seen is None else self._seen(obs)

    def to_env(self, actions: Any) -> Any:
        """Actions by the environment's numbers."""
        return actions if self._acted is None else self._acted(actions)

    def obs_to_env(self, obs: Any) -> Any:
        """The inverse of :meth:`from_env`."""
        return obs if self._shown is None else self._shown(obs)

    def actions_from_env(self, actions: Any) -> Any:
        """Actions that count from 0."""
        return actions if self._chosen is None else self._chosen(actions)

    def step_from_env(self, outcome: StepResult) -> StepResult:
        """A step whose observations count from 0; the environment's own ``info`` stays beside them as ``given``."""
        obs, *ends, info = outcome
        renamed = {**info, "given": info, "final_obs": self.from_env(info["final_obs"])}
        return self.from_env(obs), ends[0], ends[1], ends[2], renamed


def _same(numbers: Any) -> Any:
    return numbers


def _shift(space: Space[Any], sign: int) -> _Translation | None:
    """Adds ``sign`` times the space's first numbers; None where they are 0."""
    if isinstance(space, spaces.Dict):
        moves = {key: _shift(part, sign) or _same for key, part in space.spaces.items()}
        some = any(move is not _same for move in moves.values())
        return (lambda obs: {key: moves[key](part) for key, part in obs.items()}) if some else None
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete) or not np.any(space.start):
        return None
    first = sign * np.asarray(space.start, dtype=np.int64)

    def move(numbers: Any) -> Any:
        if isinstance(numbers, Tensor):
            return numbers + torch.as_tensor(first, device=numbers.device)
        return np.asarray(numbers) + first

    return move


def _whole(numbers: Any, dtype: Any) -> Any:
    """The nearest whole numbers, of a Box of integers."""
    return numbers.round() if isinstance(numbers, Tensor) else np.rint(numbers).astype(dtype)


def counted_from_zero(space: Space[Any]) -> Space[Any]:
    """The same choices, numbered from 0."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: counted_from_zero(part) for key, part in space.spaces.items()})
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(space.n)
    return spaces.MultiDiscrete(space.nvec) if isinstance(space, spaces.MultiDiscrete) else space
