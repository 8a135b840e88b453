"""Sparklines: known blocks in known cells."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palaestra.train.loggers.sparkline import BLOCKS, Sparkline, block, scale


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.0, 0.0, 100.0, "▁"),
        (7.1, 0.0, 100.0, "▁"),  # the border is at a fourteenth
        (7.2, 0.0, 100.0, "▂"),
        (50.0, 0.0, 100.0, "▅"),  # 3.5 of 7, rounded to the even one
        (92.8, 0.0, 100.0, "▇"),
        (92.9, 0.0, 100.0, "█"),
        (-20.0, 0.0, 100.0, "▁"),
        (104.0, 0.0, 100.0, "█"),
        (math.nan, 0.0, 100.0, "·"),
        (-5.0, -5.0, -5.0, "▁"),
    ],
)
def test_block_known_answers(value: float, low: float, high: float, expected: str) -> None:
    assert block(value, low, high) == expected


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(-1e3, 1e3))
def test_more_is_never_lower(one: float, other: float, low: float, high: float) -> None:
    less, more = sorted((one, other))
    assert BLOCKS.index(block(less, low, high)) <= BLOCKS.index(block(more, low, high))


def test_evaluations_have_the_cell_of_their_number() -> None:
    line = Sparkline(10, 30_000)
    for k, step in enumerate((32_768, 65_536, 98_304, 131_072)):  # the first ends of iterations at 30,000 k
        line.evaluation(step, 25.0 * k)
    assert line.text(0.0, 100.0) == "▁▃▅▆······"
    line.evaluation(327_680, 100.0)  # whole rollouts may end beyond the last cell
    assert line.text(0.0, 100.0) == "▁▃▅▆·····█"
    assert line.numbers() == [0.0, 25.0, 50.0, 75.0, 100.0]


def test_iterations_fill_the_cells_of_their_steps() -> None:
    line = Sparkline(4, 100)
    line.iteration(0, 60, 10.0)
    assert line.text(0.0, 70.0) == "▂···"
    line.iteration(60, 100, 20.0)  # steps 61 to 100 are the first cell's
    assert line.text(0.0, 70.0) == "▃···"
    line.iteration(100, 220, 30.0)
    assert line.text(0.0, 70.0) == "▃▄▄·"
    line.iteration(220, 500, 70.0)
    assert line.text(0.0, 70.0) == "▃▄██"


def test_the_scale_of_returns_is_that_of_both_lines() -> None:
    one, other = Sparkline(3, 10), Sparkline(3, 10)
    assert scale((one, other)) == (0.0, 0.0)
    one.evaluation(10, -200.0)
    other.iteration(0, 10, -900.0)
    other.iteration(10, 20, math.nan)
    low, high = scale((one, other))
    assert (low, high) == (-900.0, -200.0)
    assert (one.text(low, high), other.text(low, high)) == ("█··", "▁··")
