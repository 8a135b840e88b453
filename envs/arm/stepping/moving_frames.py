"""Frames of a chain's links in every time step: the operations that compute them, from one link to the next.

1. A frame is three unit vectors and a position, in the axes of the world, z along the joint's axis. A revolute joint
   turns x and y of the frame that is placed for it: x' = x cos q + y sin q, y' = y cos q − x sin q.
2. Where a placement turns by right angles, an axis of the placed frame is one of the frame before, or its opposite: it
   is not computed, but known by where it lies and a sign. Signs pass into the operations that read them, and into the
   tables of the links (:func:`palaestra.envs.arm.stepping.link_tables.link_tables`); a change of sign is exact, so
   that no result depends on it.
3. What no joint moves (the first joint's axis and position) is computed once.
4. There are two copies of x and y, one behind the other in memory: so one view holds (x, y) and another one (y, x),
   whichever lies first, and a joint's turn is two operations.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from palaestra.envs.arm.chain import Placement, SerialChain
from palaestra.envs.arm.stepping.operations import Operations, in_two

_NOTHING = 1e-15  # offsets and shares below it are rounding of a right angle


class Axis(NamedTuple):
    """A unit vector: ``sign`` times what lies in ``memory``."""

    memory: Tensor  # [3, N], the first copy
    sign: float
    fixed: bool  # the same in all time steps
    place: tuple[int, int] | None  # block and slot in the columns' memory, if it lies there


class MovingFrames:
    """The frames of the links, with room for N environments.

    Attributes:
        x, y: [3, dof, N], times the signs.
        position: [6, dof, N] m, (x, y, z, x, y, z).
        signs: of each link's x and y in memory.
    """

    def __init__(self, chain: SerialChain, operations: Operations, q: Tensor) -> None:
        """Record the operations in ``operations``, from q [dof, N] rad or m."""
        dof, n = q.shape
        self._chain, self._later, self._now = chain, operations, Operations(at_once=True)
        self._cos, self._sin = q.new_empty(2, dof, n)
        operations.call(torch.cos, q, out=self._cos)
        operations.call(torch.sin, q, out=self._sin)
        self._sines, self._sine_signs = q.new_empty(2, dof, n), q.new_ones(2, dof, 1)  # as x and y are turned
        operations.multiply(self._sin, self._sine_signs, self._sines)
        # x of link i lies in slot i + 2, x of the base in slot 1; so do the ys, and in slot 0 of theirs z of the base
        self._columns = q.new_zeros(2, 2, 3, dof + 2, n)
        for block, slot, row in ((0, 1, 0), (1, 1, 1), (1, 0, 2)):
            self._columns[:, block, row, slot] = 1.0
        self.x, self.y = self._columns[0, :, :, 2:]
        self.position = q.new_zeros(6, dof, n)
        base = [self._axis(block, slot, 1.0, True) for block, slot in ((0, 1), (1, 1), (1, 0))]
        frame, origin, origin_fixed = base, q.new_zeros(6, n), True
        signs = []
        self._axes: list[Axis] = []
        for i in range(dof):
            stage = chain.stages[i]
            *plane, axis = self._placed(frame, stage)
            if chain.turning[i]:
                if i == 0 or not self._stays(i):
                    last = next((j for j in range(i + 1, dof) if not self._stays(j)), dof)
                    room = self.position[:, i:last]  # for those behind that are at the same place too
                    _, origin_fixed = self._moved(frame, stage, origin.unsqueeze(1), origin_fixed, room)
                origin, turned = self.position[:, i], self._turned(i, plane)
            else:
                start, _ = self._moved(frame, stage, origin, origin_fixed, torch.empty_like(origin))
                origin, origin_fixed = self.position[:, i], False
                whole, before = in_two(origin), in_two(start)
                self._later.add_product(whole, axis.memory, q[i], sign=axis.sign, start=before)
                turned = self._kept(i, plane)
            frame = [*turned, axis]
            signs.append((turned[0].sign, turned[1].sign))
            self._axes.append(axis)
        self.signs = tuple(signs)
        self._last = frame, origin, origin_fixed

    def write_z(self, out: Tensor) -> None:
        """Record the links' z into ``out`` [6, dof, N], without signs; those that lie side by side in one operation."""
        axes = self._axes
        signs = out.new_tensor([axis.sign for axis in axes]).unsqueeze(1)
        first = 0
        while first < len(axes):
            place, last = axes[first].place, first + 1
            while place is not None and last < len(axes) and axes[last].place == (place[0], place[1] + last - first):
                last += 1
            memory = axes[first].memory.unsqueeze(1)
            if place is not None:
                memory = self._columns[0, place[0], :, place[1] : place[1] + last - first]
            fixed = all(axis.fixed for axis in axes[first:last])
            self._list(fixed).multiply(memory, signs[first:last], in_two(out[:, first:last]))
            first = last

    def tool(self) -> tuple[list[Axis], Tensor]:
        """Record the tool's frame: its axes, and the tool centre [6, N] m."""
        frame = self._placed(self._last[0], self._chain.stages[-2])
        return self._placed(frame, self._chain.stages[-1]), self.tool_centre(frame)

    def tool_centre(self, flange_frame: list[Axis] | None = None) -> Tensor:
        """Record the tool centre [6, N] m; the axes of the flange's frame, where they are known."""
        frame, origin, fixed = self._last
        flange, tool = self._chain.stages[self._chain.dof :]
        origin, fixed = self._moved(frame, flange, origin, fixed, torch.empty_like(origin))
        frame = flange_frame or self._placed(frame, flange)
        return self._moved(frame, tool, origin, fixed, torch.empty_like(origin))[0]

    def _stays(self, link: int) -> bool:
        """True if a link's joint turns where the link before has its origin."""
        return self._chain.turning[link] and all(abs(offset) < _NOTHING for offset in self._chain.stages[link].position)

    def _axis(self, block: int, slot: int, sign: float, fixed: bool) -> Axis:
        return Axis(self._columns[0, block, :, slot], sign, fixed, (block, slot))

    def _list(self, fixed: bool) -> Operations:
        return self._now if fixed else self._later

    def _placed(self, frame: list[Axis], placement: Placement) -> list[Axis]:
        return [self._mixed(frame, shares) for shares in zip(*placement.rotation, strict=True)]

    def _mixed(self, axes: list[Axis], shares: tuple[float, ...]) -> Axis:
        """The sum of the axes times the shares."""
        parts = [(axis, share) for axis, share in zip(axes, shares, strict=True) if abs(share) >= _NOTHING]
        if len(parts) == 1 and abs(parts[0][1]) == 1.0:
            axis, share = parts[0]
            return axis._replace(sign=axis.sign * share)
        fixed = all(axis.fixed for axis, _ in parts)
        operations, total = self._list(fixed), torch.empty_like(axes[0].memory)
        for i, (axis, share) in enumerate(parts):
            if i == 0:
                operations.multiply(axis.memory, axis.sign * share, total)
                continue
            part = axis.memory
            if axis.sign * share != 1.0:
                part = torch.empty_like(total)
                operations.multiply(axis.memory, axis.sign * share, part)
            operations.add(total, part, total)
        return Axis(total, 1.0, fixed, None)

    def _moved(
        self, frame: list[Axis], placement: Placement, start: Tensor, fixed: bool, out: Tensor
    ) -> tuple[Tensor, bool]:
        """The position [6, …, N] that is placed so, in ``out``, and True if it stays."""
        parts = [(a, offset) for a, offset in zip(frame, placement.position, strict=True) if abs(offset) >= _NOTHING]
        fixed = fixed and all(axis.fixed for axis, _ in parts)
        for axis, offset in parts:
            before, after = in_two(start), in_two(out)
            along = axis.memory.unsqueeze(1) if out.dim() == 3 else axis.memory
            self._list(fixed).add(before, along, after, share=axis.sign * offset)
            start = out
        if start is not out:
            self._list(fixed).copy(start, out)
        return out, fixed

    def _turned(self, link: int, plane: list[Axis]) -> list[Axis]:
        """x and y of a link from those placed for its revolute joint: two operations, or four."""
        x, y = plane
        cos, sin, product = self._cos[link], self._sin[link], x.sign * y.sign
        out = self._columns[:, :, :, link + 2]  # [2 copies, 2, 3, N]
        if x.place is not None and y.place is not None:
            self._sine_signs[0, link], self._sine_signs[1, link] = product, -product
            self._later.multiply(self._pair(x.place, y.place), cos, out)
            self._later.add_product(out, self._pair(y.place, x.place), self._sines[:, link].unsqueeze(1))
        else:
            self._later.multiply(x.memory, cos, out[:, 0])
            self._later.multiply(y.memory, cos, out[:, 1])
            self._later.add_product(out[:, 0], y.memory, sin, sign=product)
            self._later.add_product(out[:, 1], x.memory, sin, sign=-product)
        return [self._axis(block, link + 2, old.sign, False) for block, old in enumerate(plane)]

    def _pair(self, first: tuple[int, int], second: tuple[int, int]) -> Tensor:
        """Two axes in this order, the second one from the second copy, as a view [2, 3, N]."""
        copies, blocks, row, slots, one = self._columns.stride()
        start, end = (block * blocks + slot * slots for block, slot in (first, second))
        return self._columns.as_strided(
            (2, 3, self._columns.shape[-1]), (copies + end - start, row, one), self._columns.storage_offset() + start
        )

    def _kept(self, link: int, plane: list[Axis]) -> list[Axis]:
        """x and y of a link whose joint is prismatic: those placed for it, in their memory."""
        kept = []
        for block, axis in enumerate(plane):
            new = self._axis(block, link + 2, axis.sign, axis.fixed)
            self._list(axis.fixed).copy(axis.memory, self._columns[:, block, :, link + 2])
            kept.append(new)
        return kept
