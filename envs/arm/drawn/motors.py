"""The motors of an arm: what they make of an action, with the strength and the damping of the episode.

``torque`` takes shares of each joint's torque limit. ``pd`` takes a target for each joint, up to 0.2 rad from where it
is (0.05 m if prismatic), and a proportional-derivative drive turns it into torque in every time step, within the
limits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.dynamics import Frames, bodies, joint_torque, screws, upper_mass_matrix
from palaestra.envs.arm.friction import friction
from palaestra.envs.arm.stepping import Drives, Motion
from palaestra.envs.arm.tables import tables

PD_RANGE, PD_RANGE_METRES = 0.2, 0.05  # rad, and m for prismatic joints


class Motors:
    """The motors of a chain with one kind of control."""

    def __init__(self, chain: SerialChain, control: str, start: Frames, period: float) -> None:
        """``start`` is the arm, one, where drives are critically damped; ``period`` that of actions, s."""
        self.chain, self.control, self._period = chain, control, period
        table = tables(chain, torch.float32, start.position.device)
        inertia = upper_mass_matrix(chain, screws(chain, start), bodies(chain, start)).diagonal().T  # [dof, 1]
        self.pd_range = PD_RANGE_METRES + (PD_RANGE - PD_RANGE_METRES) * table.turning  # [dof, 1] rad
        self.stiffness = table.torque / self.pd_range  # [dof, 1] N m/rad
        self.damping = 2.0 * (self.stiffness * inertia).sqrt()  # [dof, 1] N m s/rad, critical at the start

    def to(self, device: torch.device | str) -> None:
        for name in ("pd_range", "stiffness", "damping"):
            setattr(self, name, getattr(self, name).to(device))

    def motion(
        self, q: Tensor, dq: Tensor, action: Tensor, rub: Tensor | None, payload: Tensor | None, gain: Any, damping: Any
    ) -> Motion:
        """What moves the arms during a step.

        Args:
            q, dq: [dof, N] rad and rad/s.
            action: [dof, N] in ±1.
            rub: factor of all friction, [N], or None for 1.
            payload: [N] kg, or None.
            gain: factor of what the motors make of the action, [N] or one float.
            damping: more damping, as a share of the torque limit at the speed limit, [N] or one float.
        """
        table = tables(self.chain, q.dtype, q.device)
        drag = None
        if isinstance(damping, Tensor) or damping:
            drag = (table.torque / table.velocity * damping).expand_as(q)
        if self.control == "pd":
            drives = Drives(self.stiffness, self.damping)
            if isinstance(gain, Tensor) or gain != 1.0:
                drives = Drives(gain * self.stiffness, gain * self.damping)
            return Motion(q, dq, q + action * self.pd_range, rub, payload, drives, drag)
        alone = not isinstance(gain, Tensor) and gain == 1.0
        share = action if alone else (gain * action).clamp(-1.0, 1.0)
        return Motion(q, dq, share * table.torque, rub, payload, None, drag)

    def shares(self, dq: Tensor, action: Tensor, gain: Any) -> Tensor:
        """Torque as a share of the limits [N, dof], of drives as the step begins; ``dq`` and ``action`` [N, dof]."""
        taken: Tensor = (gain * action.T).T
        if self.control == "torque":
            return taken
        limit = tables(self.chain, dq.dtype, dq.device).torque
        pull = self.stiffness * self.pd_range * taken.T - gain * self.damping * dq.T
        found: Tensor = (pull / limit).T
        return found

    def action_for(self, frames: Frames, dq: Tensor, speed: Tensor, response: float) -> Tensor:
        """The action [N, dof] that brings speeds [dof, N] about, by inverse dynamics; ``response`` in 1/s."""
        chain, table = self.chain, tables(self.chain, dq.dtype, dq.device)
        axes, body = screws(chain, frames), bodies(chain, frames)
        if self.control == "torque":
            torque = joint_torque(chain, axes, body, dq, response * (speed - dq)) + friction(chain, speed)
            return (torque / table.torque).clamp(-1.0, 1.0).T.contiguous()
        # the drive's damping settles at the speed for which its spring carries weight, friction and damping
        load = joint_torque(chain, axes, body, speed) + friction(chain, speed) + self.damping * speed
        offset = load / self.stiffness + 0.5 * self._period * speed  # half of the way in this step
        return (offset / self.pd_range).clamp(-1.0, 1.0).T.contiguous()
