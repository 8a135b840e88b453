"""Numbers that are watched and their distributions: known answers, and how dependence within episodes is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.train.export.held_out.monitored import (
    MOST_CUTS,
    WatchedNumber,
    bins_of,
    distribution_of,
    numbers_of,
    parts_of,
    watched_of,
)

X = WatchedNumber("observation", "x")
CHOICE = WatchedNumber("action", "action", low=0.0, high=2.0, whole=True)


def test_every_kind_of_input_is_watched() -> None:
    vector = {"name": "observation", "dtype": "float32", "shape": [3], "low": -1.0, "high": 1.0}
    named = [{"name": "angle", "count": 2, "unit": "rad", "scale": 3.0}, {"name": "speed", "offset": 1.0}]
    inputs: list[dict[str, Any]] = [
        {**vector, "elements": named},
        {"name": "board", "dtype": "float32", "shape": [2, 20, 20], "low": 0.0, "high": 4.0},
        {"name": "mode", "dtype": "int64", "shape": [], "kind": "discrete", "first": 1, "count": 3},
        {"name": "action_mask", "dtype": "bool", "shape": [4], "kind": "mask"},
    ]
    action = {"name": "action", "dtype": "int64", "shape": [], "kind": "discrete", "first": 0, "count": 2}
    found = watched_of({"inputs": inputs, "outputs": [{**action, "choices": ["left", "right"]}]})
    assert [one.name for one in found] == [
        "observation.angle_0",
        "observation.angle_1",
        "observation.speed",
        "board mean",
        "board deviation",
        "mode",
        "action_mask allowed",
        "action",
    ]
    assert found[0].quantity(0.5) == 1.5
    assert [one.whole for one in found] == [False] * 7 + [True]
    assert (found[5].low, found[5].high) == (1.0, 3.0)
    board = np.zeros((2, 2, 20, 20), np.float32)
    board[1, 0] = 4.0
    feed = {
        "observation": np.array([[1, 2, 3], [4, 5, 6]], np.float32),
        "board": board,
        "mode": np.array([1, 3]),
        "action_mask": np.array([[True, False, False, False], [True, True, True, True]]),
    }
    expected = [[1, 2, 3, 0, 0, 1, 0.25], [4, 5, 6, 2, 2, 3, 1]]
    assert numbers_of(inputs, feed).tolist() == expected
    several_choices = {"name": "action", "dtype": "int64", "shape": [2], "kind": "multi_discrete"}
    both = watched_of({"inputs": inputs[:1], "outputs": [{**several_choices, "first": [0, 0], "count": [3, 99]}]})
    assert [(one.name, one.whole) for one in both[3:]] == [("action_0", True), ("action_1", False)]


def test_numbers_with_few_values_have_a_cell_each() -> None:
    found = distribution_of(X, np.repeat([1.0, 2.0, 5.0], [1, 2, 7]), [])
    assert found.cuts == (0.5, 1.5, 3.5, 6.5)
    assert found.below == (0.0, 0.1, 0.3, 1.0)
    assert found.shares == pytest.approx([0.0, 0.1, 0.2, 0.7, 0.0])
    assert found.quantiles[0] == 1.0
    assert found.quantiles[-1] == 5.0
    assert found.mean == 4.0


def test_choices_that_were_never_taken_have_a_cell_too() -> None:
    found = distribution_of(CHOICE, np.zeros(10), [])
    assert found.cuts == (0.5, 1.5)
    assert found.shares.tolist() == [1.0, 0.0, 0.0]
    assert found.bins(CHOICE).tolist() == [0, 1, 2]


def test_a_number_that_is_always_the_same() -> None:
    found = distribution_of(X, np.full(10, 3.0), [])
    assert found.shares.tolist() == [0.0, 1.0, 0.0]


def test_cells_are_joined_to_bins_of_a_tenth() -> None:
    assert bins_of(np.full(40, 0.025), False).tolist() == np.repeat(np.arange(10), 4).tolist()
    assert bins_of(np.array([0.04, 0.05, 0.9, 0.01]), False).tolist() == [0, 0, 0, 0]
    assert bins_of(np.array([0.5, 0.02, 0.48]), False).tolist() == [0, 1, 1]
    assert bins_of(np.array([0.01, 0.01, 0.98]), True).tolist() == [0, 1, 2]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=300))
def test_a_sample_lies_in_its_own_cells(sample: list[float]) -> None:
    values = np.array(sample)
    found = distribution_of(X, values, [])
    assert 1 <= len(found.cuts) <= MOST_CUTS
    assert [*found.cuts] == sorted({*found.cuts})
    cells = np.bincount(np.searchsorted(found.cuts, values, side="right"), minlength=len(found.cuts) + 1)
    assert found.shares == pytest.approx(cells / len(values), abs=1e-8)
    bins = found.bins(X)
    assert bins[0] == 0
    assert set(np.diff(bins)) <= {0, 1}


def test_rounding_moves_no_observation_over_a_cut() -> None:
    values = np.arange(100, dtype=np.float32).astype(np.float64) / np.float32(7)
    found = distribution_of(X, values, [])
    for other in (np.nextafter(values.astype(np.float32), np.float32(1e9)), values.astype(np.float32)):
        assert np.array_equal(np.searchsorted(found.cuts, other), np.searchsorted(found.cuts, values))


def test_parts_of_episodes_that_are_interleaved() -> None:
    episode = np.array([0, 1, 0, 1, 0, 0])  # four states and two
    assert parts_of(episode, 1).tolist() == episode.tolist()
    assert parts_of(episode, 2).tolist() == [0, 2, 0, 3, 1, 1]
    assert len(np.unique(parts_of(episode, 4))) == 6


def test_dependence_is_known_where_episodes_never_change() -> None:
    """Each of 2,000 episodes is 20 states of one value: 40,000 states tell as much as 2,000, of two values."""
    rng = np.random.default_rng(0)
    values = np.repeat((rng.random(2000) < 0.5).astype(float), 20)
    episode = np.repeat(np.arange(2000), 20)
    found = distribution_of(X, values, [episode])
    assert found.scale == pytest.approx(20.0, rel=0.01)
    assert found.degrees == pytest.approx(1.0, rel=0.01)
    assert found.inflation == pytest.approx(20.0, rel=0.01)


def test_independent_states_are_taken_as_what_they_are() -> None:
    rng = np.random.default_rng(0)
    values, episode = rng.normal(size=100_000), np.repeat(np.arange(2000), 50)
    found = distribution_of(X, values, [episode])
    assert found.scale == pytest.approx(1.0, abs=0.1)
    assert found.degrees == pytest.approx(9.0, abs=0.2)
    assert found.inflation == pytest.approx(1.0, abs=0.1)


def test_what_every_episode_passes_through_tells_of_parts_of_episodes() -> None:
    """Time left is spread alike over every whole episode, and yet a log may hold halves."""
    values, episode = np.tile(np.arange(100.0), 50), np.repeat(np.arange(50), 100)
    whole = distribution_of(X, values, [episode])
    parts = distribution_of(X, values, [parts_of(episode, n) for n in (1, 2, 4)])
    assert (whole.scale, whole.inflation) == (1.0, 1.0)
    assert parts.inflation > 20.0
    assert parts.scale > 20.0
