"""The argument ``robot`` of the reaching tasks: a ready robot's name, a file, plain data, or a chain.

1. A text is the name of a ready robot (``panda``, ``ur5e``, ``so101``), or else a file: URDF, MJCF, or JSON that holds
   a robot as plain data. A path is relative to the current folder.
2. A mapping with the key ``from`` (the Panda, if it is left out) is that text and what is to be different: ``tip`` and
   ``base`` (names of links of the file), ``tool`` (the tool centre in the flange's frame: its distance along z, m; or
   x, y, z, m; or these and roll, pitch, yaw, rad), limits (a number for all joints, or one for each, null where the
   stated default is to be assumed), ``damping``, ``coulomb``, ``armature``, ``start``, ``targets``, ``pose_targets``.
3. A mapping with the key ``placements`` is a robot as plain data: the chain
   (:mod:`palaestra.envs.arm.robots.plain_data`), and beside it ``start`` (rad or m), ``targets`` and ``pose_targets``
   (boxes of targets for points and for poses, m), ``source``, ``licence``, ``assumed`` (limits that no source gave),
   ``notes``, ``by_rule`` (:mod:`palaestra.envs.arm.robots.derived`) and ``bound``
   (:mod:`palaestra.envs.arm.robots.scores`). A limit that it leaves out gets the stated default of a file's.
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
from palaestra.envs.arm.robots.derived import (
    ORIENTATION,
    PLACES,
    SHAPE,
    check_record,
    is_changed,
    outdated,
    record,
    still_by_rule,
)
from palaestra.envs.arm.robots.plain_data import (
    CHAIN_KEYS,
    LIMITS,
    chain_data,
    chain_from_data,
    check_about,
    check_keys,
    read_placement,
    same,
)
from palaestra.envs.arm.robots.start_pose import start_pose
from palaestra.envs.arm.robots.target_box import target_box
from palaestra.envs.core.suggest import closest

same(PANDA)  # the first of all that are equal to it
Assumed = Mapping[str, Mapping[str, float | None]]
_ABOUT = ("source", "licence", "assumed", "notes", *PLACES, "bound", "by_rule")
_RESISTANCE = ("damping", "coulomb", "armature")
_PER_JOINT = (*LIMITS, *_RESISTANCE)
_CHANGES = ("tool", *PLACES, *_PER_JOINT)


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
        chosen: which of start, targets and pose_targets suit the chain and nothing else: another chain gets its own.
        orientation: whether targets have one, and the digest of the task that it was found for; None if unknown.
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
    chosen: frozenset[str] = frozenset()
    orientation: tuple[bool, str] | None = None

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
    key = "pose_targets" if poses else "targets"
    places = {"start": [float(q) for q in start], key: [[float(end) for end in row] for row in targets]}
    chosen = robot.chosen | {name for name in places if getattr(robot, name) is None}
    by_rule = record(robot.chain, places, chosen)
    if robot.orientation is not None:
        by_rule[ORIENTATION] = list(robot.orientation)
    chain = chain_data(robot.chain)
    data = {"name": chain.pop("name"), **about, **places, **chain, "bound": dict(robot.bound), "by_rule": by_rule}
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
    check_about(name, about)
    check_record(name, about.get("by_rule", {}))
    about["notes"], kept = tuple(about.get("notes", ())), about.pop("by_rule", {})
    numbers = {key: value for key, value in data.items() if key in CHAIN_KEYS}
    placements = numbers.get("placements")
    dof = len(placements) if isinstance(placements, list | tuple) else 0
    numbers |= {key: _for_each(numbers[key], dof) for key in _PER_JOINT if key in numbers}
    if "tool" in numbers:
        numbers["tool"] = _tool(name, numbers["tool"])
    chain = chain_from_data(numbers)
    places = {key: about[key] for key in PLACES if key in about}
    old = outdated(kept, chain, places)
    about = {key: value for key, value in about.items() if key not in old}
    found = tuple(kept[ORIENTATION]) if ORIENTATION in kept else None
    robot = TaskRobot(chain, **about, chosen=still_by_rule(kept, places) - old, orientation=found)
    return _completed(robot, again=bool(kept)) if is_changed(kept, chain) else robot


def _completed(robot: TaskRobot, *, again: bool) -> TaskRobot:
    """The robot with the stated defaults for limits that it lacks; ``again`` also for those that were assumed."""
    chain = robot.chain
    values: dict[str, Any] = {}
    assumed = {name: joints if again else {} for name, joints in robot.assumed.items()}
    for name in RULES.keys() - {"position"}:
        pairs = zip(chain.joint_names, getattr(chain, name), strict=True)
        values[name] = [None if assumed.get(name, {}).get(joint) == value else value for joint, value in pairs]
    full, found = with_assumed_limits(dataclasses.replace(chain, **values))
    now = _valued(full, found)
    for name, joints in ({} if again else robot.assumed).items():
        now = {**now, name: {**joints, **now.get(name, {})}}
    return dataclasses.replace(robot, chain=same(full), assumed={name: now[name] for name in RULES if name in now})


def _changed(robot: TaskRobot, changes: Mapping[str, Any]) -> TaskRobot:
    """The robot with other limits, another tool, start or targets; what was assumed follows from the new limits."""
    if not changes:
        return robot
    old = robot.chain
    values: dict[str, Any] = {key: _for_each(changes[key], old.dof) for key in _RESISTANCE if key in changes}
    if "tool" in changes:
        values["tool"] = _tool(old.name, changes["tool"])
    for name in LIMITS:
        lacking = robot.assumed.get(name, {})
        known = [None if j in lacking else v for j, v in zip(old.joint_names, getattr(old, name), strict=True)]
        values[name] = _for_each(changes.get(name, known), old.dof)
    chain, assumed = with_assumed_limits(dataclasses.replace(old, **values))
    other = robot.chosen if {*changes} & {*SHAPE} else robot.chosen - {"start"} if "start" in changes else frozenset()
    places = {key: changes.get(key, None if key in other else getattr(robot, key)) for key in PLACES}
    new: dict[str, Any] = {
        "chain": same(chain),
        "assumed": _valued(chain, assumed),
        "chosen": robot.chosen - {*changes} - other,
    }
    return dataclasses.replace(robot, **new, **places, bound={}, orientation=None)


def _valued(chain: SerialChain, assumed: Mapping[str, tuple[str, ...]]) -> Assumed:
    """The values that were assumed, by kind of limit and joint; null for positions."""
    found: dict[str, dict[str, float | None]] = {}
    for name, joints in assumed.items():
        values = dict(zip(chain.joint_names, getattr(chain, name, (None,) * chain.dof), strict=True))
        found[name] = {joint: values[joint] for joint in joints}
    return found


def _for_each(value: Any, dof: int) -> Any:
    """A number, or None, for each joint."""
    alike = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    return [value] * dof if alike else value


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
    of_tool = frozenset(("targets", "pose_targets"))
    return TaskRobot(PANDA, PANDA_READY, PANDA_TARGETS, PANDA_TARGETS, source, chosen=of_tool)


@cache
def _shipped(name: str) -> TaskRobot:
    robot = _from_data(_read_json(Path(__file__).with_name(f"{name}.json")))
    return dataclasses.replace(robot, chosen=frozenset(PLACES))


READY: dict[str, Callable[[], TaskRobot]] = {
    "panda": _panda,
    "ur5e": lambda: _shipped("ur5e"),
    "so101": lambda: _shipped("so101"),
}
"""Ready robots by name."""
