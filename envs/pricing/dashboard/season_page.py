"""The seller's dashboard: how a season goes, and how the optimal policy would have gone about it.

1. On top, legible in a tile of a mosaic: what was earned, its share of the optimum V*, stock, price, time.
2. On the left, over time: the price posted, over a wide amber band where the optimal policy would have posted in the
   states that were visited; sales as dots on the path, larger for more units; stock and revenue with their exact means
   under the optimal policy, dashed. Two products have a colour each.
3. On the right the price for every period and stock, of the watched policy where its table is known and of the optimal
   one, with the way the season has taken and a ring where it is. Of two products each has its maps, at the stock that
   the other has now.
4. At the end a banner and a frame tell how it went: green for V* or more (V* is a mean: chance takes some or adds
   some), amber from three quarters of it, else red.

The duopoly's dashboard is in :mod:`palaestra.envs.pricing.dashboard.duopoly_page`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.dashboard.chart import (
    BACKGROUND,
    BRIGHT,
    MUTED,
    PANEL,
    SMALL,
    Chart,
    HeatMap,
    PriceScale,
    decimals_of,
    draw_readout,
    draw_verdict,
    number,
    whole_ticks,
)

if TYPE_CHECKING:
    from palaestra.envs.pricing.market import Market
    from palaestra.envs.pricing.season import Season
    from palaestra.envs.pricing.two_products import TwoProducts
    from palaestra.envs.rendering.canvas import Canvas, Colour, Table

OPTIMAL, SALE = "#ffb02e", "#8df5a8"
OWN = ("#5cb8ff", "#ff85b8")  # of each product
GOOD, FAIR, POOR = "#3ddc84", "#ffb02e", "#ff5a5f"
BAND = "#a8752a"
PLOT_LEFT, PLOT_WIDTH = 78.0, 470.0
MAPS_LEFT, MAPS_WIDTH, MAPS_TOP, MAPS_BOTTOM = 624.0, 250.0, 152.0, 500.0


@dataclass(frozen=True)
class Layout:
    """Where things are: price, stock and revenue, and for each product its maps, the watched policy's first."""

    price: Chart
    stock: Chart
    revenue: Chart
    maps: tuple[tuple[HeatMap, ...], ...]


def layout(market: Season | TwoProducts, policies: int, posted: Array, revenue: float) -> Layout:
    """The dashboard of a season.

    Args:
        market: the rules.
        policies: how many policies have maps, 1 or 2.
        posted: all prices that it has to show beside what the optimal policy is likely to post; NaN are left out.
        revenue: the largest that it has to show beside V*.
    """
    x, stock = (0.0, float(market.stages)), np.atleast_1d(market.stock).tolist()
    known = np.append(posted[~np.isnan(posted)], market.expected.prices)
    middle = MAPS_TOP + 106.0  # of two rows of maps the lower edge of the first
    rows = [(MAPS_TOP, MAPS_BOTTOM)] if len(stock) == 1 else [(MAPS_TOP, middle), (middle + 40.0, MAPS_BOTTOM)]
    return Layout(
        plot(126, 144, x, around(known)),
        plot(302, 82, x, (0.0, 1.05 * max(stock))),
        plot(416, 84, x, (0.0, max(1.3 * market.optimal_value(), 1.05 * revenue) or 1.0)),
        tuple(
            map_row(top, bottom - top, (market.stages, units), policies)
            for units, (top, bottom) in zip(stock, rows, strict=True)
        ),
    )


def plot(top: float, height: float, x: tuple[float, float], y: tuple[float, float]) -> Chart:
    return Chart(PLOT_LEFT, top, PLOT_WIDTH, height, x, y)


def around(prices: Array) -> tuple[float, float]:
    """The range of the prices, with some air."""
    low, high = float(prices.min()), float(prices.max())
    air = max(0.08 * (high - low), 0.01 * high)
    return low - air, high + air


def map_row(top: float, height: float, cells: tuple[int, int], policies: int) -> tuple[HeatMap, ...]:
    """Heat maps side by side."""
    width = (MAPS_WIDTH - 14.0 * (policies - 1)) / policies
    return tuple(HeatMap(MAPS_LEFT + i * (width + 14.0), top, width, height, *cells) for i in range(policies))


@dataclass(frozen=True)
class _Way:
    """What has happened: n states of P products."""

    period: Array  # int64 [n] periods gone
    stock: Array  # int64 [n, P]
    posted: Array  # float64 [n, P] price of the last period, NaN before the first
    best: Array  # float64 [n, P] what the optimal policy would post now; prices are NaN where nothing was in stock
    sold: Array  # int64 [n, P] in the last period
    revenue: Array  # float64 [n] so far


def _way(market: Season | TwoProducts, states: list[Any]) -> _Way:
    n, menu = len(states), market.prices.reshape(len(market.prices), -1)
    period, action = np.array([(s.period, s.price) for s in states], np.int64).T
    stock = np.array([s.stock for s in states], np.int64).reshape(n, -1)
    state = np.ravel_multi_index(stock.T, np.atleast_1d(market.stock) + 1)
    best = menu[market.optimal_policy()[np.minimum(period, market.stages - 1), state]]
    sold = np.array([s.sold for s in states], np.int64).reshape(n, -1)
    posted = np.where((action[:, None] < 0) | (stock + sold == 0), np.nan, menu[action])
    best = np.where((period[:, None] == market.stages) | (stock == 0), np.nan, best)
    return _Way(period, stock, posted, best, sold, np.array([s.revenue for s in states], np.float64))


def draw_season(market: Season | TwoProducts, state: Any, canvas: Canvas) -> None:
    """One or two products over a season."""
    way = _way(market, [*canvas.past, state])
    tables = [market.optimal_policy()] if canvas.policy is None else [canvas.policy, market.optimal_policy()]
    places = layout(market, len(tables), np.concatenate((way.posted, way.best)), float(way.revenue[-1]))
    draw_panels(canvas)
    _draw_prices(canvas, market, places.price, way)
    _draw_paths(canvas, market, places, way)
    _draw_maps(canvas, market, places, tables, way)
    _draw_header(canvas, market, way)


def draw_panels(canvas: Canvas) -> None:
    canvas.fill(BACKGROUND)
    canvas.rectangle(12, 96, 552, 434, PANEL, radius=12)
    canvas.rectangle(574, 96, 374, 434, PANEL, radius=12)


def _draw_prices(canvas: Canvas, market: Season | TwoProducts, chart: Chart, way: _Way) -> None:
    chart.draw_axes(canvas, "price", 4, market.currency)
    products = way.stock.shape[1]
    own = [("posted", OWN[0], "line")] if products == 1 else [(f"product {i + 1}", OWN[i], "line") for i in (0, 1)]
    chart.draw_legend(canvas, [*own, ("optimal here", BAND, "band"), ("sale", SALE, "dot")])
    for i in range(products):
        chart.draw_steps(canvas, way.period, way.best[:, i], BAND, 7.0)
    for i in range(products):
        chart.draw_steps(canvas, way.period - 1, way.posted[:, i], OWN[i], 2.6)
        most = max(1, way.sold.max())
        for t, price, sold in zip(way.period.tolist(), way.posted[:, i].tolist(), way.sold[:, i].tolist(), strict=True):
            if sold:
                x, y = chart.place(t - 0.5, price)
                canvas.circle(x, y, 1.4 + 4.0 * (sold / most) ** 0.5, BACKGROUND)
                canvas.circle(x, y, 4.0 * (sold / most) ** 0.5, SALE)


def _draw_paths(canvas: Canvas, market: Season | TwoProducts, places: Layout, way: _Way) -> None:
    """Stock and revenue beside their means under the optimal policy."""
    time, expected = np.arange(market.stages + 1), market.expected
    places.stock.draw_axes(canvas, "units in stock", 3)
    for i in range(way.stock.shape[1]):
        places.stock.draw_dashed(canvas, time, expected.stock[:, i], OPTIMAL)
        places.stock.draw_curve(canvas, *_stairs(way.period, way.stock[:, i]), OWN[i], 3.0)
    places.revenue.draw_axes(canvas, _earnings(market), 3, market.currency, market.time_unit)
    places.revenue.draw_legend(canvas, [("so far", OWN[0], "line"), ("optimum's mean", OPTIMAL, "dashes")])
    places.revenue.draw_dashed(canvas, time, expected.revenue, OPTIMAL)
    places.revenue.draw_curve(canvas, *_stairs(way.period, way.revenue), OWN[0], 3.0)


def _earnings(market: Season | TwoProducts) -> str:
    return "profit" if getattr(market, "unit_cost", 0.0) else "revenue"


def _stairs(x: Array, y: Array) -> tuple[Array, Array]:
    """A curve that keeps each value until the next."""
    return x.repeat(2)[1:], y.repeat(2)[:-1]


def _draw_maps(canvas: Canvas, market: Season | TwoProducts, places: Layout, tables: list[Table], way: _Way) -> None:
    scale, products = price_scale(market, tables), way.stock.shape[1]
    for i, maps in enumerate(places.maps):
        name = "price" if products == 1 else f"price of product {i + 1}"
        top, last = maps[0].top, i == products - 1
        title = f"{name} by {market.time_unit} and units in stock" if i == 0 else name
        canvas.text(title, 586, top - (40 if i == 0 else 16), SMALL, BRIGHT)
        maps[0].draw_rows(canvas, {tick - 1: number(tick, 0) for tick in whole_ticks(1, maps[0].rows, 4)})
        for table, heat, caption in zip(tables, maps, captions(market, tables), strict=True):
            if i == 0:
                canvas.text(caption, heat.left, top - 13, SMALL, MUTED)
            heat.draw(canvas, price_map(market, table, i, way.stock[-1]), scale)
            if last:
                heat.draw_columns(canvas, {tick: number(tick, 0) for tick in whole_ticks(0, market.stages - 1, 4)})
            heat.draw_way(canvas, way.period, way.stock[:, i] - 1)
            if way.period[-1] < market.stages and way.stock[-1, i] > 0:
                heat.draw_ring(canvas, way.period[-1], way.stock[-1, i] - 1)
    scale.draw(canvas, MAPS_LEFT + MAPS_WIDTH + 10, MAPS_TOP, MAPS_BOTTOM - MAPS_TOP, market.currency)


def price_scale(market: Season | TwoProducts, tables: list[Table]) -> PriceScale:
    """The colours of all prices in the tables of products that are in stock."""
    menu, units = market.prices.reshape(len(market.prices), -1), np.asarray(market.units)
    posted = np.concatenate([menu[table][:, units > 0].ravel() for table in tables])
    return PriceScale(float(posted.min()), float(posted.max()))


def price_map(market: Season | TwoProducts, table: Table, product: int, stock: Array) -> Array:
    """A product's price by own stock (1, 2, …) and period, the others at a given stock: float64 [units, T]."""
    menu = market.prices.reshape(len(market.prices), -1)[:, product]
    grid = menu[table].reshape(len(table), *(np.atleast_1d(market.stock) + 1))  # [T, units + 1 of each product]
    for other in reversed(range(len(stock))):
        if other != product:
            grid = grid.take(stock[other], 1 + other)
    result: Array = grid[:, 1:].T
    return result


def captions(market: Market[Any], tables: list[Table]) -> list[str]:
    """What is above the maps: whose they are, and their exact values relative to V*."""
    if len(tables) == 1:
        return ["optimum"]
    return [f"policy {percent_of_optimum(market, tables[0]):.1f} %", "optimum 100 %"]


def percent_of_optimum(market: Market[Any], table: Table) -> float:
    """The exact value of a policy relative to V*; remembered, for a film asks for every frame."""
    return _percent(market, table.tobytes())


@lru_cache(maxsize=4)
def _percent(market: Market[Any], table: bytes) -> float:
    policy = np.frombuffer(table, np.int64).reshape(market.stages, market.num_states)
    return percent(market.policy_value(policy), market.optimal_value())


def percent(earned: float, best: float) -> float:
    """Earnings relative to the best; where nothing can be earned, everybody earns all."""
    return 100.0 * earned / best if best > 0.0 else 100.0


def _draw_header(canvas: Canvas, market: Season | TwoProducts, way: _Way) -> None:
    best, earned = market.optimal_value(), float(way.revenue[-1])
    share, left = percent(earned, best), market.stages - int(way.period[-1])
    colour = mood(share)
    cents = 0 if best >= 100.0 else 2
    over = canvas.over or left == 0 or way.stock[-1].sum() == 0
    draw_readout(canvas, 24, number(earned, cents, market.currency), _earnings(market), colour if over else BRIGHT)
    of = f"of V* {number(best, cents, market.currency)}"
    draw_readout(canvas, 204, f"{share:.0f} %", of, colour if over else BRIGHT)
    if over:
        _draw_ending(canvas, market, way, colour)
        return
    draw_readout(canvas, 400, " · ".join(map(str, way.stock[-1].tolist())), "units left")
    digits = min(3, decimals_of(market.prices.ravel().tolist()))
    posted = ["–" if np.isnan(p) else number(p, digits, market.currency) for p in way.posted[-1].tolist()]
    draw_readout(canvas, 570, " · ".join(posted), "price")
    draw_readout(canvas, 800, str(left), f"{market.time_unit}s left")


def mood(share: float) -> Colour:
    """A colour for an episode's result as % of V*."""
    return GOOD if round(share) >= 100 else FAIR if round(share) >= 75 else POOR


def _draw_ending(canvas: Canvas, market: Season | TwoProducts, way: _Way, colour: Colour) -> None:
    unsold = int(way.stock[-1].sum())
    words = "sold out" if unsold == 0 else f"{unsold} unit{'s' * (unsold > 1)} left"
    draw_verdict(canvas, words, f"after {way.period[-1]} of {market.stages} {market.time_unit}s", colour)
