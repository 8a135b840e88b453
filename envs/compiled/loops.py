"""Assignments as C++: what can share a loop does, block by block of rows, so that numbers stay in the nearest cache.

1. Where every tensor of a part tells its rows apart (:class:`RowSteps`), the part runs in blocks of rows. Else each
   assignment is a loop of its own over all its indices.
2. An assignment of few numbers per row is taken apart into assignments of one number per row, all of one form.
3. Assignments of one form share a loop as long as none reads what another has written elsewhere than at the same index;
   what one has written the next one finds in a register, and what nobody else reads is never stored.
4. Memory that only this part uses is a buffer of one block.
5. Rows in one piece are taken apart into columns of a block, and put together again, by loops of their own: what runs
   over rows that lie apart is not made of vectors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from palaestra.envs.compiled.assignments import Assignment, Chooser, Chosen
from palaestra.envs.core.replay.recording import Region

_FEW = 32  # numbers per row that become assignments of their own
_MOST_TOGETHER = 96  # assignments of a loop
_LEAST_ROWS = 16
_NARROW = 4  # numbers of a row that vectors are made of


def row_dimension(size: Sequence[int], rows: int) -> int | None:
    """The dimension of a size that counts rows; None if there is none, or more than one may be it."""
    found = [i for i, n in enumerate(size) if n == rows]
    return found[0] if len(found) == 1 else None


@dataclass
class RowSteps:
    """How one memory holds rows: all of a column side by side (``step`` 1), or each row in one piece of ``step``."""

    step: int
    rows: int
    end: int = 0  # columns, or numbers of a row

    def holds(self, place: Region, dim: int, by: Sequence[Chooser]) -> bool:
        """Take in another tensor there; False if it lies otherwise."""
        steps = [(s, n) for i, (s, n) in enumerate(zip(place.stride, place.size, strict=True)) if i != dim and n > 1]
        steps += [(chooser.step, chooser.count) for chooser in by]
        if place.stride[dim] != self.step or any(step < 0 for step, _ in steps):
            return False
        last = place.offset + sum((n - 1) * step for step, n in steps)
        if self.step == 1:
            self.end = max(self.end, last // self.rows + 1)
            return place.offset % self.rows == 0 and all(step % self.rows == 0 for step, _ in steps)
        self.end = self.step
        return last < self.step


@dataclass
class Loop:
    """Assignments of one form, in their order."""

    rows: int
    assignments: list[Assignment] = field(default_factory=list)
    reads: set[int] = field(default_factory=set)  # memories
    writes: set[int] = field(default_factory=set)
    chosen: set[int] = field(default_factory=set)  # memories that elements are chosen of
    only_copies: bool = False
    columns: dict[Region, frozenset[int]] = field(default_factory=dict)

    def add(self, assignment: Assignment) -> None:
        self.assignments.append(assignment)
        self.writes.add(assignment.written.memory)
        self.reads.update(place.memory for place in assignment.read())
        self.chosen.update(place.memory for place in assignment.chosen_of())

    def takes(self, new: Assignment) -> bool:
        """True if another assignment may run in this loop, after those that are in it."""
        if len(self.assignments) >= _MOST_TOGETHER or self.assignments[0].size != new.size:
            return False
        if scatters(new) or scatters(self.assignments[0]):
            return False
        chosen = {place.memory for place in new.chosen_of()}
        if chosen & self.writes or new.written.memory in self.chosen:
            return False
        return all(self._apart(place) for place in new.read()) and self._apart(new.written, writing=True)

    def _apart(self, place: Region, writing: bool = False) -> bool:
        """True if no assignment uses part of this tensor otherwise than as this very tensor."""
        if place.memory not in (self.writes | self.reads if writing else self.writes):
            return True
        others = [each.written for each in self.assignments]
        others += [each for assignment in self.assignments for each in assignment.read()] if writing else []
        return all(other == place or self._disjoint(other, place) for other in others if other.memory == place.memory)

    def _disjoint(self, one: Region, other: Region) -> bool:
        for place in (one, other):
            if place not in self.columns:
                self.columns[place] = frozenset(_columns(place, self.rows))
        return not self.columns[one] & self.columns[other]

    def must_follow(self, new: Assignment) -> bool:
        """True if an assignment reads or writes what this loop does, so that it cannot run before it."""
        read = {place.memory for place in (*new.read(), *new.chosen_of())}
        return bool(read & self.writes) or new.written.memory in self.writes | self.reads | self.chosen


def scatters(assignment: Assignment) -> bool:
    return isinstance(assignment.target, Chosen)


def _columns(place: Region, rows: int) -> Iterator[int]:
    """Where the numbers of the first row lie."""
    dim = row_dimension(place.size, rows)
    ranges = [range(1 if i == dim else n) for i, n in enumerate(place.size)]
    for index in itertools.product(*ranges):
        yield place.offset + sum(i * s for i, s in zip(index, place.stride, strict=True))


def rows_of(assignments: Sequence[Assignment], rows: int) -> dict[int, RowSteps] | None:
    """How each memory that is written holds rows; None if one holds none, so that blocks of them mean nothing."""
    if rows < _LEAST_ROWS:
        return None
    written = {assignment.written.memory for assignment in assignments}
    found: dict[int, RowSteps] = {}
    for assignment in assignments:
        dim = row_dimension(assignment.size, rows)
        if dim is None:
            return None
        for place, by in used(assignment):
            if place.memory not in written:
                continue
            step = place.stride[dim]
            if step <= 0 or not found.setdefault(place.memory, RowSteps(step, rows)).holds(place, dim, by):
                return None
    return found


def used(assignment: Assignment) -> Iterator[tuple[Region, Sequence[Chooser]]]:
    """The tensors of an assignment, and what chooses in them."""
    for place in assignment.read():
        yield place, ()
    for operand in (*assignment.operands, assignment.target):
        if isinstance(operand, Chosen):
            yield operand.place, operand.by
    if isinstance(assignment.target, Region):
        yield assignment.target, ()


class Loops:
    """Assignments in blocks of rows as loops, one after another.

    Attributes:
        loops: in their order.
        buffers: memories (below 0) of columns whose rows lie in one piece elsewhere.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self.loops: list[Loop] = []
        self.buffers: dict[int, RowSteps] = {}
        self._columns: dict[Region, Region] = {}  # of rows in one piece, where the same numbers lie as columns
        self._numbers: dict[int, int] = {}

    def add(self, whole: Assignment) -> None:
        for assignment in _taken_apart(whole, self._rows):
            if len(assignment.size) > 1:
                self._put(assignment)
                continue
            operands = tuple(self._in_column(o) if isinstance(o, Region) else o for o in assignment.operands)
            target = assignment.target
            if isinstance(target, Chosen) or target.stride[0] <= _NARROW:
                self._put(Assignment(target, operands, assignment.text))
            else:
                column = self._columns.get(target) or self._new_column(target)
                self._put(Assignment(column, operands, assignment.text))
                self._put(Assignment(target, (column,), str), only_copies=True)
                self._columns[target] = column

    def _in_column(self, place: Region) -> Region:
        if place.stride[0] <= _NARROW:
            return place
        if place not in self._columns:
            column = self._new_column(place)
            self._put(Assignment(column, (place,), str), only_copies=True)
            self._columns[place] = column
        return self._columns[place]

    def _new_column(self, place: Region) -> Region:
        memory = self._numbers.setdefault(place.memory, -1 - len(self._numbers))
        held = self.buffers.setdefault(memory, RowSteps(1, self._rows))
        held.end += 1
        return place._replace(memory=memory, stride=(1,), offset=(held.end - 1) * self._rows)

    def _put(self, assignment: Assignment, only_copies: bool = False) -> None:
        written = assignment.written.memory
        self._columns = {place: column for place, column in self._columns.items() if place.memory != written}
        place = len(self.loops)
        for i in reversed(range(len(self.loops))):
            if self.loops[i].only_copies == only_copies and self.loops[i].takes(assignment):
                place = i
                break
            if self.loops[i].must_follow(assignment):
                break
        if place == len(self.loops):
            self.loops.append(Loop(self._rows, only_copies=only_copies))
        self.loops[place].add(assignment)


def _taken_apart(assignment: Assignment, rows: int) -> list[Assignment]:
    """Assignments of one number per row, if there are few numbers."""
    dim = row_dimension(assignment.size, rows)
    assert dim is not None
    others = [i for i in range(len(assignment.size)) if i != dim]
    count = 1
    for i in others:
        count *= assignment.size[i]
    if count > _FEW:
        return [assignment]

    def at(operand: Any, index: Sequence[int]) -> Any:
        if isinstance(operand, Region):
            offset = operand.offset + sum(i * operand.stride[d] for i, d in zip(index, others, strict=True))
            return operand._replace(size=(rows,), stride=(operand.stride[dim],), offset=offset)
        if isinstance(operand, Chosen):
            by = tuple(replace(chooser, place=at(chooser.place, index)) for chooser in operand.by)
            return Chosen(at(operand.place, index), by)
        return operand

    return [
        Assignment(at(assignment.target, i), tuple(at(o, i) for o in assignment.operands), assignment.text)
        for i in itertools.product(*(range(assignment.size[d]) for d in others))
    ]
