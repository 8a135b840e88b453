"""Aggregates and their intervals: by hand from the definitions of Agarwal et al. (2021), and against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from palaestra.train.comparison import aggregate_scores as aggregates
from palaestra.train.comparison.seed_test import adjusted, least_p, permutation_p, seeds_needed

TWO_TASKS = [np.array([10.0, 20.0, 30.0, 120.0]), np.array([50.0, 60.0, 70.0, 80.0])]  # 4 runs of 2 tasks


def test_by_hand() -> None:
    """Sorted: 10 20 | 30 50 60 70 | 80 120, a quarter off at each end; means of the tasks 45 and 65."""
    assert aggregates.iqm(TWO_TASKS) == (30 + 50 + 60 + 70) / 4
    assert aggregates.mean(TWO_TASKS) == aggregates.median(TWO_TASKS) == 55
    assert aggregates.median([*TWO_TASKS, np.array([1000.0])]) == 65
    assert aggregates.optimality_gap(TWO_TASKS) == 100 - (10 + 20 + 30 + 100 + 50 + 60 + 70 + 80) / 8
    assert aggregates.profile(TWO_TASKS, np.array([0.0, 30.0, 60.0, 120.0])).tolist() == [1, 5 / 8, 3 / 8, 0]  # above


def test_the_probability_of_improvement_by_hand() -> None:
    """Of 2 · 3 pairs on the first task 3 are won and 2 are tied, on the second all 2 are lost."""
    first, second = [np.array([1.0, 3.0]), np.array([0.0])], [np.array([1.0, 3.0, 0.0]), np.array([5.0, 6.0])]
    assert aggregates.improvement(first, second) == pytest.approx(((3 + 2 / 2) / 6 + 0) / 2)
    assert aggregates.improvement(second, first) == pytest.approx(1 - ((3 + 2 / 2) / 6) / 2)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_against_scipy(runs: int, others: int, tasks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = (rng.integers(0, 9, (tasks, count)).astype(float) for count in (runs, others))
    assert aggregates.iqm([*first]) == pytest.approx(stats.trim_mean(first, 0.25, axis=None))
    wins = [stats.mannwhitneyu(x, y).statistic / (runs * others) for x, y in zip(first, second, strict=True)]
    assert aggregates.improvement([*first], [*second]) == pytest.approx(np.mean(wins))


def test_intervals_are_stratified() -> None:
    """Draws keep to their task: two tasks without spread have none together, however far apart they are."""
    apart = [np.full(3, 0.0), np.full(5, 100.0)]
    assert [task.shape for task in aggregates.drawn(apart)] == [(2000, 3), (2000, 5)]
    assert aggregates.interval(aggregates.mean, apart) == (50, 50)
    low, high = aggregates.interval(aggregates.mean, [np.concatenate(apart)])
    assert low is not None
    assert high is not None
    assert low < 50 < high
    assert aggregates.interval(aggregates.mean, [np.array([7.0])]) == (None, None)
    assert aggregates.interval(aggregates.iqm, TWO_TASKS) == aggregates.interval(aggregates.iqm, TWO_TASKS)


def test_the_interval_is_scipys_bootstrap() -> None:
    values = np.random.default_rng(1).normal(0, 10, 20)
    other = stats.bootstrap((values,), lambda x, axis: stats.trim_mean(x, 0.25, axis), method="percentile", rng=2)
    ours = aggregates.interval(aggregates.iqm, [values])
    assert ours == pytest.approx(tuple(other.confidence_interval), abs=0.5)


def test_a_band_is_the_interval_at_each_point() -> None:
    values = np.random.default_rng(3).normal(0, 1, (5, 4))
    middle, low, high = aggregates.band(values)
    assert middle == pytest.approx([aggregates.iqm([column]) for column in values.T])
    assert ((low < middle) & (middle < high)).all()
    middle, low, high = aggregates.band(values[:1])
    assert middle.tolist() == values[0].tolist()
    assert np.isnan([*low, *high]).all()


def test_p_by_hand() -> None:
    """Three seeds against three lower ones: two of the 20 ways to deal them out are as extreme."""
    low, high = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    assert permutation_p([low], [high]) == permutation_p([high], [low]) == least_p([(3, 3)]) == 2 / 20
    assert permutation_p([low, low], [high, high]) == least_p([(3, 3), (3, 3)]) == 2 / 400
    assert permutation_p([low], [low]) == 1
    assert permutation_p([np.array([1.0])], [np.array([9.0])]) == least_p([(1, 1)]) == 1
    assert permutation_p([low, high], [high, low]) == 1  # each wins once
    assert [seeds_needed(1), seeds_needed(2), seeds_needed(1, 0.025)] == [4, 3, 5]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 6), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_p_of_one_task_is_mann_and_whitneys(runs: int, others: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.permutation(40)[:runs] * 1.0, rng.permutation(np.arange(50, 90))[:others] - rng.integers(0, 60)
    second = second + 0.5  # no ties, where SciPy's exact p is none
    exact = stats.mannwhitneyu(first, second, method="exact").pvalue
    assert permutation_p([first], [second]) == pytest.approx(exact)


def test_a_drawn_p_is_near_the_exact_one() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 1, 12), rng.normal(0.8, 1, 12)
    exact = stats.mannwhitneyu(first, second, method="exact").pvalue
    assert permutation_p([first], [second]) == pytest.approx(exact, abs=0.006)  # four standard errors


def test_holm_by_hand() -> None:
    assert adjusted([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert adjusted([0.5, 0.6]) == [1, 1]
    assert adjusted([]) == []
