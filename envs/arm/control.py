"""Damped least squares: joint motion that moves the tool, well behaved near singular configurations.

With a Jacobian J of the task and damping λ, Δq = Jᵀ (J Jᵀ + λ² 1)⁻¹ Δx minimises |J Δq − Δx|² + λ² |Δq|².

Source: Wampler, "Manipulator inverse kinematic solutions based on vector formulations and damped least-squares
methods", IEEE Transactions on Systems, Man and Cybernetics, 1986.
"""

from __future__ import annotations

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.dynamics import (
    Frames,
    bodies,
    dot,
    joint_torque,
    link_frames,
    screws,
    solve_positive,
    tool_frame,
    tool_jacobian,
)
from palaestra.envs.arm.tables import tables

_STARTS, _ITERATIONS, _FOUND = 32, 100, 1e-6  # search for a configuration; the last in m
_AHEAD = 0.02  # s


def damped_least_squares(jacobian: Tensor, change: Tensor, damping: float | Tensor) -> Tensor:
    """Joint motion [dof, N] for a wanted motion of the task's variables.

    Args:
        jacobian: [tasks, dof, N].
        change: the wanted motion [tasks, N].
        damping: λ > 0 in the Jacobian's unit, a number or [N].
    """
    rows = jacobian.transpose(0, 1)  # [dof, tasks, N]
    one = torch.eye(len(jacobian), dtype=jacobian.dtype, device=jacobian.device).unsqueeze(-1)
    matrix = dot(rows.unsqueeze(2), rows.unsqueeze(1)) + one * damping**2  # [tasks, tasks, N]
    return dot(jacobian, solve_positive(matrix, change).unsqueeze(1))


def speed_towards(
    chain: SerialChain, q: Tensor, jacobian: Tensor, error: Tensor, *, damping: float, gain: float, rounds: int
) -> Tensor:
    """Joint speeds [dof, N], as shares of the limits, that make an error smaller; the fastest joint is at most at its.

    A joint that would pass its end within 1 / 50 s is at its end: it is left out, and the others do what it cannot.

    Args:
        chain: the arm.
        q: where its joints are, [dof, N] rad or m.
        jacobian: of the task by shares of the joints' limits, [tasks, dof, N].
        error: [tasks, N].
        damping: λ > 0 in the Jacobian's unit.
        gain: change of the task's variables for each of their error, 1/s.
        rounds: how often joints are left out; further ones can meet their ends only then.
    """
    table, free = tables(chain, q.dtype, q.device), jacobian
    for left in range(rounds, -1, -1):
        change = gain * damped_least_squares(free, error, damping)
        share = change / change.abs().amax(0).clamp(min=1.0)
        if left:
            ahead = q + _AHEAD * table.velocity * share
            free = torch.where((ahead < table.q_min) | (ahead > table.q_max), 0.0, free)
    return share


def rotation_error(current: Tensor, target: Tensor) -> Tensor:
    """The rotation vector (angle times axis) that turns ``current`` into ``target``, [3, …, N] rad in the world's axes.

    Args:
        current, target: the frames' rotation matrices, [3 rows, 3 columns, …, N]; they broadcast.
    """
    c, t = (torch.cat((matrix, matrix, matrix[:1])) for matrix in (current, target))  # rows x, y, z, x, y, z, x
    # c × t of each column: products of rows 1 and 2 on, less those of 2 and 1 (or 4) on
    products = _windows(c[1:], 1) * _windows(t[2:], 2)  # [2, 3, 3 columns, …, N]
    axes = products[0] - products[1]
    twice = axes[:, 0] + axes[:, 1] + axes[:, 2]  # 2 sin(angle) · axis
    trace = dot(current.flatten(0, 1), target.flatten(0, 1))
    double_cos = trace - 1.0
    double_sin = dot(twice, twice).sqrt()
    # tan(angle / 2) without cancellation, below a right angle and above: bits of torch.atan2 depend on the batch
    positive, most = double_sin.clamp(min=1e-12), 2.0 + double_cos.abs()
    tangent = torch.where(double_cos < 0.0, most / positive, double_sin / most)
    return twice * (2.0 * tangent.atan() / positive)


def _windows(rows: Tensor, apart: int) -> Tensor:
    """Rows 0 … 2, and those ``apart`` from them, [2, 3, …], of a tensor."""
    return rows[: apart + 3].unfold(0, 3, apart).movedim(-1, 1)


def pose_errors(tool: Tensor, rotation: Tensor | None, target: Tensor, target_rotation: Tensor) -> Tensor:
    """The ways from poses to the targets' position (m) and, with a rotation, orientation (rad), [3, 1 or 2, …, N].

    Args:
        tool: positions [3, …, N] m.
        rotation: their axes as columns, [3 rows, 3 columns, …, N], or None.
        target: [N, 3] m.
        target_rotation: [N, 3 rows, 3 columns].
    """
    shape = (3, *(1,) * (tool.dim() - 2), len(target))
    way = target.T.view(shape) - tool
    if rotation is None:
        return way.unsqueeze(1)
    turn = rotation_error(rotation, target_rotation.permute(1, 2, 0).view(3, *shape))
    return torch.stack((way, turn), 1)


def tool_rotation(frames: Frames) -> Tensor:
    """The tool's axes as columns, [3 rows, 3 columns, N]."""
    return torch.stack([axis[:, -1] for axis in frames[:3]], 1)


def hand_down(turn: Tensor) -> Tensor:
    """Orientation [3 rows, 3 columns, N] of a hand that points down, turned by roll, pitch and yaw [3, N] rad."""
    cos, sin = turn.cos(), turn.sin()
    twice = torch.cat((cos, sin, -cos, -sin, cos, sin))  # of roll, pitch and yaw each
    yaw, across = twice[2:6:3], twice[11:15:3]  # (cos, sin), (−sin, cos)
    x, tilted = yaw * cos[1], yaw * sin[1]
    # the hand's z and y point against those that were turned
    sides = across * twice[3:7:3].unsqueeze(1) - tilted * twice[0:4:3].unsqueeze(1)
    down = twice[0:4:3] * twice[7]
    return torch.stack(
        (x[0], sides[1, 0], sides[0, 0], x[1], sides[1, 1], sides[0, 1], -sin[1], down[1], down[0])
    ).view(3, 3, -1)


def mass_held(chain: SerialChain, q: tuple[float, ...]) -> float:
    """The mass at the tool, kg, up to which the motors hold the arm still at ``q`` (rad or m), whichever way it pulls;
    below 0 where they cannot hold the arm alone."""
    place = torch.tensor(q, dtype=torch.float64).unsqueeze(1)
    frames, still = link_frames(chain, place), torch.zeros_like(place)
    loads = (torch.tensor([kg], dtype=torch.float64) for kg in (0.0, 1.0))
    alone, loaded = (joint_torque(chain, screws(chain, frames), bodies(chain, frames, kg), still) for kg in loads)
    room = tables(chain, place.dtype, place.device).torque - alone.abs()
    return float((room / (loaded - alone).abs().clamp(min=1e-9)).min())


def inverse_kinematics(chain: SerialChain, targets: Tensor, start: tuple[float, ...]) -> Tensor:
    """A configuration within the limits for each target of the tool centre, from many starts around the limits' range.

    Args:
        chain: the arm.
        targets: float64 [M, 3] m.
        start: one more configuration to start from, rad or m.

    Returns:
        float64 [M, dof] rad or m, which puts the tool within 1 µm.

    Raises:
        ValueError: if the tool cannot reach a target (or the search does not find out how).
    """
    table = tables(chain, targets.dtype, targets.device)
    draws = torch.rand(chain.dof, _STARTS - 1, generator=torch.Generator().manual_seed(0), dtype=targets.dtype)
    first = torch.tensor(start, dtype=targets.dtype).unsqueeze(1)
    starts = torch.cat((first, table.low + draws * (table.high - table.low)), 1)
    q = starts.repeat(1, len(targets))  # [dof, M · starts]
    goal = targets.T.repeat_interleave(_STARTS, 1)
    for _ in range(_ITERATIONS):
        frames = link_frames(chain, q)
        error = goal - frames.position[:, -1]
        step = damped_least_squares(tool_jacobian(chain, frames)[:3], error, 1e-3 + error.square().sum(0).sqrt())
        q = (q + step).clamp(table.q_min, table.q_max)
    miss = (goal - tool_frame(chain, q).position[:, -1]).square().sum(0).sqrt().view(len(targets), _STARTS)
    best = miss.min(1)
    if bool((best.values > _FOUND).any()):
        worst = int(best.values.argmax())
        x, y, z = targets[worst].tolist()
        raise ValueError(
            f"{chain.name}: the tool cannot reach ({x:g}, {y:g}, {z:g}) m within the joints' limits; "
            f"it comes within {best.values[worst]:.3g} m"
        )
    return q.view(chain.dof, len(targets), _STARTS)[:, torch.arange(len(targets)), best.indices].T.contiguous()
