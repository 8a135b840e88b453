"""The shortest time in which the arm's drives can reach a target: the time-optimal bound T*ₐ.

1. From rest, with acceleration a_i and speed v_i at most and without having to stop, joint i turns by at most
   D_i(T) = a_i T² / 2 within T ≤ v_i / a_i, and v_i T − v_i² / (2 a_i) after that.
2. The bound is the smallest T for which some configuration q within the limits has |q_i − start_i| ≤ D_i(T) and puts
   the tool at the target, or within a tolerance of it. No control can be faster.
3. T is found by bisection, and q for a given T by projected damped least squares from many starts. The search is
   local: what it finds can lie above the true minimum, not below it. (From 16 starts and from 64 it finds the same to
   1 µs on average, and sequential quadratic programming agrees to 20 µs. Within a tolerance it aims at the edge of
   the ball around the target and creeps along it: 0.1 ms on average.)

``envs/arm/reach_bound.json`` holds the bounds of the targets of 1,000 held-out episodes of ``palaestra/PandaReach-v0``,
those that ``palaestra evaluate`` plays by default. It was made, in about a minute on one core, by

    python tests/helpers/time_bound.py
"""

from __future__ import annotations

import json

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.control import damped_least_squares
from palaestra.envs.arm.dynamics import link_frames, tool_jacobian
from palaestra.envs.arm.panda import PANDA, PANDA_READY
from palaestra.envs.arm.robots.panda_bound import BOUNDS
from palaestra.envs.arm.tables import tables
from palaestra.envs.arm.task import TARGET_BOX, TOLERANCE
from palaestra.envs.core.rng import Rng, child_key, env_keys

HELD_OUT_SEED, HELD_OUT = 2**32, 1000  # the episodes of palaestra evaluate
_STARTS, _BISECTIONS = 32, 18
_ITERATIONS, _ITERATIONS_NEAR = 30, 120  # to a point, and to the edge of a tolerance
_EXACT = 1e-5  # m, where a target is to be met exactly
_LONGEST = 2.0  # s


def minimum_time(chain: SerialChain, start: tuple[float, ...], targets: Tensor, tolerance: float = 0.0) -> Tensor:
    """The bound for each target.

    Args:
        chain: the arm.
        start: configuration at rest, rad.
        targets: float64 [M, 3] m, of the tool centre.
        tolerance: how close the tool has to come, m; 0 for 10 µm.

    Returns:
        float64 [M] s.

    Raises:
        ValueError: if ``start`` is outside the limits, or a target is not reached within 2 s.
    """
    count, table = len(targets), tables(chain, targets.dtype, targets.device)
    centre = torch.tensor(chain.check_configuration(start), dtype=targets.dtype).unsqueeze(1)  # [dof, 1]
    draws = torch.rand(chain.dof, _STARTS, generator=torch.Generator().manual_seed(0), dtype=targets.dtype)
    q = table.low + draws * (table.high - table.low)
    q = torch.cat((centre, q[:, 1:]), 1).repeat(1, count)  # [dof, M · starts]
    goal = targets.T.repeat_interleave(_STARTS, 1)
    low, high = torch.zeros(count, dtype=targets.dtype), torch.full((count,), _LONGEST, dtype=targets.dtype)
    for attempt in range(_BISECTIONS + 1):
        time = (low + high) / 2 if attempt else high
        room = _largest_turn(table.velocity, table.acceleration, time).repeat_interleave(_STARTS, 1)
        lower, upper = (centre - room).maximum(table.q_min), (centre + room).minimum(table.q_max)
        found = _approach(chain, goal, tolerance, q, lower, upper)
        miss = (goal - link_frames(chain, found).position[:, -1]).square().sum(0).sqrt()
        reached = (miss.view(count, _STARTS) <= tolerance + _EXACT).any(1)
        if not attempt and not bool(reached.all()):
            x, y, z = targets[int((~reached).int().argmax())].tolist()
            raise ValueError(f"{chain.name}: the tool does not reach ({x:g}, {y:g}, {z:g}) m within {_LONGEST:g} s")
        q = torch.where(reached.repeat_interleave(_STARTS), found, q)
        low, high = torch.where(reached, low, time), torch.where(reached, time, high)
    return high


def _largest_turn(velocity: Tensor, acceleration: Tensor, time: Tensor) -> Tensor:
    """D_i(T) [dof, M] rad."""
    rising = velocity / acceleration
    return torch.where(time <= rising, acceleration * time.square() / 2, velocity * (time - rising / 2))


def _approach(chain: SerialChain, goal: Tensor, tolerance: float, q: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Configurations within the bounds with the tool as near to the balls around the goals [3, M · starts] as the
    search gets it."""
    q = q.clamp(lower, upper)
    for _ in range(_ITERATIONS_NEAR if tolerance else _ITERATIONS):
        frames = link_frames(chain, q)
        error, jacobian = goal - frames.position[:, -1], tool_jacobian(chain, frames)[:3]
        distance = error.square().sum(0).sqrt()
        error = error * (1.0 - tolerance / distance.clamp(min=_EXACT)).clamp(min=0.0)
        damping = 1e-3 + 0.3 * error.square().sum(0).sqrt()
        step = damped_least_squares(jacobian, error, damping)
        held = ((q <= lower) & (step < 0)) | ((q >= upper) & (step > 0))  # the others have to do it
        q = (q + damped_least_squares(jacobian * ~held, error, damping)).clamp(lower, upper)
    return q


def held_out_targets() -> Tensor:
    """Targets [1000, 3] m of the first episode of 1,000 environments with the seed of ``palaestra evaluate``."""
    keys = child_key(env_keys(HELD_OUT_SEED, torch.arange(HELD_OUT)), 0)
    low, high = torch.tensor(TARGET_BOX, dtype=torch.float32).unbind(1)
    return Rng(keys, 0).uniform(low, high, (3,)).double()


def main() -> None:
    """Compute and store the bounds."""
    targets = held_out_targets()
    exact, near = (minimum_time(PANDA, PANDA_READY, targets, tolerance) for tolerance in (0.0, TOLERANCE))
    content = {
        "made_by": "python tests/helpers/time_bound.py",
        "episodes": f"seed {HELD_OUT_SEED}, environments 0 to {HELD_OUT - 1}, episode 0",
        "start": PANDA_READY,
        "tolerance": TOLERANCE,
        "target": [[round(x, 7) for x in target] for target in targets.tolist()],
        "seconds": [round(t, 5) for t in exact.tolist()],
        "seconds_within_tolerance": [round(t, 5) for t in near.tolist()],
    }
    BOUNDS.write_text(json.dumps(content, indent=None, separators=(",", ":")).replace("],[", "],\n["))
    print(f"{BOUNDS}: mean {exact.mean():.4f} s, within {TOLERANCE} m {near.mean():.4f} s")


if __name__ == "__main__":
    main()
