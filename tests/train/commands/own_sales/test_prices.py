"""``palaestra prices``: what it prints and writes, and what it refuses."""

from __future__ import annotations

import csv
import datetime
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing
from palaestra.train import cli

RUNS = Path(__file__).parents[3] / "data/runs-885ce09"
TINY = "optimal --env pricing --set env.periods=2 --set env.stock=2 --set env.arrival_rate=1 --set env.prices=[10,20]"
TINY += " --set env.willingness=20"


@pytest.fixture
def prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command in a folder of its own; its exit status, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["palaestra", "prices", *line.split()])
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def test_the_whole_list_of_a_tiny_market_by_hand(prices: Any, tmp_path: Path) -> None:
    """A customer a day who buys at 10 with probability e^−½ and at 20 with e^−1."""
    low, high = np.exp(-0.5), np.exp(-1.0)
    last = max(10 * low, 20 * high)  # 7.36 of a day, at 20, with a unit or more
    one = max(10 * low + (1 - low) * last, 20 * high + (1 - high) * last)
    status, out, _ = prices(f"{TINY} --out prices.csv")
    assert status == 0
    assert out.startswith(
        "written: prices.csv, 4 rows (2 periods x 2 stocks)\nexpected revenue from 2 units in 2 periods"
    )
    with (tmp_path / "prices.csv").open(encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["period", "stock", "price", "expected_revenue", "shadow_price", "price_depends_on"]
    assert [row[:3] for row in rows[1:]] == [["1", "1", "20"], ["1", "2", "20"], ["2", "1", "20"], ["2", "2", "20"]]
    expected = [one, 2 * last, last, last]
    shadow = [one, 2 * last - one, last, 0.0]
    found = np.array([row[3:-1] for row in rows[1:]], float)
    np.testing.assert_allclose(found, np.stack((expected, shadow), 1), atol=0.00501)


def test_a_run_beside_the_optimum_and_its_excel_sheet(prices: Any, tmp_path: Path) -> None:
    shutil.copytree(RUNS / "dqn-pricing", tmp_path / "run")
    for name in ("prices.csv", "prices.xlsx"):
        assert prices(f"run --out {name}")[0] == 0
    with (tmp_path / "prices.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    market = Pricing()
    assert len(rows) == market.stages * market.stock
    value, menu = market.solution.value, set(market.prices.tolist())
    asked = np.array([float(row["price"]) for row in rows]).reshape(market.stages, market.stock)
    earned = market.policy_values(np.pad(np.searchsorted(market.prices, asked), ((0, 0), (1, 0))))[:-1, 1:]
    expected = [float(row["expected_revenue"]) for row in rows]
    np.testing.assert_allclose(expected, earned.ravel(), atol=0.00501)
    assert expected[market.stock - 1] == 1190.44  # 1,441.59 at best: the agent was hardly trained
    for row in rows:
        t, n = int(row["period"]) - 1, int(row["stock"])
        assert float(row["price"]) in menu
        assert float(row["optimal_price"]) == market.prices[market.optimal_policy()[t, n]]
        assert float(row["optimal_revenue"]) == pytest.approx(value[t, n], abs=0.00501)
        smaller = value[t, n - 1] if n > 1 else 0.0
        assert float(row["shadow_price"]) == pytest.approx(value[t, n] - smaller, abs=0.00501)
    polars = pytest.importorskip("polars")
    sheet = polars.read_excel(tmp_path / "prices.xlsx")
    assert sheet.columns == list(rows[0])
    assert sheet["price_depends_on"].to_list() == [row.pop("price_depends_on") for row in rows]
    numbers = sheet.drop("price_depends_on").to_numpy()
    np.testing.assert_array_equal(numbers, np.array([list(row.values()) for row in rows], float))


def test_the_shadow_price_is_a_difference_of_optima(prices: Any) -> None:
    status, out, _ = prices("optimal --env pricing-easy --stock 7 --day 41")
    best = [Pricing(60, stock, 0.5, range(50, 201, 10), 50.0).optimal_value() for stock in (6, 7)]
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "period 41 of 100, 7 of 10 units left"
    found = {line[2:].rpartition("  ")[0].strip(): line.split()[-1] for line in lines[1:-2]}
    assert found == {
        "price now": found["price now"],
        "expected revenue from now on": f"{best[1]:.2f}",
        "shadow price of a unit": f"{best[1] - best[0]:.2f}",
    }
    assert lines[-2] == "The shadow price is what the optimum would earn less with 6 left."
    assert lines[-1] == "The price depends on period and units left, and on no personal data."


def test_the_list_for_the_shop_fits_80_columns(prices: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(RUNS / "dqn-pricing", tmp_path / "run")
    status, out, _ = prices("run")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "Price by period and units left"
    assert lines[1].split() == ["period", "1", "4", "7", "9", "12", "15"]
    assert [line.split()[0] for line in lines[2:14]][::11] == ["1", "100"]
    assert " less than the optimum (1,441.59)" in " ".join(lines[14:])
    monkeypatch.setenv("COLUMNS", "34")
    assert max(map(len, prices("run")[1].splitlines())) <= 34


def test_dates_and_the_margin_over_a_unit_cost(prices: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with (tmp_path / "sales.csv").open("w") as file:
        print("date,product,price,units,unit_cost", file=file)
        for day in range(120):
            price = rng.choice([3.0, 4.5, 6.0, 8.0])
            date = datetime.date(2024, 1, 1) + datetime.timedelta(day)
            print(f"{date},tea,{price},{rng.poisson(8 * np.exp(-price / 4))},2.5", file=file)
    from palaestra.envs.pricing.demand import fit_report
    from palaestra.envs.pricing.demand.fit import FitOptions
    from palaestra.envs.pricing.sales.sales_table import ReadOptions

    fit_report.fit_demand(tmp_path / "sales.csv", tmp_path / "demand.json", FitOptions(), ReadOptions())
    line = "optimal --env pricing --set env.demand=demand.json --set env.periods=5 --set env.stock=3"
    status, _, err = prices(f"{line} --set env.start=2025-01-06 --out prices.csv")
    assert (status, err) == (0, "")
    rows = [line.split(",") for line in (tmp_path / "prices.csv").read_text().splitlines()]
    assert rows[0] == ["period", "date", "stock", "price", "expected_margin", "shadow_price", "price_depends_on"]
    assert [row[1] for row in rows[1::3]] == [f"2025-01-{day:02}" for day in range(6, 11)]
    assert prices(f"{line} --stock 3 --day 2")[1].startswith("day 2 of 5, 2024-05-01, 3 of 3 units left\n")
    status, out, err = prices(f"{line} --set env.stock=4 --set env.lot=2 --stock 3 --day 2")
    assert (status, err) == (0, "")
    assert out.splitlines()[1] == "The list counts in lots of 2 units: this is the price for 4."
    assert out.splitlines()[-2] == "The shadow price is what the optimum would earn less with 2 left, per unit."
    assert "units left, in lots of 2" in prices(f"{line} --set env.stock=4 --set env.lot=2")[1]
    assert prices(f"{line} --set env.start=2025-01-06 --out prices.xlsx")[0] == 0
    status, _, err = prices(f"{line} --set env.start=9999-12-30")
    assert (status, err.partition("ValueError: ")[2]) == (
        2,
        "a season of 5 periods from 9999-12-30 ends after 9999-12-31\n",
    )
    sheet = pytest.importorskip("polars").read_excel(tmp_path / "prices.xlsx")
    assert sheet["date"].to_list()[3] == datetime.date(2025, 1, 7)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (TINY + " --day 1", "--day needs --stock: the price depends on both"),
        (TINY + " --stock 1", "--stock needs --day: the price depends on both"),
        (TINY + " --day 3 --stock 1", "--day 3: must be 1 to 2, the periods of the season"),
        (TINY + " --day 0 --stock 1", "--day 0: must be 1 to 2, the periods of the season"),
        (TINY + " --day 1 --stock 3", "--stock 3: must be 1 to 2, the units of the season"),
        (TINY + " --day 1 --stock -1", "--stock -1: must be 1 to 2, the units of the season"),
        (TINY + " --day 1.5 --stock 1", "--day 1.5: expected a whole number"),
        (TINY + " --day 1 --stock 1 --out a.csv", "--out writes the prices of all days and stocks: "),
        (TINY + " --out there.csv", "there.csv is there already: remove it, or choose another name"),
        (TINY + " --out no/where.csv", "no/where.csv: there is no folder no"),
        (TINY + " --out prices.txt", "prices.txt: the name of a table ends in .csv or .xlsx"),
        (TINY + " --out .", ".: the name of a table ends in .csv or .xlsx"),
        ("optimal", "optimal needs --env ENV, such as --env pricing"),
        ("expert --env pricing", "expert is no agent with prices: name a run, or optimal with --env ENV"),
        ("optimal --env snake", "snake is no market with prices and a stock, as pricing is"),
        ("optimal --env CartPole-v1", "CartPole-v1 is no market with prices and a stock, as pricing is"),
        (
            "optimal --env pricing-two",
            "pricing-two has two prices in a period, which is not supported",
        ),
        ("optimal --env pricing-duopoly", "pricing-duopoly has a rival's price and no stock, which is not supported"),
        ("optimal --env pricing --set env.frame_stack=2", "pricing within wrappers is not supported"),
        ("optimal --env pricing --set env.max_episode_steps=5", "a season that env.max_episode_steps cuts is not"),
        ("optimal --env pricing --set gamma=1", "--set gamma=1: only environment settings (env.KEY=VALUE) apply here"),
        (str(RUNS / "ppo-cartpole"), "cartpole is no market with prices and a stock, as pricing is"),
        (TINY + " --set env.start=2025-01-06", "palaestra/Pricing-v0 cannot be made: ValueError: start="),
        ("nowhere", "no run 'nowhere': "),
    ],
)
def test_what_is_refused_in_one_line(prices: Any, tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "there.csv").write_text("mine")
    status, out, err = prices(line)
    assert (status, out) == (2, "")
    assert err.startswith(f"palaestra: error: {message}")
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]
    assert (tmp_path / "there.csv").read_text() == "mine"


LOOKING_BACK = "optimal --env pricing --set env.periods=6 --set env.stock=3 --set env.max_change=40"


def test_under_rules_the_last_price_is_asked_for(prices: Any, tmp_path: Path) -> None:
    market = Pricing(6, 3, max_change=40)
    value = market.solution.value.reshape(7, 4, -1)
    status, out, _ = prices(f"{LOOKING_BACK} --stock 2 --day 3 --last-price 100")
    assert status == 0
    lines = out.splitlines()
    assert lines[1].split("  ")[-1].strip() == "60 to 140, 5 prices"
    assert lines[3].split()[-1] == f"{value[2, 2, 1 + 4]:.2f}"  # the fifth of the menu
    assert lines[-1] == "The price depends on period, units left and last price, and on no personal data."
    assert prices(f"{LOOKING_BACK} --stock 2 --day 1")[0] == 0
    status, out, _ = prices(f"{LOOKING_BACK} --out prices.csv")
    assert (status, out.splitlines()[0]) == (0, "written: prices.csv, 453 rows (6 periods x 3 stocks x last prices)")
    with (tmp_path / "prices.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["last_price"] for row in rows if row["period"] == "1"} == {""}
    assert {row["price_depends_on"] for row in rows} == {"period + stock + last_price"}
    status, out, _ = prices(LOOKING_BACK)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert out.splitlines()[2].split()[:3] == ["1", "-", "-"]


def test_a_price_that_must_stay_is_told(prices: Any) -> None:
    line = "optimal --env pricing --set env.periods=9 --set env.stock=3 --set env.hold=4"
    out = prices(f"{line} --stock 3 --day 3 --last-price 60")[1]
    assert out.splitlines()[1].endswith("60, which stays for 2 periods")
    assert " last price and how long it has stood" in out.splitlines()[-1]
    assert prices(f"{line} --out prices.csv")[1].endswith(
        "no rows for a new price until it has stayed for 4 periods.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--stock 2 --day 3", "--last-price is needed from period 2 on"),
        (
            "--stock 2 --day 3 --last-price 99",
            "--last-price 99: must be one of the menu, 20, 40, 60, 80, 100, 120, ...",
        ),
        ("--stock 2 --day 1 --last-price 100", "--last-price: period 1 has none"),
        ("--stock 2 --day 3 --last-price x", "x: expected a number"),
        ("--last-price 100", "--last-price needs --stock and --day"),
        ("--stock 4 --day 2 --last-price 100", "--stock 4: must be 1 to 3, the units of the season"),
        ("--set env.replenish={3:1} --stock 1 --day 2", "as in {7: 20} (a space)"),
    ],
)
def test_moments_that_rules_do_not_know(prices: Any, arguments: str, message: str) -> None:
    status, out, err = prices(f"{LOOKING_BACK} {arguments}")
    assert (status, out) == (2, "")
    assert message in " ".join(err.split())


def test_without_such_a_rule_there_is_no_last_price(prices: Any) -> None:
    assert "no rule of this season looks at the last price" in prices(f"{TINY} --stock 1 --day 1 --last-price 10")[2]
