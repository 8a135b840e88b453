"""Choices in few rows on the host, in NumPy: a call there costs a third of PyTorch's, and the numbers are the same."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from palaestra.envs.core.draws.splitmix import _GAMMA, _M1, _M2, MASK
from palaestra.envs.core.reference import Array

_G, _FACTOR_1, _FACTOR_2 = np.uint64(_GAMMA), np.uint64(_M1), np.uint64(_M2)
_30, _27, _31, _32 = (np.uint64(shift) for shift in (30, 27, 31, 32))


def mixed(z: Array) -> Array:
    """:func:`palaestra.envs.core.draws.splitmix.mix` of uint64, which it changes in place."""
    z ^= z >> _30
    z *= _FACTOR_1
    z ^= z >> _27
    z *= _FACTOR_2
    z ^= z >> _31
    return z


def chosen(mask: Array, rows: Array, episode_key: Tensor, step: Tensor | int, draw: int) -> Array:
    """:meth:`palaestra.envs.core.rng.Rng.choice` of a draw in some rows, int64 [n].

    Args:
        mask: bool [n, K], of these rows.
        rows: int64 [n].
        episode_key: int64 [N].
        step: int64 [N] or an integer.
        draw: number of the draw, from 0.
    """
    keys = episode_key.numpy().view(np.uint64).take(rows)
    if isinstance(step, int):
        keys += np.uint64((step + 1) * _GAMMA & MASK)
    else:
        keys += (step.numpy().view(np.uint64).take(rows) + np.uint64(1)) * _G
    bits = mixed(mixed(keys) + np.uint64((draw + 1) * _GAMMA & MASK)) >> _32
    rank = mask.cumsum(1, dtype=np.int16)
    wanted = (bits * rank[:, -1].astype(np.uint64)) >> _32
    places: Array = (rank <= wanted.astype(np.int16)[:, None]).sum(1)
    return places
