"""A robot's data sheet: its joints and limits, mass, reach and weight, as plain data.

1. Reach is the largest distance of the tool centre from the origin of the base. It is sought from random
   configurations, one joint after the other: while the others stand still, the squared distance is
   a + b cos q + c sin q for a joint that turns, and along a slide it is largest at an end, so that each joint goes to
   its best place at once.
2. Weight is the torque (of slides the force) that holds the arm at rest without a payload: in the pose shown, and the
   largest among random poses within the limits.
3. The pose shown is the start of the tasks, unless it is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from palaestra.envs.arm.chain import Row, SerialChain
from palaestra.envs.arm.dynamics import forward_kinematics, inverse_dynamics
from palaestra.envs.arm.robot_files.assumed import RULES
from palaestra.envs.arm.robots.start_pose import start_pose
from palaestra.envs.core import Array

POSES = 4096  # that are weighed
_STARTS, _SWEEPS, _GAIN = 64, 200, 1e-9  # of the search for the reach; the last in m
_WORDS = {"torque": "effort"}  # limits that a robot's file calls by another name


def data_sheet(
    chain: SerialChain,
    base: str,
    tip: str,
    assumed: Mapping[str, Iterable[str]],
    notes: Sequence[str] = (),
    start: Row | None = None,
) -> dict[str, Any]:
    """All that is known of an arm; numbers in rad, m, s and kg, efforts in N m, or N of slides.

    Of each joint ``lower`` and ``upper`` are None where there is no limit, ``range`` is what the tasks scale by, and
    ``axis`` is about which (right-hand rule) or along which the joint is positive, in the axes of the base with all
    joints at 0.

    Args:
        chain: the arm.
        base, tip: what it goes from and to.
        assumed: for each kind of limit that no source gave the joints.
        notes: sentences on what was chosen, frozen or left out.
        start: the pose to show, rad or m; None for that of the tasks.
    """
    q = start_pose(chain) if start is None else chain.check_configuration(start)
    here, most = weight(chain, torch.tensor([q], dtype=torch.float64))[0], largest_weight(chain)
    axes = forward_kinematics(chain, torch.zeros(1, chain.dof, dtype=torch.float64)).rotation[0].numpy()
    joints = []
    for i, name in enumerate(chain.joint_names):
        low, high = (None if math.isinf(end[i]) else end[i] for end in (chain.q_min, chain.q_max))
        limits = {
            _WORDS.get(key, key): _known(getattr(chain, key)[i]) for key in ("velocity", "acceleration", "torque")
        }
        effort = limits["effort"]
        joints.append(
            {
                "order": i + 1,
                "name": name,
                "kind": chain.kinds[i],
                "unit": chain.unit(i),
                "lower": low,
                "upper": high,
                **limits,
                "assumed": [_WORDS.get(key, key) for key in RULES if name in assumed.get(key, ())],
                "range": [chain.span[0][i], chain.span[1][i]],
                "axis": [round(float(part), 9) + 0.0 for part in axes[i] @ np.array(chain.axes[i])],
                "moves": chain.link_names[i],
                **{key: getattr(chain, key)[i] for key in ("damping", "coulomb", "armature")},
                "pose": q[i],
                "weight": float(here[i]),
                "largest_weight": float(most[i]),
                "share_of_effort": None if effort is None else float(most[i]) / effort,
            }
        )
    return {
        "name": chain.name,
        "base": base,
        "tip": tip,
        "joints": joints,
        "assumed": {_WORDS.get(key, key): RULES[key] for key in RULES if key in assumed},
        "notes": list(notes),
        "mass": sum(chain.mass),
        "reach": reach(chain),
        "poses_weighed": POSES,
        "gravity": list(chain.gravity),
    }


def reach(chain: SerialChain) -> float:
    """The largest distance of the tool centre from the origin of the base, m."""
    low, high = (np.array(end) for end in chain.span)
    q = low + np.random.default_rng(0).random((_STARTS, chain.dof)) * (high - low)
    found, base = 0.0, np.array(chain.base.position)
    for _ in range(_SWEEPS):
        pose = forward_kinematics(chain, torch.from_numpy(q))
        rotation, position = pose.rotation.numpy(), pose.position.numpy()
        tool = position[:, -1] - base
        farthest = float(np.linalg.norm(tool, axis=1).max())
        if farthest - found < _GAIN:
            return max(found, farthest)
        found = farthest
        for i in reversed(range(chain.dof)):  # a joint leaves the axes of those before it where they are
            axis = rotation[:, i] @ np.array(chain.axes[i])
            joint, ends = position[:, i] - base, (low[i], high[i])
            q[:, i], tool = _farthest(chain.turning[i], q[:, i], ends, axis, joint, tool)
    return found


def _farthest(
    turns: bool, q: Array, ends: tuple[float, float], axis: Array, joint: Array, tool: Array
) -> tuple[Array, Array]:
    """The place of one joint [M] that brings the tool [M, 3] farthest from the origin, and where the tool is then."""
    low, high = ends
    if not turns:
        along = np.einsum("mk,mk->m", axis, tool)
        ahead, back = ((end - q) * (2 * along + end - q) for end in (high, low))
        best = np.where(ahead >= back, high, low)
        return best, tool + (best - q)[:, None] * axis
    arm = tool - joint
    across = arm - np.einsum("mk,mk->m", axis, arm)[:, None] * axis
    aside = np.cross(axis, arm)
    peak = np.arctan2(np.einsum("mk,mk->m", joint, aside), np.einsum("mk,mk->m", joint, across))  # from where it is
    best = q + peak
    best = best + 2 * math.pi * np.ceil((low - best) / (2 * math.pi))  # the first one from the lower limit on
    nearer = np.where(np.cos(low - q - peak) > np.cos(high - q - peak), low, high)
    best = np.where(best <= high, best, nearer)
    turn = (best - q)[:, None]
    return best, tool + (np.cos(turn) - 1.0) * across + np.sin(turn) * aside


def weight(chain: SerialChain, q: torch.Tensor) -> Array:
    """Torques [M, dof] (N m; of slides N) that hold the arm at rest in the poses [M, dof] without a payload."""
    rest = torch.zeros_like(q)
    found: Array = inverse_dynamics(chain, q, rest, rest).numpy()
    return found


def largest_weight(chain: SerialChain) -> Array:
    """The largest torque [dof] of each joint that holds the arm at rest in any of ``POSES`` random poses."""
    low, high = (torch.tensor(end, dtype=torch.float64) for end in chain.span)
    draws = torch.rand(POSES, chain.dof, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    largest: Array = np.abs(weight(chain, low + draws * (high - low))).max(0)
    return largest


def _known(limit: float) -> float | None:
    return None if math.isinf(limit) else limit
