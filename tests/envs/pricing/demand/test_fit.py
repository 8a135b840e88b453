"""From a CSV of sales to a policy with an honest interval: recovery of known markets, refusals, the command line."""

from __future__ import annotations

import json
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.demand.count_distributions import logit_shares, poisson
from palaestra.envs.pricing.demand.fit import FitOptions, fit
from palaestra.envs.pricing.demand.fit_report import summary
from palaestra.envs.pricing.demand.json_file import demand_data, load_demand
from palaestra.envs.pricing.demand.model import Demand
from palaestra.envs.pricing.demand.uplift import Period, season_values
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError
from palaestra.envs.pricing.yogurt import BRANDS, MEAN_PRICES, PRICE, Yogurt
from palaestra.train import cli
from palaestra.train.evaluation.episodes import evaluate
from palaestra.train.evaluation.policies import ExpertPolicy

MENU = (3.0, 3.5, 4.0, 5.0, 6.0, 8.0)


def write(path: Path, header: str, rows: Any) -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def tea(path: Path, seed: int = 0, days: int = 150, dispersion: float = 0.0, cost: float = 1.5) -> Path:
    """Sales of a tea: 60 exp(−p / 4) units a day on average, with the variance μ + a μ²."""
    rng = np.random.default_rng(seed)
    price = rng.choice(MENU, days)
    mean = 60.0 * np.exp(-price / 4.0)
    if dispersion:
        mean = mean * rng.gamma(1.0 / dispersion, dispersion, days)
    rows = zip(range(days), ["tea"] * days, price, rng.poisson(mean), [cost] * days, strict=True)
    return write(path, "date,product,price,units,unit_cost", rows)


def shop(path: Path, seed: int = 0, buyers: int = 600, *, leave: bool = False) -> Path:
    """Choices between three brands with utilities 1, 0 and −1 less 2 p, and 0.6 for a feature; or none of them."""
    rng = np.random.default_rng(seed)
    price = rng.choice([0.8, 1.0, 1.2, 1.4, 1.6], (buyers, 3))
    feature = rng.random((buyers, 3)) < 0.2
    utility = np.array([1.0, 0.0, -1.0]) - 2.0 * price + 0.6 * feature + rng.gumbel(size=(buyers, 3))
    best = np.maximum(utility.max(1), rng.gumbel(size=buyers) - 1.5 if leave else -np.inf)
    rows = (
        (i, "ABC"[j], int(utility[i, j] == best[i]), price[i, j], int(feature[i, j]), f"week {i // 20}")
        for i in range(buyers)
        for j in range(3)
    )
    return write(path, "occasion_id,alternative,chosen,price,feature,date", rows)


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def demand(tmp_path: Path) -> Demand:
    return fit(tea(tmp_path / "tea.csv")).demand


# ------------------------------------------------------------------------------------------------- known markets


def test_true_parameters_of_simulated_sales_lie_in_their_intervals(tmp_path: Path) -> None:
    """50 files of each shape: 95 % of the intervals, within four standard errors of that."""
    inside: dict[str, list[Any]] = {"tea": [], "shop": [], "leave": []}
    for seed in range(50):
        path = tea(tmp_path / "sales.csv", seed, days=80, cost=0.0)
        tea_fit = fit(path, FitOptions(curve="exponential")).demand.products["tea"].estimate
        inside["tea"].append([hit(tea_fit, "constant", np.log(60.0)), hit(tea_fit, "price", -0.25)])
        choice = fit(shop(tmp_path / "sales.csv", seed, 150)).demand.products["A"].estimate
        truth = {"price": -2.0, "feature": 0.6, "constant:B": -1.0, "constant:C": -2.0}
        inside["shop"].append([hit(choice, name, value) for name, value in truth.items()])
        choice = fit(shop(tmp_path / "sales.csv", seed, 150, leave=True)).demand.products["A"].estimate
        truth = {"price": -2.0, "feature": 0.6, "constant:A": 2.5, "constant:B": 1.5, "constant:C": 0.5}
        inside["leave"].append([hit(choice, name, value) for name, value in truth.items()])
    for name, hits in inside.items():
        coverage = np.mean(hits, 0)
        assert (np.abs(coverage - 0.95) < 4.0 * np.sqrt(0.95 * 0.05 / 50)).all(), (name, coverage)


def hit(estimate: Any, name: str, truth: float) -> bool:
    value, error = estimate[name]
    return bool(abs(value - truth) < 1.96 * error)


def test_overdispersed_sales_get_a_negative_binomial(tmp_path: Path) -> None:
    fitting = fit(tea(tmp_path / "tea.csv", days=600, dispersion=0.4))
    demand = fitting.demand
    value, error = demand.products["tea"].estimate["log_dispersion"]
    assert abs(value - np.log(0.4)) < 3.0 * error
    text = summary(fitting)
    assert "negative binomial" in text
    wanted = demand.wanted("tea", np.array([4.0]), 400)[0]
    mean = wanted @ np.arange(401)
    assert wanted @ np.arange(401) ** 2 - mean**2 == pytest.approx(mean + np.exp(value) * mean**2, rel=1e-3)
    assert "Poisson demand" in summary(fit(tea(tmp_path / "poisson.csv")))


def test_visitors_and_a_competitor_shift_demand(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    n = 400
    price, rival, visitors = rng.choice(MENU, n), rng.choice([3.0, 4.0, 5.0], n), rng.integers(20, 200, n)
    units = rng.poisson(visitors * np.exp(-1.0 - 0.3 * price + 0.2 * rival))
    rows = zip(range(n), ["x"] * n, price, units, visitors, rival, strict=True)
    demand = fit(write(tmp_path / "s.csv", "date,product,price,units,visitors,competitor_price", rows)).demand
    estimate = demand.products["x"].estimate
    for name, truth in {"constant": -1.0, "price": -0.3, "competitor_price": 0.2}.items():
        value, error = estimate[name]
        assert abs(value - truth) < 3.0 * error
    a, b, c = estimate.coefficients[:3]
    expected = visitors.mean() * np.exp(a + 4.0 * b + c * rival.mean())
    assert demand.mean_units("x", np.array([4.0]), estimate.coefficients) == pytest.approx([expected], rel=1e-9)


def test_the_summary_says_what_follows(tmp_path: Path) -> None:
    """Exponential demand: the best price is the unit cost plus 1 / |β|."""
    fitting = fit(tea(tmp_path / "tea.csv", days=400))
    demand = fitting.demand
    slope, error = demand.products["tea"].estimate["price"]
    price, at_end = demand.best_fixed("tea")
    assert price == pytest.approx(1.5 - 1.0 / slope, abs=0.002)
    assert not at_end
    text = summary(fitting)
    for part in (f"{slope:.6g}", f"{error:.4g}", f"{slope / error:.2f}", f"{price:.4g}", "400 rows", "prices 3 to 8"):
        assert part in text
    dear = fit(tea(tmp_path / "dear.csv", cost=6.0)).demand
    assert dear.best_fixed("tea") == (8.0, True)


def test_a_yogurt_demand_is_the_yogurt_market(tmp_path: Path) -> None:
    """The shipped coefficients as a demand.json: the same wanted units as the environment of ENVS section 3."""
    products = {
        name: {
            "price_range": [0.04, 0.17],
            "charged": [[0.1, 1.0]],
            "means": {"price": MEAN_PRICES.get(name, 0.106)},
            **{"unit_cost": 0.0, "units_sold": 1, "sold_out": 0},
        }
        for name in BRANDS
    }
    constants = {f"constant:{name}": value for name, value in BRANDS.items() if value}
    estimate = {"coefficients": {"price": PRICE, **constants}, "covariance": np.eye(4).tolist()}
    estimate |= {"log_likelihood": -2656.9, "observations": 2412}
    data = {"version": 1, "kind": "logit", "file": "x", "rows": 1, "periods": None, "buyers": 20, "outside": False}
    prices = Yogurt().prices
    market = Pricing(
        26, 100, prices=prices, demand={**data, "estimate": estimate, "products": products}, product="yoplait"
    )
    assert market.wanted == pytest.approx(Yogurt().wanted, abs=1e-12)
    assert market.optimal_value() == pytest.approx(12.558360, abs=1e-6)


def test_choices_with_an_outside_option_share_it(tmp_path: Path) -> None:
    fitting = fit(shop(tmp_path / "shop.csv", leave=True))
    demand = fitting.demand
    assert demand.outside
    assert any("outside" in note for note in fitting.notes)
    assert demand.buyers == 20.0
    c = dict(zip((e := demand.products["B"].estimate).names, e.coefficients, strict=True))
    means = {name: demand.products[name].means for name in "ABC"}
    own = [
        c[f"constant:{name}"] + c["price"] * (1.1 if name == "B" else means[name]["price"])
        + c["feature"] * means[name]["feature"]
        for name in "ABC"
    ]  # fmt: skip
    expected = 20.0 * logit_shares(np.array(own))[1]
    assert demand.mean_units("B", np.array([1.1]), e.coefficients) == pytest.approx([expected], rel=1e-9)


# ------------------------------------------------------------------------------------------------------ refusals

GOOD = [(day, "tea", price, 20 - 2 * price) for day, price in enumerate([3, 4, 5, 6] * 5)]
SALES = "date,product,price,units"


REFUSED: dict[str, tuple[str, list[tuple[Any, ...]], str]] = {
    "one price": (SALES, [(day, "tea", 3, 5) for day in range(9)], "tea: its price was always 3"),
    "rising demand": (SALES, [(d, "tea", p, 2 * p) for d, p, *_ in [(r[0], r[2]) for r in GOOD]], "does not fall"),
    "no clear slope": (SALES, [(d, "tea", p, 9 - (p == 6)) for d, _, p, _ in GOOD], "not significantly negative"),
    "nothing sold": (SALES, [(d, "tea", p, 0) for d, _, p, _ in GOOD], "tea: nothing was sold"),
    "oversold": (SALES + ",stock", [(*row, 10) for row in GOOD], "row 2: more units were sold than were in stock"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_sales_are_refused_in_one_line(
    case: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header, rows, message = REFUSED[case]
    write(here / "sales.csv", header, rows)
    assert run_cli(monkeypatch, "fit-demand", "sales.csv") == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("palaestra: error: sales.csv: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (here / "demand.json").exists()


CHOICES = "occasion_id,alternative,chosen,price"
PURCHASES = [
    (i, name, int((name == "A") == (i % 7 > a % 3)), p)
    for i in range(60)
    for a in [i]
    for name, p in (("A", 1 + i % 3), ("B", 1 + i % 4))
]
REFUSED_CHOICES: dict[str, tuple[str, list[tuple[Any, ...]], str]] = {
    "no dates": (CHOICES, PURCHASES, "give --buyers"),
    "two choices": (CHOICES + ",date", [(*row[:2], 1, row[3], 1) for row in PURCHASES], "occasion 0 has more than one"),
    "repeated": (CHOICES + ",date", [(*row, 1) for row in [*PURCHASES, PURCHASES[0]]], "row 122 repeats the occasion"),
    "not a flag": (CHOICES, [(*row[:2], 2, row[3]) for row in PURCHASES], "row 2: chosen must be 0 or 1, got '2'"),
    "never chosen": (
        CHOICES + ",date", [(*row[:2], int(row[1] == "A"), row[3], 1) for row in PURCHASES], "B: it was never chosen",
    ),
    "not available": (
        CHOICES + ",date,available", [(*row, 1, 0) for row in PURCHASES], "chosen, but not available",
    ),
    "alone": (CHOICES + ",date", [(i, "A", 1, 1 + i % 3, 1) for i in range(9)], "at least two alternatives"),
    "dearer is liked": (
        CHOICES + ",date",
        [
            (i, n, int((n == "A") == (i % 4 > 1)), p, 1)
            for i in range(80)
            for n, p in (("A", 1 + i % 4), ("B", 2 + i % 3))
        ],
        "does not fall",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_CHOICES)
def test_bad_choices_are_refused(case: str, tmp_path: Path) -> None:
    header, rows, message = REFUSED_CHOICES[case]
    with pytest.raises(SalesError) as error:
        fit(write(tmp_path / "s.csv", header, rows))
    assert message in str(error.value)


def test_files_that_are_none_are_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "latin.csv").write_bytes(f"{SALES}\n1,café,3,4\n".encode("latin-1"))
    (here / "binary.csv").write_bytes(b"date,product\0,price,units\n")
    tea(here / "tea.csv")
    (here / "demand.json").write_text("mine")
    for arguments, message in {
        ("latin.csv", "--out", "a.json"): "latin.csv: row 2 is not UTF-8 text: --encoding cp1252",
        ("nowhere.csv", "--out", "a.json"): "no such file: nowhere.csv",
        (str(here), "--out", "a.json"): "no such file",
        ("tea.csv",): "demand.json is there already",
        ("tea.csv", "--out", "no/folder.json"): "no/folder.json",
        ("tea.csv", "--out", "a.json", "--buyers", "3"): "--buyers is for choices",
        ("tea.csv", "--out", "a.json", "--buyers", "-3"): "must be above 0",
    }.items():
        assert run_cli(monkeypatch, "fit-demand", *arguments) == 2, arguments
        error = capsys.readouterr().err
        assert message in error, error
        assert error.count("\n") == 1
    assert run_cli(monkeypatch, "fit-demand", "binary.csv", "--out", "b.json") == 2
    assert (here / "demand.json").read_text() == "mine"


def test_choices_that_rise_with_the_price_name_what_is_not_used(tmp_path: Path) -> None:
    """Dearer trains are faster; where the time is a function of the price, it cannot be told from it."""
    rng = np.random.default_rng(0)
    rows = ["occasion_id,alternative,chosen,price,minutes"]
    for i in range(200):
        price = rng.choice(MENU, 2, replace=False)
        taken = int(price.argmax()) if rng.random() < 0.8 else int(price.argmin())
        rows += [f"{i},{'ab'[k]},{int(k == taken)},{price[k]},{200 - 10 * price[k]}" for k in (0, 1)]
    (tmp_path / "trains.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(SalesError, match=r"does not fall with the price .* are not used: --attribute minutes uses it$"):
        fit(tmp_path / "trains.csv", FitOptions(buyers=20.0))
    with pytest.raises(SalesError, match="the data do not determine price and minutes"):
        fit(tmp_path / "trains.csv", FitOptions(buyers=20.0), ReadOptions(attributes=["minutes"]))


def test_stock_outs_gaps_and_unused_columns_are_said(tmp_path: Path) -> None:
    rows = [(*row, 14 if row[3] == 14 else 30, "x") for row in GOOD] + [
        (99, "tea", 3, 0, 0, "x"),
        (98, "milk", 3, 0, 0, "x"),
    ]
    rows += [(day, "milk", price, 30 - 3 * price, 40, "x") for day, price in enumerate([3, 4, 5] * 5)]
    fitting = fit(write(tmp_path / "s.csv", SALES + ",stock,colour", rows))
    text = "\n".join(fitting.notes)
    assert "tea: 5 rows (25.0%) sold all their stock" in text
    assert "2 rows without stock" in text
    assert "not used: colour" in text
    assert fitting.demand.products["tea"].sold_out == 5
    assert fitting.demand.products["tea"].estimate.n == 20


@pytest.mark.parametrize("products", [1, 40])
def test_a_million_rows_are_no_matter(products: int, tmp_path: Path) -> None:
    """200,000 rows here, in a fifth of the time that a million may take (20 s)."""
    rng = np.random.default_rng(0)
    n = 200_000
    price = rng.choice(MENU, n)
    units = rng.poisson(60.0 * np.exp(-price / 4.0))
    lines = (f"{i // products},p{i % products},{price[i]},{units[i]}" for i in range(n))
    (tmp_path / "big.csv").write_text(SALES + "\n" + "\n".join(lines) + "\n")
    start = time.process_time()
    demand = fit(tmp_path / "big.csv").demand
    assert time.process_time() - start < 4.0
    slopes = [product.estimate["price"] for product in demand.products.values()]
    assert max(abs(value + 0.25) / error for value, error in slopes) < 4.0


def test_a_row_takes_no_more_than_two_hundred_bytes(tmp_path: Path) -> None:
    """Its four numbers take 32, and a million rows were 541 MB."""
    rng = np.random.default_rng(0)
    price = rng.choice(MENU, 50_000)
    lines = (f"{i},tea,{p},{u}" for i, (p, u) in enumerate(zip(price, rng.poisson(9.0 / price), strict=True)))
    (tmp_path / "one.csv").write_text(SALES + "\n" + "\n".join(lines) + "\n")
    fit(tmp_path / "one.csv")  # what it imports is not counted
    tracemalloc.start()
    try:
        fit(tmp_path / "one.csv")
        assert tracemalloc.get_traced_memory()[1] < 200 * 50_000
    finally:
        tracemalloc.stop()


# -------------------------------------------------------------------------------------------------- demand.json


def test_a_demand_survives_its_file(tmp_path: Path) -> None:
    for path in (tea(tmp_path / "tea.csv", dispersion=0.4), shop(tmp_path / "shop.csv", leave=True)):
        demand = fit(path).demand
        data = demand_data(demand)
        again = load_demand(json.loads(json.dumps(data)))
        assert demand_data(again) == data
        for name in demand.products:
            prices = np.linspace(*demand.products[name].price_range, 5)
            np.testing.assert_array_equal(again.wanted(name, prices, 50), demand.wanted(name, prices, 50))
            np.testing.assert_array_equal(again.draws(name, 3), demand.draws(name, 3))


EDITS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "kind": (lambda d: d.update(kind="linear"), "kind must be"),
    "version": (lambda d: d.update(version=3), "version 3 of the kind 'counts' cannot be read"),
    "curve": (lambda d: d["products"]["tea"].update(curve="cubic"), "tea.curve must be one of exponential"),
    "flags": (lambda d: d["products"]["tea"].update(flags=["rain"]), "tea.flags must be a list of names in means"),
    "calendar": (lambda d: d.update(calendar={"first": "x", "last": "y", "step": 1}), "calendar must have dates"),
    "no calendar": (
        lambda d: (
            d["products"]["tea"]["estimate"]["coefficients"].update({"trend": 0.1}),
            d["products"]["tea"]["estimate"].update(covariance=np.eye(3).tolist()),
        ),
        "products.tea: trend needs a calendar",
    ),
    "reaches 0": (
        lambda d: (
            d["products"]["tea"].update(curve="linear"),
            d["products"]["tea"]["estimate"]["coefficients"].update(price=-0.9),
        ),
        "the demand must fall, and not reach 0",
    ),
    "lost": (lambda d: d.pop("rows"), "the file lacks: rows"),
    "unknown": (lambda d: d.update(colour=1), "unknown entry: colour"),
    "no products": (lambda d: d.update(products={}), "products must be"),
    "no product": (lambda d: d["products"].update(tea=3), "products.tea must be a mapping"),
    "range": (lambda d: d["products"]["tea"].update(price_range=[8, 3]), "tea.price_range must be two"),
    "range text": (lambda d: d["products"]["tea"].update(price_range="3-8"), "price_range must be a list"),
    "shares": (lambda d: d["products"]["tea"]["charged"].pop(), "shares that sum to 1"),
    "far": (lambda d: d["products"]["tea"]["charged"][0].__setitem__(0, 1), "ascending prices inside price_range"),
    "ragged": (lambda d: d["products"]["tea"].update(charged=[[3, 1], [2]]), "charged must be a list of finite"),
    "mean": (lambda d: d["products"]["tea"].update(means={}), "means must have price"),
    "cost": (lambda d: d["products"]["tea"].update(unit_cost=-1), "unit_cost must not be negative"),
    "cost text": (lambda d: d["products"]["tea"].update(unit_cost="1"), "unit_cost must be a finite number"),
    "units": (lambda d: d["products"]["tea"].update(units_sold=1.5), "units_sold must be a whole number"),
    "slope": (lambda d: d["products"]["tea"]["estimate"]["coefficients"].update(price=0.1), "must be negative"),
    "NaN": (lambda d: d["products"]["tea"]["estimate"]["coefficients"].update(price=float("nan")), "finite number"),
    "name": (lambda d: d["products"]["tea"]["estimate"]["coefficients"].update(weather=1.0), "nothing but"),
    "huge": (lambda d: d["products"]["tea"]["estimate"]["coefficients"].update(constant=900.0), "sales of"),
    "tiny": (lambda d: d["products"]["tea"]["estimate"]["coefficients"].update(constant=-900.0), "sales of"),
    "covariance": (lambda d: d["products"]["tea"]["estimate"]["covariance"].pop(), "covariance must be a symmetric"),
    "variance": (lambda d: d["products"]["tea"]["estimate"].update(covariance=[[-1, 0], [0, 1]]), "negative variance"),
}


@pytest.mark.parametrize("case", EDITS)
def test_a_demand_edited_by_hand_is_refused(case: str, demand: Demand) -> None:
    data = json.loads(json.dumps(demand_data(demand)))
    edit, message = EDITS[case]
    edit(data)
    with pytest.raises(ValueError, match=r"^demand: ") as error:
        Pricing(demand=data)
    assert message in str(error.value)


def test_a_demand_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    for name, message in {"bad.json": "is not JSON", "none.json": "no such file"}.items():
        with pytest.raises(ValueError, match=message):
            Pricing(demand=str(tmp_path / name))
    with pytest.raises(ValueError, match="kind must be"):
        Pricing(demand=[1])


# --------------------------------------------------------------------------------------------------- the market


def test_the_menu_has_round_prices_inside_the_range(demand: Demand) -> None:
    menu = Pricing(demand=demand_data(demand)).prices
    np.testing.assert_allclose(menu, np.arange(3.0, 8.01, 0.2), rtol=1e-12)
    for low, high in ((0.99, 1.49), (1234.5, 99_999.0), (3e-4, 4e-4), (19.99, 20.01)):
        data = demand_data(demand)
        data["products"]["tea"] |= {"price_range": [low, high], "charged": [[low, 1.0]], "means": {"price": low}}
        data["products"]["tea"]["estimate"]["coefficients"] = {"constant": 1.0, "price": -1.0 / high}
        data["products"]["tea"]["unit_cost"] = 0.0
        menu = Pricing(demand=data).prices
        assert 10 <= len(menu) <= 31
        assert low <= menu[0]
        assert menu[-1] <= high


def test_arguments_that_do_not_fit_are_refused(demand: Demand, tmp_path: Path) -> None:
    data = demand_data(demand)
    two = demand_data(fit(shop(tmp_path / "shop.csv")).demand)
    for arguments, message in (
        ({"demand": data, "willingness": 3.0}, "one or the other"),
        ({"demand": data, "arrival_rate": 0.5}, "one or the other"),
        ({"demand": data, "prices": [2.9, 5.0]}, "between 3 and 8"),
        ({"demand": data, "prices": [5.0, 8.1]}, "between 3 and 8"),
        ({"demand": data, "product": "coffee"}, "no product 'coffee'; it has tea"),
        ({"demand": data, "stock": 0}, "stock"),
        ({"demand": data, "stock": 100_000, "periods": 1000}, "too large"),
        ({"demand": two}, "choose one with product: A, B, C"),
        ({"product": "tea"}, "needs a demand"),
        ({"plan": {"rain": 1}}, "needs a demand"),
        ({"demand": data, "start": "2025-01-06"}, "start needs sales with calendar dates"),
        ({"demand": data, "plan": {"rain": 1}}, "no regressor 'rain'; it has none"),
        ({"demand": data, "plan": 3}, "plan must give columns their values"),
        ({"demand": two, "product": "A", "plan": {"feature": 1}}, "estimated from choices"),
    ):
        with pytest.raises(ValueError, match=message):
            Pricing(**arguments)
    dear = demand_data(fit(tea(tmp_path / "dear.csv", cost=9.0)).demand)
    with pytest.raises(ValueError, match="no price is above the unit cost"):
        Pricing(demand=dear)
    numbered = json.loads(json.dumps(data).replace('"tea"', '"007"'))
    assert Pricing(demand=numbered, product=7).product == "007"


def test_played_seasons_earn_what_the_market_says(demand: Demand) -> None:
    kwargs = {"demand": demand_data(demand), "periods": 12, "stock": 100}
    result = evaluate("pricing", ExpertPolicy(), episodes=20_000, env_kwargs=kwargs)
    standard_error = result.std / np.sqrt(result.episodes)
    assert abs(result.mean - result.more["exact_mean"]) < 4.0 * standard_error
    assert result.more["exact_mean"] == pytest.approx(Pricing(**kwargs).optimal_value(), rel=1e-9)


# ------------------------------------------------------------------------------------------------------- uplift


def test_values_of_many_markets_are_those_of_each(demand: Demand) -> None:
    """Against the markets' own backward induction, also where a period can want all the stock."""
    market = Pricing(demand=demand_data(demand), periods=9, stock=40)
    policy, prices = market.optimal_policy(), market.prices
    draws = demand.draws("tea", 3)
    wanted = demand.wanted("tea", prices, 40, draws)
    units = wanted @ np.minimum(np.arange(wanted.shape[2])[:, None], np.arange(41))
    values = season_values(lambda stage: Period(wanted, units * prices[:, None], units), policy, market.unit_cost)
    for draw, value in zip(draws, values, strict=True):
        data = demand_data(demand)
        data["products"]["tea"]["estimate"]["coefficients"] = dict(zip(("constant", "price"), draw, strict=True))
        other = Pricing(demand=json.loads(json.dumps(data)), periods=9, stock=40)
        assert value == pytest.approx(other.policy_value(policy), rel=1e-9)


def test_the_uplift_compares_exact_values(demand: Demand) -> None:
    market = Pricing(demand=demand_data(demand), periods=12, stock=60, prices=list(MENU))
    result = market.exact(market.expert)
    best, fixed = market.optimal_value(), market.best_fixed_price()[1]
    assert result["uplift_over_fixed_percent"] == pytest.approx(100.0 * (best / fixed - 1.0), rel=1e-9)
    shares = demand.products["tea"].shares  # for the same prices: charging them at random is a policy of this market
    random = market.policy_value(np.tile(shares, (12, 61, 1)))
    assert result["charged_mean"] == pytest.approx(random, rel=1e-9)
    assert result["uplift_over_charged_percent"] == pytest.approx(100.0 * (best / random - 1.0), rel=1e-9)
    for what in ("fixed", "charged"):
        key = f"uplift_over_{what}_percent"
        assert result[f"{key}_low"] < result[key] < result[f"{key}_high"]


def test_more_data_make_the_interval_of_the_uplift_narrower(tmp_path: Path) -> None:
    width = {}
    for days in (100, 1600):
        market = Pricing(12, 60, demand=demand_data(fit(tea(tmp_path / "tea.csv", 5, days)).demand))
        result = market.exact(market.expert)
        width[days] = result["uplift_over_charged_percent_high"] - result["uplift_over_charged_percent_low"]
    assert width[100] / width[1600] == pytest.approx(4.0, rel=0.4)  # as 1/√n


def test_the_interval_holds_the_uplift_in_the_true_market(tmp_path: Path) -> None:
    """A policy made from estimates, valued in the true market: 40 shops, about 95 % inside (at least 85 %)."""
    inside = []
    for seed in range(40):
        demand = fit(tea(tmp_path / "tea.csv", seed, days=80)).demand
        market = Pricing(10, 60, prices=list(MENU), demand=demand_data(demand))
        result = market.exact(market.expert)
        wanted = poisson(60.0 * np.exp(-np.array(MENU) / 4.0), 60)
        truth = Pricing(10, 60, prices=list(MENU), demand=demand_data(demand))
        truth.wanted = np.broadcast_to(wanted, (10, *wanted.shape))
        mixed = np.tile(demand.products["tea"].shares, (10, 61, 1))
        uplift = 100.0 * (truth.policy_value(market.optimal_policy()) / truth.policy_value(mixed) - 1.0)
        low, high = (result[f"uplift_over_charged_percent_{end}"] for end in ("low", "high"))
        inside.append(low <= uplift <= high)
    assert np.mean(inside) >= 0.85


def test_an_evaluation_takes_seconds(demand: Demand) -> None:
    market = Pricing(100, 100, demand=demand_data(demand))
    start = time.process_time()
    market.exact(lambda state: torch.zeros_like(state.stock))
    assert time.process_time() - start < 10.0


# ------------------------------------------------------------------------------------------------- command line


def test_from_sales_to_a_policy_with_an_interval(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tea(here / "sales.csv")
    assert run_cli(monkeypatch, "fit-demand", "sales.csv", "--out", "demand.json") == 0
    assert "train pricing --set env.demand=demand.json" in capsys.readouterr().out
    few = ["--num-envs", "64", "--total-timesteps", "4096", "--set", "n_steps=16", "--set", "batch_size=256"]
    market = ["--set", "env.demand=demand.json", "--set", "env.periods=10", "--set", "env.stock=60"]
    assert run_cli(monkeypatch, "train", "pricing", *few, *market, "--run-dir", "run") == 0
    stored = yaml.safe_load((here / "run/config.yaml").read_text())["env_kwargs"]
    assert stored["demand"] == json.loads((here / "demand.json").read_text())
    (here / "demand.json").unlink()  # the run keeps its market, from anywhere
    elsewhere = here / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    capsys.readouterr()
    assert run_cli(monkeypatch, "evaluate", str(here / "run"), "--episodes", "64", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    for what in ("fixed", "charged"):
        key = f"uplift_over_{what}_percent"
        assert result[f"{key}_low"] <= result[key] <= result[f"{key}_high"]
    assert result["reference"]["optimum"] >= result["exact_mean"]
    assert run_cli(monkeypatch, "train", "pricing", "--set", "env.demand=demand.json") == 2
    error = capsys.readouterr().err
    assert "no such file: demand.json" in error
    assert error.count("\n") == 1
