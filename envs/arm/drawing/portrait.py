"""The portrait of an arm: one pose on a floor of tiles, beside a staff that tells its size.

1. The arm is turned about the vertical so that the camera sees it from the side, with gravity downwards, and the camera
   is as near as the picture holds the whole of it.
2. The staff stands upright beside the arm, as far from the camera as the base, with a band for every tile of the floor
   and its heights in metres.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.drawing.body import Ring, Tint, arm_solids, length_of, turned
from palaestra.envs.arm.drawing.camera import Camera, Floats, Painter
from palaestra.envs.arm.drawing.scene import BACKGROUND, draw_floor, draw_shadow, tile_of
from palaestra.envs.arm.dynamics import forward_kinematics

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas

SIZE = (720, 720)  # of the canvas
_TOWARDS = np.array((0.56, -0.77, 0.31))  # from the arm to the camera
_RIGHT = np.array((0.77, 0.56, 0.0)) / math.hypot(0.77, 0.56)  # what is to the right in the picture
_NARROW = 2.6  # focal length by the picture's side
_TOP, _BOTTOM, _SIDE = 0.17, 0.06, 0.08  # shares of the picture that stay free
_INK, _FAINT = "#f4f7fa", "#8fa0b0"
_BANDS: tuple[Tint, Tint] = ((236.0, 239.0, 243.0), (214.0, 78.0, 74.0))
_UP = np.array((0.0, 0.0, 1.0))


def draw_portrait(canvas: Canvas, chain: SerialChain, q: Any, title: str, line: str = "") -> None:
    """Draw an arm in a pose.

    Args:
        canvas: to draw on.
        chain: the arm.
        q: [dof] rad or m.
        title: of the picture.
        line: what stands below the title.
    """
    pose = forward_kinematics(chain, torch.tensor([list(q)], dtype=torch.float64))
    ground, length = np.array(chain.base.position), length_of(chain)
    solids = arm_solids(chain, pose.rotation[0].numpy(), pose.position[0].numpy())
    frames = pose.position[0].numpy() - ground
    turn = _turn(frames[-1], np.array(chain.gravity))
    frames, quads, colours = frames @ turn.T, (solids.quads - ground) @ turn.T, solids.colours
    tile = tile_of(length)
    corners = quads.reshape(-1, 3)
    foot = _RIGHT * (float((corners @ _RIGHT).min()) - 0.1 * length)
    bands = math.ceil(max(0.3 * length, float(corners[:, 2].max())) / tile)
    camera = _fitted(canvas, np.concatenate((corners, [foot, foot + bands * tile * _UP])))
    painter = Painter(canvas, camera)
    canvas.fill(BACKGROUND)
    draw_floor(canvas, camera, np.zeros(3), length)
    draw_shadow(canvas, camera, np.zeros(3), frames, length)
    painter.solid(quads, colours)
    painter.solid(*_staff(foot, bands, tile, 0.008 * length))
    painter.paint()
    _label(canvas, camera, foot, bands, tile)
    unit = canvas.width / SIZE[0]
    for text, y, height, colour in ((title, 42, 44, _INK), (line, 80, 26, _FAINT)):
        shrunk = min(1.0, (SIZE[0] - 56) / max(1.0, canvas.text_width(text, height)))
        canvas.text(text, 28 * unit, y * unit, height * shrunk * unit, colour)


def _turn(tool: Floats, gravity: Floats) -> Floats:
    """The rotation that brings gravity to −z, and a tool at ``tool`` from the base to the side of x."""
    strength = float(np.linalg.norm(gravity))
    up = -gravity / strength if strength > 0.0 else _UP
    ahead = tool - (tool @ up) * up
    if np.linalg.norm(ahead) < 1e-6:
        ahead = np.cross(np.eye(3)[int(np.abs(up).argmin())], up)
    ahead /= np.linalg.norm(ahead)
    return np.stack((ahead, np.cross(up, ahead), up))


def _fitted(canvas: Canvas, points: Floats) -> Camera:
    """The nearest camera that sees all points [K, 3] in the free part of the picture."""
    middle = (points.min(0) + points.max(0)) / 2
    size = float(np.linalg.norm(points.max(0) - points.min(0)))
    room = np.array((canvas.width * (1.0 - 2 * _SIDE), canvas.height * (1.0 - _TOP - _BOTTOM)))
    near, far = 0.6 * size, 20.0 * size
    for _ in range(30):
        distance = (near + far) / 2
        low, high = _extent(canvas, points, middle + distance * _TOWARDS, middle)
        near, far = (near, distance) if (high - low <= room).all() else (distance, far)
    low, high = _extent(canvas, points, middle + far * _TOWARDS, middle)
    free = np.array((canvas.width / 2, canvas.height * (_TOP + 1.0 - _BOTTOM) / 2))
    x, y = (free - (low + high) / 2).tolist()
    return Camera.looking(middle + far * _TOWARDS, middle, _NARROW * canvas.width, (x, y))


def _extent(canvas: Canvas, points: Floats, position: Floats, at: Floats) -> tuple[Floats, Floats]:
    """The corners of what the points take up around the picture's middle."""
    places, _ = Camera.looking(position, at, _NARROW * canvas.width, (0.0, 0.0)).project(points)
    return places.min(0), places.max(0)


def _staff(foot: Floats, bands: int, tile: float, radius: float) -> tuple[Floats, Floats]:
    """Facets of an upright staff whose bands are one tile high."""
    rings = [Ring(0.0, 0.0), Ring(0.0, radius)]
    for band in range(bands):
        rings += [Ring((band + share) * tile, radius, _BANDS[band % 2]) for share in (0.5, 1.0)]  # pieces to paint
        rings.append(Ring((band + 1) * tile, radius, _BANDS[(band + 1) % 2]))
    rings.append(Ring(bands * tile, 0.0))
    quads, colours = turned(foot, _UP, rings)
    return quads, colours


def _label(canvas: Canvas, camera: Camera, foot: Floats, bands: int, tile: float) -> None:
    """Heights beside the staff, about four of them."""
    unit = canvas.width / SIZE[0]
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if bands / step <= 5 or step == 100)
    for mark in range(0, bands + 1, step):
        (x, y), _ = camera.project(foot + mark * tile * _UP)
        text = "0" if mark == 0 else f"{mark * tile:.10g} m"
        canvas.text(text, float(x) - 14 * unit, float(y), 22 * unit, _FAINT, "right")
