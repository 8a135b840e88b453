"""Robots for the tasks: as plain data, ready ones by name, with a start and targets that suit them, and their bound."""

from palaestra.envs.arm.robots.plain_data import chain_data, chain_from_data
from palaestra.envs.arm.robots.setting import READY, TaskRobot, robot_data, task_robot

__all__ = ["READY", "TaskRobot", "chain_data", "chain_from_data", "robot_data", "task_robot"]
