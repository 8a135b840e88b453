"""Copies of a Gymnasium environment in this process, stepped one after another.

What Gymnasium's ``SyncVectorEnv`` does, with less around each step: an observation is written into the batch's memory
as soon as it is there, so an environment may give the same array every time, and only what agents use of an ``info``
is collected.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space
from gymnasium.vector.utils import create_empty_array

from palaestra.envs.core import Array

RowValues = dict[str, dict[int, Any]]
"""What some rows say, by name (``mask``, ``final_obs``, ``final_mask``, ``is_success``) and row."""

Zeros = Callable[..., Array]


class Batch(NamedTuple):
    """The arrays that a step fills; all change with the next one."""

    obs: Any  # [N, …], in dicts where the space has them
    rewards: Array  # [N], NaN where the running call has not come yet
    terminated: Array  # bool [N]
    truncated: Array  # bool [N]

    @classmethod
    def of(cls, space: Space[Any], count: int, zeros: Zeros = np.zeros) -> Batch:
        """For ``count`` environments whose observations are in ``space``, made by ``zeros(shape, dtype=…)``."""
        ends = (zeros((count,), dtype=np.bool_), zeros((count,), dtype=np.bool_))
        return cls(create_empty_array(space, count, zeros), zeros((count,), dtype=np.float64), *ends)

    def part(self, rows: slice) -> Batch:
        """The same memory of some rows."""
        return Batch(_part(self.obs, rows), *(array[rows] for array in self[1:]))


class SyncLoop:
    """N guarded environments in a row, which fill ``batch``."""

    processes: Sequence[Any] = ()

    def __init__(self, envs: Sequence[Any], batch: Batch) -> None:
        self.envs, self.batch = envs, batch

    def reset(self, seeds: Sequence[int] | None = None, options: dict[str, Any] | None = None) -> RowValues:
        """New episodes everywhere."""
        told: RowValues = {}
        self.batch.rewards.fill(np.nan)
        for i, env in enumerate(self.envs):
            obs, info = env.reset(seed=None if seeds is None else seeds[i], options=options)
            _write(self.batch.obs, i, obs)
            self.batch.rewards[i] = 0.0
            for name, value in info.items():
                told.setdefault(name, {})[i] = value
        return told

    def step(self, actions: Array) -> RowValues:
        """One step of all, with new episodes where one ended."""
        told: RowValues = {}
        store, rewards, terminations, truncations = self.batch
        rewards.fill(np.nan)
        terminations[:] = truncations[:] = False
        whole = isinstance(store, np.ndarray)
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            obs, reward, terminated, truncated, info = env.step(action)
            if terminated or truncated:
                terminations[i], truncations[i] = terminated, truncated
                told.setdefault("final_obs", {})[i] = obs
                for name, value in info.items():
                    told.setdefault("final_mask" if name == "mask" else name, {})[i] = value
                obs, info = env.reset()
            if whole:
                store[i] = obs
            else:
                _write(store, i, obs)
            rewards[i] = reward
            if info:
                for name, value in info.items():
                    told.setdefault(name, {})[i] = value
        return told

    def infos(self) -> list[dict[str, Any]]:
        """Copies of what the environments said with the latest step."""
        return copy.deepcopy([env.said for env in self.envs])

    def number(self, first_env_index: int) -> None:
        """Tell the environments their global indices."""
        for index, env in enumerate(self.envs):
            env.env_index = first_env_index + index

    def render(self) -> tuple[Any, ...]:
        return tuple(env.render() for env in self.envs)

    def close(self) -> None:
        for env in self.envs:
            env.close()


def _part(store: Any, rows: slice) -> Any:
    if isinstance(store, dict):
        return {key: _part(inner, rows) for key, inner in store.items()}
    return tuple(_part(inner, rows) for inner in store) if isinstance(store, tuple) else store[rows]


def _write(store: Any, i: int, obs: Any) -> None:
    if isinstance(store, dict | tuple):
        for key, part in store.items() if isinstance(store, dict) else enumerate(store):
            _write(part, i, obs[key])
    else:
        store[i] = obs
