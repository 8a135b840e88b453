"""Time steps of many arms at once, as a list of tensor operations on memory that is used again in every step."""

from palaestra.envs.arm.stepping.integrator import Drives, Motion, integrate

__all__ = ["Drives", "Motion", "integrate"]
