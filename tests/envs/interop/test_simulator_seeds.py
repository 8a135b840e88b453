"""Seeds of simulators: 31 bits, each environment's its own, and held-out ones that nothing else has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.interop.simulator_seeds import HELD_OUT_SEEDS, simulator_seeds

SEEDS = st.integers(0, 2**34)


@given(SEEDS, st.integers(0, 2**16), st.integers(1, 40), st.integers(0, 40))
def test_a_seed_belongs_to_its_environment_whatever_the_batch(seed: int, first: int, count: int, more: int) -> None:
    one = simulator_seeds(seed, first, count)
    assert simulator_seeds(seed, max(0, first - more), count + more)[min(first, more) :][:count] == one
    assert len(set(one)) == count
    low = 2**30 if seed >= HELD_OUT_SEEDS else 0
    assert all(low <= own < low + 2**30 for own in one)


def test_training_seeds_are_those_of_seed_sequence() -> None:
    words = np.random.SeedSequence(7).generate_state(5)
    assert simulator_seeds(7, 2, 3) == [int(word) // 4 for word in words[2:]]


@pytest.mark.parametrize("seeds", [range(16), [0, 5, 32, 1000, 2**13, 2**14 - 1]])
def test_held_out_seeds_share_no_episode(seeds: list[int]) -> None:
    """All their 65,536 episodes."""
    every = np.concatenate([simulator_seeds(HELD_OUT_SEEDS + seed, 0, 2**16) for seed in seeds])
    assert len(np.unique(every)) == len(every)


@given(st.lists(SEEDS, min_size=2, max_size=2, unique=True))
def test_neither_do_others_for_all_practical_purposes(seeds: list[int]) -> None:
    a, b = (simulator_seeds(HELD_OUT_SEEDS + seed, 0, 1000) for seed in seeds)
    assert len(set(a) & set(b)) <= 1


def test_seeds_look_random() -> None:
    """Neighbours are as far apart as independent numbers: a third of the range on average."""
    own = np.array(simulator_seeds(HELD_OUT_SEEDS, 0, 10_000))
    assert np.abs(np.diff(own)).mean() / 2**30 == pytest.approx(1 / 3, abs=0.01)
    assert abs(np.corrcoef(own[:-1], own[1:])[0, 1]) < 0.05
    bits = (own[:, None] >> np.arange(30) & 1).mean(0)
    np.testing.assert_allclose(bits, 0.5, atol=0.03)
