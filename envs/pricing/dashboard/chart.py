"""Parts of a dashboard: charts with axes, heat maps of prices, and read-outs.

A :class:`Chart` and a :class:`HeatMap` know where they lie and which point of the canvas belongs to a value, so that
a reader of the picture can find it again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palaestra.envs.core import Array

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas, Colour, Point

BACKGROUND, PANEL, GRID = "#0d141c", "#121c26", "#22303d"
BRIGHT, MUTED = "#f4f7fa", "#8fa0b0"
SMALL = 22.0  # height of labels in canvas units
BIG = 56.0  # height of read-outs, legible in a tile of a mosaic
_DASH, _GAP = 7.0, 6.0
_VIRIDIS = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))


def round_ticks(low: float, high: float, most: int) -> list[float]:
    """At most ``most`` (and if possible more than half as many) multiples of 1, 2 or 5 · 10^k from low to high."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        first, last = math.ceil(low / (factor * step) - 1e-9), math.floor(high / (factor * step) + 1e-9)
        if last - first < most:
            return [round(i * factor * step, 10) for i in range(first, last + 1)]
    return []


def whole_ticks(first: float, last: float, most: int) -> list[float]:
    """The same, whole numbers only."""
    return [tick for tick in round_ticks(first, last + 0.5, most) if tick == round(tick)]


def format_amount(value: float, decimals: int, currency: str = "") -> str:
    """A number to be read; from 100,000 on four digits of it, to fit its place."""
    size = abs(value)
    for least, unit, letter in ((1e9, 1e9, "G"), (1e6, 1e6, "M"), (1e5, 1e3, "k")):
        if size >= least:
            return f"{'-' if value < 0 else ''}{currency}{size / unit:.4g} {letter}"
    return f"{'-' if value < 0 else ''}{currency}{size:,.{decimals}f}"


def decimals_of(ticks: Sequence[float]) -> int:
    """Number of decimals that it takes to tell the numbers apart."""
    return next((d for d in range(6) if all(abs(round(tick, d) - tick) < 1e-9 for tick in ticks)), 6)


@dataclass(frozen=True)
class Chart:
    """A rectangle of the canvas with an axis of time and an axis of values."""

    left: float
    top: float
    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]

    def place(self, x: float, y: float) -> Point:
        """The point of the canvas that shows a value; values beyond the axis lie on its end."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = min(1.0, max(0.0, (y - self.y[0]) / (self.y[1] - self.y[0])))
        return self.left + across * self.width, self.top + (1.0 - up) * self.height

    def draw_axes(self, canvas: Canvas, title: str, most: int, currency: str = "", times: str = "") -> None:
        """Title, lines at round values with labels and, if ``times`` names their unit, the labels of time."""
        canvas.text(title, self.left - 54, self.top - 14, SMALL, BRIGHT)
        if times:
            canvas.text(times, self.left - 60, self.top + self.height + 16, SMALL, MUTED)
        ticks = round_ticks(*self.y, most)
        for tick in ticks:
            _, y = self.place(self.x[0], tick)
            canvas.rectangle(self.left, y - 0.5, self.width, 1, GRID)
            canvas.text(format_amount(tick, decimals_of(ticks), currency), self.left - 8, y, SMALL, MUTED, "right")
        for tick in whole_ticks(*self.x, 6):
            x, _ = self.place(tick, self.y[0])
            canvas.rectangle(x - 0.5, self.top, 1, self.height, GRID)
            if times:
                canvas.text(format_amount(tick, 0), x, self.top + self.height + 16, SMALL, MUTED, "center")

    def draw_curve(self, canvas: Canvas, x: Array, y: Array, colour: Colour, width: float) -> None:
        """A line through the values."""
        if len(x):
            canvas.line([self.place(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)], colour, width)

    def draw_steps(self, canvas: Canvas, period: Array, value: Array, colour: Colour, width: float) -> None:
        """Values that hold for one period each, as a line with steps; a gap where there is none (NaN)."""
        points: list[Point] = []
        for start, level in zip(period.tolist(), value.tolist(), strict=True):
            if math.isnan(level):
                if points:
                    canvas.line(points, colour, width)
                points = []
            else:
                points += [self.place(start, level), self.place(start + 1, level)]
        if points:
            canvas.line(points, colour, width)

    def draw_dashed(self, canvas: Canvas, x: Array, y: Array, colour: Colour, width: float = 2.0) -> None:
        """A line through the values in dashes of equal length."""
        path = np.array([self.place(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)])
        walked = np.append(0.0, np.hypot(*np.diff(path, axis=0).T).cumsum())
        start = np.arange(0.0, walked[-1], _DASH + _GAP)
        ends = np.stack((start, np.minimum(start + _DASH, walked[-1])), 1)
        dashes = np.stack([np.interp(ends, walked, path[:, i]) for i in (0, 1)], 2)  # [dashes, 2 ends, 2]
        for dash in dashes.tolist():
            canvas.line(dash, colour, width)

    def draw_legend(self, canvas: Canvas, entries: Sequence[tuple[str, Colour, str]]) -> None:
        """Labels with samples ("line", "band", "dashes" or "dot") at the right above the chart."""
        x, y = self.left + self.width, self.top - 14
        for label, colour, kind in reversed(entries):
            x -= canvas.text(label, x, y, SMALL, MUTED, "right") + 8
            if kind == "dot":
                canvas.circle(x - 6, y - 1, 5, colour)
                x -= 28
                continue
            if kind == "dashes":
                canvas.line([(x - 22, y - 1), (x - 15, y - 1)], colour, 2)
                canvas.line([(x - 8, y - 1), (x - 1, y - 1)], colour, 2)
            else:
                canvas.line([(x - 21, y - 1), (x - 2, y - 1)], colour, 7.0 if kind == "band" else 3.0)
            x -= 40


@dataclass(frozen=True)
class PriceScale:
    """Colours of prices between two, dark for low and light for high (viridis)."""

    low: float
    high: float

    def colours(self, prices: Array) -> Array:
        """uint8 [*prices.shape, 3]."""
        share = np.clip((prices - self.low) / max(self.high - self.low, 1e-12), 0.0, 1.0) * (len(_VIRIDIS) - 1)
        anchors = np.array(_VIRIDIS, np.float64)
        channels = [np.interp(share, np.arange(len(anchors)), anchors[:, i]) for i in range(3)]
        return np.stack(channels, -1).round().astype(np.uint8)

    def draw(self, canvas: Canvas, left: float, top: float, height: float, currency: str) -> None:
        """A bar with labels at round prices."""
        steps = np.linspace(self.high, self.low, 64)[:, None]
        canvas.cells(self.colours(steps), left, top, 12, height)
        if self.high == self.low:
            return
        ticks = round_ticks(self.low, self.high, 5)
        for tick in ticks:
            y = top + height * (self.high - tick) / (self.high - self.low)
            canvas.rectangle(left + 12, y - 0.5, 4, 1, MUTED)
            canvas.text(format_amount(tick, decimals_of(ticks), currency), left + 19, y, SMALL, MUTED)


@dataclass(frozen=True)
class HeatMap:
    """A rectangle of the canvas divided into cells, counted from its lower left corner."""

    left: float
    top: float
    width: float
    height: float
    columns: int
    rows: int

    def place(self, column: float, row: float) -> Point:
        """The middle of a cell."""
        x = self.left + (column + 0.5) * self.width / self.columns
        return x, self.top + self.height - (row + 0.5) * self.height / self.rows

    def draw(self, canvas: Canvas, prices: Array, scale: PriceScale) -> None:
        """Prices [rows, columns], the lowest row first."""
        canvas.cells(scale.colours(prices[::-1]), self.left, self.top, self.width, self.height)

    def draw_way(self, canvas: Canvas, columns: Array, rows: Array) -> None:
        """A line through cells that were visited, one on the edge of the map where they lie beyond."""
        columns, rows = np.clip(columns, -0.5, self.columns - 0.5), np.clip(rows, -0.5, self.rows - 0.5)
        points = [self.place(column, row) for column, row in zip(columns.tolist(), rows.tolist(), strict=True)]
        if len(points) > 1:
            canvas.line(points, "#0d141ca0", 4.0)
            canvas.line(points, BRIGHT, 1.6)

    def draw_ring(self, canvas: Canvas, column: float, row: float) -> None:
        """A ring around a cell."""
        x, y = self.place(column, row)
        canvas.circle(x, y, 10, BACKGROUND, line=7)
        canvas.circle(x, y, 8.5, BRIGHT, line=3.2)

    def draw_columns(self, canvas: Canvas, labels: Mapping[float, str]) -> None:
        """Labels of columns below the map."""
        for column, label in labels.items():
            x, _ = self.place(column, 0)
            canvas.text(label, x, self.top + self.height + 16, SMALL, MUTED, "center")

    def draw_rows(self, canvas: Canvas, labels: Mapping[float, str]) -> None:
        """Labels of rows at the left of the map."""
        for row, label in labels.items():
            _, y = self.place(0, row)
            canvas.text(label, self.left - 7, y, SMALL, MUTED, "right")


def draw_readout(canvas: Canvas, x: float, value: str, caption: str, colour: Colour = BRIGHT) -> None:
    """A large number with a line below it, at the top of the picture."""
    canvas.text(value, x, 40, BIG, colour)
    canvas.text(caption, x, 76, 24, MUTED)


def draw_verdict(canvas: Canvas, words: str, detail: str, colour: Colour) -> None:
    """The result of the episode in a banner at the upper right, and a frame around the picture."""
    canvas.rectangle(0, 0, canvas.width, canvas.height, colour, line=6)
    right, wide = canvas.width - 20, 22.0 * len(words) + 40
    canvas.rectangle(right - wide, 13, wide, 52, colour, radius=26)
    canvas.text(words, right - wide / 2, 41, 50, BACKGROUND, "center")
    canvas.text(detail, right, 78, 24, MUTED, "right")
