"""The same time steps, to the bit, from functions that have a derivative; new memory for each operation.

A drive's damping acts by the speed at the end of the step (found by an implicit step), which stays stable where an
arm's stretched or folded pose leaves a joint with hardly any inertia.
"""

from __future__ import annotations

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.dynamics import (
    bodies,
    joint_torque,
    link_frames,
    screws,
    solve_positive,
    upper_mass_matrix,
    with_diagonal,
)
from palaestra.envs.arm.friction import drag_slope, friction, has_drag
from palaestra.envs.arm.stepping.integrator import Drives, Motion
from palaestra.envs.arm.tables import tables


def integrate_functions(chain: SerialChain, motion: Motion, time_step: float, steps: int) -> tuple[Tensor, Tensor]:
    """:func:`~palaestra.envs.arm.stepping.integrate` for tensors that require a gradient."""
    q, dq = motion.q.contiguous(), motion.dq.contiguous()
    table = tables(chain, q.dtype, q.device)
    torque = motion.command
    for _ in range(steps):
        frames = link_frames(chain, q)
        axes, body = screws(chain, frames), bodies(chain, frames, motion.payload)
        matrix = upper_mass_matrix(chain, axes, body)
        rub = 1.0 if motion.friction is None else motion.friction
        load = joint_torque(chain, axes, body, dq) + friction(chain, dq) * rub
        if has_drag(chain):  # by an implicit step: damping may be large beside what little inertia a joint feels
            matrix = with_diagonal(matrix, time_step * drag_slope(chain, dq) * rub)
        if motion.drag is not None:
            load, matrix = load + motion.drag * dq, with_diagonal(matrix, time_step * motion.drag)
        if motion.drives is not None:
            torque = drive_torque(chain, motion.drives, matrix, load, motion.command - q, dq, time_step)
        dq = dq + time_step * solve_positive(matrix, torque - load)
        dq = torch.minimum(torch.maximum(dq, -table.velocity), table.velocity)
        free = q + time_step * dq
        q = torch.minimum(torch.maximum(free, table.q_min), table.q_max)
        dq = torch.where(q == free, dq, 0.0)  # a joint that met its end stands still
    return q, dq


def drive_torque(
    chain: SerialChain, drives: Drives, matrix: Tensor, load: Tensor, offset: Tensor, dq: Tensor, time_step: float
) -> Tensor:
    """The torque [dof, N] of the proportional-derivative drives during the next time step.

    Args:
        chain: the arm.
        drives: stiffness and damping.
        matrix: the mass matrix, of which the upper triangle is read, [dof, dof, N].
        load: torque that the motion takes by itself, [dof, N].
        offset: way to go, [dof, N] rad.
        dq: [dof, N] rad/s.
        time_step: s.
    """
    limit = tables(chain, dq.dtype, dq.device).torque
    spring = drives.stiffness * offset
    damped = with_diagonal(matrix, time_step * drives.damping)
    dq = dq + time_step * solve_positive(damped, spring - drives.damping * dq - load)
    return torch.minimum(torch.maximum(spring - drives.damping * dq, -limit), limit)
