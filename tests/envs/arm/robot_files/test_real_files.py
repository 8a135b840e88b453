"""Arms of real files against MuJoCo reading the same files. Skipped where the packages are not installed:

pip install --no-deps example-robot-data==6.0.0 robosuite==1.5.2 gymnasium-robotics==1.4.2    # 300 MB
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import mujoco
import pytest
from robot_reference import differences, mujoco_urdf

from palaestra.envs.arm.robot_files import Robot, RobotFileError, read_robot
from palaestra.envs.arm.robot_files.robot_file import read_tree

INSTALLED = [Path(folder, "cmeel.prefix/share/example-robot-data/robots") for folder in sys.path]
ROBOTS = next((folder for folder in INSTALLED if folder.is_dir()), None)
ARMS = {  # file: base, tip, joints; None where the file leaves no choice
    "ur_description/urdf/ur5_robot.urdf": (None, None, 6),
    "ur_description/urdf/ur10_joint_limited_robot.urdf": (None, None, 6),
    "panda_description/urdf/panda.urdf": (None, None, 7),
    "kinova_description/robots/kinova.urdf": (None, None, 6),
    "xarm_description/urdf/xarm7.urdf": (None, None, 7),
    "z1_description/urdf/z1.urdf": (None, "gripperStator", 6),
    "so_arm_description/urdf/so101.urdf": (None, "gripper_frame_link", 5),
    "tiago_description/robots/tiago_no_hand.urdf": (None, "arm_tool_link", 8),  # with a prismatic torso
    "talos_data/robots/talos_left_arm.urdf": (None, "arm_left_7_link", 6),
    "baxter_description/urdf/baxter.urdf": (None, "left_gripper", 7),
    "double_pendulum_description/urdf/double_pendulum_continuous.urdf": (None, None, 2),
    "borinot_description/urdf/borinot_flying_arm_2.urdf": (None, None, 2),
}


MODELS = {  # package and file: base, tip, joints
    "robosuite/models/assets/robots/panda/robot.xml": (None, None, 7),
    "robosuite/models/assets/robots/ur5e/robot.xml": (None, None, 6),
    "robosuite/models/assets/robots/iiwa/robot.xml": (None, None, 7),
    "robosuite/models/assets/robots/sawyer/robot.xml": (None, "right_hand", 7),
    "robosuite/models/assets/robots/jaco/robot.xml": (None, None, 7),
    "robosuite/models/assets/robots/baxter/robot.xml": (None, "left_hand", 7),
    "gymnasium_robotics/envs/mujoco/assets/pusher.xml": (None, "tips_arm", 7),
    "gymnasium_robotics/envs/mujoco/assets/reacher.xml": (None, "fingertip", 2),
    "gymnasium_robotics/envs/mujoco/assets/inverted_double_pendulum.xml": (None, None, 3),  # on a slide
}


@pytest.mark.skipif(ROBOTS is None, reason="example-robot-data is not installed")
@pytest.mark.parametrize("file", ARMS)
def test_a_urdf_moves_as_in_mujoco(file: str) -> None:
    assert ROBOTS is not None
    base, tip, dof = ARMS[file]
    robot = read_robot(ROBOTS / file, tip, base)
    assert robot.chain.dof == dof
    same(robot, mujoco_urdf((ROBOTS / file).read_text(encoding="utf-8"), robot.chain.joint_names[0]))


@pytest.mark.parametrize("file", MODELS)
def test_an_mjcf_moves_as_in_mujoco(file: str) -> None:
    path = next((path for folder in sys.path if (path := Path(folder, file)).is_file()), None)
    if path is None:
        pytest.skip(f"{file.partition('/')[0]} is not installed")
    base, tip, dof = MODELS[file]
    robot = read_robot(path, tip, base)
    assert robot.chain.dof == dof
    model = mujoco.MjModel.from_xml_path(str(path))
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT | mujoco.mjtDisableBit.mjDSBL_CONTACT
    same(robot, model)


REFUSED = {  # reasons, and of how many leaves
    "follows": 50,  # a mimic joint
    "must not be negative about any axis": 24,
    "has no inertia of its own": 12,
}


@pytest.mark.skipif(ROBOTS is None, reason="example-robot-data is not installed")
def test_every_leaf_moves_as_in_mujoco_or_is_refused_for_a_reason() -> None:
    """From the root of each URDF file to each leaf; MuJoCo takes fewer files."""
    assert ROBOTS is not None
    held, compared, refused, unread = 0, 0, Counter[str](), []
    for path in sorted(ROBOTS.rglob("*.urdf")):
        try:
            tree = read_tree(path)
        except RobotFileError as error:
            unread.append(str(error))
            continue
        for root in (link for link in tree.links if link not in tree.above):
            for leaf in (leaf for leaf, joints in tree.leaves(root).items() if joints):
                try:
                    robot = read_robot(path, leaf, root)
                except RobotFileError as error:
                    refused[next(reason for reason in REFUSED if reason in str(error))] += 1
                    continue
                held += 1
                try:
                    model = mujoco_urdf(path.read_text(encoding="utf-8"), robot.chain.joint_names[0])
                except ValueError:  # inertias that MuJoCo does not take
                    continue
                same(robot, model, 4)
                compared += 1
    assert (held, compared, dict(refused)) == (499, 384, REFUSED)
    assert unread == ["ur3.urdf: the file has no link"]


def same(robot: Robot, model: mujoco.MjModel, states: int = 50) -> None:
    found = differences(robot.chain, model, robot.tip, robot.base, states)
    assert found["torque"] <= 1e-9
    assert found["acceleration"] <= 1e-6
    assert found["tool"] <= 1e-9
