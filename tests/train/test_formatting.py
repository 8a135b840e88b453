"""Numbers for people: known texts, at the borders of the units too."""

from __future__ import annotations

import pytest

from palaestra.train.formatting import hours, minutes, three_digits, two_digits


@pytest.mark.parametrize(
    ("number", "two", "three"),
    [
        (0.0, "0", "0"),
        (7.25, "7.2", "7.25"),
        (740.0, "740", "740"),
        (999.4, "999", "999"),
        (999.6, "1.0 k", "1.00 k"),
        (9_960.0, "10 k", "9.96 k"),
        (86_400.0, "86 k", "86.4 k"),
        (1_949_000.0, "1.9 M", "1.95 M"),
        (2.5e9, "2500 M", "2.50 G"),
    ],
)
def test_counts(number: float, two: str, three: str) -> None:
    assert (two_digits(number), three_digits(number)) == (two, three)


@pytest.mark.parametrize(
    ("seconds", "short", "long"), [(0.4, "0:00", "0:00:00"), (59.6, "1:00", "0:00:59"), (4504.0, "75:04", "1:15:04")]
)
def test_spans_of_time(seconds: float, short: str, long: str) -> None:
    assert (minutes(seconds), hours(seconds)) == (short, long)


def test_no_time_is_left_below_zero() -> None:
    assert hours(-3.0) == "0:00:00"
