"""Sell a stock before the deadline: one product, a menu of prices, and customers who may or may not buy.

Rules
    1. A season has T periods and C units. In each period the seller posts a price from the menu; the number of units
       that customers then want is random, with a distribution that depends on the period and the price alone.
    2. Wanted units are sold as far as the stock goes; each earns the price minus the unit cost of the period.
    3. The episode ends (terminated) after the last period or with the last unit. What is left is worth nothing.

Actions
    The index of a price in the menu.

Observation (float32 [2], and 2 more for each of demand and unit cost that change over time)
    Periods left and units left, as shares of T and C. Where demand changes: what a price at the middle of the menu
    would sell in this period on average, as a share of the most in any period, and the same for the next period. Where
    the unit cost changes: that of this and of the next period, 0 for the lowest of the season and 1 for the highest.

Reward
    The revenue of the period (less the unit cost).

Source: Gallego and van Ryzin, "Optimal dynamic pricing of inventories with stochastic demand over finite horizons",
Management Science 1994, in discrete time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Array, Quantity
from palaestra.envs.pricing.demand.season_problem import SeasonProblem
from palaestra.envs.pricing.inventory import InventoryMarket, SeasonState

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng

_MOST_SEEN = 1 << 18  # states whose observations are kept
_LONGEST_ROW = 255


class Season(SeasonProblem, InventoryMarket):
    """One product over a season; subclasses say what customers want. See the module for the rules.

    ``dates`` are the ordinals of the periods, int64 [T], where they are known.
    """

    units: Array
    dates: Array | None = None

    def __init__(self, prices: Any, wanted: Array, stock: int, unit_cost: Any = 0.0, lot: int = 1) -> None:
        """Make the market.

        Args:
            prices: the menu [A], ascending.
            wanted: probability of 0, 1, …, K wanted units (or lots), float64 [T, A, K + 1].
            stock: C, at least 1, in units.
            unit_cost: of a sold unit, per period or for all.
            lot: units that are sold together, where there are too many to count each.

        Raises:
            ValueError: if an argument is out of range, or a distribution does not sum to 1.
        """
        SeasonProblem.__init__(self, prices, wanted, stock, unit_cost, lot)
        self.action_space = Discrete(len(self.prices))
        self.row = (1 << (self.wanted.shape[2] - 1).bit_length()) - 1  # K, rounded up to be halved evenly
        cdf = np.full((self.stages * len(self.prices), self.row), 2.0)
        cdf[:, : self.wanted.shape[2] - 1] = self.wanted.cumsum(2)[..., :-1].reshape(len(cdf), -1)
        self.cdf = torch.tensor(cdf, dtype=torch.float32).flatten()  # [T · A · row]
        self.margin = torch.tensor(self.margins, dtype=torch.float32).flatten()  # [T · A]
        columns = self._outlook()
        self.varies = bool(columns)
        if self.varies:
            self.outlook = torch.tensor(np.column_stack(columns), dtype=torch.float32)  # [T + 1, 2 or 4]
        self.observation_space = Box(0.0, 1.0, (2 + 2 * len(columns),))
        self.sale = torch.stack(
            (self.cdf[:: self.row], self.margin), 1
        )  # [T · A, 2] probability of no buyer, and margin
        self.seen = self._every_observation()  # [(T + 1) · (C + 1), …] where there are few states, else empty
        self.fresh, self.nothing = torch.tensor([0, self.stock, -1, 0]), torch.zeros(1)

    def _outlook(self) -> list[Array]:
        """What changes over time, before each period and at the end: this and the next period's, [T + 1, 2] each."""
        changing = []
        if np.ptp(self.wanted, axis=0).max() > 0.0:
            mean = self.wanted[:, len(self.prices) // 2] @ np.arange(self.wanted.shape[2])
            changing.append(mean / (mean.max() or 1.0))
        if np.ptp(self.unit_cost) > 0.0:
            changing.append((self.unit_cost - self.unit_cost.min()) / np.ptp(self.unit_cost))
        return [np.stack((np.append(x, 0.0), np.append(x[1:], (0.0, 0.0))), 1) for x in changing]

    def _every_observation(self) -> Tensor:
        """The observation of each state, by period and units left."""
        periods, units = self.stages + 1, self.stock + 1
        if periods * units > _MOST_SEEN:
            return torch.empty(0)
        place = torch.arange(periods * units)
        return self._look(place // units, place % units)

    def reset(self, rng: Rng) -> SeasonState:
        period, stock, price, sold = (number.expand(rng.num_envs) for number in self.fresh.unbind())
        return SeasonState(period, stock, price, sold, self.nothing.expand(rng.num_envs))

    def step(self, state: SeasonState, action: Tensor, rng: Rng) -> tuple[SeasonState, Tensor, Tensor]:
        # index_select, also in observe: [] starts threads even for small batches, and they wait where cores are busy
        place = torch.add(action, state.period, alpha=len(self.prices))
        if self.row == 1:
            nobody, margin = self.sale.index_select(0, place).unbind(1)
            wanted = rng.uniform() >= nobody
        else:
            wanted, margin = self._wanted(place, rng.uniform()), self.margin.index_select(0, place)
        sold = torch.minimum(wanted if self.lot == 1 else wanted * self.lot, state.stock)
        reward = margin * sold
        period, stock = state.period + 1, state.stock - sold
        after = SeasonState(period, stock, action, sold, state.revenue + reward)
        return after, reward, (period == self.stages) | (stock == 0)

    def _wanted(self, distribution: Tensor, uniform: Tensor) -> Tensor:
        """Number of entries of a row of the cdf that are at most ``uniform``, int64 [N].

        On the CPU by halving the interval, elsewhere by one search of the rows, which are more memory and fewer calls.
        """
        if self.device.type != "cpu" and self.row <= _LONGEST_ROW:
            rows = self.cdf.view(-1, self.row).index_select(0, distribution)
            return torch.searchsorted(rows, uniform.unsqueeze(1), right=True).squeeze(1)
        start: Tensor = distribution * self.row
        place = start
        half = (self.row + 1) // 2
        while half:
            above = uniform >= self.cdf[half - 1 :].index_select(0, place)
            place = torch.add(place, above, alpha=half)
            half //= 2
        return place - start

    def observe(self, state: SeasonState) -> Tensor:
        if len(self.seen):
            return self.seen.index_select(0, torch.add(state.stock, state.period, alpha=self.stock + 1))
        return self._look(state.period, state.stock)

    def _look(self, period: Tensor, stock: Tensor) -> Tensor:
        shares = torch.stack(((self.stages - period) / self.stages, stock / self.stock), 1)
        return torch.cat((shares, self.outlook.index_select(0, period)), 1) if self.varies else shares

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        named = [
            Quantity("periods_left", self.time_unit, float(self.stages)),
            Quantity("units_left", "unit", float(self.stock)),
        ]
        if np.ptp(self.wanted, axis=0).max() > 0.0:
            sales = "mean sales at the middle of the menu, as a share of the most"
            named += [Quantity(f"demand_{when}", meaning=sales) for when in ("now", "next")]
        if (spread := float(np.ptp(self.unit_cost))) > 0.0:
            money, least = self.currency or "money", float(self.unit_cost.min())
            named += [Quantity(f"unit_cost_{when}", money, spread, least) for when in ("now", "next")]
        return tuple(named)

    def success(self, state: SeasonState) -> Tensor:
        """Sold out."""
        return state.stock == 0

    def expert(self, state: SeasonState) -> Tensor:
        return self.best_actions(state.period, state.stock // self.lot)
