"""The outside of an arm: solid bodies around the frames of any serial chain.

1. From each frame to the next a chain goes square to the next joint's axis, and then along that axis. Every stretch of
   axis is a tube with a dark seam where the joint turns; a joint with hardly any such stretch gets a housing across
   instead, a short cylinder about its axis with dark lids. Offsets square to the axis are tubes without a seam. A
   prismatic joint is a thinner grey rod along its axis.
2. All sizes follow from the chain's length, and tubes get thinner towards the tool, so that any chain gives
   a believable arm. A Panda comes out white with dark joints.
3. The hand is drawn in the tool's frame: its fingers lie along z, open along y, and meet at the tool centre. Where
   there is no room for it between the last joint and the tool, the arm ends with its flange.

A body is a loft: closed rings of corners, each joined to the next by quadrilaterals.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from palaestra.envs.arm.chain import Placement, SerialChain
from palaestra.envs.arm.drawing.camera import Floats

_SIDES = 16
_ANGLES = np.arange(_SIDES) * (2 * math.pi / _SIDES)
_WHITE, _GREY, _DARK = (238.0, 241.0, 245.0), (196.0, 203.0, 211.0), (62.0, 70.0, 82.0)

_FOOT = 1.75  # radius of the base's foot by that of the base

Tint = tuple[float, float, float]


class Solid(NamedTuple):
    """Facets of bodies."""

    quads: Floats  # [M, 4, 3] m, corners counter-clockwise seen from outside
    colours: Floats  # [M, 3], 0 … 255


class Ring(NamedTuple):
    """A circle about a body's axis, and the colour of the surface between it and the ring before."""

    along: float  # m
    radius: float  # m
    colour: Tint = _WHITE


def length_of(chain: SerialChain) -> float:
    """The stretched length of an arm along its offsets, m; at least a millimetre."""
    z = (0.0, 0.0, 1.0)
    offsets = [_offset(placement, axis) for placement, axis in zip(chain.placements, chain.axes, strict=True)]
    slides = [max(map(abs, ends)) for *ends, turns in zip(*chain.span, chain.turning, strict=True) if not turns]
    return max(1e-3, sum(offsets) + sum(_offset(end, z) for end in (chain.flange, chain.tool)) + sum(slides))


def _offset(placement: Placement, axis: Sequence[float]) -> float:
    """The way from a frame to the axis of the next one and along it, m."""
    position, along = np.array(placement.position), np.array(placement.rotation) @ np.array(axis)
    distance = float(position @ along)
    return abs(float(np.linalg.norm(position - distance * along))) + abs(distance)


def arm_solids(chain: SerialChain, rotation: Floats, position: Floats) -> Solid:
    """The whole arm.

    Args:
        chain: the arm.
        rotation: [dof + 2, 3, 3] frames of the links, the flange and the tool, the axes as columns.
        position: [dof + 2, 3] m.
    """
    length = length_of(chain)
    before, stand = np.array(chain.base.position), 0.043 * length
    solids = _base(stand, before, np.array(chain.base.rotation)[:, 2])
    for i, local in enumerate(chain.axes):
        radius = length * (0.042 - 0.014 * i / max(1, chain.dof - 1))
        axis, here = rotation[i] @ np.array(local), position[i]
        along = float((here - before) @ axis)
        foot = here - along * axis
        if np.linalg.norm(foot - before) > (_FOOT * stand if i == 0 else 1e-9):  # nearer it is on the foot
            solids.append(_tube(before, foot, 0.92 * radius))
        if not chain.turning[i]:
            solids.append(_rod(foot, here, axis, 0.7 * radius, flat_start=i == 0))
        elif abs(along) > 1.5 * radius:
            solids.append(_tube(foot, here, radius, seam=0.45, flat_start=i == 0))
        else:
            solids.append(_housing(here, axis, radius))
        before = here
    solids += _wrist(chain, rotation, position)
    return Solid(np.concatenate([s.quads for s in solids]), np.concatenate([s.colours for s in solids]))


def hand_solids(chain: SerialChain, rotation: Floats, position: Floats) -> list[Solid]:
    """The hand in a tool frame (axes as columns [3, 3], tool centre [3] m)."""

    def loft(colour: Tint, *sections: tuple[float, float, float, float]) -> Solid:
        """Rectangles (z, y of the middle, half width along x, half width along y), in units of the hand's size."""
        (z0, y0, *_), (z1, y1, *_) = sections[0], sections[-1]
        rings = []
        for z, y, h, v in ((z0, y0, 0.0, 0.0), *sections, (z1, y1, 0.0, 0.0)):
            steps = np.linspace(v, -v, 5)  # the long sides in pieces, for the painter
            rings.append([(-h, y + step, z) for step in steps] + [(h, y - step, z) for step in steps])
        corners = position + hand_size(chain) * np.array(rings) @ rotation.T
        return _loft(corners, [colour] * (len(rings) - 1))

    solids = [
        loft(
            _WHITE, (-1.0, 0.0, 0.22, 0.6), (-0.94, 0.0, 0.28, 0.86), (-0.68, 0.0, 0.28, 0.9), (-0.64, 0.0, 0.24, 0.86)
        ),
        loft(_DARK, (-0.64, 0.0, 0.2, 0.78), (-0.58, 0.0, 0.2, 0.78)),
    ]
    for side in (-1.0, 1.0):
        solids += [
            loft(
                _GREY,
                (-0.58, side * 0.36, 0.15, 0.13),
                (-0.42, side * 0.34, 0.15, 0.13),
                (-0.3, side * 0.3, 0.14, 0.13),
            ),
            loft(
                _DARK, (-0.3, side * 0.28, 0.12, 0.11), (-0.14, side * 0.16, 0.11, 0.09), (0.0, side * 0.06, 0.1, 0.055)
            ),
        ]
    return solids


def hand_size(chain: SerialChain) -> float:
    """Distance from the back of the hand to the tool centre, m."""
    return 0.07 * length_of(chain)


def has_hand(chain: SerialChain) -> bool:
    """True if there is room for a hand between the last joint and the tool."""
    turn = np.array(chain.flange.rotation)
    way = np.array(chain.flange.position) + turn @ np.array(chain.tool.position)
    return bool(way @ turn @ np.array(chain.tool.rotation)[:, 2] > hand_size(chain))


def _wrist(chain: SerialChain, rotation: Floats, position: Floats) -> list[Solid]:
    """The wrist, from the last joint to the flange, and on to the back of the hand and the hand."""
    length, size = length_of(chain), hand_size(chain)
    last, flange, tool = position[-3:]
    ahead, back = rotation[-1, :, 2], tool - size * rotation[-1, :, 2]
    holds = has_hand(chain)
    if holds and (tool - flange) @ ahead < 0.5 * size:  # the flange is the tip of a hand, and drawn behind it
        flange = back
    solids = []
    if np.linalg.norm(flange - last) > 1e-9:
        solids.append(_tube(last, flange, 0.026 * length, flat_end=True))
    rings = (Ring(-0.006, 0.0), Ring(-0.006, 0.03, _DARK), Ring(0.004, 0.03, _DARK), Ring(0.004, 0.0, _DARK))
    scaled = [Ring(ring.along * length, ring.radius * length, ring.colour) for ring in rings]
    solids.append(turned(flange, rotation[-2, :, 2], scaled))
    if holds and np.linalg.norm(back - flange) > 0.02 * length:
        solids.append(_tube(flange, back, 0.018 * length))
    return [*solids, *(hand_solids(chain, rotation[-1], tool) if holds else ())]


def _base(radius: float, origin: Floats, axis: Floats) -> list[Solid]:
    """A round foot under the first joint."""
    rings = [
        Ring(0.0, 0.0),
        Ring(0.0, _FOOT * radius, _DARK),
        Ring(0.25 * radius, _FOOT * radius, _DARK),
        Ring(0.4 * radius, 1.6 * radius, _GREY),
        Ring(0.9 * radius, 1.35 * radius, _WHITE),
        Ring(1.2 * radius, 1.1 * radius, _WHITE),
        Ring(1.2 * radius, 0.0, _WHITE),
    ]
    return [turned(origin, axis, rings)]


def _rod(foot: Floats, here: Floats, axis: Floats, radius: float, *, flat_start: bool = False) -> Solid:
    """A rod that slides along ``axis`` from ``foot`` to ``here``; both ends stand out, but for a flat start."""
    reach, start = float((here - foot) @ axis), 0.0 if flat_start else 2 * radius
    low = min(-start, reach - 2 * radius) if reach < 0.0 else -start
    high = reach + 2 * radius if reach > 0.0 else start
    pieces = np.linspace(low, high, max(2, round((high - low) / radius))).tolist()
    rings = [Ring(low, 0.0), *(Ring(along, radius, _GREY) for along in pieces), Ring(high, 0.0, _DARK)]
    return turned(foot, axis, rings)


def _tube(
    start: Floats,
    end: Floats,
    radius: float,
    *,
    seam: float | None = None,
    flat_start: bool = False,
    flat_end: bool = False,
) -> Solid:
    """A tube with round or flat ends; ``seam`` is the share of the way at which the joint turns."""
    length = float(np.linalg.norm(end - start))
    dome = [(0.0, 1.0), (0.45, 0.89), (0.8, 0.6), (1.0, 0.0)]  # a quarter of a circle: along, across
    first = [(-rise * radius, across * radius) for rise, across in reversed(dome)]
    last = [(length + rise * radius, across * radius) for rise, across in dome]
    if flat_start:
        first = [(0.0, 0.0), (0.0, radius)]
    if flat_end:
        last = [(length, radius), (length, 0.0)]
    pieces = max(1, round(length / (0.9 * radius)))
    between = [Ring(length * i / pieces, radius) for i in range(1, pieces)]
    if seam is not None:
        half = min(0.14 * radius, 0.1 * length)
        near, far = seam * length - half, seam * length + half
        groove = 0.95 * radius
        marks = [Ring(near, radius), Ring(near, groove, _DARK), Ring(far, groove, _DARK), Ring(far, radius, _DARK)]
        outside = [ring for ring in between if abs(ring.along - seam * length) > half + 0.3 * radius]
        between = sorted([*outside, *marks], key=lambda ring: ring.along)
    rings = [*(Ring(*ring) for ring in first), *between, *(Ring(*ring) for ring in last)]
    return turned(start, (end - start) / length, rings)


def _housing(centre: Floats, axis: Floats, radius: float) -> Solid:
    """A joint that turns across the arm: a short cylinder about its axis, closed by dark lids."""
    half, width = 1.35 * radius, 1.06 * radius
    lid = [(half, 0.0), (half, 0.6 * width), (0.97 * half, 0.78 * width)]
    white = [(0.86 * half, width), (0.3 * half, width), (-0.3 * half, width), (-0.86 * half, width)]
    rings = [Ring(-along, across, _DARK) for along, across in lid]
    rings += [Ring(along, across) for along, across in reversed(white)]
    rings += [Ring(0.97 * half, 0.78 * width), *(Ring(along, across, _DARK) for along, across in reversed(lid[:2]))]
    return turned(centre, axis, rings)


def turned(origin: Floats, axis: Floats, rings: Sequence[Ring]) -> Solid:
    """A body of revolution about ``axis`` (a unit vector) from ``origin``."""
    aside = np.eye(3)[int(np.abs(axis).argmin())]
    u = np.cross(axis, aside)
    u /= np.linalg.norm(u)
    v = np.cross(axis, u)
    circle = np.cos(_ANGLES)[:, None] * u + np.sin(_ANGLES)[:, None] * v  # [sides, 3]
    along, radius = np.array([ring[:2] for ring in rings]).T
    corners = origin + along[:, None, None] * axis + radius[:, None, None] * circle
    return _loft(corners, [ring.colour for ring in rings[1:]])


def _loft(rings: Floats, colours: Sequence[Tint]) -> Solid:
    """Rings [R, S, 3], counter-clockwise seen against the direction in which they follow; R − 1 colours."""
    low, high = rings[:-1], rings[1:]
    quads = np.stack((low, np.roll(low, -1, 1), np.roll(high, -1, 1), high), 2)  # [R − 1, S, 4, 3]
    return Solid(quads.reshape(-1, 4, 3), np.repeat(np.array(colours), rings.shape[1], 0))
