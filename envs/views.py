"""The same environment through other people's interfaces.

* :class:`SingleEnv`: ``gymnasium.Env``, a batch of one of the same code with NumPy arrays in and out.
* :class:`NumpyVectorEnv`: ``gymnasium.vector.VectorEnv`` with NumPy arrays.
* :class:`TensorVecEnv`: Stable-Baselines3's ``VecEnv``; its ``batch`` is the tensor environment, which our agents use
  directly, so that only callbacks written for SB3 ever pay for the NumPy arrays.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.envs.core import BatchedEnv, TensorEnv, TensorVectorEnv
from palaestra.envs.registry import vector_env

Array = np.ndarray[Any, np.dtype[Any]]


def to_numpy(value: Any) -> Any:
    """Tensors, and tensors inside dictionaries, as NumPy arrays."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    return {key: to_numpy(item) for key, item in value.items()} if isinstance(value, dict) else value


def to_actions(actions: Any, env: BatchedEnv) -> Tensor:
    """NumPy actions [N, …] as a tensor on the env's device."""
    return torch.as_tensor(np.asarray(actions, dtype=env.single_action_space.dtype)).to(env.device)


class SingleEnv(gymnasium.Env[Any, Any]):
    """One environment with NumPy observations.

    ``reset(seed=s)`` starts episode 0 of seed s and later resets go on to episodes 1, 2, …; without a first seed one is
    drawn. ``reset(seed=s, options={"env_index": i, "episode": e})`` starts episode e of row i of a batch with seed s.
    """

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 10}  # noqa: RUF012 (Gymnasium's own type)

    def __init__(
        self,
        tensor_env: str | TensorEnv[Any],
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
        **kwargs: Any,
    ) -> None:
        """``tensor_env`` is an instance or "module:Class", called with ``kwargs``; always on the CPU."""
        self._batch = vector_env(1, tensor_env, device="cpu", max_episode_steps=max_episode_steps, **kwargs)
        self._started = False
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
        drawable = self._batch.env.has("draw")
        self.metadata = {
            "render_modes": ["human", "rgb_array"] if drawable else [],
            "render_fps": self._batch.env.frames_per_second,
        }
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"render_mode must be one of {self.metadata['render_modes']}, got {render_mode!r}")
        self.render_mode = render_mode
        self._window: Any = None
        self._over = False  # the episode has ended: pictures may show that

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        options = options or {}
        if seed is None and not self._started:
            seed = int(self.np_random.integers(2**31))
        if "env_index" in options:
            self._batch.shift_indices(int(options["env_index"]))
        self._started, self._over = True, False
        episode = {"episode": options["episode"]} if "episode" in options else None
        obs, _ = self._batch.reset(seed=seed, options=episode)
        if self.render_mode == "human":
            self.render()
        return self._row(obs), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self.action_space.contains(action):
            raise ValueError(f"{action!r} is not in {self.action_space}")
        batch = self._batch
        obs, reward, terminated, truncated = batch.advance(to_actions(np.asarray(action)[None], batch))
        info: dict[str, Any] = {}
        self._over = bool(terminated | truncated)
        if self._over and batch.env.has("success"):
            info["is_success"] = bool(batch.env.success(batch.state))
        if self.render_mode == "human":
            self.render()
        return self._row(obs), float(reward), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """The picture, uint8 [height, width, 3], or None after showing it in a window (``human``)."""
        if self.render_mode is None:
            return None
        from palaestra.envs.canvas import Window, picture

        frame = picture(self._batch.env, self._batch.state_of(0), over=self._over)
        if self.render_mode == "rgb_array":
            return frame
        if self._window is None:
            self._window = Window(type(self._batch.env).__name__, self.metadata["render_fps"])
        self._window.show(frame)
        return None

    def close(self) -> None:
        if self._window is not None:
            self._window.close()
            self._window = None

    def _row(self, obs: Tensor) -> Any:
        row = obs[0].numpy()
        return row.copy() if row.shape else row[()]


class NumpyVectorEnv(gymnasium.vector.VectorEnv[Any, Any, Array]):
    """A batch with NumPy arrays; on the CPU they share the tensors' memory."""

    def __init__(self, batch: BatchedEnv) -> None:
        self.batch = batch
        self.num_envs, self.render_mode, self.spec = batch.num_envs, batch.render_mode, batch.spec
        self.metadata = {**batch.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space, self.observation_space = batch.single_observation_space, batch.observation_space
        self.single_action_space, self.action_space = batch.single_action_space, batch.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.batch.reset(seed=seed, options=options)
        return to_numpy(obs), to_numpy(info)

    def step(self, actions: Any) -> tuple[Any, Array, Array, Array, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self.batch.step(to_actions(actions, self.batch))
        return to_numpy(obs), to_numpy(reward), to_numpy(terminated), to_numpy(truncated), to_numpy(info)

    def render(self) -> Any:
        return self.batch.render()

    def close_extras(self, **kwargs: Any) -> None:
        self.batch.close()


class TensorVecEnv(VecEnv):
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
        done = to_numpy(terminated | truncated)
        return to_numpy(obs), to_numpy(reward), done, self._infos(np.flatnonzero(done), truncated, info)

    def _infos(self, finished: Array, truncated: Tensor, info: dict[str, Any]) -> list[dict[str, Any]]:
        """SB3's info dictionaries; empty for the rows that go on."""
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if len(finished) == 0:
            return infos
        host = to_numpy({key: info[key] for key in ("final_obs", "episode", "is_success") if key in info})
        cut = to_numpy(truncated)
        elapsed = time.time() - self._started
        for i in finished:
            final = host["final_obs"]
            last = {key: array[i] for key, array in final.items()} if isinstance(final, dict) else final[i]
            infos[i] = {"terminal_observation": last, "TimeLimit.truncated": bool(cut[i])}
            if "episode" in host:
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
        """The batch has one value of every attribute, given once per index."""
        owner = (
            self.batch.env if isinstance(self.batch, TensorVectorEnv) and hasattr(self.batch.env, attr_name) else self
        )
        return [getattr(owner, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError(
            "the environments of a batch share their attributes: make a batch with other arguments"
        )

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise NotImplementedError("the environments of a batch have no methods of their own: call the batch's")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        """True for SB3's Monitor, whose episode statistics the batch gives itself."""
        return [wrapper_class.__name__ == "Monitor"] * len(self._rows(indices))

    def _rows(self, indices: Any) -> list[int]:
        return list(self._get_indices(indices))
