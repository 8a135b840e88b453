"""A robot file's links and joints as a tree, and the serial chain from a base to a tip of it.

1. A link whose joint is fixed belongs to the body that carries it; what hangs on the chain by other joints (a gripper,
   a second arm) is frozen at its zero and belongs to it too. What lies before the base, and the base itself, is ground;
   gravity is turned into the base's axes.
2. The tip is chosen only where the file leaves no choice of joints: all leaves that some joint moves are moved by the
   same ones. A fork into branches of at most one joint of their own each is a gripper: the tip is before it.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from palaestra.envs.arm.chain import Placement, SerialChain
from palaestra.envs.core import Array

TIP_NAMES = ("tcp", "tool0", "ee_link")  # in the order of preference, where links of one body could be the tip
LARGEST = 1e9  # kg, kg m², m and friction, so that float32 holds the products; a limit beyond it is none
MOST_LINKS, MOST_JOINTS = 1000, 50  # of a file, and on the way to the tip
MOVING = ("revolute", "continuous", "prismatic")


class RobotFileError(ValueError):
    """A robot file that does not become an arm, in one line."""


@dataclass(eq=False)
class LinkData:
    name: str
    mass: float = 0.0  # kg
    centre: Array = field(default_factory=lambda: np.zeros(3))  # m in the link's frame
    inertia: Array = field(default_factory=lambda: np.zeros((3, 3)))  # kg m² about the centre in the link's axes


@dataclass(eq=False)
class JointData:
    name: str
    kind: str  # one of MOVING, "fixed", or what the file calls it
    parent: str
    child: str
    position: Array  # m, of the child's frame in the parent's
    rotation: Array  # [3, 3]
    axis: Array
    limits: dict[str, float | None] = field(default_factory=dict)  # q_min, q_max, velocity, torque; None: not known
    friction: dict[str, float] = field(default_factory=dict)  # damping, coulomb, armature
    stiffness: float = 0.0  # N m/rad or N/m, of a spring
    follows: str = ""  # the joint that this one mimics


@dataclass
class RobotTree:
    """Links and joints by name, in the file's order.

    Raises:
        RobotFileError: if they are not one or more trees.
    """

    name: str
    links: dict[str, LinkData]
    joints: dict[str, JointData]
    gravity: tuple[float, ...] = (0.0, 0.0, -9.81)
    notes: list[str] = field(default_factory=list)
    loops: list[tuple[str, str]] = field(default_factory=list)  # links that are held together beside the joints

    def __post_init__(self) -> None:
        if not self.links:
            raise RobotFileError(f"{self.name}: the file has no link")
        for joint in self.joints.values():
            for end in (joint.parent, joint.child):
                if end not in self.links:
                    raise RobotFileError(f"{self.name}: joint {joint.name} names a link {end!r} that is not there")
        if len(self.links) > MOST_LINKS:
            raise RobotFileError(f"{self.name}: the file has {len(self.links)} links, more than {MOST_LINKS}")
        self._check_sizes()
        if len(self.above) < len(self.joints):
            twice = next(j for j in self.joints.values() if self.above[j.child] is not j)
            raise RobotFileError(f"{self.name}: link {twice.child} hangs on two joints: closed loops are not held")
        for link in self.links:
            if link in (joint.parent for joint in self.path(link)[1:]):
                raise RobotFileError(f"{self.name}: link {link} hangs on itself: closed loops are not held")

    def _check_sizes(self) -> None:
        parts: list[tuple[str, Any]] = [
            (f"{name} of link {link.name}", value)
            for link in self.links.values()
            for name, value in (("mass", link.mass), ("centre of mass", link.centre), ("inertia", link.inertia))
        ]
        for joint in self.joints.values():
            numbers = {"position": joint.position, **joint.friction}
            parts += [(f"{name} of joint {joint.name}", value) for name, value in numbers.items()]
        for name, value in parts:
            if not (size := float(np.abs(value).max())) <= LARGEST:
                raise RobotFileError(f"{self.name}: the {name} has {size:g} in it, more than {LARGEST:g}")

    @cached_property
    def above(self) -> dict[str, JointData]:
        """The joint that carries each link; roots have none."""
        return {joint.child: joint for joint in self.joints.values()}

    @cached_property
    def below(self) -> dict[str, list[JointData]]:
        """The joints that each link carries."""
        below: dict[str, list[JointData]] = {link: [] for link in self.links}
        for joint in self.joints.values():
            below[joint.parent].append(joint)
        return below

    def path(self, tip: str, base: str | None = None) -> list[JointData]:
        """The joints from the base, or a root, to a link."""
        path: list[JointData] = []
        while tip in self.above and tip != base and len(path) <= len(self.joints):
            path.append(self.above[tip])
            tip = path[-1].parent
        return path[::-1]

    def moving(self, tip: str, base: str | None = None) -> list[JointData]:
        """The joints of a path that move, fixed ones left out."""
        return [joint for joint in self.path(tip, base) if joint.kind != "fixed"]

    def body(self, link: str) -> list[str]:
        """The link and all that fixed joints hang on it."""
        body, waiting = [], [link]
        while waiting:
            body.append(waiting.pop())
            waiting += [joint.child for joint in reversed(self.below[body[-1]]) if joint.kind == "fixed"]
        return body

    def leaves(self, base: str) -> dict[str, int]:
        """Links below the base that carry nothing, and how many joints move each of them."""
        moved = {base: 0}
        for link in self._downwards(base)[1:]:
            joint = self.above[link]
            moved[link] = moved[joint.parent] + (joint.kind != "fixed")
        return {link: moved[link] for link in self.links if link in moved and not self.below[link]}

    def _downwards(self, base: str) -> list[str]:
        """The base and all links below it, each after the one that carries it."""
        order = [base]
        for link in order:
            order += [joint.child for joint in self.below[link]]
        return order

    def chosen_base(self, base: str | None) -> str:
        """The base asked for, or the only root."""
        if base is not None:
            return self._known(base, "base")
        roots = [link for link in self.links if link not in self.above]
        moved = [link for link in roots if any(self.leaves(link).values())] or roots
        if len(moved) > 1:
            raise RobotFileError(f"{self.name}: the file has {len(moved)} roots ({listed(moved)}): choose one as base")
        return moved[0]

    def chosen_tip(self, tip: str | None, base: str) -> str:
        """The tip asked for, or the one that the file leaves no choice about."""
        if tip is not None:
            return self._known(tip, "tip")
        ends = {}
        for leaf, count in self.leaves(base).items():
            if count:
                end = self._before_gripper(leaf, base)
                ends[end] = tuple(joint.name for joint in self.moving(end, base))
        if not ends:
            raise RobotFileError(f"{self.name}: no joint below {base} moves")
        if len(set(ends.values())) > 1 or () in ends.values():
            counts = [f"{leaf} ({count} joints)" for leaf, count in self.leaves(base).items() if count]
            raise RobotFileError(f"{self.name}: the file has more than one tip, choose one: {listed(counts)}")
        last = self.moving(next(iter(ends)), base)[-1].child
        body = self.body(last)
        candidates = [link for link in body if not any(j.kind == "fixed" for j in self.below[link])]
        wanted = [link for name in TIP_NAMES for link in candidates if link.lower().endswith(name)]
        chosen = (wanted or sorted(candidates, key=lambda link: -self._distance(link, last)))[0]
        if others := [link for link in candidates if link != chosen]:
            self.notes.append(f"the tip is {chosen}; on the same body there are also {listed(others)}")
        return chosen

    def chain(self, tip: str, base: str) -> SerialChain:
        """The chain from the base to the tip, with limits that the file does not know left open.

        Raises:
            RobotFileError: if there is none, or it is not a chain of joints with one degree of freedom each.
        """
        joints = self._checked_joints(tip, base)
        placements, carried = [], np.eye(4)
        for joint in self.path(tip, base):
            carried = carried @ transform(joint)
            if joint.kind != "fixed":
                placements.append(_placement(carried))
                carried = np.eye(4)
        stand = np.eye(4)
        for joint in self.path(base):
            stand = stand @ transform(joint)
        if self.links[base].mass:
            self.notes.append(f"{base} is the base, which does not move: its {self.links[base].mass:g} kg are left out")
        bodies = [self._lumped(joint.child, joints) for joint in joints]
        numbers: dict[str, Any] = {
            "kinds": tuple(joint.kind for joint in joints),
            "mass": [body.mass for body in bodies],
            "centre_of_mass": [body.centre for body in bodies],
            "inertia": [body.inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]] for body in bodies],
        }
        for name in ("q_min", "q_max", "velocity", "torque"):
            limits = [joint.limits.get(name) for joint in joints]
            numbers[name] = [None if value is None or abs(value) > LARGEST else value for value in limits]
        numbers |= {n: [joint.friction.get(n, 0.0) for joint in joints] for n in ("damping", "coulomb", "armature")}
        try:
            return SerialChain(
                name=self.name,
                placements=tuple(placements),
                axes=tuple(tuple(joint.axis.tolist()) for joint in joints),
                flange=_placement(carried),
                gravity=tuple((stand[:3, :3].T @ self.gravity).tolist()),
                joint_names=tuple(joint.name for joint in joints),
                link_names=tuple(joint.child for joint in joints),
                **numbers,
            )
        except ValueError as error:
            raise RobotFileError(str(error)) from None

    def _checked_joints(self, tip: str, base: str) -> list[JointData]:
        """The joints that move the tip against the base, all of them of kinds that a chain has."""
        path = self.path(tip, base)
        joints = [joint for joint in path if joint.kind != "fixed"]
        if not joints or path[0].parent != base:
            raise RobotFileError(f"{self.name}: no joint moves {tip} against {base}")
        if len(joints) > MOST_JOINTS:
            raise RobotFileError(
                f"{self.name}: {len(joints)} joints move {tip} against {base}, more than {MOST_JOINTS}: choose a tip "
                f"before it, such as {joints[MOST_JOINTS].parent}"
            )
        for joint in joints:
            if joint.kind not in MOVING:
                raise RobotFileError(
                    f"{self.name}: joint {joint.name} is {joint.kind}; only revolute, continuous and prismatic ones "
                    f"are held: choose a base behind it, such as {joint.child}"
                )
            if joint.stiffness:
                raise RobotFileError(f"{self.name}: joint {joint.name} has a spring, which is not held")
            if joint.follows:
                raise RobotFileError(
                    f"{self.name}: joint {joint.name} follows {joint.follows}: choose a tip before it, {joint.parent}"
                )
        for ends in self.loops:
            one, other = ({joint for joint in self.path(end) if joint in joints} for end in ends)
            if one != other:
                raise RobotFileError(f"{self.name}: {ends[0]} is held to {ends[1]}: closed loops are not held")
        return joints

    def _before_gripper(self, leaf: str, base: str) -> str:
        """The leaf, or the link before the first fork on its path into branches of one joint of their own at most."""
        for joint in self.path(leaf, base):
            forks = [
                j for link in self.body(self._body_root(joint.parent)) for j in self.below[link] if j.kind != "fixed"
            ]
            if joint.kind != "fixed" and len(forks) > 1 and max(self._own_joints[j.child] for j in forks) <= 1:
                return joint.parent
        return leaf

    @cached_property
    def _own_joints(self) -> dict[str, int]:
        """The most joints in a row, from the one that carries each link on, that do not follow another one."""
        own = dict.fromkeys(self.links, 0)
        for root in self.links.keys() - self.above.keys():
            for link in self._downwards(root)[:0:-1]:
                joint = self.above[link]
                own[link] += joint.kind != "fixed" and not joint.follows
                own[joint.parent] = max(own[joint.parent], own[link])
        return own

    def _body_root(self, link: str) -> str:
        """The link that the fixed joints of a link's body hang on."""
        while link in self.above and self.above[link].kind == "fixed":
            link = self.above[link].parent
        return link

    def _lumped(self, link: str, joints: list[JointData]) -> LinkData:
        """A link and all that hangs on it by joints other than those of the chain, at their zero, as one body."""
        parts = []
        waiting = [(self.links[link], np.eye(4))]
        while waiting:
            part, place = waiting.pop()
            parts.append((part, place))
            for joint in self.below[part.name]:
                if joint not in joints:
                    waiting.append((self.links[joint.child], place @ transform(joint)))
                    if joint.kind != "fixed":
                        self.notes.append(f"joint {joint.name} is not on the way to the tip: held at 0, part of {link}")
        mass = sum(part.mass for part, _ in parts)
        centres = [place[:3, :3] @ part.centre + place[:3, 3] for part, place in parts]
        weighed = [part.mass * centre for (part, _), centre in zip(parts, centres, strict=True)]
        centre = sum(weighed, np.zeros(3)) / mass if mass > 0.0 else np.zeros(3)
        inertia = np.zeros((3, 3))
        for (part, place), own in zip(parts, centres, strict=True):
            off = own - centre
            inertia += place[:3, :3] @ part.inertia @ place[:3, :3].T
            inertia += part.mass * (off @ off * np.eye(3) - np.outer(off, off))
        small, middle, large = np.linalg.eigvalsh(inertia)
        if large > (1.0 + 1e-6) * (small + middle):
            self.notes.append(
                f"the inertia of {link} is that of no body: one moment exceeds the sum of the others; it stays as it is"
            )
        return LinkData(link, mass, centre, inertia)

    def _distance(self, link: str, start: str) -> float:
        """From the frame of a link to that of another one of its body, m."""
        place = np.eye(4)
        for joint in self.path(link, start):
            place = place @ transform(joint)
        return float(np.linalg.norm(place[:3, 3]))

    def _known(self, link: str, role: str) -> str:
        if link not in self.links:
            near = difflib.get_close_matches(link, self.links, 1)
            leaves = listed([name for name in self.links if not self.below[name]])
            hint = f"did you mean {near[0]}?" if near else f"its leaves are {leaves}"
            raise RobotFileError(f"{self.name}: no link is called {link!r}, to be the {role}; {hint}")
        return link


def transform(joint: JointData) -> Array:
    """Where a joint's child is in its parent while the joint is at 0, [4, 4]."""
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = joint.rotation, joint.position
    return place


def listed(names: list[str], most: int = 12) -> str:
    """Names in a line, the first of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _placement(place: Array) -> Placement:
    """The placement of [4, 4], whose rotation may have been rounded by many products."""
    u, _, v = np.linalg.svd(place[:3, :3])
    rotation = place[:3, :3] if np.abs(place[:3, :3] @ place[:3, :3].T - np.eye(3)).max() < 1e-12 else u @ v
    return Placement(tuple(place[:3, 3].tolist()), tuple(map(tuple, rotation.tolist())))
