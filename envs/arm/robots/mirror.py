"""The mirror of an arm: left and right of the plane y = 0 through its base, where the arm is built so.

The tool at the mirrored place needs some joints to turn the other way. Which ones is found by trying all changes of
signs on random configurations; an arm has none if none works (most have links beside one another), or if a joint that
would turn the other way has other limits there. Masses and inertias are not looked at: it is kinematics only.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.dynamics import link_frames
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry

if TYPE_CHECKING:
    from palaestra.envs.arm.task import ArmTask

MOST_JOINTS, _TRIED = 8, 8  # of arms that are tried; configurations
_EXACT = 1e-6  # m, times the arm's length


@cache
def mirrored_joints(chain: SerialChain) -> tuple[int, ...]:
    """−1 for each joint that turns the other way, 1 for the others; empty where the arm has no mirror."""
    if chain.dof > MOST_JOINTS:
        return ()
    low, high = (torch.tensor(ends, dtype=torch.float64) for ends in chain.span)
    share = torch.rand(_TRIED, chain.dof, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    q = low + share * (high - low)  # [8, dof]
    numbers = torch.arange(2**chain.dof).unsqueeze(1)
    signs = 1.0 - 2.0 * ((numbers >> torch.arange(chain.dof)) & 1).double()  # [2^dof, dof]
    tools = _tool(chain, q) * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    tried = _tool(chain, (signs.unsqueeze(1) * q).flatten(0, 1)).view(len(signs), _TRIED, 3)
    works = (tried - tools).abs().amax((1, 2)) <= _EXACT * float(tools.abs().max())
    works &= ((signs > 0) | (low == -high)).all(1)
    found = signs[works]
    if not len(found):
        return ()
    return tuple(int(sign) for sign in found[found.sum(1).argmin()])  # a joint about the tool's axis turns too


def _tool(chain: SerialChain, q: Tensor) -> Tensor:
    """The tool's places [B, 3] at q [B, dof]."""
    return link_frames(chain, q.T.contiguous()).position[:, -1].T


def arm_mirror(env: ArmTask[Any], action: SignedPermutation | None) -> list[Symmetry]:
    """The symmetry of a reaching task without dynamics; ``action`` maps what are no velocities of the joints."""
    signs = mirrored_joints(env.chain)
    if not signs or env.numbers.ranges["joint_offset"][1]:  # offsets keep their sign
        return []
    turned, across = torch.tensor(signs), torch.tensor((1, -1, 1))

    def state(before: Any) -> Any:
        joints, axes = turned.to(before.q), across.to(before.q)
        noise = before.noise * joints.repeat(2) if before.noise.shape[1] else before.noise
        moved = {name: getattr(before, name) * joints for name in ("q", "dq", "pending")}
        return replace(before, tool=before.tool * axes, target=before.target * axes, noise=noise, **moved)

    seen = (*signs, *signs, *(1, -1, 1) * 3)
    joints = SignedPermutation(tuple(range(len(signs))), signs)
    return [Symmetry("mirror", state, SignedPermutation(tuple(range(len(seen))), seen), action or joints)]
