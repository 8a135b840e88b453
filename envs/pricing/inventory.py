"""Markets with a deadline and a stock of each product."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from palaestra.envs.core import Array, StateT
from palaestra.envs.pricing.market import Market
from palaestra.envs.pricing.metrics import ExpectedPath, expected_path

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas


class InventoryMarket(Market[StateT]):
    """A market whose states are the units left, counted in the order of :attr:`units`.

    The state record has the fields ``period``, ``stock``, ``price`` (the last action, −1 before the first), ``sold``
    (in the last period) and ``revenue`` (so far).
    """

    units: Array
    unit_cost: float = 0.0

    @cached_property
    def expected(self) -> ExpectedPath:
        """Mean stock and revenue over time under the optimal policy."""
        return expected_path(self, self.prices, self.units)

    def draw(self, state: StateT, canvas: Canvas) -> None:
        from palaestra.envs.pricing.dashboard.season_page import SeasonView, draw_season

        draw_season(canvas, SeasonView(self, [*canvas.past, state], canvas.policy, over=canvas.over))
