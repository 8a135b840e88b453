"""Which regressors a demand has: weekday, month, trend and further columns, each kept where the data say so.

1. Candidates are groups of columns (six of the weekday, one of a promotion). One after another the group with the
   smallest p value is taken in, until none is left below 5 % / (groups that are left): Holm's correction, so that of
   files without any effect 5 % get one.
2. The p value is that of Rao's score test in the Poisson model: the likelihood's slope at 0 tells what a fit would, at
   a fraction of its cost. Where the sales vary more than Poisson, the statistic is divided by their dispersion.
3. Demand that varies slowly, by itself, looks like a month or a trend. Their statistics are also divided by the
   long-run variance of the residuals (Newey and West, two weeks of lags) over their variance, if that is larger; so is
   the test in 4.
4. A group that explains the price (5 % / groups, from the R² of the regression) is taken in where its own p value is
   below 20 %: left out, it would bias the slope most.

Sources: Rao 1948; Holm 1979; for 4. Belloni, Chernozhukov and Hansen, "Inference on treatment effects after selection
among high-dimensional controls", Review of Economic Studies 2014.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, exp, lgamma, log, sqrt
from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.counts.regression import Counts, LogMean, count_rows, poisson_regression
from palaestra.envs.pricing.demand.estimation import Estimate, EstimationError

LEVEL, _LEVEL_OF_CONFOUNDERS = 0.05, 0.20
_ROWS_PER_COLUMN = 10
_LAGS = 14
_COLLINEAR = 1e-12
_CLEAR = 1e-4  # of the Cholesky factor's diagonal, which is 1 for columns at right angles
_LEAST_WEIGHT = 1e-12  # of a row
_ALIASED = 1e-8  # share of a column that the others do not explain


class Group(NamedTuple):
    """Columns that are kept or left out together."""

    title: str
    names: tuple[str, ...]
    columns: Array  # float64 [n, k]
    slow: bool = False  # True if it changes over weeks
    family: str = ""  # of groups with the same one at most one is kept


class GroupTest(NamedTuple):
    """The test of a group that was tried."""

    title: str
    kept: bool
    statistic: float  # χ²
    degrees: int
    p: float


def select(
    mean: LogMean, counts: Counts, price: Array, groups: Sequence[Group], base: Estimate
) -> tuple[LogMean, Estimate, list[GroupTest]]:
    """The model with the groups that are kept, its Poisson estimate, and the tests.

    Args:
        mean: without the groups; exponential or constant elasticity.
        counts: the units.
        price: [n].
        groups: candidates.
        base: the Poisson estimate of ``mean``.
    """
    left = [group for group in groups if len(price) >= _ROWS_PER_COLUMN * len(group.names)]
    verdicts: list[GroupTest] = []
    tests = _score_tests(mean, counts, base, left) if left else []
    while left:
        limits = [_limit(group, test[2], mean.x, price, len(left)) for group, test in zip(left, tests, strict=True)]
        passing = [i for i, (test, limit) in enumerate(zip(tests, limits, strict=True)) if test[2] < limit]
        if not passing:
            break
        best = min(passing, key=lambda i: tests[i][2])
        group, test = left.pop(best), tests[best]
        larger = mean.with_columns(group.columns, group.names)
        try:
            base = poisson_regression(larger, counts, np.append(base.coefficients, np.zeros(len(group.names))))
        except EstimationError:  # never sold on some weekday, say
            tests.pop(best)
            continue
        mean = larger
        verdicts.append(GroupTest(group.title, True, *test))
        left = [other for other in left if not group.family or other.family != group.family]
        tests = _score_tests(mean, counts, base, left)
    verdicts += [GroupTest(group.title, False, *test) for group, test in zip(left, tests, strict=True)]
    return mean, base, verdicts


def bend(mean: LogMean, counts: Counts, base: Estimate, price: Array) -> tuple[float, float]:
    """The p value of a square of the price beside it, small where the curve is not exponential, and its score: above 0
    where log demand flattens as the price rises."""
    square = Group("curve", ("square",), ((price - price.mean()) ** 2)[:, None])
    rows = count_rows(mean(base.coefficients)[0], counts)
    return _score_tests(mean, counts, base, [square])[0][2], float(square.columns[:, 0] @ rows.slope)


def chi_square_tail(statistic: float, degrees: int) -> float:
    """P(χ² > statistic), by the recursion of the incomplete gamma function."""
    half = max(statistic, 0.0) / 2.0
    if half > 700.0:
        return 0.0
    s, tail = (1.0, exp(-half)) if degrees % 2 == 0 else (0.5, erfc(sqrt(half)))
    while s < degrees / 2.0:
        tail += exp(s * log(half) - half - lgamma(s + 1.0)) if half > 0.0 else 0.0
        s += 1.0
    return min(tail, 1.0)


def unexplained(y: Array, x: Array) -> Array:
    """What the columns of x [n, k] leave of y [n] or [n, m], by least squares.

    The normal equations are of unit columns, so that units of measurement do not matter.
    """
    square = x.T @ x
    length = np.sqrt(np.diag(square))
    scale = np.where(length > 0.0, length, 1.0)
    square, product = square / np.outer(scale, scale), (x.T @ y).T / scale
    try:
        clear = np.diag(np.linalg.cholesky(square)).min() > _CLEAR
    except np.linalg.LinAlgError:
        clear = False
    share = np.linalg.solve(square, product.T) if clear else np.linalg.lstsq(square, product.T, rcond=_COLLINEAR)[0]
    rest: Array = x @ (share.T / scale).T
    return np.subtract(y, rest, out=rest)


def _score_tests(
    mean: LogMean, counts: Counts, base: Estimate, groups: Sequence[Group]
) -> list[tuple[float, int, float]]:
    """Statistic, degrees of freedom and p value of each group, beside what the model has."""
    if not groups:
        return []
    rows = count_rows(mean(base.coefficients)[0], counts)
    root = np.sqrt(np.maximum(-rows.curvature, _LEAST_WEIGHT))
    residual = rows.slope / root  # Pearson's
    dispersion = max(1.0, float((rows.slope**2).sum() / (root**2).sum()))
    z = np.hstack([group.columns for group in groups])
    z = z - z.mean(0)
    weighted = root[:, None] * z
    rest = unexplained(weighted, root[:, None] * mean.x)
    score, information, whole = rest.T @ residual, rest.T @ rest, (weighted**2).sum(0)
    tests, start, lasting = [], 0, 0.0
    for group in groups:
        own = slice(start, start + len(group.names))
        start = own.stop
        values, axes = np.linalg.eigh(information[own, own])
        seen = values > _ALIASED * max(float(whole[own].max()), 1e-300)
        along = axes[:, seen].T @ score[own]
        statistic = float((along**2 / values[seen]).sum()) / dispersion
        degrees = int(seen.sum())
        p = chi_square_tail(statistic, degrees) if degrees else 1.0
        if group.slow and p < _LEVEL_OF_CONFOUNDERS:
            lasting = lasting or _lasting(residual, z)
            statistic /= lasting
            p = chi_square_tail(statistic, degrees)
        tests.append((statistic, degrees, p))
    return tests


def _lasting(residual: Array, z: Array) -> float:
    """Long-run variance over variance of what the candidates leave of the residuals, in their order; at least 1."""
    if len(residual) <= 2 * _LAGS + z.shape[1]:
        return 1.0
    rest = unexplained(residual, z)
    rest = rest - rest.mean()
    variance = float(rest @ rest)
    lags = [(1.0 - k / (_LAGS + 1.0)) * float(rest[k:] @ rest[:-k]) for k in range(1, _LAGS + 1)]
    return max(1.0, 1.0 + 2.0 * sum(lags) / variance) if variance > 0.0 else 1.0


def _limit(group: Group, p: float, x: Array, price: Array, groups: int) -> float:
    """The p value below which a group is taken in."""
    if p < LEVEL / groups or p >= _LEVEL_OF_CONFOUNDERS:
        return LEVEL / groups
    others = np.delete(x, 1, 1)  # without the price, the second column
    rest, columns = unexplained(price, others), unexplained(group.columns, others)
    fitted = rest - unexplained(rest, columns)
    total = float(rest @ rest) * (_lasting(rest, columns) if group.slow else 1.0)
    explains = chi_square_tail(len(rest) * float(fitted @ fitted) / total, len(group.names)) if total > 0.0 else 1.0
    return _LEVEL_OF_CONFOUNDERS if explains < LEVEL / groups else LEVEL / groups
