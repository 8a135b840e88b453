"""MuJoCo on a robot's own URDF as the reference for the chain that was read from it."""

from __future__ import annotations

import dataclasses
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
import torch
from mujoco_arm import random_states

from palaestra.envs.arm import SerialChain, forward_dynamics, forward_kinematics, inverse_dynamics, joint_friction


def mujoco_urdf(text: str, first: str) -> mujoco.MjModel:
    """The file's model without shapes, as MuJoCo reads it, contacts, limits and friction loss off.

    Links that the joint called ``first`` does not move, whose inertia does not matter, get another one: MuJoCo refuses
    the whole file for a wrong one.
    """
    root = ElementTree.fromstring(text)
    for extension in root.findall("mujoco"):
        root.remove(extension)
    for link in root.findall("link"):
        for shape in (*link.findall("visual"), *link.findall("collision")):
            link.remove(shape)
    joints = {joint.get("name"): joint for joint in root.findall("joint") if joint.find("parent") is not None}
    below = {_end(joints[first], "child")}
    for _ in joints:
        below |= {_end(joint, "child") for joint in joints.values() if _end(joint, "parent") in below}
    for link in root.findall("link"):
        if link.get("name") not in below:
            for inertial in link.findall("inertial"):
                link.remove(inertial)
            inertial = ElementTree.SubElement(link, "inertial")
            ElementTree.SubElement(inertial, "mass", value="1")
            ElementTree.SubElement(inertial, "inertia", ixx="1", iyy="1", izz="1", ixy="0", ixz="0", iyz="0")
    extension = ElementTree.SubElement(root, "mujoco")
    ElementTree.SubElement(extension, "compiler", fusestatic="false")
    model = mujoco.MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT | mujoco.mjtDisableBit.mjDSBL_CONTACT
    return model


def _end(joint: ElementTree.Element, end: str) -> str:
    found = joint.find(end)
    assert found is not None
    return found.get("link", "")


def differences(
    chain: SerialChain, model: mujoco.MjModel, tip: str, base: str = "world", n: int = 50
) -> dict[str, float]:
    """The largest differences in N m, rad/s² and m over random states, the other joints standing still at 0.

    Accelerations of more than 1,000 rad/s² count by their share of it.

    Coulomb friction apart: MuJoCo's is a constraint.
    """
    chain = dataclasses.replace(chain, coulomb=(0.0,) * chain.dof)
    q, dq, ddq, tau = random_states(chain, n)
    friction = joint_friction(chain, dq)
    torque = inverse_dynamics(chain, q, dq, ddq) + friction
    acceleration = forward_dynamics(chain, q, dq, tau - friction)
    tool = forward_kinematics(chain, q).position[:, -1]
    data, worst = mujoco.MjData(model), {"torque": 0.0, "acceleration": 0.0, "tool": 0.0}
    joints = [model.joint(name) for name in chain.joint_names]
    place, dofs = [int(joint.qposadr[0]) for joint in joints], [int(joint.dofadr[0]) for joint in joints]
    for i in range(n):
        theirs = _one(model, data, place, dofs, *(v[i].numpy() for v in (q, dq, ddq, tau)))
        root = data.body(base)
        theirs["tool"] = root.xmat.reshape(3, 3).T @ (data.body(tip).xpos - root.xpos)
        for name, ours in (("torque", torque), ("acceleration", acceleration), ("tool", tool)):
            scale = max(1.0, float(ours[i].abs().max()) / 1000) if name == "acceleration" else 1.0
            worst[name] = max(worst[name], float((ours[i] - torch.tensor(theirs[name])).abs().max()) / scale)
    return worst


def _one(
    model: Any, data: Any, place: list[int], dofs: list[int], q: Any, dq: Any, ddq: Any, tau: Any
) -> dict[str, Any]:
    mujoco.mj_resetData(model, data)
    data.qpos[place], data.qvel[dofs] = q, dq
    mujoco.mj_forward(model, data)
    matrix, column = np.zeros((model.nv, model.nv)), np.zeros(model.nv)
    for j in range(model.nv):
        mujoco.mj_mulM(model, data, column, np.eye(model.nv)[j])
        matrix[:, j] = column
    load = (data.qfrc_bias - data.qfrc_passive)[dofs]
    acceleration = np.linalg.solve(matrix[np.ix_(dofs, dofs)], tau - load)
    data.qacc[:] = 0.0
    data.qacc[dofs] = ddq
    mujoco.mj_inverse(model, data)
    return {"torque": data.qfrc_inverse[dofs].copy(), "acceleration": acceleration}
