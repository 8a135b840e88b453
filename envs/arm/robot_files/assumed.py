"""What a robot's file does not say of its limits, filled with stated defaults."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from palaestra.envs.arm.chain import Row, SerialChain
from palaestra.envs.arm.dynamics import inverse_dynamics, mass_matrix

VELOCITY, VELOCITY_METRES = 2.0, 0.5  # rad/s and m/s
RISE = 0.25  # s from rest to the largest velocity
LOAD_FACTOR, _POSES = 1.5, 256  # torque for each N m of weight, and how many poses are weighed
RULES = {
    "position": "no limits: one turn around 0, or 1 m to either side",
    "velocity": f"{VELOCITY:g} rad/s or {VELOCITY_METRES:g} m/s",
    "acceleration": f"the largest velocity within {RISE:g} s",
    "torque": f"{LOAD_FACTOR:g} times the weight to carry, and what the acceleration takes besides",
}


def with_assumed_limits(chain: SerialChain) -> tuple[SerialChain, dict[str, tuple[str, ...]]]:
    """The chain with all that the tasks need, and for each of ``RULES`` the joints that it was applied to."""
    open_ended = [max(-low, high) == math.inf for low, high in zip(chain.q_min, chain.q_max, strict=True)]
    missing = {name: [value == math.inf for value in getattr(chain, name)] for name in RULES if name != "position"}
    usual = [VELOCITY if turns else VELOCITY_METRES for turns in chain.turning]
    limits: dict[str, Any] = {"velocity": _filled(chain.velocity, usual)}
    limits["acceleration"] = _filled(chain.acceleration, [velocity / RISE for velocity in limits["velocity"]])
    if any(missing["torque"]):
        limits["torque"] = _filled(chain.torque, _needed_torque(chain, limits["acceleration"]))
    missing = {"position": open_ended, **missing}
    names = {name: [chain.joint_names[i] for i, lacks in enumerate(rows) if lacks] for name, rows in missing.items()}
    return dataclasses.replace(chain, **limits), {name: tuple(joints) for name, joints in names.items() if joints}


def _filled(known: Row, values: list[float]) -> Row:
    """The limits, with ``values`` where there are none."""
    return tuple(new if old == math.inf else old for old, new in zip(known, values, strict=True))


def _needed_torque(chain: SerialChain, acceleration: Row) -> list[float]:
    """What each joint needs to carry the arm in any pose and to accelerate it, to three digits; at least 1e-3."""
    low, high = (torch.tensor(end, dtype=torch.float64) for end in chain.span)
    draws = torch.rand(_POSES, chain.dof, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    q, rest = low + draws * (high - low), torch.zeros(_POSES, chain.dof, dtype=torch.float64)
    weight = inverse_dynamics(chain, q, rest, rest).abs().amax(0)
    inertia = mass_matrix(chain, q).diagonal(dim1=1, dim2=2).amax(0)
    needed = LOAD_FACTOR * weight + inertia * torch.tensor(acceleration, dtype=torch.float64)
    return [float(f"{max(value, 1e-3):.3g}") for value in needed.tolist()]
