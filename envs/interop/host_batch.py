"""Common base of the adapters of environments on the host: NumPy arrays in and out of tensors on the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector.utils import batch_space

from palaestra.envs.core import BatchedEnv, EnvError, StepResult, resolve_device
from palaestra.envs.core.host import keep_freed_memory


class HostEnv(BatchedEnv):
    """A batch that is stepped on the host: copies between host and device, and episode statistics."""

    steps: int
    """Since all environments were reset from outside."""

    def _set_up(self, num_envs: int, device: torch.device | str, seed: int, first_env_index: int = 0) -> None:
        keep_freed_memory()
        self.num_envs, self.seed, self.device = num_envs, seed, resolve_device(device)
        self.env_indices = torch.arange(first_env_index, first_env_index + num_envs, device=self.device)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episode_return = np.zeros(num_envs)
        self._episode_length = np.zeros(num_envs, dtype=np.int64)
        self.steps = 0

    def forget_episodes(self) -> None:
        """Start the episode statistics anew, after the environments were reset behind this adapter."""
        self._episode_return[:] = 0.0
        self._episode_length[:] = 0
        self.steps = 0

    def _to_device(self, array: Any, dtype: torch.dtype | None = None) -> Any:
        if isinstance(array, dict):
            return {key: self._to_device(item) for key, item in array.items()}
        tensor = torch.as_tensor(np.asarray(array))
        if dtype is None and tensor.dtype == torch.float64:
            dtype = torch.float32
        # a copy, since the environment may write its next observation into the same memory
        return tensor.to(self.device, dtype, copy=True)

    def _result(
        self, obs: Any, final_obs: Any, reward: Any, terminated: Any, truncated: Any, success: Any
    ) -> StepResult:
        done = terminated | truncated
        self._episode_return += reward
        self._episode_length += 1
        self.steps += 1
        info: dict[str, Any] = {
            "final_obs": self._to_device(final_obs),
            "_final_obs": self._to_device(done),
            "episode": {"r": self._to_device(self._episode_return), "l": self._to_device(self._episode_length)},
            "_episode": self._to_device(done),
        }
        if success is not None:
            info["is_success"] = self._to_device(success)
        self._episode_return[done] = 0.0
        self._episode_length[done] = 0
        ends = self._to_device(terminated), self._to_device(truncated & ~terminated)
        return self._to_device(obs), self._to_device(reward, torch.float32), *ends, info


def success_flags(told: Mapping[int, Any], num_envs: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """``info["is_success"]`` of finished episodes, by row, as bool [num_envs]; the other rows are False.

    Raises:
        EnvError: if one is neither a truth value nor a number, nor an array of one.
    """
    flags = np.zeros(num_envs, dtype=bool)
    for row, value in told.items():
        array = np.asarray(value)
        if array.size != 1 or not isinstance(array.item(), bool | int | float):
            raise EnvError(f'info["is_success"] must be a truth value or a number, got {value!r}')
        flags[row] = bool(array.item())
    return flags


def with_final_rows(obs: Any, finals: Mapping[int, Any]) -> Any:
    """A copy of a batch of observations with the last ones of finished episodes, by row; itself where none finished."""
    if not finals:
        return obs
    if isinstance(obs, dict):
        return {key: with_final_rows(array, {i: last[key] for i, last in finals.items()}) for key, array in obs.items()}
    final = obs.copy()
    for i, last in finals.items():
        final[i] = last
    return final
