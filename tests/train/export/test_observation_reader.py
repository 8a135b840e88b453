"""Requests are read as the contract says, or refused with their place; nothing else can come of any JSON."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.train.export.observation_reader import MOST_ROWS, ObservationError, ObservationReader

SEASON = {
    "name": "observation",
    "kind": "box",
    "dtype": "float32",
    "shape": [2],
    "low": [0.0, None],
    "high": [1.0, 10.0],
    "elements": [{"name": "stock", "unit": "units"}, {"name": "period"}],
}
ROOM = {"name": "room", "kind": "discrete", "dtype": "int64", "shape": [], "first": 3, "count": 4}
CAMERA = {"name": "camera", "kind": "image", "dtype": "uint8", "shape": [2, 2, 1]}
MASK = {"name": "action_mask", "kind": "mask", "dtype": "bool", "shape": [3]}
LEVERS = {"name": "levers", "kind": "multi_discrete", "dtype": "int64", "shape": [2], "first": [0, 5], "count": [2, 3]}
ALL = [SEASON, ROOM, CAMERA, MASK, LEVERS]


def test_one_and_several() -> None:
    read = ObservationReader([SEASON])
    feed, several = read({"observation": [0.25, -7]})
    assert not several
    assert feed["observation"].dtype == np.float32
    assert feed["observation"].tolist() == [[0.25, -7.0]]
    feed, several = read({"observation": [[0.25, -7], [1, 10]]})
    assert several
    assert feed["observation"].tolist() == [[0.25, -7.0], [1.0, 10.0]]


def test_by_name_in_any_order() -> None:
    read = ObservationReader([SEASON])
    assert read({"observation": {"period": 4, "stock": 0.5}})[0]["observation"].tolist() == [[0.5, 4.0]]
    two = [{"period": 4, "stock": 0.5}, {"stock": 1, "period": 0}]
    feed, several = read({"observation": two})
    assert several
    assert feed["observation"].tolist() == [[0.5, 4.0], [1.0, 0.0]]


UNITS = {
    **SEASON,
    "low": 0.0,
    "high": 1.0,
    "elements": [
        {"name": "stock", "first": 0, "count": 1, "unit": "unit", "scale": 50.0, "offset": 0.0},
        {"name": "angle", "first": 1, "count": 1, "unit": "rad", "scale": -2.0, "offset": 1.0},
    ],
}


def test_names_are_of_quantities_in_their_units() -> None:
    read = ObservationReader([UNITS])
    assert read({"observation": {"angle": 0.5, "stock": 20}})[0]["observation"].tolist() == [[0.4000000059604645, 0.25]]
    with pytest.raises(ObservationError, match=r"must be 0 … 1, got 1.5 \(-1 … 1 rad\)") as refusal:
        read({"observation": [{"angle": 0.5, "stock": 20}, {"angle": -2, "stock": 20}]})
    assert refusal.value.place == ["observation", 1, "angle"]
    feed, _ = ObservationReader([UNITS], clamp=True)({"observation": {"angle": 0.5, "stock": 99}})
    assert feed["observation"].tolist() == [[1.0, 0.25]]


def test_kinds_that_come_several_times_are_numbered() -> None:
    board = {**SEASON, "shape": [2, 2], "low": 0.0, "high": 1.0, "elements": [{"name": "cell", "count": 4}]}
    body = {"observation": {f"cell_{i}": i % 2 for i in range(4)}}
    assert ObservationReader([board])(body)[0]["observation"].tolist() == [[[0.0, 1.0], [0.0, 1.0]]]
    with pytest.raises(ObservationError, match="must be 0 … 1, got 2") as refusal:
        ObservationReader([board])({"observation": [[0, 0], [2, 0]]})
    assert refusal.value.place == ["observation", "cell_2"]


def test_several_inputs_of_every_kind() -> None:
    body: dict[str, Any] = {
        "observation": [0, 0],
        "room": 6,
        "camera": [[[0], [255]], [[1], [2]]],
        "action_mask": [True, False, True],
        "levers": [1, 7],
    }
    feed, several = ObservationReader(ALL)(body)
    assert not several
    assert {name: (str(part.dtype), part.shape) for name, part in feed.items()} == {
        "observation": ("float32", (1, 2)),
        "room": ("int64", (1,)),
        "camera": ("uint8", (1, 2, 2, 1)),
        "action_mask": ("bool", (1, 3)),
        "levers": ("int64", (1, 2)),
    }
    feed, several = ObservationReader(ALL)({name: [value, value] for name, value in body.items()})
    assert several
    assert feed["room"].tolist() == [6, 6]


def test_clamping() -> None:
    feed, _ = ObservationReader([SEASON, ROOM], clamp=True)({"observation": [-3, 99], "room": 100})
    assert feed["observation"].tolist() == [[0.0, 10.0]]
    assert feed["room"].tolist() == [6]


@pytest.mark.parametrize(
    ("inputs", "body", "place", "text"),
    [
        ([SEASON], [], [], "must be an object with observation"),
        ([SEASON], {}, ["observation"], "is missing"),
        ([SEASON], {"obs": [0, 0]}, ["obs"], "is none of the inputs, which are observation"),
        ([SEASON], {"observation": [0]}, ["observation"], r"must have the shape \[2\], or \[N, 2\] for several"),
        ([SEASON], {"observation": [[[0, 0]]]}, ["observation"], "must have the shape"),
        ([SEASON], {"observation": [[0, 0], [0]]}, ["observation"], "lists are of different lengths"),
        ([SEASON], {"observation": []}, ["observation"], "must have the shape"),
        ([SEASON], {"observation": None}, ["observation"], "must have the shape .*, and is no list"),
        ([SEASON], {"observation": 0.5}, ["observation"], "must have the shape .*, and is no list"),
        ([SEASON], {"observation": [0, [1]]}, ["observation", 1], "must be a number"),
        ([SEASON], {"observation": [[0, 0], 7]}, ["observation", 1], "here no list and not 2"),
        ([ROOM], {"room": None}, ["room"], "must be a number"),
        ([CAMERA], {"camera": [[[0], [0]], [[0], [0, 0]]]}, ["camera", 1, 1], "here 2 and not 1"),
        ([SEASON], {"observation": [0, "1"]}, ["observation", 1], "must be a number"),
        ([SEASON], {"observation": [0, True]}, ["observation", 1], "must be a number"),
        ([SEASON], {"observation": [0, math.nan]}, ["observation", 1], "must be finite"),
        ([SEASON], {"observation": [0, math.inf]}, ["observation", 1], "must be finite"),
        ([SEASON], {"observation": [0, 10**400]}, ["observation", 1], "must be finite"),
        ([SEASON], {"observation": [1.5, 0]}, ["observation", "stock"], "must be 0 … 1, got 1.5"),
        (
            [SEASON],
            {"observation": [[0, 0], [0, 11]]},
            ["observation", 1, "period"],
            r"must be -3.40282e\+38 … 10, got 11",
        ),
        ([SEASON], {"observation": {"stock": 0}}, ["observation", "period"], "is missing"),
        ([SEASON], {"observation": {"stock": 0, "period": 1, "x": 1}}, ["observation", "x"], "none of the contract's"),
        ([SEASON], {"observation": {"stock": [0], "period": 1}}, ["observation", "stock"], "must be a number"),
        ([SEASON], {"observation": [{"stock": 0, "period": 1}, 3]}, ["observation", 1], "must be an object"),
        ([ROOM], {"room": 2}, ["room", 0], "must be a whole number of 3 … 6, got 2"),
        ([ROOM], {"room": 4.5}, ["room", 0], "must be a whole number"),
        ([ROOM], {"room": {"x": 1}}, ["room"], "has no names in the contract"),
        ([ROOM], {"room": [3] * (MOST_ROWS + 1)}, ["room"], "4,097 observations; 1 to 4,096 are taken"),
        ([ROOM], {"room": []}, ["room"], "0 observations; 1 to 4,096 are taken"),
        ([CAMERA], {"camera": [[[0], [256]], [[0], [0]]]}, ["camera", 0, 0, 1, 0], "must be a whole number of 0 … 255"),
        ([MASK], {"action_mask": [1, 0, 1]}, ["action_mask", 0], "must be true or false"),
        ([MASK], {"action_mask": [True, False, "x"]}, ["action_mask", 2], "must be true or false"),
        ([MASK], {"action_mask": [False] * 3}, ["action_mask"], "allows no action"),
        ([MASK], {"action_mask": [[True] * 3, [False] * 3]}, ["action_mask", 1], "allows no action"),
        ([LEVERS], {"levers": [0, 4]}, ["levers", 0, 1], "must be a whole number of 5 … 7, got 4"),
        (
            [ROOM, MASK],
            {"room": [3, 4], "action_mask": [[True] * 3]},
            ["action_mask"],
            "another number of observations",
        ),
        ([SEASON], {"observation": [[[[[[[[[[0]]]]]]]]]]}, None, "nested too deeply"),
    ],
)
def test_refusals(inputs: list[dict[str, Any]], body: Any, place: list[Any] | None, text: str) -> None:
    with pytest.raises(ObservationError, match=text) as refusal:
        ObservationReader(inputs)(body)
    if place is not None:
        assert refusal.value.place[: len(place)] == place or refusal.value.place == [place[0], *place[2:]]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("clamp", [False, True])
def test_numbers_beyond_those_of_the_dtype_never_become_infinite(dtype: str, clamp: bool) -> None:
    """Where there is no bound, the largest number of the dtype is one."""
    most = float(np.finfo(dtype).max)
    free = {"name": "x", "kind": "box", "dtype": dtype, "shape": [2], "low": None, "high": [None, None]}
    scaled = {**free, "elements": [{"name": "a", "scale": 1e-3}, {"name": "b"}]}
    read, by_name = ObservationReader([free], clamp), ObservationReader([scaled], clamp)
    assert read({"x": [most, -most]})[0]["x"].tolist() == [[most, -most]]
    if clamp:
        assert by_name({"x": {"a": 1.7e308, "b": -1.0}})[0]["x"].tolist() == [[most, -1.0]]
    else:
        with pytest.raises(ObservationError, match="got inf"):
            by_name({"x": {"a": 1.7e308, "b": -1.0}})
    if dtype == "float64":
        return
    arrays = {"x": np.array([[0.0, 2 * most]])}
    for reading, body in ((read, {"x": [0.0, 2 * most]}), (read.checked, arrays)):
        if clamp:
            answer = reading(body)
            feed = answer[0] if isinstance(answer, tuple) else answer
            assert feed["x"].tolist() == [[0.0, most]]
        else:
            with pytest.raises(ObservationError, match=r"must be -\S+ … \S+, got"):
                reading(body)


def test_a_bound_itself_is_within_whatever_its_rounding() -> None:
    """0.1 is below the float32 that stands for it."""
    tenth = float(np.float32(0.1))
    read = ObservationReader([{"name": "x", "kind": "box", "dtype": "float32", "shape": [], "low": tenth, "high": 1.0}])
    assert read({"x": 0.1})[0]["x"].tolist() == [tenth]


def test_a_mask_of_arrays_that_allows_nothing() -> None:
    with pytest.raises(ObservationError, match="allows no action") as refusal:
        ObservationReader([MASK]).checked({"action_mask": np.array([[True, False, False], [False] * 3])})
    assert refusal.value.place == ["action_mask", 1]


@pytest.mark.parametrize(
    "value",
    [
        [0] * 2**23,
        [[0] * 2**23],
        [[[0]] * 2**20] * 8,
        [[[[0] * 4] * 84] * 84, [0] * 2**23],
        [[[[0] * 3 + [None]] * 84] * 84] * 74,
        [{"x": 1}] * 2**23,
    ],
)
def test_large_requests_take_no_longer_than_what_is_allowed(value: Any) -> None:
    """Refused by their lengths, before any number is looked at."""
    image = {"name": "image", "kind": "image", "dtype": "uint8", "shape": [84, 84, 4]}
    read = ObservationReader([image])
    assert read.most_rows == 74
    start = time.perf_counter()
    with pytest.raises(ObservationError):
        read({"image": value})
    assert time.perf_counter() - start < 1.0
    assert read({"image": [[[[7] * 4] * 84] * 84] * 2})[0]["image"].shape == (2, 84, 84, 4)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from([0, 1, 3, 5])
ANY = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["observation", "room", "camera", "action_mask", "levers", "stock", "period", "x"]), inner
        )
    ),
    max_leaves=20,
)


@settings(max_examples=500)
@given(ANY, st.booleans())
def test_any_json_is_read_or_refused(body: Any, clamp: bool) -> None:
    for inputs in ([SEASON], [ROOM], [CAMERA], [MASK], ALL):
        wrapped = body if isinstance(body, dict) else {inputs[0]["name"]: body}
        try:
            feed, _ = ObservationReader(inputs, clamp)(json.loads(json.dumps(wrapped)))
        except ObservationError:
            continue
        for end in inputs:
            part = feed[end["name"]]
            assert str(part.dtype) == end["dtype"]
            assert [*part.shape[1:]] == end["shape"]
            assert np.isfinite(part).all()
