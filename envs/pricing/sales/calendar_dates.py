"""Texts as calendar dates: ISO forms, 04.03.2024, 3/4/2024, 4 March 2024, weeks, seconds since 1970; with times of day.

Days are proleptic ordinals (``datetime.date.toordinal``). A column whose texts are no dates ("day 12") stays as it is.
Where 3/4/2024 can be March or April, and no other date of the column decides, the user is asked; so too where dates
stand in two forms, for that is what a spreadsheet leaves which read some of them in the wrong order.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.sales.sales_table import SalesError
from palaestra.envs.pricing.sales.text_cells import factorise

_TIME = re.compile(
    r"(?:T|,?\s+)\d{1,2}[:.h]\d{2}(?:[:.]\d{2}(?:[.,]\d+)?)?\s*(?:[ap]\.?\s?m\.?|uhr)?\s*"
    r"(?:z|utc|gmt|[a-z]{3,4}|[+-]\d{2}:?\d{2})?",
    re.IGNORECASE,
)
_YEAR_FIRST = re.compile(r"(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})")
_PLAIN = re.compile(r"(\d{4})(\d{2})(\d{2})")
_YEAR_LAST = re.compile(r"(\d{1,2})([-/. ])(\d{1,2})\2(\d{4}|\d{2})\.?")
_WEEK = re.compile(r"(\d{4})-?W(\d{2})(?:-?[1-7])?")
_DAY_MONTH = re.compile(
    r"(?:[^\W\d]{2,10}\.?,?\s+)?(\d{1,2})(?:st|nd|rd|th|er)?[-./ ]*(?:de )?([^\W\d]{3,10})\.?"
    r"[-./, ]*(?:de )?(\d{4}|\d{2})"
)
_MONTH_DAY = re.compile(r"(?:[^\W\d]{2,10}\.?,?\s+)?([^\W\d]{3,10})\.?[- ]+(\d{1,2})(?:st|nd|rd|th)?,?[- ]+(\d{4})")
_FORMS = (_YEAR_FIRST, _PLAIN, _YEAR_LAST, _WEEK, _DAY_MONTH, _MONTH_DAY, re.compile(r"\d{10}|\d{13}"))
_MONTHS = (  # how names of months begin in English, German, French and Spanish, without accents
    "jan jän ene", "feb fev", "mar mrz maer", "apr avr abr", "may mai", "jun juin", "jul juil", "aug aou ago",
    "sep", "oct okt", "nov", "dec dez dic",
)  # fmt: skip
_MONTH_OF = {start: k for k, starts in enumerate(_MONTHS, 1) for start in starts.split()}
_EPOCH = datetime.date(1970, 1, 1).toordinal()
_ORDERS = {"dmy": (0, 1, 2), "mdy": (1, 0, 2), "ymd": (2, 1, 0)}  # where day, month and year stand


class _Read(NamedTuple):
    form: str  # "iso", "plain", "named", "week", "seconds", or "." "/" "-" " " between day, month and year
    parts: tuple[int, int, int]  # year, month, day; as they stand where the form is a sign; (days, 0, 0) of seconds
    short: bool = False  # a year of two digits


def split_times(texts: Array) -> tuple[Array, Array, bool]:
    """Texts without their times of day, S [texts]; which may be dates; and True if there is a time but midnight.

    A text may be a date by its shape, all digits made equal; a file has few shapes, however many texts.
    """
    codes = np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), -1)
    digit = (codes >= 48) & (codes <= 57)
    shapes, _, shape_of = factorise(np.where(digit, 57, codes).astype(np.uint8).view(texts.dtype)[:, 0])
    cuts, likely = np.empty(len(shapes), np.int64), np.zeros(len(shapes), bool)
    for i, shape in enumerate(shapes):
        text = shape.decode()
        clock = _TIME.search(text)
        date = text[: clock.start()] if clock and clock.end() == len(text) else text
        likely[i] = any(form.fullmatch(date.strip(", ")) for form in _FORMS)
        cuts[i] = len(date.encode()) if likely[i] else codes.shape[1]
    if not likely.any():
        return texts, likely[shape_of], False
    behind = np.arange(codes.shape[1]) >= cuts[shape_of][:, None]
    timed = bool((behind & digit & (codes != 48)).any())
    return np.where(behind, 0, codes).astype(np.uint8).view(texts.dtype)[:, 0], likely[shape_of], timed


def read_days(texts: Sequence[str], rows: Array, order: str | None, *, skip: bool) -> Array | None:
    """The day of each text, int64 [texts] with −1 where ``skip`` passes over what is none.

    Args:
        texts: different texts of a column, without times of day.
        rows: of the file, where each is first.
        order: "dmy", "mdy", "ymd" or None, of forms that do not tell.

    Returns:
        None if no text is a date.

    Raises:
        SalesError: if the texts are dates only in part, in several forms, or ambiguous.
    """
    found = {i: each for i, each in enumerate(map(_read, texts)) if each is not None}
    numbers = [i for i, each in found.items() if each.form in ("plain", "seconds")]
    if len(numbers) < len(texts):  # 20240304 is a date only among its like
        found = {i: each for i, each in found.items() if i not in set(numbers)}
    if not found or (skip and 2 * len(found) < len(texts)):
        return None
    if len(found) < len(texts) and not skip:
        i, date = next(i for i in range(len(texts)) if i not in found), next(iter(found))
        raise SalesError(
            f"row {rows[i]}: date {texts[i]!r} is no date, {texts[date]!r} in row {rows[date]} is; "
            "--skip-bad-rows leaves such rows out"
        )
    forms: dict[str, list[int]] = {}
    for i, each in found.items():
        forms.setdefault(each.form, []).append(i)
    if len(forms) > 1 and order is None and set(forms) != {"iso", "named"}:
        first, second = [places[0] for places in forms.values()][:2]
        raise SalesError(
            f"row {rows[second]}: date {texts[second]!r} has another form than {texts[first]!r} in row {rows[first]}; "
            "if both are right, --dates dmy (or mdy, ymd) says in which order day, month and year stand"
        )
    days = np.full(len(texts), -1, np.int64)
    for form, places in forms.items():
        of = order
        if form in (".", "/", "-", " ") and of is None:
            of = _order(form, [(i, found[i]) for i in places], texts, rows)
        for i in places:
            day = _day(found[i], of)
            if day is None and not skip:
                hint = f" in the order {of}" if form in (".", "/", "-", " ") else ""
                raise SalesError(
                    f"row {rows[i]}: {texts[i]!r} is not in the calendar{hint}; --skip-bad-rows leaves such rows out"
                )
            days[i] = -1 if day is None else day
    return days


def _read(text: str) -> _Read | None:
    core = text.strip(", ")
    if match := _YEAR_FIRST.fullmatch(core):
        return _Read("iso", (int(match[1]), int(match[2]), int(match[3])))
    if match := _YEAR_LAST.fullmatch(core):
        return _Read(match[2], (int(match[1]), int(match[3]), int(match[4])), len(match[4]) == 2)
    if match := _PLAIN.fullmatch(core):
        parts = (int(match[1]), int(match[2]), int(match[3]))
        return _Read("plain", parts) if _calendar(*parts) else None
    if match := _WEEK.fullmatch(core):
        try:
            monday = datetime.date.fromisocalendar(int(match[1]), int(match[2]), 1)
        except ValueError:
            return None
        return _Read("week", (monday.year, monday.month, monday.day))
    if core.isascii() and core.isdigit() and (len(core) in (10, 13)) and core[0] in "12":
        seconds = int(core[:10])
        return _Read("seconds", (_EPOCH + seconds // 86400, 0, 0))
    if match := _DAY_MONTH.fullmatch(core):
        day, month, year = match.groups()
    elif match := _MONTH_DAY.fullmatch(core):
        month, day, year = match.groups()
    else:
        return None
    plain = "".join(c for c in unicodedata.normalize("NFKD", month.lower()) if not unicodedata.combining(c))
    number = next((_MONTH_OF[plain[:n]] for n in (4, 3) if plain[:n] in _MONTH_OF), None)
    return None if number is None else _Read("named", (_full_year(int(year)), number, int(day)))


def _order(form: str, read: list[tuple[int, _Read]], texts: Sequence[str], rows: Array) -> str:
    """The only order in which all dates of a form are in the calendar."""
    parts = np.array([each.parts for _, each in read])
    dmy, mdy = (parts[:, 1] <= 12).all(), (parts[:, 0] <= 12).all()
    short = any(each.short for _, each in read) and form == "-"
    possible = [name for name, holds in (("dmy", dmy), ("mdy", mdy), ("ymd", short)) if holds]
    if form in (".", " ") and dmy:
        return "dmy"
    if len(possible) == 1:
        return possible[0]
    i = read[0][0]
    if not possible:
        late = next(i for i, each in read if each.parts[0] > 12)
        early = next(i for i, each in read if each.parts[1] > 12)
        raise SalesError(
            f"row {rows[late]}: date {texts[late]!r} begins with a day and {texts[early]!r} in row {rows[early]} with "
            "a month; --dates dmy (or mdy) with --skip-bad-rows takes one kind only"
        )
    raise SalesError(
        f"row {rows[i]}: date {texts[i]!r} can be read in several orders, as every date here: "
        f"--dates {' or --dates '.join(possible)} says which"
    )


def _day(read: _Read, order: str | None) -> int | None:
    if read.form == "seconds":
        return read.parts[0]
    if read.form not in (".", "/", "-", " "):
        return _calendar(*read.parts)
    day, month, year = (read.parts[place] for place in _ORDERS[order or "dmy"])
    return _calendar(_full_year(year), month, day)


def _full_year(year: int) -> int:
    return 2000 + year if year < 100 else year


def _calendar(year: int, month: int, day: int) -> int | None:
    try:
        return datetime.date(year, month, day).toordinal() if 1900 <= year <= 2200 else None
    except ValueError:
        return None


def iso_dates(days: Array) -> Array:
    """Texts like 2024-03-04, S10 [days]."""
    return (days - _EPOCH).astype("datetime64[D]").astype("S10")
