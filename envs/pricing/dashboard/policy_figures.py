"""The prices of an agent beside the optimal ones, over the season and for every stock, in the report of a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.core.reference import LineFigure, MapFigure, ReportFigure

MOST_PERIODS, MOST_LOTS = 120, 60  # columns and rows that are shown; of longer seasons and larger stocks every k-th
_SELDOM = 1e-3  # share of the seasons, below which a mean price says little


def season_figures(market: Any, table: Array) -> list[ReportFigure]:
    """Mean prices and units left over the season, exact, and :func:`price_maps`."""
    policies = {"agent": table, "best known": market.optimal_policy()}
    shares = {name: market.state_distribution(policy) for name, policy in policies.items()}
    menu, products = market.prices.reshape(market.num_actions, -1), market.units.shape[1]
    prices: dict[str, list[float | None]] = {}
    left: dict[str, list[float | None]] = {}
    for product in range(products):
        which = "" if products == 1 else f", product {product + 1}"
        for name, policy in policies.items():
            offered = shares[name][:-1] * (market.units[:, product] > 0)  # [T, states]
            sums, weight = (offered * menu[policy, product]).sum(1), offered.sum(1)
            prices[name + which] = [_digits(s / w) if w > _SELDOM else None for s, w in zip(sums, weight, strict=True)]
            left[name + which] = [_digits(units) for units in shares[name] @ market.units[:, product]]
    periods = [float(number) for number in range(1, market.stages + 1)]
    note = "Of the seasons that still have something to sell."
    return [
        LineFigure(
            "Prices over the season", market.time_unit, _money(market, "mean price"), periods, prices, note=note
        ),
        LineFigure("Units left", f"{market.time_unit}s gone", "mean units", [0.0, *periods], left, from_zero=True),
        *price_maps(market, table),
    ]


def _money(market: Any, what: str) -> str:
    return f"{what}, {market.currency}" if market.currency else what


def _digits(value: float) -> float:
    return float(f"{value:.5g}")


def price_maps(market: Any, table: Array) -> list[ReportFigure]:
    """A figure for each product, whose maps are the agent's and the best known one's.

    Args:
        market: an ``InventoryMarket``, whose module imports this one.
        table: the agent's actions, int64 [stages, states].
    """
    prices = market.prices.reshape(market.num_actions, -1)  # [A, P]
    share = market.state_distribution(table)[: market.stages]  # [T, states], of the agent's seasons
    best = market.optimal_policy()
    found: list[ReportFigure] = []
    lots = market.units.max(0) // market.lot  # [P]
    for product in range(prices.shape[1]):
        apart = np.abs(prices[table, product] - prices[best, product])
        weight = share * (market.units[:, product] > 0)  # where there is something to sell
        mean = float((weight * apart).sum() / weight.sum())
        grids = [_grid(market, prices[policy, product], lots, product) for policy in (table, best)]
        rows, columns = -(-grids[0].shape[0] // MOST_LOTS), -(-grids[0].shape[1] // MOST_PERIODS)
        shown = {
            name: grid[::rows, ::columns].tolist() for name, grid in zip(("agent", "best known"), grids, strict=True)
        }
        which = "" if len(lots) == 1 else f" of product {product + 1}"
        others = "" if len(lots) == 1 else " The maps are of all of the other product in stock."
        figure = MapFigure(
            f"Prices{which}",
            market.time_unit,
            "units left",
            _money(market, "price"),
            shown,
            (1.0, float(market.lot)),
            (float(columns), float(rows * market.lot)),
            f"In the states that the agent comes to, its prices are {market.currency}{mean:.3g} away from the best "
            f"known ones on average.{others}",
        )
        found.append(figure)
    return found


def _grid(market: Any, price: Array, lots: Array, product: int) -> Array:
    """A product's price by own stock (1, 2, … lots) and period; of the others all are there: float64 [lots, T].

    Where a shop's rules look back, on what they remember when the season begins.
    """
    memory = market.first_state % market.memories
    grid = price.reshape(len(price), -1, market.memories)[..., memory].reshape(len(price), *(lots + 1))
    for other in reversed(range(len(lots))):
        if other != product:
            grid = grid.take(int(lots[other]), 1 + other)
    result: Array = grid[:, 1:].T
    return result
