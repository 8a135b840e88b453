"""Tensors, numbers, text and containers in members of a model file.

1. Ours: NAME.safetensors holds the tensors, NAME.json the containers and plain values around them, in which a tensor
   stands as ``{"tensor": key}``. The library ``safetensors`` reads them. They are written here, straight from the
   tensors' memory: the library would copy a replay memory of gigabytes twice on its way into the zip file.
2. Those of Stable-Baselines3, and of model files of format 2, are files of ``torch.save``. They are read by
   ``torch.load(weights_only=True)`` after a look at their instructions: beside tensors and ordered dictionaries these
   may mention nothing, for even harmless callables can ask for any amount of memory. PyTorch gets a zip file that is
   written anew from the members that were looked at, so that it cannot find others.

What is read takes about as much memory as the file.
"""

from __future__ import annotations

import io
import json
import pickletools
import zipfile
from collections.abc import Callable
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from palaestra.agents.checkpoints.zip_archive import MAX_JSON_BYTES, CheckpointError, Members, read_json

_DTYPES = {
    torch.float32: "F32",
    torch.float64: "F64",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_MAX_INSTRUCTIONS = 4 << 20  # bytes; a tensor takes about 250
_MAX_VALUES = 1 << 18  # in a file of torch.save, where a container can stand in many places
_MAX_USES = 8  # tensors of the same bytes; parts of policies share layers
_DICTIONARY, _TENSOR = "collections OrderedDict", "torch._utils _rebuild_tensor_v2"
_KINDS = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_STORAGES = tuple(f"torch {kind}Storage" for kind in _KINDS)
_BY_NAME = ("STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4")  # name or make objects too


def write_tree(archive: zipfile.ZipFile, name: str, value: Any) -> None:
    """Write nested dictionaries, lists and tuples of tensors and plain values as NAME.json and NAME.safetensors."""
    tensors: dict[str, torch.Tensor] = {}
    archive.writestr(f"{name}.json", json.dumps({"value": _encoded(value, name, tensors, {})}))
    header, end, parts = {}, 0, []
    for key, tensor in tensors.items():
        parts.append(tensor.detach().contiguous().cpu())
        start, end = end, end + tensor.nbytes
        header[key] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with archive.open(f"{name}.safetensors", "w", force_zip64=True) as member:
        member.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            member.write(part.view(-1).view(torch.uint8).numpy().data if part.numel() else b"")


def _encoded(value: Any, place: str, tensors: dict[str, torch.Tensor], places: dict[Any, str]) -> Any:
    if isinstance(value, torch.Tensor):
        memory = (value.data_ptr(), value.dtype, value.shape, value.stride())
        first = places.setdefault(memory, place)  # parts of a policy share layers: one copy is enough
        tensors[first] = value
        return {"tensor": first}
    if isinstance(value, dict):
        return {"dict": [[k, _encoded(item, f"{place}.{k}", tensors, places)] for k, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_encoded(item, f"{place}.{index}", tensors, places) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {"tuple": items}
    return value


def read_tree(members: Members, name: str) -> Any:
    """The value that :func:`write_tree` wrote; its tensors are on the CPU.

    Raises:
        CheckpointError: if it is damaged or not of this form.
    """
    tensors = _tensors(members, name)
    structure = read_json(members, f"{name}.json")
    try:
        return _decoded(structure["value"], tensors)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{members.label}: {name}.json is not of the form of a model file ({error!r})") from error


def _tensors(members: Members, name: str) -> dict[str, torch.Tensor]:
    where = f"{members.label}: {name}.safetensors"
    content = members.read(f"{name}.safetensors")
    if int.from_bytes(content[:8], "little") > MAX_JSON_BYTES:
        raise CheckpointError(f"{where}: its header is too large")
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{where}: {str(error).splitlines()[0]}") from error
    for key, tensor in tensors.items():
        _check_numbers(f"{where}: {key}", tensor)
    return tensors


def _check_numbers(what: str, tensor: torch.Tensor) -> None:
    if tensor.dtype not in _DTYPES:
        raise CheckpointError(f"{what} has the type {tensor.dtype}, which no agent has")
    if tensor.dtype == torch.bool and tensor.numel() and tensor.contiguous().view(torch.uint8).max() > 1:
        raise CheckpointError(f"{what} has truth values other than 0 and 1")


def _decoded(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, list):
        return [_decoded(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "tuple":
        return tuple(_decoded(item, tensors) for item in content)
    if kind == "dict" and all(type(key) in (str, int) for key, _ in content):
        return {key: _decoded(item, tensors) for key, item in content}
    raise ValueError(f"an unknown kind {kind!r}")


def read_torch_file(members: Members, name: str) -> Any:
    """The value that ``torch.save`` wrote to a member; its tensors are on the CPU.

    Raises:
        CheckpointError: if it holds anything else than plain values, or is damaged.
    """
    content = members.read(name)
    where = f"{members.label}: {name}"
    try:
        value = torch.load(_looked_at(Members(io.BytesIO(content), where)), map_location="cpu", weights_only=True)
        return _Plain(len(content)).copy(value)
    except CheckpointError as error:
        raise error if where in str(error) else CheckpointError(f"{where}: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # on damaged input PyTorch raises anything, with advice in several lines
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise CheckpointError(f"{where} is no file of tensors ({type(error).__name__}: {reason})") from error


def _looked_at(inner: Members) -> io.BytesIO:
    """The file anew, if its instructions mention plain values only."""
    folder = {path.partition("/")[0] for path in inner.names()}
    if len(folder) != 1:
        raise CheckpointError("it is not a file of torch.save")
    instructions = inner.read(f"{folder.pop()}/data.pkl", _MAX_INSTRUCTIONS)
    for operation, argument, _ in pickletools.genops(instructions):
        if operation.name in _BY_NAME:
            raise CheckpointError(f"the instruction {operation.name}, which plain values do not need")
        if operation.name == "GLOBAL" and argument not in (_DICTIONARY, _TENSOR, *_STORAGES):
            raise CheckpointError(f"it mentions {str(argument).replace(' ', '.')}, which is not part of plain values")
    anew = io.BytesIO()
    with zipfile.ZipFile(anew, "w") as archive:
        for path in inner.names():
            archive.writestr(path, inner.read(path))
    anew.seek(0)
    return anew


class _Plain:
    """A copy of what was read that holds plain values only, within limits."""

    def __init__(self, size: int) -> None:
        self._size, self._values, self._bytes = size, 0, 0
        self._storages: dict[int, int] = {}

    def copy(self, value: Any) -> Any:
        self._values += 1
        if self._values > _MAX_VALUES:
            raise CheckpointError(f"more than {_MAX_VALUES} values")
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, dict):
            if not all(type(key) in (str, int) for key in value):
                raise CheckpointError("a key that is neither text nor a number")
            return {key: self.copy(item) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)([self.copy(item) for item in value])
        if value is None or type(value) in (bool, int, float, str):
            return value
        raise CheckpointError(f"a value of type {type(value).__name__}, which is no plain value")

    def _tensor(self, value: torch.Tensor) -> torch.Tensor:
        if type(value) is not torch.Tensor or value.layout != torch.strided or value.device.type != "cpu":
            raise CheckpointError("a tensor of an unknown form")
        storage = value.untyped_storage()
        self._storages[storage.data_ptr()] = storage.nbytes()
        self._bytes += value.nbytes
        if value.nbytes > storage.nbytes() or sum(self._storages.values()) > self._size:
            raise CheckpointError("a tensor reaches beyond the bytes that the file holds for it")
        if self._bytes > _MAX_USES * self._size:
            raise CheckpointError(f"more than {_MAX_USES} tensors of the same bytes")
        _check_numbers("a tensor", value)
        return value.detach()


def map_tensors(function: Callable[[torch.Tensor], torch.Tensor], value: Any) -> Any:
    """Nested containers with ``function`` of each tensor in its place."""
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, list):
        return [map_tensors(function, item) for item in value]
    return function(value) if isinstance(value, torch.Tensor) else value
