"""Workloads in processes of their own, measured in turns for as long as there is time.

1. All start at once, and warm up: where a GPU computes all at once, for it is the host that compiles; else one after
   the other, since their threads would wait for each other. Who is not warm in time is left out, and the others go on.
2. Then they work in turns, one at a time, each for its share of what is left and at least for one unit of its work (an
   iteration). A round whose units would take longer than what is left does not begin, but for the first.
3. Who fails or does not answer in time leaves, and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from palaestra.train.bench.interleaved import WHOLE, WorkloadError
from palaestra.train.bench.overview.time_budget import Span

PATIENT, AT_MOST = 3.0, 0.7  # times its part of the warm-up that a workload may take, and share of what is left of it
LONGEST = 3.0  # s of a measurement; more of them tell more than longer ones
_AT_ONCE = 0.05  # s: an answer that is there already is taken even when time is up


class Contender(Protocol):
    """A process that works when it is asked to."""

    memory_mib: float | None
    device_memory_mib: float | None

    def ready(self, patience: float) -> None: ...

    def ask(self, seconds: float, **settings: Any) -> None: ...

    def answer(self, patience: float) -> dict[str, Any]: ...

    def close(self) -> None: ...


@contextmanager
def started(
    specs: Mapping[str, dict[str, Any]], make: Callable[[dict[str, Any]], Contender]
) -> Iterator[dict[str, Contender]]:
    """A block with a process for each of the specs; those that leave are taken out of the dictionary."""
    contenders: dict[str, Contender] = {}
    try:
        for name, spec in specs.items():
            contenders[name] = make(spec)
        yield contenders
    finally:
        for contender in contenders.values():
            contender.close()


def warm_up(
    contenders: dict[str, Contender],
    span: Span,
    left_out: dict[str, str],
    at_once: bool = False,
    new: bool = True,
    **settings: Any,
) -> dict[str, int]:
    """Let each do one unit of work, if they are ``new`` after they have started; gives the steps of each unit.

    ``at_once`` all work at the same time; else one after the other, and each may take ``PATIENT`` times its part of the
    time that is left, and ``AT_MOST`` of it.
    """
    units: dict[str, int] = {}
    if at_once:
        for contender in contenders.values():
            contender.ask(0.0, **settings)
    for name in [*contenders] if new else ():
        with leaving(contenders, name, left_out):
            contenders[name].ready(max(_AT_ONCE, span.left))
    for to_come, name in zip(range(len(contenders), 0, -1), [*contenders], strict=True):
        with leaving(contenders, name, left_out):
            if not at_once:
                contenders[name].ask(0.0, **settings)
            share = 1.0 if at_once or to_come == 1 else min(AT_MOST, PATIENT / to_come)
            units[name] = contenders[name].answer(max(_AT_ONCE, share * span.left))["steps"]
    return units


def measure_rounds(
    contenders: dict[str, Contender],
    units: Mapping[str, int],
    repeats: int,
    span: Span,
    left_out: dict[str, str],
    **settings: Any,
) -> dict[str, list[dict[str, Any]]]:
    """Name → a sample for each of at most ``repeats`` rounds, and at least one; ``units`` are those of the warm-up."""
    samples: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    needed: dict[str, float] = {}  # s of one unit, by the latest measurement
    for number in range(repeats):
        if number and span.clock() + sum(needed[name] for name in contenders) > span.until:
            break
        for place, name in enumerate([*contenders]):
            to_come = max(1, (repeats - number) * len(contenders) - place)
            with leaving(contenders, name, left_out):
                contenders[name].ask(min(LONGEST, span.left / to_come), **settings)
                sample = contenders[name].answer(max(_AT_ONCE, span.patience))
                samples[name].append(sample)
                needed[name] = sample["seconds"][WHOLE] * min(1.0, units[name] / sample["steps"])
    return {name: samples[name] for name in contenders}


@contextmanager
def leaving(contenders: dict[str, Contender], name: str, left_out: dict[str, str]) -> Iterator[None]:
    """A block in which that one may fail: then it is ended, taken out, and named."""
    try:
        yield
    except WorkloadError as error:
        left_out[name] = str(error)
        contenders.pop(name).close()
