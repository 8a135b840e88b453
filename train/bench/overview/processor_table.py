"""A table in Markdown with a column for each processor; a run writes its own column and leaves the others.

Below the table stands a line for each column that says where it comes from. The table is read back from the document
itself, so there is no second file to lose.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from palaestra.train.config.schema import ConfigError
from palaestra.train.markdown import markdown_table, with_section, write_section

NONE = "–"
HEAD = "steps/s, where nothing else is said"


@dataclass
class ProcessorTable:
    """Columns by processor.

    Attributes:
        rows: all rows, in order.
        columns: processor → row → cell.
        sources: processor → where its column comes from.
    """

    rows: list[str] = field(default_factory=list)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str) -> ProcessorTable:
        """From what :meth:`text` has made, or from nothing.

        Raises:
            ValueError: if it is something else.
        """
        if not text.strip():
            return cls()
        table, _, below = text.strip().partition("\n\n")
        lines = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]
        names = lines[0][1:]
        if lines[0][0] != HEAD or not names or any(len(line) != len(names) + 1 for line in lines):
            raise ValueError("no table of palaestra bench")
        found = cls([line[0] for line in lines[2:]])
        for number, name in enumerate(names, start=1):
            found.columns[name] = {line[0]: line[number] for line in lines[2:] if line[number] != NONE}
        found.sources = dict(re.findall(r"^\* (.+?): (.+)$", below, re.MULTILINE))
        return found

    def put(self, processor: str, cells: Mapping[str, str], source: str) -> None:
        """The column of that processor, in place of the one it had; new rows stand where the run had them."""
        place = 0
        for row in cells:
            if row in self.rows:
                place = max(place, self.rows.index(row) + 1)
            else:
                self.rows.insert(place, row)
                place += 1
        self.columns[processor], self.sources[processor] = {**cells}, source
        self.rows = [row for row in self.rows if any(row in column for column in self.columns.values())]

    def text(self) -> str:
        """The table and the lines below it."""
        heads = [HEAD, *self.columns]
        rows = [[row, *(column.get(row, NONE) for column in self.columns.values())] for row in self.rows]
        below = "\n".join(f"* {name}: {self.sources.get(name, 'unknown')}" for name in self.columns)
        return f"{markdown_table(heads, rows)}\n\n{below}"


def read_table(path: Path, section: str) -> ProcessorTable:
    """The table that stands in the document.

    Raises:
        ConfigError: if the document has no such section, or something else stands there.
    """
    whole = with_section(path, section, "\0")  # finds out whether it has the markers
    before, _, after = whole.partition("\0")
    content = path.read_text(encoding="utf-8")
    try:
        return ProcessorTable.read(content[len(before) : len(content) - len(after)])
    except ValueError as error:
        raise ConfigError(f"{path}: {error} stands between the lines of {section}: empty them") from error


def write_column(path: Path, section: str, processor: str, cells: Mapping[str, str], source: str) -> None:
    """Put a processor's column into the document's table, as that is by now."""
    table = read_table(path, section)
    table.put(processor, cells, source)
    write_section(path, section, table.text())
