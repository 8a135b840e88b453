"""The members of an untrusted zip file, read within limits.

1. Only plain members are taken: stored without compression, not encrypted, each name once, and together no longer than
   the file. So nothing that is read can be longer than the file itself, whatever its directory declares.
2. :func:`seal` adds ``checksums.json``, the SHA-256 of every other member, as the last one; :meth:`Members.verify`
   compares.

Names are only looked up; nothing is ever unpacked to the disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

SUMS = "checksums.json"
MAX_JSON_BYTES = 16 << 20
_MAX_DIRECTORY_BYTES = 1 << 20  # some 10,000 members
_CHUNK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # the last two: lengths of the name and of the extra field
_ENCRYPTED_OR_PATCHED = 0x1 | 0x20 | 0x40


class CheckpointError(ValueError):
    """A model file cannot be used; the message says which and why."""


class _Directory(io.RawIOBase):
    """A file for :mod:`zipfile` to find the directory in; refuses to read one that is too large."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size, self._at = file, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if at < 0:
            raise OSError("the file is too short")  # zipfile concludes that this is no zip file
        self._at = at
        return at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        size = left if size < 0 else min(size, left)
        if size > _MAX_DIRECTORY_BYTES:
            raise CheckpointError("the directory of the zip file is too large")
        self._file.seek(self._at)
        data = self._file.read(size)
        self._at += len(data)
        return data


class Members:
    """The members of a zip file."""

    def __init__(self, file: BinaryIO, label: str) -> None:
        """Read the directory and check it.

        Args:
            file: can be read at any place; it stays open.
            label: what messages call it.
        """
        self.label, self._file = label, file
        size = file.seek(0, io.SEEK_END)
        with zipfile.ZipFile(_Directory(file, size)) as archive:
            directory = archive.infolist()
        self._directory: dict[str, zipfile.ZipInfo] = {}
        for info in directory:
            self._check(info)
            self._directory[info.orig_filename] = info
        if sum(info.file_size for info in directory) > size:
            raise CheckpointError(f"{label} would unpack to more than it holds: its members overlap")

    def _check(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        if name in self._directory:
            raise CheckpointError(f"{self.label} has two members called {name!r}")
        if info.flag_bits & _ENCRYPTED_OR_PATCHED:
            raise CheckpointError(f"{self.label}: {name!r} is encrypted or patched")
        if info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(
                f"{self.label}: {name!r} is compressed; members of model files are stored as they are"
            )
        if info.compress_size != info.file_size:
            raise CheckpointError(f"{self.label} is damaged: two sizes of {name!r}")

    def names(self) -> list[str]:
        """The names of the members, in the order of the directory."""
        return list(self._directory)

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The bytes of a member; refused if there are more than ``limit``."""
        start, size = self._place(name)
        if limit is not None and size > limit:
            raise CheckpointError(f"{self.label}: {name!r} has {size} bytes, more than the {limit} allowed")
        self._file.seek(start)
        content = self._file.read(size)
        if len(content) < size:
            raise CheckpointError(f"{self.label} is damaged: it ends within {name!r}")
        return content

    def verify(self, *names: str) -> None:
        """Compare members with their checksums; all of them if none is named.

        Raises:
            CheckpointError: if one differs, has none, or is missing.
        """
        if SUMS not in self._directory:
            raise CheckpointError(f"{self.label} is not whole: there is no {SUMS} in it")
        self.verify_crc(SUMS)
        sums = read_json(self, SUMS).get("sha256")
        if not isinstance(sums, dict) or {*sums, SUMS} != {*self._directory}:
            raise CheckpointError(f"{self.label} is damaged: {SUMS} lists other members than there are")
        for name in names or sums:
            if _sha256(self._chunks(name)) != sums[name]:
                raise CheckpointError(f"{self.label} is damaged: {name}")

    def verify_crc(self, *names: str) -> None:
        """Compare members, or all of them, with the checksums that every zip file has: good enough for accidents."""
        for name in names or self._directory:
            crc = 0
            for chunk in self._chunks(name):
                crc = zlib.crc32(chunk, crc)
            if crc != self._directory[name].CRC:
                raise CheckpointError(f"{self.label} is damaged: {name}")

    def _chunks(self, name: str) -> Iterator[bytes]:
        start, size = self._place(name)
        self._file.seek(start)
        while size > 0:
            chunk = self._file.read(min(size, _CHUNK))
            if not chunk:
                raise CheckpointError(f"{self.label} is damaged: it ends within {name!r}")
            size -= len(chunk)
            yield chunk

    def _place(self, name: str) -> tuple[int, int]:
        """Offset of the bytes of a member in the file, and their number."""
        if name not in self._directory:
            raise CheckpointError(f"{self.label} is not whole: there is no {name} in it")
        info = self._directory[name]
        begin = info.header_offset
        self._file.seek(begin)
        header = self._file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
            raise CheckpointError(f"{self.label} is damaged: {name} is not where the directory says")
        name_length, extra_length = _LOCAL_HEADER.unpack(header)[-2:]
        return begin + _LOCAL_HEADER.size + name_length + extra_length, info.file_size


def read_json(members: Members, name: str) -> dict[str, Any]:
    """A member that is a JSON object."""
    text = members.read(name, MAX_JSON_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{members.label} is damaged: {name} is not JSON") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{members.label} is damaged: {name} is not an object")
    return content


def seal(file: io.BytesIO) -> None:
    """Add the checksums of all members to a zip file."""
    members = Members(file, "the new file")
    sums = {name: _sha256(members._chunks(name)) for name in members.names()}
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(SUMS, json.dumps({"sha256": sums}, indent=1))


def _sha256(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
