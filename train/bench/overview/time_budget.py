"""Seconds for a list of parts, so that all of them together are over in time, warm-up and slow starts included.

1. Every part has a weight. As it begins it gets its share of what is left, by its weight among those still to come:
   what one leaves over goes to the others, and so does what one takes too much.
2. A part that has begun something long may overrun its share, to half as much again, but never the whole.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from palaestra.train.bench.interleaved import Clock

OVERRUN = 1.5  # of a share


@dataclass(frozen=True)
class Span:
    """The time of one part; moments are those of ``clock``.

    Attributes:
        start: when it begins.
        until: when it should be over: nothing is begun that would not be.
        end: when nobody is waited for any more.
    """

    start: float
    until: float
    end: float
    clock: Clock = time.perf_counter

    @property
    def left(self) -> float:
        """Seconds, 0 when it should be over."""
        return max(0.0, self.until - self.clock())

    @property
    def patience(self) -> float:
        """Seconds, 0 when nobody is waited for any more."""
        return max(0.0, self.end - self.clock())

    def part(self, share: float) -> Span:
        """The beginning of what is left, of which it has that share; its end is final."""
        now = self.clock()
        until = now + share * (max(now, self.until) - now)
        return Span(now, until, until, self.clock)


class TimeBudget:
    """``seconds`` from now on for parts with these weights."""

    def __init__(self, seconds: float, weights: Mapping[str, float], clock: Clock = time.perf_counter) -> None:
        self._clock, self._end = clock, clock() + seconds
        self._to_come = dict(weights)

    def begin(self, name: str) -> Span:
        """The time of that part, which has not begun yet."""
        now = self._clock()
        share = self._to_come[name] / sum(self._to_come.values())
        del self._to_come[name]
        seconds = share * max(0.0, self._end - now)
        return Span(now, now + seconds, min(self._end, now + OVERRUN * seconds), self._clock)
