"""Arms from URDF files: the chain against MuJoCo, the choice of tip and base, what files do not say, and bad files."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from robot_reference import differences, mujoco_urdf

from palaestra.envs.arm import forward_kinematics
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.arm.robot_files import Robot, RobotFileError, read_robot
from palaestra.envs.arm.robot_files.tree import RobotTree

BODY = '<inertial><origin xyz="0.02 -0.01 0.1" rpy="0.3 -0.2 0.9"/><mass value="2"/>{}</inertial>'
MOMENTS = '<inertia ixx="0.03" iyy="0.02" izz="0.015" ixy="0.001" ixz="-0.002" iyz="0.003"/>'
SOLID = BODY.format(MOMENTS)
LIMIT = '<limit lower="-1.5" upper="1.2" velocity="2.5" effort="40"/>'


def link(name: str, inertial: str = SOLID) -> str:
    return f'<link name="{name}">{inertial}<visual><geometry><mesh filename="package://x/y.dae"/></geometry></visual></link>'


def joint(name: str, parent: str, child: str, kind: str = "revolute", more: str = LIMIT, **changes: str) -> str:
    origin = changes.get("origin", 'xyz="0.1 -0.05 0.3" rpy="0.4 -0.7 1.1"')
    axis = changes.get("axis", "0 0 1")
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/><origin {origin}/>'
        f'<axis xyz="{axis}"/>{more}</joint>'
    )


def joined(name: str, parent: str, child: str, *args: str, **changes: str) -> str:
    """A joint and the link that it carries."""
    return link(child) + joint(name, parent, child, *args, **changes)


def arm(*more: str, **changes: str) -> str:
    """Three joints: revolute about −z, prismatic along a slanted axis, and continuous about y; then a fixed flange."""
    parts = {
        "base": link("base"),
        "a": joined("turn", "base", "upper", axis="0 0 -1"),
        "b": joined("slide", "upper", "fore", "prismatic", axis="0.6 0.64 0.4799999"),
        "c": link("hand")
        + joint("spin", "fore", "hand", "continuous", '<limit velocity="3" effort="5"/>', axis="0 1 0"),
        "d": link("flange", "") + joint("weld", "hand", "flange", "fixed", ""),
    }
    return f'<robot name="r">{"".join((parts | changes).values())}{"".join(more)}</robot>'


def read(tmp_path: Path, text: str | bytes, **choice: Any) -> Robot:
    path = tmp_path / "r.urdf"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_robot(path, **choice)


GRIPPER = (  # two fingers of which one follows the other, and a camera on the hand
    link("left") + joint("open", "flange", "left", "prismatic", axis="0 1 0"),
    link("right") + joint("follow", "flange", "right", "prismatic", LIMIT + '<mimic joint="open"/>', axis="0 -1 0"),
)
DYNAMICS = '<dynamics damping="0.7" friction="0.4"/>'
FILES: dict[str, str] = {
    "all kinds of joint": arm(),
    "a gripper": arm(*GRIPPER),
    "a fixed joint in between": arm(
        b=link("x") + joint("w", "upper", "x", "fixed", "") + link("fore") + joint("slide", "x", "fore")
    ),
    "damping and friction": arm(b=joined("slide", "upper", "fore", more=LIMIT + DYNAMICS)),
    "rounded angles": arm(b=joined("slide", "upper", "fore", origin='xyz="0 0.2 0.3" rpy="3.14159 0 1.5708"')),
    "an axis of nearly length 1": arm(a=joined("turn", "base", "upper", axis="0.9999998 0 0")),
}


@pytest.mark.parametrize("name", FILES)
def test_the_chain_is_what_mujoco_reads(tmp_path: Path, name: str) -> None:
    robot = read(tmp_path, FILES[name])
    assert robot.chain.joint_names == ("turn", "slide", "spin")
    assert robot.chain.link_names == ("upper", "fore", "hand")
    assert (robot.base, robot.tip) == ("base", "flange")
    found = differences(robot.chain, mujoco_urdf(FILES[name], "turn"), "flange", "base")
    assert found["torque"] <= 1e-9
    assert found["acceleration"] <= 1e-6
    assert found["tool"] <= 1e-9


@pytest.mark.parametrize("kind", ["fixed", "revolute"])
def test_gravity_is_the_worlds_on_a_base_that_stands_turned(tmp_path: Path, kind: str) -> None:
    """A base on a wall, and one on a joint that is held at 0."""
    wall = link("world", "") + joint("mount", "world", "base", kind, origin='xyz="0 0 1" rpy="0.2 1.5708 -0.7"')
    text = arm(wall)
    robot = read(tmp_path, text, base="base")
    found = differences(robot.chain, mujoco_urdf(text, "turn"), "flange", "base")
    assert found["torque"] <= 1e-9
    assert found["tool"] <= 1e-9
    assert read(tmp_path, arm(), base="base").chain.gravity == (0.0, 0.0, -9.81)


def test_rounded_angles_leave_the_tool_where_it_is_in_float32(tmp_path: Path) -> None:
    """Axes that are parallel but for 2.7e-6 rad meet kilometres away."""
    chain = read(tmp_path, FILES["rounded angles"]).chain
    q = torch.linspace(-1.0, 1.0, 300, dtype=torch.float64).reshape(100, 3)
    exact, single = (forward_kinematics(chain, q.to(kind)).position[:, -1] for kind in (torch.float64, torch.float32))
    assert (single.double() - exact).abs().max() < 1e-6


def moments(xx: float, yy: float, zz: float) -> str:
    return f'<inertia ixx="{xx}" iyy="{yy}" izz="{zz}" ixy="0" ixz="0" iyz="0"/>'


def first_link(inertial: str) -> str:
    """The arm with another first link."""
    return arm(a=link("upper", inertial) + joint("turn", "base", "upper"))


def test_links_without_mass_and_thin_rods_are_held(tmp_path: Path) -> None:
    """MuJoCo takes neither: for no mass it gets 1e-14 kg and kg m² instead."""
    speck = f'<inertial><mass value="1e-14"/>{moments(1e-14, 1e-14, 1e-14)}</inertial>'
    chain = read(tmp_path, first_link("")).chain
    found = differences(chain, mujoco_urdf(first_link(speck), "turn"), "flange", "base")
    assert found["torque"] <= 1e-9
    assert found["acceleration"] <= 1e-6
    xx, yy, zz, xy, xz, yz = read(tmp_path, first_link(BODY.format(moments(0.03, 0.03, 0.0)))).chain.inertia[0]
    rod = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    assert rod == pytest.approx((0.0, 0.03, 0.03), abs=1e-15)


def test_an_inertia_of_no_body_is_taken_with_a_note(tmp_path: Path) -> None:
    robot = read(tmp_path, first_link(BODY.format(moments(0.01, 0.01, 0.05))))
    assert robot.notes[-1].startswith("the inertia of upper is that of no body: one moment exceeds the sum")
    assert not any("no body" in note for note in read(tmp_path, arm()).notes)


def test_limits_are_the_files_and_what_it_does_not_say_is_assumed(tmp_path: Path) -> None:
    robot = read(tmp_path, arm())
    chain = robot.chain
    assert chain.kinds == ("revolute", "prismatic", "continuous")
    assert (chain.q_min, chain.q_max) == ((-1.5, -1.5, -math.inf), (1.2, 1.2, math.inf))
    assert chain.velocity == (2.5, 2.5, 3.0)
    assert chain.torque == (40.0, 40.0, 5.0)
    assert chain.acceleration == (10.0, 10.0, 12.0)  # the largest velocity within 0.25 s
    names = ("turn", "slide", "spin")
    assert robot.assumed == {"position": ("spin",), "acceleration": names}
    unsaid = '<limit lower="0" upper="0" velocity="0" effort="0"/>'
    wide = '<limit lower="-1e16" upper="1e16" velocity="inf" effort="1"/>'
    changed = arm(
        a=joined("turn", "base", "upper", more=unsaid),
        b=joined("slide", "upper", "fore", "prismatic", more=wide),
        c=joined("spin", "fore", "hand", more=""),
    )
    robot = read(tmp_path, changed)
    assert robot.chain.span == ((-math.pi, -1.0, -math.pi), (math.pi, 1.0, math.pi))
    assert robot.chain.velocity == (2.0, 0.5, 2.0)
    assert robot.assumed == {
        "position": names,
        "velocity": names,
        "acceleration": names,
        "torque": ("turn", "spin"),
    }


@pytest.mark.parametrize("axis", ["1e200 0 0", "1e-200 0 0"])
def test_an_axis_may_have_any_length(tmp_path: Path, axis: str) -> None:
    assert read(tmp_path, arm(a=joined("turn", "base", "upper", axis=axis))).chain.axes[0] == (1.0, 0.0, 0.0)


def test_a_limit_beyond_all_numbers_is_none(tmp_path: Path) -> None:
    limit = '<limit lower="-1" upper="1" velocity="1e300" effort="1e16"/>'
    robot = read(tmp_path, arm(a=joined("turn", "base", "upper", more=limit)))
    assert robot.assumed["velocity"] == robot.assumed["torque"] == ("turn",)
    assert robot.chain.velocity[0] == 2.0


def test_an_assumed_torque_carries_the_arm_in_any_pose(tmp_path: Path) -> None:
    """One link of 2 kg, its centre 0.5 m from a level axis: 1.5 · 9.81 N m, and 0.6 kg m² by 8 rad/s²."""
    ball = '<inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/>'
    tip = link("tip", f'<inertial><origin xyz="0.5 0 0"/><mass value="2"/>{ball}</inertial>')
    text = f"<robot>{link('base')}{tip}{joint('j', 'base', 'tip', more='', origin='', axis='0 1 0')}</robot>"
    chain = read(tmp_path, text).chain
    assert chain.torque[0] == pytest.approx(1.5 * 9.81 + 0.6 * 8.0, rel=0.01)


def test_side_branches_are_frozen_and_what_stands_still_is_left_out(tmp_path: Path) -> None:
    robot = read(tmp_path, arm(*GRIPPER))
    assert robot.chain.mass == (2.0, 2.0, 6.0)
    assert set(robot.notes) == {
        "base is the base, which does not move: its 2 kg are left out",
        "joint open is not on the way to the tip: held at 0, part of hand",
        "joint follow is not on the way to the tip: held at 0, part of hand",
    }
    other = read(tmp_path, arm(*GRIPPER), tip="left", base="upper")
    assert other.chain.joint_names == ("slide", "spin", "open")
    with pytest.raises(RobotFileError, match="joint follow follows open: choose a tip before it, flange"):
        read(tmp_path, arm(*GRIPPER), tip="right")


def test_a_tip_is_chosen_only_where_the_joints_leave_no_choice(tmp_path: Path) -> None:
    frames = link("tool0", "") + joint("t", "hand", "tool0", "fixed", "", origin="")
    robot = read(tmp_path, arm(frames))
    assert robot.tip == "tool0"
    assert robot.notes[0] == "the tip is tool0; on the same body there are also flange"
    jaw = link("jaw") + joint("bite", "flange", "jaw")
    camera = link("eye", "") + joint("see", "hand", "eye", "fixed", "")
    with pytest.raises(RobotFileError, match=r"more than one tip, choose one: jaw \(4 joints\), eye \(3 joints\)"):
        read(tmp_path, arm(jaw, camera))
    assert read(tmp_path, arm(jaw, camera), tip="eye").chain.dof == 3


def test_a_link_of_many_fixed_ones_is_read(tmp_path: Path) -> None:
    """A name plate in 600 parts behind the hand, and as many before a gripper, each 0.1 mm after the one before."""
    names = ["flange", *(f"part{i}" for i in range(600))]
    origin = 'xyz="0.0001 0 0"'
    row = [link(b, "") + joint(f"to {b}", a, b, "fixed", "", origin=origin) for a, b in itertools.pairwise(names)]
    robot = read(tmp_path, arm(*row))
    assert robot.tip == "part599"
    shift = np.subtract(robot.chain.flange.position, read(tmp_path, arm()).chain.flange.position)
    assert np.linalg.norm(shift) == pytest.approx(0.06)
    fingers = [link(f) + joint(f, "flange", f, "prismatic") for f in ("left", "right")]
    assert read(tmp_path, arm(*row, *fingers)).chain.joint_names == ("turn", "slide", "spin")


def test_a_chain_has_at_most_fifty_joints(tmp_path: Path) -> None:
    """With a link without mass among them, by which the whole chain's inertia is sought."""
    rest = "".join(joined(f"j{i}", f"l{i - 1}", f"l{i}") for i in range(3, 52))
    row = link("l0") + joined("j1", "l0", "l1") + link("l2", "") + joint("j2", "l1", "l2") + rest
    with pytest.raises(RobotFileError, match=r"51 joints move l51 against l0, more than 50: choose a tip .* as l50$"):
        read(tmp_path, f"<robot>{row}</robot>")


def test_many_roots_do_not_multiply_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path to each link is walked a few times, not once for each root: it took more than a minute."""
    roots = "".join(link(f"r{i}") for i in range(100))
    walked, path = [0], RobotTree.path

    def counted(self: RobotTree, *ends: Any) -> Any:
        walked[0] += 1
        return path(self, *ends)

    monkeypatch.setattr(RobotTree, "path", counted)
    assert read(tmp_path, arm(roots)).chain.dof == 3
    assert walked[0] < 500


@pytest.mark.parametrize("make_env", [Reach, ReachTorque])
def test_a_robot_that_was_read_is_trained_on(tmp_path: Path, make_env: Any) -> None:
    chain = read(tmp_path, arm(*GRIPPER)).chain
    start = np.array((0.2, 0.1, 0.4))
    tool = forward_kinematics(chain, torch.tensor(start).unsqueeze(0)).position[0, -1].tolist()
    env = make_env(chain, start=start, targets=[(x - 0.02, x + 0.02) for x in tool])
    assert env.action_space.shape == (3,)


LAUGHS = '<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><robot name="&b;"/>'
BAD: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "r.urdf: not XML: no element found"),
    "not XML": ("q1,q2\n0,1\n", "r.urdf: not XML: "),
    "binary": (b"\x00\x01\xff", "r.urdf: not XML: "),
    "another root": ("<sdf/>", "r.urdf: the file's root is <sdf>"),
    "xacro": ('<robot><xacro:macro xmlns:xacro="x"/></robot>', "r.urdf: a xacro file is a recipe for URDF"),
    "entities": (LAUGHS, "r.urdf: the file declares a document type"),
    "nested": ("<a>" * 200, "r.urdf: elements are nested more than 100 deep"),
    "no link": ('<robot name="r"/>', "r.urdf: the file has no link"),
    "many links": (
        f"<robot>{''.join(link(f'l{i}', '') for i in range(10_000))}</robot>",
        "has 10000 links, more than 1000",
    ),
    "no joint": (f"<robot>{link('a')}</robot>", "r.urdf: no joint below a moves"),
    "only fixed joints": (
        f"<robot>{link('a')}{link('b')}{joint('j', 'a', 'b', 'fixed')}</robot>",
        "no joint below a moves",
    ),
    "two roots": (arm(link("e") + link("f") + joint("x", "e", "f")), r"2 roots \(base, e\): choose one as base"),
    "no such link": (arm(joint("x", "hand", "hat")), "joint x names a link 'hat' that is not there"),
    "two parents": (arm(joint("x", "base", "hand")), "link hand hangs on two joints: closed loops are not held"),
    "a ring": (arm(joint("x", "flange", "base")), "hangs on itself: closed loops are not held"),
    "two of one name": (arm(link("hand")), "two links are called hand"),
    "no name": (arm("<link/>"), "<link> has no name"),
    "no child": (arm('<joint name="x" type="fixed"><parent link="hand"/></joint>'), "joint x has no child"),
    "no parent": (arm('<joint name="x" type="fixed"><child link="hand"/></joint>'), "joint x has no parent"),
    "floating": (arm(a=joined("turn", "base", "upper", "floating")), "joint turn is floating"),
    "planar": (
        arm(b=joined("slide", "upper", "fore", "planar")),
        "joint slide is planar; .* such as fore",
    ),
    "inverted": (
        arm(a=joined("turn", "base", "upper", more='<limit lower="2" upper="1"/>')),
        r"q_min of joint 1 \(turn\) must be below its q_max, got 2.0 and 1.0",
    ),
    "no room": (
        arm(a=joined("turn", "base", "upper", more='<limit lower="1" upper="1"/>')),
        r"q_min of joint 1 \(turn\) must be below its q_max",
    ),
    "NaN": (
        arm(a=joined("turn", "base", "upper", axis="0 nan 1")),
        "xyz of <axis> must be 3 numbers",
    ),
    "two numbers": (
        arm(a=joined("turn", "base", "upper", axis="0 1")),
        "xyz of <axis> must be 3 numbers",
    ),
    "no direction": (
        arm(a=joined("turn", "base", "upper", axis="0 0 0")),
        r"axis of joint 1 \(turn\) must",
    ),
    "a mass beyond all numbers": (
        arm(c=link("hand", SOLID.replace('"2"', '"1e300"')) + joint("spin", "fore", "hand")),
        r"the mass of link hand has 1e\+300 in it, more than 1e\+09",
    ),
    "a place beyond all numbers": (
        arm(a=joined("turn", "base", "upper", origin='xyz="0 1e300 0"')),
        r"the position of joint turn has 1e\+300 in it",
    ),
    "an offset beyond all numbers": (
        arm(a=link("upper", SOLID.replace("0.02 ", "-1e200 ")) + joint("turn", "base", "upper")),
        r"the centre of mass of link upper has 1e\+200 in it",
    ),
    "damping beyond all numbers": (
        arm(a=joined("turn", "base", "upper", more='<dynamics damping="1e300"/>')),
        r"the damping of joint turn has 1e\+300 in it",
    ),
    "a word": (arm(c=link("hand", BODY.format('<inertia ixx="x"/>'))), "link hand: ixx of <inertia> must be a number"),
    "negative mass": (
        arm(a=link("upper", SOLID.replace('"2"', '"-2"')) + joint("turn", "base", "upper")),
        r"mass of link 1 \(upper\) must not be negative",
    ),
    "negative inertia": (
        arm(a=link("upper", SOLID.replace('"0.03"', '"-0.03"')) + joint("turn", "base", "upper")),
        r"the inertia of link 1 \(upper\) must not be negative about any axis",
    ),
    "a last link without mass": (
        arm(c=link("hand", "") + joint("spin", "fore", "hand")),
        r"joint 3 \(spin\) has no inertia of its own",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    with pytest.raises(RobotFileError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_there_and_links_that_do_not_exist_are_named(tmp_path: Path) -> None:
    with pytest.raises(RobotFileError, match=r"nowhere.urdf: No such file or directory"):
        read_robot(tmp_path / "nowhere.urdf")
    with pytest.raises(RobotFileError, match=r"Is a directory|Permission denied"):
        read_robot(tmp_path)
    with pytest.raises(RobotFileError, match="no link is called 'flanje', to be the tip; did you mean flange"):
        read(tmp_path, arm(), tip="flanje")
    with pytest.raises(RobotFileError, match="no link is called 'Q', to be the base; its leaves are flange"):
        read(tmp_path, arm(), base="Q")
    with pytest.raises(RobotFileError, match="no joint moves base against hand"):
        read(tmp_path, arm(), base="hand", tip="base")
    with pytest.raises(RobotFileError, match="no joint moves flange against hand"):
        read(tmp_path, arm(), base="hand", tip="flange")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(RobotFileError, match="more than 20,000,000"):
        read(tmp_path, b" " * 20_000_001)
