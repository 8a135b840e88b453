"""The operations of a function, as it runs: what each reads and writes, by the memory it lies in.

Views and reserved memory are no operations: a tensor is noted as the memory that it lies in, and where in that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_RESERVED = {"empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "detach"}
_LOOKED_AT = {"numpy", "tolist", "item", "__bool__", "__int__", "__float__", "__index__", "__array__", "__dlpack__"}
_SHAPED_BY_VALUES = {"nonzero", "masked_select", "_local_scalar_dense", "_unique2", "unique_dim", "bincount", "equal"}
_MASKS = (torch.bool, torch.uint8)
_active: list[Recording] = []


class ReplayError(BaseException):
    """A function that cannot be replayed; the message says why. No ``except Exception`` of the function catches it."""


class Region(NamedTuple):
    """A tensor, by its memory."""

    memory: int  # number of it
    dtype: torch.dtype
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes from its first element to its last."""
        if 0 in self.size:
            return 0
        return (1 + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))) * self.dtype.itemsize


@dataclass
class Call:
    """An operation; arguments hold places instead of tensors."""

    function: Callable[..., Any]
    name: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    results: list[Region]
    written: set[int] = field(default_factory=set)  # memories
    in_place: bool = False  # True if its results lie in what it gets
    has_no_out: bool = False  # True once it is known that it cannot write its result to given memory

    def places(self) -> Iterator[Region]:
        """All that it reads or writes."""
        yield from places_in([*self.arguments, *self.named.values()])
        yield from self.results


def places_in(values: Any) -> Iterator[Region]:
    """The places in arguments."""
    for value in values:
        if isinstance(value, Region):
            yield value
        elif isinstance(value, list | tuple):
            yield from places_in(value)


def with_each(kind: type, value: Any, change: Callable[[Any], Any]) -> Any:
    """Arguments with ``change`` of everything of a kind in them; lists, tuples and NamedTuples stay what they are."""
    if isinstance(value, kind):  # a place is a tuple too
        return change(value)
    if isinstance(value, list | tuple):
        parts = [with_each(kind, part, change) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


class Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A block whose operations are noted.

    Attributes:
        calls: in their order.
        memory: each memory seen: a tensor that lies in it, which keeps it.
        outside: memories that were there before.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.memory: list[Tensor] = []
        self.outside: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []
        self._looking = _Looking()

    def __enter__(self) -> Any:
        _active.append(self)
        self._looking.__enter__()  # type: ignore[no-untyped-call]
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self._looking.__exit__(*error)  # type: ignore[no-untyped-call]
        _active.pop()

    def place(self, tensor: Tensor, made: bool = False) -> Region:
        """Where a tensor lies; ``made`` says that an operation has just made it."""
        if type(tensor) not in (Tensor, torch.nn.Parameter, torch.nn.Buffer) or tensor.device.type != "cpu":
            raise ReplayError(f"a {type(tensor).__name__} on {tensor.device}")
        key = tensor.untyped_storage()._cdata
        if key not in self._numbers:
            self._numbers[key] = len(self.memory)
            self.memory.append(tensor)
            if not made:
                self.outside.add(self._numbers[key])
        self._kept.append(tensor)
        size, stride = tuple(tensor.shape), tensor.stride()
        return Region(self._numbers[key], tensor.dtype, size, stride, int(tensor.storage_offset()))

    def let_go(self, but: set[int]) -> None:
        """Keep of the memory only what was there before, and these; nothing more is to be noted then."""
        kept = self.outside | but
        self.memory = [tensor if number in kept else tensor.new_empty(0) for number, tensor in enumerate(self.memory)]
        self._kept.clear()

    def copied(self, place: Region) -> Region:
        """A copy in memory of its own, made by a further operation."""
        new = self.place(torch.empty(place.size, dtype=place.dtype), made=True)
        self.calls.append(Call(torch.clone, "clone", (place,), {}, [new], {new.memory}))
        return new

    def _dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = str(func.overloadpacket.__name__), kwargs or {}
        masked = name == "index" and any(index is not None and index.dtype in _MASKS for index in args[1])
        if masked or name in _SHAPED_BY_VALUES or torch.Tag.nondeterministic_seeded in func.tags:
            raise ReplayError(f"it calls {name}")
        arguments, named = self._noted(args), {key: self._noted(value) for key, value in kwargs.items()}
        result = func(*args, **kwargs)
        schema = func._schema
        if any(each.alias_info is not None and not each.alias_info.is_write for each in schema.returns):
            self._noted([result])
            return result
        results = list(places_in(self._noted([result], made=True)))
        if name in _RESERVED:
            return result
        given = dict(zip([argument.name for argument in schema.arguments], arguments, strict=False)) | named
        changed = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
        written = {place.memory for name in changed for place in places_in([given.get(name)])}
        written.update(place.memory for place in results)
        self.calls.append(Call(func, name, arguments, named, results, written, bool(changed)))
        return result

    def note(self, function: Callable[..., Tensor], arguments: tuple[Any, ...], result: Tensor) -> None:
        """A call that is one operation, whatever it does inside."""
        noted, place = self._noted(arguments), self.place(result, made=True)
        self.calls.append(Call(function, "host_call", noted, {}, [place], {place.memory}))

    def _noted(self, value: Any, made: bool = False) -> Any:
        return with_each(Tensor, value, lambda tensor: self.place(tensor, made))


# not in the class, whose maker would wrap it so that its first call imports PyTorch's compiler, which takes a second
Recording.__torch_dispatch__ = Recording._dispatch  # type: ignore[method-assign, assignment]


class _Looking(TorchFunctionMode):
    """Refuses functions that look at numbers of a tensor without an operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in _LOOKED_AT:
            raise ReplayError(f"it calls Tensor.{name}")
        return func(*args, **(kwargs or {}))


def host_call(function: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """``function`` of tensors and other values, as one operation of a recording.

    For what is shaped by values, such as finding the rows that need work: it runs as it is whenever the recording is
    replayed. It is a function of its arguments, and returns a tensor of its own.
    """
    if not _active:
        return function(*arguments)
    recording = _active[-1]
    with torch._C._DisableTorchDispatch(), torch._C.DisableTorchFunction():
        result = function(*arguments)
    recording.note(function, arguments, result)
    return result


def difference(first: Recording, second: Recording) -> str | None:
    """What two recordings of one function do not have in common; None if they are the same.

    Memory that was there before must be the same, or hold the same constants.
    """
    if [(c.function, c.results) for c in first.calls] != [(c.function, c.results) for c in second.calls]:
        return "its operations change"
    if any((c.arguments, c.named) != (d.arguments, d.named) for c, d in zip(first.calls, second.calls, strict=True)):
        return "a number changes that is no tensor"
    for number in first.outside:
        one, other = first.memory[number], second.memory[number]
        if one.data_ptr() != other.data_ptr() and not (one.shape == other.shape and torch.equal(one, other)):
            return "a tensor changes that is no part of the state"
    return None
