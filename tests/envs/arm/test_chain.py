"""Serial chains as data, and their kinematics against known answers, MuJoCo and automatic differentiation."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mujoco_arm import random_arm, random_chain, random_states, reference
from torch import Tensor

from palaestra.envs.arm import PANDA, PANDA_READY, Placement, SerialChain, forward_kinematics, jacobian

CHAINS = [PANDA, random_chain(0, 4), random_chain(1, 1), random_chain(2, 7), random_arm(0), random_arm(3, 7)]
chains = st.builds(
    lambda make, *args: make(*args),
    st.sampled_from([random_chain, random_arm]),
    st.integers(0, 2**32 - 1),
    st.integers(1, 6),
)


def by_name(value: Any) -> str:
    return getattr(value, "name", str(value))


def row(chain: SerialChain, field: str, number: int, value: Any) -> SerialChain:
    """The chain with one entry of a field replaced."""
    values = list(getattr(chain, field))
    values[number] = value
    change: dict[str, Any] = {field: tuple(values)}
    return dataclasses.replace(chain, **change)


# ---------------------------------------------------------------------------------------------------- data

LIMITS = ("q_min", "q_max", "velocity", "acceleration", "torque")
PER_JOINT = (*LIMITS, "mass", "centre_of_mass", "inertia", "friction", "damping", "coulomb", "armature", "axes")
NOT_DEFINITE = {"negative": (0.1, -0.1, 0.1, 0.0, 0.0, 0.0), "off-diagonal": (0.1, 0.1, 0.1, 0.0, 0.11, 0.0)}
NAMED = dataclasses.replace(PANDA, joint_names=tuple("abcdefg"), link_names=tuple("ABCDEFG"))


def test_pandas_limits_are_the_data_sheets() -> None:
    assert PANDA.dof == 7
    assert PANDA.q_min == (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
    assert PANDA.q_max == (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)
    assert PANDA.velocity == (2.175,) * 4 + (2.61,) * 3
    assert PANDA.acceleration == (15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0)
    assert PANDA.torque == (87.0,) * 4 + (12.0,) * 3
    assert (0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4) == PANDA_READY


def test_arrays_lists_and_integers_make_an_equal_chain_with_an_equal_hash() -> None:
    values: dict[str, Any] = {f.name: getattr(PANDA, f.name) for f in dataclasses.fields(PANDA) if f.name != "name"}
    places = {"placements": [tuple(map(np.array, place)) for place in PANDA.placements]}
    places |= {name: [np.array(part).tolist() for part in values[name]] for name in ("flange", "tool", "base")}
    arrays: dict[str, Any] = {name: places.get(name) or np.array(value) for name, value in values.items()}
    lists: dict[str, Any] = {name: places.get(name) or np.array(value).tolist() for name, value in values.items()}
    assert {SerialChain(PANDA.name, **arrays), SerialChain(PANDA.name, **lists)} == {PANDA}
    assert row(PANDA, "torque", 0, 86).torque == (86.0, *PANDA.torque[1:])


@pytest.mark.parametrize("field", ["gravity", *PER_JOINT])
def test_a_field_of_a_wrong_length_is_named(field: str) -> None:
    """A row too few or too many, and a row of a wrong length. Of what may be left out, nothing at all is right."""
    values = getattr(PANDA, field)
    shapes = dict.fromkeys(("centre_of_mass", "friction", "axes"), "7, 3") | {"inertia": "7, 6", "gravity": "3,"}
    wrong: list[Any] = [(values[0][:-1], *values[1:])] if isinstance(values[0], tuple) else [values[0]]
    for value in (*wrong, values[:-1], (*values, values[0])):
        with pytest.raises(
            ValueError, match=rf"^Franka Emika Panda: {field} must .* shape \({shapes.get(field, '7,')}\)"
        ):
            dataclasses.replace(PANDA, **{field: value})


def test_too_few_or_many_placements_do_not_fit_the_rest() -> None:
    for placements in (PANDA.placements[:-1], (*PANDA.placements, Placement())):
        with pytest.raises(ValueError, match=r"^Franka Emika Panda: kinds must be [68] words, got"):
            dataclasses.replace(PANDA, placements=placements)
    with pytest.raises(ValueError, match=r"^Franka Emika Panda: a chain needs a placement for each joint, got none"):
        dataclasses.replace(PANDA, placements=())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, r"must be a position and a rotation, got 0\.5"),
        (Placement((0.0, 0.0)), r"must have shape \(3,\), got \(2,\)"),
        (Placement((0.0, math.nan, 0.0)), "must be finite, got nan"),
        (Placement(rotation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.1, 1.0))), "must be a rotation matrix"),
        (Placement(rotation=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, -1.0))), "must be a rotation matrix"),
    ],
)
def test_what_is_no_placement_is_named(value: Any, message: str) -> None:
    for place in ("flange", "tool", "base"):
        with pytest.raises(ValueError, match=rf"^Franka Emika Panda: .*{place}.* {message}"):
            dataclasses.replace(PANDA, **{place: value})
    with pytest.raises(ValueError, match=rf"^Franka Emika Panda: .*placement of joint 3 {message}"):
        row(PANDA, "placements", 2, value)


def test_rows_of_denavit_and_hartenberg_are_checked() -> None:
    others: dict[str, Any] = {"mass": (1.0,), "centre_of_mass": ((0.0,) * 3,), "inertia": ((1.0,) * 3 + (0.0,) * 3,)}
    for dh in (((0.0, 0.0),), ((0.0, 0.0, 0.1, 0.0),)):
        with pytest.raises(ValueError, match=r"^one: dh must have shape \(1, 3\), got"):
            SerialChain.from_dh("one", dh, **others)
    with pytest.raises(ValueError, match=r"^one: dh of joint 1 must be finite, got .*inf"):
        SerialChain.from_dh("one", ((0.0, math.inf, 0.1),), **others)
    for end in ("flange", "tool"):
        with pytest.raises(ValueError, match=rf"^one: {end} must have shape \(4,\)"):
            SerialChain.from_dh("one", ((0.0, 0.0, 0.1),), **{end: (0.0,) * 3}, **others)


@pytest.mark.parametrize("field", ["gravity", *PER_JOINT])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_named(field: str, value: float) -> None:
    """An infinite limit is one that is not known, of the sign that leaves everything open."""
    entry = getattr(PANDA, field)[2]
    bad = (*entry[:-1], value) if isinstance(entry, tuple) else value
    if field in LIMITS and value == (-math.inf if field == "q_min" else math.inf):
        assert getattr(row(PANDA, field, 2, value), field)[2] == value
        assert row(PANDA, field, 2, None) == row(PANDA, field, 2, value)
        return
    part = "link" if field in ("mass", "centre_of_mass", "inertia") else "joint"
    name = field if field == "gravity" else f"{field} of {part} 3"
    with pytest.raises(ValueError, match=rf"^Franka Emika Panda: {name} must be finite, got .*{value}"):
        row(PANDA, field, 2, bad)


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(ValueError, match=r"^Franka Emika Panda: mass must be numbers of shape \(7,\)"):
        row(PANDA, "mass", 2, "heavy")


@pytest.mark.parametrize("field", ["velocity", "acceleration", "torque"])
@pytest.mark.parametrize("value", [0.0, -1.0])
def test_limits_must_be_positive(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^Franka Emika Panda: {field} of joint 5 must be positive, got {value}"):
        row(PANDA, field, 4, value)


@pytest.mark.parametrize("field", ["mass", "damping", "coulomb", "armature"])
def test_what_may_be_nothing_must_not_be_negative(field: str) -> None:
    part = "link" if field == "mass" else "joint"
    with pytest.raises(ValueError, match=rf"^Franka Emika Panda: {field} of {part} 5 must not be negative, got -1.0"):
        row(PANDA, field, 4, -1.0)


def test_messages_name_joints_and_links_that_have_a_name() -> None:
    with pytest.raises(ValueError, match=r"velocity of joint 5 \(e\) must be positive"):
        row(NAMED, "velocity", 4, 0.0)
    with pytest.raises(ValueError, match=r"mass of link 2 \(B\) must not be negative"):
        row(NAMED, "mass", 1, -1.0)
    with pytest.raises(ValueError, match=r"q of joint 4 \(d\) must lie within"):
        NAMED.check_configuration((0.0,) * 7)
    for names in (("a",) * 6, tuple(range(7))):
        with pytest.raises(ValueError, match="joint_names must be 7 words, got"):
            dataclasses.replace(PANDA, joint_names=names)
    with pytest.raises(ValueError, match="link_names must differ from each other"):
        dataclasses.replace(PANDA, link_names=tuple("abcdefa"))


def test_kinds_and_axes_of_joints_are_checked() -> None:
    with pytest.raises(ValueError, match="kind of joint 2 must be one of revolute, continuous, prismatic, got ball"):
        row(PANDA, "kinds", 1, "ball")
    with pytest.raises(ValueError, match="joint 2 is continuous, so it has no q_min and q_max"):
        row(PANDA, "kinds", 1, "continuous")
    with pytest.raises(ValueError, match="the axis of joint 2 must have a direction, got 0 0 0"):
        row(PANDA, "axes", 1, (0.0, 0.0, 0.0))
    assert row(PANDA, "axes", 1, (0.0, -3.0, 4.0)).axes[1] == (0.0, -0.6, 0.8)


def test_a_span_is_finite_where_a_limit_is_not_known() -> None:
    open_ended = dataclasses.replace(
        PANDA,
        kinds=("continuous", "revolute", "revolute", "prismatic", "prismatic", "prismatic", "revolute"),
        q_min=(None, -1.0, None, None, None, 0.2, -1.0),
        q_max=(None, None, 1.0, None, 0.5, None, 1.0),
    )
    low = (-math.pi, -1.0, 1.0 - 2 * math.pi, -1.0, -1.5, 0.2, -1.0)
    assert open_ended.span == (low, (math.pi, 2 * math.pi - 1.0, 1.0, 1.0, 0.5, 2.2, 1.0))


# ---------------------------------------------------------------------------------------------------- no inertia


def wrist(reach: float, **changes: Any) -> SerialChain:
    """Three joints about z, x and z through one point; only the last link has mass."""
    body = ((0.1, 0.2, 0.3, 0.0, 0.0, 0.0),)
    return SerialChain(
        name="wrist",
        **{
            "placements": (Placement(),) * 3,
            "axes": ((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)),
            "mass": (0.0, 0.0, 1.0),
            "centre_of_mass": ((0.0,) * 3,) * 3,
            "inertia": (*((0.0,) * 6,) * 2, *body),
            "q_min": (-3.0, 1.5 - reach, -3.0),
            "q_max": (3.0, 1.5 + reach, 3.0),
            **changes,
        },
    )


def test_links_without_inertia_are_taken_where_the_motion_of_every_joint_has_some() -> None:
    """Away from the pose in which the first and the last axis coincide, or with a motor that resists everywhere."""
    assert wrist(1.0).dof == 3
    with pytest.raises(ValueError, match=r"^wrist: joint [13] has no inertia of its own at q = \(.*, 0, "):
        wrist(1.5)
    assert wrist(1.5, armature=(0.1, 0.0, 0.0)).dof == 3
    with pytest.raises(ValueError, match=r"^wrist: joint [23] has no inertia of its own"):
        wrist(1.0, mass=(1.0, 1.0, 0.0), inertia=wrist(1.0).inertia[::-1])


def test_a_rod_is_taken_where_it_does_not_turn_about_itself() -> None:
    rod = (0.1, 0.1, -1e-12, 0.0, 0.0, 0.0)  # rounded
    nothing = (1e-20, 1e-20, 1e-20, 6e-20, 0.0, 0.0)  # as CAD programs write it: negative by −5e-20 kg m²
    for least in (rod, nothing):
        assert wrist(1.0, inertia=(*((0.0,) * 6,) * 2, least), armature=(0.0, 0.0, 0.1)).dof == 3
    with pytest.raises(ValueError, match=r"^wrist: joint 3 has no inertia of its own"):
        wrist(1.0, inertia=(*((0.0,) * 6,) * 2, rod))


@pytest.mark.parametrize("low", [PANDA.q_max[3], 0.0])
def test_a_joint_needs_room_between_its_limits(low: float) -> None:
    with pytest.raises(ValueError, match=r"^Franka Emika Panda: q_min of joint 4 must be below its q_max"):
        row(PANDA, "q_min", 3, low)


@pytest.mark.parametrize("inertia", NOT_DEFINITE.values(), ids=NOT_DEFINITE)
def test_an_inertia_that_is_negative_is_refused(inertia: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"Panda: the inertia of link 6 must not be negative about any axis"):
        row(PANDA, "inertia", 5, inertia)


@pytest.mark.parametrize("friction", [(-0.1, 1.0, 0.0), (0.1, -1.0, 0.0)])
def test_friction_that_drives_is_refused(friction: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"^Franka Emika Panda: friction of joint 1 must have f1, f2 ≥ 0"):
        row(PANDA, "friction", 0, friction)


def test_a_configuration_within_limits_comes_back_as_numbers() -> None:
    for values in (
        PANDA_READY,
        list(PANDA_READY),
        np.array(PANDA_READY),
        torch.tensor(PANDA_READY, dtype=torch.float64),
    ):
        assert PANDA.check_configuration(values) == PANDA_READY
    assert PANDA.check_configuration(PANDA.q_min) == PANDA.q_min
    assert PANDA.check_configuration(PANDA.q_max) == PANDA.q_max


@pytest.mark.parametrize(
    ("q", "message"),
    [
        ((*PANDA_READY[:3], 0.0, *PANDA_READY[4:]), r"q of joint 4 must lie within -3\.0718 … -0\.0698 rad, got 0\.0"),
        ((*PANDA_READY[:6], -2.8974), r"q of joint 7 must lie within -2\.8973 … 2\.8973 rad, got -2\.8974"),
        ((*PANDA_READY[:6], math.nan), "q of joint 7 must be finite, got nan"),
        (PANDA_READY[:6], r"q must have shape \(7,\), got \(6,\)"),
        ([PANDA_READY], r"q must have shape \(7,\), got \(1, 7\)"),
        ("ready", r"q must be numbers of shape \(7,\)"),
    ],
)
def test_a_bad_configuration_is_refused(q: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Franka Emika Panda: {message}"):
        PANDA.check_configuration(q)


# ---------------------------------------------------------------------------------------------------- kinematics


@pytest.mark.parametrize(
    ("q", "frame", "point"),
    [
        (PANDA_READY, -1, (0.306891, 0.0, 0.486882)),
        (PANDA_READY, -2, (0.306891, 0.0, 0.590282)),
        ((0.0,) * 7, -2, (0.088, 0.0, 0.926)),
    ],
)
def test_known_points_of_the_panda(q: tuple[float, ...], frame: int, point: tuple[float, ...]) -> None:
    ours = forward_kinematics(PANDA, torch.tensor([q], dtype=torch.float64)).position[0, frame]
    torch.testing.assert_close(ours, torch.tensor(point, dtype=torch.float64), rtol=0, atol=0.5e-6)


@pytest.mark.parametrize("chain", CHAINS, ids=by_name)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=by_name)
def test_200_states_against_mujoco(chain: SerialChain, dtype: torch.dtype) -> None:
    """Every frame and the Jacobian, 1e-9 m or rad in float64, 1e-4 of each state's norm in float32."""
    states = random_states(chain, 200, dtype=dtype)
    pose = forward_kinematics(chain, states[0])
    ours = {"position": pose.position, "rotation": pose.rotation, "jacobian": jacobian(chain, states[0])}
    theirs = reference(chain, *states)
    for name, value in ours.items():
        assert value.dtype == dtype
        assert value.shape == theirs[name].shape
        error = (value.double() - theirs[name]).flatten(1)
        if dtype == torch.float64:
            assert error.abs().max() < 1e-9
        else:
            assert (error.norm(dim=1) / theirs[name].flatten(1).norm(dim=1)).max() < 1e-4


@given(chains, st.integers(0, 2**32 - 1))
def test_the_jacobian_is_the_derivative_of_the_pose(chain: SerialChain, seed: int) -> None:
    """The tool turns by ω with Ṙ Rᵀ = [ω]×, whose entries (2, 1), (0, 2) and (1, 0) are x, y and z."""
    q = random_states(chain, 3, seed)[0]

    def tool(q: Tensor) -> tuple[Tensor, Tensor]:
        pose = forward_kinematics(chain, q)
        return pose.position[:, -1].sum(0), pose.rotation[:, -1].sum(0)  # no environment depends on another

    linear, turning = torch.autograd.functional.jacobian(tool, q)  # [3, N, dof], [3, 3, N, dof]
    spin = torch.einsum("ijnd,nkj->nikd", turning, forward_kinematics(chain, q).rotation[:, -1])
    angular = torch.stack([spin[:, 2, 1], spin[:, 0, 2], spin[:, 1, 0]], 1)
    expected = torch.cat((linear.transpose(0, 1), angular), 1)
    torch.testing.assert_close(jacobian(chain, q), expected, rtol=0, atol=1e-12)
