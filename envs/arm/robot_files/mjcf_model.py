"""Reads MJCF through MuJoCo: the bodies and joints of the compiled model.

1. Meshes, textures and height fields are not opened: geoms made of them are taken out before the model is compiled. The
   mass that a body would have from them is left out, with a note.
2. A body with several joints is a row of links without mass. A link's frame is at its joint's anchor, in the body's
   axes; the root is ``world``, and gravity is the file's.
3. The largest torque of a joint is what its motors give, or the joint's own limit of it. Velocities have no limits.
4. A joint that an equality constraint makes follow another one mimics it. Connected or welded bodies are loops, unless
   one of them is a mocap body, which a user moves. Constraints that are not active, and all that the file's flags
   switch off (gravity, equalities, springs, dampers, friction loss), do not count.

Source: MuJoCo's XML reference and documentation of its computation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from palaestra.envs.arm.robot_files.tree import JointData, LinkData, RobotFileError, RobotTree, listed
from palaestra.envs.core import Array

INSTALL = "reading MJCF needs MuJoCo: pip install 'palaestra[robots]'"


def mjcf_tree(path: Path) -> RobotTree:
    """The tree of a file.

    Raises:
        RobotFileError: if MuJoCo is not installed or does not take the file.
    """
    try:
        import mujoco
    except ImportError:
        raise RobotFileError(f"{path.name}: {INSTALL}") from None
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        lightened = _without_meshes(mujoco, spec)
        model = spec.compile()
    except (ValueError, RuntimeError, mujoco.FatalError) as error:
        raise RobotFileError(f"{path.name}: MuJoCo says: {' '.join(str(error).split())}") from None
    _switch_off(mujoco, model)
    links, joints = {"world": LinkData("world")}, {}
    names = _Names(model)
    for b in range(1, model.nbody):
        turn = _rotation(model.body_iquat[b])
        inertia = turn @ np.diag(model.body_inertia[b]) @ turn.T
        name = names.bodies[b]
        links[name] = LinkData(name, float(model.body_mass[b]), model.body_ipos[b].copy(), inertia)
        for joint in _joints(mujoco, model, b, names):
            links.setdefault(joint.child, LinkData(joint.child))
            joints[joint.name] = joint
    tree = RobotTree(path.name, links, joints, tuple(model.opt.gravity.tolist()))
    _add_equalities(mujoco, model, names, tree)
    if light := [names.bodies[body.id] for body in lightened if model.body_weldid[body.id]]:
        tree.notes.append(f"meshes are not opened: their mass is missing in {listed(light)}; state it in <inertial>")
    if not model.opt.gravity.any():
        tree.notes.append("the file switches gravity off")
    elif lifted := [names.bodies[b] for b in model.body_gravcomp.nonzero()[0]]:
        tree.notes.append(
            f"gravity compensation (gravcomp) is left out: joints carry all the weight of {listed(lifted)}"
        )
    return tree


class _Names:
    """Names of the bodies and joints, with free ones for those that have none."""

    def __init__(self, model: Any) -> None:
        bodies, joints = (
            [model.body(b).name for b in range(model.nbody)],
            [model.joint(j).name for j in range(model.njnt)],
        )
        self._taken = {"world", *bodies, *joints}
        self.bodies = [name or self.free(f"body{b}") for b, name in enumerate(bodies)]
        self.joints = [name or self.free(f"joint{j + 1}") for j, name in enumerate(joints)]

    def free(self, name: str) -> str:
        """The name, with as many primes as set it apart from all others; it is taken from then on."""
        while name in self._taken:
            name += "'"
        self._taken.add(name)
        return name


def _switch_off(mujoco: Any, model: Any) -> None:
    """Take out of the model what the file's flags do."""
    arrays = {"GRAVITY": model.opt.gravity, "EQUALITY": model.eq_active0, "FRICTIONLOSS": model.dof_frictionloss}
    arrays |= {"SPRING": model.jnt_stiffness, "DAMPER": model.dof_damping}
    for flag, array in arrays.items():
        if model.opt.disableflags & int(getattr(mujoco.mjtDisableBit, f"mjDSBL_{flag}", 0)):
            array[:] = 0


def _without_meshes(mujoco: Any, spec: Any) -> list[Any]:
    """Take all out of the specification that would open another file to look at; the bodies that lose mass by it."""
    shapes = (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_HFIELD, mujoco.mjtGeom.mjGEOM_SDF)
    always = spec.compiler.inertiafromgeom == mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_TRUE
    never = spec.compiler.inertiafromgeom == mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_FALSE
    first, last = spec.compiler.inertiagrouprange
    lightened = []
    for geom in list(spec.geoms):
        if geom.type in shapes or geom.meshname or geom.hfieldname:
            heavy = first <= geom.group <= last and geom.mass != 0.0 and (geom.density > 0.0 or geom.mass > 0.0)
            if heavy and not never and (always or not geom.parent.explicitinertial) and geom.parent not in lightened:
                lightened.append(geom.parent)
            spec.delete(geom)
        else:
            geom.material = ""
    for site in spec.sites:
        site.material = ""
    for parts in (spec.sensors, spec.pairs, spec.skins, spec.keys, spec.meshes, spec.hfields, spec.materials):
        for part in list(parts):
            spec.delete(part)
    for texture in list(spec.textures):
        spec.delete(texture)
    return lightened


def _joints(mujoco: Any, model: Any, b: int, names: _Names) -> list[JointData]:
    """What carries a body: its joints in their order, and a fixed one to its own frame where that is elsewhere."""
    body, parent = names.bodies[b], names.bodies[int(model.body_parentid[b])]
    position, rotation = model.body_pos[b].copy(), _rotation(model.body_quat[b])
    numbers = range(int(model.body_jntadr[b]), int(model.body_jntadr[b]) + int(model.body_jntnum[b]))
    joints, anchor = [], np.zeros(3)
    for number in numbers:
        name, at, kind = names.joints[number], model.jnt_pos[number].copy(), _kind(mujoco, model, number)
        single = number == numbers[-1] and not at.any()
        axis, start = model.jnt_axis[number].copy(), 0.0
        if kind in ("revolute", "prismatic"):
            start = float(model.qpos0[model.jnt_qposadr[number]])
        place = position + rotation @ (at - anchor)
        joint = JointData(
            name=name,
            kind=kind,
            parent=parent,
            child=body if single else names.free(f"{body}:{name}"),
            position=place - rotation @ axis * start if kind == "prismatic" else place,
            rotation=rotation @ _turn(axis, -start) if kind == "revolute" else rotation,
            axis=axis,
            limits=_limits(mujoco, model, number),
            friction=_friction(model, number),
            stiffness=float(np.abs(model.jnt_stiffness[number]).max()),
        )
        joints.append(joint)
        parent, position, rotation, anchor = joint.child, np.zeros(3), np.eye(3), at
    if parent != body:
        fixed = -anchor if joints else position
        joints.append(JointData(names.free(f"{body}:fixed"), "fixed", parent, body, fixed, rotation, np.eye(3)[2]))
    return joints


def _kind(mujoco: Any, model: Any, number: int) -> str:
    kinds = {mujoco.mjtJoint.mjJNT_HINGE: "revolute", mujoco.mjtJoint.mjJNT_SLIDE: "prismatic"}
    kinds |= {mujoco.mjtJoint.mjJNT_BALL: "ball", mujoco.mjtJoint.mjJNT_FREE: "free"}
    return kinds[mujoco.mjtJoint(int(model.jnt_type[number]))]


def _limits(mujoco: Any, model: Any, number: int) -> dict[str, float | None]:
    limits: dict[str, float | None] = {}
    if model.jnt_limited[number]:
        limits["q_min"], limits["q_max"] = model.jnt_range[number].tolist()
    torques = []
    for a in range(model.nu):
        if int(model.actuator_trntype[a]) != int(mujoco.mjtTrn.mjTRN_JOINT) or model.actuator_trnid[a, 0] != number:
            continue
        gear, motor = abs(float(model.actuator_gear[a, 0])), not model.actuator_biastype[a]
        if model.actuator_forcelimited[a]:
            torques.append(gear * float(np.abs(model.actuator_forcerange[a]).max()))
        elif motor and model.actuator_ctrllimited[a]:
            gain = abs(float(model.actuator_gainprm[a, 0]))
            torques.append(gear * gain * float(np.abs(model.actuator_ctrlrange[a]).max()))
    if model.jnt_actfrclimited[number]:
        torques.append(float(np.abs(model.jnt_actfrcrange[number]).max()))
    limits["torque"] = min((torque for torque in torques if torque > 0.0), default=None)
    return limits


def _friction(model: Any, number: int) -> dict[str, float]:
    dof = int(model.jnt_dofadr[number])
    values = (model.dof_damping[dof], model.dof_frictionloss[dof], model.dof_armature[dof])
    return dict(zip(("damping", "coulomb", "armature"), map(float, values), strict=True))


def _add_equalities(mujoco: Any, model: Any, names: _Names, tree: RobotTree) -> None:
    loops = (int(mujoco.mjtEq.mjEQ_CONNECT), int(mujoco.mjtEq.mjEQ_WELD))
    for e in model.eq_active0.nonzero()[0]:
        kind, first, second = (int(values[e]) for values in (model.eq_type, model.eq_obj1id, model.eq_obj2id))
        if kind == int(mujoco.mjtEq.mjEQ_JOINT) and second >= 0:
            tree.joints[names.joints[first]].follows = names.joints[second]
        elif kind in loops and model.eq_objtype[e] == int(mujoco.mjtObj.mjOBJ_BODY):
            moved_by_hand = model.body_mocapid[[first, second]].max() >= 0
            tree.loops += [] if moved_by_hand else [(names.bodies[first], names.bodies[second])]


def _rotation(quaternion: Array) -> Array:
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _turn(axis: Array, angle: float) -> Array:
    """The rotation about an axis of length 1."""
    return _rotation(np.array((np.cos(angle / 2), *(np.sin(angle / 2) * axis))))
