"""Facts about environments that need no PyTorch: the scale of their returns, the meaning of their numbers, and the
type of NumPy's arrays; and which values of a file are numbers."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def is_finite_number(value: Any) -> bool:
    """True for a number that JSON or YAML gave and float64 holds; true and false, infinity and NaN are none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


@dataclass(frozen=True)
class Reference:
    """The scale of returns: mean returns of known policies, and the source of the figures.

    ``optimum`` is the best attainable mean return (exact, or that of the documented expert), ``random`` the uniform
    random policy's, ``heuristic`` that of a simple rule named in ``source``. None where it is not known.
    ``solved_at`` is the mean return from which the environment counts as solved.
    """

    optimum: float | None = None
    random: float | None = None
    heuristic: float | None = None
    solved_at: float | None = None
    source: str = ""

    def percent_of_optimal(self, mean_return: float) -> float | None:
        """100 (score − random) / (optimum − random); None where either is unknown."""
        if self.optimum is None or self.random is None or self.optimum == self.random:
            return None
        return 100.0 * (mean_return - self.random) / (self.optimum - self.random)


@dataclass(frozen=True)
class Quantity:
    """The meaning of a number of an observation or an action: x stands for ``offset + scale * x`` in ``unit``.

    Attributes:
        name: in letters, digits and underscores, unlike the others of the environment.
        unit: of the quantity; "" for a share, a count or a direction.
        scale, offset: in that unit.
        meaning: what the name leaves open, such as the sign.
        count: how many numbers in a row are of this kind, as the cells of a board.
    """

    name: str
    unit: str = ""
    scale: float = 1.0
    offset: float = 0.0
    meaning: str = ""
    count: int = 1
