"""Tables in Markdown, and the sections of a document that commands write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import columns, fitted, wrapped


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], padded: bool = False) -> str:
    """A table in Markdown; ``padded`` columns are as wide as their widest cell, for people who read the file itself."""
    widths = [max(3, *(len(line[i]) for line in (heads, *rows))) if padded else 3 for i in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *rows]
    if padded:
        lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def on_screen(text: str, width: int | None) -> str:
    """Markdown for a terminal of that width; None, a pipe or a file, gets it as it is.

    Paragraphs have lines of that width. Tables lose their rulings; where a row is too long for a line even so, its
    first cell is a title and the others are listed below it by their heads.
    """
    if width is None:
        return text
    return "\n\n".join(_block_on_screen(block.split("\n"), width) for block in text.split("\n\n"))


def _block_on_screen(lines: list[str], width: int) -> str:
    """A table, a list or headings line by line, or a paragraph."""
    if all(line.startswith("| ") for line in lines):
        heads, _, *rows = ([cell.strip(" `") for cell in line[2:-2].split(" | ")] for line in lines)
        aligned = columns(heads, rows, None)
        if max(map(len, aligned)) <= width:
            return "\n".join(aligned)
        told = ("; ".join(map(" ".join, zip(heads[1:], cells, strict=True))) for _, *cells in rows)
        return "\n".join(f"{row[0]}\n{wrapped(text, width, '  ')}" for row, text in zip(rows, told, strict=True))
    if any(line.startswith(("* ", "#")) for line in lines):
        return "\n".join(fitted(line, width) for line in lines)
    return fitted(" ".join(lines), width)


def with_section(path: Path, name: str, text: str) -> str:
    """The file's content with ``text`` between the lines ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.

    Raises:
        ConfigError: unless the file has each of the two once, in their order.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    content = path.read_text(encoding="utf-8")
    before, _, rest = content.partition(begin)
    inside, found, after = rest.partition(end)
    if not found or begin in inside + after or end in before + after:
        raise ConfigError(f"{path} must have one line {begin} and, below it, one line {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def write_section(path: Path, name: str, text: str) -> None:
    """Replace what is between the two lines of that name."""
    write_whole(path.resolve(), with_section(path, name, text).encode())
