"""Lines of a log: times and days, observations in every form, details, and what does not fit."""

from __future__ import annotations

import json
from datetime import UTC, date
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from use_logs import CHOICES, NAMED

from palaestra.train.monitoring.log_entries import Detail, EntryError, EntryReader

CONTRACT: dict[str, Any] = {"inputs": [NAMED], "outputs": [CHOICES]}
REQUEST = {"observation": [0.0, 1.0, 2.0, 3.0]}
READER = EntryReader(CONTRACT, "abcdef0123456789", UTC)


def entry(**more: Any) -> dict[str, Any]:
    return {"time": 0, "request": REQUEST, "answer": {"action": 1}, **more}


@pytest.mark.parametrize(
    ("time", "zone", "day"),
    [
        (1_793_577_599, "UTC", "2026-11-01"),  # 23:59:59
        (1_793_577_600.5, "UTC", "2026-11-02"),
        (1_793_577_600, "America/New_York", "2026-11-01"),
        (1_793_574_000, "Europe/Berlin", "2026-11-02"),
        (1_774_738_800, "Europe/Berlin", "2026-03-29"),  # 00:00 in winter time: the clocks go forward at 2
        (1_774_821_600, "Europe/Berlin", "2026-03-30"),  # 00:00 in summer time, 23 hours later
        ("2026-11-01T23:30:00+00:00", "Europe/Berlin", "2026-11-02"),
        ("2026-11-01T23:30:00Z", "UTC", "2026-11-01"),
        ("2026-11-02T00:30:00+01:00", "UTC", "2026-11-01"),
        ("2026-11-01T23:30:00", "Europe/Berlin", "2026-11-01"),  # without a zone: of that one
        (-1, "UTC", "1969-12-31"),
    ],
)
def test_days_are_those_of_the_time_zone(time: Any, zone: str, day: str) -> None:
    found = EntryReader(CONTRACT, "", ZoneInfo(zone))(entry(time=time))
    assert found.day == date.fromisoformat(day)


@pytest.mark.parametrize("time", [None, True, "yesterday", 1e300, float("nan"), float("inf"), "0000-01-01", [], ""])
def test_other_times_are_none(time: Any) -> None:
    with pytest.raises(EntryError, match="time is neither"):
        READER(entry(time=time))
    without = entry()
    del without["time"]
    with pytest.raises(EntryError, match="time is neither"):
        READER(without)


def test_one_observation_and_several_by_place_and_by_name() -> None:
    one = READER(entry())
    assert one.feed is not None
    assert one.feed["observation"].tolist() == [[0, 1, 2, 3]]
    assert one.action is not None
    assert one.action.tolist() == [1]
    named = READER(entry(request={"observation": {"d": 3, "c": 2, "b": 1, "a": 0}}))
    assert named.feed is not None
    assert named.feed["observation"].tolist() == [[0, 1, 2, 3]]
    zeros = {"observation": [[0, 0, 0, 0]] * 3}
    several = READER(entry(request=zeros, answer={"action": [0, 1, 0]}, reward=[1, None, 2]))
    assert several.action is not None
    assert several.action.tolist() == [0, 1, 0]
    assert [detail.reward for detail in several.details] == [1, None, 2]
    alone = READER(entry(answer=None))
    assert alone.action is None


def test_numbers_out_of_range_are_kept_to_be_counted() -> None:
    found = READER(entry(request={"observation": [1e30, -9, 5.1, 0]}))
    assert found.feed is not None
    assert found.feed["observation"].tolist() == [[1e30, -9, 5.1, 0]]


def test_details_of_an_episode() -> None:
    found = READER(entry(episode="shop 1", reward=2.5, sold=3, end=True))
    assert found.details == [Detail("shop 1", 2.5, 3, True, None)]
    outcome = READER({"time": 0, "episode": "shop 1", "return": 12.0})
    assert outcome.feed is None
    assert outcome.details == [Detail("shop 1", None, None, True, 12.0)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (entry(request={"observation": [0, 1, 2]}), r"observation must have the shape"),
        (entry(request={"observation": [0, 1, 2, float("nan")]}), r"observation.3 must be finite"),
        (entry(request={"temperature": 3}), r"temperature is none of the inputs"),
        (entry(request=7), r"request must be an object"),
        (entry(answer={"choice": "left"}), r"answer has no action"),
        (entry(answer={"action": [1]}), r"answer.action must be numbers of the shape \[\]"),
        (entry(answer={"action": "left"}), r"answer.action is no number"),
        (entry(answer={"action": None}), r"answer.action must be numbers"),
        (entry(episode=""), r"episode must be a name"),
        (entry(episode=3), r"episode must be a name"),
        (entry(reward="much"), r"reward must be a number"),
        (entry(reward=float("inf")), r"reward must be a number"),
        (entry(**{"return": -1e200}), r"return must be a number"),
        (entry(sold=-1), r"sold must be a whole number"),
        (entry(sold=0.5), r"sold must be a whole number"),
        (entry(end=1), r"end must be true or false"),
        (entry(request={"observation": [[0] * 4] * 2}, answer=None, reward=1.0), r"reward must be a list of 2"),
        ({"time": 0, "note": "restarted"}, r"neither a request nor what came of one"),
    ],
)
def test_lines_that_do_not_fit(line: dict[str, Any], message: str) -> None:
    with pytest.raises(EntryError, match=message):
        READER(line)


@pytest.mark.parametrize(
    ("noted", "other"),
    [(None, False), ("abcdef012345", False), ("ABCDEF01", False), ("abcdef013333", True), ("abc", False), (7, False)],
)
def test_lines_of_other_policies(noted: Any, other: bool) -> None:
    assert READER.is_of_another(entry(sha256=noted)) is other


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
KEYS = st.sampled_from(["time", "request", "answer", "episode", "reward", "sold", "end", "return", "sha256"])


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(KEYS, JSON, max_size=6))
def test_any_line_is_read_or_refused(more: dict[str, Any]) -> None:
    line = json.loads(json.dumps({**entry(), **more}))
    READER.is_of_another(line)
    try:
        found = READER(line)
    except EntryError:
        return
    assert found.feed is None or np.isfinite(found.feed["observation"]).all()
