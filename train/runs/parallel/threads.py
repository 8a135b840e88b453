"""Threads that PyTorch computes with on the CPU: as many as are fastest for this run, beside whatever else runs here.

1. Small operations gain little from a second thread, and where another program takes a core away all threads of an
   operation wait for the one that is not scheduled. So before a run begins, a throw-away agent with the run's settings
   is trained for a moment with one thread and with twice as many in turns, and so on while that pays; what other
   programs take counts by itself. Nothing of the trial is kept but the number, and global random numbers are as before
   it, so the run's bits depend on the number alone.
2. ``threads`` in the configuration or ``OMP_NUM_THREADS`` decide instead. A run that goes on has the number that it
   began with. Processes that train together make no trial; a run of a few seconds computes with one thread.
3. The trial's iterations are as short as the minibatches allow, with the run's share of steps and updates. Environments
   on the host, some of which can be open once only, are stood in for by random observations.
4. :mod:`palaestra.train.runs.parallel.stall_watch` looks after a run that is under way.
"""

from __future__ import annotations

import inspect
import itertools
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.logger import Logger
from torch import Tensor

from palaestra.agents.buffers.rollout import map_obs
from palaestra.agents.checkpoints.random_numbers import random_numbers_kept
from palaestra.agents.distributed.process_group import process_group
from palaestra.agents.imitation.bc import BC
from palaestra.envs.core import Array, BatchedEnv, StepResult, resolve_device
from palaestra.envs.core.host import available_cores
from palaestra.envs.core.user_code import RAISED, describe
from palaestra.train.config import AGENTS
from palaestra.train.config.compatibility import Agent, spaces_of
from palaestra.train.config.run_config import RunConfig, build_arguments
from palaestra.train.interruptions import Stopped

TURN = 0.1  # s of each measurement, at least
ROUNDS = 3  # measurements of each number
WORTH_IT = 1.05  # times as fast as with half the threads, for a second thread costs more as soon as others compute
HOPELESS = 0.7  # times as fast: one measurement tells
SHORT = 10.0  # s; a run that is over by then with one thread gets no other
LONGEST = 3.0  # s of trials, after which the best so far is taken
_REPLAYED = 1 << 14  # transitions that a trial's replay memory holds, at most

CLEARLY_FASTER = 1.1  # times as fast with half the threads, for a run that is under way to change


@dataclass(frozen=True)
class ThreadChoice:
    """Why a run computes with so many threads.

    Attributes:
        remark: a line for the user, or nothing.
        fastest_now: tries out whether fewer are faster by now, and returns the number; None where the number stays.
    """

    remark: str = ""
    fastest_now: Callable[[], int] | None = None


@contextmanager
def chosen_threads(
    config: RunConfig, resumed: bool, check: Callable[[], None]
) -> Iterator[tuple[RunConfig, ThreadChoice]]:
    """A block in which the run computes with its threads; the configuration that says how many, and why.

    Args:
        config: the run.
        resumed: True if it has begun already; then nothing is tried out.
        check: is called often, and may raise to end it.
    """
    before = torch.get_num_threads()
    try:
        choice = ThreadChoice()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
            choice = ThreadChoice(_more_than_cores(config.threads))
        elif "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(min(before, available_cores()))
            if not resumed and process_group().size == 1 and resolve_device(config.device).type == "cpu":
                remark = _tried(config, torch.get_num_threads(), check)
                keeps = config.deterministic or torch.get_num_threads() == 1
                choice = ThreadChoice(remark, None if keeps else partial(_fastest_now, config, check))
        if process_group().size > 1:
            choice = ThreadChoice(
                _more_than_cores(torch.get_num_threads(), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
            )
        yield replace(config, threads=torch.get_num_threads()), choice
    finally:
        torch.set_num_threads(before)


def _more_than_cores(threads: int, processes: int = 1) -> str:
    cores = available_cores()
    if threads * processes <= cores:
        return ""
    on = f"wait for each other on {cores} core{'s' if cores > 1 else ''}"
    if processes == 1:
        return f"{threads} threads {on}: --threads {cores} is faster"
    each = "1 thread" if threads == 1 else f"{threads} threads"
    return f"{processes} processes of {each} {on}: fewer are faster"


def _tried(config: RunConfig, most: int, check: Callable[[], None]) -> str:
    """Set the number of threads after a trial; says what it has found."""
    try:
        with random_numbers_kept(), warnings.catch_warnings(action="ignore"):  # the run's own agent warns again
            return _take_fastest(config, most, check)
    except Stopped:
        raise
    except RAISED as error:  # the run will meet it too, and tell where
        torch.set_num_threads(most)
        return f"threads could not be tried out: {describe(error)}"


def _take_fastest(config: RunConfig, most: int, check: Callable[[], None]) -> str:
    """Set the number of threads that is fastest up to ``most``; says what was found, if a trial was made."""
    if most == 1:
        return ""
    batch = _batch(config)
    try:
        trial = Trial(_throw_away_agent(config, batch), check)
        best = 1
        if trial.seconds_for(config.total_timesteps) < SHORT:
            torch.set_num_threads(best)
            return ""
        ratios: list[tuple[int, int, float]] = []
        while best < most and (not ratios or trial.seconds < LONGEST):
            count = min(2 * best, most)
            ratios.append((best, count, trial.ratio(best, count)))
            if ratios[-1][2] < WORTH_IT:
                break
            best = count
    finally:
        batch.close()
    torch.set_num_threads(best)
    return f"tried out: {'; '.join(itertools.starmap(_compared, ratios))} (--threads N decides otherwise)"


def _fastest_now(config: RunConfig, check: Callable[[], None]) -> int:
    """The number of threads that is fastest at the moment, of those that a run has and halves of them."""
    best = before = torch.get_num_threads()
    try:
        with (
            random_numbers_kept(),
            warnings.catch_warnings(action="ignore"),
            closing(_batch(config)) as batch,
        ):
            trial = Trial(_throw_away_agent(config, batch), check)
            while best > 1 and trial.seconds < LONGEST:
                half = (best + 1) // 2
                if trial.ratio(half, best) * CLEARLY_FASTER > 1.0:
                    break
                best = half
            return best
    finally:
        torch.set_num_threads(before)


def _compared(fewer: int, more: int, ratio: float) -> str:
    if ratio < 1.0:
        return f"{fewer} thread{'s are' if fewer > 1 else ' is'} {1.0 / ratio:.2g} times as fast as {more}"
    return f"{more} threads are {ratio:.2g} times as fast as {fewer}"


class Trial:
    """Trains an agent in short turns with some number of threads."""

    def __init__(self, agent: Agent, check: Callable[[], None]) -> None:
        self.agent, self.check, self.seconds = agent, check, 0.0
        self._steps, self._latest = 1, 0.0  # of a turn: how many, how many a second
        while not agent._n_updates and self.seconds < LONGEST:  # buffers are made, a replay memory has what it needs
            self._speed(1)

    def _speed(self, threads: int) -> float:
        """Steps a second; a turn is made longer where it was too short to measure."""
        torch.set_num_threads(threads)
        while True:
            self.check()
            steps, started = self.agent.num_timesteps, time.perf_counter()
            self.agent.learn(self._steps, reset_num_timesteps=False)
            seconds, steps = time.perf_counter() - started, self.agent.num_timesteps - steps
            self.seconds += seconds
            self._latest = steps / seconds
            if seconds >= TURN / 2 or not self.agent._n_updates:
                return self._latest
            self._steps = 1 + int(steps * min(10.0, TURN / seconds))

    def seconds_for(self, steps: int) -> float:
        """About how long so many steps take, as fast as the latest turn."""
        return steps / self._latest

    def ratio(self, fewer: int, more: int) -> float:
        """The speed with ``more`` threads over that with ``fewer``, measured in turns."""
        speeds: tuple[list[float], list[float]] = ([], [])
        self._speed(more)  # they start
        for _ in range(ROUNDS):
            for count, found in zip((fewer, more), speeds, strict=True):
                found.append(self._speed(count))
            ratio = median(speeds[1]) / median(speeds[0])
            if ratio < HOPELESS or self.seconds > LONGEST:
                break
        return ratio


def _throw_away_agent(config: RunConfig, batch: BatchedEnv) -> Agent:
    """An agent that works as the run's does, in the shortest iterations that its minibatches allow."""
    kind, arguments = AGENTS[config.agent], build_arguments(config)
    agent = kind(env=batch, seed=config.seed, **(arguments | _shortened(kind, arguments, config.num_envs)))
    agent.set_logger(Logger(None, []))
    if isinstance(agent, BC):  # whoever its teacher is takes about as long as it does
        agent.teacher = lambda batch, obs: agent.act(obs, mask=batch.action_masks())
    return agent


def _shortened(kind: type[Agent], arguments: dict[str, Any], num_envs: int) -> dict[str, Any]:
    """The arguments that make iterations short."""
    defaults = inspect.signature(kind).parameters

    def value(name: str) -> Any:
        return arguments.get(name, defaults[name].default)

    if kind.keeps_replay:
        ahead = num_envs * (value("n_steps") + 1)
        size = max(min(_REPLAYED, value("buffer_size")), 2 * ahead)
        return {"learning_starts": min(ahead, value("learning_starts")), "buffer_size": size}
    steps, batch = value("n_steps"), value("batch_size")
    return {"n_steps": next(n for n in range(1, steps + 1) if steps % n == 0 and num_envs * n % batch == 0)}


def _batch(config: RunConfig) -> BatchedEnv:
    """The run's environments, or what stands in for them."""
    if config.resolved_env.in_tensors:
        return config.resolved_env.open(config.num_envs, "cpu", config.seed, **config.env_kwargs)
    return StandIn(*spaces_of(config.resolved_env, config.env_kwargs), config.num_envs)


class StandIn(BatchedEnv):
    """A batch on the host with these spaces, whose steps cost nothing: the same observations and rewards every time."""

    is_on_host, can_truncate, render_mode = True, False, None

    def __init__(self, observations: Space[Any], actions: Space[Any], num_envs: int) -> None:
        self.device, self.seed, self.num_envs = torch.device("cpu"), 0, num_envs
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_modes": []}
        self.single_observation_space, self.single_action_space = observations, actions
        self.observation_space = batch_space(observations, num_envs)
        self.action_space = batch_space(actions, num_envs)
        self.env_indices = torch.arange(num_envs)
        self._obs = map_obs(_tensor, self.observation_space.sample())
        self._rewards, self._ended = torch.randn(num_envs), torch.zeros(num_envs, dtype=torch.bool)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._obs, {}

    def step(self, actions: Tensor) -> StepResult:
        info = {"ended": False, "final_obs": self._obs, "_final_obs": self._ended, "_episode": self._ended}
        info["episode"] = {"r": self._rewards, "l": torch.ones(self.num_envs, dtype=torch.int64)}
        return self._obs, self._rewards, self._ended, self._ended, info


def _tensor(array: Array) -> Tensor:
    """As environments on the host give it."""
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
