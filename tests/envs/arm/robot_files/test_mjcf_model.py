"""Arms from MJCF files: the chain against MuJoCo on the same file, limits and motors, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import mujoco
import pytest
import torch
from robot_reference import differences

from palaestra.envs.arm import forward_kinematics
from palaestra.envs.arm.robot_files import Robot, RobotFileError, read_robot

INERTIAL = '<inertial pos="0.02 -0.01 0.1" mass="2" fullinertia="0.03 0.02 0.015 0.001 -0.002 0.003"/>'
HAND = f'<body name="hand" pos="0 0.1 0.2"><joint name="c" axis="0 1 0" damping="0.5"/>{INERTIAL}</body>'
ARM = """
<mujoco>
  <compiler angle="radian"/>
  <option gravity="1 -2 -9"/>
  <worldbody>
    <geom type="plane" size="1 1 1"/>
    <body name="base" pos="0.3 0.1 0.5" euler="0.3 0.2 -0.4">{inertial}
      <body name="upper" pos="0 0.05 0.3" euler="0.5 -1 0.2">
        <joint name="a" axis="0.3 0 -1" pos="0.02 0.01 -0.03" range="-1 2" armature="0.1" actuatorfrcrange="-30 30"/>
        {more}
        {inertial}
        {hand}
      </body>
    </body>
    {world}
  </worldbody>
  {end}
</mujoco>"""
MOTORS = """<actuator><motor joint="a" gear="50" ctrllimited="true" ctrlrange="-1 1"/>
<position joint="c" kp="100" forcelimited="true" forcerange="-7 5"/></actuator>"""
SLIDE = '<joint name="b" type="slide" axis="1 2 0" pos="0 0.1 0" limited="false"/>'
BOX = '<body name="box" pos="1 0 0"><freejoint/><geom size="0.1"/></body>'


def text_of(**parts: str) -> str:
    return ARM.format(**{"inertial": INERTIAL, "more": "", "hand": HAND, "world": "", "end": ""} | parts)


def read(tmp_path: Path, text: str, **choice: Any) -> Robot:
    path = tmp_path / "arm.xml"
    path.write_text(text)
    return read_robot(path, **choice)


FILES = {
    "anchors": text_of(),
    "two joints on one body": text_of(more=SLIDE),
    "three joints on one body": text_of(more=SLIDE + '<joint name="d" axis="0 0 1" pos="0.1 0 0"/>'),
    "mass of shapes": text_of(inertial='<geom type="capsule" size="0.05 0.2" density="900"/>'),
}


@pytest.mark.parametrize("name", FILES)
def test_the_chain_is_what_mujoco_compiles(tmp_path: Path, name: str) -> None:
    """On a base that stands slanted in the world, whose gravity it feels."""
    robot = read(tmp_path, FILES[name])
    assert (robot.base, robot.tip) == ("world", "hand")
    assert robot.chain.gravity == (1.0, -2.0, -9.0)
    model = mujoco.MjModel.from_xml_string(FILES[name])
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT | mujoco.mjtDisableBit.mjDSBL_CONTACT
    found = differences(robot.chain, model, "hand")
    assert found["torque"] <= 1e-9
    assert found["acceleration"] <= 1e-6
    assert found["tool"] <= 1e-9


def test_unnamed_bodies_and_joints_get_names_that_are_free(tmp_path: Path) -> None:
    """The names that they would get are those of others here."""
    parts = (
        '<body name="{}"><joint name="{}" axis="0 1 0"/><geom size="0.1"/>',
        '<body pos="0 0 0.3"><joint axis="1 0 0"/><geom size="0.1"/>',
        '<body name="{}" pos="0 0 0.3"><joint name="{}" axis="0 1 0" pos="0 0 0.1"/><geom size="0.1"/>',
    )
    for names in (("body2", "joint2", "c", "c:fixed"), ("c:x", "y", "c", "x")):
        text = "".join(parts).format(*names)
        chain = read(tmp_path, f"<mujoco><worldbody>{text}</body></body></body></worldbody></mujoco>").chain
        assert chain.dof == 3
        assert (chain.joint_names[0], chain.joint_names[2]) == (names[1], names[3])
        assert len({*chain.joint_names, *chain.link_names}) == 6
        assert forward_kinematics(chain, torch.zeros(1, 3)).position[0, -1].tolist() == pytest.approx((0, 0, 0.6))


def test_a_reference_angle_is_taken_off(tmp_path: Path) -> None:
    """MuJoCo's angle is ``ref`` where the file draws the arm."""
    text = text_of(hand=HAND.replace('name="c"', 'name="c" ref="0.6"'))
    robot = read(tmp_path, text)
    model = mujoco.MjModel.from_xml_string(text)
    found = differences(robot.chain, model, "hand")
    assert found["tool"] <= 1e-9
    assert found["torque"] <= 1e-9


def test_limits_come_from_joints_and_motors(tmp_path: Path) -> None:
    robot = read(tmp_path, text_of(end=MOTORS))
    chain = robot.chain
    assert (chain.q_min[0], chain.q_max[0]) == (-1.0, 2.0)
    assert chain.torque == (30.0, 7.0)  # the joint takes less than the motor gives
    assert (chain.armature, chain.damping) == ((0.1, 0.0), (0.0, 0.5))
    assert robot.assumed == {"position": ("c",), "velocity": ("a", "c"), "acceleration": ("a", "c")}
    assert read(tmp_path, text_of(end=MOTORS.replace('gear="50"', 'gear="20"'))).chain.torque[0] == 20.0


def test_meshes_are_not_opened(tmp_path: Path) -> None:
    """The file is read though its mesh, texture and the material of both are not there."""
    assets = """<asset><mesh name="m" file="nowhere.stl"/><texture name="t" type="2d" file="nowhere.png"/>
    <material name="s" texture="t"/></asset>"""
    shape = '<geom type="mesh" mesh="m" material="s"/><geom size="0.01" material="s" mass="0"/>'
    with_shape = read(tmp_path, text_of(inertial=INERTIAL + shape, end=assets))
    assert with_shape.chain == read(tmp_path, text_of()).chain


@pytest.mark.parametrize(
    ("inertial", "shape", "lost"),
    [
        ("", "", True),
        ("", 'mass="3"', True),
        ("", 'mass="0"', False),
        ("", 'density="0"', False),
        ("", 'group="2"', False),
        (INERTIAL, "", False),
    ],
)
def test_mass_that_meshes_would_give_is_left_out_with_a_note(
    tmp_path: Path, inertial: str, shape: str, lost: bool
) -> None:
    """Of a body that has another shape as well, so that its joint has some inertia."""
    mesh = f'<geom type="mesh" mesh="m" {shape}/>'
    hand = HAND.replace(INERTIAL, f'{inertial}<geom size="0.1"/>{mesh}{mesh}')
    stand = '<body name="stand"><geom type="mesh" mesh="m"/></body>'  # it does not move: its mass does not matter
    text = text_of(hand=hand, world=stand, end='<asset><mesh name="m" file="nowhere.stl"/></asset>')
    notes = read(tmp_path, text.replace('angle="radian"', 'angle="radian" inertiagrouprange="0 1"')).notes
    assert notes == (("meshes are not opened: their mass is missing in hand; state it in <inertial>",) if lost else ())
    if inertial:
        notes = read(tmp_path, text.replace('angle="radian"', 'angle="radian" inertiafromgeom="true"')).notes
        assert any("missing in hand" in note for note in notes)


def flagged(flag: str, **parts: str) -> str:
    return text_of(**parts).replace('-9"/>', f'-9"><flag {flag}="disable"/></option>')


@pytest.mark.parametrize("text", [text_of().replace("1 -2 -9", "0 0 0"), flagged("gravity")])
def test_gravity_that_is_off_is_said(tmp_path: Path, text: str) -> None:
    robot = read(tmp_path, text)
    assert "the file switches gravity off" in robot.notes
    assert robot.chain.gravity == (0.0, 0.0, 0.0)


def test_gravity_compensation_is_left_out_with_a_note(tmp_path: Path) -> None:
    robot = read(tmp_path, text_of(hand=HAND.replace('name="hand"', 'name="hand" gravcomp="1"')))
    assert robot.notes == ("gravity compensation (gravcomp) is left out: joints carry all the weight of hand",)


def test_what_the_files_flags_switch_off_is_not_there(tmp_path: Path) -> None:
    spring = HAND.replace('damping="0.5"', 'damping="0.5" frictionloss="0.2" stiffness="3"')
    assert read(tmp_path, flagged("spring", hand=spring)).chain.damping == (0.0, 0.5)
    still = HAND.replace('damping="0.5"', 'damping="0.5" frictionloss="0.2"')
    assert read(tmp_path, flagged("damper", hand=still)).chain.damping == (0.0, 0.0)
    assert read(tmp_path, text_of(hand=still)).chain.coulomb == (0.0, 0.2)
    assert read(tmp_path, flagged("frictionloss", hand=still)).chain.coulomb == (0.0, 0.0)


@pytest.mark.parametrize("constraint", ['joint joint1="c" joint2="a"', 'weld body1="hand" body2="base"'])
def test_equalities_that_are_switched_off_hold_nothing(tmp_path: Path, constraint: str) -> None:
    free = read(tmp_path, text_of()).chain
    assert read(tmp_path, text_of(end=f'<equality><{constraint} active="false"/></equality>')).chain == free
    assert read(tmp_path, flagged("equality", end=f"<equality><{constraint}/></equality>")).chain == free


BALL = f'<body name="hand"><joint name="c" type="ball"/>{INERTIAL}</body>'
FINGERS = "".join(f'<body name="f{i}"><joint name="f{i}" type="slide"/><geom size="0.01"/></body>' for i in (1, 2))
BAD: dict[str, tuple[str, str]] = {
    "floating": (text_of().replace('-0.4">', '-0.4"><freejoint name="free"/>'), "joint free is free; only revolute"),
    "ball": (text_of(hand=BALL), "joint c is ball; only revolute, continuous and prismatic"),
    "spring": (text_of(hand=HAND.replace('damping="0.5"', 'stiffness="2"')), "joint c has a spring, which is not held"),
    "loop": (
        text_of(end='<equality><connect body1="hand" body2="base" anchor="0 0 0"/></equality>'),
        "hand is held to base: closed loops are not held",
    ),
    "two tips": (text_of(world=BOX), r"more than one tip, choose one: hand \(2 joints\), box \(1 joints\)"),
    "follows": (text_of(end='<equality><joint joint1="c" joint2="a"/></equality>'), "joint c follows a: choose a tip"),
    "no joint": ("<mujoco><worldbody><body/></worldbody></mujoco>", "no joint below world moves"),
    "not MJCF": ("<mujoco><worldbody><bodi/></worldbody></mujoco>", "arm.xml: MuJoCo says: .*bodi"),
    "entities": ('<!DOCTYPE m [<!ENTITY a "b">]><mujoco/>', "declares a document type"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line(tmp_path: Path, name: str) -> None:
    text, message = BAD[name]
    with pytest.raises(RobotFileError, match=message) as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_loop_among_the_fingers_is_left_alone(tmp_path: Path) -> None:
    hand = HAND.replace("</body>", f"{FINGERS}</body>")
    end = '<equality><connect body1="f1" body2="f2" anchor="0 0 0"/><joint joint1="f2" joint2="f1"/></equality>'
    robot = read(tmp_path, text_of(hand=hand, end=end))
    assert robot.chain.joint_names == ("a", "c")
    assert robot.chain.mass[1] > 2.0


def test_without_mujoco_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(RobotFileError, match=r"arm.xml: reading MJCF needs MuJoCo: pip install 'palaestra\[robots\]'"):
        read(tmp_path, text_of())
