"""Reads a robot's file and completes it to an arm for the tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.robot_files.assumed import with_assumed_limits
from palaestra.envs.arm.robot_files.mjcf_model import mjcf_tree
from palaestra.envs.arm.robot_files.tree import RobotFileError, RobotTree
from palaestra.envs.arm.robot_files.urdf import LARGEST_FILE, parsed, urdf_tree


@dataclass(frozen=True)
class Robot:
    """A robot's arm as its file has it, with limits for all that the tasks need."""

    chain: SerialChain
    base: str
    tip: str
    assumed: dict[str, tuple[str, ...]]  # joints whose position, velocity, acceleration or torque has no limit there
    notes: tuple[str, ...]  # sentences on what was chosen, frozen or left out


def read_robot(path: str | Path, tip: str | None = None, base: str | None = None) -> Robot:
    """The chain from a base to a tip of a robot's file, as ``chain`` for :class:`~palaestra.envs.arm.reach.Reach`.

    Args:
        path: a URDF file, or MJCF where MuJoCo is installed (extra ``robots``).
        tip: the link that is the arm's flange; may be left out where the file has only one set of joints to choose.
        base: the link that stands still; the file's root if left out.

    Raises:
        RobotFileError: in one line, if the file is missing, or holds no such arm.
    """
    tree = read_tree(Path(path))
    base = tree.chosen_base(base)
    tip = tree.chosen_tip(tip, base)
    chain, assumed = with_assumed_limits(tree.chain(tip, base))
    return Robot(chain, base, tip, assumed, tuple(tree.notes))


def read_tree(path: Path) -> RobotTree:
    """The links and joints of a file.

    Raises:
        RobotFileError: in one line, if the file is missing, or holds no robot that can be read.
    """
    name = path.name
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise RobotFileError(f"{path}: {error.strerror or error}") from None
    root = parsed(name, text)
    if root.tag == "mujoco":
        return mjcf_tree(path)
    if root.tag != "robot":
        raise RobotFileError(f"{name}: the file's root is <{root.tag}>; URDF has <robot>, MJCF has <mujoco>")
    if any("xacro" in element.tag for element in root.iter()):
        raise RobotFileError(f"{name}: a xacro file is a recipe for URDF: make it with: xacro {name} > robot.urdf")
    return urdf_tree(name, root)
