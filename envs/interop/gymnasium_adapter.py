"""Any Gymnasium environment as a :class:`~palaestra.envs.core.BatchedEnv`, so that one agent loop serves all.

N copies are stepped by Gymnasium's ``SyncVectorEnv``, one after another, or ``AsyncVectorEnv``, a process each, where a
step takes longer than asking a process for it. Both give the same episodes. Images are turned to channels first, and
texts in a Dict are left out. What an environment raises, and the death of its process,
becomes an :class:`EnvError` that names it. It steps on the host in NumPy; one copy to the device and one back per step.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import multiprocessing
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing import connection
from typing import Any, NoReturn

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.async_vector_env import AsyncState
from stable_baselines3.common.vec_env import VecTransposeImage
from torch import Tensor

from palaestra.envs.core import EnvError, StepResult
from palaestra.envs.core.errors import is_machine_failure
from palaestra.envs.core.host import available_cores
from palaestra.envs.core.user_code import RAISED, describe
from palaestra.envs.interop.host_batch import HostEnv, is_channels_last
from palaestra.envs.interop.returned import action_mask, copied, fitting, mask_size, number, shown, without_texts
from palaestra.envs.interop.simulator_seeds import simulator_seeds
from palaestra.envs.interop.sync_loop import SyncLoop
from palaestra.envs.interop.worker_process import NAME, Starting, serve
from palaestra.envs.wrappers import gymnasium_wrappers, named_wrappers, take_settings

_RETURNED = {"reset": "(observation, info)", "step": "(observation, reward, terminated, truncated, info)"}
SLOW_STEP = 1e-3  # s; asking a process for a step takes about a tenth of it


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
            kwargs: of ``gymnasium.make_vec``, whose errors about missing extras pass through, and of the wrappers (see
                :mod:`palaestra.envs.wrappers`), which become Gymnasium's own. ``wrappers`` are others, by name or as
                classes, innermost, and ``around`` classes that come last. ``vectorization_mode`` is ``"sync"``,
                ``"async"`` or (the default) ``"auto"``.

        Raises:
            ValueError: if an argument is out of range.
        """
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        spec = copy.copy(spec)
        spec.order_enforce = False  # a layer around every step that this adapter does not need
        settings = gymnasium_wrappers(take_settings(kwargs))
        wrappers = (*named_wrappers(kwargs.pop("wrappers", ())), without_texts, *settings, *kwargs.pop("around", ()))
        mode = _chosen_mode(kwargs.pop("vectorization_mode", "auto"), spec, num_envs, kwargs)
        own = {"autoreset_mode": AutoresetMode.SAME_STEP} | ({"worker": serve} if mode == "async" else {})
        with Starting():
            self.venv: Any = gymnasium.make_vec(
                spec,
                num_envs,
                vectorization_mode=mode,
                vector_kwargs=own,
                wrappers=(*wrappers, functools.partial(_Guard, first_env_index=first_env_index)),
                **{"disable_env_checker": True, **kwargs},  # _Guard looks at what is returned
            )
        limit = kwargs.get("max_episode_steps")
        limit = spec.max_episode_steps if limit is None else limit
        self.max_episode_steps = None if limit == -1 else limit  # as Gymnasium reads it
        self._name_environments(first_env_index)
        self._stepper: Any = self.venv
        if isinstance(self.venv, SyncVectorEnv):
            self._stepper = SyncLoop(self.venv.envs, self.venv.single_observation_space)
        self.single_observation_space = _channels_first(self.venv.single_observation_space)
        self.single_action_space = self.venv.single_action_space
        self.metadata = {**self.venv.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.render_mode, self.spec = self.venv.render_mode, spec
        self._set_up(self.venv.single_observation_space, num_envs, device, seed, first_env_index)
        self._seeded = self._busy = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """New episodes; each row has a seed of its own, see :mod:`palaestra.envs.interop.simulator_seeds`."""
        seeds = None
        if seed is not None or not self._seeded:
            self.seed, self._seeded = self.seed if seed is None else seed, True
            seeds = simulator_seeds(self.seed, self._first, self.num_envs)
        obs, info = self._ask(self._stepper.reset, seed=seeds, options=options)
        return self._begin(obs, _rows(info, "mask")), {}

    def shift_indices(self, first_env_index: int) -> None:
        """Make row 0 the environment of that global index; call :meth:`reset` with a seed next."""
        self.env_indices = self.env_indices - self._first + first_env_index
        self._name_environments(first_env_index)

    def _name_environments(self, first_env_index: int) -> None:
        self._first = first_env_index
        for index, env in enumerate(getattr(self.venv, "envs", ())):  # in processes, they know
            env.env_index = first_env_index + index

    def step(self, actions: Tensor) -> StepResult:
        obs, reward, terminated, truncated, info = self._ask(self._stepper.step, self._for_env(actions))
        finals, last = _rows(info, "final_obs"), info.get("final_info", {})
        success = last["is_success"].astype(bool) if "is_success" in last else None
        masks = _rows(info, "mask"), _rows(last, "mask")
        return self._result(obs, finals, reward, (terminated, truncated), success, *masks)

    def _ask(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Let all environments work.

        Raises:
            EnvError: what one of them raised, or that its process has died.
        """
        self._busy = True
        if isinstance(self.venv, AsyncVectorEnv):
            answer = self._ask_processes(call, *args, **kwargs)
        else:
            answer = call(*args, **kwargs)
        self._busy = False
        return answer

    def _ask_processes(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        level, gymnasium.logger.min_level = gymnasium.logger.min_level, gymnasium.logger.ERROR + 1
        try:  # without the warnings in which Gymnasium prints every traceback
            return call(*args, **kwargs)
        except (EOFError, OSError) as error:  # the pipe's: what environments raise are EnvErrors
            raise self._death() from error
        finally:
            gymnasium.logger.min_level = level

    def _death(self) -> EnvError:
        """An error that names the process that closed its pipe, and says how it ended."""
        processes = self.venv.processes
        ended = connection.wait([process.sentinel for process in processes], timeout=2.0)
        for index, process in enumerate(processes):
            if process.sentinel in ended:
                process.join()
                how = f"ended with exit code {process.exitcode}"
                if process.exitcode < 0:
                    how = f"was killed by {signal.Signals(-process.exitcode).name}"
                step = int(self._episode_length[index]) + 1
                index += self._first
                return EnvError(f"the process of environment {index} {how} in step {step}", env_index=index, step=step)
        return EnvError("the process of an environment does not answer any more")

    def render(self) -> Any:
        return self.venv.render()

    def close_extras(self, **kwargs: Any) -> None:
        if isinstance(self.venv, AsyncVectorEnv):
            if not self._busy:
                with contextlib.suppress(EOFError, OSError):  # one has died
                    return self.venv.close()
            # a fault, or Ctrl-C, in the middle of a step: answers may be half read, and asking again would hang
            for process in self.venv.processes:
                process.kill()
            self.venv._state = AsyncState.DEFAULT
            self.venv.close(terminate=True)
        else:
            self.venv.close()


class _Guard(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Around one environment: what it raises becomes an EnvError that names it."""

    env_index: int | None = None

    def __init__(self, env: gymnasium.Env[Any, Any], first_env_index: int = 0) -> None:
        super().__init__(env)
        self._space, self._mask_size = env.observation_space, mask_size(env.action_space)
        self._env_step, self._form = env.step, (self._space.shape, self._space.dtype)
        has_method = self._mask_size is not None and env.has_wrapper_attr("action_masks")
        self._mask_method = env.get_wrapper_attr("action_masks") if has_method else None
        name, _, index = multiprocessing.current_process().name.rpartition("-")
        self._apart = name == NAME
        if self._apart:
            self.env_index = first_env_index + int(index)
        if Starting.running:
            Starting.made.append(self)
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
            goes_on = terminated is False and truncated is False and type(info) is dict and not info
            usual = goes_on and type(reward) is float and type(obs) is np.ndarray and self._mask_method is None
            if usual and (obs.shape, obs.dtype) == self._form:
                return result
            obs, kept = fitting(self._space, obs), {}
            reward = reward if type(reward) is float else number("reward", reward)
            terminated = terminated if type(terminated) is bool else bool(number("terminated", terminated))
            truncated = truncated if type(truncated) is bool else bool(number("truncated", truncated))
            if terminated or truncated:
                obs = copied(obs)  # the reset may change it in place
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
        try:
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
        fault = EnvError(text, env_index=self.env_index, episode=self._episode, step=self._step)
        if self._apart:
            fault.add_note(traceback.format_exc())  # a process cannot hand on the chain of exceptions
        raise fault from error


def _chosen_mode(mode: str, spec: EnvSpec, num_envs: int, kwargs: dict[str, Any]) -> str:
    """Gymnasium's vectorization mode; "auto" becomes "async" where a process for each environment pays."""
    if mode not in ("auto", "sync", "async"):
        raise ValueError(f"vectorization_mode must be auto, sync or async, got {mode!r}")
    if mode == "auto":
        return "async" if num_envs > 1 and available_cores() > 1 and _is_slow(spec, kwargs) else "sync"
    return mode


def _is_slow(spec: EnvSpec, kwargs: dict[str, Any]) -> bool:
    """True if a step of the environment takes more than ``SLOW_STEP``: the median of a few random ones."""
    env = _Guard(gymnasium.make(spec, **kwargs))
    try:
        env.reset(seed=0)
        env.action_space.seed(0)
        durations: list[float] = []
        while len(durations) < 20 and sum(durations) < 0.5:
            started = time.perf_counter()
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            durations.append(time.perf_counter() - started)
            if terminated or truncated:
                env.reset()
        return bool(np.median(durations) > SLOW_STEP)
    except EnvError:  # what an environment raises is told where its episodes count
        return False
    finally:
        env.close()


def _channels_first(space: Any) -> Any:
    """The space of observations with images turned."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: _channels_first(inner) for key, inner in space.spaces.items()})
    return VecTransposeImage.transpose_space(space) if is_channels_last(space) else space


def _rows(info: dict[str, Any], name: str) -> dict[int, Any]:
    """What rows say under that name, by row."""
    if name not in info:
        return {}
    return {i: info[name][i] for i in np.flatnonzero(info[f"_{name}"]).tolist()}
