"""Tables in Markdown, and the sections of a document that commands write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.config.schema import ConfigError


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], padded: bool = False) -> str:
    """A table in Markdown; ``padded`` columns are as wide as their widest cell, for people who read the file itself."""
    widths = [max(3, *(len(line[i]) for line in (heads, *rows))) if padded else 3 for i in range(len(heads))]
    lines = [heads, ["-" * width for width in widths], *rows]
    if padded:
        lines = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
