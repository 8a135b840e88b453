"""A Snake board's picture: the snake with its eyes, the apple, and a header with figures and bars."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas, Colour, Point

_STEPS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # (x, y) of UP, RIGHT, DOWN, LEFT


class _Look(NamedTuple):
    """Colours that tell a living snake from a dead one and from a full board."""

    head: Colour
    tail: Colour
    edge: Colour
    frame: Colour
    dead: bool


_ALIVE = _Look("#8cf29a", "#1c7f93", "#0c2a30", "#263644", dead=False)
_DEAD = _Look("#8fb0a0", "#2f5866", "#0b1016", "#c2504d", dead=True)
_FULL = _Look("#ffe48a", "#ee8b3a", "#6b3d14", "#e9b949", dead=False)


def draw_board(canvas: Canvas, state: Any, size: int, patience: float) -> None:
    """Draw one board's state, which is on the host.

    Args:
        canvas: in whose units all lengths are.
        state: a ``SnakeState`` of size × size cells.
        size: of a side.
        patience: the share of the steps without eating that is left, 0 to 1.
    """
    cells = size * size
    look = _FULL if int(state.length) == cells else _DEAD if canvas.over else _ALIVE
    canvas.fill("#0d141c")
    _draw_header(canvas, look, int(state.length) - 1, cells - 1, patience)
    left, top, side, cell = 16.0, 112.0, 608.0, 608.0 / size
    canvas.rectangle(left - 6, top - 6, side + 12, side + 12, look.frame, radius=18)
    canvas.rectangle(left, top, side, side, "#17222d", radius=13)
    for row in range(size):
        for column in range(1 - row % 2, size, 2):
            canvas.rectangle(left + column * cell, top + row * cell, cell, cell, "#1b2835", radius=min(8, cell / 5))

    def centre(index: int) -> Point:
        row, column = divmod(index, size)
        return left + (column + 0.5) * cell, top + (row + 0.5) * cell

    if int(state.fruit) < cells:
        _draw_apple(canvas, *centre(int(state.fruit)), cell)
    body = np.argsort(np.asarray(state.lifetime))[cells - int(state.length) :]  # tail to head: 1, 2, …
    _draw_body(canvas, look, _rounded([centre(int(index)) for index in body]), cell)
    _draw_head(canvas, look, centre(int(state.head)), _STEPS[int(state.heading)], cell)


def _draw_header(canvas: Canvas, look: _Look, fruits: int, most: int, patience: float) -> None:
    _draw_apple(canvas, 42, 42, 56)
    width = canvas.text(str(fruits), 80, 42, 58, "#f4f7fa")
    canvas.text(f"/ {most}", 92 + width, 45, 40, "#7d8b99")
    canvas.text(f"{100 * fruits / most:.0f} %", 624, 42, 50, look.head, "right")
    for y, height, share, colour in ((74, 12, fruits / most, look.head), (90, 4, patience, "#e8a33d")):
        canvas.rectangle(16, y, 608, height, "#22303d", radius=height / 2)
        if share > 0:
            canvas.rectangle(16, y, max(height, 608 * share), height, colour, radius=height / 2)


def _draw_apple(canvas: Canvas, x: float, y: float, cell: float) -> None:
    """An apple with stem, leaf and shine in a cell about (x, y)."""
    r = 0.3 * cell
    canvas.circle(x, y + 0.34 * r, 1.18 * r, "#00000040")
    for dx, dy in ((-0.3, 0.1), (0.3, 0.1), (0.0, 0.3)):
        canvas.circle(x + dx * r, y + dy * r, 0.86 * r, "#e5484d")
    canvas.line([(x, y - 0.5 * r), (x + 0.12 * r, y - 1.15 * r)], "#7a4b2a", 0.2 * r)
    leaf = [(0.1, -0.75), (0.35, -1.15), (0.75, -1.25), (1.0, -1.1), (0.8, -0.75), (0.45, -0.62)]
    canvas.polygon([(x + dx * r, y + dy * r) for dx, dy in leaf], "#5fc96a")
    canvas.circle(x - 0.5 * r, y - 0.2 * r, 0.2 * r, "#ffffffb0")


def _rounded(centres: list[Point]) -> list[Point]:
    """Eight points per cell along the body, from the tail's centre to the head's, a quarter circle in each bend."""
    if len(centres) == 1:
        return centres
    points = [centres[0]]
    for before, here, after in zip(centres, centres[1:], centres[2:], strict=False):
        enter = (before[0] + here[0]) / 2, (before[1] + here[1]) / 2
        leave = (after[0] + here[0]) / 2, (after[1] + here[1]) / 2
        hub = enter[0] + leave[0] - here[0], enter[1] + leave[1] - here[1]  # centre of the bend
        for i in range(8):
            a, b = (1 - i / 8, i / 8) if hub == here else (math.cos(i * math.pi / 16), math.sin(i * math.pi / 16))
            c = 1.0 - a - b
            points.append((c * hub[0] + a * enter[0] + b * leave[0], c * hub[1] + a * enter[1] + b * leave[1]))
    return [*points, centres[-1]]


def _draw_body(canvas: Canvas, look: _Look, points: list[Point], cell: float) -> None:
    """A band from tail to head over a slightly wider dark one, with the tail tapering over 2.5 cells."""
    walked = [0.0] + [(i + 3) / 8 for i in range(1, len(points))]  # cells from the tail's centre
    widths = [cell * (0.72 - 0.36 * max(0.0, 1 - distance / 2.5)) for distance in walked]
    canvas.ribbon(points, [width + 0.07 * cell for width in widths], look.edge, look.edge)
    canvas.circle(*points[-1], 0.445 * cell, look.edge)
    canvas.ribbon(points, widths, look.tail, look.head)


def _draw_head(canvas: Canvas, look: _Look, centre: Point, step: Point, cell: float) -> None:
    """The head with two eyes that look where it goes; crosses for the eyes of a dead snake."""
    (x, y), (ahead, down) = centre, step
    canvas.circle(x, y, 0.41 * cell, look.head)
    for side in (-1, 1):
        eye_x = x + (0.12 * ahead - 0.19 * down * side) * cell
        eye_y = y + (0.12 * down + 0.19 * ahead * side) * cell
        if look.dead:
            r = 0.08 * cell
            for slope in (-1, 1):
                canvas.line([(eye_x - r, eye_y - slope * r), (eye_x + r, eye_y + slope * r)], "#1b222a", 0.05 * cell)
            continue
        canvas.circle(eye_x, eye_y, 0.125 * cell, "#ffffff")
        canvas.circle(eye_x + 0.045 * ahead * cell, eye_y + 0.045 * down * cell, 0.07 * cell, "#10202a")
