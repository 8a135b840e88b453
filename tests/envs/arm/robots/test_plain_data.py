"""Chains as plain data: the same to the bit through YAML and JSON, and in one line what is none."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mujoco_arm import random_arm, random_chain

from palaestra.envs.arm import PANDA, SerialChain
from palaestra.envs.arm.robots import READY, chain_data, chain_from_data, robot_data, task_robot


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 8), st.booleans())
def test_a_chain_comes_back_to_the_bit(seed: int, dof: int, dh: bool) -> None:
    """Slanted axes and bases, all kinds of joint; twice, as a run's data may be written again."""
    chain = random_chain(seed, dof) if dh else random_arm(seed, dof)
    data = chain_data(chain)
    for text, read in ((json.dumps(data), json.loads), (yaml.safe_dump(data), yaml.safe_load)):
        again: SerialChain = chain_from_data(read(text))
        assert again == chain
        assert repr(again) == repr(chain)  # minus zero too
        assert chain_data(again) == data


def test_minus_zero_stays() -> None:
    """The Panda's first placement is none but for the sign of a zero; under another name it is read anew."""
    other = dataclasses.replace(PANDA, name="other Panda")
    assert repr(chain_from_data(json.loads(json.dumps(chain_data(other))))) == repr(other)


def test_equal_data_give_the_same_object() -> None:
    """As the dynamics find tables by the chain in every step, and comparing two would take longer than the step."""
    assert chain_from_data(chain_data(PANDA)) is chain_from_data(chain_data(PANDA))
    assert task_robot(json.loads(json.dumps(robot_data("panda")))).chain is task_robot("panda").chain is PANDA


def test_data_hold_plain_values_alone() -> None:
    def walk(value: Any) -> None:
        assert type(value) in (dict, list, str, float, int, type(None)), value
        for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
            walk(part)

    for name in READY:
        walk(robot_data(name))
    walk(chain_data(random_arm(3, 6)))


PLACE = {"position": [0.0, 0.0, 0.1]}
GOOD: dict[str, Any] = {
    "name": "stick",
    "placements": [PLACE],
    "mass": [1.0],
    "centre_of_mass": [[0.0, 0.0, 0.1]],
    "inertia": [[0.1, 0.1, 0.1, 0.0, 0.0, 0.0]],
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"weight": [1.0]}, "^stick: a robot has no key 'weight'; "),
    "mistyped": ({"velocities": [1.0]}, "no key 'velocities'; did you mean 'velocity'"),
    "missing": ({"mass": ...}, "^stick: a robot needs the key mass$"),
    "no list": ({"placements": 3}, "^stick: placements must be a list .* got 3$"),
    "placement a list": ({"placements": [[0, 0, 0]]}, "a placement must be a mapping with position and rotation, got"),
    "placement mistyped": ({"placements": [{"place": 1}]}, "a placement must be a mapping with position and rotation"),
    "names a word": ({"joint_names": "a"}, "^stick: joint_names must be a list of words, got 'a'$"),
    "not a number": ({"mass": ["heavy"]}, "^stick: mass must be numbers"),
    "wrong length": ({"mass": [1.0, 2.0]}, r"^stick: mass must have shape \(1,\), got \(2,\)"),
    "no rotation": ({"flange": {"position": [0, 0, 0], "rotation": [[2, 0, 0]] * 3}}, "must be a rotation matrix"),
}


def test_the_smallest_robot_is_one() -> None:
    assert chain_from_data(GOOD).dof == 1


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_chain_is_refused_in_a_line(name: str) -> None:
    changed, message = BAD[name]
    data = {key: value for key, value in {**GOOD, **changed}.items() if value is not ...}
    with pytest.raises(ValueError, match=message) as error:
        chain_from_data(data)
    assert "\n" not in str(error.value)
