"""Likelihoods of units sold against statsmodels, scipy's distributions, numerical derivatives and closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs.pricing.demand.counts.regression import (
    Counts,
    LogMean,
    count_likelihood,
    negative_binomial_regression,
    poisson_regression,
)
from palaestra.envs.pricing.demand.counts.tails import log_tail
from palaestra.envs.pricing.demand.estimation import Estimate, EstimationError, estimate

KINDS = [(c, t, d) for c in (False, True) for t in (False, True) for d in (False, True)]
CURVES = ("exponential", "linear", "logit")


def sample(
    seed: int, n: int, a: float = 0.0, *, censor: bool = False, truncate: bool = False
) -> tuple[LogMean, Counts]:
    """Units of the mean exp(1.8 − 0.25 p + 0.4 w): all, at most 3, or at least 1."""
    rng = np.random.default_rng(seed)
    price, w = rng.choice([3.0, 4.0, 5.0, 6.0, 8.0], n), rng.normal(size=n)
    mean = np.exp(1.8 - 0.25 * price + 0.4 * w)
    units = rng.poisson(mean * rng.gamma(1.0 / a, a, n) if a else mean).astype(np.float64)
    kept = units > 0.0 if truncate else np.ones(n, bool)
    censored = units >= 3.0 if censor else None
    units = np.minimum(units, 3.0) if censor else units
    x = np.column_stack((np.ones(n), price, w))[kept]
    return LogMean(x, ("constant", "price", "w")), Counts(
        units[kept], None if censored is None else censored[kept], truncate
    )


def dispersed(mean: LogMean, counts: Counts) -> Estimate:
    start = np.append(poisson_regression(mean, counts).coefficients, np.log(0.3))
    likelihood = count_likelihood(mean, counts, dispersed=True)
    return estimate(likelihood, start, (*mean.names, "log_dispersion"), len(counts.units))


# ------------------------------------------------------------------------------------------- likelihoods


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(("censor", "truncate", "dispersion"), KINDS)
@settings(max_examples=8)
@given(seed=st.integers(0, 10_000))
def test_derivatives_are_those_of_the_likelihood(
    curve: str, censor: bool, truncate: bool, dispersion: bool, seed: int
) -> None:
    mean, counts = sample(seed, 25, censor=censor, truncate=truncate)
    price, rng = mean.x[:, 1], np.random.default_rng(seed + 1)
    at = np.array([1.5, -0.2, 0.3]) + rng.normal(scale=0.1, size=3)
    if curve != "exponential":
        theta = [-0.1, 0.5] if curve == "logit" else [-0.1]
        names = ("constant", "w", "price", "logit_constant")[: 2 + len(theta)]
        mean = LogMean(mean.x[:, [0, 2]], names, 0.0, curve, price, 5.0)
        at = np.concatenate((at[[0, 2]], theta))
    at = np.append(at, rng.normal(-1.0, 0.5)) if dispersion else at
    likelihood = count_likelihood(mean, counts, dispersed=dispersion)
    _, gradient, hessian = likelihood(at)
    step = 1e-5
    for k, direction in enumerate(np.eye(len(at)) * step):
        above, below = likelihood(at + direction), likelihood(at - direction)
        assert gradient[k] == pytest.approx((above[0] - below[0]) / (2 * step), rel=1e-5, abs=1e-4)
        assert hessian[k] == pytest.approx((above[1] - below[1]) / (2 * step), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("a", [0.0, 1e-6, 0.3, 4.0])
def test_tails_are_those_of_scipy(a: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    least, mean = np.meshgrid([1.0, 2.0, 5.0, 20.0, 300.0], [1e-4, 0.3, 1.0, 4.0, 30.0, 250.0])
    least, mean = least.ravel(), mean.ravel()
    tail = log_tail(least, mean, a)
    expected = stats.nbinom.logsf(least - 1, 1 / a, 1 / (1 + a * mean)) if a else stats.poisson.logsf(least - 1, mean)
    sure = expected > -600.0  # scipy's tails underflow to 0
    assert tail.value[sure] == pytest.approx(expected[sure], rel=1e-6 if a == 1e-6 else 1e-9, abs=1e-12)
    assert np.isfinite(tail.value).all()


def test_log_likelihoods_are_sums_of_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    for censor, truncate, dispersion in KINDS:
        mean, counts = sample(1, 60, 0.4 if dispersion else 0.0, censor=censor, truncate=truncate)
        beta = np.array([1.6, -0.2, 0.3])
        mu, y = np.exp(mean.x @ beta), counts.units
        law = stats.nbinom(1 / 0.4, 1 / (1 + 0.4 * mu)) if dispersion else stats.poisson(mu)
        rows = np.where(counts.censored, law.logsf(y - 1), law.logpmf(y)) if censor else law.logpmf(y)
        expected = (rows - law.logsf(0) if truncate else rows).sum()
        at = np.append(beta, np.log(0.4)) if dispersion else beta
        value, *_ = count_likelihood(mean, counts, dispersed=dispersion)(at)
        assert value == pytest.approx(expected, rel=1e-10)


# --------------------------------------------------------------------------------------------- estimates


@pytest.mark.parametrize(("truncate", "dispersion"), [(t, d) for _, t, d in KINDS[:4]])
def test_estimates_are_those_of_statsmodels(truncate: bool, dispersion: bool) -> None:
    pytest.importorskip("statsmodels")
    from statsmodels.discrete import discrete_model, truncated_model

    mean, counts = sample(2, 800, 0.5 if dispersion else 0.0, truncate=truncate)
    ours = dispersed(mean, counts) if dispersion else poisson_regression(mean, counts)
    models: Any = {
        (False, False): discrete_model.Poisson,
        (False, True): discrete_model.NegativeBinomial,
        (True, False): truncated_model.TruncatedLFPoisson,
        (True, True): truncated_model.TruncatedLFNegativeBinomialP,
    }
    theirs = models[truncate, dispersion](counts.units, mean.x).fit(
        method="bfgs", maxiter=2000, gtol=1e-9, disp=False, start_params=np.append(
            ours.coefficients[:3], [np.exp(ours.coefficients[3])] if dispersion else []
        ) * 0.98,
    )  # fmt: skip
    assert ours.log_likelihood == pytest.approx(theirs.llf, rel=1e-9)
    assert ours.coefficients[:3] == pytest.approx(theirs.params[:3], abs=2e-4)
    assert ours.standard_errors[:3] == pytest.approx(theirs.bse[:3], rel=5e-3)


def test_true_coefficients_lie_in_their_intervals() -> None:
    """Of 60 samples of each kind: 95 % of the intervals, within four standard errors of that."""
    truth = np.array([1.8, -0.25, 0.4, np.log(0.5)])
    for censor, truncate, dispersion in KINDS[:-1]:  # of units 1, 2 and more the last cannot tell a
        hits = []
        for seed in range(60):
            mean, counts = sample(seed, 800, 0.5 if dispersion else 0.0, censor=censor, truncate=truncate)
            found = dispersed(mean, counts) if dispersion else poisson_regression(mean, counts)
            hits.append(np.abs(found.coefficients - truth[: len(found.names)]) < 1.96 * found.standard_errors)
        coverage = np.mean(hits, 0)
        assert (np.abs(coverage - 0.95) < 4.0 * np.sqrt(0.95 * 0.05 / 60)).all(), (censor, truncate, dispersion)


def test_two_groups_have_their_means() -> None:
    """Poisson with a dummy: exp(α) and exp(α + β) are the groups' means, with variances 1/Σ y."""
    y, group = np.array([3.0, 5.0, 4.0, 1.0, 2.0, 0.0]), np.array([0, 0, 0, 1, 1, 1])
    found = poisson_regression(LogMean(np.column_stack((np.ones(6), group)), ("all", "second")), Counts(y))
    assert found["all"] == pytest.approx((np.log(4.0), np.sqrt(1 / 12)), rel=1e-9)
    assert found["second"] == pytest.approx((np.log(1.0) - np.log(4.0), np.sqrt(1 / 12 + 1 / 3)), rel=1e-9)


def test_an_offset_is_exposure() -> None:
    """Sales per visitor: the intercept is log(Σ units / Σ visitors)."""
    visitors = np.array([10.0, 20.0, 5.0])
    found = poisson_regression(LogMean(np.ones((3, 1)), ("all",), np.log(visitors)), Counts(np.array([2.0, 5.0, 0.0])))
    assert found.coefficients == pytest.approx([np.log(7 / 35)], rel=1e-12)


def test_half_of_the_days_sold_out_of_one_unit() -> None:
    """Censored at 1: the share of days without sales is exp(−μ)."""
    counts = Counts(np.repeat([0.0, 1.0], [30, 10]), np.repeat([False, True], [30, 10]))
    found = poisson_regression(LogMean(np.ones((40, 1)), ("all",)), counts)
    assert np.exp(found.coefficients) == pytest.approx([-np.log(0.75)], rel=1e-12)


def test_poisson_sales_are_called_overdispersed_in_one_of_twenty() -> None:
    called = []
    for seed in range(200):
        mean, counts = sample(seed, 300)
        called.append(negative_binomial_regression(mean, counts, poisson_regression(mean, counts)) is not None)
    assert abs(np.mean(called) - 0.05) < 4.0 * np.sqrt(0.05 * 0.95 / 200)


def test_data_without_an_answer_are_refused() -> None:
    price = np.array([1.0, 2.0, 3.0, 4.0])
    twins = np.column_stack((np.ones(4), price, 2.0 * price - 1.0))
    mean = LogMean(twins, ("one", "price", "twin"))
    with pytest.raises(EstimationError, match="do not determine one and price and twin"):
        poisson_regression(mean, Counts(np.array([4.0, 3.0, 2.0, 1.0])))
    with pytest.raises(EstimationError, match="nothing was sold"):
        poisson_regression(mean, Counts(np.zeros(4)))
    with pytest.raises(EstimationError):  # every day with sales sold one unit: they could be rare without end
        poisson_regression(LogMean(np.ones((9, 1)), ("all",)), Counts(np.ones(9), None, True))
