"""Time of an overview, with a clock that the tests wind: it is over in time, whoever is slow, hangs or fails."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.train.bench.interleaved import WHOLE, WorkloadError
from palaestra.train.bench.overview.time_budget import OVERRUN, Span, TimeBudget
from palaestra.train.bench.overview.timed_rounds import LONGEST, measure_rounds, started, warm_up


class Wound:
    """A clock that goes on when somebody works or waits."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """Starts in ``start`` s, warms up in ``warm`` s and works in units of ``unit`` s; waiting for it takes its time."""

    memory_mib, device_memory_mib = None, None

    def __init__(
        self, clock: Wound, start: float, warm: float, unit: float, fails_at: int = 0, hangs_at: int = 0
    ) -> None:
        self.clock, self.start, self.unit, self.fails_at, self.hangs_at = clock, start, unit, fails_at, hangs_at
        self.first, self.asked, self.log, self.closed = warm, 0.0, list[float](), False

    def _wait(self, seconds: float, patience: float) -> None:
        assert not self.closed
        self.clock.now += min(seconds, patience)
        if seconds > patience:
            raise WorkloadError(f"no answer after {patience:.0f} s")

    def ready(self, patience: float) -> None:
        self._wait(self.start, patience)

    def ask(self, seconds: float, **settings: Any) -> None:
        self.units = max(1, math.ceil(seconds / self.unit))
        self.asked = self.units * self.unit + self.first
        self.first = 0.0
        self.log.append(seconds)
        if len(self.log) == self.hangs_at:
            self.asked = 1e9

    def answer(self, patience: float) -> dict[str, Any]:
        if len(self.log) == self.fails_at:
            raise WorkloadError("out of breath")
        self._wait(self.asked, patience)
        return {"steps": 7 * self.units, "seconds": {WHOLE: self.asked}, "gradient_steps": 0}

    def close(self) -> None:
        self.closed = True


def test_what_one_part_leaves_over_goes_to_the_others_and_what_it_overruns_is_theirs() -> None:
    clock = Wound()
    budget = TimeBudget(100.0, {"a": 1.0, "b": 1.0, "c": 2.0}, clock)
    a = budget.begin("a")
    assert (a.start, a.until, a.end, a.left) == (50.0, 75.0, 87.5, 25.0)
    clock.now += 10.0
    assert (a.left, a.patience) == (15.0, 27.5)
    b = budget.begin("b")  # a third of 90
    assert (b.until, b.end) == (90.0, 105.0)
    clock.now = b.end
    c = budget.begin("c")  # all that is left; never beyond the whole
    assert (c.until, c.end) == (150.0, 150.0)
    clock.now = 151.0
    assert (c.left, c.patience) == (0.0, 0.0)


def test_a_share_of_a_span_is_of_what_is_left() -> None:
    clock = Wound()
    span = Span(50.0, 90.0, 110.0, clock)
    clock.now = 70.0
    part = span.part(0.25)
    assert (part.start, part.until, part.end) == (70.0, 75.0, 75.0)
    clock.now = 95.0
    assert span.part(0.5).until == 95.0


@settings(max_examples=300, deadline=None)
@given(data=st.data(), at_once=st.booleans())
def test_an_overview_is_over_in_time_whoever_is_slow(data: st.DataObject, at_once: bool) -> None:
    """Each answer that is there already may take a moment, which is all that comes on top."""
    clock, seconds = Wound(), data.draw(st.floats(10.0, 300.0))
    weights = {str(k): data.draw(st.floats(1.0, 100.0)) for k in range(data.draw(st.integers(1, 4)))}
    budget, times, asked = TimeBudget(seconds, weights, clock), st.sampled_from([0.01, 0.1, 3.0, 40.0, 1e9]), 0
    for topic in weights:
        span = budget.begin(topic)
        count = data.draw(st.integers(1, 4))
        hangs_at = st.integers(0, 4)
        makes = {str(k): {"of": [*(data.draw(times) for _ in range(3)), 0, data.draw(hangs_at)]} for k in range(count)}
        left_out: dict[str, str] = {}
        with started(makes, lambda spec: Slow(clock, *spec["of"])) as contenders:
            everybody = dict(contenders)
            units = warm_up(contenders, span.part(0.6), left_out, at_once)
            samples = measure_rounds(contenders, units, 3, span, left_out)
        assert set(samples) | set(left_out) == set(everybody)
        assert all(1 <= len(own) <= 3 for own in samples.values())
        assert all(one.closed for one in everybody.values())  # type: ignore[attr-defined]
        asked += sum(len(one.log) + 1 for one in everybody.values())  # type: ignore[attr-defined]
    assert clock.now - 50.0 <= seconds + 0.06 * asked


def test_fast_ones_share_the_time_and_take_turns() -> None:
    clock = Wound()
    contenders = {name: Slow(clock, 1.0, 2.0, 0.1) for name in "ab"}
    span = Span(50.0, 71.0, 80.0, clock)
    units = warm_up(dict(contenders), span.part(0.5), {})
    assert clock.now == pytest.approx(50.0 + 2 * (1.0 + 2.0 + 0.1))
    samples = measure_rounds(dict(contenders), units, 3, span, {})
    assert [len(own) for own in samples.values()] == [3, 3]
    assert contenders["a"].log[1:] == pytest.approx([14.8 / 6] * 3, rel=0.1)  # about equal, of what is left
    assert contenders["a"].log == pytest.approx(contenders["b"].log, rel=0.1)
    assert clock.now == pytest.approx(71.0, abs=0.1)


def test_measurements_are_not_longer_than_they_need_to_be() -> None:
    clock = Wound()
    measure_rounds({"a": Slow(clock, 0.0, 0.0, 0.1)}, {"a": 7}, 3, Span(50.0, 550.0, 650.0, clock), {})
    assert clock.now == pytest.approx(50.0 + 3 * LONGEST, abs=0.31)


def test_a_round_that_would_take_too_long_does_not_begin_but_for_the_first() -> None:
    clock = Wound()
    samples = measure_rounds({"a": Slow(clock, 0.0, 0.0, 7.0)}, {"a": 7}, 5, Span(50.0, 65.0, 72.5, clock), {})
    assert len(samples["a"]) == 2
    assert clock.now == 64.0
    samples = measure_rounds({"a": Slow(clock, 0.0, 0.0, 7.0)}, {"a": 7}, 5, Span(64.0, 65.0, 72.5, clock), {})
    assert len(samples["a"]) == 1  # which overruns, within the time's end


def test_who_compiles_too_long_is_left_out_and_the_others_are_measured() -> None:
    clock, left_out = Wound(), dict[str, str]()
    contenders = {
        "before": Slow(clock, 1.0, 1.0, 0.5),
        "compiles": Slow(clock, 1.0, 1e9, 0.5),
        "after": Slow(clock, 1.0, 1.0, 0.5),
    }
    span = Span(50.0, 150.0, 200.0, clock)
    everybody = dict(contenders)
    units = warm_up(contenders, span.part(0.6), left_out)  # type: ignore[arg-type]
    samples = measure_rounds(contenders, units, 3, span, left_out)  # type: ignore[arg-type]
    assert list(samples) == ["before", "after"]
    assert left_out == {"compiles": "no answer after 39 s"}
    assert everybody["compiles"].closed


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_who_fails_leaves_and_is_named(fails_at: int) -> None:
    clock, left_out = Wound(), dict[str, str]()
    contenders: Any = {"a": Slow(clock, 0.0, 0.0, 0.5, fails_at), "b": Slow(clock, 0.0, 0.0, 0.5)}
    span = Span(50.0, 150.0, 200.0, clock)
    units = warm_up(contenders, span.part(0.6), left_out)
    samples = measure_rounds(contenders, units, 3, span, left_out)
    assert left_out == {"a": "out of breath"}
    assert {name: len(own) for name, own in samples.items()} == {"b": 3}


def test_a_share_is_overrun_by_half_at_most() -> None:
    span = TimeBudget(100.0, {"a": 1.0, "b": 3.0}, Wound()).begin("a")
    assert span.end - span.start == OVERRUN * (span.until - span.start)
