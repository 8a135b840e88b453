"""Any Gymnasium environment as a :class:`~palaestra.envs.core.BatchedEnv`, so that one agent loop serves all.

N copies are stepped one after another in this process, or divided among as many processes as there are cores where
that is faster, or in a process each. All give the same episodes. Images are turned to channels first, and texts in a
Dict are left out. What an environment raises, and the death of its process, becomes an :class:`EnvError` that names
it. It steps on the host in NumPy; one copy to the device and one back per step.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import Space, spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecTransposeImage
from torch import Tensor

from palaestra.envs.core import EnvError, StepResult, user_code
from palaestra.envs.core.host import available_cores
from palaestra.envs.goals import RULE, GoalRule
from palaestra.envs.interop.guard import Guard
from palaestra.envs.interop.host_batch import HostEnv, is_channels_last
from palaestra.envs.interop.process_loop import ProcessDeath, ProcessLoop, time_divided
from palaestra.envs.interop.returned import NUMERIC, without_texts
from palaestra.envs.interop.simulator_seeds import simulator_seeds
from palaestra.envs.interop.sync_loop import Batch, RowValues, SyncLoop
from palaestra.envs.interop.worker_process import Starting
from palaestra.envs.wrappers import gymnasium_wrappers, named_wrappers, take_settings

LITTLE = 5e-4  # s in which one process steps all environments, and asking others would hardly be faster
SOONER = 0.8  # of that time, in which several processes have to do it to be worth while


class GymnasiumAdapter(HostEnv):
    """N copies of a Gymnasium environment."""

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        *,
        device: torch.device | str = "auto",
        seed: int = 0,
        first_env_index: int = 0,
        **kwargs: Any,
    ) -> None:
        """Make the batch.

        Args:
            first_env_index: global index of row 0, when a larger batch is split over processes.
            kwargs: of ``gymnasium.make``, whose errors about missing extras pass through, and of the wrappers (see
                :mod:`palaestra.envs.wrappers`), which become Gymnasium's own. ``wrappers`` are others, by name or as
                classes, innermost, and ``around`` classes that come last. ``vectorization_mode`` is ``"sync"``,
                ``"async"`` (a process each) or (the default) ``"auto"``.

        Raises:
            ValueError: if an argument is out of range.
            EnvError: if the copies do not have the same spaces.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        spec = copy.copy(spec)
        spec.order_enforce = False  # a layer around every step that this adapter does not need
        settings = gymnasium_wrappers(take_settings(kwargs))
        wrappers = (*named_wrappers(kwargs.pop("wrappers", ())), without_texts, *settings, *kwargs.pop("around", ()))
        mode = kwargs.pop("vectorization_mode", "auto")
        if mode not in ("auto", "sync", "async"):
            raise ValueError(f"vectorization_mode must be auto, sync or async, got {mode!r}")
        make = functools.partial(_make, spec, {"disable_env_checker": True, **kwargs}, wrappers)  # Guard looks instead
        with Starting():
            try:
                self.loop, one = _loop(make, mode, num_envs, first_env_index)
            except ProcessDeath as death:
                index = first_env_index + death.row
                text = f"the process of environment {index} {death} before its first episode"
                raise EnvError(text, env_index=index) from death
        limit = kwargs.get("max_episode_steps")
        limit = spec.max_episode_steps if limit is None else limit
        self.max_episode_steps = None if limit == -1 else limit  # as Gymnasium reads it
        self._first = first_env_index
        self.single_observation_space = _channels_first(one.observation_space)
        self.single_action_space = one.action_space
        self.metadata = {**one.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode, self.spec = one.render_mode, spec
        self._set_up(one.observation_space, num_envs, device, seed, first_env_index)
        self._seeded = False

    @property
    def envs(self) -> Sequence[Any]:
        """The environments that are in this process."""
        return self.loop.envs

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New episodes; each row has a seed of its own, see :mod:`palaestra.envs.interop.simulator_seeds`."""
        seeds = None
        if seed is not None or not self._seeded:
            self.seed, self._seeded = self.seed if seed is None else seed, True
            seeds = simulator_seeds(self.seed, self._first, self.num_envs)
        told: RowValues = self._named(self.loop.reset, seeds, options)
        return self._begin(self.loop.batch.obs, told.get("mask", {})), {}

    def shift_indices(self, first_env_index: int) -> None:
        """Make row 0 the environment of that global index; call :meth:`reset` with a seed next."""
        self.env_indices = self.env_indices - self._first + first_env_index
        self._first = first_env_index
        self._named(self.loop.number, first_env_index)

    def step(self, actions: Tensor) -> StepResult:
        told: RowValues = self._named(self.loop.step, self._for_env(actions))
        obs, reward, *ends = self.loop.batch
        success = None
        if "is_success" in told:
            success = np.zeros(self.num_envs, dtype=bool)
            for row, value in told["is_success"].items():
                success[row] = value
        masks = told.get("mask"), told.get("final_mask")
        return self._result(obs, told.get("final_obs", {}), reward, (ends[0], ends[1]), success, *masks)

    def _goal_rule(self) -> GoalRule:
        if not self.envs:
            raise EnvError(f"vectorization_mode=async leaves no environment here to ask for {RULE}: take sync or auto")
        one = self.envs[0]
        if not one.has_wrapper_attr(RULE):
            raise EnvError(f"{type(one.unwrapped).__name__} has no method {RULE}")
        rule: GoalRule = one.get_wrapper_attr(RULE)
        return rule

    def infos(self) -> list[dict[str, Any]]:
        said: list[dict[str, Any]] = self._named(self.loop.infos)
        return said

    def _named(self, call: Callable[..., Any], *args: Any) -> Any:
        """What the environments say; the death of a process is told with the step."""
        try:
            with user_code.printing:
                return call(*args)
        except ProcessDeath as death:
            step = int(self._episode_length[death.row]) + 1
            index = self._first + death.row
            text = f"the process of environment {index} {death} in step {step}"
            raise EnvError(text, env_index=index, step=step) from death

    def render(self) -> Any:
        return self._named(self.loop.render)

    def close_extras(self, **kwargs: Any) -> None:
        self.loop.close()


def _make(spec: EnvSpec, kwargs: dict[str, Any], wrappers: Sequence[Callable[[Any], Any]], env_index: int) -> Guard:
    """The environment of that global index."""
    with user_code.printing:
        env = gymnasium.make(spec, **kwargs)
    for wrapper in wrappers:
        with user_code.Printing() if wrapper is without_texts else user_code.printing:
            env = wrapper(env)
    return Guard(env, env_index)


def _loop(
    make: Callable[[int], Guard], mode: str, num_envs: int, first_env_index: int
) -> tuple[SyncLoop | ProcessLoop, Guard]:
    """What steps the environments, and one of them, which may be closed: they all have the same spaces."""
    one = make(first_env_index)
    make_alike = functools.partial(_alike, make, one.observation_space, one.action_space)
    here, others = [one], []
    if mode == "async" or (mode == "auto" and min(num_envs, available_cores()) > 1):
        here, others = [], _shares(one, mode, num_envs)
        one.close()  # it has been stepped, and there may be room for one only
    if others:
        own = num_envs - sum(others)
        return ProcessLoop(make_alike, first_env_index, one.observation_space, own, others), one
    here += [make_alike(first_env_index + row) for row in range(len(here), num_envs)]
    return SyncLoop(here, Batch.of(one.observation_space, num_envs)), one


def _shares(one: Guard, mode: str, num_envs: int) -> list[int]:
    """How many environments each of other processes steps; none where asking them costs more than it saves."""
    if not _has_arrays(one.observation_space):
        if mode == "async":
            raise ValueError(f"vectorization_mode=async needs observations in arrays, not in {one.observation_space}")
        return []
    if mode == "async":
        return [1] * num_envs
    count, together = min(available_cores(), num_envs), num_envs * _step_time(one)
    if together < LITTLE or time_divided(together, count) > SOONER * together:
        return []
    bounds = [num_envs * index // count for index in range(count + 1)]
    return [end - start for start, end in pairwise(bounds[1:])]


def _step_time(env: Guard) -> float:
    """Seconds of a step: the median of a few random ones; 0 for an environment that raises, which is told later."""
    durations: list[float] = []
    with user_code.printing, suppress(EnvError):
        env.reset(seed=0)
        env.action_space.seed(0)
        while len(durations) < 20 and sum(durations) < 0.5:
            started = time.perf_counter()
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            durations.append(time.perf_counter() - started)
            if terminated or truncated:
                env.reset()
        return float(np.median(durations))
    return 0.0


def _alike(
    make: Callable[[int], Guard], observation_space: Space[Any], action_space: Space[Any], env_index: int
) -> Guard:
    """A further environment.

    Raises:
        EnvError: if its spaces are others.
    """
    env = make(env_index)
    for name, space, first in (
        ("observation", env.observation_space, observation_space),
        ("action", env.action_space, action_space),
    ):
        if space != first:
            text = f"{name} space {' '.join(str(space).split())} is not that of the first"
            raise EnvError(f"environment {env_index}: {text}, {' '.join(str(first).split())}", env_index=env_index)
    return env


def _has_arrays(space: Space[Any]) -> bool:
    """True if observations are arrays, which processes can share."""
    inner = space.values() if isinstance(space, spaces.Dict) else space if isinstance(space, spaces.Tuple) else None
    return isinstance(space, NUMERIC) if inner is None else all(map(_has_arrays, inner))


def _channels_first(space: Any) -> Any:
    """The space of observations with images turned."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _channels_first(inner) for key, inner in space.spaces.items()})
    return VecTransposeImage.transpose_space(space) if is_channels_last(space) else space
