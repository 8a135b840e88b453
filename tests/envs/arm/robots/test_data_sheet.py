"""The data sheet of a robot: reach and weight against answers known beforehand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs.arm import PANDA, PANDA_READY, Placement, SerialChain, forward_kinematics
from palaestra.envs.arm.robots.data_sheet import data_sheet, largest_weight, reach, weight
from palaestra.envs.arm.robots.start_pose import start_pose

G = 9.81


def planar(*lengths: float, **changes: Any) -> SerialChain:
    """Links along x that turn about level axes, each with 2 kg in its middle; a slide moves along x."""
    dof = len(lengths)
    numbers: dict[str, Any] = {
        "placements": [Placement((length, 0.0, 0.0)) for length in (0.0, *lengths[:-1])],
        "axes": ((0.0, -1.0, 0.0),) * dof,
        "flange": Placement((lengths[-1], 0.0, 0.0)),
        "mass": (2.0,) * dof,
        "centre_of_mass": [(length / 2, 0.0, 0.0) for length in lengths],
        "inertia": ((0.01, 0.01, 0.01, 0.0, 0.0, 0.0),) * dof,
    }
    return SerialChain(name="planar", **(numbers | changes))


def test_the_reach_of_a_stretched_arm_is_the_sum_of_its_links() -> None:
    assert reach(planar(0.5, 0.3)) == pytest.approx(0.8, abs=1e-9)
    assert reach(planar(0.5, 0.3, 0.2, 0.4)) == pytest.approx(1.4, abs=1e-9)


def test_an_elbow_that_does_not_stretch_shortens_the_reach() -> None:
    """Nearest to straight at a right angle, and at 2 rad on the other side."""
    right = planar(0.5, 0.3, q_min=(None, math.pi / 2), q_max=(None, 3.0))
    assert reach(right) == pytest.approx(math.hypot(0.5, 0.3), abs=1e-9)
    bent = planar(0.5, 0.3, q_min=(None, -3.0), q_max=(None, -2.0))
    assert reach(bent) == pytest.approx(math.hypot(0.5 + 0.3 * math.cos(2.0), 0.3 * math.sin(2.0)), abs=1e-9)


def test_the_reach_is_from_the_base_wherever_that_stands() -> None:
    """A slide along x of −0.4 … 0.7 m before one link of 0.3 m, on a base elsewhere."""
    base = Placement((3.0, -2.0, 1.0), ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    slide = {"kinds": ("prismatic", "revolute"), "axes": ((1.0, 0.0, 0.0), (0.0, -1.0, 0.0)), "base": base}
    chain = planar(0.1, 0.3, q_min=(-0.4, None), q_max=(0.7, None), **slide)
    assert reach(chain) == pytest.approx(0.7 + 0.1 + 0.3, abs=1e-9)
    back = planar(0.1, 0.3, q_min=(-0.9, None), q_max=(0.2, None), **slide)
    assert reach(back) == pytest.approx(0.9 - 0.1 + 0.3, abs=1e-9)


numbers = st.floats(-0.5, 0.5)
rows = st.tuples(numbers, st.sampled_from((-math.pi / 2, 0.0, 0.3, math.pi / 2)), numbers)


@given(st.lists(rows, min_size=2, max_size=6), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_no_pose_is_beyond_the_reach(dh: list[tuple[float, float, float]], seed: int) -> None:
    rng, dof = np.random.default_rng(seed), len(dh)
    low = rng.uniform(-3.0, 1.0, dof)
    limits: dict[str, Any] = {"q_min": low, "q_max": low + rng.uniform(0.2, 5.0, dof)}
    body: dict[str, Any] = {"mass": (1.0,) * dof, "centre_of_mass": ((0.0,) * 3,) * dof}
    chain = SerialChain.from_dh("any", dh, inertia=((1.0, 1.0, 1.0, 0.0, 0.0, 0.0),) * dof, **body, **limits)
    q = torch.from_numpy(rng.uniform(limits["q_min"], limits["q_max"], (20_000, dof)))
    tool = forward_kinematics(chain, q).position[:, -1].norm(dim=1).max()
    found = reach(chain)
    assert tool <= found + 1e-9
    assert found - tool <= 0.1 * found + 1e-9  # so many poses come near to it


def test_the_weight_of_the_panda_is_the_published_one() -> None:
    """Gravity torques of the ready pose, which Pinocchio and MuJoCo give for the same parameters."""
    sheet = data_sheet(PANDA, "base", "tool", {}, (), PANDA_READY)
    known = (0.0, -1.771376, -0.644, 18.573590, 0.633846, 1.693685, 0.0)
    assert [joint["weight"] for joint in sheet["joints"]] == pytest.approx(known, abs=1e-6)
    assert sheet["mass"] == pytest.approx(16.062132)


def test_the_weight_of_two_links_worked_out_by_hand() -> None:
    chain = planar(0.5, 0.3)
    q = torch.tensor([[0.4, 0.5]], dtype=torch.float64)
    fore = 2 * G * 0.15 * math.cos(0.9)
    upper = 2 * G * 0.25 * math.cos(0.4) + 2 * G * 0.5 * math.cos(0.4) + fore
    assert weight(chain, q)[0] == pytest.approx((upper, fore))
    most = 2 * G * (0.25 + 0.5 + 0.15), 2 * G * 0.15
    found = largest_weight(chain)
    assert (found <= np.array(most) + 1e-12).all()
    assert found == pytest.approx(most, rel=0.01)


def test_what_a_file_does_not_say_is_marked_and_json_holds_it_all() -> None:
    chain = planar(0.5, 0.3, q_min=(None, -1.0), q_max=(None, 1.5), velocity=(1.0, 2.0), torque=(5.0, None))
    joint_names = chain.joint_names
    assumed = {"position": joint_names[:1], "velocity": joint_names[1:]}
    sheet = data_sheet(chain, "base", "tip", assumed, ("a note",))
    first, second = sheet["joints"]
    assert (first["assumed"], second["assumed"]) == (["position"], ["velocity"])
    assert (first["lower"], first["upper"], first["range"]) == (None, None, [-math.pi, math.pi])
    assert (second["lower"], second["upper"], second["range"]) == (-1.0, 1.5, [-1.0, 1.5])
    assert (first["axis"], first["moves"], second["unit"]) == ([0.0, -1.0, 0.0], "link1", "rad")
    assert first["share_of_effort"] == first["largest_weight"] / 5.0 > 3.0
    assert (second["effort"], second["share_of_effort"]) == (None, None)
    assert {*sheet["assumed"]} == {"position", "velocity"}
    assert json.loads(json.dumps(sheet, allow_nan=False)) == sheet


def test_the_pose_shown_is_the_start_of_the_tasks() -> None:
    chain = planar(0.5, 0.3, 0.2)
    sheet = data_sheet(chain, "base", "tip", {})
    assert tuple(joint["pose"] for joint in sheet["joints"]) == start_pose(chain)
    sheet = data_sheet(chain, "base", "tip", {}, start=(0.1, 0.2, 0.3))
    assert [joint["pose"] for joint in sheet["joints"]] == [0.1, 0.2, 0.3]
