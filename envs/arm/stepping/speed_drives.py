"""Drives that follow a commanded speed with constant acceleration and brake in time for a joint's end.

Both ways of a joint, the mirror image of each other, are computed in one operation: positions and velocities with
their own sign, and with the opposite one. A change of sign is exact.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.tables import tables


class _Limits(NamedTuple):
    """The limits of a chain's drives; the first of two is of the positive way."""

    ways: Tensor  # [2, 1, 1, 1] 1 and −1
    end: Tensor  # [2, dof, 1] rad, of positions times the way
    acceleration: Tensor  # [dof, 1] rad/s²
    braking: Tensor  # [2, dof, 1] rad/s², the same times the way
    change: Tensor  # [2, dof, 1] rad/s, of the velocity in a step
    speed: tuple[Tensor, Tensor]  # [dof, 1] rad/s, the lowest and the highest
    squared: Tensor  # [1] s², of the period


@cache
def _limits(chain: SerialChain, period: float, dtype: torch.dtype, device: torch.device) -> _Limits:
    with torch.inference_mode(False):  # as the first caller's mode must not stay in the numbers
        table = tables(chain, dtype, device)
        ways, acceleration = table.q_min.new_tensor([1.0, -1.0]).view(2, 1, 1, 1), table.acceleration
        end = torch.stack((table.q_max, -table.q_min))
        change = torch.stack((-acceleration * period, acceleration * period))
        speed, squared = (-table.velocity, table.velocity), ways.new_tensor([period**2])
        return _Limits(ways, end, acceleration, ways[:, 0] * acceleration, change, speed, squared)


def driven(chain: SerialChain, joints: Tensor, command: Tensor, period: float) -> tuple[Tensor, Tensor]:
    """Angles and velocities [dof, N] after a step.

    Braking at full deceleration from v takes at most v²/(2a) + v · period / 2, the second term because the last step of
    it is not a whole one. The room to the end shrinks by (velocity + v) / 2 · period during this step.

    Args:
        chain: the arm, which needs limits of velocity and acceleration.
        joints: angles and velocities, [2, dof, N] rad and rad/s.
        command: velocities, [dof, N] rad/s.
        period: of a step, s.
    """
    table, limits = tables(chain, joints.dtype, joints.device), _limits(chain, period, joints.dtype, joints.device)
    both, (q, dq) = joints * limits.ways, joints  # [2 ways, 2, dof, N]
    left = (limits.end - both[:, 0] - both[:, 1] * (0.5 * period)).clamp(min=0.0)
    # the largest velocities either way from which a joint still stops within its room
    most = limits.braking * (torch.addcdiv(limits.squared, left, limits.acceleration, value=2.0).sqrt() - period)
    upper, lower = most.clamp(*limits.speed)
    slowest, fastest = dq + limits.change
    velocity = command.clamp(lower, upper).clamp(slowest, fastest)
    angle = q + (dq + velocity) * (0.5 * period)
    return angle.clamp(table.q_min, table.q_max), velocity  # rounding, if anything
