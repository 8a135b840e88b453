"""A robot arm as data: one table per arm, and the Franka Emika Panda's.

1. Geometry by modified Denavit-Hartenberg rows (Craig): the frame of link i is that of link i − 1 after
   Rx(α) · Tx(a) · Rz(q_i) · Tz(d); the flange and the tool are two more rows with a fixed angle.
2. Each link is a rigid body: mass, centre of mass, and inertia about that centre in the link's axes.
3. Joints are revolute, with limits and a smooth friction torque that vanishes at rest,
   f1 / (1 + exp(−f2 (q̇ + f3))) − f1 / (1 + exp(−f2 f3)).

Sources: Craig, "Introduction to robotics", 3rd edition, section 3.4 (the rows). The Panda's geometry and limits: Franka
Robotics, "Robot and interface specifications". Its masses, inertias and friction: Gaz, Cognetti, Oliva, Robuffo
Giordano and De Luca, "Dynamic identification of the Franka Emika Panda robot with retrieval of feasible parameters
using penalty-based optimization", IEEE RA-L 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Row = tuple[float, ...]


@dataclass(frozen=True)
class SerialChain:
    """A serial chain of ``dof`` revolute joints. Sequences of any kind are accepted and kept as tuples.

    Attributes:
        dh: (a, α, d) of each joint: m, rad, m.
        flange: (a, α, θ, d) from the last link to the flange.
        tool: (a, α, θ, d) from the flange to the tool centre.
        q_min, q_max: rad.
        velocity, acceleration: largest absolute values, rad/s and rad/s².
        torque: largest absolute value, N m.
        mass: of each link, kg.
        centre_of_mass: (x, y, z) of each link in its own frame, m.
        inertia: (xx, yy, zz, xy, xz, yz) of each link about its centre of mass in its own axes, kg m².
        friction: (f1, f2, f3) of each joint: N m, s/rad, rad/s.
        gravity: acceleration in the axes of the base, m/s²; it says how the arm is mounted.

    Raises:
        ValueError: if a length does not fit, a number is not finite, a limit is empty, or a mass or an inertia is not
            positive (definite).
    """

    name: str
    dh: tuple[Row, ...]
    flange: Row
    tool: Row
    q_min: Row
    q_max: Row
    velocity: Row
    acceleration: Row
    torque: Row
    mass: Row
    centre_of_mass: tuple[Row, ...]
    inertia: tuple[Row, ...]
    friction: tuple[Row, ...]
    gravity: Row = (0.0, 0.0, -9.81)

    def __post_init__(self) -> None:
        dof = len(self.dh)
        if dof < 1:
            raise ValueError(f"{self.name}: dh needs a row for each joint, got none")
        shapes: dict[str, tuple[int, ...]] = {"dh": (dof, 3), "flange": (4,), "tool": (4,), "gravity": (3,)}
        shapes |= {"centre_of_mass": (dof, 3), "inertia": (dof, 6), "friction": (dof, 3)}
        for field in fields(self):
            if field.name != "name":
                values = self._checked(field.name, getattr(self, field.name), shapes.get(field.name, (dof,)))
                object.__setattr__(self, field.name, _tuples(values))
        for name in ("velocity", "acceleration", "torque", "mass"):
            for row, value in enumerate(getattr(self, name)):
                if value <= 0.0:
                    raise ValueError(f"{self.name}: {_entry(name, row)} must be positive, got {value}")
        for joint, (low, high) in enumerate(zip(self.q_min, self.q_max, strict=True), 1):
            if low >= high:
                raise ValueError(f"{self.name}: q_min of joint {joint} must be below its q_max, got {low} and {high}")
        for link, (xx, yy, zz, xy, xz, yz) in enumerate(self.inertia, 1):
            smallest = float(np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])[0])
            if smallest <= 0.0:
                raise ValueError(
                    f"{self.name}: the inertia of link {link} must be positive definite, "
                    f"its smallest eigenvalue is {smallest:.3g} kg m²"
                )
        for joint, (f1, f2, _) in enumerate(self.friction, 1):
            if f1 < 0.0 or f2 < 0.0:
                raise ValueError(f"{self.name}: friction of joint {joint} must have f1, f2 ≥ 0, got {f1} and {f2}")

    def _checked(self, name: str, values: Any, shape: tuple[int, ...]) -> Any:
        """The values as an array of that shape."""
        try:
            array = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.name}: {name} must be numbers of shape {shape}: {error}") from None
        if array.shape != shape:
            raise ValueError(f"{self.name}: {name} must have shape {shape}, got {array.shape}")
        if not np.isfinite(array).all():
            row = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise ValueError(f"{self.name}: {_entry(name, row)} must be finite, got {array[row].tolist()}")
        return array

    @property
    def dof(self) -> int:
        """Number of joints."""
        return len(self.dh)

    def check_configuration(self, q: Any) -> Row:
        """Joint angles as a tuple of ``dof`` numbers, rad.

        Raises:
            ValueError: if there are not ``dof`` finite numbers, or one is outside its limits.
        """
        angles: Row = _tuples(self._checked("q", q, (self.dof,)))
        for joint, (angle, low, high) in enumerate(zip(angles, self.q_min, self.q_max, strict=True), 1):
            if not low <= angle <= high:
                raise ValueError(f"{self.name}: q of joint {joint} must lie within {low} … {high} rad, got {angle}")
        return angles


class Tables(NamedTuple):
    """A chain's numbers as tensors of one dtype on one device, shaped to broadcast over links and environments."""

    q_min: Tensor  # [dof, 1] rad
    q_max: Tensor  # [dof, 1] rad
    velocity: Tensor  # [dof, 1] rad/s
    acceleration: Tensor  # [dof, 1] rad/s²
    torque: Tensor  # [dof, 1] N m
    mass: Tensor  # [dof, 1] kg
    centre_of_mass: Tensor  # [3, dof, 1] m
    inertia: Tensor  # [6, dof, 1] kg m²
    friction: Tensor  # [3, dof, 1]


@cache
def tables(chain: SerialChain, dtype: torch.dtype, device: torch.device) -> Tables:
    """The tables of a chain, made once for each dtype and device."""

    def tensor(name: str) -> Tensor:
        values = torch.tensor(getattr(chain, name), dtype=torch.float64)
        return values.movedim(0, -1).contiguous().unsqueeze(-1).to(device=device, dtype=dtype)

    with torch.inference_mode(False):  # as the first caller's mode must not stay in the tables
        return Tables(*(tensor(name) for name in Tables._fields))


def _entry(name: str, row: int) -> str:
    """The name of one row of a field in messages."""
    if name in ("flange", "tool", "gravity"):
        return name
    return f"{name} of {'link' if name in ('mass', 'centre_of_mass', 'inertia') else 'joint'} {row + 1}"


def _tuples(values: Any) -> Any:
    """Nested tuples of floats from an array."""
    return tuple(_tuples(v) for v in values) if getattr(values, "ndim", 0) else float(values)


PANDA = SerialChain(
    name="Franka Emika Panda",
    dh=(
        (0.0, 0.0, 0.333),
        (0.0, -math.pi / 2, 0.0),
        (0.0, math.pi / 2, 0.316),
        (0.0825, math.pi / 2, 0.0),
        (-0.0825, -math.pi / 2, 0.384),
        (0.0, math.pi / 2, 0.0),
        (0.088, math.pi / 2, 0.0),
    ),
    flange=(0.0, 0.0, 0.0, 0.107),
    tool=(0.0, 0.0, -math.pi / 4, 0.1034),  # the middle between the finger tips of Franka's hand
    q_min=(-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973),
    q_max=(2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973),
    velocity=(2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61),
    acceleration=(15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0),
    torque=(87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0),
    mass=(4.970684, 0.646926, 3.228604, 3.587895, 1.225946, 1.666555, 0.735522),
    centre_of_mass=(
        (0.003875, 0.002081, -0.04762),
        (-0.003141, -0.02872, 0.003495),
        (0.027518, 0.039252, -0.066502),
        (-0.05317, 0.104419, 0.027454),
        (-0.011953, 0.041065, -0.038437),
        (0.060149, -0.014117, -0.010517),
        (0.010517, -0.004252, 0.061597),
    ),
    inertia=(
        (0.70337, 0.70661, 0.009117, -0.000139, 0.006772, 0.019169),
        (0.007962, 0.02811, 0.025995, -0.003925, 0.010254, 0.000704),
        (0.037242, 0.036155, 0.01083, -0.004761, -0.011396, -0.012805),
        (0.025853, 0.019552, 0.028323, 0.007796, -0.001332, 0.008641),
        (0.035549, 0.029474, 0.008627, -0.002117, -0.004037, 0.000229),
        (0.001964, 0.004354, 0.005433, 0.000109, -0.001158, 0.000341),
        (0.012516, 0.010027, 0.004815, -0.000428, -0.001196, -0.000741),
    ),
    friction=(
        (0.54615, 5.1181, 0.039533),
        (0.87224, 9.0657, 0.025882),
        (0.64068, 10.136, -0.04607),
        (1.2794, 5.5903, 0.036194),
        (0.83904, 8.3469, 0.026226),
        (0.30301, 17.133, -0.021047),
        (0.56489, 10.336, 0.0035526),
    ),
)

PANDA_READY: Row = (0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4)  # Franka's usual start
