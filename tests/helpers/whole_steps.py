"""The fewest whole steps in which a control of ``reach`` is found to bring the tool within the tolerance.

1. A joint driven one way from rest with all its speed, as the drives follow and brake for its end, gets to some place
   in k steps; with a lower speed it gets to any place on the way there. So all joints together get to any configuration
   in a box, and to the target if one of those puts the tool near it.
2. k is counted up from 1; the configuration is sought as ``time_bound.py`` seeks it, and the speed of each joint that
   leads to it in k steps by bisection in the environment's own drives.
3. What is found can be played: the best control takes no more. It takes no less than T*ₐ, which knows of no braking, in
   whole steps; where both agree that is what the best control takes, but for the search of T*ₐ, which can end above it.

Of the 1,000 held-out targets, played in the environment:

    python tests/helpers/whole_steps.py ur5.urdf so101 tiago.urdf:arm_tool_link
"""

from __future__ import annotations

import sys

import torch
from time_bound import _approach
from torch import Tensor

from palaestra.envs.arm.dynamics import link_frames
from palaestra.envs.arm.reach import PERIOD, Reach
from palaestra.envs.arm.robots.scores import HELD_OUT, HELD_OUT_SEED, held_out_targets
from palaestra.envs.arm.tables import tables
from palaestra.envs.arm.task import TOLERANCE
from palaestra.envs.core.rng import Rng, child_key, env_keys

_STARTS, _HALVINGS, _MOST = 16, 40, 40
_ROOM = 1e-4  # m, so that the float32 of the environment arrives too


def fewest_steps(env: Reach, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Steps int64 [M], 0 where none are found, and constant actions [M, dof] that take them, to targets [M, 3] m."""
    count, dof, table = len(targets), env.chain.dof, tables(env.chain, targets.dtype, targets.device)
    start = torch.tensor(env.start, dtype=targets.dtype).unsqueeze(1)
    draws = torch.rand(dof, _STARTS, generator=torch.Generator().manual_seed(0), dtype=targets.dtype)
    first = torch.cat((start, (table.low + draws * (table.high - table.low))[:, 1:]), 1)
    steps, speeds = torch.zeros(count, dtype=torch.int64), torch.zeros(dof, count, dtype=targets.dtype)
    for k in range(1, _MOST + 1):
        left = (steps == 0).nonzero().flatten()
        if not len(left):
            break
        lower, upper = (_driven(env, start, way * table.velocity, k) for way in (-1.0, 1.0))
        goal, q = targets[left].T.repeat_interleave(_STARTS, 1), first.repeat(1, len(left))
        q = _approach(env.chain, goal, TOLERANCE - _ROOM, q, lower.expand_as(q), upper.expand_as(q))
        miss = (goal - link_frames(env.chain, q).position[:, -1]).square().sum(0).sqrt().view(-1, _STARTS)
        near, best = miss.min(1)
        met = near <= TOLERANCE - 0.5 * _ROOM
        place = q.view(dof, -1, _STARTS)[:, torch.arange(len(left)), best][:, met]
        steps[left[met]], speeds[:, left[met]] = k, _speeds(env, start, place, k)
    return steps, (speeds / table.velocity).T.float()


def _driven(env: Reach, start: Tensor, speed: Tensor, steps: int) -> Tensor:
    """Where joints get in so many steps from rest with a constant command [dof, M], [dof, M]."""
    q, dq = start.expand_as(speed), torch.zeros_like(speed)
    for _ in range(steps):
        q, dq = env._drive(q, dq, speed)
    return q


def _speeds(env: Reach, start: Tensor, place: Tensor, steps: int) -> Tensor:
    """The constant commands [dof, M] that lead to a place [dof, M] in so many steps."""
    way = (place - start).sign()
    low = torch.zeros_like(place)
    high = low + tables(env.chain, place.dtype, place.device).velocity
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        far = (_driven(env, start, way * middle, steps) - start).abs() >= (place - start).abs()
        low, high = torch.where(far, low, middle), torch.where(far, middle, high)
    return way * high


def played(env: Reach, actions: Tensor, most: int) -> Tensor:
    """Steps int64 [M] after which constant actions [M, dof] arrive in the first held-out episodes, 0 for never."""
    keys = child_key(env_keys(HELD_OUT_SEED, torch.arange(len(actions))), 0)
    state, arrived = env.reset(Rng(keys, 0)), torch.zeros(len(actions), dtype=torch.int64)
    for step in range(1, most + 1):
        state, _, reached = env.step(state, actions, Rng(keys, step))
        arrived = torch.where((arrived == 0) & reached, step, arrived)
    return arrived


def main() -> None:
    """Print what the best control takes of each robot: ``NAME``, or ``FILE`` or ``FILE:TIP``."""
    for name in sys.argv[1:]:
        file, _, tip = name.partition(":")
        env = Reach({"from": file, "tip": tip} if tip else file)
        steps, actions = fewest_steps(env, held_out_targets(env.targets))
        arrived, bound = played(env, actions, int(steps.max())), env._bound
        whole = f"{float(steps.double().mean()):.3f} steps, at least {bound['steps']:.3f} by the bound"
        ratio = f"time / bound {float(steps.double().mean()) * PERIOD / bound['seconds']:.4f}"
        print(f"{name}: {ratio}: {whole}; played, {int((arrived == steps).sum())} of {HELD_OUT} arrive in them")


if __name__ == "__main__":
    main()
