"""Markets with a deadline and a stock of each product."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from palaestra.envs.core import Array, StateT
from palaestra.envs.pricing.market import Market
from palaestra.envs.pricing.metrics import ExpectedPath, expected_path

if TYPE_CHECKING:
    from palaestra.envs.pricing.dashboard.season_page import SeasonView
    from palaestra.envs.rendering.canvas import Canvas, Table


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
        from palaestra.envs.pricing.dashboard.season_page import draw_season

        draw_season(canvas, self.season_view([*canvas.past, state], canvas.policy, over=canvas.over))

    def season_view(self, states: Sequence[Any], policy: Table | None = None, *, over: bool = False) -> SeasonView:
        """The dashboard's data.

        Args:
            states: one environment's states on the host, oldest first.
            policy: the watched policy's table, int64 [T, S]; None where it has none.
            over: True if the episode ended in the last state.
        """
        from palaestra.envs.pricing.dashboard.season_page import SeasonView

        menu, capacity = self.prices.reshape(self.num_actions, -1), self.units[self.first_state]
        period, action = np.array([(s.period, s.price) for s in states], np.int64).T
        stock, sold = (
            np.array([getattr(s, name) for s in states], np.int64).reshape(len(states), -1)
            for name in ("stock", "sold")
        )
        index = np.ravel_multi_index(stock.T, capacity + 1)
        optimal = menu[self.optimal_policy()[np.minimum(period, self.stages - 1), index]]
        known = () if policy is None else (policy,)
        return SeasonView(
            stages=self.stages,
            prices=menu,
            units=self.units,
            capacity=capacity,
            currency=self.currency,
            time_unit=self.time_unit,
            earnings="profit" if self.unit_cost else "revenue",
            optimum=self.optimal_value(),
            expected=self.expected,
            policies=(*known, self.optimal_policy()),
            percents=(*map(self.percent_of_optimum, known), 100.0),
            period=period,
            stock=stock,
            posted=np.where((action[:, None] < 0) | (stock + sold == 0), np.nan, menu[action]),
            optimal=np.where((period[:, None] == self.stages) | (stock == 0), np.nan, optimal),
            sold=sold,
            revenue=np.array([s.revenue for s in states], np.float64),
            over=over or bool(period[-1] == self.stages) or not stock[-1].any(),
        )
