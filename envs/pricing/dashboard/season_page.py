"""The seller's dashboard: how a season goes, and how the optimal policy would have gone about it.

1. On top, legible in a tile of a mosaic: what was earned, its share of the optimum V*, stock, price, time.
2. On the left, over time: the price posted, over a wide amber band where the optimal policy would have posted in the
   states that were visited; sales as dots on the path, larger for more units; stock and revenue with their exact means
   under the optimal policy, dashed. Two products have a colour each.
3. On the right the price for every period and stock, of the watched policy where its table is known and of the optimal
   one, with the way the season has taken and a ring where it is. Of two products each has its maps, at the stock that
   the other has now.
4. Under the rules of a shop, prices that they forbid are shaded, deliveries are marks below the stock, and the maps
   show the prices that follow the last one.
5. At the end a banner and a frame tell how it went: green for V* or more (V* is a mean: chance takes some or adds
   some), amber from three quarters of it, else red.

The duopoly's dashboard is in :mod:`palaestra.envs.pricing.dashboard.duopoly_page`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.dashboard.chart import (
    BACKGROUND,
    BRIGHT,
    MUTED,
    SMALL,
    Chart,
    HeatMap,
    PriceScale,
    decimals_of,
    draw_readout,
    draw_verdict,
    format_amount,
    whole_ticks,
)
from palaestra.envs.pricing.dashboard.panels import (
    BAND,
    MAPS_BOTTOM,
    MAPS_TOP,
    OPTIMAL,
    OWN,
    MarketView,
    around,
    draw_panels,
    draw_scale,
    draw_secret,
    map_row,
    plot,
    result_colour,
)
from palaestra.envs.pricing.metrics import percent_of

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas, Table

SALE = "#8df5a8"
FORBIDDEN = "#05090e"
_CLEAR = 4.0  # canvas units about the allowed prices


class SeasonView(MarketView):
    """Everything that the dashboard shows: P products, A actions, n visited states."""

    def _read(self, states: Sequence[Any]) -> None:
        market = self.market  # an ``InventoryMarket``, whose module imports this one
        self.stages = int(market.stages)
        self.currency, self.time_unit = market.currency, market.time_unit
        self.optimum, self.earnings = market.optimal_value(), market.earnings.replace("margin", "profit")
        self.costs: Array = market.unit_cost if np.ptp(market.unit_cost) > 0.0 else np.zeros(0)  # [T] where they change
        self.prices: Array = market.prices.reshape(market.num_actions, -1)  # float64 [A, P]
        self.capacity: Array = market.units.max(0)  # int64 [P] most units
        self.lot = market.lot  # units that are counted as one
        self.lots: Array = self.capacity // self.lot  # int64 [P]
        self.deliveries = dict(market.deliveries)
        self.products = len(self.capacity)
        action = np.array([state.price for state in states], np.int64)
        self.stock, self.sold = (  # int64 [n, P], sold in the last period
            np.array([getattr(state, name) for state in states], np.int64).reshape(len(states), -1)
            for name in ("stock", "sold")
        )
        index = np.ravel_multi_index(self.stock.T // self.lot, self.lots + 1) * market.memories
        index = index + [market.memory_in(state) for state in states]
        self.allowed = None if market.allowed is None else market.allowed[index]  # bool [n, A], now
        self.memory = market.memory_in(states[-1], free=True)
        last = f"{self.currency}{self.prices[action[-1], 0]:.4g}"
        self.after = f", after {last}" if self.memory else ""  # what the maps suppose
        best = self.prices[self.policies[-1][np.minimum(self.period, self.stages - 1), index]]
        # float64 [n, P], the price of the last period and the optimal one now; NaN where nothing was in stock
        arrived = np.array([[self.deliveries.get(gone + 1, 0)] for gone in self.period.tolist()])  # after the period
        there = self.stock - arrived + self.sold > 0
        self.posted = np.where((action[:, None] < 0) | ~there, np.nan, self.prices[action])
        self.optimal = np.where((self.period[:, None] == self.stages) | (self.stock == 0), np.nan, best)
        self.revenue = np.array([state.revenue for state in states], np.float64)  # [n] so far
        self.over = self.over or bool(self.period[-1] == self.stages) or self._sold_out()

    def _sold_out(self) -> bool:
        """Whether nothing is left and nothing will come."""
        return not self.stock[-1].any() and all(period <= self.period[-1] + 1 for period in self.deliveries)


@dataclass(frozen=True)
class SeasonLayout:
    """Places of price, stock and revenue, and for each product of its maps, the watched policy's first."""

    price: Chart
    stock: Chart
    revenue: Chart
    maps: tuple[tuple[HeatMap, ...], ...]


def season_layout(view: SeasonView) -> SeasonLayout:
    """The axes hold all that was posted and earned, and what the optimal policy is likely to post and earn."""
    x = (0.0, float(view.stages))
    prices = np.concatenate((view.posted, view.optimal))
    known = np.append(prices[~np.isnan(prices)], view.market.expected.prices) if view.reveals else view.prices
    known = np.append(known, view.costs)
    middle = MAPS_TOP + 106.0  # lower edge of the first of two rows of maps
    rows = [(MAPS_TOP, MAPS_BOTTOM)] if view.products == 1 else [(MAPS_TOP, middle), (middle + 40.0, MAPS_BOTTOM)]
    return SeasonLayout(
        plot(126, 144, x, around(known)),
        plot(302, 82, x, (0.0, 1.05 * int(view.capacity.max()))),
        plot(416, 84, x, (0.0, max(1.3 * view.optimum, 1.05 * float(view.revenue[-1])) or 1.0)),
        tuple(
            map_row(top, bottom - top, (view.stages, units), len(view.policies))
            for units, (top, bottom) in zip(view.lots.tolist(), rows, strict=True)
        ),
    )


def draw_season(canvas: Canvas, view: SeasonView) -> None:
    """One or two products over a season."""
    layout = season_layout(view)
    draw_panels(canvas)
    _draw_prices(canvas, view, layout.price)
    _draw_paths(canvas, view, layout)
    if view.reveals:
        _draw_maps(canvas, view, layout)
    else:
        draw_secret(canvas)
    _draw_header(canvas, view)


def _draw_prices(canvas: Canvas, view: SeasonView, chart: Chart) -> None:
    chart.draw_axes(canvas, "price", 4, view.currency)
    own = [("posted", OWN[0], "line")] if view.products == 1 else [(f"product {i + 1}", OWN[i], "line") for i in (0, 1)]
    optimal = [("optimal here", BAND, "band")] if view.reveals else []
    costs = [("unit cost", MUTED, "line")] if len(view.costs) else []
    forbidden = [] if view.allowed is None else [("forbidden", FORBIDDEN, "band")]
    chart.draw_legend(canvas, [*own, *optimal, ("sale", SALE, "dot"), *costs, *forbidden])
    _shade_forbidden(canvas, view, chart)
    chart.draw_steps(canvas, np.arange(len(view.costs)), view.costs, MUTED, 1.6)
    for i in range(view.products if view.reveals else 0):
        chart.draw_steps(canvas, view.period, view.optimal[:, i], BAND, 7.0)
    for i in range(view.products):
        chart.draw_steps(canvas, view.period - 1, view.posted[:, i], OWN[i], 2.6)
        most = max(1, view.sold.max())
        for t, price, sold in zip(
            view.period.tolist(), view.posted[:, i].tolist(), view.sold[:, i].tolist(), strict=True
        ):
            if sold:
                x, y = chart.place(t - 0.5, price)
                canvas.circle(x, y, 1.4 + 4.0 * (sold / most) ** 0.5, BACKGROUND)
                canvas.circle(x, y, 4.0 * (sold / most) ** 0.5, SALE)


def _shade_forbidden(canvas: Canvas, view: SeasonView, chart: Chart) -> None:
    """What lies above the highest and below the lowest price that was allowed in each period."""
    if view.allowed is None:
        return
    prices, going = view.prices[:, 0], len(view.period) - view.over
    for period, allowed in zip(view.period[:going].tolist(), view.allowed[:going], strict=True):
        x, high = chart.place(period, float(prices[allowed].max()))
        right, low = chart.place(period + 1, float(prices[allowed].min()))
        canvas.rectangle(x, chart.top, right - x, max(0.0, high - _CLEAR - chart.top), FORBIDDEN)
        bottom = chart.top + chart.height
        canvas.rectangle(x, low + _CLEAR, right - x, max(0.0, bottom - low - _CLEAR), FORBIDDEN)


def _draw_deliveries(canvas: Canvas, view: SeasonView, chart: Chart) -> None:
    """A mark where units arrive, with their number."""
    for period, units in view.deliveries.items():
        x, y = chart.place(period - 1, chart.y[1])
        canvas.line([(x, y), (x, chart.top + chart.height)], SALE, 1.2)
        canvas.text(f"+{units}", x + 4, y + 9, SMALL, SALE)


def _draw_paths(canvas: Canvas, view: SeasonView, layout: SeasonLayout) -> None:
    """Stock and revenue beside their means under the optimal policy."""
    time, expected = np.arange(view.stages + 1), view.market.expected
    lots = f", sold in lots of {view.lot:,}" if view.lot > 1 else ""
    layout.stock.draw_axes(canvas, f"units in stock{lots}", 3)
    _draw_deliveries(canvas, view, layout.stock)
    for i in range(view.products):
        if view.reveals:
            layout.stock.draw_dashed(canvas, time, expected.stock[:, i], OPTIMAL)
        layout.stock.draw_curve(canvas, *_stairs(view.period, view.stock[:, i]), OWN[i], 3.0)
    layout.revenue.draw_axes(canvas, view.earnings, 3, view.currency, view.time_unit)
    if view.reveals:
        layout.revenue.draw_legend(canvas, [("so far", OWN[0], "line"), ("optimum's mean", OPTIMAL, "dashes")])
        layout.revenue.draw_dashed(canvas, time, expected.revenue, OPTIMAL)
    layout.revenue.draw_curve(canvas, *_stairs(view.period, view.revenue), OWN[0], 3.0)


def _stairs(x: Array, y: Array) -> tuple[Array, Array]:
    """A curve that keeps each value until the next."""
    return x.repeat(2)[1:], y.repeat(2)[:-1]


def _draw_maps(canvas: Canvas, view: SeasonView, layout: SeasonLayout) -> None:
    scale, products = price_scale(view), view.products
    for i, maps in enumerate(layout.maps):
        name = "price" if products == 1 else f"price of product {i + 1}"
        top, last = maps[0].top, i == products - 1
        title = f"{name} by {view.time_unit} and units in stock" if i == 0 else name
        title += view.after
        canvas.text(title, 586, top - (40 if i == 0 else 16), SMALL, BRIGHT)
        ticks = whole_ticks(1, maps[0].rows, 4)
        maps[0].draw_rows(canvas, {tick - 1: format_amount(tick * view.lot, 0) for tick in ticks})
        for policy, heat, caption in zip(view.policies, maps, view.captions, strict=True):
            if i == 0:
                canvas.text(caption, heat.left, top - 13, SMALL, MUTED)
            heat.draw(canvas, price_map(view, policy, i), scale)
            if last:
                heat.draw_columns(canvas, {tick: format_amount(tick, 0) for tick in whole_ticks(0, view.stages - 1, 4)})
            heat.draw_way(canvas, view.period, view.stock[:, i] // view.lot - 1)
            if view.period[-1] < view.stages and view.stock[-1, i] > 0:
                heat.draw_ring(canvas, view.period[-1], view.stock[-1, i] // view.lot - 1)
    draw_scale(canvas, scale, MAPS_BOTTOM, view.currency)


def price_scale(view: SeasonView) -> PriceScale:
    """The colours of all prices in the tables of products that are in stock."""
    posted = np.concatenate([view.prices[policy][:, view.market.units > 0].ravel() for policy in view.policies])
    return PriceScale(float(posted.min()), float(posted.max()))


def price_map(view: SeasonView, policy: Table, product: int) -> Array:
    """A product's price by own stock (1, 2, …) and period, at the present stock of the other: float64 [lots, T]."""
    table = policy.reshape(len(policy), -1, view.market.memories)[..., view.memory]  # after the last price
    grid = view.prices[table, product].reshape(len(policy), *(view.lots + 1))  # [T, lots + 1 of each product]
    for other in reversed(range(view.products)):
        if other != product:
            grid = grid.take(view.stock[-1, other] // view.lot, 1 + other)
    result: Array = grid[:, 1:].T
    return result


def _draw_header(canvas: Canvas, view: SeasonView) -> None:
    best, earned = view.optimum, float(view.revenue[-1])
    share, left = percent_of(earned, best), view.stages - int(view.period[-1])
    colour = result_colour(share)
    cents = 0 if best >= 100.0 else 2
    ink = colour if view.over else BRIGHT
    draw_readout(canvas, 24, format_amount(earned, cents, view.currency), view.earnings, ink)
    if view.reveals:
        draw_readout(canvas, 204, f"{share:.0f} %", f"of V* {format_amount(best, cents, view.currency)}", ink)
    if view.over:
        unsold = int(view.stock[-1].sum())
        words = "sold out" if unsold == 0 else f"{unsold} unit{'s' * (unsold > 1)} left"
        draw_verdict(canvas, words, f"after {view.period[-1]} of {view.stages} {view.time_unit}s", colour)
        return
    draw_readout(canvas, 400, " · ".join(map(str, view.stock[-1].tolist())), "units left")
    digits = min(3, decimals_of(view.prices.ravel().tolist()))
    posted = ["–" if np.isnan(p) else format_amount(p, digits, view.currency) for p in view.posted[-1].tolist()]
    draw_readout(canvas, 570, " · ".join(posted), "price")
    draw_readout(canvas, 800, str(left), f"{view.time_unit}s left")
