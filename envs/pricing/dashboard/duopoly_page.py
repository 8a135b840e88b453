"""The duopoly's dashboard: both firms' prices over time, and the agent's profit.

1. On the left the prices of the agent (blue) and of its rival (pink) between the Nash and the monopoly price (dashed),
   and what the optimal policy would have posted in the states that were visited (wide, amber).
2. On the right the price for each pair of last prices, of the watched policy where its table is known and of the
   optimal one, with a ring at the pair posted last. Below the charts profits so far, and the optimal policy's.
3. Nothing but the number of periods is random, so the share of the optimum compares with what the optimal policy earns
   in as many periods.
"""

from __future__ import annotations

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
    number,
    round_ticks,
)
from palaestra.envs.pricing.dashboard.season_page import (
    BAND,
    MAPS_BOTTOM,
    MAPS_LEFT,
    MAPS_TOP,
    MAPS_WIDTH,
    OPTIMAL,
    OWN,
    around,
    captions,
    draw_panels,
    map_row,
    mood,
    percent,
    plot,
)
from palaestra.envs.pricing.expected_path import optimal_profits

if TYPE_CHECKING:
    from palaestra.envs.pricing.duopoly import DuopolyPricing
    from palaestra.envs.rendering.canvas import Canvas, Table

_SHORTEST = 20  # periods on the axis


@dataclass(frozen=True)
class Layout:
    """Where things are; the watched policy's map comes first."""

    price: Chart
    profit: Chart
    maps: tuple[HeatMap, ...]


def layout(market: DuopolyPricing, policies: int = 1, periods: int = 0, profit: float = 0.0) -> Layout:
    """The dashboard after a number of periods with the maps of one or two policies."""
    horizon = _SHORTEST
    while horizon <= periods:
        horizon *= 2
    x, size = (0.0, float(horizon)), len(market.prices)
    return Layout(
        plot(126, 218, x, around(market.prices)),
        plot(382, 118, x, (0.0, max(1.0, 1.15 * profit))),
        map_row(MAPS_TOP, MAPS_BOTTOM - MAPS_TOP - 24.0, (size, size), policies),
    )


def draw_duopoly(market: DuopolyPricing, state: Any, canvas: Canvas) -> None:
    """Both firms' prices."""
    states = [*canvas.past, state]
    period, profit = np.array([s.period for s in states]), np.array([s.revenue for s in states])
    best = optimal_profits(market, int(period[-1]))
    tables = [market.optimal_policy()] if canvas.policy is None else [canvas.policy, market.optimal_policy()]
    places = layout(market, len(tables), int(period[-1]), max(best[-1], profit[-1]))
    draw_panels(canvas)
    _draw_prices(canvas, market, places.price, states)
    _draw_profits(canvas, places, period, profit, best)
    _draw_maps(canvas, market, places, tables, (state.rival, state.price))
    _draw_header(canvas, market, state, float(best[-1]))


def _draw_prices(canvas: Canvas, market: DuopolyPricing, chart: Chart, states: list[Any]) -> None:
    period, own, rival = np.array([(s.period, s.price, s.rival) for s in states], np.int64).T
    prices = market.prices
    chart.draw_axes(canvas, "price", 4)
    chart.draw_legend(canvas, [("agent", OWN[0], "line"), ("rival", OWN[1], "line"), ("optimal here", BAND, "band")])
    for level, name, below in ((market.nash_price, "Nash", 12), (market.monopoly_price, "monopoly", -12)):
        chart.draw_dashed(canvas, np.array(chart.x), np.full(2, level), MUTED, 1.6)
        x, y = chart.place(chart.x[1], level)
        canvas.text(name, x - 4, y + below, SMALL, MUTED, "right")
    target = prices[market.optimal_policy()[0, own * len(prices) + rival]]
    going = len(states) - canvas.over
    chart.draw_steps(canvas, period[:going], target[:going], BAND, 10.0)
    played = period > 0
    for posted, colour, width in ((rival, OWN[1], 6.0), (own, OWN[0], 2.6)):  # both show where they are equal
        chart.draw_steps(canvas, period[played] - 1, prices[posted[played]], colour, width)


def _draw_profits(canvas: Canvas, places: Layout, period: Array, profit: Array, best: Array) -> None:
    places.profit.draw_axes(canvas, "profit so far", 3, times="period")
    places.profit.draw_legend(canvas, [("agent", OWN[0], "line"), ("optimum", OPTIMAL, "dashes")])
    places.profit.draw_dashed(canvas, np.arange(len(best)), best, OPTIMAL)
    places.profit.draw_curve(canvas, period, profit, OWN[0], 3.0)


def _draw_maps(
    canvas: Canvas, market: DuopolyPricing, places: Layout, tables: list[Table], now: tuple[int, int]
) -> None:
    """``now`` are the rival's and the own last price, their indices."""
    low, high, size = float(market.prices[0]), float(market.prices[-1]), len(market.prices)
    scale = PriceScale(low, high)
    labels = {(tick - low) / (high - low) * (size - 1): number(tick, 1) for tick in round_ticks(low, high, 4)}
    canvas.text("price by own and rival's last price", 586, MAPS_TOP - 40, SMALL, BRIGHT)
    places.maps[0].draw_rows(canvas, labels)
    for table, heat, caption in zip(tables, places.maps, captions(market, tables), strict=True):
        canvas.text(caption, heat.left, heat.top - 13, SMALL, MUTED)
        heat.draw(canvas, market.prices[table[0].reshape(size, size)], scale)
        heat.draw_columns(canvas, labels)
        heat.draw_ring(canvas, *now)
    canvas.text("rival's last price", MAPS_LEFT + MAPS_WIDTH / 2, MAPS_BOTTOM + 15, SMALL, MUTED, "center")
    scale.draw(canvas, MAPS_LEFT + MAPS_WIDTH + 10, MAPS_TOP, places.maps[0].height, "")


def _draw_header(canvas: Canvas, market: DuopolyPricing, state: Any, best: float) -> None:
    """``best`` is the optimal policy's profit by now."""
    profit = float(state.revenue)
    share = percent(profit, best)
    colour = mood(share) if canvas.over else BRIGHT
    draw_readout(canvas, 24, f"{profit:.2f}", "profit", colour)
    draw_readout(canvas, 204, f"{share:.0f} %", f"of optimum {best:.2f}", colour)
    if canvas.over:
        periods = f"{state.period} period{'s' * (state.period > 1)}"
        draw_verdict(canvas, "market closed", f"after {periods}", mood(share))
        return
    draw_readout(canvas, 400, f"{market.prices[state.price]:.2f}", "agent's price")
    draw_readout(canvas, 600, f"{market.prices[state.rival]:.2f}", "rival's price")
    draw_readout(canvas, 800, str(state.period), "periods gone")
