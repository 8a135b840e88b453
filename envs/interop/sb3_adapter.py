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
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.envs.core import EnvError, StepResult
from palaestra.envs.core.user_code import describe
from palaestra.envs.interop.host_batch import HostEnv, success_flags, with_final_rows


class VecEnvAdapter(HostEnv):
    """A Stable-Baselines3 ``VecEnv``."""

    def __init__(self, venv: VecEnv, device: torch.device | str = "auto") -> None:
        self.venv = venv
        self.single_observation_space, self.single_action_space = venv.observation_space, venv.action_space
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self._set_up(venv.num_envs, device, secrets.randbelow(2**31))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            self.seed = seed
            self.venv.seed(seed)
        self.forget_episodes()
        return self._to_device(self._ask("reset", self.venv.reset)), {}

    def step(self, actions: Tensor) -> StepResult:
        obs: Any
        obs, reward, done, infos = self._ask("step", self.venv.step, actions.cpu().numpy())
        truncated = np.array([bool(info.get("TimeLimit.truncated")) for info in infos]) & done
        finished = np.flatnonzero(done).tolist()
        last = {i: infos[i]["terminal_observation"] for i in finished if "terminal_observation" in infos[i]}
        final = with_final_rows(obs, last)
        told = {i: infos[i]["is_success"] for i in finished if infos[i].get("is_success") is not None}
        success = success_flags(told, self.num_envs) if told and len(told) == len(finished) else None
        result = self._result(obs, final, reward, done & ~truncated, truncated, success)
        # a Monitor below a reward-changing wrapper knows the true return
        for i in finished:
            if "episode" in infos[i]:
                result[4]["episode"]["r"][i] = float(infos[i]["episode"]["r"])
                result[4]["episode"]["l"][i] = int(infos[i]["episode"]["l"])
        return result

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
