"""The equations of motion in every time step: the operations that compute torques, inertias and solutions.

They are those of :mod:`palaestra.envs.arm.dynamics`, in the same order for each number, so that both give the same
bits. Here a vector's components, the links, and what is computed alike (velocity and acceleration, moment and force)
share an operation.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from palaestra.envs.arm.stepping.moving_frames import MovingFrames
from palaestra.envs.arm.stepping.operations import Operations, once_on, twice_on
from palaestra.envs.arm.stepping.solution import Systems


class Load(NamedTuple):
    """Memory that the operations fill."""

    axes: Tensor  # [2, 6, dof, N] motion of each joint: z and p × z, or 0 and z
    first: Tensor  # [2, 5, dof, N] spin and momentum of each link
    wrench: Tensor  # [2, 3, dof, N] moment and force that each joint carries
    moment: Tensor  # […, 5, dof, N] mass times centre of mass
    inertia: Tensor  # […, 3, 3, dof, N] of which the rows 0 and 1 and the column 2 are those of a symmetric matrix
    offered: tuple[Tensor, ...]  # six [dof, dof + 1, N]: of each joint the reactions from its own on, …, and its wrench


class Apart(NamedTuple):
    """For a CPU, more parts of one memory: what has a sum of its own is there once."""

    load: Load
    both_linear: Tensor  # [2, 3, dof, N] momentum and force
    both_angular: Tensor  # [2, 3, dof, N] spin and moment
    summed: Tensor  # [20, dof, N] wrench, moment and inertia
    reaction: Tensor  # [2, 3, dof, N] moment and force that accelerate all links behind, for each joint's motion

    @classmethod
    def empty(cls, like: Tensor) -> Apart:
        """For ``like`` [dof, N]."""
        dof, n = like.shape
        memory = like.new_zeros(30, 2 * dof, n)  # links in its second half, reactions in the first
        row, rest, links = 2 * dof * n, (2 * dof * n, n, 1), memory[:, dof:]
        linear = memory.as_strided((2, 3, dof, n), (8 * row, *rest), 5 * row + dof * n)  # rows 5 … 7 and 13 … 15
        angular = memory.as_strided((2, 3, dof, n), (10 * row, *rest), dof * n)  # rows 0 … 2 and 10 … 12
        halves = memory[10:16].view(2, 3, 2 * dof, n)
        load = Load(
            axes=like.new_zeros(2, 6, dof, n),
            first=links[:10].view(2, 5, dof, n),
            wrench=halves[:, :, dof:],
            moment=links[16:21],
            inertia=links[21:].view(3, 3, dof, n),
            offered=memory.as_strided((6, dof, dof + 1, n), (row, n, n, 1), 10 * row).unbind(),
        )
        return cls(load, linear, angular, links[10:], halves[:, :, :dof])


class Together(NamedTuple):
    """For the fewest operations: bodies that are moved three ways, at once. Of the joints' motions those are composite
    ones, of the links' accelerations and velocities the links."""

    load: Load
    motion: Tensor  # [3, 2, 6, dof, N] the joints' motions, accelerations, velocities
    body: Tensor  # [3, 14, dof, N] moment and inertia
    moment: Tensor  # [3, 5, dof, N]
    inertia: Tensor  # [3, 3, 3, dof, N]
    linear: Tensor  # [3, 3, dof, N] forces of the joints' motions, those that each joint carries, momenta
    angular: Tensor  # [3, 3, dof, N]

    @classmethod
    def empty(cls, like: Tensor) -> Together:
        """For ``like`` [dof, N]."""
        dof, n = like.shape
        motion, body = like.new_zeros(3, 2, 6, dof, n), like.new_zeros(3, 14, dof, n)
        memory = like.new_zeros(2, 6, 3 * dof, n)
        inertia, row = body[:, 5:].view(3, 3, 3, dof, n), 3 * dof * n
        angular, linear = (memory.as_strided((3, 3, dof, n), (dof * n, row, n, 1), k * 6 * row) for k in (0, 1))
        rows = [k * 6 + i for k in (0, 1) for i in range(3)]
        load = Load(
            axes=motion[0],
            first=memory[:, :5, 2 * dof :],
            wrench=memory[:, :3, dof : 2 * dof],
            moment=body[1:, :5],
            inertia=inertia[1:],
            offered=tuple(memory.as_strided((dof, dof + 1, n), (n, n, 1), k * row) for k in rows),
        )
        return cls(load, motion, body, body[:, :5], inertia, linear, angular)


class PointMass(NamedTuple):
    """A mass at the tool centre of the last link."""

    mass: Tensor  # [N] kg
    place: Tensor  # [5, N] m


def links_as_bodies(
    operations: Operations,
    frames: MovingFrames,
    z: Tensor,
    shares: Tensor,
    mass: Tensor,
    payload: PointMass | None,
    load: Load,
) -> None:
    """Moment and inertia of the links about the world's origin; the inertia is x uᵀ + y vᵀ + z wᵀ and a point's.

    Args:
        operations: where to record.
        frames: of the links.
        z: [6, dof, N], theirs.
        shares: [3, 4, 1, dof, 1], see ``LinkTables``.
        mass: [dof, 1] kg, without the payload.
        payload: what the last link carries, or None.
        load: memory for the results.
    """
    columns = frames.x, frames.y, z[:3]
    made = columns[0].new_empty(4, *columns[0].shape)  # u, v, w and the centre of mass from the link's origin
    operations.multiply(columns[0], shares[0], made)
    for column, share in zip(columns[1:], shares[1:], strict=True):
        operations.add_product(made, column.unsqueeze(0), share)
    whole = torch.empty_like(frames.position)
    operations.whole_sum(made[3], frames.position, whole)
    centre = whole[:5]
    operations.multiply(centre, mass, load.moment)
    moment = load.moment if load.moment.dim() == 3 else load.moment[0]
    _inertia_of_points(operations, centre, moment, load.inertia)
    for column, more in zip(columns, made[:3], strict=True):
        operations.add_product(load.inertia, column.unsqueeze(1), more.unsqueeze(0))
    if payload is not None:
        _add_point(operations, payload, load)
    operations.copy(load.inertia[..., 0, 1, :, :], load.inertia[..., 1, 0, :, :])


def _inertia_of_points(operations: Operations, centre: Tensor, moment: Tensor, out: Tensor) -> None:
    """Inertia […, 3, 3, L, N] of point masses at ``centre`` [5, L, N], ``moment`` being mass times that."""
    nothing = out.new_full((1,), -0.0)  # from which a product is taken without a change of any zero's sign
    operations.add_product(out, centre[:3].unsqueeze(1), moment[:3].unsqueeze(0), sign=-1.0, start=nothing)
    squares = torch.empty_like(centre)
    operations.multiply(centre, moment, squares)
    operations.add(once_on(squares), twice_on(squares), out.diagonal(dim1=-4, dim2=-3).movedim(-1, -3))


def _add_point(operations: Operations, payload: PointMass, load: Load) -> None:
    place = payload.place.unsqueeze(1)  # [5, 1, N]
    moment = torch.empty_like(place)
    inertia = place.new_empty(3, 3, *place.shape[1:])
    operations.multiply(place, payload.mass, moment)
    _inertia_of_points(operations, place, moment, inertia)
    for total, more in ((load.moment[..., -1:, :], moment), (load.inertia[..., -1:, :], inertia)):
        operations.add(total, more, total)


def loads(
    operations: Operations, dq: Tensor, gravity: tuple[float, ...], masses: Tensor, parts: Apart | Together
) -> None:
    """What each joint offers: by recursive Newton-Euler the wrenches that keep the velocities as they are, and by
    composite bodies what accelerates all links behind a joint that moves by itself.

    Args:
        operations: where to record.
        dq: [dof, N] velocities.
        gravity: m/s².
        masses: [3, dof, 1] or [3, dof, N] kg, of each link and all behind it, and twice of each link.
        parts: with moment and inertia of the links.
    """
    if isinstance(parts, Apart):
        _loads_apart(operations, dq, gravity, masses, parts)
    else:
        _loads_together(operations, dq, gravity, masses, parts)


def _loads_apart(operations: Operations, dq: Tensor, gravity: tuple[float, ...], masses: Tensor, apart: Apart) -> None:
    load, axes = apart.load, apart.load.axes
    shares = axes.new_empty(2, 5, *dq.shape)  # S_i q̇_i
    motion = axes.new_zeros(2, *shares.shape)  # spatial velocities and accelerations of the links
    velocity, change = motion
    operations.multiply(axes[:, :5], dq, shares)
    rates = change[:, :3]
    _accelerations(operations, shares, velocity, rates)
    for row, g in enumerate(gravity):
        if g:
            operations.subtract(rates[1, row], g, rates[1, row])  # the base's acceleration against it
    operations.wrap(change)
    body = masses[1], load.moment, load.inertia
    _apply(operations, body, motion[:, 0], motion[:, 1], apart.both_angular, apart.both_linear)
    _wrenches(operations, velocity, load)
    operations.sum_from_the_last(apart.summed, apart.summed)
    body = masses[0], load.moment, load.inertia
    _apply(operations, body, axes[0], axes[1], apart.reaction[0], apart.reaction[1])


def _loads_together(
    operations: Operations, dq: Tensor, gravity: tuple[float, ...], masses: Tensor, together: Together
) -> None:
    axes, change, velocity = together.motion
    shares, rates = torch.empty_like(axes), axes.new_empty(2, 3, *dq.shape)
    operations.multiply(axes, dq, shares)
    _accelerations(operations, shares, velocity, rates)
    base = rates.new_tensor([(0.0, 0.0, 0.0), gravity]).view(2, 1, 3, 1, 1)
    operations.subtract(rates.unsqueeze(1), base, change.view(2, 2, *rates.shape[1:]))
    operations.sum_from_the_last(together.body[1], together.body[0])
    body = masses.unsqueeze(1), together.moment, together.inertia
    _apply(operations, body, together.motion[:, 0], together.motion[:, 1], together.angular, together.linear)
    _wrenches(operations, velocity, together.load)
    operations.sum_from_the_last(together.load.wrench, together.load.wrench)


def _accelerations(operations: Operations, shares: Tensor, velocity: Tensor, rates: Tensor) -> None:
    """Velocities [2, 5 or 6, dof, N] of links from the joints' shares, and accelerations [2, 3, dof, N] without that
    of the base, both angular and linear."""
    operations.running_sum(shares, velocity)
    operations.cross(velocity[0], shares, rates)  # V_i × S_i q̇_i
    operations.add_cross(rates[1], velocity[1], shares[0])
    operations.running_sum(rates, rates)


def _wrenches(operations: Operations, velocity: Tensor, load: Load) -> None:
    """What moves each link, from what accelerates it."""
    operations.wrap(load.first)
    operations.add_cross(load.wrench, velocity[0], load.first)
    operations.add_cross(load.wrench[0], velocity[1], load.first[1])


def matrix_and_bias(operations: Operations, load: Load, systems: Systems) -> Tensor:
    """The first system's matrix, the mass matrix, of which only i ≤ j count; and the torques [dof, N] against wrenches.

    Both are products of a joint's motion, with the reactions from its own on and with its wrench: one operation for
    all. The torques lie below the matrix's diagonal; read them before the elimination.
    """
    products = systems.products()
    operations.dot([row.unsqueeze(1) for row in _rows(load.axes)], load.offered, products)
    return products[:, -1]


def add_to_diagonal(operations: Operations, matrix: Tensor, more: Tensor) -> None:
    """Add ``more`` ([dof, 1] or [dof, N]) to the diagonal of a matrix [dof, dof, N]."""
    diagonal = matrix.diagonal().T
    operations.add(diagonal, more, diagonal)


def _rows(pair: Tensor) -> list[Tensor]:
    """The components [L, N] of two vectors, as views."""
    return [row for vector in pair for row in vector[:3]]


def _apply(
    operations: Operations,
    body: tuple[Tensor, Tensor, Tensor],
    angular: Tensor,
    linear: Tensor,
    out_angular: Tensor,
    out_linear: Tensor,
) -> None:
    """Spatial inertia times a motion ([…, 5, L, N] each): such as spin and momentum ([…, 3, L, N]) of a velocity."""
    mass, moment, inertia = body
    operations.multiply(linear[..., :3, :, :], mass, out_linear)
    operations.add_cross(out_linear, angular, moment)
    operations.multiply(inertia[..., 0, :, :, :], angular[..., 0:1, :, :], out_angular)
    operations.add_product(out_angular, inertia[..., 1, :, :, :], angular[..., 1:2, :, :])
    operations.add_product(out_angular, inertia[..., :, 2, :, :], angular[..., 2:3, :, :])
    operations.add_cross(out_angular, moment, linear)
