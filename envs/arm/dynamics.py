"""Kinematics and rigid-body dynamics of serial chains, for N environments at once.

1. Everything is written in the axes of the world and about its origin, so that no link needs another one's frame:
   after the frames themselves, all links and environments are computed together, and recursions along the chain become
   running sums.
2. Spatial vectors are (angular, linear) with the moment about the world's origin; joint i moves along
   S_i = (z_i, p_i × z_i) if it turns and (0, z_i) if it is prismatic. So that every axis is a z, the functions inside
   have the links' frames turned; :func:`forward_kinematics` turns them back.
3. Inverse dynamics: recursive Newton-Euler; gravity enters as an acceleration of the base.
4. Mass matrix: composite rigid bodies, M_ij = S_i · (I_j + … + I_n) S_j for i ≤ j, and the armature on its diagonal.
5. Forward dynamics: M is factored from the last joint to the first, without pivots, as it is positive definite.
   Friction is :mod:`palaestra.envs.arm.friction`.

Inside, tensors have the environments last (``[…, links, N]``), so that every operation runs along contiguous memory.
The functions from :func:`forward_kinematics` to :func:`joint_friction` are the interface. They take angles ``q`` (rad),
velocities ``dq`` (rad/s), accelerations ``ddq`` (rad/s²) and torques ``tau`` (N m) as ``[N, dof]`` (of prismatic joints
in m and N), all of one floating dtype and on one device, and raise a ValueError on anything else. All functions are
differentiable, never synchronise, and treat each environment alike whatever the others are.

Source: Featherstone, "Rigid body dynamics algorithms", 2008, chapters 2, 5 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.friction import friction
from palaestra.envs.arm.tables import tables

Vector = tuple[Tensor, Tensor, Tensor]  # x, y, z in the axes of the world, each [L, N]
Screws = tuple[Vector, Vector]  # angular and linear part
SignedAxis = tuple[Tensor, float]  # a unit vector [3, N], and the sign that it is taken with
_PAIRS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))  # entries of an inertia: xx, yy, zz, xy, xz, yz


class Frames(NamedTuple):
    """Frames of some links in the axes of the world: three unit vectors and the origin (m), each [3, L, N]."""

    x: Tensor
    y: Tensor
    z: Tensor
    position: Tensor


class Bodies(NamedTuple):
    """Rigid bodies about the origin of the world."""

    mass: Tensor  # [L, 1] or [L, N] kg
    moment: Vector  # mass times centre of mass, kg m
    inertia: tuple[Tensor, ...]  # xx, yy, zz, xy, xz, yz, each [L, N] kg m²


class Pose(NamedTuple):
    """Frames in the axes of the world; the columns of a rotation are the frame's axes."""

    rotation: Tensor  # [N, dof + 2, 3, 3]: links 1 … dof, flange, tool
    position: Tensor  # [N, dof + 2, 3] m


def forward_kinematics(chain: SerialChain, q: Tensor) -> Pose:
    """Frames of all links, the flange (index −2) and the tool (−1)."""
    frames = link_frames(chain, _links_first(chain, q=q)[0])
    rotation = torch.stack(_as_given(chain, frames), 1)  # [3 rows, 3 columns, L, N]
    return Pose(rotation.permute(3, 2, 0, 1), frames.position.permute(2, 1, 0))


def jacobian(chain: SerialChain, q: Tensor) -> Tensor:
    """Geometric Jacobian of the tool centre, [N, 6, dof] in the axes of the world.

    Rows 0–2 are the velocity of the tool centre (m/rad), rows 3–5 the angular velocity of the tool.
    """
    frames = link_frames(chain, _links_first(chain, q=q)[0])
    return tool_jacobian(chain, frames).permute(2, 0, 1)


def inverse_dynamics(chain: SerialChain, q: Tensor, dq: Tensor, ddq: Tensor) -> Tensor:
    """Torques [N, dof] (N m) that give the accelerations ``ddq``, without friction: M(q) q̈ + C(q, q̇) q̇ + g(q)."""
    angle, velocity, acceleration = _links_first(chain, q=q, dq=dq, ddq=ddq)
    frames = link_frames(chain, angle)
    return joint_torque(chain, screws(chain, frames), bodies(chain, frames), velocity, acceleration).T


def mass_matrix(chain: SerialChain, q: Tensor) -> Tensor:
    """Joint-space inertia M [N, dof, dof] (kg m²), symmetric positive definite: kinetic energy is ½ q̇ᵀ M q̇."""
    frames = link_frames(chain, _links_first(chain, q=q)[0])
    upper = upper_mass_matrix(chain, screws(chain, frames), bodies(chain, frames)).permute(2, 0, 1).triu()
    return upper + upper.triu(1).mT


def forward_dynamics(chain: SerialChain, q: Tensor, dq: Tensor, tau: Tensor) -> Tensor:
    """Accelerations [N, dof] (rad/s²) under the torques ``tau``, without friction and limits."""
    angle, velocity, torque = _links_first(chain, q=q, dq=dq, tau=tau)
    frames = link_frames(chain, angle)
    axes, body = screws(chain, frames), bodies(chain, frames)
    return solve_positive(upper_mass_matrix(chain, axes, body), torque - joint_torque(chain, axes, body, velocity)).T


def joint_friction(chain: SerialChain, dq: Tensor) -> Tensor:
    """Friction torque [N, dof] (N m) that opposes the motion, to be subtracted from the motors' torque."""
    return friction(chain, _links_first(chain, dq=dq)[0]).T


def link_frames(chain: SerialChain, q: Tensor) -> Frames:
    """Frames [3, dof + 2, N] of the links (z along the joint's axis), the flange and the tool from q [dof, N]."""
    frames = [[*(axis if sign > 0.0 else -axis for axis, sign in axes), p] for axes, p in _frames_along(chain, q)]
    return Frames(*(torch.stack(vectors, 1) for vectors in zip(*frames, strict=True)))


def tool_frame(chain: SerialChain, q: Tensor) -> Frames:
    """The last of them, [3, 1, N]."""
    *_, (axes, p) = _frames_along(chain, q)
    return Frames(*(v.unsqueeze(1) for v in (*(axis if sign > 0.0 else -axis for axis, sign in axes), p)))


def tool_jacobian(chain: SerialChain, frames: Frames) -> Tensor:
    """Jacobian [6, dof, N] of the tool centre, linear rows first."""
    axis, arm = frames.z[:, :-2], frames.position[:, -1:] - frames.position[:, :-2]
    linear = torch.stack(_cross(_vector(axis), _vector(arm)))
    if all(chain.turning):
        return torch.cat((linear, axis))
    turns = tables(chain, axis.dtype, axis.device).turning
    return torch.cat((linear * turns + axis * (1.0 - turns), axis * turns))


def screws(chain: SerialChain, frames: Frames) -> Screws:
    """Motion of each joint about the world's origin: S = (z, p × z), or (0, z) of a prismatic joint."""
    z, p = _vector(frames.z[:, :-2]), _vector(frames.position[:, :-2])
    moment = _cross(p, z)
    if all(chain.turning):
        return z, moment
    turns = tables(chain, z[0].dtype, z[0].device).turning
    slides = 1.0 - turns
    return _scaled(z, turns), _vector([m * turns + axis * slides for m, axis in zip(moment, z, strict=True)])


def bodies(chain: SerialChain, frames: Frames, payload: Tensor | None = None) -> Bodies:
    """The links as rigid bodies; ``payload`` [N] kg is a point mass at the tool centre."""
    table = tables(chain, frames.x.dtype, frames.x.device)
    x, y, z, p = (v[:, :-2] for v in frames)  # [3, dof, N]
    (cx, cy, cz), (xx, yy, zz, xy, xz, yz) = table.centre_of_mass, table.inertia
    c = (x * cx).addcmul_(y, cy).addcmul_(z, cz).add_(p)  # [3, dof, N] centres of mass
    u = (x * xx).addcmul_(y, xy).addcmul_(z, xz)  # R I Rᵀ = x uᵀ + y vᵀ + z wᵀ
    v = (x * xy).addcmul_(y, yy).addcmul_(z, yz)
    w = (x * xz).addcmul_(y, yz).addcmul_(z, zz)
    h = table.mass * c
    inertia = _of_points(c, h)
    for total, (i, j) in zip(inertia, _PAIRS, strict=True):
        total.addcmul_(x[i], u[j]).addcmul_(y[i], v[j]).addcmul_(z[i], w[j])
    body = Bodies(table.mass, _vector(h), tuple(inertia))
    return body if payload is None else _with_payload(body, frames.position[:, -1], payload)


def joint_torque(chain: SerialChain, axes: Screws, body: Bodies, dq: Tensor, ddq: Tensor | None = None) -> Tensor:
    """Torques [dof, N] for the accelerations ``ddq`` [dof, N], None for none (the bias torques)."""
    z, s = axes
    angular, linear = _scaled(z, dq), _scaled(s, dq)  # S_i q̇_i
    motion = _running_sum((*angular, *linear))  # spatial velocity of each link
    omega, v = _vector(motion[:3]), _vector(motion[3:])
    rates = [*_cross(omega, angular), *_add_cross(_cross(omega, linear), v, angular)]  # V_i × S_i q̇_i
    if ddq is not None:
        rates = [a + b for a, b in zip(rates, (*_scaled(z, ddq), *_scaled(s, ddq)), strict=True)]
    change = _running_sum(rates)  # spatial acceleration of each link, and the base's against gravity:
    a = _vector([part - g if g else part for part, g in zip(change[3:], chain.gravity, strict=True)])
    momentum, spin = _apply(body, omega, v)
    force, moment = _apply(body, _vector(change[:3]), a)
    force = _add_cross(force, omega, momentum)
    moment = _add_cross(_add_cross(moment, omega, spin), v, momentum)
    wrench = _running_sum((*moment, *force), backwards=True)  # carried by each joint
    torque = dot((*z, *s), wrench)
    if ddq is not None and any(chain.armature):
        torque = torque + tables(chain, ddq.dtype, ddq.device).armature * ddq
    return torque


def upper_mass_matrix(chain: SerialChain, axes: Screws, body: Bodies) -> Tensor:
    """[dof, dof, N]; only the entries i ≤ j are those of the mass matrix."""
    z, s = axes
    composite = _running_sum((body.mass.expand_as(z[0]), *body.moment, *body.inertia), backwards=True)
    mass, hx, hy, hz, *inertia = composite.unbind(0)
    force, moment = _apply(Bodies(mass, (hx, hy, hz), tuple(inertia)), z, s)
    matrix = dot([part.unsqueeze(1) for part in (*z, *s)], [part.unsqueeze(0) for part in (*moment, *force)])
    if any(chain.armature):
        matrix = with_diagonal(matrix, tables(chain, mass.dtype, mass.device).armature)
    return matrix


def with_diagonal(matrix: Tensor, more: Tensor) -> Tensor:
    """A matrix [dof, dof, N] with ``more`` ([dof, 1] or [dof, N]) added to its diagonal."""
    one = torch.eye(len(more), dtype=more.dtype, device=more.device).unsqueeze(-1)
    return matrix + one * more


def _links_first(chain: SerialChain, **inputs: Tensor) -> list[Tensor]:
    """The inputs [N, dof] as contiguous [dof, N].

    Raises:
        ValueError: if one has another shape, or dtypes or devices differ or a dtype is not floating-point.
    """
    first = next(iter(inputs.values()))
    for name, value in inputs.items():
        if not isinstance(value, Tensor) or value.dim() != 2 or value.shape[1] != chain.dof:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} must be a tensor of shape [N, {chain.dof}], got {got}")
        if not value.is_floating_point() or value.dtype != first.dtype:
            raise ValueError(f"{', '.join(inputs)} must have one floating-point dtype, {name} is {value.dtype}")
        if value.device != first.device:
            raise ValueError(f"{', '.join(inputs)} must be on one device, got {first.device} and {value.device}")
        if value.shape[0] != first.shape[0]:
            raise ValueError(f"{', '.join(inputs)} must have equally many rows, {name} has {value.shape[0]}")
    return [value.T.contiguous() for value in inputs.values()]


def _as_given(chain: SerialChain, frames: Frames) -> list[Tensor]:
    """The axes [3, dof + 2, N] of the frames x, y, z with those of the links as the chain has them."""
    if all(axis == (0.0, 0.0, 1.0) for axis in chain.axes):
        return list(frames[:3])
    turn = tables(chain, frames.x.dtype, frames.x.device).alignment  # column j is Σ_k turned column k · turn[j, k]
    links = [v[:, :-2] for v in frames[:3]]
    return [torch.cat((dot(links, turn[j].unsqueeze(1)), ends[:, -2:]), 1) for j, ends in enumerate(frames[:3])]


def _frames_along(chain: SerialChain, q: Tensor) -> Iterator[tuple[list[SignedAxis], Tensor]]:
    """x, y, z and position of the links, the flange and the tool, one after the other."""
    cos, sin = q.cos(), q.sin()
    # of full width: of a + share · b PyTorch rounds the product if b is broadcast, and else only the sum
    base = torch.eye(3, dtype=q.dtype, device=q.device).unsqueeze(-1).repeat(1, 1, q.shape[1])
    axes, p = [(axis, 1.0) for axis in base], torch.zeros_like(base[0])
    for i, stage in enumerate(chain.stages):
        for (axis, sign), offset in zip(axes, stage.position, strict=True):
            if abs(offset) >= 1e-15:
                p = torch.add(p, axis, alpha=sign * offset)
        axes = [_mixed(axes, column) for column in zip(*stage.rotation, strict=True)]
        (x, x_sign), (y, y_sign), (z, z_sign) = axes
        if i < chain.dof and chain.turning[i]:
            both = x_sign * y_sign
            turned = (x * cos[i]).addcmul_(y, sin[i], value=both), (y * cos[i]).addcmul_(x, sin[i], value=-both)
            axes = [(turned[0], x_sign), (turned[1], y_sign), (z, z_sign)]
        elif i < chain.dof:
            p = p.addcmul(z, q[i], value=z_sign)
        yield axes, p


def _mixed(axes: list[SignedAxis], shares: tuple[float, ...]) -> SignedAxis:
    """The sum of the axes times the shares, of which one at least is not nothing.

    Arms have right angles: what is not there is not computed, and an opposite axis is the same one with a sign.
    """
    parts = [(v, sign, share) for (v, sign), share in zip(axes, shares, strict=True) if abs(share) >= 1e-15]
    if len(parts) == 1 and abs(parts[0][2]) == 1.0:
        axis, sign, share = parts[0]
        return axis, sign * share
    terms = [v if sign * share == 1.0 else v * (sign * share) for v, sign, share in parts]
    return sum(terms[1:], start=terms[0]), 1.0


def _with_payload(body: Bodies, tool: Tensor, payload: Tensor) -> Bodies:
    """The last body with a point mass [N] kg at ``tool`` [3, N]."""
    c, h = tool.unsqueeze(1), (payload * tool).unsqueeze(1)  # [3, 1, N]
    none = torch.zeros_like(h[0]).expand(body.moment[0].shape[0] - 1, -1)

    def with_last(values: Tensor, more: Tensor) -> Tensor:
        return values + torch.cat((none, more))

    moment = tuple(with_last(m, more) for m, more in zip(body.moment, h, strict=True))
    inertia = tuple(with_last(i, more) for i, more in zip(body.inertia, _of_points(c, h), strict=True))
    return Bodies(with_last(body.mass, payload.unsqueeze(0)), _vector(moment), inertia)


def _of_points(c: Tensor, h: Tensor) -> list[Tensor]:
    """Inertia (in the order of ``_PAIRS``) of point masses at ``c`` about the origin, ``h`` being mass times ``c``."""
    xx, yy, zz = c[0] * h[0], c[1] * h[1], c[2] * h[2]
    return [yy + zz, xx + zz, xx + yy, -c[0] * h[1], -c[0] * h[2], -c[1] * h[2]]


def _apply(body: Bodies, angular: Vector, linear: Vector) -> tuple[Vector, Vector]:
    """Spatial inertia times a motion: (linear part, angular part), such as momentum and spin of a velocity."""
    h, (xx, yy, zz, xy, xz, yz) = body.moment, body.inertia
    turned = dot((xx, xy, xz), angular), dot((xy, yy, yz), angular), dot((xz, yz, zz), angular)
    return _add_cross(_scaled(linear, body.mass), angular, h), _add_cross(turned, h, linear)


def _running_sum(values: Sequence[Tensor], backwards: bool = False) -> Tensor:
    """Sums over the links from the first, or from the last, up to each; [K, L, N] from K tensors [L, N]."""
    sums = torch.stack(tuple(values))
    last = sums.shape[1] - 1
    for i in range(1, last + 1):  # one after the other: torch.cumsum is slower, and the order fixes the bits
        at, before = (last - i, last - i + 1) if backwards else (i, i - 1)
        sums[:, at].add_(sums[:, before])
    return sums


def solve_positive(matrix: Tensor, right: Tensor) -> Tensor:
    """x [n, N] of M x = b for a symmetric positive definite M [n, n, N], of which only the upper triangle is read.

    By M = U D Uᵀ, where U has ones on its diagonal.
    """
    shares = []  # columns of U above its diagonal, last first
    scaled = []  # D⁻¹ U⁻¹ b, last entry first
    for k in range(len(right) - 1, 0, -1):
        column, pivot = matrix[:k, k], matrix[k, k]
        share = column / pivot
        matrix = matrix[:k, :k].addcmul(share.unsqueeze(1), column, value=-1)
        scaled.append(right[k] / pivot)
        right = right[:k].addcmul(share, right[k], value=-1)
        shares.append(share)
    x = [right[0] / matrix[0, 0]]
    for share, value in zip(reversed(shares), reversed(scaled), strict=True):
        for part, earlier in zip(share, x, strict=True):
            value = value.addcmul(part, earlier, value=-1)
        x.append(value)
    return torch.stack(x)


def _vector(values: Tensor | Sequence[Tensor]) -> Vector:
    x, y, z = values
    return x, y, z


def _cross(a: Vector, b: Vector) -> Vector:
    return (
        (a[1] * b[2]).addcmul_(a[2], b[1], value=-1),
        (a[2] * b[0]).addcmul_(a[0], b[2], value=-1),
        (a[0] * b[1]).addcmul_(a[1], b[0], value=-1),
    )


def _add_cross(total: Vector, a: Vector, b: Vector) -> Vector:
    """``total`` + a × b, in ``total``'s memory."""
    return (
        total[0].addcmul_(a[1], b[2]).addcmul_(a[2], b[1], value=-1),
        total[1].addcmul_(a[2], b[0]).addcmul_(a[0], b[2], value=-1),
        total[2].addcmul_(a[0], b[1]).addcmul_(a[1], b[0], value=-1),
    )


def dot(a: Sequence[Tensor] | Tensor, b: Sequence[Tensor] | Tensor) -> Tensor:
    """Σ a_i b_i over the first dimension, term by term: the order of torch's own sums depends on the batch."""
    total = a[0] * b[0]
    for i in range(1, len(a)):
        total.addcmul_(a[i], b[i])
    return total


def _scaled(a: Vector, factor: Tensor) -> Vector:
    return a[0] * factor, a[1] * factor, a[2] * factor
