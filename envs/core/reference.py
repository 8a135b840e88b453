"""What is said of environments without PyTorch: the scale of their returns, and the type of NumPy's arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


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
