"""Common base of the adapters of environments on the host: NumPy arrays in and out of tensors on the device.

Observations and actions have the environment's own numbers here: agents, which count choices from 0, translate
(:mod:`palaestra.agents.networks.numbering`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from torch import Tensor

from palaestra.envs.core import Array, BatchedEnv, EnvError, StepResult, resolve_device
from palaestra.envs.core.host import keep_freed_memory
from palaestra.envs.goals import ACHIEVED, DESIRED, GoalRule, rewards_of_goals, without_goals
from palaestra.envs.interop.returned import mask_size


class HostEnv(BatchedEnv):
    """A batch that is stepped on the host: copies between host and device, action masks, episode statistics."""

    is_on_host = True
    steps: int
    """Since all environments were reset from outside."""

    def _set_up(self, given: Space[Any], num_envs: int, device: torch.device | str, seed: int, first: int) -> None:
        """``given`` is the space of the observations that :meth:`_begin` and :meth:`_result` get."""
        keep_freed_memory()
        self.given_observation_space = given
        self.num_envs, self.seed, self.device = num_envs, seed, resolve_device(device)
        self._is_cpu = self.device.type == "cpu"
        self._action_dtype = np.dtype(self.single_action_space.dtype)
        self._rounds = self._action_dtype.kind in "iu"
        self.env_indices = torch.arange(first, first + num_envs, device=self.device)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._observed = self._reader(given, self.single_observation_space)
        self._none_ended = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self._episode_return = np.zeros(num_envs)
        self._episode_length = np.zeros(num_envs, dtype=np.int64)
        self.steps = 0
        self._mask: Tensor | None = None
        self._final_mask: Tensor | None = None

    @property
    def episode_length(self) -> Tensor:
        """Steps of each running episode, int64 [N]."""
        return self._to_device(self._episode_length)

    def forget_episodes(self) -> None:
        """Start the episode statistics anew, after the environments were reset behind this adapter."""
        self._episode_return[:] = 0.0
        self._episode_length[:] = 0
        self.steps = 0

    def action_masks(self) -> Tensor | None:
        return self._mask

    def final_action_masks(self) -> Tensor | None:
        return self._final_mask

    def goal_rewards(self, achieved: Tensor, desired: Tensor) -> Tensor:
        space: Any = self.given_observation_space
        if why := without_goals(space):
            raise EnvError(why)
        goals = zip((achieved, desired), (ACHIEVED, DESIRED), strict=True)
        arrays = [goal.numpy(force=True).astype(space[key].dtype) for goal, key in goals]
        return torch.from_numpy(rewards_of_goals(self._goal_rule(), *arrays)).to(self.device)

    def _goal_rule(self) -> GoalRule:
        """The environment's ``compute_reward``; raises an EnvError if there is none."""
        raise NotImplementedError

    def _begin(self, obs: Any, masks: Mapping[int, Array]) -> Any:
        """The first observations, with action masks by row, empty where the environment has none."""
        self.forget_episodes()
        self._mask = self._final_mask = self._whole_mask(masks) if masks else None
        return self._observed(obs)

    def _whole_mask(self, masks: Mapping[int, Array]) -> Tensor:
        """Masks by row as bool [N, A]; rows without one have all actions."""
        whole = np.ones((self.num_envs, mask_size(self.single_action_space) or 0), dtype=bool)
        for row, mask in masks.items():
            whole[row] = mask
        return self._to_device(whole)

    def _for_env(self, actions: Tensor) -> Array:
        """Actions in the dtype of their space, in memory of their own, since the environment may change it."""
        array: Array = (actions if actions.device.type == "cpu" else actions.cpu()).numpy(force=True)
        if self._rounds and array.dtype.kind == "f":
            array = np.rint(array)
        return array.astype(self._action_dtype)

    def _to_device(self, array: Array) -> Tensor:
        """A copy, since the environment may write its next observation into the same memory."""
        own = array.astype(np.float32, order="C") if array.dtype == np.float64 else array.copy()
        tensor = torch.from_numpy(own)
        return tensor if self._is_cpu else tensor.to(self.device)

    def _result(
        self,
        obs: Any,
        finals: Mapping[int, Any],
        reward: Array,
        ends: tuple[Array, Array],
        success: Array | None = None,
        masks: Mapping[int, Array] | None = None,
        final_masks: Mapping[int, Array] | None = None,
    ) -> StepResult:
        """What a step gives, from arrays, with what only finished rows have by row."""
        terminated, truncated = ends
        done = terminated | truncated
        ended = bool(np.count_nonzero(done))
        self._episode_return += reward
        self._episode_length += 1
        self.steps += 1
        seen, over = self._observed(obs), self._to_device(done) if ended else self._none_ended
        info: dict[str, Any] = {
            "ended": ended,
            "step": self.steps,
            "final_obs": self._observed(with_final_rows(obs, finals)) if finals else seen,
            "_final_obs": over,
            "episode": {"r": self._to_device(self._episode_return), "l": self._to_device(self._episode_length)},
            "_episode": over,
        }
        if success is not None:
            info["is_success"] = self._to_device(success)
        if self._mask is not None:
            unfinished = {row: mask for row, mask in (masks or {}).items() if not done[row]}
            self._mask = self._whole_mask(masks or {})
            self._final_mask = self._whole_mask({**unfinished, **(final_masks or {})})
        elif masks:
            warnings.warn(_LATE_MASK, stacklevel=2)
        if not ended:
            return seen, self._to_device(reward), over, over, info
        self._episode_return[done] = 0.0
        self._episode_length[done] = 0
        cut = self._to_device(truncated & ~terminated)
        return seen, self._to_device(reward), self._to_device(terminated), cut, info

    def _reader(self, given: Space[Any], seen: Space[Any]) -> Callable[[Any], Any]:
        """A function from observations [N, …] of the space ``given`` to tensors of the space ``seen``."""
        if isinstance(given, spaces.Dict):
            inner = {key: self._reader(part, seen[key]) for key, part in given.spaces.items()}  # type: ignore[index]
            return lambda obs: {key: read(obs[key]) for key, read in inner.items()}
        if isinstance(given, spaces.Discrete | spaces.MultiDiscrete):
            first, count = given.start, given.n if isinstance(given, spaces.Discrete) else given.nvec
            return lambda obs: self._to_device(_within(obs, first, first + count - 1, given))
        if given != seen:  # an image whose channels come last
            return lambda obs: self._to_device(np.moveaxis(obs, -1, 1))
        return self._to_device


_LATE_MASK = "the environment gives an action mask with steps but not with reset: it is not used"


def _within(obs: Array, low: Any, high: Any, space: Space[Any]) -> Array:
    """Numbers of choices, which are looked up where they are used.

    Raises:
        EnvError: if one is not in the space.
    """
    outside = (obs < low) | (obs > high)
    if outside.any():
        row = int(np.argwhere(outside)[0][0])
        raise EnvError(f"observation {obs[row]} of environment {row} of the batch is not in {space}", env_index=row)
    return obs


def is_channels_last(space: Space[Any]) -> bool:
    """True for images whose channels come last."""
    return is_image_space(space) and not is_image_space_channels_first(space)  # type: ignore[arg-type]


def with_final_rows(obs: Any, finals: Mapping[int, Any]) -> Any:
    """A copy of a batch of observations with the last ones of finished episodes, by row."""
    if isinstance(obs, dict):
        return {key: with_final_rows(array, {i: last[key] for i, last in finals.items()}) for key, array in obs.items()}
    final = obs.copy()
    for i, last in finals.items():
        final[i] = last
    return final
