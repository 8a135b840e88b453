"""A serial chain as a MuJoCo model file (MJCF): the same numbers for another simulator.

1. Link i is a body placed as its joint is, with a hinge or a slide about the joint's axis; the base's placement is in
   the first one's. Joints, motors and bodies have the chain's order and names.
2. The sites ``flange`` and ``tool`` are the chain's two last placements.
3. The model is the rigid bodies, armature and damping: no other friction, limits, contacts or shapes to look at. A
   motor's control is a torque (N m) or force (N). It steps by semi-implicit Euler, velocity first.
4. MuJoCo takes no body without mass or a moment of inertia: what is less than 1e-14 kg or kg m² is written as that. It
   also takes no moment larger than the sum of the other two, which no body has, but some files.

Source: MuJoCo's XML reference. Rotation matrix to quaternion: 4 q qᵀ is linear in the matrix, and any of its rows is a
multiple of q; the one with the largest diagonal entry loses no digits.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from palaestra.envs.arm.chain import Placement, SerialChain

LIGHTEST = 1e-14  # kg and kg m²


def mjcf(chain: SerialChain, timestep: float) -> str:
    """The text of a model file, which MuJoCo loads from a file or by ``MjModel.from_xml_string``.

    Args:
        chain: the arm.
        timestep: s, of MuJoCo's steps.
    """
    root = Element("mujoco", model=chain.name)
    SubElement(root, "compiler", angle="radian", balanceinertia="false")
    option = SubElement(
        root, "option", timestep=repr(float(timestep)), integrator="Euler", gravity=_text(chain.gravity)
    )
    SubElement(option, "flag", contact="disable", constraint="disable")
    parent = SubElement(root, "worldbody")
    motors = SubElement(root, "actuator")
    for i, placement in enumerate(chain.placements):
        place = _place(chain.base, placement) if i == 0 else _place(placement)
        parent = SubElement(parent, "body", {"name": chain.link_names[i], **place})
        joint = {"name": chain.joint_names[i], "axis": _text(chain.axes[i])}
        joint |= {} if chain.turning[i] else {"type": "slide"}
        joint |= {name: repr(getattr(chain, name)[i]) for name in ("armature", "damping") if getattr(chain, name)[i]}
        SubElement(parent, "joint", joint)
        centre = {"mass": repr(max(chain.mass[i], LIGHTEST)), "pos": _text(chain.centre_of_mass[i])}
        SubElement(parent, "inertial", {**centre, **_principal(chain.inertia[i])})
        SubElement(motors, "motor", name=f"motor{i + 1}", joint=chain.joint_names[i])
    SubElement(parent, "site", {"name": "flange", **_place(chain.flange)})
    parent = SubElement(parent, "body", _place(chain.flange))
    SubElement(parent, "site", {"name": "tool", **_place(chain.tool)})
    indent(root)
    return tostring(root, encoding="unicode")


def _place(*placements: Placement) -> dict[str, str]:
    """Position and attitude after the placements, one after the other."""
    rotation, position = np.eye(3), np.zeros(3)
    for placement in placements:
        position = position + rotation @ np.array(placement.position)
        rotation = rotation @ np.array(placement.rotation)
    return {"pos": _text(position.tolist()), "quat": _quaternion(rotation)}


def _principal(inertia: tuple[float, ...]) -> dict[str, str]:
    """The inertia by its principal moments and axes: given in full, MuJoCo 3 finds these to 1e-8 only."""
    xx, yy, zz, xy, xz, yz = inertia
    moments, axes = np.linalg.eigh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    axes[:, 0] *= np.linalg.det(axes)  # right-handed
    return {"diaginertia": _text(moments.clip(min=LIGHTEST).tolist()), "quat": _quaternion(axes)}


def _quaternion(rotation: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation.tolist()
    outer = np.array(
        [
            [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
        ]
    )
    quaternion = outer[outer.diagonal().argmax()]
    return _text((quaternion / np.linalg.norm(quaternion)).tolist())


def _text(values: Iterable[float]) -> str:
    return " ".join(map(repr, values))
