"""Friction of a chain's joints: damping · q̇ + coulomb · tanh(q̇ / width) + an identified formula.

The width is 0.1 rad/s or 0.01 m/s; the formula is in :mod:`palaestra.envs.arm.chain`. Velocities are [dof, N], rad/s or
m/s, and torques N m or N.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.tables import tables

COULOMB_WIDTH, COULOMB_WIDTH_METRES = 0.1, 0.01  # rad/s and m/s


class IdentifiedFriction(NamedTuple):
    """The identified formula as (tanh(slope · (q̇ + shift)) − rest) · size, all [dof, 1].

    For f / (1 + exp(−x)) = f / 2 · (1 + tanh(x / 2)), whose derivative never overflows.
    """

    shift: Tensor  # rad/s
    slope: Tensor  # s/rad
    rest: Tensor
    size: Tensor  # N m


@cache
def identified_friction(chain: SerialChain, dtype: torch.dtype, device: torch.device) -> IdentifiedFriction:
    """The numbers of a chain's formula, made once for each dtype and device."""
    with torch.inference_mode(False):  # as the first caller's mode must not stay in the numbers
        f1, f2, f3 = tables(chain, dtype, device).friction.unbind()
        return IdentifiedFriction(f3, 0.5 * f2, (0.5 * f2 * f3).tanh(), 0.5 * f1)


def friction(chain: SerialChain, dq: Tensor) -> Tensor:
    """Friction torque [dof, N] at velocities [dof, N]."""
    formula = identified_friction(chain, dq.dtype, dq.device)
    torque = ((formula.slope * (dq + formula.shift)).tanh() - formula.rest) * formula.size
    if not has_drag(chain):
        return torque
    table = tables(chain, dq.dtype, dq.device)
    return torque + table.damping * dq + table.coulomb * (dq / _coulomb_width(table.turning)).tanh()


def has_drag(chain: SerialChain) -> bool:
    """True if a joint has damping or Coulomb friction."""
    return any(chain.damping) or any(chain.coulomb)


def has_friction(chain: SerialChain) -> bool:
    """True if a joint has any friction."""
    return has_drag(chain) or any(f1 > 0.0 for f1, _, _ in chain.friction)


def drag_slope(chain: SerialChain, dq: Tensor) -> Tensor:
    """By how much damping and Coulomb friction rise with the velocities [dof, N], [dof, N] N m s/rad."""
    table = tables(chain, dq.dtype, dq.device)
    width = _coulomb_width(table.turning)
    return table.damping + table.coulomb / width * (1.0 - (dq / width).tanh().square())


def _coulomb_width(turning: Tensor) -> Tensor:
    """The speeds [dof, 1] over which Coulomb friction turns round."""
    return COULOMB_WIDTH_METRES + (COULOMB_WIDTH - COULOMB_WIDTH_METRES) * turning
