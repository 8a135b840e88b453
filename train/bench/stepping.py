"""Environments alone: steps per second with random actions drawn beforehand, resets as they fall due.

1. CartPole runs beside Gymnasium's own NumPy batch with the same actions (one thread, as NumPy has it) and, where they
   are installed, CartPole beside gymnax and Connect Four beside pgx, both compiled. A vector step that only resets an
   environment (Gymnasium's NEXT_STEP) is no step.
2. Environments with rigid-body dynamics also show physics steps, beside MuJoCo: :mod:`palaestra.train.bench.physics`.
"""

from __future__ import annotations

import time
from itertools import cycle, islice
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core import BatchedEnv
from palaestra.envs.core.rng import Rng, env_keys, sample_actions
from palaestra.envs.registry import make
from palaestra.train.bench.interleaved import (
    OURS,
    Clock,
    Workload,
    WorkloadError,
    device_clock,
    measure_interleaved,
    repeating,
)
from palaestra.train.bench.libraries import GYMNAX, PGX, Peer, installed
from palaestra.train.bench.libraries.process import LibraryProcess
from palaestra.train.bench.libraries.sb3 import GYMNASIUM_TWINS
from palaestra.train.bench.physics import arm_of, mujoco_workloads, physics_section
from palaestra.train.config.run_config import RunConfig

STEPPING_SIZES = (1024, 4096, 16384)  # tensor environments; Gymnasium environments run as many as their preset has
STEPPING_SECONDS = 0.5  # at least, per measurement
ACTIONS = 64  # vectors of actions drawn beforehand, used over and over
PASS = 16  # vector steps between two looks at the clock
GYMNASIUM = "gymnasium"
_GAMES_OF_PGX = {"palaestra/ConnectFour-v0": "connect_four"}


def sizes_of(config: RunConfig) -> tuple[int, ...]:
    """The numbers of environments that are stepped."""
    return STEPPING_SIZES if config.resolved_env.in_tensors else (config.num_envs,)


def measure_stepping(
    config: RunConfig, repeats: int, failures: dict[str, str], until: float = float("inf")
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Number of environments → workload → samples; and the physics section of environments that have one.

    Arguments as :func:`~palaestra.train.bench.interleaved.measure_interleaved` has them.
    """
    arm, stepping = arm_of(config.resolved_env), {}
    peer, other = peer_of(config), _other_batch(config, failures)
    for num_envs in sizes_of(config):
        workloads = stepping_workloads(config, num_envs)
        if arm is not None:
            workloads |= mujoco_workloads(arm, num_envs)
        if peer is not None and other is not None and peer.name not in failures:
            workloads[peer.name] = other.workload(select=num_envs)
        stepping[str(num_envs)] = measure_interleaved(workloads, repeats, STEPPING_SECONDS, failures, until)
    if other is not None:
        other.close()
    return stepping, None if arm is None else physics_section(arm, stepping)


def peer_of(config: RunConfig) -> Peer | None:
    """The library that has that environment as a batch too."""
    if config.env in GYMNASIUM_TWINS:
        return GYMNAX
    return PGX if config.env in _GAMES_OF_PGX else None


def _other_batch(config: RunConfig, failures: dict[str, str]) -> LibraryProcess | None:
    """The process of that library, if it is installed."""
    peer = peer_of(config)
    if peer is None or not installed((peer,), failures):
        return None
    process = LibraryProcess(peer_spec(config, peer))
    try:
        process.ready()
    except WorkloadError as error:
        failures[peer.name] = str(error)
        process.close()
        return None
    return process


def peer_spec(config: RunConfig, peer: Peer) -> dict[str, Any]:
    """What the library's process builds."""
    spec = {"module": peer.module, "name": peer.name, "device": config.device, "threads": torch.get_num_threads()}
    return {**spec, "env": {**GYMNASIUM_TWINS, **_GAMES_OF_PGX}[config.env]}


def stepping_workloads(config: RunConfig, num_envs: int) -> dict[str, Workload]:
    """Our batch, and Gymnasium's own where there is one, with the same actions."""
    batch = make(config.env, num_envs, config.device, **config.env_kwargs)
    actions = random_actions(batch)
    workloads = {OURS: stepping(batch, actions, device_clock(batch.device))}
    if config.env in GYMNASIUM_TWINS:
        arrays = [action.cpu().numpy() for action in actions]
        workloads[GYMNASIUM] = numpy_stepping(GYMNASIUM_TWINS[config.env], num_envs, arrays)
    return workloads


def random_actions(batch: BatchedEnv) -> list[Tensor]:
    """Vectors of actions to be used over and over."""
    keys = env_keys(batch.seed, batch.env_indices)
    return [sample_actions(batch.single_action_space, Rng(keys, t)) for t in range(ACTIONS)]


def stepping(batch: BatchedEnv, actions: list[Tensor], clock: Clock) -> Workload:
    """Plays the list of actions over and over."""
    batch.reset()
    ring = cycle(actions)

    def step() -> int:
        for action in islice(ring, PASS):
            batch.step(action)
        return batch.num_envs * PASS

    return repeating(step, clock)


def numpy_stepping(id: str, num_envs: int, actions: list[Any], clock: Clock = time.perf_counter) -> Workload:
    """The same on Gymnasium's batch, where a row spends the vector step after an episode's end on its reset."""
    env = gymnasium.make_vec(id, num_envs, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    ring, resets = cycle(actions), 0

    def step() -> int:
        nonlocal resets
        steps = 0
        for action in islice(ring, PASS):
            _, _, terminated, truncated, _ = env.step(action)
            steps += num_envs - resets
            resets = int(np.count_nonzero(terminated | truncated))
        return steps

    return repeating(step, clock)
