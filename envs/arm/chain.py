"""A robot arm as data: a serial chain of links, each carried by one joint.

1. Geometry by transforms: each joint has a fixed placement in the frame of the link before it (the first one in the
   base's), an axis in its own frame, and a kind. Link i's frame is its joint's, turned about the axis by q_i (revolute
   and continuous joints) or moved along it by q_i (prismatic ones). The flange and the tool are two more fixed
   placements, and the base has one in the world. Rows of Denavit and Hartenberg are a way to write the same
   (:meth:`SerialChain.from_dh`).
2. Each link is a rigid body: mass, centre of mass, and inertia about that centre in the link's axes. A link may weigh
   nothing, or be a point or a thin rod, as long as no motion of the joints within their limits is free of inertia.
3. Joints may have limits, armature (inertia of the motor as the joint feels it) and friction: damping, Coulomb friction
   (smoothed: see ``palaestra.envs.arm.dynamics``), and a friction that was identified in the form
   f1 / (1 + exp(−f2 (q̇ + f3))) − f1 / (1 + exp(−f2 f3)).

Units are rad, N m and kg m² for joints that turn, and m, N and kg for prismatic ones.

Source: Craig, "Introduction to robotics", 3rd edition, section 3.4 (the rows).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from palaestra.envs.arm.definiteness import NEARLY_NOTHING, least_inertia

Row = tuple[float, ...]
Kind = Literal["revolute", "continuous", "prismatic"]
KINDS: tuple[Kind, ...] = ("revolute", "continuous", "prismatic")
_LIMITS = {"q_min": -math.inf, "q_max": math.inf, "velocity": math.inf, "acceleration": math.inf, "torque": math.inf}
_OF_LINKS = ("mass", "centre_of_mass", "inertia")


class Placement(NamedTuple):
    """Where a frame is in another one."""

    position: Row = (0.0, 0.0, 0.0)  # m
    rotation: tuple[Row, ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))  # rows; the columns are its axes

    @classmethod
    def from_dh(cls, a: float, alpha: float, theta: float, d: float) -> Placement:
        """Rx(α) · Tx(a) · Rz(θ) · Tz(d), in m and rad."""
        ca, sa, ct, st = math.cos(alpha), math.sin(alpha), math.cos(theta), math.sin(theta)
        return cls((a, -sa * d, ca * d), ((ct, -st, 0.0), (ca * st, ca * ct, -sa), (sa * st, sa * ct, ca)))


_HERE = Placement()


@dataclass(frozen=True)
class SerialChain:
    """A serial chain of ``dof`` joints. Sequences of any kind are accepted and kept as tuples.

    Attributes:
        placements: of each joint in the frame of the link before it.
        mass: of each link, kg.
        centre_of_mass: (x, y, z) of each link in its own frame, m.
        inertia: (xx, yy, zz, xy, xz, yz) of each link about its centre of mass in its own axes, kg m².
        axes: (x, y, z) of each joint in its own frame, of any length; z if left out.
        kinds: of each joint; revolute if left out.
        q_min, q_max: rad or m. In these and the next three, None or infinity is a limit that is not known.
        velocity, acceleration: largest absolute values, rad/s and rad/s², or m/s and m/s².
        torque: largest absolute value, N m or N.
        friction: (f1, f2, f3) of each joint: N m, s/rad, rad/s.
        damping: of each joint, N m s/rad or N s/m.
        coulomb: of each joint, N m or N.
        armature: of each joint, kg m² or kg.
        flange: in the last link's frame.
        tool: in the flange's frame.
        base: in the world.
        gravity: acceleration in the axes of the world, m/s².
        joint_names, link_names: numbered if left out.

    Raises:
        ValueError: if a length does not fit, a number is not finite, a limit is empty, a mass is negative or an inertia
            not positive semidefinite, or some motion has no inertia.
    """

    name: str
    placements: tuple[Placement, ...]
    mass: Row
    centre_of_mass: tuple[Row, ...]
    inertia: tuple[Row, ...]
    axes: tuple[Row, ...] = ()
    kinds: tuple[Kind, ...] = ()
    q_min: Row = ()
    q_max: Row = ()
    velocity: Row = ()
    acceleration: Row = ()
    torque: Row = ()
    friction: tuple[Row, ...] = ()
    damping: Row = ()
    coulomb: Row = ()
    armature: Row = ()
    flange: Placement = _HERE
    tool: Placement = _HERE
    base: Placement = _HERE
    gravity: Row = (0.0, 0.0, -9.81)
    joint_names: tuple[str, ...] = ()
    link_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        dof = len(self.placements)
        if dof < 1:
            raise ValueError(f"{self.name}: a chain needs a placement for each joint, got none")
        self._set_names(dof)
        placed = tuple(self._placement(f"placement of {self.joint(i)}", p) for i, p in enumerate(self.placements))
        object.__setattr__(self, "placements", placed)
        for name in ("flange", "tool", "base"):
            object.__setattr__(self, name, self._placement(name, getattr(self, name)))
        missing: dict[str, Any] = {"axes": (0.0, 0.0, 1.0), "friction": (0.0,) * 3, **_LIMITS}
        missing |= dict.fromkeys(("damping", "coulomb", "armature"), 0.0)
        shapes = {"axes": (dof, 3), "centre_of_mass": (dof, 3), "inertia": (dof, 6), "friction": (dof, 3)}
        others = ("name", "placements", "flange", "tool", "base", "kinds", "joint_names", "link_names")
        for name in (field.name for field in fields(self) if field.name not in others):
            values = getattr(self, name)
            if name in missing and isinstance(values, tuple | list) and not values:
                values = (missing[name],) * dof
            if name in _LIMITS and np.ndim(values) == 1:
                values = [_LIMITS[name] if value is None else value for value in values]
            array = self._checked(name, values, (3,) if name == "gravity" else shapes.get(name, (dof,)))
            object.__setattr__(self, name, _tuples(self._units(array) if name == "axes" else array))
        self._check_joints()
        self._check_links()

    @classmethod
    def from_dh(
        cls, name: str, dh: Any, flange: Any = (0.0,) * 4, tool: Any = (0.0,) * 4, **others: Any
    ) -> SerialChain:
        """A chain from modified Denavit-Hartenberg rows (Craig): the frame of link i is that of link i − 1 after
        Rx(α) · Tx(a) · Rz(q_i) · Tz(d).

        Args:
            name: of the arm.
            dh: (a, α, d) of each joint: m, rad, m.
            flange: (a, α, θ, d) from the last link to the flange.
            tool: (a, α, θ, d) from the flange to the tool centre.
            **others: all else that a chain has.

        Raises:
            ValueError: as for any chain.
        """
        rows = _numbers(name, "dh", dh, (len(dh), 3), lambda row: f"dh of joint {row + 1}")
        ends = [_numbers(name, part, row, (4,), part.format) for part, row in (("flange", flange), ("tool", tool))]
        placements = tuple(Placement.from_dh(a, alpha, 0.0, d) for a, alpha, d in rows.tolist())
        last, tip = (Placement.from_dh(*end.tolist()) for end in ends)
        return cls(name=name, placements=placements, flange=last, tool=tip, **others)

    def __hash__(self) -> int:
        return hash((self.placements, self.mass, self.centre_of_mass))  # as chains are keys of caches on the hot path

    @property
    def dof(self) -> int:
        """Number of joints."""
        return len(self.placements)

    @property
    def turning(self) -> tuple[bool, ...]:
        """False for joints that are prismatic."""
        return tuple(kind != "prismatic" for kind in self.kinds)

    def joint(self, number: int) -> str:
        """What messages call a joint, counted from 0."""
        return _label("joint", number, self.joint_names)

    def link(self, number: int) -> str:
        """What messages call a link, counted from 0."""
        return _label("link", number, self.link_names)

    def unit(self, number: int) -> str:
        """The unit of a joint's position."""
        return "rad" if self.turning[number] else "m"

    @cached_property
    def span(self) -> tuple[Row, Row]:
        """The lowest and highest positions to draw from and to scale by: the limits, where there are any; otherwise
        a turn around 0 or from the limit that there is, or 2 m for prismatic joints."""
        halves = [math.pi if turns else 1.0 for turns in self.turning]
        rows = list(zip(self.q_min, self.q_max, halves, strict=True))
        lows = tuple(a if a > -math.inf else b - 2 * half if b < math.inf else -half for a, b, half in rows)
        return lows, tuple(b if b < math.inf else low + 2 * half for low, (_, b, half) in zip(lows, rows, strict=True))

    @cached_property
    def alignments(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """[dof, 3, 3] rotations in the links' frames whose z is the joint's axis; the identity where the axis is z."""
        return np.array([_aligned(np.array(axis)) for axis in self.axes])

    @cached_property
    def stages(self) -> tuple[Placement, ...]:
        """Placements of the joints, the flange and the tool, each in the frame before it, between frames whose z is
        the joint's axis. The first is in the world."""
        before, stages = np.array(self.base.rotation), []
        shift = np.array(self.base.position)
        for placement, after in zip((*self.placements, self.flange), (*self.alignments, np.eye(3)), strict=True):
            position = before @ np.array(placement.position) + shift
            stages.append(Placement(_tuples(position), _tuples(before @ np.array(placement.rotation) @ after)))
            before, shift = after.T, np.zeros(3)
        return (*stages, self.tool)

    def check_configuration(self, q: Any) -> Row:
        """Positions of the joints as a tuple of ``dof`` numbers, rad or m.

        Raises:
            ValueError: if there are not ``dof`` finite numbers, or one is outside its limits.
        """
        positions: Row = _tuples(self._checked("q", q, (self.dof,)))
        for i, (position, low, high) in enumerate(zip(positions, self.q_min, self.q_max, strict=True)):
            if not low <= position <= high:
                raise ValueError(
                    f"{self.name}: q of {self.joint(i)} must lie within {low} … {high} {self.unit(i)}, got {position}"
                )
        return positions

    def _set_names(self, dof: int) -> None:
        """Complete and check the names and the kinds."""
        defaults: dict[str, tuple[str, ...]] = {"kinds": ("revolute",) * dof}
        defaults |= {f"{part}_names": tuple(f"{part}{i + 1}" for i in range(dof)) for part in ("joint", "link")}
        for name, default in defaults.items():
            values = tuple(getattr(self, name)) or default
            if len(values) != dof or not all(isinstance(value, str) for value in values):
                raise ValueError(f"{self.name}: {name} must be {dof} words, got {values}")
            if name != "kinds" and len(set(values)) < dof:
                raise ValueError(f"{self.name}: {name} must differ from each other, got {values}")
            object.__setattr__(self, name, values)
        for i, kind in enumerate(self.kinds):
            if kind not in KINDS:
                raise ValueError(
                    f"{self.name}: the kind of {self.joint(i)} must be one of {', '.join(KINDS)}, got {kind}"
                )

    def _placement(self, name: str, value: Any) -> Placement:
        try:
            position, rotation = value
        except (TypeError, ValueError):
            raise ValueError(f"{self.name}: {name} must be a position and a rotation, got {value!r}") from None
        position = self._checked(f"position of the {name}", position, (3,))
        rotation = self._checked(f"rotation of the {name}", rotation, (3, 3))
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-9 or np.linalg.det(rotation) < 0.0:
            raise ValueError(f"{self.name}: rotation of the {name} must be a rotation matrix, got {rotation.tolist()}")
        return Placement(_tuples(position), _tuples(rotation))

    def _units(self, axes: Any) -> Any:
        """Axes [dof, 3] of length 1."""
        largest = np.abs(axes).max(1, keepdims=True)
        if not largest.all():
            raise ValueError(
                f"{self.name}: the axis of {self.joint(int(largest.argmin()))} must have a direction, got 0 0 0"
            )
        units = axes / largest  # whose squares are numbers
        units = units / np.linalg.norm(units, axis=1, keepdims=True)
        return np.where(np.abs(units - axes).max(1, keepdims=True) < 1e-15, axes, units)  # a unit stays, to the bit

    def _check_joints(self) -> None:
        for i, (low, high, kind) in enumerate(zip(self.q_min, self.q_max, self.kinds, strict=True)):
            if low >= high:
                raise ValueError(f"{self.name}: q_min of {self.joint(i)} must be below its q_max, got {low} and {high}")
            if kind == "continuous" and (low > -math.inf or high < math.inf):
                raise ValueError(f"{self.name}: {self.joint(i)} is continuous, so it has no q_min and q_max")
        for name in ("velocity", "acceleration", "torque"):
            for i, value in enumerate(getattr(self, name)):
                if value <= 0.0:
                    raise ValueError(f"{self.name}: {self._entry(name, i)} must be positive, got {value}")
        for name in ("mass", "damping", "coulomb", "armature"):
            for i, value in enumerate(getattr(self, name)):
                if value < 0.0:
                    raise ValueError(f"{self.name}: {self._entry(name, i)} must not be negative, got {value}")
        for i, (f1, f2, _) in enumerate(self.friction):
            if f1 < 0.0 or f2 < 0.0:
                raise ValueError(f"{self.name}: friction of {self.joint(i)} must have f1, f2 ≥ 0, got {f1} and {f2}")

    def _check_links(self) -> None:
        """Each link's inertia by itself, and the chain's where some link has none of its own."""
        strict = True
        for i, (xx, yy, zz, xy, xz, yz) in enumerate(self.inertia):
            moments = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
            if moments[0] < -1e-9 * max(abs(moments[2]), 1e-6):  # a rod's, or that of nothing, rounded
                raise ValueError(
                    f"{self.name}: the inertia of {self.link(i)} must not be negative about any axis, "
                    f"its smallest eigenvalue is {moments[0]:.3g} kg m²"
                )
            strict = strict and self.mass[i] > 0.0 and moments[0] > 1e-9 * moments[2]
        if strict:
            return
        share, q, mover = least_inertia(self)
        if share < NEARLY_NOTHING:
            place = ", ".join(f"{value:.3g}" for value in q)
            raise ValueError(
                f"{self.name}: {self.joint(mover)} has no inertia of its own at q = ({place}): "
                "the links it moves need mass, or the joint an armature"
            )

    def _checked(self, name: str, values: Any, shape: tuple[int, ...]) -> Any:
        """The values as an array of that shape, finite unless they are limits."""
        return _numbers(self.name, name, values, shape, lambda row: self._entry(name, row), _LIMITS.get(name))

    def _entry(self, name: str, row: int) -> str:
        """The name of one row of a field in messages."""
        if name == "gravity" or " of the " in name:
            return name
        return f"{name} of {self.link(row) if name in _OF_LINKS else self.joint(row)}"


def _numbers(
    owner: str,
    name: str,
    values: Any,
    shape: tuple[int, ...],
    entry: Callable[[int], str],
    missing: float | None = None,
) -> Any:
    """The values as an array of that shape, finite or equal to ``missing``.

    Raises:
        ValueError: if they are something else.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{owner}: {name} must be numbers of shape {shape}: {error}") from None
    if array.shape != shape:
        raise ValueError(f"{owner}: {name} must have shape {shape}, got {array.shape}")
    right = np.isfinite(array) | (array == missing)
    if not right.all():
        row = int(np.argwhere(~right)[0, 0])
        raise ValueError(f"{owner}: {entry(row)} must be finite, got {array[row].tolist()}")
    return array


def _aligned(axis: Any) -> Any:
    """A rotation whose z is ``axis``: exact for the axes of the frame, and the identity for z."""
    x = np.eye(3)[int(np.abs(axis).argmin())]
    x = x - (x @ axis) * axis
    x /= np.linalg.norm(x)
    return np.stack((x, np.cross(axis, x), axis), 1)


def _label(part: str, number: int, names: tuple[str, ...]) -> str:
    """ "joint 3", and its name if it has one of its own."""
    name = names[number] if number < len(names) else ""
    own = name not in ("", f"{part}{number + 1}")
    return f"{part} {number + 1}" + (f" ({name})" if own else "")


def _tuples(values: Any) -> Any:
    """Nested tuples of floats from an array."""
    return tuple(_tuples(v) for v in values) if getattr(values, "ndim", 0) else float(values)
