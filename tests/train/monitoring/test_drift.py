"""PSI, Kolmogorov–Smirnov and shifts of means: by hand, and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from palaestra.train.export.held_out.monitored import Distribution, WatchedNumber, distribution_of
from palaestra.train.monitoring.drift import (
    Limits,
    MeanReturn,
    chi_squared_tail,
    has_drifted,
    kolmogorov_tail,
    return_shift,
    shift_of,
    stability_index,
)

WATCHED = WatchedNumber("observation", "x", low=-10.0, high=10.0)


def cells_of(reference: Distribution, values: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(reference.cuts, values, side="right"), minlength=len(reference.cuts) + 1)


def test_the_stability_index_by_hand() -> None:
    """Two bins: 50 and 50 before, 30 and 70 in use, each with half a state more."""
    p, q = (50.5 / 101, 50.5 / 101), (30.5 / 101, 70.5 / 101)
    expected = (q[0] - p[0]) * math.log(q[0] / p[0]) + (q[1] - p[1]) * math.log(q[1] / p[1])
    assert stability_index(np.array([0.5, 0.5]), 100, np.array([30, 70])) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(0.1659, abs=1e-4)


def test_the_stability_index_is_the_relative_entropy_both_ways() -> None:
    p, q = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.25, 0.25, 0.25])
    found = stability_index(p, 1e9, q * 1e9)
    assert found == pytest.approx(stats.entropy(p, q) + stats.entropy(q, p), rel=1e-6)


def test_half_a_deviation_of_a_normal_is_at_both_limits() -> None:
    """What the module says of its limits: PSI tends to 0.25 with ever finer bins, KS is 2 Φ(1/4) − 1 = 0.197."""
    edges = np.linspace(-6, 6, 2001)
    p, q = (np.diff(stats.norm.cdf(edges, mean)) for mean in (0.0, 0.5))
    assert float(((q - p) * np.log(q / p)).sum()) == pytest.approx(Limits().psi, abs=1e-3)
    assert 2 * stats.norm.cdf(0.25) - 1 == pytest.approx(Limits().ks, abs=0.003)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_distances_of_numbers_with_few_values_are_scipys(shift: int) -> None:
    rng = np.random.default_rng(shift)
    before, now = rng.integers(0, 12, 4000).astype(float), rng.integers(0, 12, 500) + float(shift)
    reference = distribution_of(WATCHED, before, [])
    found = shift_of(WATCHED, reference, len(before), cells_of(reference, now), 0, now.sum())
    assert found.ks == pytest.approx(stats.ks_2samp(before, now).statistic, abs=1e-9)
    assert found.mean == pytest.approx(now.mean())


@pytest.mark.parametrize("shift", [0.0, 0.3, 2.0])
def test_distances_of_numbers_with_many_values_are_scipys_at_the_cuts(shift: float) -> None:
    """Between two of forty cuts it can be at most a fortieth more."""
    rng = np.random.default_rng(1)
    before, now = rng.normal(size=8000), rng.normal(shift, 1.0, 700)
    reference = distribution_of(WATCHED, before, [])
    found = shift_of(WATCHED, reference, len(before), cells_of(reference, now), 0, now.sum()).ks
    exact = stats.ks_2samp(before, now).statistic
    assert found is not None
    assert exact - 0.025 <= found <= exact + 1e-9


@pytest.mark.parametrize(("value", "degrees"), [(0.0, 1.0), (3.84, 1.0), (27.9, 9.0), (60.0, 2.7), (0.3, 0.6)])
def test_the_tail_of_chi_squared_is_scipys(value: float, degrees: float) -> None:
    assert chi_squared_tail(value, degrees) == pytest.approx(stats.chi2.sf(value, degrees), rel=1e-9)


@pytest.mark.parametrize(("distance", "states"), [(0.05, 400), (0.2, 50), (0.4, 30), (0.3, 12), (0.01, 100)])
def test_the_tail_of_kolmogorov_is_scipys(distance: float, states: float) -> None:
    assert kolmogorov_tail(distance, states) == pytest.approx(stats.kstwo.sf(distance, states), rel=0.06, abs=1e-3)


def test_means_and_their_intervals_are_those_of_student_and_welch() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(1e6, 3.0, 40)
    found = MeanReturn(1e6)
    for value in values:
        found = found.add(float(value))
    half = MeanReturn(1e6)
    for value in values[:7]:
        half = half.add(float(value))
    other = MeanReturn(1e6)
    for value in values[7:]:
        other = other.add(float(value))
    assert half.join(other).mean == pytest.approx(found.mean, rel=1e-15)
    assert found.error == pytest.approx(stats.sem(values), rel=1e-9)
    ends = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert found.interval() == pytest.approx(ends, rel=1e-9)
    reference = {"mean": 1e6 + 4.0, "std": 2.0, "episodes": 30}
    shift = return_shift(reference, found, 0.5)
    parts = np.array([values.var(ddof=1) / 40, 4.0 / 30])
    degrees = parts.sum() ** 2 / (parts**2 / [39, 29]).sum()
    welch = stats.t.interval(0.95, degrees, values.mean() - 1e6 - 4.0, parts.sum() ** 0.5)
    assert shift is not None
    assert (shift.low, shift.high) == pytest.approx(welch, rel=2e-3)
    assert shift.deviations == pytest.approx(shift.difference / 2.0)
    assert shift.drifted


def test_few_episodes_and_equal_returns() -> None:
    reference = {"mean": 5.0, "std": 0.0, "episodes": 100}
    assert return_shift(reference, MeanReturn(0.0).add(5.0), 0.5) is None
    same = return_shift(reference, MeanReturn(0.0).add(5.0).add(5.0), 0.5)
    other = return_shift(reference, MeanReturn(0.0).add(4.0).add(4.0), 0.5)
    assert same is not None
    assert other is not None
    assert (same.drifted, other.drifted) == (False, True)


def test_nothing_is_said_of_few_states_and_out_of_range_has_its_limit() -> None:
    reference = distribution_of(WATCHED, np.random.default_rng(0).normal(size=1000), [])
    far = np.zeros(len(reference.cuts) + 1, np.int64)
    far[-1] = 49
    assert has_drifted(shift_of(WATCHED, reference, 1000, far, 0, 0.0), Limits(), 2) == []
    far[-1] = 50
    assert has_drifted(shift_of(WATCHED, reference, 1000, far, 1, 0.0), Limits(), 2) == ["psi", "ks", "out of range"]
    assert has_drifted(shift_of(WATCHED, reference, 1000, far, 1, 0.0), Limits(9.0, 9.0, 0.03), 2) == []
    none = shift_of(WATCHED, reference, 1000, np.zeros_like(far), 0, 0.0)
    assert (none.psi, none.ks, none.mean) == (None, None, None)
    assert has_drifted(none, Limits(), 2) == []
