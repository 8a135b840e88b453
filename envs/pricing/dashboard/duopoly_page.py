"""The duopoly's dashboard: both firms' prices over time, and the agent's profit.

1. On the left the prices of the agent (blue) and of its rival (pink) between the Nash and the monopoly price (dashed),
   and what the optimal policy would have posted in the states that were visited (wide, amber).
2. On the right the price for each pair of last prices, of the watched policy where its table is known and of the
   optimal one, with a ring at the pair posted last. Below the charts profits so far, and the optimal policy's.
3. Nothing but the number of periods is random, so the share of the optimum compares with what the optimal policy earns
   in as many periods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.dashboard.chart import (
    BRIGHT,
    MUTED,
    SMALL,
    Chart,
    HeatMap,
    PriceScale,
    draw_readout,
    draw_verdict,
    format_amount,
    round_ticks,
)
from palaestra.envs.pricing.dashboard.panels import (
    BAND,
    MAPS_BOTTOM,
    MAPS_LEFT,
    MAPS_TOP,
    MAPS_WIDTH,
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
    from palaestra.envs.rendering.canvas import Canvas

_SHORTEST = 20  # periods on the axis


class DuopolyView(MarketView):
    """Everything that the dashboard shows: A prices, n visited states after p periods."""

    def _read(self, states: Sequence[Any]) -> None:
        market = self.market  # a ``DuopolyPricing``, whose module imports this one
        self.prices: Array = market.prices  # float64 [A]
        self.own, self.rival = np.array([(s.price, s.rival) for s in states], np.int64).T  # [n] last prices, indices
        self.profit = np.array([s.revenue for s in states])  # float64 [n] so far
        self.optimal_profit: Array = market.optimal_profits(int(self.period[-1]))  # float64 [p + 1] after 0 … p periods


@dataclass(frozen=True)
class DuopolyLayout:
    """Places of prices, profits and the maps, the watched policy's first."""

    price: Chart
    profit: Chart
    maps: tuple[HeatMap, ...]


def duopoly_layout(view: DuopolyView) -> DuopolyLayout:
    """The axis of time doubles when it is full; that of profits holds the agent's and the optimal policy's."""
    horizon = _SHORTEST
    while horizon <= view.period[-1]:
        horizon *= 2
    x, size = (0.0, float(horizon)), len(view.prices)
    profit = max(view.optimal_profit[-1], view.profit[-1])
    return DuopolyLayout(
        plot(126, 218, x, around(view.prices)),
        plot(382, 118, x, (0.0, max(1.0, 1.15 * profit))),
        map_row(MAPS_TOP, MAPS_BOTTOM - MAPS_TOP - 24.0, (size, size), len(view.policies)),
    )


def draw_duopoly(canvas: Canvas, view: DuopolyView) -> None:
    """Prices and profits of both firms."""
    layout = duopoly_layout(view)
    draw_panels(canvas)
    _draw_prices(canvas, view, layout.price)
    _draw_profits(canvas, view, layout.profit)
    if view.reveals:
        _draw_maps(canvas, view, layout)
    else:
        draw_secret(canvas)
    _draw_header(canvas, view)


def _draw_prices(canvas: Canvas, view: DuopolyView, chart: Chart) -> None:
    chart.draw_axes(canvas, "price", 4)
    optimal_here = [("optimal here", BAND, "band")] if view.reveals else []
    chart.draw_legend(canvas, [("agent", OWN[0], "line"), ("rival", OWN[1], "line"), *optimal_here])
    for level, name, below in ((view.market.nash_price, "Nash", 12), (view.market.monopoly_price, "monopoly", -12)):
        chart.draw_dashed(canvas, np.array(chart.x), np.full(2, level), MUTED, 1.6)
        x, y = chart.place(chart.x[1], level)
        canvas.text(name, x - 4, y + below, SMALL, MUTED, "right")
    optimal = view.prices[view.policies[-1][0, view.own * len(view.prices) + view.rival]]
    going = len(view.period) - view.over
    if view.reveals:
        chart.draw_steps(canvas, view.period[:going], optimal[:going], BAND, 10.0)
    played = view.period > 0
    for posted, colour, width in ((view.rival, OWN[1], 6.0), (view.own, OWN[0], 2.6)):  # both show where they are equal
        chart.draw_steps(canvas, view.period[played] - 1, view.prices[posted[played]], colour, width)


def _draw_profits(canvas: Canvas, view: DuopolyView, chart: Chart) -> None:
    chart.draw_axes(canvas, "profit so far", 3, times="period")
    if view.reveals:
        chart.draw_legend(canvas, [("agent", OWN[0], "line"), ("optimum", OPTIMAL, "dashes")])
        chart.draw_dashed(canvas, np.arange(len(view.optimal_profit)), view.optimal_profit, OPTIMAL)
    chart.draw_curve(canvas, view.period, view.profit, OWN[0], 3.0)


def _draw_maps(canvas: Canvas, view: DuopolyView, layout: DuopolyLayout) -> None:
    low, high, size = float(view.prices[0]), float(view.prices[-1]), len(view.prices)
    scale = PriceScale(low, high)
    labels = {(tick - low) / (high - low) * (size - 1): format_amount(tick, 1) for tick in round_ticks(low, high, 4)}
    canvas.text("price by own and rival's last price", 586, MAPS_TOP - 40, SMALL, BRIGHT)
    layout.maps[0].draw_rows(canvas, labels)
    for policy, heat, caption in zip(view.policies, layout.maps, view.captions, strict=True):
        canvas.text(caption, heat.left, heat.top - 13, SMALL, MUTED)
        heat.draw(canvas, view.prices[policy[0].reshape(size, size)], scale)
        heat.draw_columns(canvas, labels)
        heat.draw_ring(canvas, view.rival[-1], view.own[-1])
    canvas.text("rival's last price", MAPS_LEFT + MAPS_WIDTH / 2, MAPS_BOTTOM + 15, SMALL, MUTED, "center")
    draw_scale(canvas, scale, MAPS_BOTTOM - 24.0)


def _draw_header(canvas: Canvas, view: DuopolyView) -> None:
    profit, best, period = float(view.profit[-1]), float(view.optimal_profit[-1]), int(view.period[-1])
    share = percent_of(profit, best)
    colour = result_colour(share) if view.over else BRIGHT
    draw_readout(canvas, 24, f"{profit:.2f}", "profit", colour)
    if view.reveals:
        draw_readout(canvas, 204, f"{share:.0f} %", f"of optimum {best:.2f}", colour)
    if view.over:
        draw_verdict(canvas, "market closed", f"after {period} period{'s' * (period > 1)}", colour)
        return
    draw_readout(canvas, 400, f"{view.prices[view.own[-1]]:.2f}", "agent's price")
    draw_readout(canvas, 600, f"{view.prices[view.rival[-1]]:.2f}", "rival's price")
    draw_readout(canvas, 800, str(period), "periods gone")
