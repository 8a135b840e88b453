"""A batch of tensor environments as Stable-Baselines3's ``VecEnv``.

Its ``batch`` is the tensor environment, which our agents use directly, so that only callbacks written for SB3 pay for
NumPy arrays.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.envs.core import Array, BatchedEnv, TensorVectorEnv
from palaestra.envs.interop.gymnasium_env import NumpyVectorEnv, to_actions, to_numpy
from palaestra.envs.interop.returned import mask_size
from palaestra.envs.registry import resolve


class SB3VecEnv(VecEnv):
    """A batch as Stable-Baselines3 sees it: dones, and a list of info dictionaries."""

    def __init__(self, batch: BatchedEnv) -> None:
        self.batch = batch
        self.render_mode = batch.render_mode
        self._started = time.time()
        self._actions: Array | None = None
        super().__init__(batch.num_envs, batch.single_observation_space, batch.single_action_space)

    def reset(self) -> Any:
        """First observations; a seed given by :meth:`seed` takes effect here."""
        seed = self._seeds[0]
        self._reset_seeds()
        obs, _ = self.batch.reset(seed=seed)
        return to_numpy(obs)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """One seed for the whole batch, whose rows differ by index; it takes effect at the next reset."""
        self._seeds = [seed] * self.num_envs
        return self._seeds

    def step_async(self, actions: Array) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, Array, Array, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, info = self.batch.step(to_actions(self._actions, self.batch))
        done = terminated | truncated
        return to_numpy(obs), to_numpy(reward), to_numpy(done), self.infos(done, truncated, info)

    def infos(self, done: Tensor, truncated: Tensor, info: dict[str, Any]) -> list[dict[str, Any]]:
        """SB3's info dictionaries of the latest step: what the environments say, and how episodes ended."""
        said, finished = self.batch.infos(), np.flatnonzero(to_numpy(done))
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)] if said is None else said
        if len(finished) == 0:
            return infos
        host = to_numpy({key: info[key] for key in ("final_obs", "episode", "is_success", "_episode") if key in info})
        cut = to_numpy(truncated)
        elapsed = time.time() - self._started
        for i in finished:
            final = host["final_obs"]
            last = {key: array[i] for key, array in final.items()} if isinstance(final, dict) else final[i]
            infos[i] |= {"terminal_observation": last, "TimeLimit.truncated": bool(cut[i])}
            counts = bool(host["_episode"][i]) if "_episode" in host else True  # it began in a fresh state
            if counts and "episode" not in infos[i]:  # an environment's own statistics stand
                r, length = float(host["episode"]["r"][i]), int(host["episode"]["l"][i])
                infos[i]["episode"] = {"r": r, "l": length, "t": round(elapsed, 6)}
            if "is_success" in host:
                infos[i]["is_success"] = bool(host["is_success"][i])
        return infos

    def get_images(self) -> Sequence[Array | None]:
        frames: Any = self.batch.render()
        return list(frames) if frames is not None else [None] * self.num_envs

    def close(self) -> None:
        self.batch.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The batch has one value of every attribute, given once per index; each row has its ``action_masks``."""
        rows = list(self._get_indices(indices))
        if attr_name == "action_masks" and mask_size(self.action_space) is not None:
            return [functools.partial(self._masks_of, row) for row in rows]
        owner = (
            self.batch.env if isinstance(self.batch, TensorVectorEnv) and hasattr(self.batch.env, attr_name) else self
        )
        return [getattr(owner, attr_name)] * len(rows)

    @property
    def has_masks(self) -> bool:
        """False where all actions are always legal, as their masks then say."""
        batch = self.batch
        return batch.env.has("action_mask") if isinstance(batch, TensorVectorEnv) else batch.action_masks() is not None

    def _masks_of(self, row: int) -> Array:
        """The legal actions of one environment now, bool [A]."""
        mask = self.batch.action_masks()
        legal: Array = np.ones(mask_size(self.action_space) or 0, dtype=bool) if mask is None else to_numpy(mask[row])
        return legal

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError(
            "the environments of a batch share their attributes: make a batch with other arguments"
        )

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """sb3-contrib's ``action_masks()`` alone: the legal actions of each environment, bool [A]."""
        if method_name != "action_masks":
            raise NotImplementedError("the environments of a batch have no methods of their own: call the batch's")
        rows, masks = list(self._get_indices(indices)), self.batch.action_masks()
        if masks is None or mask_size(self.action_space) is None:
            return [legal() for legal in self.get_attr("action_masks", rows)]
        return list(to_numpy(masks)[rows])

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """True for SB3's Monitor, whose episode statistics the batch gives itself."""
        return [wrapper_class.__name__ == "Monitor"] * len(list(self._get_indices(indices)))


def with_sb3s_interface(env: Any) -> Any:
    """A batch, of tensors or of NumPy arrays, as a ``VecEnv``; anything else as it is.

    Raises:
        ValueError: for other vector environments of Gymnasium's.
    """
    if isinstance(env, BatchedEnv | NumpyVectorEnv):
        return SB3VecEnv(env.batch if isinstance(env, NumpyVectorEnv) else env)
    if isinstance(env, gymnasium.vector.VectorEnv):
        raise ValueError("a gymnasium.vector.VectorEnv cannot be adapted: pass its id to palaestra.envs.make instead")
    return env


def prepare(env: Any, device: torch.device | str) -> tuple[Any, torch.device | str]:
    """The constructor's ``env`` and ``device``: ids are made, batches wrapped for SB3, "auto" is the batch's device."""
    if isinstance(env, str) and (found := resolve(env)).in_tensors:
        env = found.make(1, device)
    env = with_sb3s_interface(env)
    if isinstance(env, SB3VecEnv) and str(device) == "auto":
        device = env.batch.device
    return env, device
