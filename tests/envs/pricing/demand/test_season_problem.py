"""What ``fit-demand`` says that dynamic pricing can win."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.demand import season_problem
from palaestra.envs.pricing.demand.counts import intervals
from palaestra.envs.pricing.demand.fit import FitOptions, Fitting, fit
from palaestra.envs.pricing.demand.fit_report import fit_demand, summary, summary_data
from palaestra.envs.pricing.demand.json_file import demand_data
from palaestra.envs.pricing.demand.season_problem import dynamic_gain, expected_after
from palaestra.envs.pricing.sales.sales_table import ReadOptions

NO_COST = "without unit_cost revenue is the goal: the lowest price seen may be best"


def fitted(path: Path, products: dict[str, tuple[float, float, float | None]], days: int = 150) -> Fitting:
    """Of products with the mean units scale · exp(−p / willing) and a unit cost."""
    rng = np.random.default_rng(0)
    costs = any(cost is not None for _, _, cost in products.values())
    with path.open("w") as file:
        print("date,product,price,units" + ",unit_cost" * costs, file=file)
        for day in range(days):
            for name, (scale, willing, cost) in products.items():
                price = rng.choice([3.0, 4.0, 5.0, 6.0, 8.0])
                units = rng.poisson(scale * np.exp(-price / willing))
                print(f"{day},{name},{price},{units}" + f",{cost}" * costs, file=file)
    return fit(path)


def test_the_gain_is_that_of_the_default_season(tmp_path: Path) -> None:
    fitting = fitted(tmp_path / "s.csv", {"tea": (8.0, 3.0, 1.0)})
    market = Pricing(demand=demand_data(fitting.demand))
    gain, (price, fixed) = dynamic_gain(fitting.demand, "tea"), market.best_fixed_price()
    assert (gain.periods, gain.stock) == (market.stages, market.stock)
    assert (gain.fixed_price, gain.fixed, gain.optimum) == (price, fixed, market.optimal_value())
    more = market.optimal_value() - fixed
    assert gain.percent == pytest.approx(100.0 * more / fixed)
    text = " ".join(summary(fitting).split())
    assert (
        f"tea: in a season of {market.stages} periods with {market.stock} units the best fixed price, {price:g},"
        in text
    )
    assert f"earns {fixed:.2f}, and dynamic pricing up to {more:.3f} ({gain.percent:.1f}%) more" in text
    assert "with stock enough nothing more" in text
    data = summary_data(fitting)["products"]["tea"]["default_season"]
    assert data == {
        **{"periods": market.stages, "stock": market.stock, "lot": 1, "fixed_price": price, "fixed": fixed},
        **{"optimum": market.optimal_value(), "gain": more, "gain_percent": gain.percent},
    }
    assert NO_COST not in fitting.notes
    ample = Pricing(demand=demand_data(fitting.demand), stock=400)
    assert ample.optimal_value() == pytest.approx(ample.best_fixed_price()[1], rel=1e-9)


def test_where_there_is_nothing_to_win_that_is_said(tmp_path: Path) -> None:
    """Buyers who hardly mind the price: the highest is best whatever happens."""
    fitting = fitted(tmp_path / "s.csv", {"tea": (9.0, 12.0, None)}, 400)
    assert dynamic_gain(fitting.demand, "tea").nothing
    text = " ".join(summary(fitting).split())
    assert "tea: dynamic pricing has nothing to win in a season of" in text
    assert "and the optimum 0.00% more" in text
    assert f"\nnote: {NO_COST}" in summary(fitting)


def test_of_many_products_it_is_said_of_the_best_selling(tmp_path: Path) -> None:
    products = {f"p{k}": (4.0 + k, 3.0, 1.0) for k in range(4)} | {"dear": (30.0, 3.0, 9.0)}
    fitting = fitted(tmp_path / "s.csv", products)
    text = summary(fitting)
    assert [line.partition(":")[0] for line in text.splitlines() if "in a season" in line] == ["p3", "p2"]
    assert "dear: no season to price: no price is above the unit cost, 9" in text
    assert "(of the 3 best-selling products; --product NAME tells it for another" in text
    said = {name: entry.get("default_season") for name, entry in summary_data(fitting)["products"].items()}
    assert said["dear"] == {"error": "no price is above the unit cost, 9"}
    assert [name for name, season in said.items() if season] == ["p2", "p3", "dear"]
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("futures", [1, 3])
@pytest.mark.parametrize(("levels", "most"), [(1, 0), (5, 0), (5, 2), (5, 4), (5, 9), (60, 1), (60, 59)])
def test_the_mean_after_sales_is_the_sum_over_all_that_may_be_wanted(
    levels: int, most: int, futures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sold as far as the stock goes; in three markets, of which two are computed together and one is left."""
    monkeypatch.setattr(season_problem, "_TOGETHER", 2 * levels**2)
    rng = np.random.default_rng(levels + most)
    wanted, value = rng.dirichlet(np.ones(most + 1), 3), rng.normal(size=(3, levels, futures))
    found = expected_after(value, wanted)
    for market in range(3):
        for lots in range(levels):
            mean = sum(p * value[market, max(lots - k, 0)] for k, p in enumerate(wanted[market]))
            np.testing.assert_allclose(found[market, lots], mean, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("width", [40, 80])
def test_what_is_said_fits_the_terminal_and_ends_with_a_command_in_one_piece(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(intervals, "DRAWS", 20)
    monkeypatch.chdir(tmp_path)
    fitted(Path("s.csv"), {"tea": (8.0, 3.0, 1.0), "milk": (20.0, 3.0, 1.0)})
    out = Path("a-name-that-takes-a-third-of-it.json")
    fit_demand(Path("s.csv"), out, FitOptions(), ReadOptions(), width=width)
    *lines, written, command = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    assert [line for line in lines if "s.e." in line and "coefficient" in line][1:]
    assert written == f"written: {out}; next:"
    assert command == f"  palaestra train pricing --set env.demand={out} --set env.product=NAME"
    out.unlink()
    fit_demand(Path("s.csv"), out, FitOptions(), ReadOptions())
    assert capsys.readouterr().out.splitlines()[-1] == f"{written} {command.strip()}"
