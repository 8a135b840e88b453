"""A drawing surface for ``TensorEnv.draw``.

1. A canvas has units of its own, ``picture_size`` of the environment, whatever the number of pixels: a drawing is
   written once and looks the same in a large window and in a small tile of a mosaic. x goes right, y goes down.
2. Everything is drawn at twice the wanted resolution and averaged down, so all edges are smooth.
3. Colours are "#rrggbb", "#rrggbbaa" or tuples of 3 or 4 numbers from 0 to 255; the fourth is the opacity.
4. The only font is the one that comes with pygame, so pictures are the same on every machine.
5. Pictures need no display; only ``rendering/window.py`` opens one.
6. pygame and pygame-ce draw the same, except for the edges of letters (their FreeTypes differ): ``draw.polygon`` and
   ``transform.scale`` choose other pixels in either, so polygons are filled by ``gfxdraw``, one code in both, and cells
   by NumPy.

This module imports pygame, so nothing imports this module until a picture is wanted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pygame
import pygame.gfxdraw

Colour = str | tuple[int, int, int] | tuple[int, int, int, int]
Point = tuple[float, float]
Image = np.ndarray[Any, np.dtype[np.uint8]]  # [height, width, 3], RGB
Table = np.ndarray[Any, np.dtype[np.int64]]
_FINER = 2  # drawn pixels per wanted pixel, along each axis


def even(pixels: float) -> int:
    """The even number of pixels nearest to ``pixels``, at least 2: video formats halve the colour resolution."""
    return max(2, 2 * round(pixels / 2))


def fitted(image: Image, box: tuple[int, int]) -> Image:
    """The image in proportion, as large as ``box`` (width, height) lets it be.

    One that grows to twice its size or more, as those of old games do, grows by a whole factor, so that its pixels stay
    squares with sharp edges; others are scaled smoothly, to even sizes.
    """
    height, width = image.shape[:2]
    scale = min(box[0] / width, box[1] / height)
    if scale >= 2:
        return image.repeat(int(scale), 0).repeat(int(scale), 1)
    size = _even_below(width * scale), _even_below(height * scale)
    return image if size == (width, height) else _to_image(pygame.transform.smoothscale(to_surface(image), size))


def _even_below(pixels: float) -> int:
    return max(2, 2 * int(pixels / 2 + 1e-9))


class Canvas:
    """The surface that an environment draws on.

    Attributes:
        width, height: in the canvas's own units, which all coordinates, sizes and line widths are given in.
        over: True if the episode ended in the state to be drawn (a state alone need not tell). False if unknown.
        past: the states of the same episode before the one to be drawn, oldest first; empty where they are not known.
        policy: the watched policy's action in every state, int64 [stages, states]; None where it has no known table.
        reveals: whether the picture may show what the best policy would do; False while a person plays.
        player: who plays, for a picture that says it.
        players: the names of both players of a game for two, who begins first; empty elsewhere.
    """

    def __init__(
        self,
        width: float,
        height: float,
        *,
        pixels: int | None = None,
        over: bool = False,
        past: Sequence[Any] = (),
        policy: Table | None = None,
        reveals: bool = True,
        player: str = "agent",
    ) -> None:
        """``pixels`` is the width of the image in pixels; None for one pixel per unit."""
        self.width, self.height, self.over, self.past, self.policy = width, height, over, past, policy
        self.reveals, self.player = reveals, player
        self.players: tuple[str, ...] = ()
        wide = even(width if pixels is None else pixels)
        self._size = wide, even(height * wide / width)
        self._scale = _FINER * wide / width
        self._surface = pygame.Surface((self._size[0] * _FINER, self._size[1] * _FINER))

    def image(self) -> Image:
        """The finished picture, uint8 [height, width, 3], both even."""
        return _to_image(pygame.transform.smoothscale(self._surface, self._size))

    def fill(self, colour: Colour) -> None:
        """Cover everything."""
        self._surface.fill(colour)

    def rectangle(
        self, x: float, y: float, width: float, height: float, colour: Colour, *, radius: float = 0.0, line: float = 0.0
    ) -> None:
        """A rectangle from its upper left corner, filled, or ``line`` wide along the inside of its edge."""
        left, top = round(x * self._scale), round(y * self._scale)
        right, bottom = round((x + width) * self._scale), round((y + height) * self._scale)
        box = pygame.Rect(left, top, right - left, bottom - top)
        edge, corner = self._line(line), round(radius * self._scale)

        def draw(surface: pygame.Surface, ink: pygame.Color, shift: Point) -> None:
            pygame.draw.rect(surface, ink, box.move(shift), edge, border_radius=corner)

        self._paint(box, colour, draw)

    def circle(self, x: float, y: float, radius: float, colour: Colour, *, line: float = 0.0) -> None:
        """A disc about (x, y), or a ring ``line`` wide along the inside of its edge."""
        cx, cy, r = x * self._scale, y * self._scale, radius * self._scale
        edge = self._line(line)

        def draw(surface: pygame.Surface, ink: pygame.Color, shift: Point) -> None:
            pygame.draw.circle(surface, ink, (round(cx + shift[0]), round(cy + shift[1])), round(r), edge)

        self._paint(_box([(cx - r, cy - r), (cx + r, cy + r)]), colour, draw)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon with at least 3 corners."""
        corners = self._points(points)
        if not isinstance(colour, str) and len(colour) == 3:  # a shortcut: drawings in space have a thousand of these
            pygame.gfxdraw.filled_polygon(self._surface, corners, colour)
            return

        def draw(surface: pygame.Surface, ink: pygame.Color, shift: Point) -> None:
            pygame.gfxdraw.filled_polygon(surface, [(x + shift[0], y + shift[1]) for x, y in corners], ink)

        self._paint(_box(corners), colour, draw)

    def line(self, points: Sequence[Point], colour: Colour, width: float = 2.0) -> None:
        """A line through all points, with round joints and ends; with many points, a curve or a line chart."""
        corners, half = self._points(points), max(0.5, width * self._scale / 2)

        def draw(surface: pygame.Surface, ink: pygame.Color, shift: Point) -> None:
            joints = [(x + shift[0], y + shift[1]) for x, y in corners]
            for start, end in pairwise(joints):
                if start != end:
                    pygame.gfxdraw.filled_polygon(surface, _bar(start, end, half), ink)
            for joint in joints:
                pygame.draw.circle(surface, ink, (round(joint[0]), round(joint[1])), round(half))

        self._paint(_box(corners).inflate(2 * half + 4, 2 * half + 4), colour, draw)

    def cells(self, colours: Image, x: float, y: float, width: float, height: float) -> None:
        """A rectangle from its upper left corner, divided into equal cells with the given colours [rows, columns, 3].

        One call, however many cells there are.
        """
        left, top = round(x * self._scale), round(y * self._scale)
        wide, high = round((x + width) * self._scale) - left, round((y + height) * self._scale) - top
        rows, columns = colours.shape[:2]
        packed = np.dstack((colours, np.full((rows, columns), 255, np.uint8))).view(np.uint32)[..., 0]  # fast to index
        pixels = packed.take(np.arange(wide) * columns // wide, 1).take(np.arange(high) * rows // high, 0)
        self._surface.blit(pygame.image.frombuffer(pixels.tobytes(), (wide, high), "RGBX"), (left, top))

    def ribbon(self, points: Sequence[Point], widths: Sequence[float], first: Colour, last: Colour) -> None:
        """A band through the points with round ends, ``widths`` wide at each, its colour going from first to last.

        The points must lie close together where the band bends.
        """
        path, half = np.array(points) * self._scale, np.array(widths) * (self._scale / 2)
        share = np.linspace(0.0, 1.0, len(path))[:, None]
        inks = ((1 - share) * tuple(pygame.Color(first)) + share * tuple(pygame.Color(last))).astype(int).tolist()
        for end in (0, -1):
            pygame.draw.circle(self._surface, inks[end], path[end].round().tolist(), round(half[end]))
        if len(path) == 1:
            return
        tangent = np.gradient(path, axis=0)
        tangent /= np.hypot(tangent[:, 0], tangent[:, 1])[:, None]
        across = np.stack((-tangent[:, 1], tangent[:, 0]), 1) * half[:, None]
        left, right = (path + across).tolist(), (path - across).tolist()
        for i in range(len(path) - 1):
            pygame.gfxdraw.filled_polygon(self._surface, (left[i], left[i + 1], right[i + 1], right[i]), inks[i])

    def text(
        self,
        text: str,
        x: float,
        y: float,
        size: float,
        colour: Colour,
        align: Literal["left", "center", "right"] = "left",
    ) -> float:
        """One line of text whose left end, middle or right end is at x and whose middle height is at y.

        ``size`` is the height of the line; the result is its width.
        """
        words, (width, height) = _words(text, max(1, round(size * self._scale)), tuple(pygame.Color(colour)))
        left = x * self._scale - {"left": 0.0, "center": width / 2, "right": width}[align]
        self._surface.blit(words, (round(left), round(y * self._scale - height / 2)))
        return width / self._scale

    @staticmethod
    def text_width(text: str, size: float) -> float:
        """How wide :meth:`text` makes a line, in the units of a canvas with one pixel per unit."""
        return _words(text, max(1, round(size * _FINER)), (0, 0, 0, 255))[1][0] / _FINER

    @staticmethod
    def mix(first: Colour, second: Colour, share: float) -> Colour:
        """The colour ``share`` (0 … 1) of the way from the first to the second."""
        r, g, b, a = pygame.Color(first).lerp(pygame.Color(second), min(1.0, max(0.0, share)))
        return r, g, b, a

    def _points(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._scale, y * self._scale) for x, y in points]

    def _line(self, width: float) -> int:
        """pygame's line width: 0 fills."""
        return max(1, round(width * self._scale)) if width else 0

    def _paint(
        self, box: pygame.Rect, colour: Colour, draw: Callable[[pygame.Surface, pygame.Color, Point], None]
    ) -> None:
        """Draw straight onto the surface or, if the colour lets some light through, over it through a layer."""
        ink = pygame.Color(colour)
        if ink.a == 255:
            draw(self._surface, ink, (0, 0))
            return
        box = box.clip(self._surface.get_rect())
        if box.width and box.height:
            layer = pygame.Surface(box.size, pygame.SRCALPHA)
            draw(layer, pygame.Color(ink.r, ink.g, ink.b), (-box.x, -box.y))
            layer.set_alpha(ink.a)
            self._surface.blit(layer, box)


@functools.lru_cache(maxsize=512)  # most texts of a picture, such as labels of axes, stand in the next one too
def _words(text: str, size: int, ink: tuple[int, ...]) -> tuple[pygame.Surface, tuple[int, int]]:
    """A line of text, and its width and height (pygame-ce renders taller pictures than that)."""
    if not pygame.font.get_init():  # Gymnasium environments shut pygame down when they close
        pygame.font.init()
    font = pygame.font.Font(None, size)
    words = font.render(text, True, ink)
    words.set_alpha(ink[3])
    return words, font.size(text)


def _box(points: Sequence[Point]) -> pygame.Rect:
    """The whole pixels that contain the points."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, top = int(min(xs)) - 1, int(min(ys)) - 1
    return pygame.Rect(left, top, int(max(xs)) + 2 - left, int(max(ys)) + 2 - top)


def _bar(start: Point, end: Point, half: float) -> list[Point]:
    """The corners of the rectangle that reaches ``half`` to both sides of a segment."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    scale = half / (dx * dx + dy * dy) ** 0.5
    ox, oy = -dy * scale, dx * scale
    x0, y0, x1, y1 = *start, *end
    return [(x0 + ox, y0 + oy), (x1 + ox, y1 + oy), (x1 - ox, y1 - oy), (x0 - ox, y0 - oy)]


def to_surface(image: Image) -> pygame.Surface:
    return pygame.surfarray.make_surface(image.swapaxes(0, 1))


def _to_image(surface: pygame.Surface) -> Image:
    width, height = surface.get_size()
    pixels = bytearray(pygame.image.tobytes(surface, "RGB"))  # six times as fast as pygame.surfarray.array3d
    return np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)
