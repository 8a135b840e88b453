"""A recorded function as a list of steps on kept memory.

Memory that the function makes for itself is given by turns: what is read no more makes room for what comes. What it
reads from before (inputs) and what is read afterwards (results) has memory named by the caller, so that the same
recording can be replayed from one place to another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from palaestra.envs.core.replay.lowering import Locate, Step, as_one_place, steps_of
from palaestra.envs.core.replay.recording import Call, Recording, Region, with_each

_LEAST = 64  # bytes


class Places(Protocol):
    """An operation, or several, that read or write tensors."""

    def places(self) -> Iterable[Region]: ...


class Program:
    """A recording without what nobody reads, and memory for what it computes on the way.

    Attributes:
        warns: whether some steps may be NumPy's that warn of what is no number.
    """

    warns = True

    def __init__(self, recording: Recording, inputs: set[int], results: set[int]) -> None:
        """Plan the memory.

        Args:
            recording: of the function.
            inputs: memories that hold what changes from call to call.
            results: memories that are read afterwards.
        """
        self._outside = {number: recording.memory[number] for number in recording.outside - inputs}
        needed = _needed(recording.calls, results | set(self._outside))
        self.calls = _without_copies(needed, inputs | results | set(self._outside))
        written = {memory for call in self.calls for memory in call.written}
        self._constants = {n: tensor for n, tensor in self._outside.items() if n not in written}
        own = {p.memory for call in self.calls for p in call.places()} - inputs - results - set(self._outside)
        self._own = self._planned(own)

    def _planned(self, own: set[int]) -> dict[int, Tensor]:
        """The memory for what is computed on the way."""
        return by_turns(self.calls, own)

    def changed_outside(self) -> dict[int, Tensor]:
        """The memory from before that the function writes to, whole: scratch memory of rules, say."""
        changed = self._outside.keys() - self._constants.keys()
        return {n: torch.empty(0, dtype=torch.uint8).set_(self._outside[n].untyped_storage()) for n in changed}

    def steps(self, given: Mapping[int, Tensor], run: bool = False) -> list[Step]:
        """The steps of the function.

        Args:
            given: bytes (uint8) of each memory of inputs and results.
            run: run each as soon as it is made: what an operation can do is found out so.
        """
        locate = self._locator(given)
        return [step for call in self.calls for step in self._lowered(call, locate, run)]

    def _locator(self, given: Mapping[int, Tensor]) -> Locate:
        """What gives the tensor at a place."""
        located: dict[Region, Tensor] = {}

        def locate(place: Region) -> Tensor:
            if place not in located:
                located[place] = tensor_at(place, self._bytes_of(place.memory, given))
            return located[place]

        return locate

    def _bytes_of(self, memory: int, given: Mapping[int, Tensor]) -> Tensor:
        """A tensor that lies in that memory."""
        outside = self._outside.get(memory)
        if outside is not None:
            return outside
        return given[memory] if memory in given else self._own[memory]

    def _lowered(self, call: Call, locate: Locate, run: bool) -> list[Step]:
        steps = steps_of(call, locate, self._constants)
        if run:
            try:
                run_all(steps)
            except (TypeError, RuntimeError, IndexError):
                if call.has_no_out:
                    raise
                call.has_no_out = True
                steps = steps_of(call, locate, self._constants)
                run_all(steps)
        return steps


def run_all(steps: Sequence[Step]) -> None:
    """Take these steps."""
    for function, arguments in steps:
        function(*arguments)


def tensor_at(place: Region, memory: Tensor) -> Tensor:
    """The tensor at a place of this memory."""
    empty = torch.empty(0, dtype=place.dtype)
    return empty.set_(memory.untyped_storage(), place.offset, place.size, place.stride)


def reserved(nbytes: int) -> Tensor:
    """Memory of so many bytes, uint8."""
    return torch.empty(max(nbytes, _LEAST), dtype=torch.uint8)


def nbytes_of(calls: Sequence[Places]) -> dict[int, int]:
    """How much of each memory operations use."""
    size: dict[int, int] = {}
    for call in calls:
        for place in call.places():
            end = place.offset * place.dtype.itemsize + place.nbytes
            size[place.memory] = max(size.get(place.memory, 0), end)
    return size


def is_read(recording: Recording, inputs: set[int], results: set[int], memory: int) -> bool:
    """True if what leads to these results reads that memory."""
    calls = _needed(recording.calls, results | (recording.outside - inputs))
    return any(place.memory == memory for call in calls for place in call.places())


def _needed(calls: Sequence[Call], results: set[int]) -> list[Call]:
    """The operations that lead to these memories."""
    wanted, kept = set(results), []
    for call in reversed(calls):
        if call.written & wanted:
            wanted.update(place.memory for place in call.places())
            kept.append(call)
    return kept[::-1]


def _without_copies(calls: Sequence[Call], given: set[int]) -> list[Call]:
    """The operations without stacks of what lies side by side already, where neither is changed later on."""
    moved: dict[int, Region] = {}

    def now_at(value: Any) -> Any:
        return with_each(Region, value, lambda place: _moved(place, moved.get(place.memory)))

    left = []
    for i, call in enumerate(calls):
        named = {name: now_at(value) for name, value in call.named.items()}
        call = replace(call, arguments=now_at(call.arguments), named=named, results=now_at(call.results))
        source, own = _stacked(call), call.results[0].memory if call.results else -1
        if source is not None and own not in given:
            later = calls[i + 1 :]
            changed = {memory for other in later for memory in other.written}
            kinds = {place.dtype for other in later for place in other.places() if place.memory == own}
            if kinds <= {source.dtype} and not changed & {own, source.memory}:
                moved[own] = source
                continue
        left.append(call)
    return left


def _stacked(call: Call) -> Region | None:
    """The place that the operation copies, if it is a stack of all that lies there."""
    if call.name != "stack" or call.in_place or call.named or call.arguments[1:] not in ((), (0,)):
        return None
    source, result = as_one_place(call.arguments[0]), call.results[0]
    same = source is not None and (source.dtype, *source[2:4]) == (result.dtype, *result[2:4]) and not result.offset
    return source if same else None


def _moved(place: Region, to: Region | None) -> Region:
    """A place of a memory that lies at another one now."""
    return place if to is None else place._replace(memory=to.memory, offset=to.offset + place.offset)


def by_turns(calls: Sequence[Places], own: set[int]) -> dict[int, Tensor]:
    """Memory for each of these, which two may share of which one is read no more when the other begins."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for i, call in enumerate(calls):
        for place in call.places():
            if place.memory in own:
                first.setdefault(place.memory, i)
                last[place.memory] = i
    size = nbytes_of(calls)
    given: dict[int, Tensor] = {}
    free: dict[int, list[Tensor]] = {}
    ending: dict[int, list[int]] = {}
    for memory, i in last.items():
        ending.setdefault(i, []).append(memory)
    starting: dict[int, list[int]] = {}
    for memory, i in first.items():
        starting.setdefault(i, []).append(memory)
    for i in range(len(calls)):
        for memory in starting.get(i, ()):
            there = free.get(size[memory])
            given[memory] = there.pop() if there else reserved(size[memory])
        for memory in ending.get(i, ()):
            free.setdefault(size[memory], []).append(given[memory])
    return given
