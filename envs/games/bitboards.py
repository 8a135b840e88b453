"""Boards of columns as bits of one integer, after the representation that solvers of Connect Four use.

1. Column c, counted from the left, has the bits from c · (rows + 1) on, its lowest cell first. The uppermost bit of
   each column stays free: it takes the carry of a full column, and keeps lines from going on in the next one.
2. The lowest free cell of a column: adding the column's lowest bit to all stones carries through them to that cell.
3. Four stones in a line: a pair is a stone whose neighbour is one too, and four are a pair whose neighbour but one is
   a pair. The four directions are four shifts.

Source: Fhourstones, John Tromp, https://tromp.github.io/c4/fhour.html.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MOST_BITS = 62  # of an int64 that is never negative, with room for a carry
LINE = 4  # stones that win


@dataclass(frozen=True)
class BoardShape:
    """A board of rows × columns.

    Raises:
        ValueError: if a line fits nowhere, or the board not into an integer.
    """

    rows: int
    columns: int

    def __post_init__(self) -> None:
        for name in ("rows", "columns"):
            size = getattr(self, name)
            if type(size) is not int or size < LINE:
                raise ValueError(f"{name} must be a whole number of at least {LINE}, got {size!r}")
        if (bits := self.height * self.columns) > MOST_BITS:
            raise ValueError(
                f"a board of {self.rows} rows and {self.columns} columns takes {bits} bits, (rows + 1) × columns, and "
                f"there are {MOST_BITS}: name fewer rows or columns"
            )

    @property
    def height(self) -> int:
        """Bits of a column."""
        return self.rows + 1

    @property
    def cells(self) -> int:
        return self.rows * self.columns

    @property
    def shifts(self) -> tuple[int, ...]:
        """From a cell to its neighbour above, to the right, and below and above that one."""
        return (1, self.height, self.height - 1, self.height + 1)

    def bottom(self, column: int) -> int:
        """The lowest cell of a column."""
        return 1 << (column * self.height)

    def column(self, column: int) -> int:
        """All cells of a column."""
        return (self.bottom(column) << self.rows) - self.bottom(column)

    def as_seen(self) -> list[int]:
        """The cells row by row from the upper left, as a picture has them."""
        return [self.bottom(column) << row for row in reversed(range(self.rows)) for column in range(self.columns)]


def has_line(stones: Tensor, shifts: Tensor) -> Tensor:
    """True for boards with four in a line, bool [N].

    Args:
        stones: int64 [N], of one player.
        shifts: int64 [4, 1], see :attr:`BoardShape.shifts`.
    """
    pairs = stones & (stones >> shifts)  # [4, N]
    return (pairs & (pairs >> 2 * shifts)).any(0)


def completing_cells(stones: Tensor, shifts: Tensor) -> Tensor:
    """Cells that three stones wait for: with a stone of the same player there, four would lie in a line; int64 [N].

    Cells with stones, and bits that are no cells of the board, may be among them.

    Args:
        stones, shifts: see :func:`has_line`.
    """
    before, after = stones << shifts, stones >> shifts  # [4, N] neighbours on either side are stones
    two_before, two_after = before & (stones << 2 * shifts), after & (stones >> 2 * shifts)
    ends = two_before & ((stones << 3 * shifts) | after)
    ends |= two_after & ((stones >> 3 * shifts) | before)
    return ends[0] | ends[1] | ends[2] | ends[3]


def line_cells(stones: int, shape: BoardShape) -> int:
    """The cells of all lines of four on one board, 0 without any."""
    found = 0
    for shift in shape.shifts:
        line = stones & (stones >> shift) & (stones >> 2 * shift) & (stones >> 3 * shift)
        found |= line | (line << shift) | (line << 2 * shift) | (line << 3 * shift)
    return found


def mirrored(stones: Any, shape: BoardShape) -> Any:
    """Boards with left and right exchanged, an integer or int64 [N]."""
    result = stones & 0
    for column in range(shape.columns):
        bits = (stones >> column * shape.height) & shape.column(0)
        result = result | (bits << (shape.columns - 1 - column) * shape.height)
    return result


def stone_count(stones: Tensor) -> Tensor:
    """How many bits are set, int64 [N] for int64 [N] that are not negative."""
    pairs = stones - ((stones >> 1) & 0x5555555555555555)
    fours = (pairs & 0x3333333333333333) + ((pairs >> 2) & 0x3333333333333333)
    bytes_ = (fours + (fours >> 4)) & 0x0F0F0F0F0F0F0F0F
    return torch.bitwise_and((bytes_ * 0x0101010101010101) >> 56, 0xFF)
