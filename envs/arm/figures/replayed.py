"""The first held-out episodes of an arm, played again with a policy, for what only each step tells.

They are those of the final evaluation, whose seed is the default one, step by step with the same random numbers. A
replay of 200 episodes takes a second at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.arm.robots.scores import held_out_keys
from palaestra.envs.arm.tables import tables
from palaestra.envs.core import Array
from palaestra.envs.core.rng import Rng

EPISODES = 200  # at most
AT_END = 0.01  # of a joint's range, from an end, counts as there


@dataclass(frozen=True)
class Replayed:
    """N episodes; what is of each step is that of the last one behind an episode's end.

    Attributes:
        lengths: int64 [N] steps.
        arrived: bool [N].
        errors: distance (m) and, where the target has an orientation, angle (rad) to it, each [longest + 1, N].
        ended: bool [N, dof], joints at an end of their range when the episode ended.
        shares: by the name of a limit, float64 [dof], the per cent of steps in which each joint was at it.
        rms_jerk: rad/s³, or m/s³ of an arm whose joints all slide.
    """

    lengths: Array
    arrived: Array
    errors: tuple[Array, ...]
    ended: Array
    shares: dict[str, Array]
    rms_jerk: float


@torch.no_grad()
def replayed(env: Any, act: Callable[[Any], Tensor], episodes: int) -> Replayed:
    """Play them.

    Args:
        env: an ``ArmTask`` with a time limit, whose module imports this one.
        act: maps a batch of states to actions.
    """
    keys = held_out_keys()[:episodes].to(env.device)
    before = state = env.reset(Rng(keys, 0))
    going = torch.ones(episodes, dtype=torch.bool, device=env.device)
    lengths, errors = torch.zeros(episodes, dtype=torch.int64, device=env.device), [env.errors(state)]
    ended, jerk, counts = torch.zeros_like(state.q, dtype=torch.bool), 0.0, dict[str, Tensor]()
    table = tables(env.chain, state.q.dtype, state.q.device)
    room = (AT_END * (table.high - table.low)).flatten()
    for step in range(env.max_episode_steps or 0):
        action = act(state)
        after, _, terminated = env.step(state, action, Rng(keys, step + 1))
        jerk += float(torch.where(going, env.rms_jerk(before, state, after).square(), 0.0).sum())
        for name, joints in env.at_limits(state, action, after).items():
            counts[name] = counts.get(name, 0) + (joints & going.unsqueeze(1)).sum(0)
        new = tuple(torch.where(going, now, last) for now, last in zip(env.errors(after), errors[-1], strict=True))
        errors.append(new)
        at_end = ((after.q - table.q_min.flatten()).abs() <= room) | ((after.q - table.q_max.flatten()).abs() <= room)
        ended = torch.where(going.unsqueeze(1), at_end, ended)
        lengths += going
        going = going & ~terminated
        before, state = state, after
        if not bool(going.any()):
            break
    steps = max(1, int(lengths.sum()))
    return Replayed(
        lengths.cpu().numpy(),
        (~going).cpu().numpy(),
        tuple(torch.stack(parts).double().cpu().numpy() for parts in zip(*errors, strict=True)),
        ended.cpu().numpy(),
        {name: 100.0 * count.double().cpu().numpy() / steps for name, count in counts.items()},
        float(np.sqrt(jerk / steps)),
    )
