"""Robots from files: any serial arm on a fixed base in a URDF or MJCF file becomes a chain for the tasks."""

from palaestra.envs.arm.robot_files.robot_file import Robot, read_robot
from palaestra.envs.arm.robot_files.tree import RobotFileError

__all__ = ["Robot", "RobotFileError", "read_robot"]
