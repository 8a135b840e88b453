"""Memory that a step's results are handed out in, and used again once nobody holds them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core.replay.fields import as_rows, row_kind
from palaestra.envs.core.replay.program import tensor_at
from palaestra.envs.core.replay.recording import Region


class Outputs:
    """The results of a step, each in memory of its own; ``obs_rows`` are the observations :func:`.fields.as_rows`.

    A tensor that is handed out owns nothing but an array that stands for its memory. However it is passed on (views,
    NumPy, saved for a gradient), that array lives as long as anything needs it, and its references tell so.
    """

    def __init__(self, places: Mapping[str, Region], memory: Mapping[int, Tensor]) -> None:
        """``places`` of the results by name, and the bytes of each memory."""
        self.arrays: dict[str, Any] = {
            name: tensor_at(place, memory[place.memory]).numpy() for name, place in places.items()
        }
        self.memory, self.row_kind = memory, row_kind(self.arrays["obs"])
        self.obs_rows = as_rows(self.arrays["obs"], self.row_kind)
        self._unheld = [sys.getrefcount(array) for array in self.arrays.values()]

    def is_free(self) -> bool:
        """True if nobody holds a result."""
        return self._unheld == [sys.getrefcount(array) for array in self.arrays.values()]

    def hand_out(self) -> dict[str, Tensor]:
        """The results as tensors."""
        return {name: torch.from_numpy(array) for name, array in self.arrays.items()}

    def copies(self) -> dict[str, Tensor]:
        """The results in memory of their own."""
        return {name: torch.from_numpy(array.copy()) for name, array in self.arrays.items()}
