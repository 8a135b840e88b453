"""Tensors, numbers, text and containers from a file of ``torch.save``, read as data.

1. Such a file is a zip file of raw numbers and ``data.pkl``, the instructions to put them together. Instead of an
   unpickler there is an interpreter here for the few instructions that plain values need. Of all callables it knows
   two, an empty ordered dictionary and a tensor over given bytes, so there is nothing else that a file could call.
2. Every tensor must lie within the bytes that the file holds for it, and containers cannot be used twice, so the result
   is about as large as the file.
"""

from __future__ import annotations

import io
import math
import pickletools
from collections.abc import Callable
from typing import Any

import torch

from palaestra.agents.checkpoints.zip_archive import CheckpointError, Members

_MAX_INSTRUCTIONS = 4 << 20  # bytes; a tensor takes about 250
_MAX_USES = 8  # of the same bytes by several tensors; parts of policies share layers
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_DICTIONARY, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"


class _Name(str):
    """One of the few names of torch and Python that an instruction may mention."""


class _Marks(list[Any]):
    """Values of the container that is being read; a type of its own, so that no file can hold one."""


def read_tensors(members: Members, name: str) -> Any:
    """The value that ``torch.save`` wrote to a member; its tensors are on the CPU.

    Raises:
        CheckpointError: if it holds anything else than plain values, or is damaged.
    """
    inner = members.inside(name)
    roots = {path.split("/")[0] for path in inner.names()}
    if len(roots) != 1:
        raise CheckpointError(f"{members.label}: {name} is not a file of torch.save")
    (root,) = roots
    order = f"{root}/byteorder"
    if order in inner.names() and inner.read(order, 16) != b"little":
        raise CheckpointError(f"{members.label}: {name} has another byte order than little")
    try:
        return _Reader(inner, root).run()
    except CheckpointError as error:
        raise CheckpointError(f"{members.label}: {name}: {error}") from error


class _Reader:
    """The stack machine."""

    def __init__(self, inner: Members, root: str) -> None:
        self._inner, self._root = inner, root
        self._stack = _Marks()
        self._outer: list[_Marks] = []
        self._memo: dict[int, Any] = {}
        self._bytes: dict[str, bytearray] = {}
        self._uses: dict[str, int] = {}

    def run(self) -> Any:
        instructions = io.BytesIO(self._inner.read(f"{self._root}/data.pkl", _MAX_INSTRUCTIONS))
        try:
            for operation, argument, _ in pickletools.genops(instructions):
                if operation.name == "STOP":
                    break
                self._do(operation.name, argument)
            (value,) = self._stack
        except (ValueError, IndexError, KeyError, TypeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"bad instructions ({error})") from error
        if isinstance(value, _Name | _Storage):
            raise CheckpointError("bad instructions (they end without a value)")
        return value

    def _do(self, operation: str, argument: Any) -> None:
        if operation in _CONSTANTS:
            self._stack.append(_CONSTANTS[operation]())
        elif operation in _VALUES:
            self._stack.append(argument)
        elif operation in _TUPLES:
            self._tuple(_TUPLES[operation])
        elif operation in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif operation in ("BINGET", "LONG_BINGET"):
            self._again(self._memo[argument])
        elif operation == "GLOBAL":
            self._name(argument)
        elif operation in _ACTIONS:
            _ACTIONS[operation](self)
        elif operation != "PROTO":
            raise CheckpointError(f"the instruction {operation}, which plain values do not need")

    def _again(self, value: Any) -> None:
        """Values that were read before: only such as take no room."""
        parts = value if isinstance(value, tuple) else (value,)
        if not all(part is None or isinstance(part, str | int | float | torch.Tensor) for part in parts):
            raise CheckpointError("a container is used twice")
        self._stack.append(value)

    def _name(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        if argument not in (_DICTIONARY, _TENSOR) and not (module == "torch" and name in _DTYPES):
            raise CheckpointError(f"it mentions {argument.replace(' ', '.')}, which is not part of plain values")
        self._stack.append(_Name(argument))

    def _mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = _Marks()

    def _since_mark(self) -> _Marks:
        values, self._stack = self._stack, self._outer.pop()
        return values

    def _tuple(self, length: int) -> None:
        values = [self._stack.pop() for _ in range(length)]
        self._stack.append(tuple(reversed(values)))

    def _long_tuple(self) -> None:
        values = self._since_mark()
        self._stack.append(tuple(values))

    def _append(self) -> None:
        self._extend([self._stack.pop()])

    def _appends(self) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise CheckpointError("bad instructions (values for a list that is none)")
        self._stack[-1].extend(values)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def _set_items(self) -> None:
        self._update(self._since_mark())

    def _update(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            raise CheckpointError("bad instructions (items for a dictionary that is none)")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int):
                raise CheckpointError(f"a key of type {type(key).__name__}")
            target[key] = value

    def _build(self) -> None:
        """The attributes of an ordered dictionary: torch keeps version numbers of layers there, not needed here."""
        self._stack.pop()

    def _reduce(self) -> None:
        arguments, called = self._stack.pop(), self._stack.pop()
        if not isinstance(called, _Name):
            raise CheckpointError("bad instructions (a call of what is no function)")
        if called == _DICTIONARY and arguments == ():
            self._stack.append({})
        elif called == _TENSOR:
            self._stack.append(_tensor(*arguments))
        else:
            raise CheckpointError(f"a call of {called.replace(' ', '.')}")

    def _storage(self) -> None:
        kind, name, key, _, length = self._stack.pop()
        if kind != "storage" or not isinstance(name, _Name) or not isinstance(key, str) or type(length) is not int:
            raise CheckpointError("bad instructions (numbers of an unknown kind)")
        dtype = _DTYPES[name.partition(" ")[2]]
        if key not in self._bytes:
            self._bytes[key] = self._inner.read(f"{self._root}/data/{key}")
            self._uses[key] = 0
        self._uses[key] += 1
        if self._uses[key] > _MAX_USES:
            raise CheckpointError(f"more than {_MAX_USES} tensors of the same bytes")
        if length * dtype.itemsize != len(self._bytes[key]):
            raise CheckpointError(f"{length} numbers are announced, {len(self._bytes[key])} bytes are there")
        self._stack.append(_Storage(self._bytes[key], dtype))


class _Storage:
    """The numbers of tensors."""

    def __init__(self, content: bytearray, dtype: torch.dtype) -> None:
        self.content, self.dtype = content, dtype


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    """A view of the numbers; what follows (gradients, hooks) does not matter."""
    if not isinstance(storage, _Storage) or type(size) is not tuple or type(stride) is not tuple:
        raise CheckpointError("a tensor of an unknown form")
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or any(type(n) is not int or not 0 <= n < 1 << 62 for n in numbers):
        raise CheckpointError("a tensor of an unknown form")
    count, available = math.prod(size), len(storage.content) // storage.dtype.itemsize
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count == 0:
        return torch.empty(size, dtype=storage.dtype)
    if last >= available or count > available:
        raise CheckpointError(f"a tensor of form {size} reaches beyond the {available} numbers it is made of")
    if storage.dtype == torch.bool and torch.frombuffer(storage.content, dtype=torch.uint8).max() > 1:
        raise CheckpointError("truth values other than 0 and 1")
    return torch.frombuffer(storage.content, dtype=storage.dtype).as_strided(size, stride, offset)


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
_VALUES = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[_Reader], None]] = {
    "MARK": _Reader._mark,
    "TUPLE": _Reader._long_tuple,
    "APPEND": _Reader._append,
    "APPENDS": _Reader._appends,
    "SETITEM": _Reader._set_item,
    "SETITEMS": _Reader._set_items,
    "BUILD": _Reader._build,
    "REDUCE": _Reader._reduce,
    "BINPERSID": _Reader._storage,
}
