"""Any Stable-Baselines3 ``VecEnv``, with its wrappers, as a :class:`~palaestra.envs.core.BatchedEnv`.

It steps on the host in NumPy; one copy to the device and one back per step.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize, unwrap_vec_wrapper
from torch import Tensor

from palaestra.envs.core import Array, EnvError, StepResult
from palaestra.envs.core.user_code import describe
from palaestra.envs.goals import RULE, GoalRule
from palaestra.envs.interop.host_batch import HostEnv
from palaestra.envs.interop.returned import action_mask, copied, mask_size, number
from palaestra.envs.interop.sb3_vec_env import SB3VecEnv


class VecEnvAdapter(HostEnv):
    """A Stable-Baselines3 ``VecEnv``."""

    def __init__(self, venv: VecEnv, device: torch.device | str = "auto") -> None:
        self.venv = venv
        self.single_observation_space, self.single_action_space = venv.observation_space, venv.action_space
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._set_up(self.single_observation_space, venv.num_envs, device, secrets.randbelow(2**31), 0)
        _keep_last_observations(venv)
        self._mask_size = mask_size(self.single_action_space)
        self._has_method = self._mask_size is not None and _has_method(venv, "action_masks")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.seed = seed
            self.venv.seed(seed)
        obs = self._ask("reset", self.venv.reset)
        return self._begin(obs, self._masks(self.venv.reset_infos)), {}

    def restarted(self) -> None:
        """Take note that the environments were reset behind this adapter."""
        self.forget_episodes()
        masks = self._masks(self.venv.reset_infos)
        self._mask = self._final_mask = self._whole_mask(masks) if masks else None

    def step(self, actions: Tensor) -> StepResult:
        obs: Any
        obs, reward, done, infos = self._ask("step", self.venv.step, self._for_env(actions))
        truncated = np.array([bool(info.get("TimeLimit.truncated")) for info in infos]) & done
        finished = np.flatnonzero(done).tolist()
        last = {i: infos[i]["terminal_observation"] for i in finished if "terminal_observation" in infos[i]}
        told = [infos[i].get("is_success") for i in finished]
        success = None
        if told and all(value is not None for value in told):
            success = np.zeros(self.num_envs, dtype=bool)
            success[finished] = [bool(number('info["is_success"]', value)) for value in told]
        masks, final_masks = None, None
        if self._mask is not None or "action_mask" in infos[0]:
            after = [self.venv.reset_infos[i] if over else infos[i] for i, over in enumerate(done)]
            masks, final_masks = self._masks(after), self._masks_in({i: infos[i] for i in finished})
        result = self._result(obs, last, reward, (done & ~truncated, truncated), success, masks, final_masks)
        result[4]["infos"] = infos
        # a Monitor below a reward-changing wrapper knows the true return
        for i in finished:
            if "episode" in infos[i]:
                result[4]["episode"]["r"][i] = float(infos[i]["episode"]["r"])
                result[4]["episode"]["l"][i] = int(infos[i]["episode"]["l"])
        return result

    def _goal_rule(self) -> GoalRule:
        if unwrap_vec_wrapper(self.venv, VecNormalize) is not None:
            raise EnvError(f"VecNormalize changes the goals that {RULE} knows: leave it out")
        if not _has_method(self.venv, RULE):
            raise EnvError(f"the environments have no method {RULE}")
        return lambda *goals: self.venv.env_method(RULE, *goals, indices=[0])[0]

    def _masks(self, infos: list[dict[str, Any]]) -> dict[int, Array]:
        """The legal actions now, by row: of the environments' own method, or of these infos."""
        if self._has_method:
            assert self._mask_size is not None
            told = self.venv.env_method("action_masks")
            return {i: action_mask(mask, self._mask_size) for i, mask in enumerate(told)}
        return self._masks_in(dict(enumerate(infos)))

    def _masks_in(self, infos: dict[int, dict[str, Any]]) -> dict[int, Array]:
        size = self._mask_size
        if size is None:
            return {}
        return {i: action_mask(info["action_mask"], size) for i, info in infos.items() if "action_mask" in info}

    def _ask(self, method: str, call: Callable[..., Any], *args: Any) -> Any:
        """Let all environments work.

        Raises:
            EnvError: one of them has ended its process, or wanted to.
        """
        try:
            return call(*args)
        except (SystemExit, EOFError, ConnectionError) as error:  # the latter two are SubprocVecEnv's pipes
            text = f"{type(self.venv).__name__}: {method} raises {describe(error)}: an environment ended its process"
            raise EnvError(text) from error

    def close_extras(self, **kwargs: Any) -> None:
        self.venv.close()


def _has_method(venv: VecEnv, name: str) -> bool:
    if isinstance(inner := venv.unwrapped, SB3VecEnv):  # which tells sb3-contrib that all actions are legal
        return inner.has_masks
    try:
        return venv.has_attr(name)
    except Exception:  # of VecEnvs that know of no attributes, whatever they raise
        return False


def _keep_last_observations(venv: VecEnv) -> None:
    """Copy the last observation of an episode before ``DummyVecEnv`` resets, which may change it in place."""
    inner = venv.unwrapped
    for env in inner.envs if isinstance(inner, DummyVecEnv) else ():
        if not isinstance(env.step, _LastCopied):
            env.step = _LastCopied(env.step)  # type: ignore[method-assign]


class _LastCopied:
    """A method ``step`` whose last observation of an episode is the caller's own."""

    def __init__(self, step: Callable[[Any], Any]) -> None:
        self._step = step

    def __call__(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self._step(action)
        return copied(obs) if terminated or truncated else obs, reward, terminated, truncated, info
