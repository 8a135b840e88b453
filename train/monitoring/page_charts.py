"""Small pictures as SVG on the report's scales, in the colours of the page around them, so that they are legible in the
dark too; a page of them needs no script.

Classes: ``before`` is the reference, ``now`` what was found in use, ``limit`` a limit, ``bad`` what is beyond it.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from palaestra.train.report.scales import Scale, scale_for
from palaestra.train.report.svg_parts import line, text

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
    scale = _scale(0.0, 5.0, *(100.0 * share for share in (*before, *now)))
    step = (WIDTH - _LEFT - _RIGHT) / len(labels)
    parts = _grid(scale, " %")
    for i, (label, one, other) in enumerate(zip(labels, before, now, strict=True)):
        left = _LEFT + i * step
        tip = escape(f"{label}: before {100 * one:.1f} %, in use {100 * other:.1f} %")
        bars = ((left + 0.08 * step, one, "before"), (left + 0.5 * step, other, "now"))
        drawn = "".join(
            f'<rect class="{kind}" x="{x:.1f}" y="{scale(100.0 * share):.1f}" width="{0.42 * step:.1f}" '
            f'height="{scale(0.0) - scale(100.0 * share):.1f}"/>'
            for x, share, kind in bars
        )
        parts.append(f"<g><title>{tip}</title>{drawn}</g>")
    short = [label if len(label) <= _LONGEST else f"{label[: _LONGEST - 1]}…" for label in labels]
    return _svg([*parts, *_below_all(short, _places(len(labels)))], title)


def days_line(days: Sequence[str], values: Sequence[float | None], limit: float, title: str) -> str:
    """A number for each day, with its limit."""
    seen = [value for value in values if value is not None]
    scale, places = _scale(0.0, 1.1 * max(limit, *seen, 1e-9)), _places(len(days))
    parts = [*_grid(scale), line(_LEFT, scale(limit), WIDTH - _RIGHT, scale(limit), "limit")]
    points = [(x, scale(value)) for x, value in zip(places, values, strict=True) if value is not None]
    parts.append(f'<polyline class="now" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    for x, day, value in zip(places, days, values, strict=True):
        if value is not None:
            kind = "bad" if value > limit else "now"
            parts.append(_dot(kind, x, scale(value), f"{day}: {value:.3g}"))
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
    scale, places = _scale(low - margin, high + margin), _places(len(days))
    parts = _grid(scale)
    if band is not None:
        y, height = scale(band[2]), max(2.0, scale(band[1]) - scale(band[2]))
        size = f'width="{WIDTH - _LEFT - _RIGHT}" height="{height:.1f}"'
        parts.append(f'<rect class="band" x="{_LEFT}" y="{y:.1f}" {size}/>')
        parts.append(line(_LEFT, scale(band[0]), WIDTH - _RIGHT, scale(band[0]), "before"))
    for x, day, mean in zip(places, days, means, strict=True):
        if mean is not None:
            parts.append(line(x, scale(mean[1]), x, scale(mean[2]), "now"))
            parts.append(_dot("now", x, scale(mean[0]), f"{day}: {mean[0]:.4g} ({mean[1]:.4g} to {mean[2]:.4g})"))
    return _svg([*parts, *_below_all(days, places)], title)


def intervals_and_dots(
    labels: Sequence[str], found: Sequence[float], between: Sequence[tuple[float, float]], title: str
) -> str:
    """What was found, over the interval that was expected, for each label."""
    scale, places = _scale(0.0, 1.05 * max(1e-9, *found, *(high for _, high in between))), _places(len(labels))
    parts = _grid(scale)
    for x, label, value, (low, high) in zip(places, labels, found, between, strict=True):
        parts.append(line(x, scale(low), x, scale(high), "before wide"))
        kind = "now" if low <= value <= high else "bad"
        parts.append(_dot(kind, x, scale(value), f"{label}: {value:g}, expected {low:.1f} to {high:.1f}"))
    return _svg([*parts, *_below_all(labels, places)], title)


def _scale(*values: float) -> Scale:
    """Upright, with room for the values to round numbers."""
    return scale_for(values, HEIGHT - _BOTTOM, _TOP)


def _grid(scale: Scale, unit: str = "") -> list[str]:
    """Lines across at round numbers with their labels."""
    parts = []
    for value, label in scale.ticks():
        y = scale(value)
        parts += [line(_LEFT, y, WIDTH - _RIGHT, y, "grid"), text(_LEFT - 6, y + 4, label + unit, "end")]
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
            parts.append(text(middle, HEIGHT - 8, label))
            free = middle + half + 8
    return parts


def _dot(kind: str, x: float, y: float, tip: str) -> str:
    return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"><title>{escape(tip)}</title></circle>'


def _svg(parts: Sequence[str], title: str) -> str:
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return head + "".join(parts) + "</svg>"
