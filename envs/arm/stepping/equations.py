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
from palaestra.envs.arm.stepping.operations import Operations, in_two, once_on, twice_on
from palaestra.envs.arm.stepping.solution import Systems


class Load(NamedTuple):
    """Parts of one memory [30, 2 dof, N] that the operations fill: links in its second half, reactions in the first."""

    first: Tensor  # [2, 5, dof, N] spin and momentum of each link
    wrench: Tensor  # [2, 3, dof, N] moment and force that each joint carries
    moment: Tensor  # [5, dof, N] mass times centre of mass
    inertia: Tensor  # [3, 3, dof, N] of which the rows 0 and 1 and the column 2 are those of a symmetric matrix
    both_linear: Tensor  # [2, 3, dof, N] momentum and force
    both_angular: Tensor  # [2, 3, dof, N] spin and moment
    summed: Tensor  # [20, 2 dof, N] wrench, moment and inertia in the second half
    reaction: Tensor  # [2, 3, dof, N] moment and force that accelerate all links behind, for each joint's motion
    offered: Tensor  # [6, dof, dof + 1, N] of each joint: the reactions from its own on, …, and last its wrench

    @classmethod
    def empty(cls, like: Tensor) -> Load:
        """For ``like`` [dof, N]."""
        dof, n = like.shape
        memory = like.new_zeros(30, 2 * dof, n)
        row, rest, links = 2 * dof * n, (2 * dof * n, n, 1), memory[:, dof:]
        linear = memory.as_strided((2, 3, dof, n), (8 * row, *rest), 5 * row + dof * n)  # rows 5 … 7 and 13 … 15
        angular = memory.as_strided((2, 3, dof, n), (10 * row, *rest), dof * n)  # rows 0 … 2 and 10 … 12
        halves = memory[10:16].view(2, 3, 2 * dof, n)
        return cls(
            first=links[:10].view(2, 5, dof, n),
            wrench=halves[:, :, dof:],
            moment=links[16:21],
            inertia=links[21:].view(3, 3, dof, n),
            both_linear=linear,
            both_angular=angular,
            summed=memory[10:],
            reaction=halves[:, :, :dof],
            offered=memory.as_strided((6, dof, dof + 1, n), (row, n, n, 1), 10 * row),
        )


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
    operations.add(made[3], in_two(frames.position), in_two(whole))
    centre = whole[:5]
    operations.multiply(centre, mass, load.moment)
    _inertia_of_points(operations, centre, load.moment, load.inertia)
    for column, more in zip(columns, made[:3], strict=True):
        operations.add_product(load.inertia, column.unsqueeze(1), more.unsqueeze(0))
    if payload is not None:
        _add_point(operations, payload, load)
    operations.copy(load.inertia[0, 1], load.inertia[1, 0])


def _inertia_of_points(operations: Operations, centre: Tensor, moment: Tensor, out: Tensor) -> None:
    """Inertia [3, 3, L, N] of point masses at ``centre`` [5, L, N], ``moment`` being mass times that."""
    nothing = out.new_full((1,), -0.0)  # from which a product is taken without a change of any zero's sign
    operations.add_product(out, centre[:3].unsqueeze(1), moment[:3].unsqueeze(0), sign=-1.0, start=nothing)
    squares = torch.empty_like(centre)
    operations.multiply(centre, moment, squares)
    operations.add(once_on(squares), twice_on(squares), out.diagonal().movedim(-1, 0))


def _add_point(operations: Operations, payload: PointMass, load: Load) -> None:
    place = payload.place.unsqueeze(1)  # [5, 1, N]
    moment = torch.empty_like(place)
    inertia = place.new_empty(3, 3, *place.shape[1:])
    operations.multiply(place, payload.mass, moment)
    _inertia_of_points(operations, place, moment, inertia)
    for total, more in ((load.moment[:, -1:], moment), (load.inertia[:, :, -1:], inertia)):
        operations.add(total, more, total)


def carried_loads(
    operations: Operations, axes: Tensor, dq: Tensor, gravity: tuple[float, ...], mass: Tensor, load: Load
) -> None:
    """Wrenches that keep the joints' velocities as they are, by recursive Newton-Euler; and composite bodies.

    Args:
        operations: where to record.
        axes: [2, 6, dof, N] motion of each joint: z and p × z, or 0 and z.
        dq: [dof, N] velocities.
        gravity: m/s².
        mass: [dof, 1] or [dof, N] kg.
        load: with moment and inertia of the links; afterwards the sums over all links behind each, and wrenches.
    """
    rows = 6 if operations.fewest else 5
    shares = axes.new_empty(2, rows, *dq.shape)  # S_i q̇_i
    motion = axes.new_zeros(2, *shares.shape)  # spatial velocities and accelerations of the links
    velocity, change = motion
    operations.multiply(axes[:, :rows], dq, shares)
    operations.running_sum(shares, velocity)
    omega, v = velocity
    rates = axes.new_empty(2, 3, *dq.shape) if operations.fewest else change[:, :3]  # V_i × S_i q̇_i
    operations.cross(omega, shares, rates)
    operations.add_cross(rates[1], v, shares[0])
    operations.running_sum(rates, rates)
    _against_gravity(operations, rates, gravity, change)
    body = mass, load.moment, load.inertia
    _apply(operations, body, motion[:, 0], motion[:, 1], load.both_angular, load.both_linear)
    operations.wrap(load.first)
    operations.add_cross(load.wrench, omega, load.first)
    operations.add_cross(load.wrench[0], v, load.first[1])
    operations.sum_from_the_last(load.summed)


def _against_gravity(operations: Operations, rates: Tensor, gravity: tuple[float, ...], out: Tensor) -> None:
    """``out`` [2, 5 or 6, dof, N] = ``rates`` [2, 3, dof, N], of which the linear part is less gravity."""
    if operations.fewest:  # all in one operation
        base = rates.new_tensor([(0.0, 0.0, 0.0), gravity]).view(2, 1, 3, 1, 1)
        operations.subtract(rates.unsqueeze(1), base, out.view(2, 2, 3, *out.shape[2:]))
        return
    for row, g in enumerate(gravity):
        if g:
            operations.subtract(rates[1, row], g, rates[1, row])
    operations.wrap(out)


def reactions(operations: Operations, axes: Tensor, mass: Tensor, load: Load) -> None:
    """What accelerates all links behind each joint as it moves by itself.

    Args:
        operations: where to record.
        axes: [2, 6, dof, N].
        mass: [dof, 1] or [dof, N] kg, of each link and all behind it.
        load: with moment and inertia summed up.
    """
    _apply(operations, (mass, load.moment, load.inertia), axes[0], axes[1], load.reaction[0], load.reaction[1])


def matrix_and_bias(operations: Operations, axes: Tensor, load: Load, systems: Systems) -> Tensor:
    """The first system's matrix, the mass matrix, of which only i ≤ j count; and the torques [dof, N] against wrenches.

    Both are products of a joint's motion, with the reactions from its own on and with its wrench: one operation for
    all. The torques lie below the matrix's diagonal; read them before the elimination.
    """
    products = systems.products()
    operations.dot([row.unsqueeze(1) for row in _rows(axes)], list(load.offered), products)
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
    operations.multiply(inertia[0], angular[..., 0:1, :, :], out_angular)
    operations.add_product(out_angular, inertia[1], angular[..., 1:2, :, :])
    operations.add_product(out_angular, inertia[:, 2], angular[..., 2:3, :, :])
    operations.add_cross(out_angular, moment, linear)
