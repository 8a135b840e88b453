"""A tensor environment as Gymnasium's single and vector environments, with NumPy arrays in and out.

* :class:`SingleEnv`: ``gymnasium.Env``, a batch of one of the same code.
* :class:`NumpyVectorEnv`: ``gymnasium.vector.VectorEnv``.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from palaestra.envs.building import vector_env
from palaestra.envs.core import Array, BatchedEnv, TensorEnv


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
        modes = ["human", "rgb_array"] if self._batch.env.has("draw") else []
        self.metadata = {"render_modes": modes, "render_fps": self._batch.env.frames_per_second}
        if render_mode is not None and render_mode not in modes:
            raise ValueError(f"render_mode must be one of {modes}, got {render_mode!r}")
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
        return self._row(obs), float(reward.detach()), bool(terminated), bool(truncated), info

    def render(self) -> Any:
        """The picture, uint8 [height, width, 3], or None after showing it in a window (``human``)."""
        if self.render_mode is None:
            return None
        from palaestra.envs.rendering.picture import picture
        from palaestra.envs.rendering.window import Window

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
        row = obs[0].detach().numpy()
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


def to_numpy(value: Any) -> Any:
    """Tensors, and tensors inside dictionaries, as NumPy arrays."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    return {key: to_numpy(item) for key, item in value.items()} if isinstance(value, dict) else value


def to_actions(actions: Any, env: BatchedEnv) -> Tensor:
    """NumPy actions [N, …] as a tensor on the env's device."""
    return torch.as_tensor(np.asarray(actions, dtype=env.single_action_space.dtype)).to(env.device)
