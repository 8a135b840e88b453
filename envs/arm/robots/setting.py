"""The argument ``robot`` of the reaching tasks: a ready robot's name, a file, plain data, or a chain.

1. A text is the name of a ready robot (``panda``, ``ur5e``, ``so101``), or else a file: URDF, MJCF, or JSON that holds
   a robot as plain data. A path is relative to the current folder.
2. A mapping with the key ``from`` (the Panda, if it is left out) is that text and what is to be different: ``tip`` and
   ``base`` (names of links of the file), ``tool`` (the tool centre in the flange's frame: its distance along z, m; or
   x, y, z, m; or these and roll, pitch, yaw, rad), limits (a number for all joints, or one for each, null where the
   stated default is to be assumed), ``start``, ``targets``, ``pose_targets``.
3. A mapping with the key ``placements`` is a robot as plain data: the chain
   (:mod:`palaestra.envs.arm.robots.plain_data`), and beside it ``start`` (rad or m), ``targets`` and ``pose_targets``
   (boxes of targets for points and for poses, m), ``source``, ``licence``, ``assumed`` (limits that no source gave),
   ``notes`` and ``bound`` (:mod:`palaestra.envs.arm.robots.scores`).
4. :func:`robot_data` makes the third form of any other, complete with start and targets: a run keeps that, and needs
   neither the file nor the folder that it was started in.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from palaestra.envs.arm.chain import Placement, SerialChain
from palaestra.envs.arm.panda import PANDA, PANDA_READY, PANDA_TARGETS
from palaestra.envs.arm.robot_files import RobotFileError, read_robot
from palaestra.envs.arm.robot_files.assumed import RULES, with_assumed_limits
from palaestra.envs.arm.robot_files.urdf import LARGEST_FILE
from palaestra.envs.arm.robots.plain_data import (
    CHAIN_KEYS,
    LIMITS,
    chain_data,
    chain_from_data,
    check_keys,
    read_placement,
    same,
)
from palaestra.envs.arm.robots.start_pose import start_pose
from palaestra.envs.arm.robots.target_box import target_box
from palaestra.envs.core.reference import is_finite_number
from palaestra.envs.core.suggest import closest

same(PANDA)  # the first of all that are equal to it
Assumed = Mapping[str, Mapping[str, float | None]]
_ABOUT = ("source", "licence", "assumed", "notes", "start", "targets", "pose_targets", "bound")
_CHANGES = ("tool", "start", "targets", "pose_targets", *LIMITS)


@dataclass(frozen=True)
class TaskRobot:
    """A chain, and what the tasks need besides.

    Attributes:
        chain: the arm.
        start: the pose that it starts in, rad or m; None for :func:`~palaestra.envs.arm.robots.start_pose.start_pose`.
        targets, pose_targets: a box for points and one for poses, m; None for
            :func:`~palaestra.envs.arm.robots.target_box.target_box`.
        source, licence: where its numbers are from.
        assumed: for each kind of limit that no source gave the joints, and the value taken.
        notes: sentences on what was chosen, frozen or left out as its file was read.
        bound: what :mod:`palaestra.envs.arm.robots.scores` found before.
    """

    chain: SerialChain
    start: Any = None
    targets: Any = None
    pose_targets: Any = None
    source: str = ""
    licence: str = ""
    assumed: Assumed = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    bound: Mapping[str, Any] = field(default_factory=dict)

    def placed(self, start: Any = None, targets: Any = None, *, poses: bool = False) -> tuple[Any, Any]:
        """The start and the targets, points or poses: those asked for, the robot's own, or what suits the chain."""
        start = self.start if start is None else start
        start = start_pose(self.chain) if start is None else start
        own = self.pose_targets if poses else self.targets
        targets = own if targets is None else targets
        if targets is None:
            targets = target_box(self.chain, self.chain.check_configuration(start), poses=poses)
        return start, targets

    def remarks(self) -> tuple[str, ...]:
        """Lines for a person on an arm whose limits were assumed in part; none for the others."""
        still = {}
        for name, joints in self.assumed.items():
            values = dict(zip(self.chain.joint_names, getattr(self.chain, name, ()), strict=False))
            if left := [joint for joint, value in joints.items() if value is None or values.get(joint) == value]:
                still[name] = "all joints" if len(left) == self.chain.dof else ", ".join(left)
        if not still:
            return ()
        rules = "; ".join(f"{name} of {joints}: {RULES[name]}" for name, joints in still.items())
        keys = " ".join(f"env.robot.{name}" for name in still if name != "position")
        change = f" (--set {keys.split()[0]}=… sets it)" if keys else ""
        return (f"assumed of {self.chain.name}, as its file does not say: {rules}{change}",)


def task_robot(value: Any) -> TaskRobot:
    """The robot that the argument means.

    Raises:
        ValueError: in one line, if there is none.
    """
    if isinstance(value, TaskRobot):
        return value
    if isinstance(value, SerialChain):
        chain = same(value)
        return READY["panda"]() if chain == PANDA else TaskRobot(chain)
    if isinstance(value, str):
        return _origin(value)
    if not isinstance(value, Mapping):
        names = ", ".join(READY)
        raise ValueError(f"robot must be a name ({names}), a file, or a robot as a mapping, got {value!r}")
    if "placements" in value:
        return _from_data(value)
    changes = {"from": "panda", **value}
    text, tip, base = (changes.pop(key, None) for key in ("from", "tip", "base"))
    if not isinstance(text, str):
        raise ValueError(f"robot.from must be a name ({', '.join(READY)}) or a file, got {text!r}")
    for key, link in (("tip", tip), ("base", base)):
        if link is not None and not isinstance(link, str):
            raise ValueError(f"robot.{key} must be the name of a link, got {link!r}")
    check_keys(text, changes, _CHANGES)
    return _changed(_origin(text, tip, base), changes)


def robot_data(value: Any, *, poses: bool = False) -> dict[str, Any]:
    """The robot as plain data, whole: equal to it to the bit, with a start, and targets that are points or poses.

    Raises:
        ValueError: in one line, if there is none.
    """
    robot = task_robot(value)
    start, targets = robot.placed(poses=poses)
    about: dict[str, Any] = {"source": robot.source, "licence": robot.licence, "notes": list(robot.notes)}
    about["assumed"] = {name: dict(joints) for name, joints in robot.assumed.items()}
    box = [[float(end) for end in row] for row in targets]
    about |= {"start": [float(q) for q in start], "pose_targets" if poses else "targets": box}
    chain = chain_data(robot.chain)
    data = {"name": chain.pop("name"), **about, **chain, "bound": dict(robot.bound)}
    return {key: value for key, value in data.items() if value not in ("", [], {})}


def _origin(text: str, tip: str | None = None, base: str | None = None) -> TaskRobot:
    """The ready robot or the file of that name."""
    if text in READY:
        if tip is not None or base is not None:
            raise ValueError(f"robot={text} is a ready robot, whose tip and base are chosen: tip and base are of files")
        return READY[text]()
    path = Path(text)
    if not path.suffix and not path.exists():
        close = closest(text, list(READY))
        hint = f"; did you mean {close!r}?" if close else ""
        raise ValueError(f"robot={text}: neither a file nor a ready robot ({', '.join(READY)}){hint}")
    if path.suffix.lower() == ".json":
        if tip is not None or base is not None:
            raise ValueError(f"robot={text} is a robot as plain data: tip and base are of URDF and MJCF files")
        return _from_data(_read_json(path))
    try:
        read = read_robot(path, tip, base)
    except RobotFileError as error:
        way = " (by env.robot.tip=LINK or env.robot.base=LINK)" if "choose" in str(error) else ""
        raise RobotFileError(f"{error}{way}") from None
    assumed = _valued(read.chain, read.assumed)
    notes = (f"from {path.name}, {read.base} to {read.tip}", *read.notes)
    return TaskRobot(same(read.chain), source=path.name, assumed=assumed, notes=notes)


def _from_data(data: Mapping[str, Any]) -> TaskRobot:
    """A robot as plain data; limits and tool may stand there in the short forms of changes."""
    name = data.get("name", "robot")
    if "tip" in data or isinstance(data.get("base"), str):
        raise ValueError(f"{name}: tip and base are chosen as a file is read, and this robot has been: name it again")
    check_keys(name, data, (*CHAIN_KEYS, *_ABOUT))
    about = {key: data[key] for key in _ABOUT if key in data}
    _check_about(name, about)
    about["notes"] = tuple(about.get("notes", ()))
    chain = {key: value for key, value in data.items() if key in CHAIN_KEYS}
    placements = chain.get("placements")
    dof = len(placements) if isinstance(placements, list | tuple) else 0
    chain |= {limit: _for_each(chain[limit], dof) for limit in LIMITS if limit in chain}
    if "tool" in chain:
        chain["tool"] = _tool(name, chain["tool"])
    return TaskRobot(chain_from_data(chain), **about)


def _check_about(name: str, about: Mapping[str, Any]) -> None:
    """Raise a ValueError unless what stands beside a chain is of its kind."""
    if not isinstance(name, str):
        raise ValueError(f"a robot's name must be a text, got {name!r}")
    for key, kind in {"assumed": dict, "bound": dict, "source": str, "licence": str, "notes": list}.items():
        if not isinstance(about.get(key, kind()), kind):
            raise ValueError(f"{name}: {key} must be a {kind.__name__}, got {about[key]!r}")
    if wrong := [note for note in about.get("notes", ()) if not isinstance(note, str)]:
        raise ValueError(f"{name}: notes must be texts, got {wrong[0]!r}")
    for limit, joints in about.get("assumed", {}).items():
        if (
            limit not in (*LIMITS, "position")
            or not isinstance(joints, dict)
            or not all(v is None or is_finite_number(v) for v in joints.values())
        ):
            raise ValueError(f"{name}: assumed must hold joints and values for kinds of limit, got {limit}: {joints!r}")
    for key, value in about.get("bound", {}).items():
        rows = value.values() if key == "returns" and isinstance(value, dict) else [[value]]
        plain = all(isinstance(row, list) and all(map(is_finite_number, row)) for row in rows)
        if not (isinstance(value, str) if key == "task" else plain):
            raise ValueError(f"{name}: bound.{key} must be {'a text' if key == 'task' else 'numbers'}, got {value!r}")


def _changed(robot: TaskRobot, changes: Mapping[str, Any]) -> TaskRobot:
    """The robot with other limits, another tool, start or targets; what was assumed follows from the new limits."""
    if not changes:
        return robot
    old = robot.chain
    values: dict[str, Any] = {key: changes[key] for key in changes if key not in ("start", "targets", "pose_targets")}
    if "tool" in values:
        values["tool"] = _tool(old.name, values["tool"])
    for name in LIMITS:
        lacking = robot.assumed.get(name, {})
        known = [None if j in lacking else v for j, v in zip(old.joint_names, getattr(old, name), strict=True)]
        values[name] = _for_each(values.get(name, known), old.dof)
    chain, assumed = with_assumed_limits(dataclasses.replace(old, **values))
    places: dict[str, Any] = {"start": changes.get("start", robot.start)}
    for key in ("targets", "pose_targets"):
        places[key] = changes.get(key, None if "tool" in changes or "start" in changes else getattr(robot, key))
    return dataclasses.replace(robot, chain=same(chain), assumed=_valued(chain, assumed), bound={}, **places)


def _valued(chain: SerialChain, assumed: Mapping[str, tuple[str, ...]]) -> Assumed:
    """The values that were assumed, by kind of limit and joint; null for positions."""
    found: dict[str, dict[str, float | None]] = {}
    for name, joints in assumed.items():
        values = dict(zip(chain.joint_names, getattr(chain, name, (None,) * chain.dof), strict=True))
        found[name] = {joint: values[joint] for joint in joints}
    return found


def _for_each(value: Any, dof: int) -> Any:
    """A number for each joint."""
    return [value] * dof if isinstance(value, int | float) and not isinstance(value, bool) else value


def _tool(name: str, value: Any) -> Any:
    """The placement of the tool centre in the flange's frame.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(value, Mapping | Placement):
        return read_placement(f"{name}: tool", value)
    numbers = [0.0, 0.0, value] if isinstance(value, int | float) and not isinstance(value, bool) else value
    right = isinstance(numbers, list | tuple) and len(numbers) in (3, 6)
    if not right or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise ValueError(
            f"{name}: tool must be its distance along the flange's z in m, or x, y, z, or these and roll, pitch, yaw "
            f"in rad, got {value!r}"
        )
    roll, pitch, yaw = (*numbers[3:], 0.0, 0.0, 0.0)[:3]
    (sr, cr), (sp, cp), (sy, cy) = ((math.sin(a), math.cos(a)) for a in (roll, pitch, yaw))
    rotation = (
        (cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        (sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        (-sp, cp * sr, cp * cr),
    )
    return Placement(tuple(float(n) for n in numbers[:3]), rotation)


def _read_json(path: Path) -> Mapping[str, Any]:
    """The mapping in a file.

    Raises:
        ValueError: in one line, if there is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    if len(text) > LARGEST_FILE:
        raise ValueError(f"{path}: the file has more than {LARGEST_FILE:,} bytes")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: a robot is a mapping, the file has a {type(data).__name__}")
    return data


def _panda() -> TaskRobot:
    source = "Franka Robotics, Robot and interface specifications; Gaz et al., IEEE RA-L 2019"
    return TaskRobot(PANDA, PANDA_READY, PANDA_TARGETS, PANDA_TARGETS, source)


@cache
def _shipped(name: str) -> TaskRobot:
    return _from_data(_read_json(Path(__file__).with_name(f"{name}.json")))


READY: dict[str, Callable[[], TaskRobot]] = {
    "panda": _panda,
    "ur5e": lambda: _shipped("ur5e"),
    "so101": lambda: _shipped("so101"),
}
"""Ready robots by name."""
