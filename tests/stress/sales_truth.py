"""What ``palaestra fit-demand`` makes of sales as they really are, where the truth is known.

    python tests/stress/sales_truth.py [--repeats 20] [--rows clean,missing]

Each row of the table is a way in which the sales of a shop depart from the model: 364 days from Monday 2024-01-01,
and 8 exp(−p / 4) units a day on average, or what the row says. The policy is the exact optimum of the fitted market
over the 30 days that follow, with 30 units (scarce) and with 300 (ample); it is valued exactly in the true market.
Printed are the bias of the slope (d log demand / d price at the mean price) and how often 95 % intervals hold the
truth: the slope's own, of the chosen model, and those of ``fit-demand`` by bootstrap, of the elasticity at the mean
price and of the best fixed price. Then come the revenue that the policy loses against the true optimum, and how much
more the fitted market promises than the policy earns. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from palaestra.envs.pricing import Pricing, Season
from palaestra.envs.pricing.demand.count_distributions import poisson
from palaestra.envs.pricing.demand.counts.intervals import bootstrap_intervals
from palaestra.envs.pricing.demand.fit import fit
from palaestra.envs.pricing.demand.json_file import demand_data
from palaestra.envs.pricing.demand.model import Product
from palaestra.envs.pricing.sales.sales_table import SalesError

DAYS, SEASON = 364, 30
FIRST = date(2024, 1, 1)
MENU = (3.0, 4.0, 5.0, 6.0, 8.0, 10.0)
STOCKS = {"scarce": 30, "ample": 300}
WEEKDAY = (np.arange(DAYS + SEASON)) % 7

Table = list[tuple[Any, ...]]
Mean = Callable[[np.ndarray, int], np.ndarray]  # prices [A], day counted from the first → mean units [A]


class Case(NamedTuple):
    """A way in which sales depart from the model."""

    header: str
    rows: Callable[[np.random.Generator], Table]
    mean: Mean
    plan: dict[str, float] | None = None  # what the season has where the sales had a column


def usual(price: np.ndarray, day: int = 0) -> np.ndarray:
    return 8.0 * np.exp(-price / 4.0)


def dates() -> list[str]:
    return [str(FIRST + timedelta(day)) for day in range(DAYS)]


def table(*columns: Iterable[Any]) -> Table:
    return list(zip(dates(), ["tea"] * DAYS, *columns, strict=True))


def clean(rng: np.random.Generator) -> Table:
    price = rng.choice(MENU, DAYS)
    return table(price, rng.poisson(usual(price)))


def missing(rng: np.random.Generator) -> Table:
    return [row for row in clean(rng) if row[3] > 0]


def weekly(rng: np.random.Generator) -> Table:
    """Prices that stay for a week, and days without sales that are missing."""
    price = np.repeat(rng.choice(MENU, DAYS // 7), 7)
    return [row for row in table(price, rng.poisson(usual(price))) if row[3] > 0]


def closed(rng: np.random.Generator) -> Table:
    """Closed on Sundays, which are missing; days without sales are there."""
    return [row for day, row in enumerate(clean(rng)) if day % 7 != 6]


def receipts(rng: np.random.Generator) -> Table:
    return [
        (f"{day} {rng.integers(8, 20):02d}:{rng.integers(60):02d}:{rng.integers(60):02d}", tea, price, 1)
        for day, tea, price, units in clean(rng)
        for _ in range(units)
    ]


def sold_out(rng: np.random.Generator) -> Table:
    price = rng.choice(MENU, DAYS)
    return table(price, np.minimum(rng.poisson(usual(price)), 2), [2] * DAYS)


def weekend(day: Any) -> Any:
    return np.where(WEEKDAY[day] >= 5, 2.5, 1.0)


def weekends(rng: np.random.Generator) -> Table:
    price = rng.choice(MENU[:4], DAYS) + 3.0 * (WEEKDAY[:DAYS] >= 5)
    return table(price, rng.poisson(usual(price) * weekend(np.arange(DAYS))))


def growing(rng: np.random.Generator) -> Table:
    day = np.arange(DAYS)
    price = np.round(3.5 + 3.0 * day / DAYS + rng.normal(0.0, 0.8, DAYS), 1).clip(1.0)
    return table(price, rng.poisson(usual(price) * 2.0 ** (day / DAYS)))


def leaflet(rng: np.random.Generator) -> Table:
    price = rng.choice(MENU, DAYS)
    promotion = rng.random(DAYS) < np.where(price <= 4.0, 0.8, 0.1)
    return table(price, rng.poisson(usual(price) * 2.0**promotion), promotion.astype(int))


def shocks(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Units, prices and unit costs where the seller knows the shocks to demand, which last for days."""
    shock, cost = np.empty(DAYS), rng.choice([1.0, 2.5, 4.0, 5.5], DAYS)
    shock[0] = rng.normal(0.0, 0.5)
    for day in range(1, DAYS):
        shock[day] = 0.8 * shock[day - 1] + rng.normal(0.0, 0.3)
    price = np.round(2.0 + cost + 2.0 * shock + rng.normal(0.0, 0.3, DAYS), 1).clip(0.5)
    units = rng.poisson(usual(price) * np.exp(shock - 0.125))
    return units, price, cost


def endogenous(rng: np.random.Generator) -> Table:
    units, price, _ = shocks(rng)
    return table(price, units)


def instrumented(rng: np.random.Generator) -> Table:
    units, price, cost = shocks(rng)
    return table(price, units, cost)


def stores(rng: np.random.Generator) -> Table:
    """A large store that is cheap and a small one that is dear."""
    cheap, dear = rng.choice(MENU[:5], DAYS), rng.choice(MENU[1:], DAYS) + 1.0
    large, small = rng.poisson(0.75 * usual(cheap)), rng.poisson(0.25 * usual(dear))
    return [
        row
        for day in zip(table(cheap, large, ["north"] * DAYS), table(dear, small, ["south"] * DAYS), strict=True)
        for row in day
    ]


def straight(price: np.ndarray, day: int = 0) -> np.ndarray:
    return np.maximum(6.0 - 0.55 * price, 0.0)


def linear(rng: np.random.Generator) -> Table:
    price = rng.choice(MENU, DAYS)
    return table(price, rng.poisson(straight(price)))


SALES = "date,product,price,units"
CASES = {
    "clean": Case(SALES, clean, usual),
    "missing": Case(SALES, missing, usual),
    "missing weekly prices": Case(SALES, weekly, usual),
    "closed on Sundays": Case(SALES, closed, usual),
    "receipts": Case(SALES, receipts, usual),
    "sold out": Case(f"{SALES},stock", sold_out, usual),
    "weekends": Case(SALES, weekends, lambda price, day: usual(price) * weekend(day)),
    "growing": Case(SALES, growing, lambda price, day: usual(price) * 2.0 ** (day / DAYS)),
    "leaflet": Case(f"{SALES},promotion", leaflet, usual, plan={"promotion": 0.0}),
    "endogenous": Case(SALES, endogenous, usual),
    "instrument": Case(f"{SALES},unit_cost", instrumented, usual),
    "stores": Case(f"{SALES},store", stores, usual),
    "linear": Case(SALES, linear, straight),
}


def true_slope(case: Case, price: float) -> float:
    step = 1e-5
    low, high = np.log(case.mean(np.array([price - step, price + step]), 0))
    return float((high - low) / (2.0 * step))


def true_price(case: Case, product: Product) -> float:
    """The best fixed price within the observed ones."""
    grid = np.linspace(*product.price_range, 2001)
    return float(grid[((grid - product.unit_cost) * case.mean(grid, 0)).argmax()])


def run(case: Case, seed: int, folder: Path) -> dict[str, Any]:
    """One repeat: the figures of the table, or ``refused``."""
    path = folder / "sales.csv"
    rows = case.rows(np.random.default_rng(seed))
    path.write_text("\n".join([case.header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    try:
        fitting = fit(path)
    except SalesError as error:
        return {"refused": str(error), "warned": "follow demand" in str(error)}
    demand = fitting.demand
    name = next(iter(demand.products))
    product = demand.products[name]
    result: dict[str, Any] = {
        "warned": any("follow demand" in note for note in fitting.notes),
        "effects": sorted({effect.partition(":")[0] for effect in product.estimate.names}),
        "curve": product.curve,
    }
    slope, error = product.slope()
    price, truth = product.means["price"], true_slope(case, product.means["price"])
    result |= {"bias": slope / truth - 1.0, "held": abs(slope - truth) < 1.96 * error}
    assert fitting.refit is not None
    intervals = bootstrap_intervals(demand, name, fitting.models[name], fitting.refit)
    result["elasticity held"] = intervals.elasticity[0] < truth * price < intervals.elasticity[1]
    assert intervals.best_price is not None
    result["best price held"] = intervals.best_price[0] <= true_price(case, product) <= intervals.best_price[1]
    for what, stock in STOCKS.items():
        market = Pricing(SEASON, stock, demand=demand_data(demand), plan=case.plan)
        means = np.stack([case.mean(market.prices, DAYS + day) for day in range(SEASON)])
        truth = Season(market.prices, poisson(means, stock), stock, market.unit_cost)
        lots = -(-np.arange(stock + 1) // market.lot)  # a lot that is begun counts as one
        earned = truth.policy_value(market.optimal_policy()[:, lots])
        result[f"lost, {what}"] = 1.0 - earned / truth.optimal_value()
        result[f"promised, {what}"] = market.optimal_value() / earned - 1.0
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rows", default=",".join(CASES))
    parser.add_argument("--models", action="store_true", help="print which models were chosen")
    arguments = parser.parse_args()
    held = ("held", "elasticity held", "best price held")
    columns = ("bias", *held, "lost, scarce", "lost, ample", "promised, scarce", "promised, ample", "warned")
    print(f"{'':24}" + "".join(f"{column:>18}" for column in columns) + "  refused")
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.rows.split(","):
            results = [run(CASES[name], seed, Path(folder)) for seed in range(arguments.repeats)]
            done = [result for result in results if "refused" not in result]
            means = [np.mean([r[c] for r in done]) if done and c in done[0] else np.nan for c in columns[:-1]]
            means.append(np.mean([result["warned"] for result in results]))
            cells = "".join(f"{100.0 * mean:>17.1f}%" for mean in means)
            print(f"{name:24}{cells}  {len(results) - len(done)} of {len(results)}", flush=True)
            if arguments.models:
                for model, times in Counter(f"{r['curve']}: {' '.join(r['effects'])}" for r in done).most_common():
                    print(f"    {times} × {model}")


if __name__ == "__main__":
    main()
