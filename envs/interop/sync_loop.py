"""Copies of a Gymnasium environment in this process, stepped one after another.

What Gymnasium's ``SyncVectorEnv`` gives, with less around each step: an observation is written into the batch's memory
as soon as it is there, so an environment may give the same array every time, and only what agents use of an ``info``
is collected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.vector.utils import create_empty_array

from palaestra.envs.core import Array


class SyncLoop:
    """N guarded environments in a row. The arrays that it gives are its own, and change with the next call."""

    def __init__(self, envs: Sequence[Any], space: Space[Any]) -> None:
        self.envs, n = envs, len(envs)
        self._obs: Any = create_empty_array(space, n, np.zeros)
        self._rewards = np.zeros(n)
        self._terminated, self._truncated = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)

    def reset(self, seed: Sequence[int] | None = None, options: dict[str, Any] | None = None) -> tuple[Any, Any]:
        """New episodes everywhere: observations, and the rows' infos by name, each with a mask of where it is given."""
        infos: dict[str, Any] = {}
        for i, env in enumerate(self.envs):
            obs, info = env.reset(seed=None if seed is None else seed[i], options=options)
            _write(self._obs, i, obs)
            if info:
                self._collect(infos, info, i)
        return self._obs, infos

    def step(self, actions: Array) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        """One step of all, with new episodes where one ended; see :meth:`reset`."""
        infos: dict[str, Any] = {}
        self._terminated[:] = self._truncated[:] = False
        whole = not isinstance(self._obs, dict)
        for i, (env, action) in enumerate(zip(self.envs, actions, strict=True)):
            obs, self._rewards[i], terminated, truncated, info = env.step(action)
            if terminated or truncated:
                self._terminated[i], self._truncated[i] = terminated, truncated
                self._collect(infos, {"final_obs": obs}, i)
                self._collect(infos.setdefault("final_info", {}), info, i)
                obs, info = env.reset()
            if whole:
                self._obs[i] = obs
            else:
                _write(self._obs, i, obs)
            if info:
                self._collect(infos, info, i)
        return self._obs, self._rewards, self._terminated, self._truncated, infos

    def _collect(self, infos: dict[str, Any], info: dict[str, Any], i: int) -> None:
        """Put a row's infos where Gymnasium's batches have them."""
        for key, value in info.items():
            if key not in infos:
                infos[key] = np.full(len(self.envs), None)
                infos[f"_{key}"] = np.zeros(len(self.envs), dtype=bool)
            infos[key][i], infos[f"_{key}"][i] = value, True


def _write(store: Any, i: int, obs: Any) -> None:
    if isinstance(store, dict):
        for key, part in store.items():
            _write(part, i, obs[key])
    else:
        store[i] = obs
