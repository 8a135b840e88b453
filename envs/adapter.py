"""Other people's environments as a :class:`~palaestra.envs.core.BatchedEnv`, so that one agent loop serves all.

* :class:`GymnasiumAdapter`: any Gymnasium id, N copies stepped one after the other by Gymnasium's ``SyncVectorEnv``.
* :class:`VecEnvAdapter`: any Stable-Baselines3 ``VecEnv``, with its wrappers.

Both step on the host in NumPy; one copy to the device and one back per step.
"""

from __future__ import annotations

import secrets
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.envs.allocator import keep_freed_memory
from palaestra.envs.core import BatchedEnv, StepResult, resolve_device


class _HostEnv(BatchedEnv):
    """What the two adapters share: copies between host and device, and episode statistics."""

    def _set_up(self, num_envs: int, device: torch.device | str, seed: int) -> None:
        keep_freed_memory()
        self.num_envs, self.seed, self.device = num_envs, seed, resolve_device(device)
        self.env_indices = torch.arange(num_envs, device=self.device)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episode_return = np.zeros(num_envs)
        self._episode_length = np.zeros(num_envs, dtype=np.int64)

    def forget_episodes(self) -> None:
        """Start the episode statistics anew, when somebody has reset the environments behind this adapter."""
        self._episode_return[:] = 0.0
        self._episode_length[:] = 0

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
        info: dict[str, Any] = {
            "final_obs": self._to_device(final_obs),
            "_final_obs": self._to_device(done),
            "episode": {
                "r": self._to_device(self._episode_return),
                "l": self._to_device(self._episode_length),
            },
            "_episode": self._to_device(done),
        }
        if success is not None:
            info["is_success"] = self._to_device(success)
        self._episode_return[done] = 0.0
        self._episode_length[done] = 0
        return (
            self._to_device(obs),
            self._to_device(reward, torch.float32),
            self._to_device(terminated),
            self._to_device(truncated & ~terminated),
            info,
        )


class GymnasiumAdapter(_HostEnv):
    """N copies of a Gymnasium environment."""

    def __init__(
        self, spec: EnvSpec, num_envs: int, *, device: torch.device | str = "auto", seed: int = 0, **kwargs: Any
    ) -> None:
        """``kwargs`` go to ``gymnasium.make_vec``; its errors about missing extras pass through."""
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        self.venv: Any = gymnasium.make_vec(
            spec,
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
            **kwargs,
        )
        self.single_observation_space = self.venv.single_observation_space
        self.single_action_space = self.venv.single_action_space
        self.metadata = {**self.venv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode, self.spec = self.venv.render_mode, spec
        self._set_up(num_envs, device, seed)
        self._seeded = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New episodes; row i is seeded with its own seed, drawn from ``seed`` by NumPy's ``SeedSequence``."""
        if seed is not None or not self._seeded:
            self.seed, self._seeded = self.seed if seed is None else seed, True
            seeds = np.random.SeedSequence(self.seed).generate_state(self.num_envs).tolist()
            obs, _ = self.venv.reset(seed=seeds, options=options)
        else:
            obs, _ = self.venv.reset(options=options)
        self.forget_episodes()
        return self._to_device(obs), {}

    def step(self, actions: Tensor) -> StepResult:
        obs, reward, terminated, truncated, info = self.venv.step(actions.cpu().numpy())
        final = obs
        finished = np.flatnonzero(info.get("_final_obs", np.zeros(self.num_envs, dtype=bool)))
        if len(finished):
            final = {k: v.copy() for k, v in obs.items()} if isinstance(obs, dict) else obs.copy()
            for i in finished:
                _put(final, int(i), info["final_obs"][i])
        success = info.get("final_info", {}).get("is_success")
        return self._result(obs, final, reward, terminated, truncated, success)

    def render(self) -> Any:
        return self.venv.render()

    def close_extras(self, **kwargs: Any) -> None:
        self.venv.close()


class VecEnvAdapter(_HostEnv):
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
        return self._to_device(self.venv.reset()), {}

    def step(self, actions: Tensor) -> StepResult:
        obs: Any
        obs, reward, done, infos = self.venv.step(actions.cpu().numpy())
        truncated = np.array([bool(info.get("TimeLimit.truncated")) for info in infos]) & done
        final = obs
        finished = np.flatnonzero(done)
        if len(finished):
            final = {k: v.copy() for k, v in obs.items()} if isinstance(obs, dict) else obs.copy()
            for i in finished:
                if "terminal_observation" in infos[i]:
                    _put(final, int(i), infos[i]["terminal_observation"])
        success = [info.get("is_success") for info in infos]
        known = all(success[i] is not None for i in finished) and len(finished) > 0
        flags = np.array([bool(flag) for flag in success]) if known else None
        result = self._result(obs, final, reward, done & ~truncated, truncated, flags)
        # a Monitor below a reward-changing wrapper knows the true return
        for i in finished:
            if "episode" in infos[i]:
                result[4]["episode"]["r"][i] = float(infos[i]["episode"]["r"])
                result[4]["episode"]["l"][i] = int(infos[i]["episode"]["l"])
        return result

    def close_extras(self, **kwargs: Any) -> None:
        self.venv.close()


def _put(batch: Any, row: int, value: Any) -> None:
    """Write one observation into row ``row`` of a batch of NumPy arrays."""
    if isinstance(batch, dict):
        for key in batch:
            batch[key][row] = value[key]
    else:
        batch[row] = value
