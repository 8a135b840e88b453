"""Fair measurements: workloads that do countable work take turns.

1. One uncounted unit of work each, then A B A B …, so that whatever else the machine does falls on all of them. Every
   measurement is kept.
2. A workload that fails leaves the round, and its reason is kept. Ours may not.
3. When time is up no further round begins; every workload has been measured as often as the others.
4. A ratio of two workloads is that of their medians; its spread comes from the rounds, in which both were measured
   within seconds of each other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

OURS = "palaestra"
WHOLE, COLLECTION, UPDATE = "whole", "collection", "update"

Clock = Callable[[], float]


class WorkloadError(RuntimeError):
    """A workload cannot do its work; the message says why, in one line."""


@dataclass(frozen=True)
class Sample:
    """One measurement: steps made, the seconds that all (``whole``) and each part of it took, and gradient steps."""

    steps: int
    seconds: dict[str, float]
    gradient_steps: int = 0


Workload = Callable[[float], Sample]  # works for at least so many seconds, in whole units of its work


def repeating(unit: Callable[[], int], clock: Clock = time.perf_counter) -> Workload:
    """Does ``unit``, which gives the steps that it made, over and over."""

    def work(seconds: float) -> Sample:
        start = now = clock()
        steps = 0
        while not steps or now - start < seconds:
            steps += unit()
            now = clock()
        return Sample(steps, {WHOLE: now - start})

    return work


def measure_interleaved(
    workloads: dict[str, Workload],
    repeats: int,
    seconds: float,
    failures: dict[str, str] | None = None,
    until: float = float("inf"),
) -> dict[str, list[dict[str, Any]]]:
    """One uncounted unit of work each, then up to ``repeats`` rounds in which every workload is measured once.

    Args:
        workloads: by name.
        repeats: rounds.
        seconds: of each measurement, at least.
        failures: takes the name of each workload that failed, and why; without it failures are raised.
        until: no further round begins after that moment of ``time.perf_counter``.

    Returns:
        Name → one :class:`Sample` a round, as plain data.
    """
    running = dict(workloads)
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in workloads}
    for number in range(1 + repeats):
        if number > 1 and time.perf_counter() >= until:
            break
        for name, workload in list(running.items()):
            try:
                sample = workload(seconds if number else 0.0)
            except WorkloadError as error:
                if failures is None or name == OURS:
                    raise
                failures[name] = str(error)
                del running[name]
                continue
            if number:
                samples[name].append(asdict(sample))
    return {name: samples[name] for name in running}


def rates(samples: list[dict[str, Any]], part: str = WHOLE) -> list[float]:
    """Steps per second of each sample, over the time of one part of it."""
    return [sample["steps"] / sample["seconds"][part] for sample in samples]


def ratio(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], part: str = WHOLE) -> tuple[float, float, float]:
    """Our median over theirs, and the lowest and highest ratio of a round."""
    a, b = rates(ours, part), rates(theirs, part)
    rounds = [x / y for x, y in zip(a, b, strict=True)]
    return statistics.median(a) / statistics.median(b), min(rounds), max(rounds)


def device_clock(device: torch.device) -> Clock:
    """A clock that waits for the device: on a GPU, calls return before the work is done."""

    def after_device() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return after_device if device.type == "cuda" else time.perf_counter
