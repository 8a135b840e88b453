"""A serial chain as a MuJoCo model file (MJCF): the same numbers for another simulator.

1. Link i is a body placed by Rx(α) · Tx(a) · Tz(d) with a hinge about its own z axis, which is the chain's
   Rx(α) · Tx(a) · Rz(q) · Tz(d), as Rz and Tz commute. Joints, motors and bodies have the chain's order.
2. The sites ``flange`` and ``tool`` are the chain's two last rows.
3. The model is the rigid bodies alone: no friction, armature, limits, contacts or shapes to look at. A motor's control
   is a torque (N m). It steps by semi-implicit Euler, velocity first.

Source: MuJoCo's XML reference. Rotation matrix to quaternion: 4 q qᵀ is linear in the matrix, and any of its rows is a
multiple of q; the one with the largest diagonal entry loses no digits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from palaestra.envs.arm.chain import SerialChain


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
    for i, (a, alpha, d) in enumerate(chain.dh):
        parent = SubElement(parent, "body", {"name": f"link{i + 1}", **_place(a, alpha, 0.0, d)})
        SubElement(parent, "joint", name=f"joint{i + 1}", axis="0 0 1")
        centre = {"mass": repr(chain.mass[i]), "pos": _text(chain.centre_of_mass[i])}
        SubElement(parent, "inertial", {**centre, **_principal(chain.inertia[i])})
        SubElement(motors, "motor", name=f"motor{i + 1}", joint=f"joint{i + 1}")
    SubElement(parent, "site", {"name": "flange", **_place(*chain.flange)})
    parent = SubElement(parent, "body", _place(*chain.flange))
    SubElement(parent, "site", {"name": "tool", **_place(*chain.tool)})
    indent(root)
    return tostring(root, encoding="unicode")


def _place(a: float, alpha: float, theta: float, d: float) -> dict[str, str]:
    """Position and attitude after Rx(α) · Tx(a) · Rz(θ) · Tz(d)."""
    cx, sx, cz, sz = (f(angle / 2) for angle in (alpha, theta) for f in (math.cos, math.sin))
    position = (a, -math.sin(alpha) * d, math.cos(alpha) * d)
    return {"pos": _text(position), "quat": _text((cx * cz, sx * cz, -sx * sz, cx * sz))}


def _principal(inertia: tuple[float, ...]) -> dict[str, str]:
    """The inertia by its principal moments and axes: given in full, MuJoCo 3 finds these to 1e-8 only."""
    xx, yy, zz, xy, xz, yz = inertia
    moments, axes = np.linalg.eigh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    axes[:, 0] *= np.linalg.det(axes)  # right-handed
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = axes.tolist()
    outer = np.array(
        [
            [1 + xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz],
        ]
    )
    quaternion = outer[outer.diagonal().argmax()]
    quaternion /= np.linalg.norm(quaternion)
    return {"diaginertia": _text(moments.tolist()), "quat": _text(quaternion.tolist())}


def _text(values: Iterable[float]) -> str:
    return " ".join(map(repr, values))
