"""Values of positions on 6 × 7 under perfect play, by the solver bitbully and its book of openings.

The solver counts how soon a game is decided; here its sign is asked for, which a search between −1 and 1 finds in two
thirds of the time. Its book holds all positions of 12 stones. It is under the GNU Affero General Public License, and
is not installed unless it is asked for: ``pip install "palaestra[games]"``.

Source: Markus Thill, https://github.com/MarkusThill/BitBully.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core import Array
from palaestra.envs.games.bitboards import BoardShape

SOLVED = BoardShape(6, 7)
_ENGINE_HEIGHT = 9  # bits of a column in the solver's boards
_MOST_KEPT = 1 << 20  # values that are kept


def is_installed() -> bool:
    return importlib.util.find_spec("bitbully") is not None


class SolverError(ValueError):
    """The solver is not there; the message says how to get it."""


@functools.cache
def _engine() -> tuple[Any, Any]:
    """The solver with its book, and its board, which is set again and again."""
    if not is_installed():
        raise SolverError('perfect play on 6 × 7 needs a solver: pip install "palaestra[games]"')
    from bitbully import bitbully_core
    from bitbully_databases import BitBullyDatabases

    book = BitBullyDatabases.get_database_path("default")
    return bitbully_core.BitBullyCore(book), bitbully_core.BoardCore()


_values: dict[tuple[int, int], float] = {}


def solved_values(own: Tensor, other: Tensor) -> Tensor:
    """Values float32 [N] of positions int64 [N] in which the game goes on, for the player whose turn it is.

    Raises:
        SolverError: if the solver is not installed.
    """
    solver, board = _engine()
    if len(_values) > _MOST_KEPT:
        _values.clear()
    rows = list(zip(own.tolist(), other.tolist(), strict=True))
    missing = list({row for row in rows if row not in _values})
    stones = np.array(missing, dtype=np.int64).reshape(-1, 2)
    for row, (mine, all_) in zip(missing, _engine_boards(stones).tolist(), strict=True):
        board.setRawState(all_, mine, SOLVED.cells - all_.bit_count())
        _values[row] = float(np.sign(solver.negamax(board, -1, 1, 0)))
    return torch.tensor([_values[row] for row in rows], dtype=torch.float32)


def _engine_boards(stones: Array) -> Array:
    """Own and all stones in the solver's layout, int64 [n, 2], of own and other ones in ours."""
    ours = np.stack((stones[:, 0], stones[:, 0] | stones[:, 1]), 1)
    theirs = np.zeros_like(ours)
    for column in range(SOLVED.columns):
        theirs |= ((ours >> column * SOLVED.height) & SOLVED.column(0)) << column * _ENGINE_HEIGHT
    return theirs
