"""What an arm's returns are measured by: the bound of its held-out targets, where there is one, and the mean returns of
the random policy and of the expert.

All are of the episodes that ``palaestra evaluate`` plays by default: seed 2^32, environments 0 to 999. A run keeps them
in its robot's data under ``bound``, with a digest of what they depend on; else they are found when they are asked for,
in a few seconds, once in a process.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from palaestra.envs.arm.chain import Row, SerialChain
from palaestra.envs.arm.dynamics import link_frames
from palaestra.envs.arm.robots.plain_data import chain_data
from palaestra.envs.arm.robots.target_box import BoxShape
from palaestra.envs.arm.robots.time_bound import time_bound
from palaestra.envs.core import Array, Reference
from palaestra.envs.core.rng import Rng, child_key, env_keys

if TYPE_CHECKING:
    from palaestra.envs.core import TensorEnv

HELD_OUT_SEED, HELD_OUT = 2**32, 1000  # the episodes of palaestra evaluate
MEASURED = 200  # of them, where a step takes long
ARRIVES = 0.99  # share of the episodes in which the expert must arrive to be called the best known
SOLVED = 0.97  # of the way from random to the expert, as with the Panda
BOUND_KEYS = ("seconds", "steps", "approach")


def held_out_targets(box: BoxShape) -> Tensor:
    """Targets [1000, 3] m of the first episodes of the held-out environments, float64."""
    low, high = torch.tensor(box, dtype=torch.float32).unbind(1)
    return Rng(held_out_keys(), 0).uniform(low, high, (3,)).double()


def task_digest(chain: SerialChain, start: Row, targets: BoxShape, *more: Any) -> str:
    """Sixteen digits that change with anything that the figures depend on."""
    text = json.dumps([chain_data(chain), start, targets, *more], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def held_out_bound(
    chain: SerialChain, start: Row, targets: BoxShape, tolerance: float, period: float
) -> dict[str, float]:
    """Means over the held-out targets; empty where the search does not reach one of them.

    Returns:
        ``seconds``, the time-optimal bound to the target itself; ``steps``, whole ones, within which an arm could be at
        its tolerance; ``approach``, by how much the tool comes closer up to the tolerance, m.
    """
    goals = held_out_targets(targets)
    bound = time_bound(chain, start, goals, tolerance)
    if not bool(bound.seconds.isfinite().all()):
        return {}
    tool = link_frames(chain, torch.tensor(start, dtype=torch.float64).unsqueeze(1)).position[:, -1, 0]
    approach = ((goals - tool).norm(dim=1) - tolerance).clamp(min=0.0)
    steps = (bound.within_tolerance / period).ceil().clamp(min=1.0)
    return {"seconds": _mean(bound.seconds), "steps": _mean(steps), "approach": _mean(approach)}


@cache
def first_bounds(chain: SerialChain, start: Row, targets: BoxShape, tolerance: float, most: int) -> Array:
    """The bound of each of the first held-out targets, at most ``most`` and ``MEASURED`` of them, float64 s, fixed."""
    goals = held_out_targets(targets)[: min(most, MEASURED)]
    found: Array = time_bound(chain, start, goals, tolerance).within_tolerance.numpy()
    found.setflags(write=False)
    return found


def random_and_expert(env: TensorEnv[Any], episodes: int = HELD_OUT) -> tuple[float, float, float]:
    """Mean returns of uniformly random actions and of the expert in the first held-out episodes, and the share of them
    in which the expert arrives."""
    generator = torch.Generator().manual_seed(0)

    def random(state: Any) -> Tensor:
        if isinstance(env.action_space, Discrete):
            return torch.randint(int(env.action_space.n), (episodes,), generator=generator)
        return 2.0 * torch.rand(episodes, *(env.action_space.shape or ()), generator=generator) - 1.0

    return _played(env, random, episodes)[0], *_played(env, env.expert, episodes)


@cache
def returns_within(
    task: Callable[..., TensorEnv[Any]], arguments: tuple[tuple[str, Any], ...], limit: int | None, episodes: int
) -> tuple[float, float, float]:
    """:func:`random_and_expert` of ``task(**arguments)`` in episodes of up to ``limit`` steps, once for each."""
    env = task(**dict(arguments))
    env.max_episode_steps = limit
    return random_and_expert(env, episodes)


def measured_reference(kept: Mapping[str, Any], digest: str, control: str) -> Reference:
    """The reference of ``palaestra/PandaReachTorque-v0`` from what a run has measured for a task with that digest."""
    returns = kept.get("returns", {}).get(control)
    if kept.get("task") != digest or returns is None or len(returns) != 3:
        return Reference()
    return best_known(*returns)


def best_known(random: float, expert: float, arrived: float) -> Reference:
    """The expert is the best known where it arrives, see :func:`random_and_expert`."""
    if arrived < ARRIVES or expert <= random:
        return nothing_known(random, arrived, MEASURED)
    return Reference(
        optimum=expert,
        random=random,
        solved_at=random + SOLVED * (expert - random),
        source=f"best known: the expert, in {MEASURED} held-out episodes; solved at: {SOLVED:.0%} of the way to it",
    )


def nothing_known(random: float, arrived: float, episodes: int) -> Reference:
    """The reference of a task in which the expert does not always arrive."""
    share = f"{100 * arrived:.3g} % of {episodes:,} held-out episodes"
    return Reference(random=random, source=f"nothing is known of the best: the expert arrives in {share}")


@torch.no_grad()
def _played(env: TensorEnv[Any], act: Callable[[Any], Tensor], episodes: int) -> tuple[float, float]:
    """The mean return, and the share of episodes that end at the target."""
    keys = held_out_keys()[:episodes]
    state, going = env.reset(Rng(keys, 0)), torch.ones(episodes, dtype=torch.bool)
    total = torch.zeros(episodes, dtype=torch.float64)
    for step in range(env.max_episode_steps or 0):
        state, reward, terminated = env.step(state, act(state), Rng(keys, step + 1))
        total += torch.where(going, reward.double(), 0.0)
        going = going & ~terminated
        if not bool(going.any()):
            break
    return _mean(total), _mean((~going).double())


def held_out_keys() -> Tensor:
    """Keys of the held-out episodes, int64 [1000]."""
    return child_key(env_keys(HELD_OUT_SEED, torch.arange(HELD_OUT)), 0)


def _mean(values: Tensor) -> float:
    """The mean, summed exactly, so that it does not depend on threads; to ten digits."""
    return float(f"{math.fsum(values.tolist()) / len(values):.10g}")
