"""A line of the overview: a figure of this machine, how often it was measured, and what it is compared with."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from palaestra.train.bench.interleaved import OURS, WHOLE, rates
from palaestra.train.bench.overview.timed_rounds import Contender

STEPS, PERCENT, MIB = "steps/s", "%", "MiB"


@dataclass(frozen=True)
class Measured:
    """A figure.

    Attributes:
        topic: what was measured.
        name: of whom, or of what.
        values: all measurements.
        unit: theirs.
        times: palaestra is so many times as fast, by the medians; None for itself and without a comparison.
        host_mib, device_mib: peaks of memory of its process; None where they are unknown.
        note: what more is known, in a few words.
    """

    topic: str
    name: str
    values: list[float]
    unit: str = STEPS
    times: float | None = None
    host_mib: float | None = None
    device_mib: float | None = None
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "median": self.median}


def speeds(
    topic: str,
    samples: Mapping[str, list[dict[str, Any]]],
    processes: Mapping[str, Contender] | None = None,
    part: str = WHOLE,
) -> list[Measured]:
    """A figure for each workload, with the peaks of the processes that are given."""
    found = {name: rates(own, part) for name, own in samples.items()}
    ours = statistics.median(found[OURS]) if OURS in found else None
    lines = []
    for name, values in found.items():
        times = None if name == OURS or ours is None else ours / statistics.median(values)
        process = None if processes is None else processes.get(name)
        peaks = (None, None) if process is None else (process.memory_mib, process.device_memory_mib)
        lines.append(Measured(topic, name, values, STEPS, times, *peaks))
    return lines
