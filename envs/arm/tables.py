"""A chain's numbers as tensors, in the frames that the dynamics computes in: those whose z is the joint's axis."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain


class Tables(NamedTuple):
    """A chain's numbers as tensors of one dtype on one device, shaped to broadcast over links and environments.

    Units are those of joints that turn; prismatic ones have m, N and kg.
    """

    q_min: Tensor  # [dof, 1] rad, −inf where there is no limit
    q_max: Tensor  # [dof, 1] rad
    low: Tensor  # [dof, 1] rad, the chain's span, which is finite
    high: Tensor  # [dof, 1] rad
    velocity: Tensor  # [dof, 1] rad/s
    acceleration: Tensor  # [dof, 1] rad/s²
    torque: Tensor  # [dof, 1] N m
    friction: Tensor  # [3, dof, 1]
    damping: Tensor  # [dof, 1] N m s/rad
    coulomb: Tensor  # [dof, 1] N m
    armature: Tensor  # [dof, 1] kg m²
    turning: Tensor  # [dof, 1] 1 for joints that turn, 0 for prismatic ones
    mass: Tensor  # [dof, 1] kg
    centre_of_mass: Tensor  # [3, dof, 1] m
    inertia: Tensor  # [6, dof, 1] kg m²
    alignment: Tensor  # [3, 3, dof, 1] from these frames to the links' own


@cache
def tables(chain: SerialChain, dtype: torch.dtype, device: torch.device) -> Tables:
    """The tables of a chain, made once for each dtype and device."""
    turn = chain.alignments
    xx, yy, zz, xy, xz, yz = np.array(chain.inertia).T
    inertia = turn.transpose(0, 2, 1) @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]).transpose(2, 0, 1) @ turn
    values = {name: getattr(chain, name) for name in Tables._fields if hasattr(chain, name)}
    values |= {
        "low": chain.span[0],
        "high": chain.span[1],
        "centre_of_mass": np.einsum("lji,lj->li", turn, np.array(chain.centre_of_mass)),
        "inertia": inertia[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]],
        "alignment": turn,
    }

    def tensor(name: str) -> Tensor:
        value = torch.tensor(values[name], dtype=torch.float64)
        return value.movedim(0, -1).contiguous().unsqueeze(-1).to(device=device, dtype=dtype)

    with torch.inference_mode(False):  # as the first caller's mode must not stay in the tables
        return Tables(*(tensor(name) for name in Tables._fields))


class Scales(NamedTuple):
    """What makes positions of the joints ±1 at the ends of the chain's span."""

    middle: Tensor  # [dof, 1] rad
    half: Tensor  # [dof, 1] rad


@cache
def scales(chain: SerialChain, dtype: torch.dtype, device: torch.device) -> Scales:
    """The scales of a chain, made once for each dtype and device."""
    with torch.inference_mode(False):
        table = tables(chain, dtype, device)
        return Scales((table.high + table.low) / 2, (table.high - table.low) / 2)
