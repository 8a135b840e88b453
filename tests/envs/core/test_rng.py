"""The random numbers: SplitMix64's published values, statistics at fixed seeds, and independence of the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from palaestra.envs.core.draws import splitmix
from palaestra.envs.core.rng import Rng, child_key, env_keys

GAMMA = 0x9E3779B97F4A7C15
MASK = 2**64 - 1


def make(num_envs: int, seed: int = 0, episode: int = 0, step: int = 0, first: int = 0) -> Rng:
    keys = env_keys(seed, torch.arange(first, first + num_envs))
    return Rng(child_key(keys, torch.full((num_envs,), episode)), step)


class Given:
    """Bits instead of random ones."""

    def __init__(self, bits: Tensor) -> None:
        self.bits = bits

    def get(self, draw: int, request: Any) -> Tensor | None:
        return self.bits if request[0] == "bits" else None


def chi_square(counts: Tensor) -> float:
    """Standard normal score of the chi-square statistic of equally likely bins."""
    expected = counts.sum().item() / counts.numel()
    statistic = ((counts.double() - expected) ** 2 / expected).sum().item()
    degrees = counts.numel() - 1
    return (statistic - degrees) / math.sqrt(2 * degrees)


def bytes_of(bits: Tensor) -> Tensor:
    return torch.from_numpy(bits.flatten().numpy().view(np.uint8).astype(np.int64))


def test_published_splitmix64_sequence() -> None:
    """The sequential generator with seed 1234567 (the reference vector of its C implementation)."""
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    states = [(1234567 + k * GAMMA) & MASK for k in range(1, 6)]
    assert [splitmix.mix_int(state) for state in states] == published
    tensor = torch.tensor([splitmix.signed(state) for state in states])
    assert [value % 2**64 for value in splitmix.mix(tensor).tolist()] == published


@given(st.lists(st.integers(0, MASK), min_size=1, max_size=8))
def test_tensor_mix_equals_integer_mix(values: list[int]) -> None:
    mixed = splitmix.mix(torch.tensor([splitmix.signed(v) for v in values]))
    assert mixed.tolist() == [splitmix.signed(splitmix.mix_int(v)) for v in values]


@given(st.integers(0, MASK), st.integers(0, 2**40))
def test_child_key_of_an_integer_equals_that_of_a_tensor(key: int, counter: int) -> None:
    keys = torch.tensor([splitmix.signed(key)])
    expected = splitmix.signed(splitmix.mix_int((key + (counter + 1) * GAMMA) & MASK))
    assert child_key(keys, counter).tolist() == child_key(keys, torch.tensor([counter])).tolist() == [expected]


def streams() -> dict[str, Tensor]:
    """200,000 draws that differ in one coordinate only, for each coordinate."""
    n = 200_000
    one = torch.zeros(1, dtype=torch.int64)
    keys = env_keys(3, one)
    steps = Rng(child_key(keys, 0).expand(n), torch.arange(n))
    draws = make(1, seed=3)
    return {
        "env index": make(n, seed=3).bits(),
        "episode": Rng(child_key(keys.expand(n), torch.arange(n)), 0).bits(),
        "step": steps.bits(),
        "draw": torch.cat([draws.bits() for _ in range(20_000)]),
        "lane": make(1, seed=3).bits((n,)).flatten(),
        "seed": torch.cat([make(1, seed=s).bits() for s in range(10_000)]),
    }


def test_bytes_are_uniform_along_every_coordinate() -> None:
    for name, bits in streams().items():
        assert abs(chi_square(bytes_of(bits).bincount(minlength=256))) < 4.5, name


def test_neighbours_are_independent_along_every_coordinate() -> None:
    """Pairs of neighbouring draws: 16 × 16 bins of top and of bottom bits, and the correlation of uniforms."""
    for name, bits in streams().items():
        a, b = bits[:-1], bits[1:]
        for shift in (60, 0):
            pairs = ((a >> shift) & 15) * 16 + ((b >> shift) & 15)
            assert abs(chi_square(pairs.bincount(minlength=256))) < 4.5, name
        u = (bits >> 11).double() * 2.0**-53
        correlation = torch.corrcoef(torch.stack((u[:-1], u[1:])))[0, 1].item()
        assert abs(correlation) < 4.5 / math.sqrt(len(u)), name


def test_a_change_of_one_bit_in_any_coordinate_flips_half_the_bits() -> None:
    base = make(4096).bits()
    changed = (make(4096, seed=1), make(4096, episode=1), make(4096, step=1), make(4096, first=1))
    for other in changed:
        flipped = bytes_of(base ^ other.bits())
        ones = sum(((flipped >> k) & 1).sum().item() for k in range(8))
        total = 4096 * 64
        assert abs(ones - total / 2) < 4.5 * math.sqrt(total) / 2


def test_coordinates_do_not_collide() -> None:
    """(seed, env, episode, step, draw) and any permutation of small numbers among them give different bits."""
    seen = []
    for seed in range(4):
        for episode in range(4):
            for step in range(4):
                rng = make(4, seed, episode, step)
                seen += [rng.bits() for _ in range(4)]
    assert torch.cat(seen).unique().numel() == 4**5


def test_streams_of_one_seed_differ() -> None:
    indices = torch.arange(1000)
    assert not (env_keys(5, indices, stream=0) == env_keys(5, indices, stream=1)).any()


def test_all_bits_of_a_long_seed_count() -> None:
    keys = [env_keys(seed, torch.arange(1)).item() for seed in (1, 1 + 2**64, 1 + 2**65, 1 + 2**128, 2**64)]
    assert len(set(keys)) == 5


def test_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0, got -1"):
        env_keys(-1, torch.arange(2))


def test_uniform_range_moments_and_dtype() -> None:
    for dtype, digits in ((torch.float32, 24), (torch.float64, 53)):
        u = make(200_000).uniform(dtype=dtype)
        assert u.dtype == dtype
        assert 0.0 <= u.min() < 1e-4
        assert 1 - 1e-4 < u.max() < 1.0
        assert ((u.double() * 2.0**digits) % 1 == 0).all()
        assert abs(u.double().mean().item() - 0.5) < 4.5 / math.sqrt(12 * 200_000)
        assert abs(chi_square((u * 100).long().bincount(minlength=100))) < 4.5


def test_uniform_never_reaches_one_in_float32() -> None:
    """The largest 64 bits there are give the largest number below 1."""
    biggest = Rng(torch.zeros(1, dtype=torch.int64), 0, Given(torch.tensor([-1])))
    assert biggest.uniform().item() == 1 - 2.0**-24


EXTREMES = torch.tensor([-1, 0, 2**63 - 1, -(2**63)])  # all bits set, none, and all but the first, and the first alone


@given(
    st.sampled_from([torch.float32, torch.float64]),
    st.one_of(
        st.tuples(st.floats(-1e6, 1e6), st.floats(0, 1e6)).map(lambda pair: (pair[0], pair[0] + pair[1])),
        st.sampled_from([(1000.0, 1001.0), (0.0, 0.1), (-0.7, 0.7), (1e8, 1e8 + 16), (0.0, 1e-45), (-1e38, 1e38)]),
    ),
    st.booleans(),
)
def test_uniform_is_half_open_in_every_range(dtype: torch.dtype, bounds: tuple[float, float], tensors: bool) -> None:
    """The largest and smallest bits; a range that has no number of that type between its ends gives the lower end."""
    rng = Rng(torch.zeros(4, dtype=torch.int64), 0, Given(EXTREMES))
    low, high = (torch.tensor(bound, dtype=dtype) for bound in bounds)
    drawn = rng.uniform(low, high, dtype=dtype) if tensors else rng.uniform(*bounds, dtype=dtype)
    assert drawn.dtype == dtype
    assert (drawn >= low).all()
    assert ((drawn < high) | (low == high)).all()


def test_a_million_draws_of_a_short_range_stay_below_its_end() -> None:
    """Rounding alone would give 1001 in one of 32,768 draws."""
    assert make(1_000_000).uniform(1000.0, 1001.0).max().item() == 1001 - 2.0**-14


@pytest.mark.parametrize("bounds", [(-3e38, 3e38), (0.0, math.inf), (math.nan, 1.0)])
def test_uniform_refuses_ranges_that_are_not_finite(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"the range must be finite, and fit into torch\.float32"):
        make(4).uniform(*bounds)


@pytest.mark.parametrize("bounds", [(0, 2**31 + 1), (0, 2**33), (3, 3), (3, 2)])
def test_integers_refuse_ranges_that_are_empty_or_too_long(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="the range must be 1 to 2\\^31 long"):
        make(4).integers(*bounds)


def test_the_longest_range_of_integers() -> None:
    """The largest and the smallest bits give its ends."""
    rng = Rng(torch.zeros(4, dtype=torch.int64), 0, Given(EXTREMES))
    assert rng.integers(-7, 2**31 - 7).tolist() == [2**31 - 8, -7, 2**30 - 8, 2**30 - 7]


def test_uniform_between_bounds() -> None:
    low, high = torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 10.0])
    u = make(20_000).uniform(low, high, (2,))
    assert ((u >= low) & (u < high)).all()
    assert torch.allclose(u.mean(0), (low + high) / 2, atol=0.08)


@given(st.integers(-50, 50), st.integers(1, 300))
def test_integers_stay_in_range_and_reach_both_ends(low: int, count: int) -> None:
    values = make(20_000, seed=count).integers(low, low + count)
    assert (values.min().item(), values.max().item()) == (low, low + count - 1)


def test_integers_are_uniform() -> None:
    for count in (2, 3, 7, 100, 1000):
        values = make(200_000, seed=count).integers(0, count)
        assert abs(chi_square(values.bincount(minlength=count))) < 4.5


def test_integers_with_a_bound_per_environment() -> None:
    high = torch.arange(1, 1001)
    values = torch.stack([make(1000, episode=e).integers(0, high) for e in range(50)])
    assert ((values >= 0) & (values < high)).all()
    assert abs((values / (high - 1).clamp(min=1))[:, 1:].mean().item() - 0.5) < 0.01


def test_choice_is_uniform_over_the_true_entries() -> None:
    mask = torch.tensor([False, True, True, False, False, True, True, False, True]).expand(200_000, 9)
    counts = make(200_000).choice(mask).bincount(minlength=10)
    assert counts[[0, 3, 4, 7, 9]].sum() == 0
    assert abs(chi_square(counts[[1, 2, 5, 6, 8]])) < 4.5


@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=20))
def test_choice_gives_a_true_entry_and_the_width_for_an_empty_row(rows: list[list[bool]]) -> None:
    for row, choice in zip(rows, make(len(rows)).choice(torch.tensor(rows)).tolist(), strict=True):
        assert row[choice] if any(row) else choice == 5


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=20))
def test_choice_in_some_rows_is_what_it_is_in_all(rows: list[tuple[bool, ...]]) -> None:
    where, mask = torch.tensor(rows).split([1, 3], 1)
    where = where.squeeze(1)
    for step in (7, torch.arange(len(rows))):  # a step for all environments, and one for each
        keys = env_keys(3, torch.arange(len(rows)))
        everywhere, somewhere = Rng(keys, step), Rng(keys, step)
        for _ in range(3):  # the same numbers of the draws that follow, too
            assert torch.equal(everywhere.choice(mask)[where], somewhere.choice(mask, where)[where])
            assert torch.equal(everywhere.bits(), somewhere.bits())


def test_normal_moments_and_distribution() -> None:
    n = 200_000
    for dtype in (torch.float32, torch.float64):
        z = make(n).normal(dtype=dtype)
        assert z.dtype == dtype
        z = z.double()
        assert abs(z.mean().item()) < 4.5 / math.sqrt(n)
        assert abs(z.var().item() - 1) < 4.5 * math.sqrt(2 / n)
        assert abs((z**3).mean().item()) < 4.5 * math.sqrt(15 / n)
        assert abs((z**4).mean().item() - 3) < 4.5 * math.sqrt(96 / n)
        cdf = torch.special.ndtr(z.sort().values)
        distance = (cdf - (torch.arange(n) + 0.5) / n).abs().max().item()
        assert distance < 2.2 / math.sqrt(n)  # Kolmogorov-Smirnov, probability 1e-4


def test_bernoulli_frequency() -> None:
    p = torch.tensor([0.0, 0.1, 0.5, 1.0])
    hits = make(50_000).bernoulli(p, (4,)).double().mean(0)
    assert hits[0] == 0
    assert hits[3] == 1
    assert torch.allclose(hits, p.double(), atol=4.5 * 0.5 / math.sqrt(50_000))


@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 2**70), st.integers(0, 5), st.integers(0, 500))
def test_a_row_draws_the_same_in_any_batch(rows: int, first: int, seed: int, episode: int, step: int) -> None:
    whole, part = make(100, seed, episode, step), make(rows, seed, episode, step, first)
    for draw in (
        lambda rng: rng.bits((3,)),
        lambda rng: rng.uniform(-1.0, 1.0),
        lambda rng: rng.normal((2, 2)),
        lambda rng: rng.integers(0, 10),
    ):
        assert torch.equal(draw(whole)[first : first + rows], draw(part))


def test_meta_device_needs_no_values() -> None:
    keys = env_keys(0, torch.arange(5, device="meta"))
    rng = Rng(child_key(keys, 0), torch.arange(5, device="meta"))
    shapes = (
        rng.uniform().shape,
        rng.normal((2,)).shape,
        rng.choice(torch.ones(5, 3, dtype=torch.bool, device="meta")).shape,
    )
    assert shapes == ((5,), (5, 2), (5,))
