"""What was chosen for a robot by rule, and what of it still holds when the robot is changed.

A run keeps its robot whole: start, targets, limits that no source gave, and whether targets have an orientation. The
robot of a run may be changed afterwards (``palaestra evaluate RUN --set env.robot.tool=0.1``). Beside the robot's
numbers its data hold digests under ``by_rule``: of the robot that the choices were made for (``chain``, and ``shape``
for what start and targets depend on), of the start that the targets were chosen around (``around``), and of each
choice. What somebody has set has another digest, and stays; what was chosen for another robot is chosen anew.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.robots.plain_data import chain_data

SHAPE = ("placements", "axes", "kinds", "q_min", "q_max", "flange", "tool", "base", "gravity")
"""Fields of a chain that start and targets depend on."""
PLACES = ("start", "targets", "pose_targets")
ORIENTATION = "orientation"  # a pair: true or false, and the digest of the task that it was found for
_DIGESTS = ("chain", "shape", "around", *PLACES)


def digest(*values: Any) -> str:
    """Sixteen digits that change with any number of plain data."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def record(chain: SerialChain, places: Mapping[str, Any], chosen: frozenset[str]) -> dict[str, Any]:
    """The digests to keep of a robot with these start and targets, those of the names ``chosen`` by rule."""
    kept = {"chain": _of_chain(chain), "shape": _of_shape(chain), "around": digest(places["start"])}
    return kept | {name: digest(value) for name, value in places.items() if name in chosen}


def still_by_rule(kept: Mapping[str, Any], places: Mapping[str, Any]) -> frozenset[str]:
    """The names of the start and targets that are as a rule has chosen them."""
    return frozenset(name for name, value in places.items() if kept.get(name) == digest(value))


def outdated(kept: Mapping[str, Any], chain: SerialChain, places: Mapping[str, Any]) -> frozenset[str]:
    """The names of those that a rule has chosen for another robot, and the targets chosen around another start."""
    chosen = still_by_rule(kept, places)
    if kept.get("shape") != _of_shape(chain):
        return chosen
    return frozenset() if kept.get("around") == digest(places.get("start")) else chosen - {"start"}


def is_changed(kept: Mapping[str, Any], chain: SerialChain) -> bool:
    """True if the chain is another one than that of the record."""
    return kept.get("chain") != _of_chain(chain)


def check_record(name: str, kept: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a record has its form."""
    for key, value in kept.items():
        pair = isinstance(value, list) and [type(part) for part in value] == [bool, str]
        if not (pair if key == ORIENTATION else key in _DIGESTS and isinstance(value, str)):
            raise ValueError(f"{name}: by_rule.{key} is no record of a choice: {value!r}")


def _of_chain(chain: SerialChain) -> str:
    return digest(chain_data(chain))


def _of_shape(chain: SerialChain) -> str:
    data = chain_data(dataclasses.replace(chain, name=""))
    return digest({key: data.get(key) for key in SHAPE})
