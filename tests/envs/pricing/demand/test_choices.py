"""Choices between alternatives: attributes beside the price against an independent optimiser, refusals, the market."""

from __future__ import annotations

import csv
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.demand.fit import FitOptions, Fitting, fit
from palaestra.envs.pricing.demand.json_file import demand_data, load_demand
from palaestra.envs.pricing.demand.model import DemandError
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError
from palaestra.train import cli

MODES, BUYERS = ("TRAIN", "CAR", "BUS"), 400
LONG = "occasion_id,alternative,chosen,price,minutes,seats,doors,week,note,available"
BUS_STAYS = 0.2  # share of the days without a bus


class Trips:
    """Buyers with utilities 1, 0.5 and 0 less 0.8 p and 0.12 a minute, and 0.7 for a seat; the dearer way is faster."""

    def __init__(self, seed: int = 0, faster: float = 10.0) -> None:
        rng = np.random.default_rng(seed)
        self.price = rng.choice([2.0, 3.0, 4.0, 6.0], (BUYERS, 3))
        self.minutes = np.round(90.0 - faster * self.price + rng.normal(0.0, 10.0, (BUYERS, 3)), 1)
        self.seats = (rng.random((BUYERS, 3)) < 0.5).astype(float)
        self.there = np.ones((BUYERS, 3), bool)
        self.there[:, 2] = rng.random(BUYERS) >= BUS_STAYS
        utility = np.array([1.0, 0.5, 0.0]) - 0.8 * self.price - 0.12 * self.minutes + 0.7 * self.seats
        utility += rng.gumbel(size=(BUYERS, 3))
        self.chosen = np.where(self.there, utility, -np.inf).argmax(1)

    def long(self, path: Path) -> Path:
        """A row for each alternative; what is not there has no time, and tea is what a column of text is about."""
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(LONG.split(","))
            for i in range(BUYERS):
                for k, mode in enumerate(MODES):
                    time = self.minutes[i, k] if self.there[i, k] else ""
                    own = (time, self.seats[i, k], 2 + k, i % 5, "tea")
                    rows.writerow((i, mode, int(self.chosen[i] == k), self.price[i, k], *own, int(self.there[i, k])))
        return path

    def wide(self, path: Path) -> Path:
        """A row for each buyer: TRAIN_CO, TRAIN_TT and so on."""
        with path.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            names = [f"{mode}_{what}" for what in ("CO", "TT", "SEATS", "AV", "DOORS") for mode in MODES]
            rows.writerow((*names, "AGE", "TRAIN_HE", "CAR_HE", "CHOICE"))
            for i in range(BUYERS):
                time = [self.minutes[i, k] if self.there[i, k] else "" for k in range(3)]
                own = (*self.price[i], *time, *self.seats[i], *self.there[i].astype(int), "two", "four", "one")
                rows.writerow((*own, i % 40, 30, 0, self.chosen[i] + 1))
        return path


def reading(*attributes: str, wide: bool = False, **columns: str) -> ReadOptions:
    if wide:
        columns |= {"price": "CO", "available": "AV", "chosen": "CHOICE"}
        return ReadOptions(columns=columns, alternatives=MODES, attributes=attributes)
    return ReadOptions(columns=columns, attributes=attributes)


def fitted(path: Path, options: ReadOptions) -> Fitting:
    return fit(path, FitOptions(buyers=20.0), options)


def independent(trips: Trips) -> tuple[Any, Any]:
    """Maximum and standard errors by scipy's BFGS: price, minutes, seats and the constants of CAR and BUS."""
    constants = np.broadcast_to(np.eye(3)[:, 1:], (BUYERS, 3, 2))
    x = np.concatenate([np.stack((trips.price, trips.minutes, trips.seats), 2), constants], 2)
    scale = np.abs(x).max((0, 1))
    optimize = pytest.importorskip("scipy.optimize")

    def loss(beta: Any) -> tuple[float, Any]:
        utility = np.where(trips.there, (x / scale) @ beta, -np.inf)
        weight = np.exp(utility - utility.max(1, keepdims=True))
        share = weight / weight.sum(1, keepdims=True)
        taken = np.eye(3)[trips.chosen]
        return -np.log(share[taken > 0.0]).sum(), -np.einsum("nj,njk->k", taken - share, x / scale)

    found = optimize.minimize(loss, np.zeros(5), jac=True, method="BFGS", options={"gtol": 1e-7})
    steps = 1e-5 * np.eye(5)
    hessian = np.array([(loss(found.x + step)[1] - loss(found.x - step)[1]) / 2e-5 for step in steps])
    return found.x / scale, np.sqrt(np.diag(np.linalg.inv(hessian))) / scale


# ------------------------------------------------------------------------------------------------- known answers


def test_attributes_enter_the_logit_beside_the_price(tmp_path: Path) -> None:
    trips = Trips()
    estimate = fitted(trips.long(tmp_path / "trips.csv"), reading("minutes", "seats")).demand.products["CAR"].estimate
    assert estimate.names == ("price", "minutes", "seats", "constant:CAR", "constant:BUS")
    beta, errors = independent(trips)
    assert estimate.coefficients == pytest.approx(beta, abs=1e-6)
    assert estimate.standard_errors == pytest.approx(errors, rel=1e-5)


def test_both_forms_of_a_file_give_the_same(tmp_path: Path) -> None:
    """Columns of each alternative are found as those of prices, by a word, a pattern or a mapped name."""
    trips = Trips(1)
    long = fitted(trips.long(tmp_path / "long.csv"), reading("MINUTES", "s", s="seats")).demand
    path = trips.wide(tmp_path / "wide.csv")
    for attributes, columns in (
        (("tt", "SEATS"), {}),
        (("*_TT", "s"), {"s": "SEATS"}),
        (("*_TT", "SEATS"), {"s": "SEATS"}),
    ):
        wide = fitted(path, reading(*attributes, wide=True, **columns)).demand
        for name, product in wide.products.items():
            same = long.products[name]
            assert product.estimate.coefficients == pytest.approx(same.estimate.coefficients, rel=1e-12)
            assert list(product.means.values()) == pytest.approx(list(same.means.values()), rel=1e-12)
    assert long.products["BUS"].estimate.names[1:3] == ("minutes", "s")
    assert wide.products["BUS"].estimate.names[1:3] == ("*_TT", "s")


def test_true_coefficients_lie_in_their_intervals(tmp_path: Path) -> None:
    """40 files: 95 % of the intervals, within four standard errors of that."""
    truth = {"price": -0.8, "minutes": -0.12, "seats": 0.7, "constant:CAR": -0.5, "constant:BUS": -1.0}
    hits = []
    for seed in range(40):
        path = Trips(seed).long(tmp_path / "trips.csv")
        estimate = fitted(path, reading("minutes", "seats")).demand.products["CAR"].estimate
        hits.append([abs(estimate[name][0] - value) < 1.96 * estimate[name][1] for name, value in truth.items()])
    assert (np.abs(np.mean(hits, 0) - 0.95) < 4.0 * np.sqrt(0.95 * 0.05 / 40)).all()


def test_with_an_outside_option_an_attribute_may_be_one_of_the_occasion(tmp_path: Path) -> None:
    """Whoever may leave leaves less often where both alternatives are better: the odds of counts tell how much."""
    rows = ["occasion_id,alternative,chosen,price,sunny"]
    bought = {(1, 0): 10, (2, 0): 5, (1, 1): 30, (2, 1): 20}  # of 40 each, of one alternative, by price and weather
    for price, sunny in bought:
        rows += [f"{price}{sunny}{i},ice,{int(i < bought[price, sunny])},{price},{sunny}" for i in range(40)]
    (tmp_path / "ice.csv").write_text("\n".join(rows) + "\n")
    estimate = fitted(tmp_path / "ice.csv", reading("sunny")).demand.products["ice"].estimate
    y, n = np.array(list(bought.values())), 40.0
    x = np.array([[price, sunny, 1.0] for price, sunny in bought])
    beta = np.zeros(3)
    for _ in range(50):  # logistic regression by iteratively reweighted least squares
        mean = n / (1.0 + np.exp(-x @ beta))
        beta += np.linalg.solve(x.T @ (x * (mean * (1.0 - mean / n))[:, None]), x.T @ (y - mean))
    assert [estimate[name][0] for name in ("price", "sunny", "constant:ice")] == pytest.approx(beta, rel=1e-9)


def test_a_season_keeps_alternatives_at_their_mean_attributes(tmp_path: Path) -> None:
    trips = Trips(2)
    fitting = fitted(trips.long(tmp_path / "trips.csv"), reading("minutes", "seats"))
    assert "a season keeps each alternative at its mean of minutes, seats" in fitting.notes
    data = json.loads(json.dumps(demand_data(fitting.demand)))
    demand = load_demand(data)
    means = demand.products["BUS"].means
    assert means["minutes"] == pytest.approx(trips.minutes[trips.there[:, 2], 2].mean(), rel=1e-12)
    c = dict(zip((e := demand.products["BUS"].estimate).names, e.coefficients, strict=True))
    utility = [
        c.get(f"constant:{mode}", 0.0) + c["price"] * (2.5 if mode == "BUS" else own["price"])
        + c["minutes"] * own["minutes"] + c["seats"] * own["seats"]
        for mode in MODES for own in [demand.products[mode].means]
    ]  # fmt: skip
    expected = 20.0 * (np.exp(utility) / np.exp(utility).sum())[2]
    assert demand.mean_units("BUS", np.array([2.5]), e.coefficients) == pytest.approx([expected], rel=1e-9)
    market = Pricing(10, 30, prices=[2.0, 2.5], demand=data, product="BUS")
    assert market.wanted[0, 1] @ np.arange(market.wanted.shape[2]) == pytest.approx(expected, rel=1e-6)


def test_an_attribute_in_a_file_has_a_mean_of_each_product(tmp_path: Path) -> None:
    data = demand_data(fitted(Trips().long(tmp_path / "trips.csv"), reading("minutes")).demand)
    del data["products"]["BUS"]["means"]["minutes"]
    with pytest.raises(DemandError, match="coefficients must have price, and nothing but"):
        load_demand(json.loads(json.dumps(data)))


def test_what_costs_nothing_may_be_chosen_but_is_no_price_to_ask(tmp_path: Path) -> None:
    trips = Trips(3)
    trips.price[::7, 0] = 0.0
    demand = fitted(trips.long(tmp_path / "trips.csv"), reading("minutes")).demand
    again = load_demand(json.loads(json.dumps(demand_data(demand))))
    assert again.products["TRAIN"].price_range == (0.0, 6.0)
    assert again.menu("TRAIN") == pytest.approx([0.2 * k for k in range(1, 31)])
    assert Pricing(demand=again, product="TRAIN", endings=[0.0]).prices.tolist() == [1, 2, 3, 4, 5, 6]
    market = Pricing(demand=again, product="TRAIN")
    assert market.prices[0] > 0.0
    assert market.optimal_value() > 0.0


# ------------------------------------------------------------------------------------------------------ refusals


def test_a_price_that_is_liked_names_the_attributes_to_use(tmp_path: Path) -> None:
    """Only columns that can tell: doors are in the constants, the week is the same for all, tea is no number."""
    better = (
        r"does not fall with the price .* may be better in what the file leaves out, or in columns that are not used: "
    )
    with pytest.raises(SalesError, match=better + "--attribute minutes --attribute seats use them$"):
        fitted(Trips().long(tmp_path / "trips.csv"), reading())
    with pytest.raises(SalesError, match=better + "--attribute TT --attribute SEATS use them$"):
        fitted(Trips().wide(tmp_path / "wide.csv"), reading(wide=True))


def test_prices_of_another_kind_are_named_with_the_column_that_tells_them(tmp_path: Path) -> None:
    """A third of the buyers has season tickets, whose price stands in the file, and always takes the train."""
    trips = Trips(4, faster=0.0)
    season = np.arange(BUYERS) % 3 == 0
    trips.chosen[:] = np.where(season, 0, trips.chosen)
    trips.price[season, 0] *= 100.0
    for path, options in (
        (trips.long(tmp_path / "long.csv"), reading()),
        (trips.wide(tmp_path / "w.csv"), reading(wide=True)),
    ):
        text = path.read_text().splitlines()
        step = 3 if "long" in path.name else 1
        tickets = [("season" if season[i // step] else "single") for i in range(len(text) - 1)]
        rows = [f"{row},{ticket},{i % 7}" for i, (row, ticket) in enumerate(zip(text[1:], tickets, strict=True))]
        path.write_text("\n".join([f"{text[0]},Ticket,day", *rows]) + "\n")
        way = r"where Ticket is season, TRAIN costs \d+ times as much, .*: --where Ticket=single leaves those rows out$"
        with pytest.raises(SalesError, match=way):
            fitted(path, options)
        for condition in ("Ticket=single", "ticket!=season"):
            fitting = fitted(path, replace(options, where=[condition]))
            kept = int((~season).sum()) * step
            assert f"rows where {condition}: {kept:,} of {step * BUYERS:,}" in fitting.notes
            assert fitting.demand.products["TRAIN"].price_range == (2.0, 6.0)
            assert not any("Ticket" in note for note in fitting.notes if "not used" in note)


LONG_REFUSALS = {
    ("colour",): "no such column (it has occasion_id, ",
    ("minute",): "no such column; is 'minutes' meant?",
    ("week",): "it never differs between the alternatives of an occasion",
    ("doors",): "it never changes for any alternative: their constants hold it already",
    ("note",): "row 2: note must be a number, got 'tea'",
    ("price",): "price is used as price already",
    ("available",): "available is used as available already",
    ("minutes", "minutes"): "it is given twice",
    ("minutes", "MINUTES"): "it is given twice",
}
WIDE_REFUSALS = {
    (
        "AGE",
    ): "--attribute AGE: an attribute has a column for each alternative, not one for all; there are TT, SEATS, DOORS",
    ("TRAIN_TT",): "not one for all; there are TT, SEATS, DOORS",
    ("HE",): "--attribute HE: there is no such column for the alternative BUS, which has BUS_CO",
    ("CO",): "--attribute CO: TRAIN_CO is used as price already",
    ("TT", "tt"): "--attribute tt: TRAIN_TT is used as an attribute already",
    ("DOORS",): "row 2: TRAIN_DOORS must be a number, got 'two'",
    ("HEAD",): "--attribute HEAD: no such column",
}


@pytest.mark.parametrize(
    ("attributes", "message", "wide"),
    [
        *((names, message, False) for names, message in LONG_REFUSALS.items()),
        *((names, message, True) for names, message in WIDE_REFUSALS.items()),
    ],
)
def test_bad_attributes_are_refused_in_one_line(
    attributes: tuple[str, ...],
    message: str,
    wide: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Trips().wide(tmp_path / "trips.csv") if wide else Trips().long(tmp_path / "trips.csv")
    more = ["--column=price=CO", "--column=available=AV", "--column=chosen=CHOICE", "--alternatives=TRAIN,CAR,BUS"]
    out = tmp_path / "demand.json"
    arguments = ["fit-demand", str(path), "--buyers=20", f"--out={out}", *(more if wide else [])]
    monkeypatch.setattr(sys, "argv", ["palaestra", *arguments, *(f"--attribute={name}" for name in attributes)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    assert exit_.value.code == 2
    assert captured.err.startswith("palaestra: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not out.exists()


def test_names_that_mean_something_else_are_mapped(tmp_path: Path) -> None:
    trips = Trips()
    text = trips.long(tmp_path / "trips.csv").read_text()
    for name in ("stock", "time: min", "trend"):
        (tmp_path / "other.csv").write_text(text.replace("minutes", name, 1))
        options = reading(name)
        if name != "trend":
            with pytest.raises(SalesError, match=f"--column NAME={shlex.quote(name)} --attribute NAME"):
                fitted(tmp_path / "other.csv", options)
            options = reading("minutes", minutes=name)
        demand = load_demand(demand_data(fitted(tmp_path / "other.csv", options).demand))
        assert demand.products["CAR"].estimate.coefficients[1] == pytest.approx(-0.12, abs=0.03)


def test_attributes_are_of_choices(tmp_path: Path) -> None:
    (tmp_path / "tea.csv").write_text("date,product,price,units,heat\n1,tea,3,4,20\n2,tea,4,3,21\n")
    with pytest.raises(
        SalesError, match="--attribute heat: it is for choices; of sales per period all further columns"
    ):
        fit(tmp_path / "tea.csv", reading=reading("heat"))


def test_attributes_that_say_the_same_are_named(tmp_path: Path) -> None:
    path = Trips().wide(tmp_path / "wide.csv")
    options = reading("TT", wide=True)
    text = path.read_text().replace("TRAIN_SEATS,CAR_SEATS,BUS_SEATS", "TRAIN_CO2,CAR_CO2,BUS_CO2", 1)
    rows = [row.split(",") for row in text.splitlines()]
    for row in rows[1:]:
        row[6:9] = row[3:6]
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    fitted(path, options)
    with pytest.raises(SalesError, match="the data do not determine TT and CO2"):
        fitted(path, reading("TT", "CO2", wide=True))
