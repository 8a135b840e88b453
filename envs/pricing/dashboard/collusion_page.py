"""A picture of pairs of pricing policies: the answer to an undercut, and how much of a cartel's profit each pair earns.

1. On the left the prices of both firms before and after one of them undercuts once (mean of all pairs, both firms and
   all periods of their cycles), between the Nash and the monopoly price (dashed).
2. On the right the share of pairs by Δ; of a single pair instead the price of each firm by both last prices, with a
   ring at the pair of prices that the two come to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from palaestra.envs.pricing.dashboard.chart import (
    BRIGHT,
    GRID,
    MUTED,
    SMALL,
    Chart,
    PriceScale,
    draw_readout,
    format_amount,
    round_ticks,
)
from palaestra.envs.pricing.dashboard.panels import (
    FAIR,
    GOOD,
    MAPS_BOTTOM,
    MAPS_LEFT,
    MAPS_TOP,
    MAPS_WIDTH,
    OPTIMAL,
    OWN,
    around,
    draw_panels,
    draw_scale,
    map_row,
    plot,
)

if TYPE_CHECKING:
    from palaestra.envs.pricing.two_learners.price_pairs import Deviation, PricePairs
    from palaestra.envs.rendering.canvas import Canvas

PICTURE_SIZE = 960, 540
_BEFORE = 2  # periods shown before the undercut
_BINS = 24


def draw_collusion(canvas: Canvas, pairs: PricePairs, change: Deviation) -> None:
    """The page of these pairs, and of what follows a deviation in them."""
    draw_panels(canvas)
    _draw_response(canvas, pairs, change)
    if len(pairs.tables) > 1:
        _draw_histogram(canvas, pairs)
    else:
        _draw_policies(canvas, pairs)
    _draw_readouts(canvas, pairs, change)


def response_chart(pairs: PricePairs, change: Deviation) -> Chart:
    """Where the prices around a deviation are drawn; it is made in period 1."""
    market = pairs.market
    shown = np.append(change.prices.ravel(), (market.nash_price, market.monopoly_price))
    return plot(142, 352, (1.0 - _BEFORE, float(len(change.prices))), around(shown))


def _draw_response(canvas: Canvas, pairs: PricePairs, change: Deviation) -> None:
    chart, market = response_chart(pairs, change), pairs.market
    chart.draw_axes(canvas, "price", 5, times="period")
    chart.draw_legend(canvas, [("undercuts once", OWN[0], "line"), ("rival", OWN[1], "line")])
    for level, name, below in ((market.nash_price, "Nash", 12), (market.monopoly_price, "monopoly", -12)):
        chart.draw_dashed(canvas, np.array(chart.x), np.full(2, level), MUTED, 1.6)
        x, y = chart.place(chart.x[1], level)
        canvas.text(name, x - 4, y + below, SMALL, MUTED, "right")
    prices = np.concatenate((np.repeat(change.prices[:1], _BEFORE, 0), change.prices[1:]))
    periods = np.arange(len(prices)) + 1.0 - _BEFORE
    for firm, width in ((1, 6.0), (0, 2.8)):  # both show where they are equal
        chart.draw_steps(canvas, periods, prices[:, firm], OWN[firm], width)


def _draw_histogram(canvas: Canvas, pairs: PricePairs) -> None:
    found = pairs.collusion
    low, high = min(0.0, float(found.min())), max(1.0, float(found.max()))
    count, edges = np.histogram(found, _BINS, (low, high))
    share = 100.0 * count / len(found)
    width, height, most = MAPS_WIDTH + 34.0, MAPS_BOTTOM - MAPS_TOP - 6.0, 1.1 * float(share.max())
    chart = Chart(MAPS_LEFT + 6.0, MAPS_TOP, width, height, (low, high), (0.0, most))
    canvas.text("% of pairs by Δ", 586, MAPS_TOP - 24, SMALL, BRIGHT)
    for tick in round_ticks(*chart.y, 5):
        _, y = chart.place(low, tick)
        canvas.rectangle(chart.left, y - 0.5, chart.width, 1, GRID)
        canvas.text(format_amount(tick, 0), chart.left - 8, y, SMALL, MUTED, "right")
    for value, left, right in zip(share.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        (x, y), (end, bottom) = chart.place(left, value), chart.place(right, 0.0)
        canvas.rectangle(x + 1, y, end - x - 2, bottom - y, OWN[0])
    mean = float(found.mean())
    chart.draw_dashed(canvas, np.full(2, mean), np.array(chart.y), OPTIMAL, 2.4)
    x, y = chart.place(mean, chart.y[1])
    canvas.text(f"mean {mean:.2f}", x - 8, y + 8, SMALL, OPTIMAL, "right")
    for level, name in ((0.0, "Nash 0"), (0.5, "0.5"), (1.0, "1 cartel")):
        x, y = chart.place(level, 0.0)
        canvas.text(name, x, y + 16, SMALL, MUTED, "center")


def _draw_policies(canvas: Canvas, pairs: PricePairs) -> None:
    prices = pairs.market.prices
    size, scale = len(prices), PriceScale(float(prices[0]), float(prices[-1]))
    tables = pairs.tables[0] if (pairs.tables[0, 0] != pairs.tables[0, 1]).any() else pairs.tables[0, :1]
    maps = map_row(MAPS_TOP, MAPS_BOTTOM - MAPS_TOP - 24.0, (size, size), len(tables))
    step = float(prices[1] - prices[0])
    labels = {(tick - prices[0]) / step: format_amount(tick, 1) for tick in round_ticks(scale.low, scale.high, 4)}
    canvas.text("price by own and rival's last price", 586, MAPS_TOP - 40, SMALL, BRIGHT)
    maps[0].draw_rows(canvas, labels)
    names = ("first", "second") if len(tables) > 1 else ("both firms",)
    for firm, (table, heat, name) in enumerate(zip(tables, maps, names, strict=True)):
        canvas.text(name, heat.left, heat.top - 13, SMALL, MUTED)
        heat.draw(canvas, prices[table.reshape(size, size)], scale)
        heat.draw_columns(canvas, labels)
        for posted in pairs.prices.tolist():
            heat.draw_ring(canvas, posted[1 - firm], posted[firm])
    canvas.text("rival's last price", MAPS_LEFT + MAPS_WIDTH / 2, MAPS_BOTTOM + 15, SMALL, MUTED, "center")
    draw_scale(canvas, scale, MAPS_BOTTOM - 24.0)


def _draw_readouts(canvas: Canvas, pairs: PricePairs, change: Deviation) -> None:
    draw_readout(canvas, 24, f"{float(pairs.collusion.mean()):.2f}", "Δ: 0 Nash, 1 cartel", FAIR)
    draw_readout(canvas, 252, f"{float(pairs.mean_prices.mean()):.2f}", "mean price")
    draw_readout(canvas, 420, f"{100 * change.at_once:+.0f} %", "undercut's profit at once")
    colour = GOOD if change.in_all > 0.0 else BRIGHT
    draw_readout(canvas, 684, f"{100 * change.in_all:+.1f} %", "with what follows", colour)
