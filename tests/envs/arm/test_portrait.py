"""The portrait of an arm: the whole of it in the picture, upright, beside a staff that is as high as it says."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any

import numpy as np
import pytest
import torch

from palaestra.envs.arm import PANDA, PANDA_READY, Placement, SerialChain, forward_kinematics
from palaestra.envs.arm.drawing import portrait
from palaestra.envs.arm.drawing.body import arm_solids, length_of
from palaestra.envs.arm.drawing.camera import Painter
from palaestra.envs.rendering.canvas import Canvas, Image


def scaled(chain: SerialChain, factor: float) -> SerialChain:
    """The same arm, larger or smaller in all lengths."""

    def grown(placement: Placement) -> Placement:
        return Placement(tuple(factor * part for part in placement.position), placement.rotation)

    placements = tuple(map(grown, chain.placements))
    return dataclasses.replace(chain, placements=placements, flange=grown(chain.flange), tool=grown(chain.tool))


def drawn(chain: SerialChain, q: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[Image, Any, list[Any]]:
    """The picture, its camera, and the corners [K, 3] of the bodies in it: the arm and the staff."""
    seen: list[Any] = []
    cameras = []
    solid = Painter.solid

    def noted(self: Painter, quads: Any, colours: Any) -> None:
        seen.append(quads.reshape(-1, 3))
        cameras.append(self.camera)
        solid(self, quads, colours)

    monkeypatch.setattr(Painter, "solid", noted)
    canvas = Canvas(*portrait.SIZE)
    portrait.draw_portrait(canvas, chain, q, "an arm", "and a line")
    return canvas.image(), cameras[0], seen


ARMS = {
    "Panda": PANDA,
    "0.1 of a Panda": scaled(PANDA, 0.1),
    "3 Pandas high": scaled(PANDA, 3.0),
    "elsewhere": dataclasses.replace(PANDA, base=Placement((5.0, -3.0, 2.0))),
}


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize(
    "q", [PANDA_READY, (2.5, 1.2, 0.3, -0.5, 0.2, 1.0, 0.0), (-1.0, -1.6, 0.0, -0.1, 0.0, 3.0, 0.0)]
)
def test_the_whole_arm_is_in_the_picture(name: str, q: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    image, camera, bodies = drawn(ARMS[name], q, monkeypatch)
    places, _ = camera.project(np.concatenate(bodies))
    width, height = portrait.SIZE
    assert places.min() >= 0.0
    assert places[:, 0].max() <= width
    assert places[:, 1].max() <= height
    assert places[:, 1].min() >= 0.12 * height  # below the title
    assert max(np.ptp(places[:, 0]) / width, np.ptp(places[:, 1]) / height) > 0.7  # and not small
    assert image.shape == (height, width, 3)


def test_the_picture_of_an_arm_does_not_depend_on_where_its_base_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or which way it is turned: a base turned about the vertical, and a first joint turned the other way."""
    first, *_ = drawn(PANDA, PANDA_READY, monkeypatch)
    turn = Placement((5.0, -3.0, 2.0), ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    other, *_ = drawn(dataclasses.replace(PANDA, base=turn), PANDA_READY, monkeypatch)
    yaw, *_ = drawn(PANDA, (1.3, *PANDA_READY[1:]), monkeypatch)
    assert np.abs(first.astype(int) - other).mean() < 0.5
    assert np.abs(first.astype(int) - yaw).mean() < 2.0  # the foot has 16 sides


def test_an_arm_that_hangs_is_drawn_as_gravity_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A base on the ceiling: gravity is along z of the base, so the tool is drawn below the base."""
    hanging = dataclasses.replace(PANDA, gravity=(0.0, 0.0, 9.81))
    _, _, (arm, _) = drawn(hanging, PANDA_READY, monkeypatch)
    assert arm[:, 2].max() < 0.1
    assert arm[:, 2].min() < -0.7
    _, _, (arm, _) = drawn(dataclasses.replace(PANDA, gravity=(0.0, 0.0, 0.0)), PANDA_READY, monkeypatch)
    assert arm[:, 2].max() > 0.7


@pytest.mark.parametrize(("factor", "tile"), [(0.1, 0.01), (1.0, 0.1), (3.0, 1.0)])
def test_the_staff_is_as_high_as_it_says(factor: float, tile: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the floor to the first whole band above the arm; its labels are the heights of bands."""
    texts: dict[str, float] = {}
    text = Canvas.text

    def noted(self: Canvas, words: str, x: float, y: float, *style: Any) -> float:
        texts[words] = y
        return text(self, words, x, y, *style)

    monkeypatch.setattr(Canvas, "text", noted)
    chain = scaled(PANDA, factor)
    _, camera, (arm, staff) = drawn(chain, PANDA_READY, monkeypatch)
    top = math.ceil(arm[:, 2].max() / tile) * tile
    assert staff[:, 2].min() == pytest.approx(0.0)
    assert staff[:, 2].max() == pytest.approx(top)
    assert length_of(chain) == pytest.approx(factor * length_of(PANDA))
    assert staff[:, 0].max() < arm[:, 0].min() or staff[:, 1].max() < arm[:, 1].min()  # beside it
    foot = staff[staff[:, 2] == staff[:, 2].min()].mean(0)
    labels = [word for word in texts if word not in ("an arm", "and a line")]
    assert len(labels) >= 2
    for label in labels:
        metres = float(label.removesuffix(" m"))
        (_, y), _ = camera.project(np.array((foot[0], foot[1], metres)))
        assert texts[label] == pytest.approx(float(y), abs=0.5)


def test_a_slide_stands_on_the_floor() -> None:
    """The rod of a first joint that slides upwards begins at the base, and a small offset is within the foot."""
    body: dict[str, Any] = {"mass": (1.0,), "centre_of_mass": ((0.0,) * 3,), "inertia": ((1.0, 1.0, 1.0, 0, 0, 0),)}
    lift = SerialChain("lift", (Placement((0.02, 0.0, 0.5)),), kinds=("prismatic",), q_min=(0.0,), q_max=(0.4,), **body)
    lift = dataclasses.replace(lift, flange=Placement((0.6, 0.0, 0.0)))
    pose = forward_kinematics(lift, torch.tensor([[0.3]], dtype=torch.float64))
    quads = arm_solids(lift, pose.rotation[0].numpy(), pose.position[0].numpy()).quads
    assert quads[..., 2].min() >= 0.0
    assert quads[..., 2].max() == pytest.approx(0.8, abs=0.12)


def test_a_hand_is_drawn_where_there_is_room_for_it() -> None:
    """An arm whose tip is its last joint has nothing beyond that; a tip further on is where the fingers meet."""
    short = dataclasses.replace(PANDA, flange=Placement(), tool=Placement())
    tip = dataclasses.replace(short, flange=Placement((0.0, 0.0, 0.2)))
    below = {}
    for name, chain in (("none", short), ("at the tip", tip), ("a tool of its own", PANDA)):
        pose = forward_kinematics(chain, torch.tensor([PANDA_READY], dtype=torch.float64))
        rotation, position = pose.rotation[0].numpy(), pose.position[0].numpy()
        solid = arm_solids(chain, rotation, position)
        local = (solid.quads.reshape(-1, 3) - position[-1]) @ rotation[-1]  # the hand points down
        below[name] = local[(np.abs(local) < (0.1, 0.1, 0.2)).all(1)]
    assert below["none"][:, 2].max() == pytest.approx(1.35 * 0.028 * length_of(short))  # the joint's own housing
    for name in ("at the tip", "a tool of its own"):
        assert below[name][:, 2].max() == pytest.approx(0.0, abs=1e-9)
        fingers = below[name][below[name][:, 2] > -1e-6]
        assert len(fingers) > 0
        assert np.abs(fingers[:, :2]).max() < 0.02


def test_the_body_of_the_panda_stays_as_it_was() -> None:
    """Every corner to 1 µm, in the order in which bodies of one depth are painted."""
    pose = forward_kinematics(PANDA, torch.tensor([PANDA_READY], dtype=torch.float64))
    quads = arm_solids(PANDA, pose.rotation[0].numpy(), pose.position[0].numpy()).quads
    rounded = (quads.round(6) + 0.0).tobytes()
    assert hashlib.sha256(rounded).hexdigest() == "10133ab502801652d694acafbef6ed3643c442bae3f756b27979bb33c6a1692b"
