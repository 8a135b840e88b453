"""A box of targets around an arm's tool that it can really reach.

1. The box is centred where the tool is at the start, with edges of 0.36, 0.4 and 0.36 of the reach along x, y and z of
   the world (the Panda's is about that), then smaller ones down to a tenth of that. A part below 0.05 of the reach
   above the base is cut off: nothing is drawn under the floor that the base stands on. Where the tool is below that
   at the start there is no floor (an arm that hangs, or one on a torso).
2. A box is taken if the tool reaches a grid of 27 points of it, corners included, within the joints' limits.
3. Where poses are targets, and the arm has six joints or more, the largest box is taken in which at least 94 % of the
   extreme poses are within reach: half of those points, with the tool as it is at the start turned by the largest roll,
   pitch and yaw of ``palaestra/PandaReachTorque-v0``, to half of its tolerance. (In the Panda's box it is 95 %.) If
   there is none of at least a third of the size, the box is that for points, and the arm gets no orientations.
4. A planar arm whose plane is one of the world's gets a flat box.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.arm.chain import Row, SerialChain
from palaestra.envs.arm.control import damped_least_squares, rotation_error, tool_rotation
from palaestra.envs.arm.dynamics import link_frames, tool_jacobian
from palaestra.envs.arm.panda import PANDA
from palaestra.envs.arm.robots.start_pose import ORIENTS_FROM, candidates, workspace
from palaestra.envs.arm.tables import tables

EDGES = (0.36, 0.4, 0.36)  # of the reach
SIZES = (1.0, 0.8, 0.63, 0.5, 0.4, 0.32, 0.25, 0.18, 0.1)
TURNS = (0.3, 0.3, 0.6)  # rad, largest roll, pitch and yaw of a target
_LEAST_WITH_TURNS, _POSES, _FLOOR, _FLAT = 0.32, 0.94, 0.05, 1e-7
_STARTS, _ITERATIONS = 16, 60
_ORIENTED = 0.9  # share of the extreme poses that must be within reach in any other box
_FOUND, _NEAR, _NEAR_ANGLE = 1e-4, 0.01, 0.05  # m, m and rad: points are met, poses to half of the task's tolerance

BoxShape = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


@cache
def target_box(chain: SerialChain, start: Row, *, poses: bool = False) -> BoxShape:
    """The box, m, as the module chooses it for points or for poses.

    Raises:
        ValueError: if the tool reaches no box around where it starts, as that of an arm with one joint.
    """
    boxes = [_box(chain, start, size) for size in SIZES]
    if poses and chain.dof >= ORIENTS_FROM:
        for size, box in zip(SIZES, boxes, strict=True):
            if size >= _LEAST_WITH_TURNS and reached_share(chain, box, start, with_turns=True) >= _POSES:
                return box
    for box in boxes:
        if reached_share(chain, box, start, with_turns=False) == 1.0:
            return box
    raise ValueError(
        f"{chain.name}: no box around where the tool starts is within reach; that takes three joints that move it "
        "along x, y and z: choose another tip, a tool (robot.tool) away from the last joint, or start and targets"
    )


@cache
def reached_share(chain: SerialChain, box: BoxShape, start: Row, *, with_turns: bool) -> float:
    """The share of a grid of points of the box that the tool reaches, with or without the largest turns from where it
    points at the start."""
    axes = [sorted({low, (low + high) / 2, high}) for low, high in box]
    points = torch.tensor(list(itertools.product(*axes)), dtype=torch.float64).T  # [3, 27]
    if not with_turns:
        return float((_misses(chain, points, None, start) <= 1.0).double().mean())
    turns = torch.tensor(list(itertools.product(*((-turn, turn) for turn in TURNS))), dtype=torch.float64).T
    here = link_frames(chain, torch.tensor(start, dtype=torch.float64).unsqueeze(1))
    wanted = turned(tool_rotation(here)[..., 0], turns)  # [3, 3, 8]
    corners = points[:, :: 2 if points.shape[1] == 27 else 1]  # the corners and the middles of the faces
    each = corners.repeat_interleave(wanted.shape[-1], 1)
    return float((_misses(chain, each, wanted.repeat(1, 1, corners.shape[1]), start) <= 1.0).double().mean())


def has_orientations(chain: SerialChain, box: BoxShape, start: Row, asked: Any) -> bool:
    """True if targets in a box have an orientation: as ``asked``, or where the arm turns its tool as it likes.

    Raises:
        ValueError: if it is asked for of an arm that cannot.
    """
    if asked is not None and not isinstance(asked, bool):
        raise ValueError(f"orientation must be true, false or null, got {asked!r}")
    able = chain.dof >= ORIENTS_FROM
    if asked and not able:
        raise ValueError(f"{chain.name}: orientation takes at least {ORIENTS_FROM} joints, and it has {chain.dof}")
    if asked is not None or not able or chain == PANDA:
        return able if asked is None else asked
    return reached_share(chain, box, start, with_turns=True) >= _ORIENTED


def within_reach(chain: SerialChain, points: Tensor, start: Row) -> bool:
    """True if the tool is found to reach all points [3, M] m, float64."""
    return bool((_misses(chain, points, None, start) <= 1.0).all())


def turned(rotation: Tensor, turn: Tensor) -> Tensor:
    """A rotation [3 rows, 3 columns] turned about the world's axes by roll, pitch, yaw [3, N] rad: [3, 3, N]."""
    (sr, sp, sy), (cr, cp, cy) = turn.sin(), turn.cos()
    x = torch.stack((cy * cp, sy * cp, -sp))
    y = torch.stack((cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, cp * sr))
    z = torch.stack((cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr))
    columns = [x * axis[0] + y * axis[1] + z * axis[2] for axis in rotation.T]
    return torch.stack(columns, 1)


def _box(chain: SerialChain, start: Row, size: float) -> BoxShape:
    space = workspace(chain)
    tool = link_frames(chain, torch.tensor(start, dtype=torch.float64).unsqueeze(1)).position[:, -1, 0]
    seen = link_frames(chain, candidates(chain)[0]).position[:, -1]
    flat = (seen.amax(1) - seen.amin(1)) < _FLAT
    half = torch.tensor(EDGES, dtype=torch.float64) * (0.5 * size * space.reach)
    half = torch.where(flat, 0.0, half)
    low, high = tool - half, tool + half
    room = float(space.up @ (tool - space.base)) - _FLOOR * space.reach
    if room > 0.0:  # an end of each axis is lowered into the floor: it is cut there
        axis = int(space.up.abs().argmax())
        others = float((space.up.abs() * half).sum() - space.up[axis].abs() * half[axis])
        down = max(0.0, room - others) / float(space.up[axis].abs())
        if space.up[axis] > 0.0:
            low[axis] = torch.maximum(low[axis], tool[axis] - down)
        else:
            high[axis] = torch.minimum(high[axis], tool[axis] + down)
    (x, y, z) = ((_rounded(a), _rounded(b)) for a, b in zip(low.tolist(), high.tolist(), strict=True))
    return x, y, z


def _rounded(metres: float) -> float:
    return round(metres, 9)


def _misses(chain: SerialChain, goal: Tensor, wanted: Tensor | None, start: Row) -> Tensor:
    """How far the tool stays away from each goal [3, M] and orientation [3, 3, M], in what is near enough."""
    table, reach = tables(chain, goal.dtype, goal.device), workspace(chain).reach
    draws = torch.rand(chain.dof, _STARTS - 1, generator=torch.Generator().manual_seed(0), dtype=goal.dtype)
    first = torch.tensor(start, dtype=goal.dtype).unsqueeze(1)
    q = torch.cat((first, table.low + draws * (table.high - table.low)), 1).repeat(1, goal.shape[1])
    goals = goal.repeat_interleave(_STARTS, 1)
    turns = None if wanted is None else wanted.repeat_interleave(_STARTS, 2)
    for _ in range(_ITERATIONS):
        frames = link_frames(chain, q)
        error, jacobian = goals - frames.position[:, -1], tool_jacobian(chain, frames)
        if turns is None:
            jacobian = jacobian[:3]
        else:
            error = torch.cat((error, reach * rotation_error(tool_rotation(frames), turns)))
            jacobian = torch.cat((jacobian[:3], reach * jacobian[3:]))
        step = damped_least_squares(jacobian, error, (1e-3 + 0.3 * error.square().sum(0).sqrt()) * reach)
        q = (q + step).clamp(table.q_min, table.q_max)
    frames = link_frames(chain, q)
    miss = (goals - frames.position[:, -1]).square().sum(0).sqrt() / (_FOUND if turns is None else _NEAR)
    if turns is not None:
        angle = rotation_error(tool_rotation(frames), turns).square().sum(0).sqrt()
        miss = torch.maximum(miss, angle / _NEAR_ANGLE)
    return miss.view(goal.shape[1], _STARTS).amin(1)
