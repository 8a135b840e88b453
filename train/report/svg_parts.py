"""Parts of charts as SVG: frame, ticks, curves, bands, bars with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from palaestra.train.report.scales import Scale, scale_for, short_number

WIDTH, HEIGHT = 360, 220  # units
TOP, BOTTOM, RIGHT = 12.0, 36.0, 12.0
COLOURS = 6
LETTER = 6.1  # width of a letter of a label
LONGEST_NAME = 42  # letters of a score's
Number = float | None


def svg(ident: str, title: str, description: str, parts: Sequence[str], height: float) -> str:
    """The whole picture; screen readers read title and description."""
    named = f'aria-labelledby="{ident}-title {ident}-desc"'
    return (
        f'<svg class="chart" id="{ident}" viewBox="0 0 {WIDTH} {height:g}" role="img" tabindex="0" {named} '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{ident}-title">{escape(title)}</title>'
        f'<desc id="{ident}-desc">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def classes(colour: int) -> str:
    """The classes of a curve of that number: its colour, and from the seventh on other dashes; of −1 a plain one."""
    if colour < 0:
        return "plain"
    return f"c{colour % COLOURS}" + (f" dash{colour // COLOURS}" if colour >= COLOURS else "")


def text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> str:
    """Words at a place; ``kind`` is a class."""
    return f'<text{kind and f" class={kind!r}"} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line of a class."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def axes(
    x: Sequence[float], y: Sequence[Number], *, logarithmic: bool = False, from_zero: bool = False, whole: bool = False
) -> tuple[Scale, Scale]:
    """The scales of both axes; on the left there is room for the labels of y. ``whole``: x begins and ends as it is."""
    y_scale = scale_for(y, HEIGHT - BOTTOM, TOP, logarithmic=logarithmic, from_zero=from_zero)
    left = 8.0 + LETTER * max((len(label) for _, label in y_scale.ticks()), default=1) + 14.0
    low, high = min(x, default=0.0), max(x, default=1.0)
    if not whole and low > 0.0 and (low < 0.3 * high or low == high):
        low = 0.0
    return Scale(low, high if high > low else low + 1.0, left, WIDTH - RIGHT), y_scale


def frame(x_scale: Scale, y_scale: Scale, x_label: str, y_label: str, grid: bool = True) -> list[str]:
    """Ticks, labels, and lines across at the ticks of y."""
    bottom, parts = y_scale.start, []
    for value, label in y_scale.ticks():
        y = y_scale(value)
        if grid:
            parts.append(line(x_scale.start, y, x_scale.end, y, "grid"))
        parts.append(text(x_scale.start - 5, y + 3.5, label, "end"))
    for value, label in x_scale.ticks():
        x = min(x_scale(value), WIDTH - LETTER * len(label) / 2)
        parts += [line(x_scale(value), bottom, x_scale(value), bottom + 4, "tick"), text(x, bottom + 15, label)]
    parts.append(line(x_scale.start, bottom, x_scale.end, bottom, "axis"))
    parts.append(text((x_scale.start + x_scale.end) / 2, bottom + 30, x_label, kind="label"))
    middle = (y_scale.start + y_scale.end) / 2
    turned = f'<g transform="translate(9 {middle:.1f}) rotate(-90)">{text(0, 0, y_label, kind="label")}</g>'
    return [*parts, turned]


def across(scale: Scale, top: float, bottom: float, x_label: str) -> list[str]:
    """Ticks of x with lines from top to bottom."""
    parts = []
    for value, label in scale.ticks():
        x = min(max(scale(value), LETTER * len(label) / 2), WIDTH - LETTER * len(label) / 2)
        parts += [line(scale(value), top, scale(value), bottom, "grid"), text(x, bottom + 15, label)]
    return [*parts, text((scale.start + scale.end) / 2, bottom + 30, x_label, kind="label")]


def level(name: str, y: float, x_scale: Scale) -> list[str]:
    """A dashed line across at the height ``y``, in units, and its name, on the left of a high one."""
    left = y < HEIGHT / 2  # where most curves have not come to yet
    words = text(
        x_scale.start + 4 if left else x_scale.end - 2,
        y - 4 if y > TOP + 14 else y + 11,
        name,
        "start" if left else "end",
        "name",
    )
    return [line(x_scale.start, y, x_scale.end, y, "level"), words]


def upright(name: str, x: float, top: float, bottom: float) -> list[str]:
    """A dashed line from top to bottom at ``x``, in units, and its name."""
    left = x > WIDTH / 2
    words = text(x - 4 if left else x + 4, top + 9, name, "end" if left else "start", "name")
    return [line(x, top, x, bottom, "level"), words]


def curve(x: Sequence[float], y: Sequence[Number], x_scale: Scale, y_scale: Scale, kind: str, dots: bool) -> str:
    """A line of a class through the points; where there is no number it is broken."""
    points = [None if v is None or (y_scale.logarithmic and v <= 0) else v for v in y]
    path, marks, last = [], [], len(points) - 1
    for number, (at, value) in enumerate(zip(x, points, strict=True)):
        if value is None:
            continue
        begins = number == 0 or points[number - 1] is None
        path.append(f"{'M' if begins else 'L'}{x_scale(at):.1f} {y_scale(value):.1f}")
        if dots or (begins and (number == last or points[number + 1] is None)):  # alone it would not be seen
            marks.append(f'<circle class="{kind}" cx="{x_scale(at):.1f}" cy="{y_scale(value):.1f}" r="2.6"/>')
    return f'<path class="line {kind}" d="{"".join(path)}"/>{"".join(marks)}'


def band(
    x: Sequence[float], low: Sequence[Number], high: Sequence[Number], x_scale: Scale, y_scale: Scale, kind: str
) -> str:
    """The area between two lines, in one piece for each row of points that have both ends."""
    ends = list(zip(x, low, high, strict=True))
    path = ""
    for whole, group in groupby(ends, key=lambda end: end[1] is not None and end[2] is not None):
        if whole:
            piece = [(at, a, b) for at, a, b in group if a is not None and b is not None]
            there = [f"{x_scale(at):.1f} {_clipped(b, y_scale):.1f}" for at, _, b in piece]
            back = [f"{x_scale(at):.1f} {_clipped(a, y_scale):.1f}" for at, a, _ in reversed(piece)]
            path += f"M{'L'.join([*there, *back])}Z"
    return f'<path class="band {kind}" d="{path}"/>'


def _clipped(value: float, scale: Scale) -> float:
    return scale(max(value, scale.low) if scale.logarithmic else value)


def score_bar(top: float, scale: Scale, base: float, value: float, ends: tuple[Number, Number], kind: str) -> list[str]:
    """The bar of a row of 40 units, from ``base``, and its interval."""
    y, x = top + 25.0, scale(value)
    left, width = min(x, base), abs(x - base)
    parts = [f'<rect class="bar {kind}" x="{left:.1f}" y="{y - 6:.1f}" width="{width:.1f}" height="12" rx="2"/>']
    low, high = ends
    if low is not None and high is not None and high > low:
        a, b = scale(low), scale(high)
        parts += [line(a, y, b, y, "whisker"), line(a, y - 5, a, y + 5, "whisker"), line(b, y - 5, b, y + 5, "whisker")]
    return parts


def score_words(top: float, scale: Scale, name: str, value: float, note: str) -> list[str]:
    """Name and value above the bar of a row."""
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
    told = f'<tspan class="strong">{escape(name)}</tspan>' + (f" {escape(note)}" if note else "")
    return [
        f'<text class="name" x="{scale.start:.1f}" y="{top + 12:.1f}" text-anchor="start">{told}</text>',
        text(scale.end, top + 12, short_number(value), "end", "strong name"),
    ]
