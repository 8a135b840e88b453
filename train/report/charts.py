"""Charts as SVG for a page: curves with bands, scores with intervals, histograms, maps.

1. A chart is 360 units wide, about as wide as a phone shows it, so that its letters are legible there; a page puts
   several beside each other.
2. Colours are classes (``c0`` … ``c5``), for which the page's style has values for light, dark and paper; curves differ
   in their dashes too.
3. Each chart has a title and a description for screen readers, the same numbers as a table, and ``hover``, what the
   page's script tells of the place that a pointer or the arrow keys are at.

Whoever shows them calls ``chart_html`` of :mod:`palaestra.train.report.html_page`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from palaestra.train.report import svg_parts as parts_of
from palaestra.train.report.scales import Scale, scale_for, short_number
from palaestra.train.report.svg_parts import BOTTOM, HEIGHT, LETTER, RIGHT, TOP, WIDTH, Number

_ROW = 40.0  # units, of a score
_TABLE_ROWS = 50  # at most; the data have all
# a map's colours from low to high: dark blue, teal, green, yellow, each lighter than the one before
_RAMP = ((40, 24, 92), (46, 84, 140), (32, 144, 140), (92, 196, 98), (250, 228, 60))


@dataclass(frozen=True)
class Curve:
    """A line; ``y``, and the ends ``low`` and ``high`` of a band if there is one, have a number or None for each ``x``.

    Attributes:
        dots: the points are measurements one by one, which are marked.
        colour: number of the colour, 0 … 5; larger ones begin anew with other dashes, −1 is a plain one.
    """

    name: str
    x: Sequence[float]
    y: Sequence[Number]
    low: Sequence[Number] = ()
    high: Sequence[Number] = ()
    dots: bool = False
    colour: int = 0


@dataclass(frozen=True)
class ScoreRow:
    """A score with the ends of its interval, if it has one; ``note`` stands behind its name."""

    name: str
    value: float
    low: Number = None
    high: Number = None
    colour: int = 0
    note: str = ""


@dataclass(frozen=True)
class SvgChart:
    """A chart and what goes with it.

    Attributes:
        svg: the picture.
        hover: for the page's script.
        heads, rows: the numbers as a table.
        legend: (classes, name) of each curve, where there are several.
        note: a line below it.
    """

    ident: str
    title: str
    svg: str
    hover: dict[str, Any]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    legend: Sequence[tuple[str, str]] = ()
    note: str = ""


def line_chart(
    ident: str,
    title: str,
    curves: Sequence[Curve],
    *,
    x_label: str,
    y_label: str,
    levels: Sequence[tuple[str, float]] = (),
    logarithmic: bool = False,
    from_zero: bool = False,
    note: str = "",
) -> SvgChart:
    """Curves over one axis.

    Args:
        ident: a name of the chart, unique on its page, of letters, digits and hyphens.
        x_label, y_label: the quantities on the axes, with their units.
        levels: (name, value) of dashed lines across.
        logarithmic: whether powers of ten are equally far apart; numbers that are not positive are left out then.
        from_zero: whether the axis of y begins at 0.
    """
    heights = [v for curve in curves for v in (*curve.y, *curve.low, *curve.high)] + [v for _, v in levels]
    across = [x for curve in curves for x in curve.x]
    x_scale, y_scale = parts_of.axes(across, heights, logarithmic=logarithmic, from_zero=from_zero)
    parts = parts_of.frame(x_scale, y_scale, x_label, y_label)
    for name, value in levels:
        parts += parts_of.level(name, y_scale(value), x_scale)
    kinds = [parts_of.classes(curve.colour) for curve in curves]
    banded = [(curve, kind) for curve, kind in zip(curves, kinds, strict=True) if curve.low and curve.high]
    parts += [parts_of.band(c.x, c.low, c.high, x_scale, y_scale, kind) for c, kind in banded]
    for curve, kind in zip(curves, kinds, strict=True):
        parts.append(parts_of.curve(curve.x, curve.y, x_scale, y_scale, kind, curve.dots))
    hover = {
        "kind": "curves",
        "x": [x_scale.low, x_scale.high, x_scale.start, x_scale.end],
        "y": [y_scale.low, y_scale.high, y_scale.start, y_scale.end],
        "logarithmic": logarithmic,
        "x_label": x_label,
        "series": [_series(curve) for curve in curves],
    }
    kinds = [f"{kind} dots" if c.dots else kind for c, kind in zip(curves, kinds, strict=True)]
    legend = [(kind, c.name) for kind, c in zip(kinds, curves, strict=True)] if len(curves) > 1 else []
    told = f"{y_label} over {x_label}. " + " ".join(_told(curve) for curve in curves)
    svg = parts_of.svg(ident, title, told, parts, HEIGHT)
    return SvgChart(ident, title, svg, hover, *_curve_table(curves, x_label), legend, note)


def _series(curve: Curve) -> dict[str, Any]:
    ends = {"low": list(curve.low), "high": list(curve.high)} if curve.low and curve.high else {}
    return {"name": curve.name, "x": list(curve.x), "y": list(curve.y), **ends}


def _told(curve: Curve) -> str:
    """What a curve does, in a sentence for those who do not see it."""
    known = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]
    if not known:
        return f"{curve.name}: no numbers."
    first, last = known[0], known[-1]
    best = max(known, key=lambda point: point[1])
    return (
        f"{curve.name}: from {short_number(first[1])} at {short_number(first[0])} to {short_number(last[1])} at "
        f"{short_number(last[0])}, with {short_number(best[1])} at {short_number(best[0])} the highest."
    )


def _curve_table(curves: Sequence[Curve], x_label: str) -> tuple[list[str], list[list[str]]]:
    """A row for each x, or of as many as a table has room for, evenly chosen, always with those of dotted curves."""
    found: dict[float, list[Number]] = {}
    for number, curve in enumerate(curves):
        for x, y in zip(curve.x, curve.y, strict=True):
            found.setdefault(x, [None] * len(curves))[number] = y
    wanted = {x for curve in curves if curve.dots for x in curve.x}
    others = sorted(found.keys() - wanted)
    every = max(1, math.ceil(len(others) / _TABLE_ROWS))
    chosen = sorted(wanted | set(others[::every]) | set(others[-1:]))
    rows = [[f"{x:,.10g}", *("–" if y is None else short_number(y) for y in found[x])] for x in chosen]
    return [x_label, *(curve.name for curve in curves)], rows


def interval_chart(
    ident: str,
    title: str,
    rows: Sequence[ScoreRow],
    *,
    x_label: str,
    levels: Sequence[tuple[str, float]] = (),
    note: str = "",
) -> SvgChart:
    """Scores below each other, each a bar with its interval; ``levels`` are (name, value) of upright lines."""
    ends = [v for row in rows for v in (row.value, row.low, row.high)] + [value for _, value in levels]
    from_zero = min((v for v in ends if v is not None), default=0.0) >= 0.0
    scale = scale_for(ends, 12.0, WIDTH - 14.0, from_zero=from_zero)
    top = 18.0 if levels else 4.0
    height = top + _ROW * len(rows) + BOTTOM
    base = scale(min(max(0.0, scale.low), scale.high))
    parts, words = parts_of.across(scale, top, height - BOTTOM, x_label), list[str]()
    for number, row in enumerate(rows):
        place, kind = top + _ROW * number, parts_of.classes(row.colour)
        parts += parts_of.score_bar(place, scale, base, row.value, (row.low, row.high), kind)
        words += parts_of.score_words(place, scale, row.name, row.value, row.note)
    for name, value in levels:
        parts += parts_of.upright(name, scale(value), 2.0, height - BOTTOM)
    parts += words  # over the lines
    texts = [
        f"{row.name}: {short_number(row.value)}" + (f" ({_interval(row)})" if _interval(row) else "") for row in rows
    ]
    marks = [[top + _ROW * n, top + _ROW * (n + 1), words] for n, words in enumerate(texts)]
    numbers = [{"name": row.name, "value": row.value, "low": row.low, "high": row.high} for row in rows]
    hover = {"kind": "rows", "marks": marks, "rows": numbers}
    known = any(_interval(row) for row in rows)
    heads = ("", x_label, "95 % interval") if known else ("", x_label)
    table = [[row.name, short_number(row.value), _interval(row) or "–"][: len(heads)] for row in rows]
    svg = parts_of.svg(ident, title, f"{x_label}. {'. '.join(texts)}.", parts, height)
    return SvgChart(ident, title, svg, hover, heads, table, (), note)


def _interval(row: ScoreRow) -> str:
    if row.low is None or row.high is None or row.low == row.high:
        return ""
    return f"{short_number(row.low)} to {short_number(row.high)}"


def histogram_chart(
    ident: str,
    title: str,
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    x_label: str,
    y_label: str,
    levels: Sequence[tuple[str, float]] = (),
    marked: Sequence[int] = (),
    names: Sequence[str] = (),
    note: str = "",
) -> SvgChart:
    """Counts between edges, of which there is one more than counts.

    Args:
        levels: (name, value) of lines from top to bottom.
        marked: numbers of bars that stand out.
        names: of the bars, as people are told; their edges unless given.
    """
    across = [*edges, *(value for _, value in levels)]
    x_scale, y_scale = parts_of.axes(across, [0.0, *counts], from_zero=True, whole=True)
    parts = parts_of.frame(x_scale, y_scale, x_label, y_label)
    names = names or [f"{short_number(a)} to {short_number(b)}" for a, b in pairwise(edges)]
    marks = []
    for number, count in enumerate(counts):
        left, right, y = x_scale(edges[number]), x_scale(edges[number + 1]), y_scale(count)
        gap, kind = (1.0 if right - left > 4.0 else 0.0), ("bar marked" if number in marked else "bar c0")
        if count:
            size = f'width="{max(right - left - gap, 0.5):.1f}" height="{y_scale.start - y:.1f}"'
            parts.append(f'<rect class="{kind}" x="{left + gap / 2:.1f}" y="{y:.1f}" {size}/>')
        marks.append([round(left, 1), round(right, 1), f"{names[number]}: {short_number(count)} {y_label}"])
    for name, value in levels:
        parts += parts_of.upright(name, x_scale(value), TOP, HEIGHT - BOTTOM)
    most = max(range(len(counts)), key=lambda n: counts[n], default=None)
    told = "Nothing." if most is None else f"{short_number(sum(counts))} {y_label}, most of them at {names[most]}."
    table = [[names[n], short_number(count)] for n, count in enumerate(counts) if count]
    hover = {"kind": "columns", "marks": marks, "edges": list(edges), "counts": list(counts)}
    svg = parts_of.svg(ident, title, f"{x_label}: {told}", parts, HEIGHT)
    return SvgChart(ident, title, svg, hover, (x_label, y_label), table, (), note)


def map_chart(
    ident: str,
    title: str,
    values: Sequence[Sequence[Number]],
    *,
    x_label: str,
    y_label: str,
    value_label: str = "",
    ends: tuple[float, float] | None = None,
    first: tuple[float, float] = (0.0, 0.0),
    steps: tuple[float, float] = (1.0, 1.0),
    note: str = "",
) -> SvgChart:
    """Numbers in rows, the first one at the bottom, as colours; None leaves a hole.

    Args:
        value_label: the quantity that is a colour, with its unit.
        ends: numbers of the first and the last colour; the least and the greatest number unless given.
        first: x of the first column and y of the first row; ``steps``: from one to the next.
    """
    known = sorted({v for row in values for v in row if v is not None})
    low, high = ends or ((known[0], known[-1]) if known else (0.0, 1.0))
    columns, rows = len(values[0]), len(values)
    alongs, ups = [first[0] + steps[0] * n for n in range(columns)], [first[1] + steps[1] * n for n in range(rows)]
    left = 22.0 + LETTER * len(short_number(ups[-1], steps[1])) + 6.0
    x_scale = Scale(alongs[0] - steps[0] / 2, alongs[-1] + steps[0] / 2, left, WIDTH - RIGHT)
    y_scale = Scale(ups[0] - steps[1] / 2, ups[-1] + steps[1] / 2, HEIGHT - BOTTOM, TOP + 22.0)
    wide, deep = (x_scale.end - left) / columns, (y_scale.start - y_scale.end) / rows
    parts = _key_of_colours(low, high, value_label, left)
    for value in known:
        cells = ((r, c) for r, row in enumerate(values) for c, v in enumerate(row) if v == value)
        corners = ((left + c * wide, y_scale.start - (r + 1) * deep) for r, c in cells)
        path = "".join(f"M{x:.1f} {y:.1f}h{wide + 0.3:.1f}v{deep + 0.3:.1f}h-{wide + 0.3:.1f}z" for x, y in corners)
        parts.append(f'<path fill="{colour_of(value, low, high)}" d="{path}"/>')
    parts += parts_of.frame(x_scale, y_scale, x_label, y_label, grid=False)
    hover = {"kind": "map", "x": [left, wide], "y": [y_scale.start, deep], "columns": alongs, "rows": ups}
    hover |= {"x_label": x_label, "y_label": y_label, "value_label": value_label}
    hover |= {"values": [list(row) for row in values]}
    told = f"{value_label} as colours from {short_number(low)} to {short_number(high)}, {y_label} over {x_label}."
    every, each = max(1, math.ceil(columns / 10)), max(1, math.ceil(rows / 20))
    heads = [y_label, *(f"{x_label} {at:g}" for at in alongs[::every])]
    table = [
        [f"{ups[r]:g}", *("–" if v is None else short_number(v) for v in values[r][::every])]
        for r in range(0, rows, each)
    ]
    return SvgChart(ident, title, parts_of.svg(ident, title, told, parts, HEIGHT), hover, heads, table, (), note)


def _key_of_colours(low: float, high: float, label: str, left: float) -> list[str]:
    """The colours from low to high in a strip above the map, with both numbers."""
    ends, count = (short_number(low), short_number(high)), 24
    start = left + LETTER * len(ends[0]) + 6.0
    wide = 96.0 / count
    parts = [parts_of.text(left, TOP + 8, ends[0], "start")]
    for n in range(count):
        colour = colour_of(low + (high - low) * n / (count - 1), low, high)
        parts.append(
            f'<rect x="{start + n * wide:.1f}" y="{TOP - 1}" width="{wide + 0.3:.1f}" height="10" fill="{colour}"/>'
        )
    parts.append(parts_of.text(start + 102.0, TOP + 8, ends[1], "start"))
    return [*parts, parts_of.text(WIDTH - RIGHT, TOP + 8, label, "end", "label")]


def colour_of(value: float, low: float, high: float) -> str:
    """The colour of a number on a map, as #rrggbb."""
    share = 0.5 if high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    place = share * (len(_RAMP) - 1)
    number = min(int(place), len(_RAMP) - 2)
    mixed = (a + (b - a) * (place - number) for a, b in zip(_RAMP[number], _RAMP[number + 1], strict=True))
    return "#" + "".join(f"{round(part):02x}" for part in mixed)
