"""A small reader of offline ``.wandb`` files, for the tests: wandb itself ships none in Python.

The file is LevelDB's log format (github.com/google/leveldb, doc/log_format.md) with two differences: the first block
starts with a header of 7 bytes (":W&B", 0xBEE1 as uint16, version 0), and the checksum is a plain CRC-32.

1. Blocks of 32 KiB. Fewer than 7 bytes left in a block are padding.
2. A piece: checksum uint32 over type and data, length uint16, type uint8 (1 full, 2 first, 3 middle, 4 last), data.
3. The data of the pieces first … last, joined, is one ``wandb.proto.wandb_internal_pb2.Record``.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK = 32768
HEADER = struct.Struct("<4sHB")
PIECE = struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def pieces(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, data) of every piece.

    Raises:
        ValueError: not such a file, or a wrong checksum.
    """
    if HEADER.unpack_from(data) != (b":W&B", 0xBEE1, 0):
        raise ValueError("not a .wandb file of version 0")
    at = HEADER.size
    while at + PIECE.size <= len(data):
        if BLOCK - at % BLOCK < PIECE.size:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = PIECE.unpack_from(data, at)
        body = data[at + PIECE.size : at + PIECE.size + length]
        if zlib.crc32(bytes([kind]) + body) != checksum:
            raise ValueError(f"wrong checksum at byte {at}")
        yield kind, body
        at += PIECE.size + length


def records(path: Path) -> Iterator[Any]:
    """Every ``Record`` of the file."""
    buffer = b""
    for kind, body in pieces(path.read_bytes()):
        buffer = body if kind in (FULL, FIRST) else buffer + body
        if kind in (FULL, LAST):
            record = Record()
            record.ParseFromString(buffer)
            yield record


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def history(path: Path) -> list[dict[str, Any]]:
    """The logged rows, without wandb's own keys (``_step``, ``_timestamp``, ``_runtime``)."""
    rows = [_items(record.history.item) for record in records(path) if record.HasField("history")]
    return [{key: value for key, value in row.items() if not key.startswith("_")} for row in rows]


def config(path: Path) -> dict[str, Any]:
    """The run's configuration."""
    return next(_items(record.run.config.update) for record in records(path) if record.HasField("run"))


def artifact(path: Path, kind: str) -> tuple[str, dict[str, bytes]]:
    """Name and files of the artifact of that type, from where wandb keeps them until they are sent.

    Raises:
        LookupError: if there is none.
    """
    every = [found for r in records(path) for found in (r.request.log_artifact.artifact, r.artifact)]
    found = next((one for one in every if one.type == kind), None)
    if found is None:
        raise LookupError(f"no artifact of type {kind!r} in {path}")
    return found.name, {entry.path: Path(entry.local_path).read_bytes() for entry in found.manifest.contents}


def summary(path: Path) -> dict[str, Any]:
    """The last value of every summary key."""
    values: dict[str, Any] = {}
    for record in records(path):
        if record.HasField("summary"):
            values.update(_items(record.summary.update))
    return values
