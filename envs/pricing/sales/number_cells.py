"""Cells of text as numbers: decimal points and commas, thousands, currencies, and what cannot be told apart.

1. A cell of digits with at most one decimal sign is read by array operations, exactly as ``float`` reads it: up to 15
   digits over a power of ten below 10²² divide without error. Everything else is read text by text, each text once.
2. ``1.234`` and ``1,234`` can be a fraction or a thousand. Any other cell of the column that has a decimal sign decides
   (``3.5``, ``0.123``, ``1,234.50``), else the other columns of the file, else the user (``--decimal``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.sales.sales_table import SalesError
from palaestra.envs.pricing.sales.text_rows import Block

EMPTY = {b"", b"NA", b"N/A", b"n/a", b"na", b"NaN", b"nan", b"NULL", b"null", b"None", b"-", b"#N/A", b"#NV", b"."}
YES = {"1", "1.0", "true", "t", "yes", "y", "ja", "j", "oui", "o", "si", "sí", "s", "wahr", "vrai", "verdadero", "x"}
NO = {"0", "0.0", "false", "f", "no", "n", "nein", "non", "falsch", "faux", "falso"}
_CODES = "EUR|USD|GBP|CHF|JPY|CNY|INR|SEK|NOK|DKK|PLN|CZK|HUF|CAD|AUD|NZD|BRL|MXN|ZAR|TRY|TWD|SGD|HKD|KRW"
_SIGN = rf"(?:[A-Z]{{0,3}}[$€£¥₹₺₽₩₪฿₫₴]|{_CODES}|kr\.?|zł|Kč|Ft|Fr\.|руб\.?)"
_NUMBER = re.compile(
    rf"(?P<minus>[-+−(]?)\s*{_SIGN}?\s*(?P<late>[-−]?)(?P<digits>\d[\d.,'’ \u00a0\u202f]*|[.,]\d+)"
    rf"(?:[eE](?P<power>[-+]?\d{{1,4}}))?\s*{_SIGN}?\s*(?P<end>[-−)]?)"
)
_SPACED = re.compile(r"\d{1,3}(?:([ '’\u00a0\u202f])\d{3})(?:\1\d{3})*(?=[.,]|$)")
_POWERS = np.array([float(f"1e{k}") for k in range(20)])
_THOUSANDS = {s: re.compile(rf"\d{{1,3}}(?:{re.escape(s)}\d{{3}})+|\d{{1,2}}(?:,\d{{2}})+,\d{{3}}") for s in ".,"}


def read_number(text: str) -> tuple[float, str, bool] | None:
    """A number, the sign that must be its decimal sign ("" if none), and True if that could also mark thousands.

    An ambiguous number is read as a fraction. None if the text is no number.
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None or (match["minus"] == "(") != (match["end"] == ")") or (match["minus"] and match["late"]):
        return None
    digits, decimal, ambiguous = match["digits"].strip(" \u00a0\u202f"), "", False
    if any(c in digits for c in " '’\u00a0\u202f"):
        spaced = _SPACED.match(digits)
        if spaced is None or any(c in digits[spaced.end() :] for c in " '’\u00a0\u202f"):
            return None
        digits = re.sub(r"[^\d.,]", "", digits)
        if digits.count(".") + digits.count(",") > 1:
            return None
        decimal = "." if "." in digits else "," if "," in digits else ""
    elif "." in digits and "," in digits:
        decimal = max(".,", key=digits.rfind)
        whole, _, fraction = digits.rpartition(decimal)
        if not _THOUSANDS["," if decimal == "." else "."].fullmatch(whole) or not fraction.isdigit():
            return None
    elif signs := [c for c in digits if c in ".,"]:
        if len(signs) > 1:
            if not _THOUSANDS[signs[0]].fullmatch(digits):
                return None
            decimal = "," if signs[0] == "." else "."
        else:
            decimal = signs[0]
            whole, _, fraction = digits.partition(decimal)
            ambiguous = len(fraction) == 3 and 1 <= len(whole) <= 3 and whole[0] != "0" and not match["power"]
    plain = digits.replace("," if decimal == "." else ".", "").replace(",", ".")
    minus = match["minus"] in ("-", "−", "(") or match["late"] or match["end"] in ("-", "−")
    value = float(f"{plain}e{match['power']}" if match["power"] else plain)
    if np.isinf(value):
        return None
    return (-value if minus else value), decimal, ambiguous


@dataclass
class NumberColumn:
    """A column of numbers while its blocks pass; what could not be read is kept in ``bad``."""

    name: str
    decimal: str | None  # as the user says
    values: list[Array] = field(default_factory=list)  # NaN where a cell is empty or bad
    seen: dict[str, tuple[int, str]] = field(default_factory=dict)  # decimal sign → a row and cell that have it
    unsure: list[tuple[str, Array, int, str]] = field(default_factory=list)  # sign, where, row and cell of the first
    rows: int = 0

    def read(self, block: Block, k: int) -> Array:
        """Append column ``k`` of a block; True [rows] where there is no number."""
        cells, rows, numbers = block.cells[k], block.rows, block.numbers.get(k)
        if cells.dtype.kind == "f":
            values, bad = cells.astype(np.float64), ~np.isfinite(cells)
        elif numbers is None:
            values, bad = self._read_texts(cells, rows)
        else:  # numbers whatever their texts look like, which say nothing of the signs of the others
            values, bad = self._read_texts(np.where(np.isnan(numbers), cells, b"0"), rows)
            values = np.where(np.isnan(numbers), values, numbers)
        self.values.append(values)
        self.rows += len(values)
        return bad

    def _read_texts(self, cells: Array, rows: Array) -> tuple[Array, Array]:
        sign = self.decimal or ("," if set(self.seen) == {","} else ".")
        values, fast, fraction, unsure = _plain_numbers(cells, sign)
        if unsure.any():
            self._note_unsure(sign, np.flatnonzero(unsure), rows, cells)
        if fraction.any() and sign not in self.seen:
            i = int(fraction.argmax())
            self.seen[sign] = int(rows[i]), cells[i].decode()
        bad = np.zeros(len(cells), bool)
        if not fast.all():
            left = np.flatnonzero(~fast)
            texts, first, inverse = np.unique(cells[left], return_index=True, return_inverse=True)
            read = [self._read_text(text.decode(), int(rows[left[i]])) for text, i in zip(texts, first, strict=True)]
            values[left] = np.array([value for value, _ in read])[inverse]
            bad[left] = np.isnan(values[left])
            for s in ".,":
                which = np.array([unsure == s for _, unsure in read])[inverse]
                if which.any():
                    self._note_unsure(s, left[which], rows, cells)
        return values, bad

    def _read_text(self, text: str, row: int) -> tuple[float, str]:
        read = read_number(text)
        if read is None:
            return np.nan, ""
        value, sign, ambiguous = read
        if ambiguous:
            return value, sign
        if sign:
            if self.decimal and sign != self.decimal:
                return np.nan, ""
            self.seen.setdefault(sign, (row, text.strip()))
        return value, ""

    def _note_unsure(self, sign: str, where: Array, rows: Array, cells: Array) -> None:
        first = int(where[0])
        self.unsure.append((sign, where + self.rows, int(rows[first]), cells[first].decode().strip()))

    def finish(self, others: set[str]) -> Array:
        """All values, float64 [rows], where other columns have those decimal signs.

        Raises:
            SalesError: if the signs contradict each other, or do not tell what 1.234 is.
        """
        values = np.concatenate(self.values) if self.values else np.empty(0)
        signs = {self.decimal} if self.decimal else set(self.seen)
        if len(signs) > 1:
            (row, cell), (other_row, other) = self.seen["."], self.seen[","]
            raise SalesError(
                f"row {other_row}: {self.name} has a decimal comma, {other!r}, and in row {row} a decimal point, "
                f"{cell!r}; --decimal , (or .) with --skip-bad-rows takes one kind only"
            )
        signs = signs or (others if len(others) == 1 else set())
        for sign, where, row, cell in self.unsure:
            if not signs:
                fraction, thousand = cell.replace(",", "."), cell.replace(sign, "")
                raise SalesError(
                    f"row {row}: {self.name} {cell!r} can be {fraction} or {thousand}: --decimal {sign} or "
                    f"--decimal {',' if sign == '.' else '.'} says which"
                )
            if sign not in signs:
                values[where] = np.rint(values[where] * 1000.0)
        return values


def _plain_numbers(cells: Array, sign: str) -> tuple[Array, Array, Array, Array]:
    """Values [rows] of cells of digits, at most one decimal sign and a minus.

    Returns the values, whether they could be read so, whether the sign is surely decimal, and whether that is unsure.
    """
    width, n = cells.dtype.itemsize, len(cells)
    if width > 18:
        nothing = np.zeros(n, bool)
        return np.full(n, np.nan), nothing, nothing, nothing
    codes = np.ascontiguousarray(cells).view(np.uint8).reshape(n, width)
    value, whole, decimals = np.zeros(n, np.int64), np.zeros(n, np.int8), np.zeros(n, np.int8)
    seen, fits, zero_first = np.zeros(n, bool), np.ones(n, bool), np.zeros(n, bool)
    for k in range(width):
        code = codes[:, k]
        digit, point = (code - 48).view(np.uint8), code == ord(sign)
        is_digit = digit < 10
        if k == 0:
            zero_first = code == 48
        fits &= is_digit | (point & ~seen) | (code == 0) | ((code == 45) & (k == 0))
        value = np.where(is_digit, value * 10 + digit, value)
        whole += is_digit & ~seen
        decimals += is_digit & seen
        seen |= point
    digits = whole + decimals
    fits &= (digits >= 1) & (digits <= 15)
    values = value / _POWERS[decimals]
    values[codes[:, 0] == 45] *= -1.0
    unsure = fits & (decimals == 3) & (whole >= 1) & (whole <= 3) & ~zero_first
    return values, fits, fits & seen & (decimals > 0) & ~unsure, unsure


def read_flags(cells: Array) -> Array:
    """0 and 1 from words for them, float64 [rows], NaN where a cell is neither."""
    if cells.dtype.kind == "f":
        return np.where((cells == 0.0) | (cells == 1.0), cells, np.nan)
    texts, inverse = np.unique(cells, return_inverse=True)
    words = [text.decode().strip().lower() for text in texts]
    flags: Any = np.array([1.0 if word in YES else 0.0 if word in NO else np.nan for word in words])
    read: Array = flags[inverse]
    return read
