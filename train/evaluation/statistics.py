"""Statistics of returns and successes: the interquartile mean, and 95 % intervals that hold with few episodes too.

1. A share of successes: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
2. A mean: Student's t, whose skewness is taken out by Hall's cubic transformation (Hall, "On the removal of skewness by
   transformation", 1992), and no narrower than without; a percentile bootstrap is too narrow for few or skewed returns.
3. A mean where half of the returns or more are the greatest (or the least), such as full boards, and few or none are
   others, so that the deviation says little: the interval also reaches as far as Wilson's share of others allows, if
   their mean is that of those seen and of one more, as bad as the random policy where that is known.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

LEVEL = 0.95
FEW = 20  # returns of another kind than the many; of more their deviation is known


def share_of(score: float, best: float, floor: float | None) -> float | None:
    """How far a score is on the way from a floor, 0 if none is known, to another one, in per cent; None for no way."""
    start = floor or 0.0
    return None if best <= start else 100.0 * (score - start) / (best - start)


def interquartile_mean(values: Any) -> float:
    """Mean of the values without the lowest and the highest quarter (rounded down)."""
    return float(interquartile_means(np.asarray(values)))


def interquartile_means(values: Any) -> Any:
    """[…] of the values [… n], each of their last axis as :func:`interquartile_mean` has it."""
    ordered = np.sort(values, axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def share_interval(successes: float, count: int) -> tuple[float, float]:
    """Wilson's interval of a probability, after ``successes`` of ``count`` trials."""
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    share, weight = successes / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = math.sqrt(weight * (share * (1 - share) + weight / 4)) / (1 + weight)
    return middle - half if successes > 0 else 0.0, middle + half if successes < count else 1.0  # exactly


def mean_interval(values: Any, floor: float | None = None) -> tuple[float, float]:
    """The interval of the mean that the values are a sample of; that of a single value is the value.

    Args:
        values: [n] returns of independent episodes.
        floor: what an episode may give that went as badly as can be expected, as the random policy's mean return.
    """
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float(values[0]), float(values[0])
    low, high = _skewed_t(values)
    for many in (values.max(), values.min()):
        others = values[values != many]
        if 2 * len(others) <= len(values) and len(others) < FEW:
            ends = _with_many(float(many), others, len(values), floor)
            return min(low, ends[0]), max(high, ends[1])
    return low, high


def _with_many(many: float, others: Any, count: int, floor: float | None) -> tuple[float, float]:
    """The interval of choice 3 of the module: all but ``others`` [n − k] of the ``count`` values are ``many``."""
    least, most = share_interval(len(others), count)
    bad = [floor] if floor is not None and floor < many else []
    if not len(others) and not bad:
        return many, many
    seen = float(np.mean([*others, *bad]))
    ends = many + least * (float(np.mean([*others, many])) - many), many + most * (seen - many)
    return min(ends), max(ends)


def _skewed_t(values: Any) -> tuple[float, float]:
    count, mean, deviation = len(values), float(values.mean()), float(values.std(ddof=1))
    if deviation == 0.0:
        return mean, mean
    error = deviation / math.sqrt(count)
    skewness = float(((values - mean) ** 3).mean()) / deviation**3 / math.sqrt(count)
    t = student_quantile(0.5 + LEVEL / 2, count - 1)

    def untransformed(z: float) -> float:
        if abs(skewness) < 1e-6:
            return z
        return 3.0 / skewness * float(np.cbrt(1.0 + skewness * (z - skewness / 6.0)) - 1.0)

    return mean - max(t, untransformed(t)) * error, mean + max(t, -untransformed(-t)) * error


def student_quantile(probability: float, degrees: int) -> float:
    """Of Student's t: exact for 1 and 2 degrees of freedom, else by the expansion 26.7.5 of Abramowitz and Stegun,
    whose error at 97.5 % is 0.4 % for 3 degrees, 0.02 % for 9, and less beyond."""
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        return (2 * probability - 1) * math.sqrt(2 / (4 * probability * (1 - probability)))
    x = NormalDist().inv_cdf(probability)
    return (
        x
        + (x**3 + x) / 4 / degrees
        + (5 * x**5 + 16 * x**3 + 3 * x) / 96 / degrees**2
        + (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384 / degrees**3
        + (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160 / degrees**4
    )
