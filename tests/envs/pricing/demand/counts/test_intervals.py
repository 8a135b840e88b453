"""Intervals by bootstrap: what is drawn, what is fitted, and how often they hold the truth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand import fit_report
from palaestra.envs.pricing.demand.counts import intervals
from palaestra.envs.pricing.demand.counts.intervals import bootstrap_intervals, draw_sales
from palaestra.envs.pricing.demand.counts.sales_model import SalesModel
from palaestra.envs.pricing.demand.estimation import EstimationError
from palaestra.envs.pricing.demand.fit import FitOptions, Fitting, fit
from palaestra.envs.pricing.sales.sales_table import ReadOptions

MENU = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


def sales(path: Path, *columns: Any, more: str = "", product: str = "tea") -> Path:
    first = date(2024, 1, 1)
    rows = [
        ",".join(map(str, (first + timedelta(day), product, *row)))
        for day, row in enumerate(zip(*columns, strict=True))
    ]
    path.write_text("\n".join([f"date,product,price,units{more}", *rows]) + "\n")
    return path


def of_tea(fitting: Fitting) -> intervals.Intervals:
    assert fitting.refit is not None
    return bootstrap_intervals(fitting.demand, "tea", fitting.models["tea"], fitting.refit)


def test_intervals_hold_the_truth_where_the_model_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A straight line, which 10 short files may or may not show: at least 85 % for elasticity and best price."""
    monkeypatch.setattr(intervals, "DRAWS", 80)
    held, curves = [], set()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        price = rng.choice(MENU, 120)
        fitting = fit(sales(tmp_path / "s.csv", price, rng.poisson(12.0 - 1.1 * price)))
        found, mean = of_tea(fitting), fitting.demand.products["tea"].means["price"]
        assert found.best_price is not None
        truth = -1.1 * mean / (12.0 - 1.1 * mean)
        held.append(
            (found.elasticity[0] < truth < found.elasticity[1], found.best_price[0] < 60 / 11 < found.best_price[1])
        )
        curves.add(fitting.demand.products["tea"].curve)
    assert len(curves) > 1
    assert (np.mean(held, 0) >= 0.85).all()


def test_a_file_has_one_interval_and_draws_that_fail_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "DRAWS", 90)
    rng = np.random.default_rng(1)
    price = rng.choice(MENU, 100)
    fitting = fit(sales(tmp_path / "s.csv", price, rng.poisson(8.0 * np.exp(-price / 4.0))))
    first = of_tea(fitting)
    assert first == of_tea(fitting)
    assert (first.draws, first.failed) == (90, 0)
    refit, own, begun = fitting.refit, fitting.models["tea"].columns["units"], []
    assert refit is not None

    def failing(columns: Mapping[str, Array], curve: str | None) -> SalesModel:
        """Every third draw fails, on its curve and on the likeliest."""
        if columns["units"] is not own:
            begun.extend([curve] if curve else [])
            if len(begun) % 3 == 0:
                raise EstimationError("no maximum")
        return refit(columns, curve)

    fitting.refit = failing
    found = of_tea(fitting)
    assert (found.draws, found.failed) == (60, 30)
    fitting.intervals = {"tea": found}
    assert "from 60 draws; 30 more could not be fitted" in fit_report.summary(fitting).replace("\n    ", " ")
    monkeypatch.setattr(intervals, "_FEWEST", 61)
    slope, error = fitting.demand.products["tea"].slope()
    mean = fitting.demand.products["tea"].means["price"]
    few = of_tea(fitting)
    assert few.elasticity == pytest.approx(((slope - 1.96 * error) * mean, (slope + 1.96 * error) * mean), rel=1e-4)
    assert (few.best_price, few.draws, few.failed) == (None, 0, 30)


def test_draws_are_sales_as_the_file_could_have_had_them(tmp_path: Path) -> None:
    """Means of 500 draws within five standard errors: Poisson, zero-truncated, and cut by the stock."""
    rng = np.random.default_rng(2)
    price = rng.choice(MENU, 200)
    units = rng.poisson(8.0 * np.exp(-price / 4.0))
    model = fit(sales(tmp_path / "s.csv", price, units)).models["tea"]
    poisson = np.array([draw_sales(model, rng)["units"] for _ in range(500)])
    error = np.sqrt(model.fitted / 500)
    assert (np.abs(poisson.mean(0) - model.fitted) < 5.0 * error).all()
    assert model.fitted.sum() == pytest.approx(units.sum())
    truncated = replace(model, truncated=True, unsold={name: column[:0] for name, column in model.columns.items()})
    positive = np.array([draw_sales(truncated, rng)["units"] for _ in range(500)])
    assert positive.min() == 1.0
    expected = model.fitted / -np.expm1(-model.fitted)
    assert (np.abs(positive.mean(0) - expected) < 5.0 * error).all()
    stocked = replace(model, columns={**model.columns, "stock": np.full(200, 2.0)})
    assert np.isin(draw_sales(stocked, rng)["units"], (0.0, 1.0, 2.0)).all()


def test_unknown_stocks_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Stocks of 2, 4 or without end, of which the file says only which days were sold out: as often as in truth."""
    rng = np.random.default_rng(3)
    price = rng.choice(MENU, 4000)
    wanted, stock = rng.poisson(8.0 * np.exp(-price / 4.0)), rng.choice([2.0, 4.0, np.inf], 4000, p=[0.5, 0.2, 0.3])
    out = wanted >= stock
    columns = {"units": np.minimum(wanted, stock), "sold_out": out.astype(float)}
    drawn = intervals._capacity(columns, rng)
    assert (drawn[out] == stock[out]).all()
    assert (drawn[~out] > columns["units"][~out]).all()
    for size, share in ((2.0, 0.5), (4.0, 0.2), (np.inf, 0.3)):
        assert abs((drawn == size).mean() - share) < 0.04
    always = {"units": np.array([2.0, 2.0, 1.0, 0.0]), "sold_out": np.array([1.0, 1.0, 0.0, 0.0])}
    assert (intervals._capacity(always, rng) == 2.0).all()


def test_days_without_sales_are_missing_from_draws_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    price = np.repeat(rng.choice(MENU, 13), 28)
    units = rng.poisson(8.0 * np.exp(-price / 4.0))
    path = sales(tmp_path / "s.csv", price, units)
    path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.endswith(",0")) + "\n")
    fitting = fit(path)
    model = fitting.models["tea"]
    assert model.filled
    drawn = draw_sales(model, rng)
    assert drawn["units"].min() == 1.0
    assert fitting.refit is not None
    assert len(fitting.refit(drawn, None).fitted) == pytest.approx(len(model.fitted), abs=10)


def with_days_missing(path: Path, seed: int, days_of_a_price: int, noted: float) -> Path:
    """A year of 8 exp(−p / 4) a day with a share of the days without sales."""
    rng = np.random.default_rng(seed)
    price = np.repeat(rng.choice(MENU, 364 // days_of_a_price), days_of_a_price)
    units = rng.poisson(8.0 * np.exp(-price / 4.0))
    there = (units > 0) | (rng.random(364) < noted)
    head, *rows = sales(path, price, units).read_text().splitlines()
    path.write_text("\n".join([head, *(row for row, kept in zip(rows, there, strict=True) if kept)]) + "\n")
    return path


@pytest.mark.parametrize(("days_of_a_price", "noted"), [(28, 0.0), (1, 0.0), (28, 0.1)])
def test_what_was_fitted_is_what_is_drawn_from_and_holds_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days_of_a_price: int, noted: float
) -> None:
    """Days without sales that are filled, or cannot be, or of which a tenth is in the file, which forbids to fill."""
    monkeypatch.setattr(intervals, "DRAWS", 40)
    held, filled = [], []
    for seed in range(7):
        path = with_days_missing(tmp_path / "s.csv", seed, days_of_a_price, noted)
        fitting = fit(path)
        model, refit = fitting.models["tea"], fitting.refit
        assert refit is not None
        again = [found for found in intervals._possible_models(model, refit) if found.curve == model.curve]
        for found in again:
            assert (found.truncated, found.filled) == (model.truncated, model.filled)
            np.testing.assert_allclose(found.estimate.coefficients, model.estimate.coefficients, rtol=1e-6)
        drawn = refit(draw_sales(model, np.random.default_rng(seed)), model.curve)
        filled.append((model.filled, bool(again), drawn.filled))
        elasticity = of_tea(fitting).elasticity
        held.append(elasticity[0] < -0.25 * fitting.demand.products["tea"].means["price"] < elasticity[1])
    assert np.mean(held) > 0.85
    assert np.median(filled, 0).tolist() == [days_of_a_price > 1 and not noted, True, days_of_a_price > 1 and not noted]


def test_a_line_that_ends_at_the_highest_price_blows_no_interval_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zero-truncated sales let it: its standard error was 1e-9, and the interval went from -1.8 to 828,031."""
    monkeypatch.setattr(intervals, "DRAWS", 80)
    fitting = fit(with_days_missing(tmp_path / "s.csv", 11, 28, 0.1))
    low, high = of_tea(fitting).elasticity
    truth = -0.25 * fitting.demand.products["tea"].means["price"]
    assert 3.0 * truth < low < truth < high < 0.0


def test_columns_that_follow_from_the_units_explain_no_draw(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    price = rng.choice(MENU, 200)
    units = rng.poisson(8.0 * np.exp(-price / 4.0))
    fitting = fit(sales(tmp_path / "s.csv", price, units, units * price, more=",points"))
    assert fitting.refit is not None
    model = fitting.refit(draw_sales(fitting.models["tea"], rng), None)
    assert [test.title for test in model.verdicts if test.title == "points"] == []


def test_with_an_instrument_the_best_price_is_that_of_the_elasticity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "DRAWS", 80)
    rng = np.random.default_rng(6)
    shock, cost = rng.normal(0.0, 0.5, 200), rng.choice([1.0, 2.5, 4.0], 200)
    price = np.round(3.0 + cost + shock, 2)
    units = rng.poisson(20.0 * np.exp(-price / 4.0 + shock))
    fitting = fit(sales(tmp_path / "s.csv", price, units, cost, more=",unit_cost"))
    product, found = fitting.demand.products["tea"], of_tea(fitting)
    assert fitting.models["tea"].controlled is not None
    expected = [product.unit_cost - product.means["price"] / end for end in found.elasticity]
    assert found.best_price == pytest.approx(np.clip(expected, *product.price_range), rel=1e-3)  # of a grid


def test_the_report_has_intervals_of_few_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(intervals, "DRAWS", 80)
    rng = np.random.default_rng(7)
    price = rng.choice(MENU, 100)
    units = rng.poisson(8.0 * np.exp(-price / 4.0))
    path = sales(tmp_path / "s.csv", price, units)
    fit_report.fit_demand(path, tmp_path / "d.json", FitOptions(), ReadOptions(), as_json=True)
    entry = json.loads(capsys.readouterr().out)["products"]["tea"]
    assert entry["elasticity_interval"][0] < entry["elasticity_at_mean_price"] < entry["elasticity_interval"][1]
    assert entry["best_fixed_price_interval"][0] <= entry["best_fixed_price"] <= entry["best_fixed_price_interval"][1]
    assert entry["interval_draws"] + entry["draws_not_fitted"] in (78, 80)
    fit_report.fit_demand(path, tmp_path / "e.json", FitOptions(), ReadOptions())
    text = capsys.readouterr().out
    assert f"95 % intervals over all models that the sales allow, from {entry['interval_draws']} draws" in text
    low, high = entry["elasticity_interval"]
    assert f"{entry['elasticity_at_mean_price']:.2f} (95 % interval {low:.2f} to {high:.2f})" in text
    rows = path.read_text().splitlines()
    many = [row.replace("tea", name) for name in ("a", "b", "c", "d") for row in rows[1:]]
    path.write_text("\n".join([rows[0], *many]) + "\n")
    fit_report.fit_demand(path, tmp_path / "f.json", FitOptions(), ReadOptions())
    text = capsys.readouterr().out
    assert "95 %" not in text
    assert "--product NAME" in text


def test_long_files_have_the_interval_of_their_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "_MOST_ROWS", 99)
    rng = np.random.default_rng(8)
    price = rng.choice(MENU, 100)
    fitting = fit(sales(tmp_path / "s.csv", price, rng.poisson(8.0 * np.exp(-price / 4.0))))
    fitting.intervals = {"tea": of_tea(fitting)}
    assert fitting.intervals["tea"].draws == 0
    assert "95 % interval of the chosen model" in fit_report.summary(fitting)
