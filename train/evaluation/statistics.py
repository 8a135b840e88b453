"""Statistics of returns: the interquartile mean and the bootstrap interval of the mean."""

from __future__ import annotations

from typing import Any

import numpy as np

_RESAMPLES = 10_000


def interquartile_mean(values: Any) -> float:
    """Mean of the values without the lowest and the highest quarter (rounded down)."""
    ordered = np.sort(values)
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def bootstrap_interval(values: Any, level: float = 0.95) -> tuple[float, float]:
    """Percentile-bootstrap interval of the mean; resampled with a fixed seed, so it is reproducible."""
    generator = np.random.default_rng(0)
    means = np.empty(_RESAMPLES)
    for start in range(0, _RESAMPLES, 500):
        rows = generator.integers(0, len(values), (500, len(values)))
        means[start : start + 500] = values[rows].mean(1)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(means, [tail, 100.0 - tail])
    return float(low), float(high)
