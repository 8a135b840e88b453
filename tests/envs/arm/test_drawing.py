"""The picture of the arm: projection, solids and the painter's order against answers known beforehand."""

from __future__ import annotations

import dataclasses
import itertools
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from palaestra.envs.arm import PANDA, PANDA_READY, Placement, SerialChain, forward_kinematics
from palaestra.envs.arm.drawing.body import _tube, arm_solids, hand_solids, length_of
from palaestra.envs.arm.drawing.camera import Camera
from palaestra.envs.arm.drawing.scene import _angle_between, draw_arm, view
from palaestra.envs.rendering.canvas import Canvas, Image

BOX = ((0.35, 0.65), (-0.2, 0.2), (0.15, 0.5))
FREE = np.array((0.6, -0.15, 0.2))  # a target that nothing hides while the Panda is in its ready pose
READY = np.array(PANDA_READY)
NOWHERE = np.zeros((0, 3))
ZERO = (0.0, 0.0, 0.0)
PLANAR = SerialChain.from_dh(
    name="three joints",
    dh=((0.0, 0.0, 0.3), (0.0, -math.pi / 2, 0.0), (0.35, 0.0, 0.0)),
    flange=(0.3, 0.0, 0.0, 0.0),
    tool=(0.0, math.pi / 2, 0.0, 0.08),
    q_min=(-3.0,) * 3,
    q_max=(3.0,) * 3,
    velocity=(1.0,) * 3,
    acceleration=(1.0,) * 3,
    torque=(1.0,) * 3,
    mass=(1.0,) * 3,
    centre_of_mass=(ZERO,) * 3,
    inertia=((1.0, 1.0, 1.0, 0.0, 0.0, 0.0),) * 3,
    friction=(ZERO,) * 3,
)

within = st.floats(0.0, 1.0)
angles = st.lists(within, min_size=7, max_size=7).map(
    lambda shares: np.array(PANDA.q_min) + np.array(shares) * np.subtract(PANDA.q_max, PANDA.q_min)
)
places = st.tuples(*[st.floats(-3.0, 3.0)] * 3).map(np.array)


def shot(q: Any = READY, target: Any = FREE, chain: SerialChain = PANDA, over: bool = False, **changes: Any) -> Image:
    canvas = Canvas(640, 480, over=over)
    settings = {"box": BOX, "trail": NOWHERE, "seconds": 1.0, "reached": False, "tolerance": 0.02} | changes
    draw_arm(canvas, chain, q, target, **settings)
    return canvas.image()


def frames(q: Any, chain: SerialChain = PANDA) -> tuple[Any, Any]:
    pose = forward_kinematics(chain, torch.tensor(np.asarray(q), dtype=torch.float64).unsqueeze(0))
    return pose.rotation[0].numpy(), pose.position[0].numpy()


def at(image: Image, point: Any, chain: SerialChain = PANDA) -> Any:
    """The colour where a point in space is seen."""
    (x, y), _ = view(chain, BOX, 640, 480).project(np.asarray(point))
    return image[round(float(y)), round(float(x))].astype(int)


def is_amber(colour: Any) -> bool:
    return bool(colour[0] - colour[2] > 30)


def axis_rotation(axis: Any, angle: float) -> Any:
    """Rodrigues' formula."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    k = np.array(((0.0, -z, y), (z, 0.0, -x), (-y, x, 0.0)))
    return np.eye(3) + math.sin(angle) * k + (1.0 - math.cos(angle)) * k @ k


# --------------------------------------------------------------------------------------------------------- the camera


@given(places, places, st.floats(0.01, 5.0))
def test_what_lies_on_the_optical_axis_is_seen_in_the_centre(position: Any, aim: Any, share: float) -> None:
    assume(np.linalg.norm((aim - position)[:2]) > 0.1)
    camera = Camera.looking(position, aim, 500.0, (320.0, 200.0))
    place, depth = camera.project(position + max(share, 0.03) * (aim - position))
    np.testing.assert_allclose(place, (320.0, 200.0), atol=1e-6)
    assert depth == pytest.approx(max(share, 0.03) * np.linalg.norm(aim - position))
    right, down, forward = camera.axes
    np.testing.assert_allclose(np.cross(right, down), forward, atol=1e-12)  # right-handed: no mirror
    assert abs(right[2]) < 1e-12
    assert down[2] < 0.0


def test_a_projection_worked_out_by_hand() -> None:
    """Seen from +x, y goes right and z up; twice as far is half as large."""
    camera = Camera.looking(np.array((3.0, 0.0, 0.0)), np.zeros(3), 100.0, (50.0, 40.0))
    near, depth = camera.project(np.array((1.0, 0.5, 0.25)))
    np.testing.assert_allclose(near, (75.0, 27.5), atol=1e-12)
    assert depth == pytest.approx(2.0)
    far, _ = camera.project(np.array((-1.0, 0.5, 0.25)))
    np.testing.assert_allclose(far, (62.5, 33.75), atol=1e-12)


def test_the_arm_is_seen_from_the_front_on_its_right_hand_side() -> None:
    camera = view(PANDA, BOX, 640, 480)
    middle = np.array((0.5, 0.0, 0.3))
    here, depth = camera.project(middle)
    ahead, left, above = (camera.project(middle + 0.1 * axis) for axis in np.eye(3))
    assert ahead[0][0] > here[0] + 10
    assert ahead[1] < depth
    assert left[0][0] > here[0] + 10
    assert left[1] > depth
    assert above[0][1] < here[1] - 10
    everything = np.array([(x, y, z) for x in BOX[0] for y in BOX[1] for z in (0.0, *BOX[2])])
    seen, _ = camera.project(everything)
    assert ((seen > 0) & (seen < (640, 480))).all()


@given(st.floats(-math.pi, math.pi), st.floats(0.1, 0.9), st.floats(-0.3, 0.8), st.floats(0.05, 2.0))
@settings(max_examples=50)
def test_base_and_box_are_in_the_picture_wherever_the_box_is(
    azimuth: float, far: float, up: float, size: float
) -> None:
    """The box, the points of the floor below it, and the base's foot, for arms of all sizes on a base elsewhere."""
    base = np.array((2.0, -1.0, 0.5))
    length = size * length_of(PANDA)
    middle = base + length * np.array((far * math.cos(azimuth), far * math.sin(azimuth), up))
    box = [(m - 0.1 * length, m + 0.1 * length) for m in middle.tolist()]
    camera = view(scaled(PANDA, size, base), box, 640, 560)
    corners = np.array(list(itertools.product(*box)))
    below = corners * (1.0, 1.0, 0.0) + (0.0, 0.0, base[2])
    seen, _ = camera.project(np.concatenate((corners, below, [base])))
    assert ((seen > 0) & (seen < (640, 560))).all()
    way = middle - base
    assert camera.axes[0] @ way > 0.4 * np.linalg.norm(
        way[:2]
    )  # the box is to the right of the base, seen from its right side


def scaled(chain: SerialChain, factor: float, base: Any) -> SerialChain:
    """The same arm with all lengths multiplied, on a base elsewhere."""

    def grown(placement: Placement) -> Placement:
        return Placement(tuple(factor * part for part in placement.position), placement.rotation)

    parts: dict[str, Any] = {name: grown(getattr(chain, name)) for name in ("flange", "tool")}
    parts["placements"] = tuple(map(grown, chain.placements))
    return dataclasses.replace(chain, base=Placement(tuple(base)), **parts)


def test_the_camera_of_the_panda_stays_where_it_was() -> None:
    camera = view(PANDA, BOX, 640, 480)
    length = length_of(PANDA)
    at = np.array((0.25, 0.0, 0.5 * 0.325 + 0.12 * length))
    np.testing.assert_allclose(camera.position, at + length * np.array((0.80, -1.10, 0.50)), atol=1e-12)
    assert camera.focal == 1.7 * 480


# --------------------------------------------------------------------------------------------------------- the solids


def area_vector_and_volume(quads: Any) -> tuple[Any, float]:
    """Of a closed surface with outward normals the area vectors add up to nothing, and the volume is positive."""
    a, b, c, d = quads.transpose(1, 0, 2)
    area = np.cross(c - a, d - b) / 2
    volume = (np.einsum("mk,mk->m", a, np.cross(b, c)) + np.einsum("mk,mk->m", a, np.cross(c, d))).sum() / 6
    return area.sum(0), float(volume)


@given(angles)
@settings(max_examples=30)
def test_bodies_are_closed_and_face_outwards(q: Any) -> None:
    rotation, position = frames(q)
    area, volume = area_vector_and_volume(arm_solids(PANDA, rotation, position).quads)
    np.testing.assert_allclose(area, 0.0, atol=1e-12)
    assert 0.003 < volume < 0.03  # m³
    for solid in hand_solids(PANDA, rotation[-1], position[-1]):
        assert area_vector_and_volume(solid.quads - position[-1])[1] > 0.0


def test_a_tube_has_the_volume_of_a_prism() -> None:
    start, way = np.array((0.1, 0.2, 0.3)), np.array((0.3, -0.4, 1.2))
    tube = _tube(start, start + way, 0.05, flat_start=True, flat_end=True)
    sixteen_sides = 8 * math.sin(math.pi / 8) * 0.05**2
    assert area_vector_and_volume(tube.quads)[1] == pytest.approx(1.3 * sixteen_sides)


@given(angles)
@settings(max_examples=20)
def test_the_finger_tips_meet_at_the_tool_centre(q: Any) -> None:
    rotation, position = frames(q)
    hand = np.concatenate([solid.quads.reshape(-1, 3) for solid in hand_solids(PANDA, rotation[-1], position[-1])])
    local = (hand - position[-1]) @ rotation[-1]
    assert local[:, 2].max() == pytest.approx(0.0, abs=1e-12)
    tips = local[local[:, 2] > -1e-9]
    np.testing.assert_allclose(tips.mean(0), 0.0, atol=1e-12)
    left, right = tips[tips[:, 1] > 0], tips[tips[:, 1] < 0]
    assert left[:, 1].min() - right[:, 1].max() < 0.002  # m
    np.testing.assert_allclose(local.min(0)[:2], -local.max(0)[:2], atol=1e-12)


# --------------------------------------------------------------------------------------------------------- the picture


@given(angles, st.integers(0, 5), st.floats(0.6, 0.9))
@settings(max_examples=25, deadline=None)
def test_links_hide_the_target_behind_them_and_not_the_one_in_front(q: Any, link: int, share: float) -> None:
    """The target moves along the line of sight through a point inside a link."""
    joints = np.concatenate((np.zeros((1, 3)), frames(q)[1]))
    inside = joints[link] + share * (joints[link + 1] - joints[link])
    camera = view(PANDA, BOX, 640, 480)
    (x, y), _ = camera.project(inside)
    assume(5 < x < 635 and 95 < y < 475)
    sight = inside - camera.position
    assume((inside + 0.2 * sight)[2] > 0.0)
    assert not is_amber(at(shot(q, inside + 0.2 * sight), inside))
    assert is_amber(at(shot(q, inside - 0.5 * sight), inside))


def test_nothing_hides_a_target_in_the_open() -> None:
    assert is_amber(at(shot(), FREE))
    assert is_amber(at(shot(), FREE * (1.0, 1.0, 0.5)))  # the line down to the floor
    assert not is_amber(at(shot(), FREE + 0.1 * np.eye(3)[2]))


def test_the_outcome_is_plain_to_see() -> None:
    _, position = frames(READY)
    tool = position[-1]
    pictures = {
        "underway": shot(READY, FREE),
        "missed": shot(READY, FREE, over=True),
        "reached": shot(READY, tool + 0.01, over=True, reached=True),
    }
    edges = {name: image[240, 2].tolist() for name, image in pictures.items()}
    assert edges["missed"] == [255, 90, 95]
    assert edges["reached"] == [61, 220, 132]
    assert max(edges["underway"]) < 60
    banners = {name: image[30, 240].tolist() for name, image in pictures.items()}
    assert (banners["missed"], banners["reached"]) == (edges["missed"], edges["reached"])
    assert max(banners["underway"]) < 60
    red = at(pictures["missed"], FREE)
    assert red[0] - red[1] > 90
    green = (pictures["reached"][20:70, 20:180].astype(int) - (61, 220, 132)).clip(-255, 255)
    assert (np.abs(green).max(2) < 10).sum() > 200  # the distance is within the tolerance
    assert not (np.abs(pictures["missed"][20:70, 20:180].astype(int) - (61, 220, 132)).max(2) < 10).any()


@pytest.mark.parametrize("q", [(0.3, -0.9, 1.3), (-0.8, -1.2, 0.6), (0.9, -0.4, 0.2)])
def test_any_chain_is_drawn_where_its_links_are(q: tuple[float, ...]) -> None:
    _, position = frames(q, PLANAR)
    image = shot(np.array(q), np.array((0.3, -0.4, 0.1)), PLANAR)
    joints = np.concatenate((np.zeros((1, 3)), position[[0, 2, 3]]))  # joints 1 and 2 share their origin
    for start, end in pairwise(joints):
        assert at(image, start + 0.7 * (end - start), PLANAR).min() > 90  # white, in whatever light
    beside = position[2] + (0.0, 0.0, 0.2)
    assert at(image, beside, PLANAR).max() < 75  # the floor or the background


def test_an_arm_stands_where_its_base_is_and_a_slide_is_a_rod_that_gets_longer() -> None:
    """A slide along the base's x, which points up; the rod goes from the base to where the hand is."""
    up = Placement((0.3, -0.2, 0.1), ((0.0, 0.0, -1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)))
    changes: dict[str, Any] = dict.fromkeys(("joint_names", "link_names"), ())
    changes |= {name: getattr(PLANAR, name)[:1] for name in ("mass", "centre_of_mass", "inertia", "velocity")}
    changes |= {name: getattr(PLANAR, name)[:1] for name in ("acceleration", "torque", "friction")}
    changes |= {"q_min": (0.0,), "q_max": (1.0,)}
    changes |= dict.fromkeys(("damping", "coulomb", "armature"), (0.0,))
    slide = dataclasses.replace(
        PLANAR,
        placements=(Placement(),),
        axes=((1.0, 0.0, 0.0),),
        kinds=("prismatic",),
        base=up,
        flange=Placement((0.4, 0.0, 0.0)),
        tool=Placement((0.1, 0.0, 0.0)),
        **changes,
    )
    heights = []
    for q in (0.2, 0.9):
        rotation, position = frames((q,), slide)
        assert position[-1] == pytest.approx((0.3, -0.2, 0.6 + q))
        solid = arm_solids(slide, rotation, position)
        heights.append(solid.quads[..., 2].max())
        aside = np.abs(solid.quads[..., :2] - (0.3, -0.2)).max()
        assert aside < 0.25
    assert heights[1] - heights[0] == pytest.approx(0.7, abs=0.02)


def test_the_trail_runs_through_the_earlier_places_and_fades() -> None:
    trail = np.stack((np.linspace(0.2, 0.62, 40), np.full(40, -0.3), np.linspace(0.05, 0.6, 40)), 1)
    with_trail, without = shot(trail=trail), shot()
    blue = [int(at(with_trail, trail[i])[2]) for i in (2, 20, 38)]
    assert blue == sorted(blue)
    assert blue[2] - blue[0] > 20
    assert all(at(with_trail, p)[2] - at(without, p)[2] > 60 for p in trail[2::9])
    long_ago = np.concatenate((np.full((500, 3), 0.3), trail))
    np.testing.assert_array_equal(shot(trail=long_ago), shot(trail=long_ago[300:]))  # only so much is remembered
    assert all(at(shot(trail=long_ago), p)[2] - at(without, p)[2] > 60 for p in trail[2::9])


def test_a_target_pose_shows_its_axes() -> None:
    rotation = axis_rotation((1.0, 2.0, -1.0), 2.0)
    image = shot(rotation=rotation, angle_tolerance=0.2)
    for axis, expected in enumerate(((255, 107, 107), (126, 231, 135), (110, 168, 254))):
        tip = FREE + 0.085 * rotation[:, axis]  # the axis is drawn about 9.4 cm long
        assert np.abs(at(image, tip) - expected).max() < 40


@given(places, st.floats(0.0, math.pi), places, st.floats(0.0, math.pi))
def test_the_angle_between_orientations(first: Any, a: float, second: Any, b: float) -> None:
    assume(min(np.linalg.norm(first), np.linalg.norm(second)) > 0.1)
    start, turn = axis_rotation(first, a), axis_rotation(second, b)
    assert _angle_between(start, start @ turn) == pytest.approx(b, abs=1e-6)


def test_a_picture_depends_on_nothing_but_what_it_is_given() -> None:
    q, target, trail = READY.copy(), FREE.copy(), np.array(((0.3, 0.0, 0.5), (0.31, 0.01, 0.49)))
    first = shot(q, target, trail=trail)
    shot(READY + 0.3, FREE + 0.1, PANDA, True, reached=True, rotation=np.eye(3), angle_tolerance=0.1)
    np.testing.assert_array_equal(shot(q, target, trail=trail), first)
    single = q.astype(np.float32), target.astype(np.float32), trail.astype(np.float32)
    exact = [values.astype(np.float64) for values in single]
    np.testing.assert_array_equal(shot(*single[:2], trail=single[2]), shot(*exact[:2], trail=exact[2]))
    np.testing.assert_array_equal(q, READY)
    np.testing.assert_array_equal(target, FREE)
