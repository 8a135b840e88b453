"""The dashboard of hidden demand: prices and sales over time, and what the seller can know of the regime.

1. On the left the prices posted (blue), over a wide amber band where most is earned by the seller's belief, with a dot
   for each sale; below the belief, the probability of the second regime (blue), over a band where that regime holds.
2. On the right the best price for each period and belief, with the way the belief has taken and a ring where it is.
3. A person who plays sees neither belief, regime nor best prices before the end.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    whole_ticks,
)
from palaestra.envs.pricing.dashboard.panels import (
    BAND,
    MAPS_BOTTOM,
    MAPS_LEFT,
    MAPS_TOP,
    MAPS_WIDTH,
    OWN,
    around,
    draw_panels,
    draw_scale,
    draw_secret,
    plot,
    result_colour,
)
from palaestra.envs.pricing.metrics import percent_of

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas

SALE = "#8df5a8"
REGIME = "#3a2f57"
_ROWS = 51  # beliefs of the map


class HiddenView:
    """Everything that the dashboard shows: A prices, n states that an episode has visited, oldest first."""

    def __init__(self, market: Any, states: Sequence[Any], *, over: bool = False, reveals: bool = True) -> None:
        """``market`` is a ``HiddenDemand``, whose module imports this one; ``reveals``: show what is hidden."""
        self.prices: Array = market.prices  # float64 [A]
        self.periods = int(market.periods)
        self.period, self.regime, self.belief, action, self.sold = (
            np.array([getattr(state, name) for state in states])
            for name in ("period", "regime", "belief", "price", "sold")
        )
        self.posted = np.where(action < 0, np.nan, self.prices[action])  # [n] in the period before each state
        self.revenue = float(states[-1].revenue)
        self.optimum = float(market.reference.optimum)
        self.over, self.reveals = over or bool(self.period[-1] == self.periods), reveals
        solution = market.solution
        rows = np.linspace(0, solution.best.shape[1] - 1, _ROWS).round().astype(np.int64)
        self.best: Array = self.prices[solution.best[:, rows].T]  # [_ROWS, T]
        nearest = (self.belief * (solution.best.shape[1] - 1)).round().astype(np.int64)
        going = self.period < self.periods
        self.best_here = self.prices[solution.best[self.period[going], nearest[going]]]  # [n, or n − 1 at the end]


def draw_hidden(canvas: Canvas, view: HiddenView) -> None:
    """Prices, sales and beliefs of a season."""
    draw_panels(canvas)
    x = (0.0, float(view.periods))
    _draw_prices(canvas, view, plot(126, 218, x, around(view.prices)))
    _draw_belief(canvas, view, plot(382, 118, x, (0.0, 1.0)))
    if view.reveals:
        _draw_map(canvas, view)
    else:
        draw_secret(canvas)
    _draw_header(canvas, view)


def _draw_prices(canvas: Canvas, view: HiddenView, chart: Chart) -> None:
    chart.draw_axes(canvas, "price", 4)
    best = [("best by belief", BAND, "band")] if view.reveals else []
    chart.draw_legend(canvas, [("posted", OWN[0], "line"), ("sold", SALE, "dot"), *best])
    if view.reveals:
        chart.draw_steps(canvas, view.period[: len(view.best_here)], view.best_here, BAND, 10.0)
    chart.draw_steps(canvas, view.period - 1, view.posted, OWN[0], 2.6)
    for place in np.flatnonzero(view.sold > 0).tolist():
        canvas.circle(*chart.place(float(view.period[place]) - 0.5, float(view.posted[place])), 4.0, SALE)


def _draw_belief(canvas: Canvas, view: HiddenView, chart: Chart) -> None:
    if view.reveals:
        for start in np.flatnonzero((view.regime == 1) & (view.period < view.periods)).tolist():
            left, top = chart.place(float(view.period[start]), 1.0)
            right, bottom = chart.place(float(view.period[start]) + 1.0, 0.0)
            canvas.rectangle(left, top, right - left + 0.5, bottom - top, REGIME)
    chart.draw_axes(canvas, "probability of regime 2" if view.reveals else "the regime is hidden", 3, times="period")
    if view.reveals:
        chart.draw_legend(canvas, [("belief", OWN[0], "line"), ("regime 2", REGIME, "band")])
        chart.draw_curve(canvas, view.period, view.belief, OWN[0], 3.0)


def _draw_map(canvas: Canvas, view: HiddenView) -> None:
    heat = HeatMap(MAPS_LEFT, MAPS_TOP, MAPS_WIDTH, MAPS_BOTTOM - MAPS_TOP - 24.0, view.periods, _ROWS)
    scale = PriceScale(float(view.prices[0]), float(view.prices[-1]))
    canvas.text("best price by period and belief", 586, MAPS_TOP - 32, SMALL, BRIGHT)
    heat.draw(canvas, view.best, scale)
    heat.draw_rows(canvas, {share * (_ROWS - 1): f"{share:g}" for share in (0.0, 0.5, 1.0)})
    heat.draw_columns(canvas, {tick - 0.5: f"{tick:g}" for tick in whole_ticks(0.0, view.periods, 4)})
    rows = view.belief * (_ROWS - 1)
    heat.draw_way(canvas, view.period - 0.5, rows)
    heat.draw_ring(canvas, min(float(view.period[-1]), view.periods) - 0.5, float(rows[-1]))
    canvas.text("period", MAPS_LEFT + MAPS_WIDTH / 2, MAPS_BOTTOM + 15, SMALL, MUTED, "center")
    draw_scale(canvas, scale, MAPS_BOTTOM - 24.0)


def _draw_header(canvas: Canvas, view: HiddenView) -> None:
    share = percent_of(view.revenue, view.optimum)
    colour = result_colour(share) if view.over else BRIGHT
    draw_readout(canvas, 24, f"{view.revenue:,.0f}", "revenue", colour)
    draw_readout(canvas, 204, f"{share:.0f} %", f"of optimum {view.optimum:,.1f}", colour)
    if view.over:
        draw_verdict(canvas, "season over", f"after {view.periods} periods", colour)
        return
    if not np.isnan(view.posted[-1]):
        draw_readout(canvas, 430, f"{view.posted[-1]:.4g}", "last price")
        draw_readout(canvas, 600, "yes" if view.sold[-1] else "no", "sold")
    draw_readout(canvas, 800, str(view.periods - int(view.period[-1])), "periods left")
