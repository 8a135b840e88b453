"""Episodes played in a batch of environments and drawn, for :mod:`palaestra.train.recording.show` and play.

* :class:`TensorPlayback`: tensor environments, drawn from their states.
* :class:`GymnasiumPlayback`: Gymnasium environments, through their own ``render``.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from palaestra.envs import BatchedEnv, TensorVectorEnv, resolve
from palaestra.envs.core import host_row
from palaestra.envs.core.user_code import RAISED, describe
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.rendering.canvas import Image, fitted
from palaestra.envs.rendering.picture import picture
from palaestra.train.evaluation.policies import on_states

PolicyFunction = Callable[[BatchedEnv, Any], Tensor]
Rows = np.ndarray[Any, np.dtype[Any]]  # [N], one entry per environment

MOST_PAST = 1000  # earlier states that a picture may show


class WatchError(ValueError):
    """There is nothing to watch in this way; the message says why."""


class _Past(Sequence[Any]):
    """One environment's share of the batch's earlier states, converted on access, since most drawings need none."""

    def __init__(self, states: list[Any], row: int) -> None:
        self._states, self._row = states, row

    def __len__(self) -> int:
        return len(self._states)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return _Past(self._states[index], self._row)
        return host_row(self._states[index], self._row)


class TensorPlayback:
    """Tensor environments: the two halves of a step, with the final states in between.

    Attributes:
        env: the batch that is played.
        fps: its own pace in steps per second.
        returns: float [N], of the episodes running or just ended.
        success: bool [N], whether an episode that just ended was a success.
        reveals: whether pictures may show what the best policy would do.
        player: who plays, for pictures that say it.
    """

    reveals, player = True, "agent"

    def __init__(self, env: TensorVectorEnv[Any], policy: PolicyFunction) -> None:
        self.env, self.policy = env, policy
        self._states: deque[Any] = deque(maxlen=MOST_PAST)  # the batch's before each step; steps change none in place
        self.fps = float(env.env.frames_per_second)
        self.returns, self.success = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=bool)
        self._table = _table(env.env, policy)

    @torch.no_grad()
    def start(self, episode: int) -> None:
        """Begin an episode everywhere."""
        self._states.clear()
        self._obs, _ = self.env.reset(options={"episode": episode})

    @torch.no_grad()
    def step(self) -> Rows:
        """One step; which episodes ended with it, bool [N]. Pictures now show how they ended."""
        env = self.env
        self._states.append(env.state)
        self._final_obs, _, terminated, truncated = env.advance(self.policy(env, self._obs))
        self._done = terminated | truncated
        self.returns = env.episode_return.cpu().numpy()
        success = env.successes()
        if success is not None:
            self.success = success.cpu().numpy()
        return self._done.cpu().numpy()

    @torch.no_grad()
    def reset_finished(self) -> None:
        """Go on to the next episode where one ended."""
        self._obs = self.env.reset_finished(self._done, self._final_obs)

    def picture(self, row: int, box: tuple[int, int], over: bool) -> Image:
        """One environment, as large as ``box`` (width, height) lets it be; ``over`` if its episode has just ended."""
        wide, high = self.env.env.picture_size
        width = max(2, int(min(box[0], box[1] * wide / high)) // 2 * 2)
        steps = min(int(self.env.episode_length[row]), len(self._states))
        past = _Past(list(self._states)[len(self._states) - steps :], row)
        return picture(self.env.env, self.env.state_of(row), width, over, past, self._table, self.reveals, self.player)


@torch.no_grad()
def _table(rules: Any, policy: Any) -> Any:
    """The policy's action in every state of the rules, int64 [stages, states]; None where they or it cannot tell."""
    if not hasattr(rules, "tabulate") or not getattr(policy, "deterministic", False):
        return None
    return rules.tabulate(on_states(policy, rules))


class _Pictures(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Keeps the picture of the state in which an episode ended: the batch resets before it could be asked for."""

    last: Any = None

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        result = super().step(action)
        if result[2] or result[3]:
            self.last = self.seen()
        return result

    def seen(self) -> Any:
        """What ``render`` gives or, instead of raising it here, what it raises."""
        try:
            return self.env.render()
        except RAISED as error:
            return error


class GymnasiumPlayback:
    """The same of Gymnasium environments with ``render_mode="rgb_array"``."""

    reveals, player = True, "agent"

    def __init__(self, env: GymnasiumAdapter, policy: PolicyFunction) -> None:
        self.env, self.policy = env, policy
        fps = env.metadata.get("render_fps")
        self.fps = float(fps) if isinstance(fps, int | float | np.number) and 0 < fps <= 1000 else 30.0
        self.returns, self.success = np.zeros(env.num_envs), np.zeros(env.num_envs, dtype=bool)

    def start(self, episode: int) -> None:
        """Begin anew, as the environments that come that many batches after the first."""
        self.env.shift_indices(episode * self.env.num_envs)
        self._obs, _ = self.env.reset(seed=self.env.seed)

    @torch.no_grad()
    def step(self) -> Rows:
        self._obs, _, terminated, truncated, info = self.env.step(self.policy(self.env, self._obs))
        self.returns = info["episode"]["r"].cpu().numpy()
        if "is_success" in info:
            self.success = info["is_success"].cpu().numpy()
        return (terminated | truncated).cpu().numpy()

    def reset_finished(self) -> None:
        """The step itself has reset what ended."""

    def picture(self, row: int, box: tuple[int, int], over: bool) -> Image:
        member = self.env.envs[row]
        frame = member.get_wrapper_attr("last") if over else member.get_wrapper_attr("seen")()
        if isinstance(frame, BaseException):
            raise WatchError(f"the environment gives no picture: render() raises {describe(frame)}{_way_out(frame)}")
        if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.dtype != np.uint8:
            raise WatchError("the environment's render() gives no picture (uint8 [height, width, 3])")
        return fitted(frame, box)


Playback = TensorPlayback | GymnasiumPlayback


def open_playback(
    name: str,
    policy: PolicyFunction,
    count: int,
    env_kwargs: dict[str, Any],
    seed: int,
    device: str,
    env_index: int | None,
    episode: int | None,
) -> Playback:
    """The playback for an environment by name."""
    found = resolve(name)
    if found.can_replay:
        env = found.make(count, device, seed, **{**env_kwargs, "first_env_index": env_index or 0})
        assert isinstance(env, TensorVectorEnv)
        if not env.env.has("draw"):
            raise WatchError(f"{name} draws no pictures: its class has no draw method")
        return TensorPlayback(env, policy)
    if env_index is not None or episode is not None:
        raise WatchError(f"{name} is not a palaestra environment: its episodes cannot be replayed by index")
    _choose_opengl()
    # in this process: those of other processes have no pictures
    kwargs = {**env_kwargs, "render_mode": "rgb_array", "vectorization_mode": "sync", "around": (_Pictures,)}
    try:
        adapter = found.make(count, device, seed, **kwargs)
    except RAISED as error:
        raise WatchError(f"{name} cannot be made with render_mode='rgb_array': {describe(error)}") from error
    assert isinstance(adapter, GymnasiumAdapter)
    if type(adapter.envs[0].unwrapped).render is gymnasium.Env.render:
        adapter.close()
        raise WatchError(f"{name} draws no pictures: its class has no render method")
    return GymnasiumPlayback(adapter, policy)


def _choose_opengl() -> None:
    """Let MuJoCo draw without a display where it can: it tries to open a window else."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        return
    for backend, library in (("egl", "EGL"), ("osmesa", "OSMesa")):
        if ctypes.util.find_library(library):
            os.environ.setdefault("MUJOCO_GL", backend)


def _way_out(error: BaseException) -> str:
    if not any(word in str(error) for word in ("OpenGL", "EGL", "OSMesa", "GLContext", "gladLoadGL")):
        return ""
    return "; without a display install libegl1 and set MUJOCO_GL=egl, or libosmesa6 and MUJOCO_GL=osmesa"
