"""Intervals of means and shares: how often they hold the truth, and known answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from palaestra.train.evaluation.statistics import mean_interval, share_interval, student_quantile

Sampler = Callable[[np.random.Generator, int], Any]


def snake(full: float) -> Sampler:
    """A full board of 35 fruits with that probability, else any number of fruits below."""
    return lambda rng, n: np.where(rng.random(n) < full, 35.0, rng.integers(1, 35, n))


RETURNS: dict[str, tuple[Sampler, float, float | None]] = {  # sampler, true mean, what a bad episode gives
    "normal": (lambda rng, n: rng.normal(0, 1, n), 0.0, None),
    "uniform": (lambda rng, n: rng.random(n), 0.5, None),
    "skewed to the right": (lambda rng, n: rng.exponential(1, n), 1.0, None),
    "skewed to the left": (lambda rng, n: -rng.exponential(1, n), -1.0, None),
    "log-normal": (lambda rng, n: rng.lognormal(0, 0.5, n), float(np.exp(0.125)), None),
    "cut by a time limit": (lambda rng, n: np.minimum(rng.exponential(800, n), 500), 371.79, 20.0),
    "snake, 97.5 % full": (snake(0.975), 0.975 * 35 + 0.025 * 17.5, 0.2),
    "snake, 90 % full": (snake(0.9), 0.9 * 35 + 0.1 * 17.5, 0.2),
    "snake, 55 % full": (snake(0.55), 0.55 * 35 + 0.45 * 17.5, 0.2),
}
# 93 % less 2.4 standard deviations of what 1,000 samples give where the coverage is 93 %
LEAST = 0.93 - 2.4 * (0.93 * 0.07 / 1000) ** 0.5


@pytest.mark.parametrize("name", RETURNS)
@pytest.mark.parametrize("count", [10, 20, 100, 1000])
def test_the_interval_of_a_mean_holds_it(name: str, count: int) -> None:
    sampler, mean, floor = RETURNS[name]
    rng = np.random.default_rng(count)
    held = 0
    for _ in range(1000):
        low, high = mean_interval(sampler(rng, count), floor)
        held += low <= mean <= high
    assert held / 1000 >= LEAST


@pytest.mark.parametrize("count", [10, 20, 100, 1000])
def test_the_interval_of_a_share_holds_it(count: int) -> None:
    """Over all shares from 1 to 99 %: Wilson's coverage is 95 % in their mean, and swings around it."""
    rng = np.random.default_rng(count)
    shares = rng.uniform(0.01, 0.99, 4000)
    successes = rng.binomial(count, shares)
    ends = [share_interval(int(k), count) for k in successes]
    held = np.mean([low <= share <= high for (low, high), share in zip(ends, shares, strict=True)])
    assert 0.94 < held < 0.97


def test_known_intervals() -> None:
    """Wilson's of 0 and 81 of 263 (Newcombe 1998, table I, method 3); t's of 1 … 5; nothing is known of one value."""
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert share_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert share_interval(20, 20) == pytest.approx((0.8389, 1.0), abs=5e-5)
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3 - 1.9633, 3 + 1.9633), abs=1e-3)
    assert mean_interval([3.0]) == (3.0, 3.0)


def test_twenty_full_boards_are_no_proof() -> None:
    low, high = mean_interval([35.0] * 20, floor=0.0)
    assert (low, high) == (pytest.approx(35 - 0.1611 * 35, abs=0.01), 35.0)
    assert mean_interval([35.0] * 20) == (35.0, 35.0)  # without a notion of what is bad


@pytest.mark.parametrize(("degrees", "value"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (9, 2.2622), (99, 1.9842)])
def test_students_t_is_that_of_the_tables(degrees: int, value: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(value, rel=2e-3)
    assert student_quantile(0.025, degrees) == pytest.approx(-value, rel=2e-3)
