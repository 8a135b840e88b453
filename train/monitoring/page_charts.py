"""Small pictures as SVG, drawn in the colours of the page around them, so that they are legible in the dark too.

Classes: ``before`` is the reference, ``now`` what was found in use, ``limit`` a limit, ``bad`` what is beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 420, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 28
_LETTER, _LONGEST = 7.0, 24  # the width of a letter, and the letters of a label


def pairs_of_bars(labels: Sequence[str], before: Sequence[float], now: Sequence[float], title: str) -> str:
    """Shares of bins, those of the reference beside those in use.

    Args:
        labels: of the bins.
        before, now: shares.
        title: for those who cannot see it.
    """
    top = max(0.05, *before, *now)
    axis = _Axis(0.0, top)
    step = (WIDTH - _LEFT - _RIGHT) / len(labels)
    parts = axis.grid(lambda share: f"{100 * share:g} %")
    for i, (label, one, other) in enumerate(zip(labels, before, now, strict=True)):
        left = _LEFT + i * step
        tip = escape(f"{label}: before {100 * one:.1f} %, in use {100 * other:.1f} %")
        bars = ((left + 0.08 * step, one, "before"), (left + 0.5 * step, other, "now"))
        drawn = "".join(
            f'<rect class="{kind}" x="{x:.1f}" y="{axis.y(share):.1f}" width="{0.42 * step:.1f}" '
            f'height="{axis.y(0.0) - axis.y(share):.1f}"/>'
            for x, share, kind in bars
        )
        parts.append(f"<g><title>{tip}</title>{drawn}</g>")
    short = [label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…" for label in labels]
    return _svg([*parts, *_below_all(short, _places(len(labels)))], title)


def days_line(days: Sequence[str], values: Sequence[float | None], limit: float, title: str) -> str:
    """A number for each day, with its limit."""
    seen = [value for value in values if value is not None]
    axis = _Axis(0.0, 1.1 * max(limit, *seen, 1e-9))
    places = _places(len(days))
    parts = axis.grid(lambda value: f"{value:.3g}")
    parts.append(_line("limit", _LEFT, axis.y(limit), WIDTH - _RIGHT, axis.y(limit)))
    points = [(x, axis.y(value)) for x, value in zip(places, values, strict=True) if value is not None]
    parts.append(f'<polyline class="now" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    for x, day, value in zip(places, days, values, strict=True):
        if value is not None:
            kind = "bad" if value > limit else "now"
            parts.append(_dot(kind, x, axis.y(value), f"{day}: {value:.3g}"))
    return _svg([*parts, *_below_all(days, places)], title)


def days_means(
    days: Sequence[str],
    means: Sequence[tuple[float, float, float] | None],
    band: tuple[float, float, float] | None,
    title: str,
) -> str:
    """A mean with its interval for each day, over that of the reference.

    Args:
        days: their names.
        means: mean, low and high of each; None where it is not known.
        band: the reference's.
        title: for those who cannot see it.
    """
    every = [value for mean in (*means, band) if mean is not None for value in mean]
    low, high = min(every), max(every)
    margin = 0.08 * (high - low) or max(1.0, 0.1 * abs(high))
    axis, places = _Axis(low - margin, high + margin), _places(len(days))
    parts = axis.grid(lambda value: f"{value:.4g}")
    if band is not None:
        y, height = axis.y(band[2]), max(2.0, axis.y(band[1]) - axis.y(band[2]))
        size = f'width="{WIDTH - _LEFT - _RIGHT}" height="{height:.1f}"'
        parts.append(f'<rect class="band" x="{_LEFT}" y="{y:.1f}" {size}/>')
        parts.append(_line("before", _LEFT, axis.y(band[0]), WIDTH - _RIGHT, axis.y(band[0])))
    for x, day, mean in zip(places, days, means, strict=True):
        if mean is not None:
            parts.append(_line("now", x, axis.y(mean[1]), x, axis.y(mean[2])))
            parts.append(_dot("now", x, axis.y(mean[0]), f"{day}: {mean[0]:.4g} ({mean[1]:.4g} to {mean[2]:.4g})"))
    return _svg([*parts, *_below_all(days, places)], title)


def intervals_and_dots(
    labels: Sequence[str], found: Sequence[float], between: Sequence[tuple[float, float]], title: str
) -> str:
    """What was found, over the interval that was expected, for each label."""
    axis, places = _Axis(0.0, 1.05 * max(1e-9, *found, *(high for _, high in between))), _places(len(labels))
    parts = axis.grid(lambda value: f"{value:,.4g}")
    for x, label, value, (low, high) in zip(places, labels, found, between, strict=True):
        parts.append(_line("before wide", x, axis.y(low), x, axis.y(high)))
        kind = "now" if low <= value <= high else "bad"
        parts.append(_dot(kind, x, axis.y(value), f"{label}: {value:g}, expected {low:.1f} to {high:.1f}"))
    return _svg([*parts, *_below_all(labels, places)], title)


class _Axis:
    """The vertical one."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high if high > low else low + 1.0

    def y(self, value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)

    def grid(self, text: object) -> list[str]:
        """Lines at round numbers with their labels."""
        rough = (self.high - self.low) / 4
        size = 10.0 ** math.floor(math.log10(rough))
        step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
        parts, value = [], math.ceil(self.low / step) * step
        while value <= self.high + 1e-9 * step:
            y = self.y(value)
            parts.append(_line("grid", _LEFT, y, WIDTH - _RIGHT, y))
            label = escape(text(value + 0.0))  # type: ignore[operator]
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
            value = round(value / step + 1) * step
        return parts


def _places(count: int) -> list[float]:
    step = (WIDTH - _LEFT - _RIGHT) / count
    return [_LEFT + (i + 0.5) * step for i in range(count)]


def _below_all(labels: Sequence[str], places: Sequence[float]) -> list[str]:
    """Labels below their places, from the left on as many as there is room for."""
    parts, free = [], 0.0
    for x, label in zip(places, labels, strict=True):
        half = 0.5 * _LETTER * len(label)
        middle = min(max(x, half + 2), WIDTH - half - 2)
        if middle - half >= free and abs(middle - x) < 30:
            parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
            free = middle + half + 8
    return parts


def _line(kind: str, x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def _dot(kind: str, x: float, y: float, tip: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(tip)}</title></circle>'


def _svg(parts: Sequence[str], title: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"
