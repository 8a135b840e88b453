"""Seeds for the simulators of Gymnasium environments: 31 bits, which all of them take, and held-out episodes apart.

1. Seeds of a batch below ``HELD_OUT_SEEDS`` are for training: environment i gets the i-th word of NumPy's
   ``SeedSequence(seed)``, cut to 30 bits.
2. From there on they are for held-out episodes, one in each environment, whose simulators have seeds from 2^30 on, so
   that none of them begins as one of training does. Episode k of held-out seed s is number 2^16 s + k, in another order
   of the numbers of 30 bits. So two seeds below 2^14 share none of their first 2^16 episodes; beyond, words of
   ``SeedSequence`` take their place, and of a thousand episodes of one seed and a thousand of another, one is shared
   in about one case out of a thousand.
"""

from __future__ import annotations

import numpy as np

HELD_OUT_SEEDS = 2**32
_SEEDS, _EPISODES, _BITS = 2**14, 2**16, 30
_MASK = 2**_BITS - 1


def simulator_seeds(seed: int, first: int, count: int) -> list[int]:
    """Those of environments ``first`` … ``first + count − 1`` in a batch with ``seed``; see the module."""
    found = np.random.SeedSequence(seed).generate_state(first + count)[first:].astype(np.int64) >> 32 - _BITS
    if seed >= HELD_OUT_SEEDS:
        episodes = np.arange(first, first + count)
        if seed - HELD_OUT_SEEDS < _SEEDS:
            number = (seed - HELD_OUT_SEEDS) * _EPISODES + episodes
            found = np.where(episodes < _EPISODES, _reordered(number), found)
        found += 2**_BITS
    return [int(value) for value in found]


def _reordered(numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """A permutation of the numbers of 30 bits, which takes neighbours apart: each of its steps can be undone."""
    for factor in (438_293_613, 523_592_853):  # odd ones have an inverse
        numbers = (numbers ^ numbers >> 15) * factor & _MASK
    return numbers ^ numbers >> 15
