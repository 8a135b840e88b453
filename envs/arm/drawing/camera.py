"""A perspective camera, and a painter that draws what stands in space with a canvas's flat shapes.

1. A point's place on the canvas is centre + focal · (right, down) / depth, depth being measured along the view.
2. Solids are quadrilaterals whose corners run counter-clockwise seen from outside (two corners may coincide). Those
   that face away are left out; the others are shaded by the angle between their normal and the light (Lambert).
3. Everything is drawn from the farthest to the nearest (painter's algorithm), by the depth of its middle: what is
   large must be cut into pieces no larger than its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas, Colour, Point

Floats = np.ndarray[Any, np.dtype[np.float64]]

_NEAR = 0.02  # share of the distance to what is looked at; nothing is drawn larger than it would be at this depth
LIGHT = np.array((-0.30, -0.52, 0.80))  # towards the light of a camera that looks along −0.80, 1.10
_AMBIENT, _LAMP, _VIEWER = 0.34, 0.56, 0.16  # shares of brightness: ambient, from the light, from the camera


@dataclass(frozen=True)
class Camera:
    """The point of view of a picture.

    Attributes:
        position: [3] m.
        axes: [3, 3], the unit vectors right, down and forward as rows.
        focal: canvas units per unit of slope.
        centre: the point of the canvas that the view is aimed at.
        near: the smallest depth that counts, m.
        light: [3] the direction towards the light, in the axes of the world.
    """

    position: Floats
    axes: Floats
    focal: float
    centre: Point
    near: float
    light: Floats

    @classmethod
    def looking(cls, position: Floats, at: Floats, focal: float, centre: Point, light: Floats = LIGHT) -> Camera:
        """A camera held upright (z is up), its optical axis through ``at``, which is not straight above or below it."""
        distance = float(np.linalg.norm(at - position))
        forward = (at - position) / distance
        right = np.array((forward[1], -forward[0], 0.0))
        right /= np.linalg.norm(right)
        axes = np.stack((right, np.cross(forward, right), forward))
        return cls(position, axes, focal, centre, _NEAR * distance, light)

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Places on the canvas [..., 2] and depths [...] (m) of points [..., 3]."""
        local = (points - self.position) @ self.axes.T
        depth = local[..., 2].clip(min=self.near)
        return self.focal * local[..., :2] / depth[..., None] + self.centre, depth


class Painter:
    """Collects what is to be seen and draws it in the order of depth."""

    def __init__(self, canvas: Canvas, camera: Camera) -> None:
        self.canvas, self.camera = canvas, camera
        self._items: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def solid(self, quads: Floats, colours: Floats, opacity: int = 255) -> None:
        """Facets [M, 4, 3] of closed bodies, with colours [M, 3] (0 … 255) under full light."""
        normal = np.cross(quads[:, 2] - quads[:, 0], quads[:, 3] - quads[:, 1])
        to_camera = self.camera.position - quads.mean(1)
        facing = np.einsum("mk,mk->m", normal, to_camera)
        seen = facing > 0.0
        normal, to_camera = normal[seen], to_camera[seen]
        size = np.linalg.norm(normal, axis=1)
        light = self.camera.light / np.linalg.norm(self.camera.light)
        lamp = (normal @ light / size).clip(min=0.0)
        viewer = facing[seen] / (size * np.linalg.norm(to_camera, axis=1))
        bright = _AMBIENT + _LAMP * lamp + _VIEWER * viewer
        shades = (colours[seen] * bright[:, None]).clip(0, 255).astype(int)
        if opacity < 255:
            shades = np.insert(shades, 3, opacity, axis=1)
        corners, depth = self.camera.project(quads[seen])
        draw = self.canvas.polygon
        for distance, points, ink in zip(depth.mean(1).tolist(), corners.tolist(), shades.tolist(), strict=True):
            self._items.append((distance, draw, (points, ink)))

    def line(self, points: Sequence[Any] | Floats, colour: Colour, width: float) -> None:
        """A line through points [K, 3], ``width`` canvas units wide, every piece at its own depth."""
        places, depth = self.camera.project(np.asarray(points, dtype=np.float64))
        for (start, end), near in zip(pairwise(places.tolist()), (depth[1:] + depth[:-1]) / 2, strict=True):
            self._items.append((float(near), self.canvas.line, ([start, end], colour, width)))

    def ribbon(self, points: Floats, colours: Sequence[Colour], widths: Floats) -> None:
        """A flat curve through points [K, 3], ``widths`` [K] canvas units wide; piece i has the i-th of K − 1 colours.

        Pieces too short to be seen are left out.
        """
        places, depth = self.camera.project(points)
        apart = np.linalg.norm(np.diff(places, axis=0), axis=1) > 0.2
        kept = np.append(apart, True)
        places, depth, widths = places[kept], depth[kept], widths[kept]
        if len(places) < 2:
            return
        tangent = np.gradient(places, axis=0)
        tangent /= np.hypot(tangent[:, 0], tangent[:, 1]).clip(min=1e-9)[:, None]
        across = np.stack((-tangent[:, 1], tangent[:, 0]), 1) * widths[:, None] / 2
        left, right = (places + across).tolist(), (places - across).tolist()
        inks = [colour for colour, visible in zip(colours, apart, strict=True) if visible]
        for i, ink in enumerate(inks):
            corners = (left[i], left[i + 1], right[i + 1], right[i])
            self._items.append((float(depth[i : i + 2].mean()), self.canvas.polygon, (corners, ink)))

    def ball(self, centre: Floats, radius: float, colour: Colour) -> None:
        """A shaded ball of ``radius`` m; it hides what is inside it."""
        (x, y), depth = self._place(centre)
        self._items.append((depth - radius, self._draw_ball, (x, y, self.camera.focal * radius / depth, colour)))

    def ring(self, centre: Floats, radius: float, colour: Colour, width: float) -> None:
        """A circle of ``radius`` m that faces the camera, its line ``width`` canvas units wide."""
        (x, y), depth = self._place(centre)
        size = self.camera.focal * radius / depth + width / 2
        self._items.append((depth, partial(self.canvas.circle, line=width), (x, y, size, colour)))

    def paint(self) -> None:
        """Draw all that was collected."""
        for _, draw, arguments in sorted(self._items, key=itemgetter(0), reverse=True):
            draw(*arguments)
        self._items.clear()

    def _place(self, point: Floats) -> tuple[Point, float]:
        place, depth = self.camera.project(point)
        return (float(place[0]), float(place[1])), float(depth)

    def _draw_ball(self, x: float, y: float, radius: float, colour: Colour) -> None:
        dark, light = self.canvas.mix(colour, "#000000", 0.45), self.canvas.mix(colour, "#ffffff", 0.55)
        self.canvas.circle(x, y, radius, dark)
        for share, tint in ((0.86, 0.25), (0.68, 0.5), (0.5, 0.75)):
            shift = (1.0 - share) * radius * 0.7
            self.canvas.circle(x - shift, y - shift, share * radius, self.canvas.mix(dark, colour, 2 * tint - tint**2))
        self.canvas.circle(x - 0.33 * radius, y - 0.36 * radius, 0.2 * radius, light)
