"""Prioritised draws: an exact sampler as reference, sums that stay sums, and rounding at its worst."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from palaestra.agents.buffers.prioritized import Priorities
from palaestra.agents.buffers.replay import Replay

SIZES = (1, 2, 31, 32, 33, 1024, 1025, 40_000)


def tree(values: Tensor) -> Priorities:
    """Priorities with the given values, multiples of 32 (which the small constant in the formula does not change)."""
    priorities = Priorities(len(values), 1.0)
    priorities.update(torch.arange(len(values)), values.float())
    priorities.clear((values == 0).nonzero().squeeze(1))
    assert torch.equal(priorities.values, values.float())
    return priorities


def whole_numbers(size: int, seed: int = 0) -> Tensor:
    """Random priorities with exact sums, half of them 0."""
    random = np.random.default_rng(seed)
    values = 32 * random.integers(1, 13, size) * (random.random(size) < 0.5)
    values[random.integers(size)] = 32
    return torch.tensor(values)


def check_sums(priorities: Priorities) -> None:
    for below, level in zip(priorities._levels, priorities._levels[1:], strict=False):
        sums = below.double().view(-1, 32).sum(1)
        torch.testing.assert_close(level[: len(sums)].double(), sums, rtol=1e-5, atol=0.0)
        assert not level[len(sums) :].any()
    assert len(priorities._levels[-1]) == 32
    assert not priorities._levels[0][priorities.size :].any()


# ---------------------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize("size", SIZES)
def test_draws_are_those_of_an_exact_sampler(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same uniform numbers: the place where the cumulative sum of all priorities passes each of them."""
    values = whole_numbers(size)
    uniform = torch.from_numpy(np.random.default_rng(1).random(4096, np.float32))
    monkeypatch.setattr(torch, "rand", lambda size, device: uniform)
    places, _ = tree(values).sample(4096)
    parts = (torch.arange(4096) + uniform).double().numpy() / 4096
    below = np.cumsum(values.numpy())
    numbers = (parts * below[-1]).astype(np.float32)  # as the tree rounds them
    np.testing.assert_array_equal(places.numpy(), np.searchsorted(below, numbers, side="right"))


@given(st.integers(0, 10**6), st.sampled_from(SIZES[:-1]), st.integers(1, 5000), st.floats(0.0, 3.0))
def test_a_batch_is_stratified(seed: int, size: int, batch_size: int, spread: float) -> None:
    """Place i covers B p_i of the B parts: all but two of them surely, so its count is within 2 of B p_i."""
    random = torch.Generator().manual_seed(seed)
    priorities = Priorities(size, 1.0)
    priorities.update(torch.arange(size), 10.0 ** (spread * torch.randn(size, generator=random)))
    torch.manual_seed(seed)
    places, _ = priorities.sample(batch_size)
    counts = places.bincount(minlength=size).double()
    p = priorities.values.double() / priorities.values.double().sum()
    assert float((counts - batch_size * p).abs().max()) < 2.001


def test_each_place_is_drawn_in_proportion_over_many_batches() -> None:
    """Batches of one, so that nothing is stratified: χ² with 49 degrees of freedom, deviation √98."""
    priorities = Priorities(100, 0.6)
    priorities.update(torch.arange(50) * 2, torch.arange(1, 51).float())
    torch.manual_seed(0)
    counts = np.bincount([int(priorities.sample(1)[0]) for _ in range(20_000)], minlength=100)
    expected = np.arange(1, 51) ** 0.6 / (np.arange(1, 51) ** 0.6).sum() * 20_000
    assert not counts[1::2].any()
    assert ((counts[::2] - expected) ** 2 / expected).sum() < 49 + 4 * 98**0.5


def test_without_a_power_all_places_are_alike() -> None:
    priorities = Priorities(70, 0.0)
    priorities.update(torch.arange(0, 70, 2), torch.logspace(-5, 5, 35))
    places, weights = priorities.sample(35)
    assert sorted(places.tolist()) == list(range(0, 70, 2))
    assert weights.tolist() == [1.0] * 35


def test_a_negative_power_is_refused() -> None:
    with pytest.raises(ValueError, match="alpha"):
        Priorities(3, -0.1)


# ---------------------------------------------------------------------------------------------------- rounding


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("decades", [0.1, 3.0, 12.0, 25.0])
def test_a_place_without_priority_is_never_drawn(size: int, decades: float) -> None:
    random = torch.Generator().manual_seed(size)
    priorities = Priorities(size, 1.0)
    priorities.update(torch.arange(size), 10.0 ** (decades * (torch.rand(size, generator=random) - 0.5)))
    priorities.clear(torch.randperm(size, generator=random)[: size // 2])
    torch.manual_seed(0)
    for batch_size in (1, 7, 4096):
        places, weights = priorities.sample(batch_size)
        assert (priorities.values[places] > 0).all()
        assert weights.isfinite().all()


def test_a_number_that_rounding_puts_below_zero_finds_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family of place 33 begins at 3 of 2^24 + 4 (rounded), its own sum is 2^24: 3.5 falls into it, 3.5 − 4 < 0."""
    priorities = Priorities(64, 1.0)
    priorities._set(torch.tensor([5, 33]), torch.tensor([3.0, 2.0**24]))
    monkeypatch.setattr(torch, "rand", lambda size, device: torch.tensor([3.5 / 2**24]))
    places, weights = priorities.sample(1)
    assert places.tolist() == [33]
    assert weights.tolist() == [1.0]


@pytest.mark.parametrize("uniform", [0.0, 1.0])
def test_both_ends_of_the_range_find_a_place(uniform: float, monkeypatch: pytest.MonkeyPatch) -> None:
    priorities = Priorities(3000, 1.0)
    priorities.update(torch.tensor([40, 41, 2900]), torch.tensor([1e-3, 1e-3, 1e-3]))
    monkeypatch.setattr(torch, "rand", lambda size, device: torch.full((size,), uniform))
    places, _ = priorities.sample(3)
    assert places.tolist() == ([40, 41, 2900] if uniform == 0.0 else [41, 2900, 2900])


def test_cumulative_sums_that_do_not_rise_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parallel sum rounds every entry in its own way."""
    cumsum = Tensor.cumsum
    noise = torch.Generator().manual_seed(0)

    def rounded(values: Tensor, dim: int) -> Tensor:
        return cumsum(values, dim) * (1 + 1e-3 * torch.randn(values.shape, generator=noise))

    priorities = tree(whole_numbers(2000))
    monkeypatch.setattr(Tensor, "cumsum", rounded)
    places, _ = priorities.sample(20_000)
    assert (priorities.values[places] > 0).all()


# ---------------------------------------------------------------------------------------------------- updates


@pytest.mark.parametrize("size", SIZES)
def test_sums_stay_sums_after_random_updates(size: int) -> None:
    """Places come up more than once in an update: either value may win, and every sum counts the one that did."""
    random = torch.Generator().manual_seed(1)
    priorities = Priorities(size, 0.7)
    expected: dict[int, set[float]] = {i: {0.0} for i in range(size)}
    for turn in range(20):
        places = torch.randint(size, (64,), generator=random)
        errors = 10.0 ** (3 * torch.randn(64, generator=random))
        if turn % 4 == 3:
            priorities.clear(places)
            expected.update({place: {0.0} for place in places.tolist()})
        else:
            priorities.update(places, errors)
            written = (errors + 1e-6).pow(0.7).tolist()
            expected.update({place: set() for place in places.tolist()})
            for place, value in zip(places.tolist(), written, strict=True):
                expected[place].add(value)
        check_sums(priorities)
    for place, value in enumerate(priorities.values.tolist()):
        assert any(value == pytest.approx(candidate, rel=1e-5) for candidate in expected[place])


def test_the_priority_of_an_error_by_hand() -> None:
    """(|±4| + 10⁻⁶)^½ ≈ 2, (0 + 10⁻⁶)^½ = 0.001."""
    priorities = Priorities(4, 0.5)
    priorities.update(torch.tensor([0, 1, 2]), torch.tensor([4.0, -4.0, 0.0], requires_grad=True))
    assert priorities.values.tolist() == pytest.approx([2.0, 2.0, 0.001, 0.0], rel=1e-5)
    assert not priorities.values.requires_grad


def test_new_places_get_the_largest_priority_ever_seen() -> None:
    priorities = Priorities(6, 0.5)
    priorities.set_max(torch.tensor([0]))
    priorities.update(torch.tensor([1]), torch.tensor([0.25]))  # below the first "largest", 1
    priorities.set_max(torch.tensor([2]))
    priorities.update(torch.tensor([3]), torch.tensor([-9.0]))
    priorities.update(torch.tensor([3]), torch.tensor([0.25]))
    priorities.set_max(torch.tensor([4, 5]))
    assert priorities.values.tolist() == pytest.approx([1.0, 0.5, 1.0, 0.5, 3.0, 3.0], rel=1e-5)


@pytest.mark.parametrize(("beta", "rare"), [(0.0, 1.0), (0.5, 3**-0.5), (1.0, 1 / 3)])
def test_importance_weights_by_hand(beta: float, rare: float) -> None:
    """Priorities 1 and 3: the second is drawn three times as often, and counts 3^−β."""
    priorities = Priorities(50, 1.0)
    priorities.update(torch.tensor([7, 45]), torch.tensor([1.0, 3.0]))
    places, weights = priorities.sample(8, beta)
    assert places.tolist() == [7, 7] + [45] * 6
    assert weights.tolist() == pytest.approx([1.0] * 2 + [rare] * 6, rel=1e-5)


# ---------------------------------------------------------------------------------------------------- with replay


def test_only_rows_with_a_transition_have_a_priority() -> None:
    """Four rows of two environments; environment 1 is cut at the fourth step. Overwritten rows start anew."""

    def content(number: int) -> dict[str, Tensor]:
        return {"": torch.full((2,), number)}

    priorities = Priorities(4 * 2, 1.0)
    replay = Replay(6, content(0), num_actions=2, gamma=0.5, priorities=priorities)
    no, reward = torch.zeros(2, dtype=torch.bool), torch.zeros(2)
    for t in range(3):
        replay.add(no.long(), reward, no, no, content(t + 1), content(t + 1))
    assert priorities.values.view(4, 2).tolist() == [[1, 1], [1, 1], [1, 1], [0, 0]]
    priorities.update(torch.arange(6), torch.full((6,), 32.0))
    replay.add(no.long(), reward, no, torch.tensor([False, True]), content(4), content(4))
    # environment 0 is in row 0; environment 1 has its last moment in row 0 and is in row 1
    assert priorities.values.view(4, 2).tolist() == [[0, 0], [32, 0], [32, 32], [32, 32]]
    found = replay.sample(100, beta=1.0)
    assert set(found.indices.tolist()) == {2, 4, 5, 6, 7}
    assert found.weights.tolist() == [1.0] * 100
