"""Values of all positions of a small board under perfect play, by retrograde analysis.

1. Forwards: the positions after so many moves, each once, are those before with a stone more; games that are over are
   left out.
2. Backwards: the value of a position is the best that a move leads to: 1 if it wins, 0 if it fills the board, else the
   negative of the next position's.

Boards of 4 × 4, of 5 rows and 4 columns, and of 4 rows and 5 columns have 161,029, 1,706,255 and 3,945,711 positions,
those of finished games among them; 6 × 7 has too many.

Source of the counts: John Tromp, https://tromp.github.io/c4/c4.html.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from palaestra.envs.games.bitboards import BoardShape, has_line

MOST_CELLS = 20  # of a board whose table is made within seconds


@dataclass(frozen=True)
class ValueTable:
    """The values of all positions in which a game goes on."""

    keys: Tensor  # int64 [M], ascending
    values: Tensor  # float32 [M] of the player whose turn it is

    def of(self, own: Tensor, other: Tensor) -> Tensor:
        """Values float32 of positions int64 [N] in which the game goes on; any number of others."""
        places = torch.searchsorted(self.keys, position_key(own, other)).clamp_(max=len(self.keys) - 1)
        return self.values[places]


def position_key(own: Tensor, other: Tensor) -> Tensor:
    """One number for each position: a column of h stones adds 2^h − 1 up to 2^(h + 1) − 2, times its place."""
    return own + (own | other)


@functools.lru_cache(maxsize=8)
def value_table(shape: BoardShape, device: str = "cpu") -> ValueTable:
    """The table of a board of at most :data:`MOST_CELLS` cells."""
    if device != "cpu":
        made = value_table(shape)
        return ValueTable(made.keys.to(device), made.values.to(device))
    layers = _layers(shape)
    found: list[tuple[Tensor, Tensor]] = []
    later = ValueTable(torch.zeros(1, dtype=torch.int64), torch.zeros(1))  # no game goes on then
    for own, other in reversed(layers):
        values = _best(own, other, shape, later)
        order = position_key(own, other).argsort()
        later = ValueTable(position_key(own, other)[order], values[order])
        found.append((later.keys, later.values))
    keys, values = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = keys.argsort()
    return ValueTable(keys[order], values[order])


def _layers(shape: BoardShape) -> list[tuple[Tensor, Tensor]]:
    """The positions after 0, 1, … moves in which the game goes on, each once: own and other stones int64 [M]."""
    own = other = torch.zeros(1, dtype=torch.int64)
    layers = []
    while len(own):
        layers.append((own, other))
        stones, legal = moves_of(own, other, shape)
        after = (own.unsqueeze(1) | stones)[legal]
        left = other.unsqueeze(1).expand_as(stones)[legal]
        goes_on = ~has_line(after, _shifts(shape))
        if len(layers) == shape.cells:  # the board is full
            goes_on &= False
        own, other = _each_once(left[goes_on], after[goes_on])
    return layers


def _each_once(own: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    keys, places = torch.unique(position_key(own, other), return_inverse=True)
    first = torch.empty_like(keys).scatter_(0, places, torch.arange(len(places)))
    return own[first], other[first]


def _best(own: Tensor, other: Tensor, shape: BoardShape, later: ValueTable) -> Tensor:
    """The values of positions, float32 [M]; ``later`` has those after a further move."""
    stones, legal = moves_of(own, other, shape)
    after, left = own.unsqueeze(1) | stones, other.unsqueeze(1).expand_as(stones)
    wins = has_line(after.flatten(), _shifts(shape)).view_as(legal)
    full = (after | left) == sum(shape.column(column) for column in range(shape.columns))
    values = torch.where(wins, 1.0, torch.where(full, 0.0, 0.0 - later.of(left, after)))
    return values.masked_fill(~legal, -1.0).amax(1)  # nothing is worse than −1


def moves_of(own: Tensor, other: Tensor, shape: BoardShape) -> tuple[Tensor, Tensor]:
    """Where a stone of each column would lie, int64 [N, columns], and which columns are not full."""
    bottoms, cells = (torch.tensor([part(c) for c in range(shape.columns)]) for part in (shape.bottom, shape.column))
    stones = ((own | other).unsqueeze(1) + bottoms) & cells
    return stones, stones != 0


def _shifts(shape: BoardShape) -> Tensor:
    return torch.tensor(shape.shifts).unsqueeze(1)
