"""Sales with a known fault, from file to market: what is found, said and set right, and what is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.demand.counts.instruments import (
    alarming,
    autocovariance,
    control_function,
    follows_demand,
)
from palaestra.envs.pricing.demand.counts.regression import Counts, LogMean, count_rows, poisson_regression
from palaestra.envs.pricing.demand.counts.selection import Group, chi_square_tail, select
from palaestra.envs.pricing.demand.estimation import EstimationError
from palaestra.envs.pricing.demand.fit import FitOptions, Fitting, fit
from palaestra.envs.pricing.demand.fit_report import summary, summary_data
from palaestra.envs.pricing.demand.json_file import demand_data, load_demand
from palaestra.envs.pricing.sales.sales_table import SalesError

MENU = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
DAYS = 364
DATES = [date(2024, 1, 1) + timedelta(day) for day in range(DAYS)]  # from a Monday
WEEKEND = np.array([day.weekday() >= 5 for day in DATES])
HEADER = "date,product,price,units"

Rows = list[tuple[Any, ...]]


def fitted(path: Path, rows: Rows, more: str = "", **options: Any) -> Fitting:
    path.write_text("\n".join([HEADER + more, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return fit(path, FitOptions(**options))


def usual(price: Any) -> Any:
    return 8.0 * np.exp(-price / 4.0)


def days(*columns: Any, name: str = "tea") -> Rows:
    return list(zip(DATES, [name] * DAYS, *columns, strict=True))


def clean(seed: int, name: str = "tea") -> Rows:
    rng = np.random.default_rng(seed)
    price = rng.choice(MENU, DAYS)
    return days(price, rng.poisson(usual(price)), name=name)


def tail(value: float, error: float, truth: float) -> float:
    return abs(value - truth) / error


# ------------------------------------------------------------------------------- faults that are set right


def test_missing_days_without_sales_are_seen(tmp_path: Path) -> None:
    fitting = fitted(tmp_path / "s.csv", [row for row in clean(0) if row[3]])
    assert fitting.models["tea"].truncated
    assert tail(*fitting.demand.products["tea"].slope(), -0.25) < 3.0
    assert "zero-truncated" in summary(fitting).replace("\n  ", " ")
    taken = fitted(tmp_path / "u.csv", [row for row in clean(0) if row[3]], gaps="unknown")
    assert tail(*taken.demand.products["tea"].slope(), -0.25) > 4.0
    assert not fitted(tmp_path / "c.csv", clean(0)).models["tea"].truncated


def test_missing_dates_between_equal_prices_are_days_without_sales(tmp_path: Path) -> None:
    """Prices of a month each: the filled file is the whole one, but for days at its ends."""
    rng = np.random.default_rng(1)
    price = np.repeat(rng.choice(MENU, 13), 28)
    rows = days(price, rng.poisson(usual(price)))
    whole = fitted(tmp_path / "w.csv", rows).demand.products["tea"].estimate
    fitting = fitted(tmp_path / "s.csv", [row for row in rows if row[3]])
    assert "missing dates are filled with 0 units" in fitting.notes[0]
    estimate = fitting.demand.products["tea"].estimate
    assert estimate.n == DAYS
    assert abs(estimate["price"][0] - whole["price"][0]) < whole["price"][1]
    assert estimate["price"][1] == pytest.approx(whole["price"][1], rel=0.1)
    asked = fitted(tmp_path / "z.csv", [row for row in rows if row[3]], gaps="zero")
    assert asked.demand.products["tea"].estimate.coefficients == pytest.approx(estimate.coefficients)


def test_closed_days_are_no_days_without_sales(tmp_path: Path) -> None:
    fitting = fitted(tmp_path / "s.csv", [row for row in clean(2) if row[0].weekday() != 6])
    assert fitting.models["tea"].columns["units"].size == DAYS - 52
    assert not fitting.models["tea"].notes


def test_sold_out_days_want_at_least_what_they_sold(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    price = rng.choice(MENU, DAYS)
    units = rng.poisson(usual(price))
    for column, value in (("stock", np.full(DAYS, 2)), ("sold_out", (units >= 2).astype(int))):
        rows = days(price, np.minimum(units, 2), value)
        fitting = fitted(tmp_path / f"{column}.csv", rows, f",{column}")
        assert tail(*fitting.demand.products["tea"].slope(), -0.25) < 3.0
        assert fitting.demand.products["tea"].sold_out == (units >= 2).sum()


def test_weekends_are_seen_and_the_season_has_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    price = rng.choice(MENU[:4], DAYS) + 3.0 * WEEKEND
    fitting = fitted(tmp_path / "s.csv", days(price, rng.poisson(usual(price) * np.where(WEEKEND, 2.5, 1.0))))
    assert tail(*fitting.demand.products["tea"].slope(), -0.25) < 3.0
    data = json.loads(json.dumps(demand_data(fitting.demand)))
    market = Pricing(14, 40, demand=data)
    mean = market.wanted[:, 0] @ np.arange(market.wanted.shape[2])
    assert market.varies
    assert mean[5:7] / mean[0] == pytest.approx([2.5, 2.5], rel=0.35)  # the data end on a Sunday
    shifted = Pricing(14, 40, demand=data, start="2025-01-04")
    np.testing.assert_array_equal(shifted.wanted[:9], market.wanted[5:14])
    assert market.optimal_value() != shifted.optimal_value()
    result = market.exact(market.expert)
    assert result["uplift_over_fixed_percent_low"] <= result["uplift_over_fixed_percent_high"]
    always = market.best_fixed_price()[1]
    assert result["uplift_over_fixed_percent"] == pytest.approx(100 * (market.optimal_value() / always - 1), rel=1e-9)
    with pytest.raises(ValueError, match="start must be a date such as"):
        Pricing(14, 40, demand=data, start="monday")


def test_a_trend_goes_on_in_the_season(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    day = np.arange(DAYS)
    price = np.round(3.5 + 3.0 * day / DAYS + rng.normal(0.0, 0.8, DAYS), 1)
    fitting = fitted(tmp_path / "s.csv", days(price, rng.poisson(usual(price) * 2.0 ** (day / DAYS))))
    estimate = fitting.demand.products["tea"].estimate
    assert tail(*estimate["trend"], np.log(2.0) * 365.25 / DAYS) < 3.0
    assert tail(*fitting.demand.products["tea"].slope(), -0.25) < 3.0
    levels = fitting.demand.levels("tea", 100)
    assert levels is not None
    rise = np.diff(levels(estimate.coefficients))
    assert rise == pytest.approx(np.full(99, estimate["trend"][0] / 365.25))
    draws = levels(fitting.demand.draws("tea", 3))
    assert draws.shape == (3, 100)


def test_a_promotion_is_kept_and_planned(tmp_path: Path) -> None:
    rng = np.random.default_rng(66)
    price = rng.choice(MENU, DAYS)
    leaflet = rng.random(DAYS) < np.where(price <= 4.0, 0.8, 0.1)
    noise, units = rng.normal(size=DAYS), rng.poisson(usual(price) * 2.0**leaflet)
    rows = days(price, units, leaflet.astype(int), noise, units * price)
    fitting = fitted(tmp_path / "s.csv", rows, ",promotion,noise,points")
    product = fitting.demand.products["tea"]
    assert tail(*product.slope(), -0.25) < 3.0
    assert tail(*product.estimate["promotion"], np.log(2.0)) < 3.0
    assert "noise" not in product.estimate.names
    assert any("points is not used" in note for note in fitting.notes)
    data = demand_data(fitting.demand)
    with_it, without, usually = (
        Pricing(7, 30, demand=data, plan=plan) for plan in ({"promotion": [1] * 7}, {"promotion": 0}, None)
    )
    effect = float(np.exp(product.estimate["promotion"][0]))
    means = [fitting.demand.mean_units("tea", np.array([5.0]), product.estimate.coefficients)[0]]
    for market in (with_it, without):
        assert market.levels is not None
        means.append(
            fitting.demand.mean_units(
                "tea", np.array([5.0]), product.estimate.coefficients, market.levels(product.estimate.coefficients)[0]
            )[0]
        )
    share = leaflet.mean()
    assert means[1] / means[2] == pytest.approx(effect)
    assert means[0] / means[2] == pytest.approx(1.0 - share + share * effect)
    assert without.optimal_value() < usually.optimal_value() < with_it.optimal_value()
    with pytest.raises(ValueError, match=r"no regressor 'rain'; it has promotion"):
        Pricing(7, 30, demand=data, plan={"rain": 1})


def test_stores_have_levels_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    cheap, dear = rng.choice(MENU[:5], DAYS), rng.choice(MENU[1:], DAYS) + 1.0
    both = [
        days(price, rng.poisson(share * usual(price)), [name] * DAYS)
        for price, share, name in ((cheap, 0.75, "north"), (dear, 0.25, "south"))
    ]
    fitting = fitted(tmp_path / "s.csv", [row for day in zip(*both, strict=True) for row in day], ",store")
    product = fitting.demand.products["tea"]
    assert tail(*product.slope(), -0.25) < 3.0
    assert tail(*product.estimate["store:south"], np.log(1 / 3)) < 3.0
    total = fitting.demand.mean_units("tea", np.array([5.0]), product.estimate.coefficients)
    assert total == pytest.approx([usual(5.0)], rel=0.15)
    again = load_demand(json.loads(json.dumps(demand_data(fitting.demand))))
    assert demand_data(again) == demand_data(fitting.demand)


@pytest.mark.parametrize(
    ("curve", "truth"),
    [
        ("linear", lambda p: np.maximum(60.0 - 5.5 * p, 0.0)),
        ("constant elasticity", lambda p: 400.0 * p**-1.8),
        ("logit", lambda p: 40.0 / (1.0 + np.exp(1.2 * (p - 6.0)))),
        ("exponential", lambda p: 80.0 * np.exp(-p / 4.0)),
    ],
)
def test_the_curve_is_the_true_one(curve: str, truth: Callable[[Any], Any], tmp_path: Path) -> None:
    """Chosen by likelihood; means within 10 % at every price, and a best price that loses no 2 %."""
    rng = np.random.default_rng(8)
    price = rng.choice(MENU, DAYS)
    demand = fitted(tmp_path / "s.csv", days(price, rng.poisson(truth(price)))).demand
    demand = load_demand(json.loads(json.dumps(demand_data(demand))))
    product = demand.products["tea"]
    assert product.curve == curve
    menu = np.array(MENU[:5])
    assert demand.mean_units("tea", menu, product.estimate.coefficients) == pytest.approx(truth(menu), rel=0.1)
    grid = np.linspace(3.0, 10.0, 500)
    best, _ = demand.best_fixed("tea")
    assert best * truth(best) > 0.98 * (grid * truth(grid)).max()
    step = 1e-6
    log_mean = np.log(
        demand.mean_units("tea", product.means["price"] + np.array([-step, step]), product.estimate.coefficients)
    )
    assert product.slope()[0] == pytest.approx((log_mean[1] - log_mean[0]) / (2 * step), rel=1e-6)
    assert Pricing(5, 20, demand=demand_data(demand)).optimal_value() > 0.0


def shocked(seed: int, memory: float = 0.8, markup: float = 2.0, every: int = 1) -> tuple[Any, Any, Any]:
    """Units, price and cost of a seller who knows of shocks that last, and sets a price every so many days."""
    rng = np.random.default_rng(seed)
    shock, cost = np.zeros(DAYS), rng.choice([1.0, 2.5, 4.0, 5.5], DAYS)
    for day in range(1, DAYS):
        shock[day] = memory * shock[day - 1] + rng.normal(0.0, 0.5 * np.sqrt(1.0 - memory**2))
    price = np.round(2.0 + cost + markup * shock + rng.normal(0.0, 0.3, DAYS), 1).clip(0.5)
    price = np.repeat(price[::every], every)
    return rng.poisson(usual(price) * np.exp(shock - 0.125)), price, cost


def test_an_instrument_sets_the_slope_right(tmp_path: Path) -> None:
    units, price, cost = shocked(9)
    for column, options in (("unit_cost", {}), ("freight", {"instrument": "freight"})):
        fitting = fitted(tmp_path / f"{column}.csv", days(price, units, cost), f",{column}", **options)
        model = fitting.models["tea"]
        assert model.controlled is not None
        assert model.naive is not None
        assert tail(*fitting.demand.products["tea"].slope(), -0.25) < 3.0
        assert tail(*model.naive["price"], -0.25) > 4.0
        assert f"{model.naive['price'][0]:.4g}" in summary(fitting)
        assert "follow demand" not in " ".join(fitting.notes)
    with pytest.raises(SalesError, match="--instrument weather: no column that can be one; the file has none"):
        fitted(tmp_path / "s.csv", days(price, units), instrument="weather")


def test_intervals_with_an_instrument_hold_the_slope() -> None:
    """60 samples: bias within 4 standard errors of the mean, 95 % of the intervals within four of theirs."""
    found = []
    for seed in range(60):
        units, price, cost = shocked(100 + seed)
        mean = LogMean(np.column_stack((np.ones(DAYS), price)), ("constant", "price"))
        found.append(control_function(mean, Counts(units.astype(float)), price, cost).estimate["price"])
    value, error = np.array(found).T
    assert abs(value.mean() + 0.25) < 4.0 * value.std() / np.sqrt(60)
    assert abs(np.mean(np.abs(value + 0.25) < 1.96 * error) - 0.95) < 4.0 * np.sqrt(0.95 * 0.05 / 60)


def test_two_steps_are_those_of_statsmodels() -> None:
    """Coefficients of the second step, by Poisson on the residuals of ordinary least squares."""
    models = pytest.importorskip("statsmodels.api")
    units, price, cost = shocked(11)
    residual = models.OLS(price, np.column_stack((np.ones(DAYS), cost))).fit()
    x = np.column_stack((np.ones(DAYS), price, residual.resid))
    expected = models.Poisson(units, x).fit(disp=0, method="newton").params
    mean = LogMean(x[:, :2], ("constant", "price"))
    found = control_function(mean, Counts(units.astype(float)), price, cost)
    assert found.estimate.coefficients == pytest.approx(expected, rel=1e-6)
    assert found.first_stage == pytest.approx(residual.fvalue, rel=1e-9)


# -------------------------------------------------------------------------------------- false and true alarms


def alarm(units: Any, price: Any) -> float:
    mean, counts = LogMean(np.column_stack((np.ones(DAYS), price)), ("constant", "price")), Counts(units.astype(float))
    rows = count_rows(mean(poisson_regression(mean, counts).coefficients)[0], counts)
    p = follows_demand(price, rows.slope / np.sqrt(-rows.curvature), np.zeros((DAYS, 0)))
    assert p is not None
    return p


def test_prices_that_follow_demand_are_told_and_others_rarely(tmp_path: Path) -> None:
    """Nearly always with strong shocks that last, and in at most 5 of 100 files without, also where prices stay."""
    assert np.mean([alarming(alarm(*shocked(seed)[:2])) for seed in range(30)]) >= 0.9
    false = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        price = rng.choice(MENU, DAYS) if seed % 2 else np.repeat(rng.choice(MENU, 52), 7)
        false.append(alarming(alarm(rng.poisson(usual(price)), price)))
    assert np.mean(false) <= 0.05
    units, price, _ = shocked(9)
    assert "its prices seem to follow demand" in " ".join(fitted(tmp_path / "s.csv", days(price, units)).notes)


@pytest.mark.parametrize(
    ("memory", "markup", "every", "share"), [(0.6, 1.0, 1, 0.55), (0.9, 0.5, 1, 0.45), (0.95, 2.0, 7, 0.4)]
)
def test_weak_shocks_are_told_more_often_than_not(memory: float, markup: float, every: int, share: float) -> None:
    """Of 60 files; by a covariance of rows at 1 %, without regard to prices that stay, 37, 29 and 0 % were."""
    found = [alarming(alarm(*shocked(seed, memory, markup, every)[:2])) for seed in range(60)]
    assert np.mean(found) >= share


def test_clean_files_get_no_effects_but_in_one_of_twenty(tmp_path: Path) -> None:
    """Weekday, month and trend together, with Holm's correction: at most 5 %, within four standard errors."""
    kept = []
    for seed in range(60):
        fitting = fitted(tmp_path / "s.csv", clean(1000 + seed))
        kept.append(any(test.kept for test in fitting.models["tea"].verdicts))
    assert np.mean(kept) < 0.05 + 4.0 * np.sqrt(0.05 * 0.95 / 60)


def test_the_score_test_is_nearly_the_likelihood_ratio() -> None:
    rng = np.random.default_rng(12)
    price, w = rng.choice(MENU, 2000), rng.normal(size=2000)
    counts = Counts(rng.poisson(usual(price) * np.exp(0.12 * w)).astype(float))
    mean = LogMean(np.column_stack((np.ones(2000), price)), ("constant", "price"))
    base = poisson_regression(mean, counts)
    _, full, tests = select(mean, counts, price, [Group("w", ("w",), w[:, None])], base)
    assert tests[0].kept
    assert tests[0].statistic == pytest.approx(2.0 * (full.log_likelihood - base.log_likelihood), rel=0.06)


@pytest.mark.parametrize("degrees", [1, 2, 6, 11])
def test_tails_of_chi_square_are_scipys(degrees: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    for statistic in (0.0, 0.3, 3.84, 25.0, 300.0):
        assert chi_square_tail(statistic, degrees) == pytest.approx(stats.chi2.sf(statistic, degrees), rel=1e-9)


# ------------------------------------------------------------------------------------------ several products


def test_one_bad_product_does_not_refuse_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(13)
    flat = days([5.0] * DAYS, rng.poisson(3.0, DAYS), name="flat")
    rising = days(price := rng.choice(MENU, DAYS), rng.poisson(price), name="rising")
    two = rng.choice([4.0, 6.0], DAYS)
    twice = days(two, rng.poisson(usual(two)), name="two")
    rows = [*clean(13), *flat, *rising, *twice, *clean(14, "green"), *clean(15, "mint")]
    fitting = fitted(tmp_path / "s.csv", rows)
    assert list(fitting.demand.products) == ["tea", "two", "green", "mint"]
    assert "its price was always 5" in fitting.left_out["flat"]
    assert "does not fall" in fitting.left_out["rising"]
    assert any(note.startswith("two: two prices tell a slope") for note in fitting.notes)
    text = summary(fitting)
    assert "4 products fitted, 2 left out" in text
    assert "left out: flat: its price was always 5" in text
    assert max(map(len, text.splitlines())) <= 80
    data = json.loads(json.dumps(summary_data(fitting)))
    assert set(data["products"]) == {"tea", "two", "green", "mint"}
    assert data["products"]["tea"]["tests"]["weekday"]["kept"] is False
    one = fitted(tmp_path / "s.csv", rows, products=("green",))
    assert list(one.demand.products) == ["green"]
    with pytest.raises(SalesError, match="there is no product 'gren'"):
        fitted(tmp_path / "s.csv", rows, products=("gren",))
    with pytest.raises(SalesError, match="flat: its price was always 5"):
        fitted(tmp_path / "s.csv", rows, products=("flat",))


def test_sales_of_one_unit_a_day_cannot_tell_their_zeros(tmp_path: Path) -> None:
    rows = [(*row[:3], 1) for row in clean(16) if row[3]]
    with pytest.raises(SalesError, match="tea: "):
        fitted(tmp_path / "s.csv", rows)


def test_a_weak_or_constant_instrument_is_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(17)
    rows = [(*row, 2, round(float(rng.normal()), 2)) for row in clean(17)]
    with pytest.raises(SalesError, match="the instrument unit_cost never varies"):
        fitted(tmp_path / "s.csv", rows, ",unit_cost,noise", instrument="unit_cost")
    with pytest.raises(SalesError, match=r"is not significantly negative|does not fall"):
        fitted(tmp_path / "s.csv", rows, ",unit_cost,noise", instrument="noise")
    marked_up = [(*row, round(0.6 * row[2], 2)) for row in clean(17)]  # follows from the price: asked for, so refused
    with pytest.raises(SalesError, match="the instrument says all of the price"):
        fitted(tmp_path / "s.csv", marked_up, ",wholesale", instrument="wholesale")
    mean = LogMean(np.ones((5, 2)), ("constant", "price"))
    with pytest.raises(EstimationError, match="does not vary beside"):
        control_function(mean, Counts(np.ones(5)), np.arange(5.0), np.ones(5))


def test_a_file_of_version_1_is_still_read(tmp_path: Path) -> None:
    """As an earlier palaestra wrote it: the same market, to the bit."""
    new = demand_data(fitted(tmp_path / "s.csv", clean(18), curve="exponential").demand)
    product = {k: v for k, v in new["products"]["tea"].items() if k not in ("curve", "flags", "history")}
    old = {k: v for k, v in new.items() if k != "calendar"} | {"version": 1, "kind": "exponential"}
    old |= {"products": {"tea": product}}
    market = Pricing(12, 20, demand=json.loads(json.dumps(old)))
    np.testing.assert_array_equal(market.wanted, Pricing(12, 20, demand=new).wanted)
    a, b = (product["estimate"]["coefficients"][name] for name in ("constant", "price"))
    mean = market.wanted @ np.arange(market.wanted.shape[2])
    assert mean[0, -1] == pytest.approx(np.exp(a + b * market.prices[-1]), rel=1e-6)


def test_the_diagnosis_has_the_covariances_of_whole_series() -> None:
    """Those of 28 lags, as NumPy's correlation at every lag has them."""
    series = np.random.default_rng(4).normal(size=200)
    assert np.allclose(autocovariance(series, 29), np.correlate(series, series, "full")[199:228], rtol=1e-12)
