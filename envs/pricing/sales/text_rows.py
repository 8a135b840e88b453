"""Delimited text in blocks of rows: encoding, delimiter, quotes, the header, and rows that are not like it.

1. A file is UTF-8 unless it has the mark of UTF-16 or the user names an encoding; it passes in pieces of a megabyte.
2. The delimiter is that of a first line ``sep=;``, else the one of ``, ; tab |`` that the header has most of.
3. Rows without quotes are cut at the delimiters by array operations, whole pieces at a time. From the first piece with
   a quote on the csv module takes over, because only that knows where a quoted cell ends.
4. A block's cells are UTF-8 bytes, an array S [rows] for each column. Blank rows are passed over.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.sales.sales_table import ReadOptions, SalesError

_PIECE, _ROWS = 1 << 20, 20_000  # bytes and, behind quotes, rows of a block
_LONGEST_CELL = 1000  # bytes
_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_OTHERS = {
    b"BZh": "bzip2",
    b"7z\xbc\xaf": "7z",
    b"%PDF": "PDF",
    b"\xd0\xcf\x11\xe0": "Excel (.xls)",
    b"PAR1": "Parquet (.parquet)",
}
_LONG = 1_000_000


@dataclass
class Block:
    """Rows of a file."""

    rows: Array  # int64 [rows] where they stand in the file
    cells: dict[int, Array]  # by column: S [rows] UTF-8 text, or float64 [rows] with NaN where there is nothing
    numbers: dict[int, Array] = field(default_factory=dict)  # of texts: float64 [rows], NaN where none is a number

    def kept(self, wanted: Array) -> Block:
        """The rows where ``wanted`` bool [rows] is true."""
        if wanted.all():
            return self
        cells, numbers = ({k: each[wanted] for k, each in by.items()} for by in (self.cells, self.numbers))
        return Block(self.rows[wanted], cells, numbers)


class TextRows:
    """A text file: its header, and its rows as often as they are asked for."""

    def __init__(self, path: Path, options: ReadOptions) -> None:
        self._path, self._skips = path, options.skip_bad_rows
        self.short_rows = 0  # rows passed over because they have not as many cells as the header
        with self._open() as file:
            start = file.read(4)
        for magic, kind in _OTHERS.items():
            if start.startswith(magic):
                raise SalesError(f"this is a {kind} file, not text: give it that ending, or export it as CSV")
        mark = next((mark for mark in _MARKS if start.startswith(mark)), b"")
        self._mark = len(mark)
        self._encoding = options.encoding or _MARKS.get(mark, "utf-8")
        try:
            codecs.lookup(self._encoding)
        except LookupError:
            raise SalesError(f"--encoding {self._encoding}: no such encoding; cp1252 and utf-16 are common") from None
        self._find_header(options.header_row)

    def _find_header(self, header_row: int) -> None:
        first = next(self._pieces(), b"")
        lines = first.decode().split("\n")
        self._told = lines[0].strip().lower().startswith("sep=")
        told = lines[0].strip()[4:5] if self._told else ""
        begin = int(self._told)
        self._header_row = header_row
        top = lines[begin : begin + header_row + 50]
        line = top[header_row - 1] if len(top) >= header_row else ""
        self.delimiter = told or _delimiter(line)
        reader = csv.reader((text + "\n" for text in lines[begin:-1]), delimiter=self.delimiter, strict=True)
        records = list(islice(reader, header_row - 1))
        self.header = [name.strip(" \t\r\xa0\ufeff") for name in next(reader, [])]
        self._lines = begin + reader.line_num
        if not any(self.header):
            if any(map(str.strip, lines)) or len(records) < header_row - 1:
                raise SalesError(f"row {header_row} has no names of columns: --header-row N says which row has them")
            raise SalesError("the file is empty")
        row = next(filter(None, reader), [])
        if len(row) == len(self.header) + 1 and not row[-1].strip():
            self.header.append("")  # every row ends with a delimiter

    def blocks(self, columns: Sequence[int]) -> Iterator[Block]:
        """The rows below the header, of those columns."""
        self.short_rows = 0
        pieces = self._pieces()
        first = next(pieces).split(b"\n", self._lines)[-1]
        row = self._header_row + 1
        for piece in chain([first], pieces):
            if b'"' in piece:
                yield from self._quoted(chain([piece], pieces), row, columns)
                return
            if piece:
                yield from self._plain(piece, row, columns)
                row += piece.count(b"\n")

    def _open(self) -> IO[bytes]:
        """The file, unpacked if it is gzip or a zip archive of one file."""
        try:
            with self._path.open("rb") as file:
                start = file.read(4)
            if start.startswith(b"\x1f\x8b"):
                return gzip.open(self._path)  # type: ignore[return-value]
            if start == b"PK\x03\x04":
                archive = zipfile.ZipFile(self._path)
                names = [name for name in archive.namelist() if not name.startswith("__MACOSX") and name[-1] != "/"]
                if len(names) != 1:
                    raise SalesError(f"the archive has {len(names)} files, not one: unpack it first")
                return archive.open(names[0])
        except (OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise SalesError(f"it cannot be opened: {error}") from None
        return self._path.open("rb")

    def _pieces(self) -> Iterator[bytes]:
        """The file as UTF-8, in pieces that end with a line."""
        decoder = codecs.getincrementaldecoder(self._encoding)()
        as_is = codecs.lookup(self._encoding).name == "utf-8"
        rest, row, carriage = b"", 1, None
        with self._open() as file:
            file.read(self._mark)
            while True:
                read = _read(file)
                try:
                    piece = read if as_is else decoder.decode(read, not read).encode()
                except UnicodeError as error:
                    raise SalesError(f"it is not {self._encoding} text: --encoding names another ({error})") from None
                if carriage is None:
                    carriage = b"\r" in piece and b"\n" not in piece
                piece = rest + (piece.replace(b"\r", b"\n") if carriage else piece)
                cut = piece.rfind(b"\n") + 1 if read else len(piece)
                whole, rest = piece[:cut], piece[cut:]
                self._check(whole, rest, row)
                row += whole.count(b"\n")
                if whole:
                    yield whole if whole.endswith(b"\n") else whole + b"\n"
                if not read:
                    return

    def _check(self, whole: bytes, rest: bytes, row: int) -> None:
        for part in (whole, rest):
            if b"\0" in part:
                place = row + whole.count(b"\n") * (part is rest) + part[: part.index(b"\0")].count(b"\n")
                raise SalesError(f"row {place} has NUL bytes, which no text has; if it is UTF-16: --encoding utf-16-le")
        if len(rest) > _LONG:
            place = row + whole.count(b"\n")
            raise SalesError(f"row {place} is longer than a megabyte: this is not a table of rows")
        if not whole.isascii():
            try:
                whole.decode()
            except UnicodeDecodeError as error:
                place = row + whole[: error.start].count(b"\n")
                cell = (
                    whole[max(0, whole.rfind(b"\n", 0, error.start) + 1) :].split(b"\n")[0].decode("cp1252", "replace")
                )
                raise SalesError(
                    f"row {place} is not UTF-8 text: --encoding cp1252 would read it as {cell.strip()[:60]!r}"
                ) from None

    def _plain(self, piece: bytes, first: int, columns: Sequence[int]) -> Iterator[Block]:
        width, delimiter = len(self.header), ord(self.delimiter)
        rows = np.arange(first, first + piece.count(b"\n"))
        codes = np.frombuffer(piece, np.uint8)
        ends: Array = np.flatnonzero((codes == delimiter) | (codes == 10))
        if len(ends) != len(rows) * width or (codes[ends[width - 1 :: width]] != 10).any() or b"\n\n" in piece:
            rows, piece = self._regular(piece, first)
            if not len(rows):
                return
            codes = np.frombuffer(piece, np.uint8)
            ends = np.flatnonzero((codes == delimiter) | (codes == 10))
        ends = ends.reshape(-1, width)
        line_ends = ends[:, -1]
        bounds = np.column_stack((np.r_[-1, line_ends[:-1]], ends))
        bounds[:, -1] -= (line_ends > 0) & (codes[line_ends - 1] == 13)  # \r\n
        cells = {k: _slices(codes, bounds[:, k] + 1, bounds[:, k + 1], rows, self.header[k]) for k in columns}
        if width > 1 and not all((array != b"").any() for array in cells.values()):
            filled = np.logical_or.reduce([array != b"" for array in cells.values()])
            if not filled.all():  # rows of delimiters only, as spreadsheets write them
                blank = np.array([not bytes(codes[a + 1 : b]).strip(b" \r," + self.delimiter.encode())
                                  for a, b in zip(bounds[~filled, 0], bounds[~filled, -1], strict=True)])  # fmt: skip
                keep = filled.copy()
                keep[~filled] = ~blank
                rows, cells = rows[keep], {k: array[keep] for k, array in cells.items()}
        yield Block(rows, cells)

    def _regular(self, piece: bytes, first: int) -> tuple[Array, bytes]:
        """The rows that have cells, each with as many as the header, and their numbers."""
        width, delimiter = len(self.header), self.delimiter.encode()
        kept, lines = [], []
        for row, line in enumerate(piece.split(b"\n")[:-1], first):
            if line.strip(b" \r" + delimiter):
                cells = line.rstrip(b"\r").split(delimiter)
                if len(cells) != width and (len(cells) < width or any(cells[width:])):
                    self._wrong_width(row, len(cells))
                    continue
                kept.append(row)
                lines.append(delimiter.join(cells[:width]))
        return np.array(kept, np.int64), b"\n".join(lines) + b"\n"

    def _wrong_width(self, row: int, cells: int) -> None:
        if not self._skips:
            raise SalesError(
                f"row {row} has {cells} cells, the header {len(self.header)}; --skip-bad-rows leaves such rows out"
            )
        self.short_rows += 1

    def _quoted(self, pieces: Iterator[bytes], first: int, columns: Sequence[int]) -> Iterator[Block]:
        width = len(self.header)
        lines = (line + "\n" for piece in pieces for line in piece.decode().split("\n")[:-1])
        reader = csv.reader(lines, delimiter=self.delimiter, strict=True)
        row = first
        while records := list(islice(reader, _ROWS)):
            kept, texts = [], []
            for number, record in enumerate(records, row):
                if not any(map(str.strip, record)):
                    continue
                if len(record) != width and (len(record) < width or any(record[width:])):
                    self._wrong_width(number, len(record))
                    continue
                kept.append(number)
                texts.append(record)
            row += len(records)
            if kept:
                rows = np.array(kept, np.int64)
                by_column = list(zip(*texts, strict=False))
                yield Block(rows, {k: cells_of(by_column[k], rows, self.header[k]) for k in columns})


def _read(file: IO[bytes]) -> bytes:
    try:
        return file.read(_PIECE)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise SalesError(f"it is damaged: {error}") from None


def _delimiter(line: str) -> str:
    plain = "".join(line.split('"')[::2])  # outside of quotes
    return max(";\t,|", key=plain.count) if any(c in plain for c in ";\t,|") else ","


def _slices(codes: Array, starts: Array, ends: Array, rows: Array, name: str) -> Array:
    """The bytes from each start to each end, S [rows]."""
    lengths = ends - starts
    width = max(int(lengths.max()), 1)
    _check_length(width, lengths, rows, name)
    place = np.arange(width)
    index = starts.astype(np.int32)[:, None] + place.astype(np.int32)
    cells = codes.take(index, mode="clip")
    cells[place >= lengths[:, None]] = 0
    return cells.view(f"S{width}")[:, 0]


def cells_of(texts: Sequence[str], rows: Array, name: str) -> Array:
    """Texts as UTF-8 bytes, S [rows]."""
    encoded = [text.encode() for text in texts]
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    _check_length(int(lengths.max(initial=1)), lengths, rows, name)
    return np.array(encoded, "S")


def _check_length(longest: int, lengths: Array, rows: Array, name: str) -> None:
    if longest > _LONGEST_CELL:
        row = int(rows[lengths.argmax()])
        raise SalesError(
            f"row {row}: {name} has {longest:,} bytes, the most are {_LONGEST_CELL:,}; --ignore leaves a column out"
        )
