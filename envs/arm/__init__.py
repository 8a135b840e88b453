"""A robot arm in tensors: serial chains as data, their dynamics, and two reaching tasks."""

from palaestra.envs.arm.chain import Placement, SerialChain
from palaestra.envs.arm.dynamics import (
    Pose,
    forward_dynamics,
    forward_kinematics,
    inverse_dynamics,
    jacobian,
    joint_friction,
    mass_matrix,
)
from palaestra.envs.arm.mjcf import mjcf
from palaestra.envs.arm.panda import PANDA, PANDA_READY

__all__ = [
    "PANDA",
    "PANDA_READY",
    "Placement",
    "Pose",
    "SerialChain",
    "forward_dynamics",
    "forward_kinematics",
    "inverse_dynamics",
    "jacobian",
    "joint_friction",
    "mass_matrix",
    "mjcf",
]
