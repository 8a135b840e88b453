"""The pose that an arm starts in: bent, in the middle of its limits, away from singular configurations.

1. Candidates are the poses in which each joint is in the middle of its limits (of its span, where there are none), or
   one or two steps to either side. A step is 45°, or a fifth of the range where that is less, so that no joint is
   nearer to a limit than a tenth of its range. Of more than 15,625 such poses (six joints) as many are taken, evenly.
2. A candidate is worth the least singular value of its Jacobian: the slowest motion of the tool that the joints bring
   about, in shares of the reach for the position, and in radians for the orientation of arms of six joints or more.
   Joints move in their steps; of arms of six joints or more, whose tool is to turn to either side, by the way to the
   nearer limit where that is shorter. Where no pose has all motions (a planar arm), the least of those that there are
   counts.
3. It is worth less where the tool is above its base instead of before it (nearer to the vertical through the base
   than 0.35 of the reach), where the tool of an arm that can turn it does not point down, and slightly less for
   every step away from the middle and where the tool is not before the base along x. It is out of the question where
   the origin of a link is below the base, the tool lower than a tenth of the reach above it, or a motor needs more than
   two thirds of its torque to hold the arm, unless there is no other pose. Up is against gravity.
4. Nothing is drawn: the same chain always has the same pose.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.arm.chain import Row, SerialChain
from palaestra.envs.arm.dynamics import Frames, bodies, joint_torque, link_frames, screws, tool_jacobian
from palaestra.envs.arm.tables import tables

LEVELS, MOST_POSES = 5, 5**6
_GOLDEN = 618_033_988_749_894_848  # of 10^18: steps of this share of all poses spread evenly over every joint's levels
_VARIED = 24  # joints, beyond which the number of poses has no 64 bits
_BEFORE, _ABOVE = 0.35, 0.1  # shares of the reach
_HELD = 2 / 3  # share of a motor's torque
_DOWN, _BENT, _FORWARD = 0.3, 0.02, 0.05  # weights
_NOTHING = 1e-6  # a singular value that is none
ORIENTS_FROM = 6  # joints


class Workspace(NamedTuple):
    """Where a chain's base is, and how far its tool gets from it."""

    base: Tensor  # [3] m, float64
    up: Tensor  # [3], against gravity
    reach: float  # m


@cache
def workspace(chain: SerialChain) -> Workspace:
    """The base, the vertical, and the largest distance of the tool from the base among the candidates for the start."""
    base = torch.tensor(chain.base.position, dtype=torch.float64)
    gravity = torch.tensor(chain.gravity, dtype=torch.float64)
    size = float(gravity.norm())
    up = -gravity / size if size > 0.0 else torch.tensor((0.0, 0.0, 1.0), dtype=torch.float64)
    tool = link_frames(chain, candidates(chain)[0]).position[:, -1]
    return Workspace(base, up, max(float((tool - base.unsqueeze(1)).norm(dim=0).max()), 1e-6))


@cache
def candidates(chain: SerialChain) -> tuple[Tensor, Tensor, Tensor]:
    """Poses q [dof, M], the steps [dof, M] that each joint is away from the middle, and the size of a step [dof, 1]."""
    low, high = (torch.tensor(end, dtype=torch.float64).unsqueeze(1) for end in chain.span)
    turning = tables(chain, torch.float64, low.device).turning
    fifth = (high - low) / 5
    step = torch.where(turning > 0.0, fifth.clamp(max=np.pi / 4), fifth)
    varied = min(chain.dof, _VARIED)
    total = LEVELS**varied
    codes = np.arange(min(total, MOST_POSES), dtype=object)
    if total > MOST_POSES:
        stride = total * _GOLDEN // 10**18
        codes = codes * (stride - stride % LEVELS + 1) % total  # no multiple of the number of levels: no pose twice
    levels = torch.zeros(chain.dof, len(codes), dtype=torch.float64)
    for joint in range(varied):
        levels[joint] = torch.tensor([int(code) // LEVELS**joint % LEVELS - LEVELS // 2 for code in codes])
    middle = (low + high) / 2
    return middle + levels * step, levels, step


@cache
def start_pose(chain: SerialChain) -> Row:
    """The pose, rad or m, as the module chooses it."""
    space = workspace(chain)
    q, levels, step = candidates(chain)
    frames = link_frames(chain, q)
    if chain.dof >= ORIENTS_FROM:
        low, high = (torch.tensor(end, dtype=q.dtype).unsqueeze(1) for end in chain.span)
        step = step.minimum(q - low).minimum(high - q)
    agility = _agility(chain, frames, step, space.reach)
    height = torch.einsum("i,iln->ln", space.up, frames.position - space.base.view(3, 1, 1))  # [dof + 2, M]
    away = frames.position[:, -1] - space.base.unsqueeze(1)
    before = (away - space.up.unsqueeze(1) * height[-1]).norm(dim=0) / (_BEFORE * space.reach)
    worth = agility * before.clamp(max=1.0) * (1.0 - _BENT * levels.abs().mean(0))
    worth = worth * (1.0 + _FORWARD * away[0] / space.reach)
    if chain.dof >= ORIENTS_FROM:
        worth = worth * (1.0 - _DOWN * (1.0 + space.up @ frames.z[:, -1]) / 2)
    free = (height[1:-2].amin(0) > -1e-6) if chain.dof > 1 else height[-1] > 0.0
    free = free & (height[-1] >= _ABOVE * space.reach)
    for possible in (free, torque_to_hold(chain, frames).amax(0) <= _HELD):
        worth = torch.where(possible, worth, worth * 1e-3)
    best = int((worth * 1e9).round().argmax())  # equal poses do not depend on rounding
    return tuple(q[:, best].tolist())


def torque_to_hold(chain: SerialChain, frames: Frames) -> Tensor:
    """What the motors need to hold the arm still, as shares of their limits, [dof, M]."""
    still = torch.zeros_like(frames.position[0, :-2])
    torque = joint_torque(chain, screws(chain, frames), bodies(chain, frames), still)
    return torque.abs() / tables(chain, still.dtype, still.device).torque


def _agility(chain: SerialChain, frames: Frames, step: Tensor, reach: float) -> Tensor:
    """The least singular value [M] of the Jacobian that some pose has; ``step`` is [dof, 1] or [dof, M]."""
    jacobian = tool_jacobian(chain, frames) * step  # [6, dof, M]
    rows = jacobian[:3] / reach
    if chain.dof >= ORIENTS_FROM:
        rows = torch.cat((rows, jacobian[3:]))
    gram = torch.einsum("adm,bdm->mab", rows, rows)
    squares = torch.linalg.eigvalsh(gram).clamp(min=0.0)  # ascending
    rank = max(1, int((squares.amax(0).sqrt() > _NOTHING).sum()))
    least: Tensor = squares[:, -rank].sqrt()
    return least
