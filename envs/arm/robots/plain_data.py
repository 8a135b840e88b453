"""A serial chain as plain data: mappings, lists, numbers and texts, which YAML and JSON hold to the bit.

1. The keys are the fields of :class:`~palaestra.envs.arm.chain.SerialChain`. What equals its default is left out.
2. A placement is ``{position: [x, y, z], rotation: [[…], […], […]]}`` in m, the rotation by rows and left out where it
   is none. A limit that is not known is null.
3. Reading what was written gives an equal chain: Python writes a number with the digits that it is found again by.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any

from palaestra.envs.arm.chain import Placement, SerialChain
from palaestra.envs.core.reference import is_finite_number
from palaestra.envs.core.suggest import closest

LIMITS = ("q_min", "q_max", "velocity", "acceleration", "torque")
CHAIN_KEYS = tuple(field.name for field in fields(SerialChain))
_NEEDED = tuple(field.name for field in fields(SerialChain) if field.default is MISSING)
_ENDS = ("flange", "tool", "base")
_PER_JOINT_DEFAULTS: dict[str, Any] = {
    "axes": (0.0, 0.0, 1.0),
    "kinds": "revolute",
    "friction": (0.0, 0.0, 0.0),
    **dict.fromkeys(("damping", "coulomb", "armature"), 0.0),
    **dict.fromkeys(LIMITS, None),
}


def chain_data(chain: SerialChain) -> dict[str, Any]:
    """The chain as plain data; :func:`chain_from_data` reads it back."""
    data: dict[str, Any] = {}
    for field in fields(chain):
        value = getattr(chain, field.name)
        if field.name == "placements":
            value = [_placement_data(placement) for placement in value]
        elif field.name in _ENDS:
            if _is(value, Placement()):
                continue
            value = _placement_data(value)
        else:
            if field.name in LIMITS:
                value = [number if math.isfinite(number) else None for number in value]
            default = _PER_JOINT_DEFAULTS.get(field.name)
            if _is(value, field.default) or (field.name in _PER_JOINT_DEFAULTS and all(_is(v, default) for v in value)):
                continue
            value = _lists(value)
        data[field.name] = value
    return data


def chain_from_data(data: Mapping[str, Any]) -> SerialChain:
    """The chain that :func:`chain_data` wrote, or somebody in the same words. Equal data give the same object.

    Raises:
        ValueError: in one line, if a key is unknown or missing, or the numbers are no chain.
    """
    name = str(data.get("name", "robot"))
    check_keys(name, data, CHAIN_KEYS)
    if missing := [key for key in _NEEDED if key not in data]:
        raise ValueError(f"{name}: a robot needs the key {missing[0]}")
    values = dict(data)
    if not isinstance(values["placements"], list | tuple):
        raise ValueError(f"{name}: placements must be a list with one for each joint, got {values['placements']!r}")
    values["placements"] = tuple(read_placement(f"{name}: a placement", row) for row in values["placements"])
    values |= {end: read_placement(f"{name}: {end}", values[end]) for end in _ENDS if end in values}
    for key in ("joint_names", "link_names", "kinds"):
        if key in values and not isinstance(values[key], list | tuple):
            raise ValueError(f"{name}: {key} must be a list of words, got {values[key]!r}")
    return same(SerialChain(**values))


@cache
def same(chain: SerialChain) -> SerialChain:
    """The first chain that was equal to this one: caches find an object faster than an equal one."""
    return chain


def check_keys(name: str, data: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise a ValueError with the closest match unless all keys are known."""
    for key in data:
        if key not in known:
            close = closest(str(key), list(known))
            hint = f"did you mean {close!r}?" if close else f"known: {', '.join(known)}"
            raise ValueError(f"{name}: a robot has no key {key!r}; {hint}")


def check_about(name: str, about: Mapping[str, Any]) -> None:
    """Raise a ValueError unless what stands beside a chain is of its kind."""
    if not isinstance(name, str):
        raise ValueError(f"a robot's name must be a text, got {name!r}")
    kinds = {"assumed": dict, "bound": dict, "by_rule": dict, "source": str, "licence": str, "notes": list}
    for key, kind in kinds.items():
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


def read_placement(what: str, value: Any) -> Placement:
    """A placement from its data.

    Raises:
        ValueError: if it is none.
    """
    if isinstance(value, Placement):
        return value
    if not isinstance(value, Mapping) or not set(value) <= {"position", "rotation"}:
        raise ValueError(f"{what} must be a mapping with position and rotation, got {value!r}")
    return Placement(**value)


def _placement_data(placement: Placement) -> dict[str, Any]:
    data = {"position": list(placement.position)}
    return data if _is(placement.rotation, Placement().rotation) else data | {"rotation": _lists(placement.rotation)}


def _is(value: Any, default: Any) -> bool:
    """True if it is the default to the bit: minus zero is not zero."""
    return repr(value) == repr(default)


def _lists(value: Any) -> Any:
    """Lists for tuples, at any depth."""
    return [_lists(part) for part in value] if isinstance(value, tuple | list) else value
