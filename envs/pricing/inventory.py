"""Markets with a deadline and a stock of each product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core import Array
from palaestra.envs.pricing.market import Market
from palaestra.envs.pricing.metrics import ExpectedPath, expected_path

if TYPE_CHECKING:
    from palaestra.envs.core.reference import ReportFigure
    from palaestra.envs.pricing.rules.price_memory import PriceMemory
    from palaestra.envs.rendering.canvas import Canvas


@dataclass(frozen=True)
class SeasonState:
    """N seasons; units are [N, products] where there are several."""

    period: Tensor  # int64 [N] periods gone, 0 … T
    stock: Tensor  # int64 [N] units left
    price: Tensor  # int64 [N] action of the last period; −1 before the first
    sold: Tensor  # int64 [N] units sold in the last period
    revenue: Tensor  # float32 [N] so far


class InventoryMarket(Market[SeasonState]):
    """A market whose states are the units left, counted in the order of :attr:`units`, and perhaps what is remembered.

    ``memory`` numbers the states of the same units, if there are several, and ``deliveries`` has the units that arrive
    by period (2 …).
    """

    decided_by: ClassVar[str] = "period and units left; no personal data"
    units: Array
    memory: PriceMemory | None = None
    deliveries: Mapping[int, int] = MappingProxyType({})
    lot: int = 1  # units that are counted as one
    unit_cost: Array = np.zeros(1)  # of a sold unit, [T] where there is one

    @property
    def memories(self) -> int:
        """Number of states with the same units."""
        return 1 if self.memory is None else self.memory.size

    @property
    def earnings(self) -> str:
        """What a season brings: "revenue" or, where units cost something, "margin"."""
        return "margin" if self.unit_cost.any() else "revenue"

    def memory_in(self, state: Any, *, free: bool = False) -> int:
        """What one environment's state remembers, 0 … memories − 1; with ``free`` as if the price might change now."""
        return 0

    @cached_property
    def expected(self) -> ExpectedPath:
        """Mean stock and revenue over time under the optimal policy."""
        return expected_path(self, self.prices, self.units, self.memories)

    def draw(self, state: SeasonState, canvas: Canvas) -> None:
        from palaestra.envs.pricing.dashboard.season_page import SeasonView, draw_season

        states = [*canvas.past, state]
        draw_season(canvas, SeasonView(self, states, canvas.policy, over=canvas.over, reveals=canvas.reveals))

    def report_figures(
        self, returns: Array, lengths: Array, successes: Array | None, act: Callable[[SeasonState], Tensor] | None
    ) -> list[ReportFigure]:
        """The agent's prices and stock beside the optimal ones."""
        from palaestra.envs.pricing.dashboard.policy_figures import season_figures

        return [] if act is None else season_figures(self, self.tabulate(act))

    def states(self, stage: int) -> SeasonState:
        stock = torch.tensor(self.units, device=self.device).squeeze(1)
        zero = torch.zeros(self.num_states, dtype=torch.int64, device=self.device)
        return SeasonState(zero + stage, stock, zero - 1, torch.zeros_like(stock), zero.float())
