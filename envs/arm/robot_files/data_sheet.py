"""A robot's data sheet: its joints and limits, mass, reach and weight, as plain data.

1. Reach is the largest distance of the tool centre from the origin of the base. It is sought from random
   configurations, one joint after the other: while the others stand still, the squared distance is
   a + b cos q + c sin q for a joint that turns, and along a slide it is largest at an end, so that each joint goes to
   its best place at once.
2. Weight is the torque (of slides the force) that holds the arm at rest without a payload: in the pose shown, and the
   largest among random poses within the limits.
3. The pose shown is bent: among random ones in the middle of the limits, with all joints above the base and the tool
   well above it if that is possible, the one in which the joints move the tool best in all directions that they can
   (largest product of the singular values of the Jacobian of its position; Yoshikawa, "Manipulability of robotic
   mechanisms", 1985).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.dynamics import forward_kinematics, inverse_dynamics, jacobian
from palaestra.envs.arm.robot_files.assumed import RULES
from palaestra.envs.arm.robot_files.robot_file import Robot
from palaestra.envs.core import Array

POSES = 4096  # that are weighed
_STARTS, _SWEEPS, _GAIN = 64, 200, 1e-9  # of the search for the reach; the last in m
_CANDIDATES, _MIDDLE = 2048, 0.6  # for the pose, and the share of each joint's range that they are drawn from
_RAISED, _SUNK = 0.25, 0.01  # by the farthest tool: its least height above the base, and a joint's depth that is none
_WORDS = {"torque": "effort"}  # limits that a robot's file calls by another name


def data_sheet(robot: Robot, pose: tuple[float, ...] | None = None) -> dict[str, Any]:
    """All that is known of an arm; numbers in rad, m, s and kg, efforts in N m, or N of slides.

    Of each joint ``lower`` and ``upper`` are None where there is no limit, ``range`` is what the tasks scale by, and
    ``axis`` is about which (right-hand rule) or along which the joint is positive, in the axes of the base with all
    joints at 0.

    Args:
        robot: the arm, and what was assumed of it.
        pose: to show and to weigh it in; None for a bent one.
    """
    chain = robot.chain
    q = bent_pose(chain) if pose is None else pose
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
                "assumed": [_WORDS.get(key, key) for key in RULES if name in robot.assumed.get(key, ())],
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
        "base": robot.base,
        "tip": robot.tip,
        "joints": joints,
        "assumed": {_WORDS.get(key, key): RULES[key] for key in RULES if key in robot.assumed},
        "notes": list(robot.notes),
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
    largest: Array = np.abs(weight(chain, _poses(chain, POSES, 1.0))).max(0)
    return largest


def bent_pose(chain: SerialChain) -> tuple[float, ...]:
    """A pose [dof] in the middle of the limits and away from singular ones; see the module."""
    q = _poses(chain, _CANDIDATES, _MIDDLE)
    values = np.linalg.svd(jacobian(chain, q)[:, :3].numpy(), compute_uv=False)  # [M, ≤ 3], the largest first
    values = values[:, (values > 1e-9 * values.max()).any(0)]  # directions in which it never moves apart
    frames = forward_kinematics(chain, q).position.numpy() - np.array(chain.base.position)
    height = frames @ _up(chain)  # [M, dof + 2]
    size = float(np.linalg.norm(frames[:, -1], axis=1).max())
    above = height.min(1) >= -_SUNK * size
    raised = above & (height[:, -1] >= _RAISED * size)
    score = values.prod(1) * np.select((raised, above), (1.0, 1e-3), 1e-6)
    best: list[float] = q[int(score.argmax())].tolist()
    return tuple(round(value, 3) for value in best)


def _poses(chain: SerialChain, count: int, share: float) -> torch.Tensor:
    """Random poses [count, dof] in the middle ``share`` of each joint's range; the same ones at each call."""
    low, high = (torch.tensor(end, dtype=torch.float64) for end in chain.span)
    draws = torch.rand(count, chain.dof, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (low + high) / 2 + (draws - 0.5) * share * (high - low)


def _up(chain: SerialChain) -> Array:
    """The direction against gravity; z where there is none."""
    gravity = np.array(chain.gravity)
    strength = float(np.linalg.norm(gravity))
    up: Array = -gravity / strength if strength > 0.0 else np.array((0.0, 0.0, 1.0))
    return up


def _known(limit: float) -> float | None:
    return None if math.isinf(limit) else limit
