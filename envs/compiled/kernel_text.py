"""Loops as C++: one function of a table of pointers per part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from palaestra.envs.compiled.assignments import Assignment, Chosen, Operand
from palaestra.envs.compiled.expressions import TYPES
from palaestra.envs.compiled.loops import Loop, Loops, row_dimension, rows_of, scatters, used
from palaestra.envs.core.replay.recording import Region

_BLOCKS = (512, 256, 128, 64)  # rows
_NEAR = 24 << 10  # bytes of buffers that a block may take


class Writer:
    """C++ of one part, a function of a table of pointers.

    Attributes:
        pointers: the memories that it gets, in their order.
    """

    def __init__(self, name: str, assignments: Sequence[Assignment], rows: int, own: set[int]) -> None:
        """``own`` are memories that nothing else reads or writes."""
        self._rows = rows
        self._held = rows_of(assignments, rows)
        written = {assignment.written.memory for assignment in assignments}
        self._local = {} if self._held is None else {m: self._held[m] for m in written & own}
        if self._held is None:
            self._loops = [Loop(rows) for _ in assignments]
            for loop, assignment in zip(self._loops, assignments, strict=True):
                loop.add(assignment)
        else:
            made = Loops(rows)
            for assignment in assignments:
                made.add(assignment)
            self._loops = made.loops
            self._local |= made.buffers
        every = [each for loop in self._loops for each in loop.assignments]
        self._kinds = {p.memory: p.dtype for each in every for p, _ in used(each)}
        self.pointers = [memory for memory in self._kinds if memory not in self._local]
        self._block = self._rows_of_block()
        self.text = "\n".join(self._function(name))

    def _rows_of_block(self) -> int:
        bytes_of_row = sum(held.end * self._kinds[m].itemsize for m, held in self._local.items())
        return next((block for block in _BLOCKS if block * bytes_of_row <= _NEAR), _BLOCKS[-1])

    def _function(self, name: str) -> Iterator[str]:
        parameters = [self._parameter(memory) for memory in self.pointers]
        yield f"static uint64_t __attribute__((noinline)) {name}_on({', '.join(parameters)}) {{"
        yield "  uint64_t bad = 0;"
        if self._held is None:
            for loop in self._loops:
                yield from self._nest(loop)
        else:
            for memory, held in self._local.items():
                yield f"  alignas(64) {TYPES[self._kinds[memory]]} b{_number(memory)}[{held.end * self._block}];"
            yield f"  for (int64_t first = 0; first < {self._rows}; first += {self._block}) {{"
            yield f"  const int64_t left = {self._rows} - first, count = left < {self._block} ? left : {self._block};"
            for loop in self._loops:
                yield from self._nest(loop)
            yield "  }"
        yield "  return bad;"
        yield "}"
        given = [f"static_cast<{TYPES[self._kinds[memory]]}*>(memory[{i}])" for i, memory in enumerate(self.pointers)]
        yield f'extern "C" int64_t {name}(void** memory) {{ return int64_t({name}_on({", ".join(given)}) != 0); }}'

    def _parameter(self, memory: int) -> str:
        kind = "" if any(memory in loop.writes for loop in self._loops) else "const "
        return f"{kind}{TYPES[self._kinds[memory]]}* __restrict__ p{memory}"

    def _nest(self, loop: Loop) -> Iterator[str]:
        yield "  {"
        size, strides = loop.assignments[0].size, loop.assignments[0].written.stride
        dim = row_dimension(size, self._rows) if self._held is not None else None
        order = sorted(range(len(size)), key=lambda d: -strides[d])
        in_order = scatters(loop.assignments[0])
        if in_order:  # later elements count: in the order of the index
            order = list(range(len(size)))
        body = _Body(self, loop, dim, order)
        for depth, d in enumerate(order):
            yield from body.lines[depth]
            if d == order[-1] and not in_order and not loop.only_copies:
                yield "#pragma GCC ivdep"
            yield f"  for (int64_t i{d} = 0; i{d} < {'count' if d == dim else size[d]}; ++i{d}) {{"
        yield from body.lines[-1]
        yield "  }" + "}" * len(order)

    def is_read_elsewhere(self, memory: int, loop: Loop) -> bool:
        return any(memory in each.reads | each.chosen for each in self._loops if each is not loop)

    def is_local(self, memory: int) -> bool:
        return memory in self._local

    def element(self, place: Region, dim: int | None, chosen: Sequence[tuple[str, int]] = ()) -> str:
        """The number of a tensor at the loops' indices, and further along by so many steps each."""
        local = self._local.get(place.memory)
        in_columns = local is not None and local.step == 1

        def scaled(elements: int) -> int:
            return elements // self._rows * self._block if in_columns else elements

        terms = [str(scaled(place.offset))]
        for d, (n, stride) in enumerate(zip(place.size, place.stride, strict=True)):
            if stride == 0 or n == 1:
                continue
            if d != dim:
                terms.append(f"i{d} * {scaled(stride)}")
            elif local is not None:
                terms.append(f"i{d} * {stride}")
            else:
                terms.append(f"(first + i{d}) * {stride}")
        terms += [f"{number} * {scaled(step)}" for number, step in chosen]
        return f"{'p' if local is None else 'b'}{_number(place.memory)}[{' + '.join(terms)}]"


def _number(memory: int) -> str:
    return str(memory) if memory >= 0 else f"_{-memory}"


class _Body:
    """The inside of nested loops.

    Attributes:
        lines: before the first loop, in it before the second one, …, in the last one.
    """

    def __init__(self, writer: Writer, loop: Loop, dim: int | None, order: Sequence[int]) -> None:
        self._writer, self._loop, self._dim, self._order = writer, loop, dim, order
        self.lines: list[list[str]] = [[] for _ in range(len(order) + 1)]
        self._names: dict[Region, str] = {}
        self._count = 0
        self._write()

    def _write(self) -> None:
        inside, stores = self.lines[-1], dict[Region, str]()
        for assignment in self._loop.assignments:
            numbers = [self._number(operand) for operand in assignment.operands]
            if isinstance(assignment.target, Chosen):
                target = self._writer.element(assignment.target.place, self._dim, self._chosen(assignment.target)[0])
                inside.append(f"    {target} = {assignment.text(*numbers)};")
                continue
            name = self._name()
            inside.append(f"    const {TYPES[assignment.written.dtype]} {name} = {assignment.text(*numbers)};")
            self._names[assignment.target] = stores[assignment.target] = name
        for place, name in stores.items():
            if not self._writer.is_local(place.memory) or self._writer.is_read_elsewhere(place.memory, self._loop):
                inside.append(f"    {self._writer.element(place, self._dim)} = {name};")

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _depth(self, place: Region) -> int:
        """In how many loops a tensor's numbers change; those that are written here may do so in all."""
        if place.memory in self._loop.writes:
            return len(self._order)
        return max((i + 1 for i, d in enumerate(self._order) if place.stride[d] and place.size[d] > 1), default=0)

    def _number(self, operand: Operand) -> str:
        """The name of an operand's number, which is made if it was not."""
        if isinstance(operand, str):
            return operand
        if isinstance(operand, Chosen):
            chosen, depth = self._chosen(operand)
            element = self._writer.element(operand.place, self._dim, chosen)
            depth = max(depth, self._depth(operand.place))
        elif operand in self._names:
            return self._names[operand]
        else:
            element, depth = self._writer.element(operand, self._dim), self._depth(operand)
        name = self._name()
        if isinstance(operand, Region):
            self._names[operand] = name
        kind = operand.dtype if isinstance(operand, Region) else operand.place.dtype
        self.lines[depth].append(f"    const {TYPES[kind]} {name} = {element};")
        return name

    def _chosen(self, operand: Chosen) -> tuple[list[tuple[str, int]], int]:
        """Numbers that choose elements, each with its step; one that is out of range is told, and is 0."""
        chosen, deepest = [], 0
        for chooser in operand.by:
            computed = any(chooser.place == each.target for each in self._loop.assignments)
            depth = len(self._order) if computed else self._depth(chooser.place)
            number, name = self._number(chooser.place), self._name()
            given = f"int64_t({number})"
            if chooser.wraps:
                given = f"({given} < 0 ? {given} + {chooser.count} : {given})"
            self.lines[depth] += [
                f"    const int64_t {name}i = {given};",
                f"    bad |= uint64_t({name}i) >= {chooser.count}ull;",
                f"    const int64_t {name} = uint64_t({name}i) < {chooser.count}ull ? {name}i : 0;",
            ]
            chosen.append((name, chooser.step))
            deepest = max(deepest, depth)
        return chosen, deepest
