"""What people read: counts with a unit, spans of time, lines of a terminal's width, and progress."""

from __future__ import annotations

import datetime
import math
import os
import re
import sys
import textwrap
from collections.abc import Sequence
from typing import Any, TextIO

from palaestra.train.interruptions import Shown

# the mean returns that an environment states (fields of its ``Reference``), in the words that people read
SCORES = {"random": "random", "heuristic": "heuristic", "optimum": "best known", "solved_at": "solved at"}
NORMALISED = "normalised score"  # %: 0 is random play, 100 the best known

# a command of ours with options, placeholders, paths and numbers, which is to be pasted into a shell
_COMMAND = re.compile(
    r"\bpalaestra [a-z-]+(?: (?:--?[\w-]+(?:[ =][^\s;,()]+)?|[A-Z]+\b|[^\s;,()]*[/=.:\d][^\s;,()]*|latest\b))*"
)
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # control signs; some turn lines round
_WITH_NUMBER = re.compile(r"(?<=\d) (?=%)|(?<=\bseed) (?=\d)")  # spaces at which no line is broken


def say(text: str) -> None:
    """Print it on standard output, in lines of the terminal's width where that is one."""
    print(fitted(text, terminal_width(sys.stdout)))


def tell(text: str, error: bool = False) -> None:
    """Progress and hints, or an error that does not end the command, apart from what it prints on standard output."""
    if error or Shown.progress:
        print(fitted(text, terminal_width(sys.stderr)), file=sys.stderr, flush=True)


def terminal_width(stream: TextIO) -> int | None:
    """The columns of the terminal that the stream writes to; None where it is none."""
    try:
        if not stream.isatty():
            return None
        return int(os.environ.get("COLUMNS") or os.get_terminal_size(stream.fileno()).columns) or None
    except (OSError, ValueError):  # it is closed, or COLUMNS is no number
        return None


def fitted(text: str, width: int | None) -> str:
    """The text in lines of that width, broken between words; paths and commands stay whole. None: in its own lines.

    Characters that are not to be seen, as in the names of files, become their escapes.
    """
    text = printable(text, keep="\n")
    if width is None or len(text) <= width:
        return text
    whole = _COMMAND.sub(lambda command: command[0].replace(" ", "\0"), text)
    return wrapped(whole, width)


def printable(text: str, keep: str = "") -> str:
    """The text with the escapes of characters that a terminal would not show but act on, unless they are to be kept.

    Bytes of file names that are no text stay what they are.
    """
    return _UNSEEN.sub(lambda sign: sign[0] if sign[0] in keep else sign[0].encode("unicode_escape").decode(), text)


def wrapped(text: str, width: int, indent: str = "") -> str:
    """The text in lines of that width; words, paths, and numbers with their % stay whole."""
    options: Any = {"break_long_words": False, "break_on_hyphens": False}
    options |= {"initial_indent": indent, "subsequent_indent": indent}
    return textwrap.fill(_WITH_NUMBER.sub("\0", text), width, **options).replace("\0", " ")


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Rows below their heads, numbers to the right; None: of any width.

    Where a line is too long the last cell, which may be a path, gets a line of its own, and where that does not suffice
    the others are listed below it by their heads.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    lines = [heads, *rows]
    sizes = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    right = [is_of_numbers(rows, i) for i in range(len(heads))]

    def aligned(line: Sequence[str]) -> str:
        cells = zip(line, sizes, right, strict=False)
        return "  ".join(cell.rjust(size) if number else cell.ljust(size) for cell, size, number in cells).rstrip()

    if width is None or width >= sum(sizes) + 2 * len(sizes) - 2:
        return [aligned(line) for line in lines]
    if width >= sum(sizes[:-1]) + 2 * len(sizes) - 4:
        parts = ((aligned(line[:-1]), f"  {line[-1]}") for line in rows)
        return [aligned(heads[:-1]), *(part for pair in parts for part in pair)]
    listed = []
    for *cells, last in rows:
        told = (f"{head} {cell}" for head, cell in zip(heads, cells, strict=False) if cell.strip("–"))
        listed += [last, wrapped(", ".join(told), width, "  ")]
    return listed


def is_of_numbers(rows: Sequence[Sequence[str]], column: int) -> bool:
    """True if every cell of the column begins as a number does, or is empty."""
    return all(row[column][:1] in "-–−0123456789" for row in rows)


def figure_label(key: str) -> tuple[str, str]:
    """What people read of a further figure of an evaluation: its name in words, and its unit."""
    label = re.sub("(?<!_5)_percent", "", key)  # revenue_at_5_percent is the mean of the lowest 5 %
    unit = " %" if label != key else {"seconds": " s", "jerk": " rad/s³"}.get(key.rpartition("_")[2], "")
    return label.replace("_", " "), unit


def minus(text: str) -> str:
    """Numbers in a text with the sign that is as wide as a digit; words and commands with hyphens stay."""
    return re.sub(r"(?<![\w-])-(?=\d)|(?<=\de)-(?=\d)", "−", text)


def condition_name(name: str) -> str:
    """The name of a condition of a stress test in words: demand_plus_20 is demand +20 %."""
    name = re.sub(r"_(plus|minus)_(\d+)$", lambda m: f" {'+' if m[1] == 'plus' else '−'}{m[2]} %", name)
    return name.replace("_percent", " %").replace("_", " ")


def two_digits(number: float) -> str:
    """Two significant digits, like 1.9 M, 86 k and 740."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * unit:
            return f"{number / unit:.1f}{name}" if number < 9.95 * unit else f"{number / unit:.0f}{name}"
    return f"{number:.2g}" if number < 100 else f"{number:.0f}"


def three_digits(number: float) -> str:
    """Three significant digits, like 1.95 G, 86.4 k and 740."""
    for letter, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            scaled = number / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:,.{digits}f} {letter}"
    return f"{number:.3g}"


def four_digits(number: float) -> str:
    """A running score: four significant digits, or all of a longer whole part, like 12, 2.37, 1,234 and 12,346."""
    return f"{number:,.4g}" if not abs(number) >= 9999.5 else f"{number:,.0f}"


def known(number: float, half: float = 0.0) -> str:
    """As many digits as are known: two of ``half``, that of an interval; of an exact number (0) four."""
    size = half if half > 0.0 else abs(number)
    digits = 1 if half > 0.0 else 3
    decimals = max(0, digits - math.floor(math.log10(size))) if math.isfinite(size) and size > 0.0 else 0
    return f"{number:,.{min(decimals, 9)}f}"


def minutes(seconds: float) -> str:
    """Minutes and seconds, like 75:04."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole}:{rest:02d}"


def hours(seconds: float) -> str:
    """Hours, minutes and seconds, like 1:15:04; 0:00:00 for less than none."""
    return str(datetime.timedelta(seconds=max(0, int(seconds))))


def against(opponent: str | None) -> str:
    """Against whom a game was played, to follow other words; nothing where there was nobody."""
    return "" if opponent is None else f" against {opponent}"
