"""A recorded function as parts: some that a C++ compiler has made one function each of, and calls of PyTorch between.

What PyTorch has to do itself (sines, roots, …) is done as soon as what it reads is there, and everything else as late
as its readers allow: so there are few parts, and little passes from one to the next.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.compiled.assignments import Assignment
from palaestra.envs.compiled.compiler import loaded
from palaestra.envs.compiled.kernel_text import Writer
from palaestra.envs.compiled.translation import assignments_of
from palaestra.envs.core.replay.lowering import Step, may_warn
from palaestra.envs.core.replay.program import Program, by_turns
from palaestra.envs.core.replay.recording import Call, Recording, Region

_HEAD = "#include <cstdint>\n"


@dataclass
class Part:
    """Operations that follow each other; those of C++ have assignments, one of PyTorch has none."""

    calls: list[Call]
    assignments: list[Assignment] | None

    def places(self) -> Iterator[Region]:
        for call in self.calls:
            yield from call.places()


class CompiledProgram(Program):
    """A program in parts.

    Attributes:
        library: the compiled functions.
    """

    def __init__(
        self, recording: Recording, inputs: set[int], results: set[int], rows: int, other_source: str = ""
    ) -> None:
        """Compile it, if it has not been.

        Args:
            recording, inputs, results: see :class:`Program`.
            rows: of its tensors.
            other_source: further functions in C++.

        Raises:
            CompileError: if it cannot be.
        """
        self._rows, self.warns = rows, False
        super().__init__(recording, inputs, results)
        source = "\n".join([_HEAD, *(writer.text for writer in self._writers.values()), other_source, ""])
        self.library = loaded(source)
        self._functions = {name: getattr(self.library, name) for name in self._writers}
        for function in self._functions.values():
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int64

    def _planned(self, own: set[int]) -> dict[int, Tensor]:
        self._parts = parts_of(self.calls, self._constants)
        users: dict[int, set[int]] = {}
        for i, part in enumerate(self._parts):
            for place in part.places():
                users.setdefault(place.memory, set()).add(i)
        self._writers: dict[str, Writer] = {}
        shared = set(own)
        for i, part in enumerate(self._parts):
            if part.assignments:
                alone = {memory for memory in own if users[memory] == {i}}
                writer = self._writers[f"part_{i}"] = Writer(f"part_{i}", part.assignments, self._rows, alone)
                shared -= alone - set(writer.pointers)
        return by_turns(self._parts, shared)

    def steps(self, given: Mapping[int, Tensor], run: bool = False) -> list[Step]:
        locate = self._locator(given)
        steps: list[Step] = []
        for i, part in enumerate(self._parts):
            if part.assignments is None:
                lowered = self._lowered(part.calls[0], locate, run)
                self.warns |= any(map(may_warn, lowered))
                steps += lowered
            elif part.assignments:
                steps.append(self._of_part(f"part_{i}", given))
                if run:
                    steps[-1][0](*steps[-1][1])
        return steps

    def _of_part(self, name: str, given: Mapping[int, Tensor]) -> Step:
        memories = [self._bytes_of(memory, given) for memory in self._writers[name].pointers]
        places = [memory.untyped_storage().data_ptr() for memory in memories]
        table = (ctypes.c_void_p * len(places))(*places)
        return call_part, (self._functions[name], ctypes.addressof(table), table, memories)


def call_part(function: Any, address: int, *kept: Any) -> None:
    """Run a function of C++ on the table of pointers at an address; ``kept`` is what lies there.

    Raises:
        IndexError: if a number that chooses is out of range.
    """
    if function(address):
        raise IndexError("an index is out of range")


def parts_of(calls: Sequence[Call], constants: Mapping[int, Tensor]) -> list[Part]:
    """Operations in few parts, each after what it depends on."""
    found = [assignments_of(call, constants) for call in calls]
    mixed = _of_several_types(calls)
    for i, call in enumerate(calls):
        if any(place.memory in mixed for place in call.places()):
            found[i] = None
    before = _dependencies(calls)
    stage = [0] * len(calls)  # how many times PyTorch must have been called before
    for i in range(len(calls)):
        stage[i] = max((stage[j] + (found[j] is None and found[i] is not None) for j in before[i]), default=0)
    latest = [max(stage, default=0)] * len(calls)
    for i in reversed(range(len(calls))):
        if found[i] is None:
            latest[i] = stage[i]
        for j in before[i]:
            if found[j] is not None:
                latest[j] = min(latest[j], latest[i])
    parts: list[Part] = []
    for now in range(max(stage, default=-1) + 1):
        together = [i for i in range(len(calls)) if found[i] is not None and latest[i] == now]
        if together:
            assignments = [each for i in together for each in found[i] or ()]
            parts.append(Part([calls[i] for i in together], assignments))
        parts += [Part([calls[i]], None) for i in range(len(calls)) if found[i] is None and stage[i] == now]
    return parts


def _of_several_types(calls: Sequence[Call]) -> set[int]:
    """Memories that are looked at as numbers of more than one type."""
    types: dict[int, set[torch.dtype]] = {}
    for call in calls:
        for place in call.places():
            types.setdefault(place.memory, set()).add(place.dtype)
    return {memory for memory, kinds in types.items() if len(kinds) > 1}


def _dependencies(calls: Sequence[Call]) -> list[set[int]]:
    """The operations, by number, that each must follow: those it reads from, and those that used what it writes to."""
    writer: dict[int, int] = {}
    readers: dict[int, set[int]] = {}
    before: list[set[int]] = []
    for i, call in enumerate(calls):
        used = {place.memory for place in call.places()}
        needed = {writer[memory] for memory in used if memory in writer}
        for memory in call.written:
            needed |= readers.get(memory, set())
        before.append(needed - {i})
        for memory in used:
            readers.setdefault(memory, set()).add(i)
        for memory in call.written:
            writer[memory], readers[memory] = i, {i}
    return before
