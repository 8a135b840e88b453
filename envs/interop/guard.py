"""Around one Gymnasium environment: what it raises becomes an EnvError that names it, what it returns has one form."""

from __future__ import annotations

import warnings
from typing import Any, NoReturn

import gymnasium
import numpy as np

from palaestra.envs.core import EnvError, user_code
from palaestra.envs.core.errors import is_machine_failure
from palaestra.envs.core.user_code import RAISED, describe
from palaestra.envs.interop.returned import action_mask, copied, fitting, mask_size, number, shown
from palaestra.envs.interop.worker_process import Starting

_RETURNED = {"reset": "(observation, info)", "step": "(observation, reward, terminated, truncated, info)"}
_NOTHING: dict[str, Any] = {}


class Guard(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Around one environment: what it raises becomes an EnvError that names it."""

    def __init__(self, env: gymnasium.Env[Any, Any], env_index: int | None = None) -> None:
        super().__init__(env)
        self.env_index = env_index  # global
        self._space, self._mask_size = env.observation_space, mask_size(env.action_space)
        self._env_step, self._shape, self._dtype = env.step, self._space.shape, self._space.dtype
        has_method = self._mask_size is not None and env.has_wrapper_attr("action_masks")
        self._mask_method = env.get_wrapper_attr("action_masks") if has_method else None
        if Starting.running:
            Starting.made.append(self)
        self.said = _NOTHING  # the info of the latest step
        self._episode, self._step = -1, 0

    def reset(self, **kwargs: Any) -> Any:
        self._episode, self._step = self._episode + 1, 0
        try:
            obs, info = self.env.reset(**kwargs)
            return fitting(self._space, obs), self._kept(info, ended=False)
        except RAISED as error:
            self._blame(error, "reset")

    def step(self, action: Any) -> Any:
        self._step += 1
        try:
            result = self._env_step(action)
            obs, reward, terminated, truncated, info = result
            self.said = info
            goes_on = terminated is False and truncated is False and isinstance(reward, float)
            told = self._mask_method is not None or type(info) is not dict or "action_mask" in info
            fits = type(obs) is np.ndarray and obs.shape == self._shape and obs.dtype is self._dtype
            if goes_on and fits and not told:
                return obs, reward, False, False, _NOTHING
            obs, kept = fitting(self._space, obs), {}
            reward = reward if isinstance(reward, float) else number("reward", reward)
            terminated = terminated if type(terminated) is bool else bool(number("terminated", terminated))
            truncated = truncated if type(truncated) is bool else bool(number("truncated", truncated))
            if terminated or truncated:
                obs = copied(obs)  # the reset may change it in place
                if isinstance(info, dict) and info:
                    self.said = {key: value.copy() if hasattr(value, "copy") else value for key, value in info.items()}
            if type(info) is not dict or info or self._mask_method is not None:
                kept = self._kept(info, terminated or truncated)
            return obs, reward, terminated, truncated, kept
        except RAISED as error:
            self._blame(error, "step")

    def _kept(self, info: Any, ended: bool) -> dict[str, Any]:
        """What agents use of an ``info``, as a batch of environments can put it together."""
        if not isinstance(info, dict):
            raise EnvError(f"info must be a dict, got {shown(info)}")
        kept: dict[str, Any] = {}
        if self._mask_size is not None:
            mask = info.get("action_mask") if self._mask_method is None else self._mask_method()
            if mask is not None:
                kept["mask"] = action_mask(mask, self._mask_size)
        if ended and info.get("is_success") is not None:
            kept["is_success"] = bool(number('info["is_success"]', info["is_success"]))
        return kept

    def close(self) -> None:
        if self in Starting.made:  # it would be closed again if another one cannot be made
            Starting.made.remove(self)
        try:
            with user_code.printing:
                super().close()
        except Exception as error:  # the episodes are over: what they gave is worth more than a tidy end
            warnings.warn(f"{type(self.unwrapped).__name__}: close raises {describe(error)}", stacklevel=2)

    def _blame(self, error: BaseException, method: str) -> NoReturn:
        if is_machine_failure(error):
            raise error
        if isinstance(error, EnvError):
            what = f": {error}"
        elif isinstance(error, ValueError) and "to unpack" in str(error):  # in one of Gymnasium's wrappers, or here
            what = f" must return {_RETURNED[method]}, {str(error).partition('(')[0].strip()}"
        else:
            what = f" raises {describe(error)}"
        where = "in " if self.env_index is None else f"in environment {self.env_index}, "
        where += f"episode {self._episode}, step {self._step}"
        text = f"{type(self.unwrapped).__name__}: {method}{what} {where}"
        raise EnvError(text, env_index=self.env_index, episode=self._episode, step=self._step) from error
