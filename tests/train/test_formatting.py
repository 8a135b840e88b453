"""Numbers for people: known texts, at the borders of the units too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import whole_number
from palaestra.train.formatting import columns, fitted, hours, minutes, printable, three_digits, two_digits


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


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("300k", 300_000),
        ("5M", 5_000_000),
        ("1e5", 100_000),
        ("1E+5", 100_000),
        ("1_000_000", 1_000_000),
        ("1,000,000", 1_000_000),
        ("1.1M", 1_100_000),  # 1.1 × 10⁶ is no whole number in floats
        ("2.5e3", 2_500),
        (" 7 ", 7),
        ("50 K", 50_000),
        ("2G", 2_000_000_000),
        ("2B", 2_000_000_000),
        ("-3M", -3_000_000),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_whole_numbers(text: str, number: int) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize(
    "text",
    ["5X", "1.5", "1.000", "5m", "", "k", "1,00", "1__0", "1e", "1e-3", "1.2345k", "nan", "inf", "0x10", "1e999"],
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_what_is_none(sign: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a whole number, such as 300k|too large"):
        whole_number(sign + text)


@pytest.mark.parametrize("text", ["9223372036854775808", "9" * 5000, "1e9999999999"])
def test_what_is_too_large(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a whole number, such as 300k|too large"):
        whole_number(text)


@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_every_number_is_read_back(number: int) -> None:
    assert whole_number(str(number)) == whole_number(f"{number:_}") == whole_number(f"{number:,}") == number


def test_settings_of_a_whole_number_read_them() -> None:
    settings = ["buffer_size=50k", "learning_starts=1e3", "env.max_episode_steps=2k"]
    config = resolve_config("snake-small", "dqn", settings=settings, total_timesteps="1M")
    assert (config.agent_kwargs["buffer_size"], config.agent_kwargs["learning_starts"]) == (50_000, 1_000)
    assert (config.env_kwargs["max_episode_steps"], config.total_timesteps) == (2_000, 1_000_000)


def test_names_do_nothing_to_a_terminal() -> None:
    """Escape sequences, new lines in a table, and marks that turn a line round are told by their escapes."""
    name = "a\x1b[2Jb\nc\x9bd\u202ee"
    assert printable(name) == r"a\x1b[2Jb\nc\x9bd\u202ee"
    assert fitted(name, None) == "a\\x1b[2Jb\nc\\x9bd\\u202ee"  # messages have lines of their own
    assert columns(["run"], [[name]], None) == ["run", printable(name)]
    kept = "ä ö, 中, 10\N{NO-BREAK SPACE}%, \udcff"  # the last one is a byte of a file name
    assert printable(kept) == fitted(kept, 80) == kept
