"""Time steps of a chain's dynamics, for many arms: motors, friction and limits around the equations of motion.

1. A step is semi-implicit (velocity first). A joint that meets its end stops there.
2. Damping and Coulomb friction act by the speed at the end of the step, and so does the damping of the drives.
3. On a CPU the operations are recorded for a block of environments and run for one block after the other: what a block
   needs fits into a processor's cache. An environment's numbers do not depend on its block.
4. One thread computes a block, or all of them a larger one, whichever turns out to be faster
   (:mod:`palaestra.envs.arm.stepping.thread_use`).
5. Nothing here has a derivative.
"""

from __future__ import annotations

import math
import threading
import time
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.friction import drag_slope, friction, has_drag, identified_friction
from palaestra.envs.arm.stepping import equations
from palaestra.envs.arm.stepping.link_tables import carried_mass, link_tables
from palaestra.envs.arm.stepping.moving_frames import MovingFrames
from palaestra.envs.arm.stepping.operations import Operations
from palaestra.envs.arm.stepping.solution import Systems, eliminate, eliminate_right_side, solution
from palaestra.envs.arm.stepping.thread_use import allowed_threads, faster_way, threads_within
from palaestra.envs.arm.tables import tables
from palaestra.envs.core.replay.recording import host_call

BLOCK = 2048  # environments for one thread
_KEPT = 6  # recordings, each with a few megabytes: of training and evaluation, say


def fewest_count(device: torch.device) -> bool:
    """True where the fewest operations are the fastest, see :class:`Operations`."""
    return device.type != "cpu"


class Drives(NamedTuple):
    """Proportional-derivative drives of the joints."""

    stiffness: Tensor  # [dof, 1] or [dof, N] N m/rad
    damping: Tensor  # as stiffness, N m s/rad


class Motion(NamedTuple):
    """What moves the arms in some time steps, and where they are before."""

    q: Tensor  # [dof, N] rad
    dq: Tensor  # [dof, N] rad/s
    command: Tensor  # [dof, N] torques (N m), or angles (rad) that drives follow
    friction: Tensor | None  # [N] factor of all friction; None for 1
    payload: Tensor | None = None  # [N] kg at the tool centre
    drives: Drives | None = None
    drag: Tensor | None = None  # [dof, N] damping besides the chain's own, N m s/rad


def integrate(chain: SerialChain, motion: Motion, time_step: float, steps: int) -> tuple[Tensor, Tensor]:
    """Angles and velocities [dof, N] after some steps.

    Args:
        chain: the arm, which needs limits of velocity and torque.
        motion: all of one floating dtype and on one device.
        time_step: s.
        steps: how many, at least 1.
    """
    if motion.q.device.type != "cpu":
        q, dq = _in_blocks(chain, motion, time_step, steps, motion.q.shape[1])
    else:  # which is recorded here already
        q, dq = host_call(_on_host, chain, motion, time_step, steps)
    return q, dq


def _on_host(chain: SerialChain, motion: Motion, time_step: float, steps: int) -> Tensor:
    """:func:`integrate` on a CPU, [2, dof, N]."""
    n, threads = motion.q.shape[1], allowed_threads()
    if n <= BLOCK or threads == 1:
        with threads_within(1):
            return _in_blocks(chain, motion, time_step, steps, BLOCK)
    pace = faster_way(chain, n, threads, motion.payload is None, motion.drives is None)
    way, start = pace.choose(), time.perf_counter()
    with threads_within(threads if way else 1):
        after = _in_blocks(chain, motion, time_step, steps, BLOCK * threads if way else BLOCK)
    pace.took(way, time.perf_counter() - start)
    return after


def _in_blocks(chain: SerialChain, motion: Motion, time_step: float, steps: int, largest: int) -> Tensor:
    """:func:`integrate` in equal blocks of up to ``largest`` environments, [2, dof, N]."""
    q = motion.q
    n = q.shape[1]
    block = math.ceil(n / math.ceil(n / largest)) if n else 0
    alike = motion.drives is not None and motion.drives.stiffness.shape[1] == 1  # in all environments
    optional = [part is not None for part in (motion.friction, motion.payload, motion.drag, motion.drives)]
    settings: Any = (chain, block, q.dtype, q.device, time_step, *optional, alike)
    with torch.no_grad():
        # tensors of other classes, such as those that only follow shapes, have no memory to be kept
        integrator = _kept(threading.get_ident(), *settings) if type(q) is Tensor else Integrator(*settings)
        if motion.drives is not None and alike:
            integrator.set_drives(motion.drives)
        if block == n:
            return integrator.run(motion, slice(0, n), steps).clone()
        after = q.new_empty(2, *q.shape)
        for first in range(0, n, block):
            # the last block overlaps the one before, and computes the same
            rows = slice(min(first, n - block), min(first + block, n))
            after[:, :, rows] = integrator.run(motion, rows, steps)
    return after


class Integrator:
    """The recorded operations of a step, for one block of environments of one chain."""

    def __init__(
        self,
        chain: SerialChain,
        block: int,
        dtype: torch.dtype,
        device: torch.device,
        time_step: float,
        with_friction: bool,
        with_payload: bool,
        with_drag: bool,
        with_drives: bool,
        drives_alike: bool,
    ) -> None:
        """Record them; see :func:`integrate`. ``block`` is the number of environments."""
        self._chain, self._table = chain, tables(chain, dtype, device)
        self._operations = Operations(fewest=fewest_count(device))
        with torch.inference_mode(False), torch.no_grad():  # memory that is written to in any mode
            self._state = torch.empty(2, chain.dof, block, dtype=dtype, device=device)
            self._q, self._dq = self._state
            self._command = torch.empty_like(self._q)
            self._friction = torch.empty_like(self._q[0]) if with_friction else None
            self._seconds, self._time_step = time_step, self._q.new_full((1,), time_step)
            self._payload = torch.empty_like(self._q[0]) if with_payload else None
            if with_payload:
                self._masses = self._q.new_empty(3, *self._q.shape)
            self._drag, self._dragged = (torch.empty_like(self._q) if with_drag else None for _ in range(2))
            self._varied = with_drives and not drives_alike
            if with_drives:
                size = 1 if drives_alike else block
                self._stiffness, self._damping, self._damped = self._q.new_empty(3, chain.dof, size)
            self._record(with_drives)

    def set_drives(self, drives: Drives) -> None:
        """The numbers of the drives in the next runs, as many as were recorded."""
        self._stiffness.copy_(drives.stiffness)
        self._damping.copy_(drives.damping)
        self._damped.copy_(self._seconds * drives.damping)

    def run(self, motion: Motion, rows: slice, steps: int) -> Tensor:
        """Angles and velocities [2, dof, block] after some steps of some environments, in memory that is used again."""
        torch.stack((motion.q[:, rows], motion.dq[:, rows]), out=self._state)
        self._command.copy_(motion.command[:, rows])
        if self._friction is not None and motion.friction is not None:
            self._friction.copy_(motion.friction[rows])
        if motion.payload is not None:
            self._set_payload(motion.payload[rows])
        if self._drag is not None and self._dragged is not None and motion.drag is not None:
            self._drag.copy_(motion.drag[:, rows])
            self._dragged.copy_(self._seconds * self._drag)
        if self._varied and motion.drives is not None:
            self.set_drives(Drives(*(part[:, rows] for part in motion.drives)))
        for _ in range(steps):
            self._operations.run()
        return self._state

    def _set_payload(self, payload: Tensor) -> None:
        assert self._payload is not None
        self._payload.copy_(payload)
        self._masses[1:] = self._table.mass
        self._masses[1:, -1] += payload
        self._masses[0] = carried_mass(self._masses[1])

    def _record(self, with_drives: bool) -> None:
        operations, chain, q, dq = self._operations, self._chain, self._q, self._dq
        parts = equations.Together.empty(q) if operations.fewest else equations.Apart.empty(q)
        frames, load = MovingFrames(chain, operations, q), parts.load
        z = self._record_screws(frames, load.axes)
        links, point = link_tables(chain, q.dtype, q.device, frames.signs), None
        masses = links.masses if self._payload is None else self._masses
        if self._payload is not None:
            point = equations.PointMass(self._payload, frames.tool_centre()[:5])
        equations.links_as_bodies(operations, frames, z, links.shares, links.masses[1], point, load)
        equations.loads(operations, dq, chain.gravity, masses, parts)
        systems = Systems.empty(q, 1 + with_drives)  # with drives, the first has their damping
        bias = equations.matrix_and_bias(operations, load, systems)
        if any(chain.armature):
            equations.add_to_diagonal(operations, systems.matrix[0], self._table.armature)
        resistance = self._record_friction(bias, systems.matrix[0])
        if with_drives:
            torque, shares = self._record_drives(systems, resistance)
            operations.subtract(torque, resistance, systems.right[1])
            eliminate_right_side(operations, systems, shares, 1)
        else:
            operations.subtract(self._command, resistance, systems.right[0])
            shares = eliminate(operations, systems)
        self._record_motion(solution(operations, systems, shares, int(with_drives)))

    def _record_screws(self, frames: MovingFrames, axes: Tensor) -> Tensor:
        """The links' z [6, dof, N]; the joints' motions about the origin, (z, p × z) or (0, z), go into ``axes``."""
        operations = self._operations
        turn_all = all(self._chain.turning)
        z = axes[0] if turn_all else torch.empty_like(axes[0])
        frames.write_z(z)
        operations.whole_cross(frames.position, z, axes[1])
        if not turn_all:
            slides, along = 1.0 - self._table.turning, torch.empty_like(z)
            operations.multiply(z, self._table.turning, axes[0])
            operations.multiply(axes[1], self._table.turning, axes[1])
            operations.multiply(z, slides, along)
            operations.add(axes[1], along, axes[1])
        return z

    def _record_friction(self, bias: Tensor, matrix: Tensor) -> Tensor:
        """The torque [dof, N] that resists, with friction; how it rises with the speed goes into the matrix."""
        chain, operations, dq, factor = self._chain, self._operations, self._dq, self._friction
        brake, resistance = torch.empty_like(dq), torch.empty_like(dq)
        if has_drag(chain):
            operations.call(lambda: brake.copy_(friction(chain, dq)))
        else:
            formula = identified_friction(chain, dq.dtype, dq.device)
            operations.add(dq, formula.shift, brake)
            operations.multiply(brake, formula.slope, brake)
            operations.call(torch.tanh, brake, out=brake)
            operations.subtract(brake, formula.rest, brake)
            operations.multiply(brake, formula.size, brake)
        if factor is not None:
            operations.multiply(brake, factor, brake)
        operations.add(bias, brake, resistance)
        if has_drag(chain):  # damping may be large beside what little inertia a joint feels
            rise = torch.empty_like(dq)
            operations.call(lambda: torch.mul(self._time_step, drag_slope(chain, dq), out=rise))
            if factor is not None:
                operations.multiply(rise, factor, rise)
            equations.add_to_diagonal(operations, matrix, rise)
        if self._drag is not None and self._dragged is not None:
            operations.multiply(self._drag, dq, brake)
            operations.add(resistance, brake, resistance)
            equations.add_to_diagonal(operations, matrix, self._dragged)
        return resistance

    def _record_drives(self, systems: Systems, resistance: Tensor) -> tuple[Tensor, Tensor]:
        """The torque [dof, N] of the drives during the next time step, and what the elimination gives.

        Damping by the speed at the end of the step (found by an implicit step) stays stable where an arm's stretched or
        folded pose leaves a joint with hardly any inertia.
        """
        operations, dq, limit = self._operations, self._dq, self._table.torque
        spring, speed, right = torch.empty_like(dq), torch.empty_like(dq), systems.right[0]
        operations.subtract(self._command, self._q, spring)
        operations.multiply(spring, self._stiffness, spring)
        operations.copy(systems.matrix[0], systems.matrix[1])
        equations.add_to_diagonal(operations, systems.matrix[0], self._damped)
        operations.multiply(dq, self._damping, right)
        operations.subtract(spring, right, right)
        operations.subtract(right, resistance, right)
        shares = eliminate(operations, systems)
        change = solution(operations, systems, shares, 0)
        operations.multiply(change, self._time_step, change)
        operations.add(dq, change, speed)
        operations.multiply(speed, self._damping, speed)
        operations.subtract(spring, speed, spring)
        operations.call(torch.clamp, spring, -limit, limit, out=spring)
        return spring, shares

    def _record_motion(self, acceleration: Tensor) -> None:
        operations, table, q, dq, time_step = self._operations, self._table, self._q, self._dq, self._time_step
        free, inside, nothing = torch.empty_like(q), torch.empty_like(q), q.new_zeros(1)
        low, high, fastest = (limit.expand_as(q).clone() for limit in (table.q_min, table.q_max, table.velocity))
        operations.multiply(acceleration, time_step, acceleration)
        operations.add(dq, acceleration, dq)
        operations.call(torch.clamp, dq, -fastest, fastest, out=dq)
        operations.multiply(dq, time_step, free)
        operations.add(q, free, free)
        operations.call(torch.clamp, free, low, high, out=q)
        operations.call(torch.eq, q, free, out=inside)  # 1 or 0
        operations.add_product(dq, dq, inside, start=nothing)  # a joint that met its end stands still


@lru_cache(_KEPT)
def _kept(thread: int, *settings: Any) -> Integrator:
    """An integrator of this thread: another one could be amid a step."""
    return Integrator(*settings)
