"""Reads URDF: the links and joints of a robot, and nothing else of the file.

1. Meshes are not opened and ``package://`` is not followed; what a simulator adds (``gazebo``, ``transmission``) is
   left out. A file that declares a document type, and with it entities, is refused before anything is expanded.
2. A limit of 0 for velocity or effort, and lower = upper = 0, mean that the file does not say. So do position limits of
   more than a thousand turns, and velocities and efforts of more than 1e9. A joint without an axis has x, a link
   without an inertia has none.
3. The angles of an ``origin`` are about fixed axes, first x, then y, then z.

Source: the URDF specification of ROS (http://wiki.ros.org/urdf/XML).
"""

from __future__ import annotations

import math
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

import numpy as np

from palaestra.envs.arm.robot_files.tree import MOST_LINKS, JointData, LinkData, RobotFileError, RobotTree
from palaestra.envs.core import Array

LARGEST_FILE, DEEPEST = 20_000_000, 100  # bytes, levels of XML
_NO_LIMIT = 6000.0  # rad or m


def parsed(name: str, text: bytes) -> Element:
    """The root element of an XML file.

    Raises:
        RobotFileError: if it is too large or deep, not XML, or declares a document type.
    """
    if len(text) > LARGEST_FILE:
        raise RobotFileError(f"{name}: the file has {len(text):,} bytes, more than {LARGEST_FILE:,}")
    builder, parser, depth = TreeBuilder(), expat.ParserCreate(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise RobotFileError(f"{name}: elements are nested more than {DEEPEST} deep")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: Any) -> None:
        raise RobotFileError(f"{name}: the file declares a document type (<!DOCTYPE …>), which is not read")

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, RobotFileError):
            raise
        raise RobotFileError(f"{name}: not XML: {error}") from None
    return builder.close()


def urdf_tree(name: str, root: Element) -> RobotTree:
    """The tree of a file's root element.

    Raises:
        RobotFileError: if a number, name or limit is missing or wrong.
    """
    links = [_link(name, element) for element in root.findall("link")]
    joints = [_joint(name, element) for element in root.findall("joint")]
    for part, names in (("link", [link.name for link in links]), ("joint", [joint.name for joint in joints])):
        if len(names) > MOST_LINKS:
            raise RobotFileError(f"{name}: the file has {len(names)} {part}s, more than {MOST_LINKS}")
        if twice := [one for one in names if names.count(one) > 1]:
            raise RobotFileError(f"{name}: two {part}s are called {twice[0]}")
    return RobotTree(name, {link.name: link for link in links}, {joint.name: joint for joint in joints})


def _link(name: str, element: Element) -> LinkData:
    link = LinkData(_attribute(name, element, "name"))
    inertial = element.find("inertial")
    if inertial is None:
        return link
    owner = f"{name}: link {link.name}"
    mass, inertia = inertial.find("mass"), inertial.find("inertia")
    link.centre, turn = _origin(owner, inertial)
    link.mass = 0.0 if mass is None else _numbers(owner, mass, "value", 1)[0]
    if inertia is not None:
        ixx, iyy, izz, ixy, ixz, iyz = (
            _numbers(owner, inertia, key, 1, "0")[0] for key in ("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
        )
        link.inertia = turn @ np.array([[ixx, ixy, ixz], [ixy, iyy, iyz], [ixz, iyz, izz]]) @ turn.T
    return link


def _joint(name: str, element: Element) -> JointData:
    label = _attribute(name, element, "name")
    owner = f"{name}: joint {label}"
    parent, child = (element.find(end) for end in ("parent", "child"))
    if parent is None or child is None:
        raise RobotFileError(f"{owner} has no {'parent' if parent is None else 'child'}")
    position, rotation = _origin(owner, element)
    axis, mimic, kind = element.find("axis"), element.find("mimic"), _attribute(name, element, "type")
    return JointData(
        name=label,
        kind=kind,
        parent=_attribute(owner, parent, "link"),
        child=_attribute(owner, child, "link"),
        position=position,
        rotation=rotation,
        axis=np.array((1.0, 0.0, 0.0) if axis is None else _numbers(owner, axis, "xyz", 3, "1 0 0")),
        limits=_limits(owner, kind, element.find("limit")),
        friction=_friction(owner, element.find("dynamics")),
        follows="" if mimic is None else _attribute(owner, mimic, "joint"),
    )


def _limits(owner: str, kind: str, element: Element | None) -> dict[str, float | None]:
    if element is None:
        return {}
    low, high, velocity, effort = (
        _numbers(owner, element, key, 1, "0", infinite=True)[0] for key in ("lower", "upper", "velocity", "effort")
    )
    limits: dict[str, float | None] = {
        "velocity": abs(velocity) if 0.0 != abs(velocity) < math.inf else None,
        "torque": abs(effort) if 0.0 != abs(effort) < math.inf else None,
    }
    if kind in ("revolute", "prismatic") and (low, high) != (0.0, 0.0):
        limits["q_min"] = low if abs(low) < _NO_LIMIT else None
        limits["q_max"] = high if abs(high) < _NO_LIMIT else None
    return limits


def _friction(owner: str, element: Element | None) -> dict[str, float]:
    if element is None:
        return {}
    damping, coulomb = (_numbers(owner, element, key, 1, "0")[0] for key in ("damping", "friction"))
    return {"damping": damping, "coulomb": coulomb}


def _origin(owner: str, element: Element) -> tuple[Array, Array]:
    """Position and rotation of an element's ``origin``."""
    origin = element.find("origin")
    if origin is None:
        return np.zeros(3), np.eye(3)
    position = np.array(_numbers(owner, origin, "xyz", 3, "0 0 0"))
    (sr, sp, sy), (cr, cp, cy) = (
        [f(angle) for angle in _numbers(owner, origin, "rpy", 3, "0 0 0")] for f in (math.sin, math.cos)
    )
    rows = (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )
    return position, np.array(rows)


def _attribute(owner: str, element: Element, key: str) -> str:
    value = element.get(key)
    if not value:
        raise RobotFileError(f"{owner}: <{element.tag}> has no {key}")
    return value


def _numbers(
    owner: str, element: Element, key: str, count: int, default: str | None = None, infinite: bool = False
) -> list[float]:
    text = element.get(key, default)
    try:
        values = [float(word) for word in (text or "").split()]
    except ValueError:
        values = []
    if len(values) != count or any(math.isnan(v) or (math.isinf(v) and not infinite) for v in values):
        wanted = "a number" if count == 1 else f"{count} numbers"
        raise RobotFileError(f"{owner}: {key} of <{element.tag}> must be {wanted}, got {text!r}")
    return values
