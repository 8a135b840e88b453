"""The picture of a reaching arm: perspective from a fixed three-quarter view.

1. The camera depends on the arm's length and on the box of the targets only, so that nothing but the arm moves. It
   stands to the right of the way from the base to the box, and farther off where these would not be in the picture.
2. The floor lies level at the height of the base, in tiles of 10 cm (for arms much longer or shorter, of another power
   of ten) that fade away; the arm's soft shadow falls straight down.
3. The target is a ball of the tolerance's radius with a halo and a line down to the floor; a target pose also has its
   three axes (x red, y green, z blue) and the hand as it should be, in glass.
4. Colours tell how it goes: amber while the arm is on its way, green once it has reached the target, red where the
   episode ended without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
import torch

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.drawing.body import arm_solids, hand_size, hand_solids, has_hand, length_of
from palaestra.envs.arm.drawing.camera import LIGHT, Camera, Floats, Painter
from palaestra.envs.arm.dynamics import forward_kinematics

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas

RGB = tuple[int, int, int]
Box = Sequence[tuple[float, float]]  # (low, high) along x, y and z, m

BACKGROUND, _FLOOR = (13, 20, 28), (44, 58, 71)
_UNDERWAY, _REACHED, _MISSED = (255, 176, 46), (61, 220, 132), (255, 90, 95)
_AXES = ("#ff6b6b", "#7ee787", "#6ea8fe")
_REMEMBERED = 120  # points of the trail
_CAMERA = np.array((0.80, -1.10, 0.50))  # from what it looks at, by the arm's length, for a box in the direction of x
_FARTHER = 25  # steps of a tenth that it may be farther off


def draw_arm(
    canvas: Canvas,
    chain: SerialChain,
    q: Floats,
    target: Floats,
    *,
    box: Box,
    trail: Floats,
    seconds: float,
    reached: bool,
    tolerance: float,
    rotation: Floats | None = None,
    angle_tolerance: float | None = None,
) -> None:
    """Draw an arm on its way to a target.

    Args:
        canvas: to draw on; its ``over`` tells a miss from an arm that is on its way.
        chain: the arm.
        q: [dof] joint angles, rad.
        target: [3] where the tool centre shall go, m.
        box: where targets come from, (low, high) along x, y and z, m.
        trail: [K, 3] earlier places of the tool centre, oldest first, m; may be empty.
        seconds: since the episode began.
        reached: True if the task is done.
        tolerance: largest distance that counts as reached, m.
        rotation: [3, 3] how the tool shall be turned, its axes as columns. None if that does not matter.
        angle_tolerance: largest angle that counts as reached, rad.
    """
    pose = forward_kinematics(chain, torch.tensor(np.asarray(q), dtype=torch.float64).unsqueeze(0))
    rotations, positions = pose.rotation[0].numpy(), pose.position[0].numpy()
    target, past = np.asarray(target, np.float64), np.asarray(trail, np.float64).reshape(-1, 3)
    mood = _REACHED if reached else _MISSED if canvas.over else _UNDERWAY
    camera = view(chain, box, canvas.width, canvas.height)
    painter = Painter(canvas, camera)
    canvas.fill(BACKGROUND)
    ground = np.array(chain.base.position)
    draw_floor(canvas, camera, ground, length_of(chain))
    draw_shadow(canvas, camera, ground, positions, length_of(chain))
    _add_box(painter, box)
    _add_target(painter, target, float(ground[2]), tolerance, mood)
    if rotation is not None:
        _add_target_pose(painter, chain, target, np.asarray(rotation, np.float64), mood)
        _add_axes(painter, positions[-1], rotations[-1], 0.6 * hand_size(chain), 2.0)
    _add_trail(painter, np.concatenate((past, positions[-1:])))
    painter.solid(*arm_solids(chain, rotations, positions))
    painter.paint()
    distance = float(np.linalg.norm(positions[-1] - target))
    angle = None if rotation is None else _angle_between(rotations[-1], np.asarray(rotation, np.float64))
    _draw_readout(canvas, distance, tolerance, angle, angle_tolerance, seconds, mood)


def view(chain: SerialChain, box: Box, width: float, height: float) -> Camera:
    """The camera for an arm and its box of targets on a canvas of that size."""
    length, base = length_of(chain), np.array(chain.base.position)
    middle = np.array([(low + high) / 2 for low, high in box])
    turn = _towards(middle - base)
    at = 0.5 * middle + 0.5 * (base + np.array((0.0, 0.0, 0.24 * length)))
    foot = 0.08 * length
    corners = [np.array(corner) for corner in product(*box)]
    corners += [base + np.array((x, y, 0.0)) for x in (-foot, foot) for y in (-foot, foot)]
    needed = np.concatenate((corners, [(x, y, base[2]) for x, y, _ in corners]))
    distance = length
    for _ in range(_FARTHER):
        position = at + distance * (turn @ _CAMERA)
        focal, centre = 1.7 * min(height, 0.75 * width), (width / 2, 0.58 * height)
        camera = Camera.looking(position, at, focal, centre, turn @ LIGHT)
        places, _ = camera.project(needed)
        if ((places > 0.0) & (places < (width, height))).all():
            break
        distance *= 1.1
    return camera


def _towards(way: Floats) -> Floats:
    """The rotation about the vertical from x to the direction of ``way``."""
    far = math.hypot(way[0], way[1])
    x, y = (way[0] / far, way[1] / far) if far > 1e-9 else (1.0, 0.0)
    return np.array(((x, -y, 0.0), (y, x, 0.0), (0.0, 0.0, 1.0)))


def tile_of(length: float) -> float:
    """The side of the floor's tiles for an arm of that length, m."""
    return 10.0 ** (round(math.log10(length)) - 1)


def draw_floor(canvas: Canvas, camera: Camera, ground: Floats, length: float) -> None:
    """Tiles with dark gaps, brightest under the arm and gone where it cannot reach."""
    reach, tile = 0.85 * length, tile_of(length)
    number = math.ceil(reach / tile)
    cells = np.arange(-number, number) * tile
    corner = np.stack(np.meshgrid(cells, cells, indexing="ij"), -1).reshape(-1, 2)
    fade = 1.0 - (np.linalg.norm(corner + tile / 2, axis=1) / reach) ** 2
    corner, fade = corner[fade > 0.02], fade[fade > 0.02]
    flat = corner[:, None] + tile * np.array([(0.03, 0.03), (0.97, 0.03), (0.97, 0.97), (0.03, 0.97)])
    places, _ = camera.project(ground + np.concatenate((flat, np.zeros((*flat.shape[:2], 1))), 2))
    inks = (np.array(BACKGROUND) + fade[:, None] * np.subtract(_FLOOR, BACKGROUND)).astype(int)
    for points, (r, g, b) in zip(places.tolist(), inks.tolist(), strict=True):
        canvas.polygon(points, (r, g, b))


def draw_shadow(canvas: Canvas, camera: Camera, ground: Floats, positions: Floats, length: float) -> None:
    """Faint blots under points along the arm, wider the higher these are, that add up to a soft shadow."""
    joints = np.concatenate((ground[None], positions))
    angles = np.arange(20) * (2 * math.pi / 20)
    circle = np.stack((np.cos(angles), np.sin(angles), np.zeros(20)), 1)
    for start, end in pairwise(joints):
        pieces = math.ceil(float(np.linalg.norm((end - start)[:2])) / (0.035 * length))
        for i in range(pieces):
            x, y, z = start + (end - start) * ((i + 0.5) / pieces)
            size = 0.04 * length + 0.06 * max(0.0, z - ground[2])
            for share in (1.0, 0.72, 0.45):
                places, _ = camera.project(np.array((x, y, ground[2])) + share * size * circle)
                canvas.polygon(places.tolist(), (4, 8, 12, 34))


def _add_box(painter: Painter, box: Box) -> None:
    """The twelve edges, in pieces so that the arm hides what is behind it."""
    for axis in range(3):
        low, high = box[axis]
        along = np.linspace(low, high, 9)
        others = [box[other] for other in range(3) if other != axis]
        for first, second in product(*others):
            points = np.empty((9, 3))
            points[:, axis] = along
            points[:, [other for other in range(3) if other != axis]] = first, second
            painter.line(points, "#48617a", 1.2)


def _add_target(painter: Painter, target: Floats, floor: float, tolerance: float, mood: RGB) -> None:
    canvas = painter.canvas
    foot = np.array((target[0], target[1], floor))
    painter.line(np.linspace(target, foot, 12), canvas.mix(mood, BACKGROUND, 0.45), 1.6)
    angles = np.linspace(0.0, 2 * math.pi, 17)
    for share in (1.0, 0.35):
        around = np.stack((np.cos(angles), np.sin(angles), np.zeros(17)), 1)
        painter.line(foot + share * tolerance * around, canvas.mix(mood, BACKGROUND, 0.3), 1.6)
    painter.ball(target, tolerance, mood)
    painter.ring(target, 1.9 * tolerance, (*mood, 230), 2.2)
    painter.ring(target, 2.7 * tolerance, (*mood, 80), 1.6)


def _add_target_pose(painter: Painter, chain: SerialChain, target: Floats, rotation: Floats, mood: RGB) -> None:
    """The target's axes, and the hand as it should be, if there is one."""
    size = hand_size(chain)
    _add_axes(painter, target, rotation, 0.9 * size, 3.0)
    for solid in hand_solids(chain, rotation, target) if has_hand(chain) else ():
        painter.solid(solid.quads, np.full_like(solid.colours, mood), opacity=110)


def _add_axes(painter: Painter, origin: Floats, rotation: Floats, length: float, width: float) -> None:
    for column, colour in enumerate(_AXES):
        painter.line(np.linspace(origin, origin + length * rotation[:, column], 5), colour, width)


def _add_trail(painter: Painter, path: Floats) -> None:
    """The way of the tool, thinner and fainter with age."""
    path = path[-_REMEMBERED:]
    age = np.arange(len(path) - 1, -1, -1) / _REMEMBERED
    colours = [(110, 200, 255, round(225 * (1.0 - share) ** 1.5)) for share in age[:-1].tolist()]
    painter.ribbon(path, colours, 1.5 + 3.0 * (1.0 - age))


def _angle_between(first: Floats, second: Floats) -> float:
    """The angle of the rotation from one orientation to another, rad."""
    return math.acos(min(1.0, max(-1.0, (float(np.trace(first.T @ second)) - 1.0) / 2.0)))


def _draw_readout(
    canvas: Canvas,
    distance: float,
    tolerance: float,
    angle: float | None,
    angle_tolerance: float | None,
    seconds: float,
    mood: RGB,
) -> None:
    """Distance, angle and time in a line on top; the outcome in a banner between them, and around the picture."""
    unit = min(canvas.width, canvas.height * 4 / 3) / 640
    margin, row = 24 * unit, 40 * unit
    colour = _REACHED if distance <= tolerance else "#f4f7fa"
    x = margin + canvas.text(f"{100 * distance:.1f} cm", margin, row, 50 * unit, colour)
    canvas.text("to the target", margin, row + 30 * unit, 24 * unit, "#8fa0b0")
    if angle is not None:
        near = angle_tolerance is not None and angle <= angle_tolerance
        x = max(x + 30 * unit, margin + 150 * unit)
        canvas.text(f"{math.degrees(angle):.0f}°", x, row, 50 * unit, _REACHED if near else "#f4f7fa")
        canvas.text("to turn", x, row + 30 * unit, 24 * unit, "#8fa0b0")
    canvas.text(f"{seconds:.2f} s", canvas.width - margin, row, 50 * unit, "#f4f7fa", "right")
    if mood == _UNDERWAY:
        return
    canvas.rectangle(0, 0, canvas.width, canvas.height, mood, line=6 * unit)
    middle, top = canvas.width * (0.5 if angle is None else 0.62), row - 25 * unit
    canvas.rectangle(middle - 92 * unit, top, 184 * unit, 50 * unit, mood, radius=25 * unit)
    word = "reached" if mood == _REACHED else "missed"
    canvas.text(word, middle, top + 26 * unit, 42 * unit, "#0d141c", "center")
