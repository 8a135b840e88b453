"""Fair measurements: contenders that do countable work take turns.

One uncounted unit of work each, then A B A B …, so that whatever else the machine does falls on all of them. Every
measurement is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

OURS = "palaestra"
WHOLE = "whole"

Clock = Callable[[], float]


@dataclass(frozen=True)
class Sample:
    """One measurement: steps made, and the seconds that all (``whole``) and each part of it took."""

    steps: int
    seconds: dict[str, float]


Contender = Callable[[float], Sample]  # works for at least so many seconds, in whole units of its work


def take_turns(contenders: dict[str, Contender], repeats: int, seconds: float) -> dict[str, list[dict[str, Any]]]:
    """One uncounted unit of work each, then ``repeats`` rounds in which every contender is measured once."""
    for contender in contenders.values():
        contender(0.0)
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            samples[name].append(asdict(contender(seconds)))
    return samples


def rates(samples: list[dict[str, Any]], part: str = WHOLE) -> list[float]:
    """Steps per second of each sample, over the time of one part of it."""
    return [sample["steps"] / sample["seconds"][part] for sample in samples]


def device_clock(device: torch.device) -> Clock:
    """A clock that waits for the device: on a GPU, calls return before the work is done."""

    def after_device() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return after_device if device.type == "cuda" else time.perf_counter
