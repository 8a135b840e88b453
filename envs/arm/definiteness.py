"""Whether every motion of a chain has inertia, where some links have none of their own.

The joint-space inertia M(q) is positive definite if each link has mass and a definite inertia. Otherwise it depends on
the configuration: three joints that share one body have no inertia of their own where two of their axes coincide. The
least eigenvalue of M with its diagonal scaled to ones tells: it is 1 for joints that do not feel each other, and 0 for
a motion without inertia. It is sought by random samples within the limits, and by random steps from the smallest.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from palaestra.envs.core import Array

NEARLY_NOTHING = 1e-6  # of that eigenvalue: below it float32 has no digit left
_SAMPLES, _KEPT, _TRIES, _ROUNDS = 1000, 6, 16, 30


def least_inertia(chain: Any) -> tuple[float, Array, int]:
    """The least eigenvalue found, the configuration [dof] it was found in, and the joint that moves most there.

    Args:
        chain: a ``SerialChain``, whose module imports this one.
    """
    rng = np.random.default_rng(0)
    low, high = (np.array(end) for end in chain.span)
    q = low + rng.random((_SAMPLES, len(low))) * (high - low)
    q[0] = (low + high) / 2
    values, motions = _scaled_eigenvalues(chain, q)
    width = 0.1 * (high - low)
    for _ in range(_ROUNDS):
        best = values.argsort()[:_KEPT]
        tried = np.repeat(q[best], _TRIES, 0)
        tried[_KEPT:] += width * rng.normal(size=tried[_KEPT:].shape)
        tried = np.concatenate((q[best], tried.clip(low, high)))
        (values, motions), q = _scaled_eigenvalues(chain, tried), tried
        width = 0.75 * width
    least = int(values.argmin())
    return float(values[least]), q[least], int(np.abs(motions[least]).argmax())


def _scaled_eigenvalues(chain: Any, q: Array) -> tuple[Array, Array]:
    """The least eigenvalue [M] of the inertia scaled to ones, and its motion [M, dof], for configurations [M, dof]."""
    matrix = _mass_matrix(chain, q)
    diagonal = np.einsum("mii->mi", matrix).copy()
    largest = diagonal.max(1, keepdims=True)
    empty = diagonal <= 1e-15 * largest
    scale = 1.0 / np.sqrt(np.where(empty, np.where(largest > 0.0, largest, 1.0), diagonal))
    values, vectors = np.linalg.eigh(matrix * scale[:, :, None] * scale[:, None, :])
    return values[:, 0], vectors[:, :, 0]


def _mass_matrix(chain: Any, q: Array) -> Array:
    """M [M, dof, dof] as the sum over the links of Jᵀ I J, for configurations [M, dof]."""
    dof = q.shape[1]
    rotation, position = np.eye(3), np.zeros((len(q), 3))
    linear, angular, origin = (np.zeros((len(q), dof, 3)) for _ in range(3))  # motion of each joint
    total = np.zeros((len(q), dof, dof)) + np.diag(np.array(chain.armature))
    for i, stage in enumerate(chain.stages[:dof]):
        position = position + rotation @ np.array(stage.position)
        rotation = rotation @ np.array(stage.rotation) + np.zeros((len(q), 1, 1))
        axis = rotation[:, :, 2]
        if chain.turning[i]:
            cos, sin = np.cos(q[:, i]), np.sin(q[:, i])
            zero, one = np.zeros_like(cos), np.ones_like(cos)
            turn = np.array([[cos, -sin, zero], [sin, cos, zero], [zero, zero, one]])
            rotation, angular[:, i] = np.einsum("mij,jkm->mik", rotation, turn), axis
        else:
            position, linear[:, i] = position + axis * q[:, i, None], axis
        origin[:, i] = position
        link = rotation @ chain.alignments[i].T
        xx, yy, zz, xy, xz, yz = chain.inertia[i]
        inertia = link @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ link.transpose(0, 2, 1)
        centre = position + link @ np.array(chain.centre_of_mass[i])
        moved = slice(0, i + 1)  # later joints do not move this link
        turns = angular[:, moved]
        moves = linear[:, moved] + np.cross(turns, centre[:, None] - origin[:, moved])
        motion = np.concatenate((moves, turns), 2)
        momentum = np.concatenate((chain.mass[i] * moves, turns @ inertia), 2)
        total[:, moved, moved] += motion @ momentum.transpose(0, 2, 1)
    return total
