"""Price two products that share their customers: multinomial logit demand, a stock of each, and a deadline.

Rules
    1. In each of T periods at most one customer arrives, with probability λ. She takes product i with probability
       exp(u_i) / (1 + Σ exp(u_j)), u_i = a_i − b p_i, over the products still in stock, or leaves.
    2. The episode ends (terminated) after the last period or when nothing is left.

Actions
    The index of a pair of prices, first · A + second, from a menu of A prices: 121 actions.

Observation (float32 [3])
    Periods left and units left of each product, as shares of the first.

Reward
    The price of the unit sold, if any.

Source: Gallego and van Ryzin, "A multiproduct dynamic pricing problem and its applications to network yield
management", Operations Research 1997, in discrete time with logit choice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Array, Quantity
from palaestra.envs.core.symmetries import SignedPermutation, Symmetry
from palaestra.envs.pricing.arguments import checked_count, checked_number, checked_prices, per_period
from palaestra.envs.pricing.demand.count_distributions import logit_shares
from palaestra.envs.pricing.inventory import InventoryMarket, SeasonState
from palaestra.envs.pricing.market import Market

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng


class TwoProducts(InventoryMarket):
    """Two products over a season; see the module for the rules."""

    def __init__(
        self,
        periods: int = 60,
        stock: Any = (3, 10),
        arrival_rate: float = 0.8,
        quality: Any = (5.0, 3.0),
        sensitivity: float = 0.04,
        prices: Any = tuple(range(40, 241, 20)),
    ) -> None:
        """Make the market; ``quality`` is a_i, ``sensitivity`` b (per money), ``prices`` the menu of each product.

        Raises:
            ValueError: if an argument is out of range.
        """
        self.menu, self.stages = checked_prices(prices), checked_count("periods", periods)
        if np.shape(stock) != (2,) or np.shape(quality) != (2,):
            raise ValueError(f"stock and quality must be pairs, got {stock!r} and {quality!r}")
        self.stock = checked_count("stock", stock[0]), checked_count("stock", stock[1])
        self.arrival_rate = checked_number("arrival_rate", arrival_rate, 0.0, 1.0)
        self.sensitivity = checked_number("sensitivity", sensitivity, 0.0, 1e12)
        self.quality = per_period("quality", quality, 2)
        first, second = np.meshgrid(self.menu, self.menu, indexing="ij")
        self.prices = np.stack((first.ravel(), second.ravel()), 1)  # [A², 2]
        rows, columns = self.stock[0] + 1, self.stock[1] + 1
        self.num_states, self.first_state = rows * columns, rows * columns - 1
        self.units = np.stack(np.divmod(np.arange(self.num_states), columns), 1)  # [S, 2]
        utility = self.quality - self.sensitivity * self.prices  # [A², 2]
        with np.errstate(divide="ignore"):
            offered = np.log((self.units > 0).astype(np.float64))  # 0 or −∞
        self.buys = self.arrival_rate * logit_shares(utility + offered[:, None])  # [S, A², 2]
        self.observation_space, self.action_space = Box(0.0, 1.0, (3,)), Discrete(len(self.prices))
        self.cdf = torch.tensor(self.buys.cumsum(2), dtype=torch.float32).flatten(0, 1)  # [S · A², 2]
        self.price_table = torch.tensor(self.prices, dtype=torch.float32)
        self.first_stock = torch.tensor(self.stock)
        self.fresh, self.nothing = torch.tensor([0, -1]), torch.zeros(1)

    def reset(self, rng: Rng) -> SeasonState:
        n = rng.num_envs
        period, price = (number.expand(n) for number in self.fresh.unbind())
        stock, sold = self.first_stock.expand(n, 2), self.fresh[:1].expand(n, 2)
        return SeasonState(period, stock, price, sold, self.nothing.expand(n))

    def step(self, state: SeasonState, action: Tensor, rng: Rng) -> tuple[SeasonState, Tensor, Tensor]:
        # index_select: [] starts threads even for small batches, and they wait where cores are busy
        cdf = self.cdf.index_select(0, torch.add(action, self._index(state), alpha=len(self.prices)))  # [N, 2]
        below = rng.uniform().unsqueeze(1) < cdf  # the first, the first or the second
        first = below[:, 0]
        sold = torch.stack((first, below[:, 1] & ~first), 1).long()
        reward = (self.price_table.index_select(0, action) * sold).sum(1)
        period, stock = state.period + 1, state.stock - sold
        after = SeasonState(period, stock, action, sold, state.revenue + reward)
        return after, reward, (period == self.stages) | (stock.sum(1) == 0)

    def observe(self, state: SeasonState) -> Tensor:
        left = (self.stages - state.period) / self.stages
        return torch.cat((left.unsqueeze(1), state.stock / self.first_stock), 1)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        stocks = zip(("first", "second"), self.stock, strict=True)
        units = (Quantity(f"units_left_{product}", "unit", float(stock)) for product, stock in stocks)
        return (Quantity("periods_left", self.time_unit, float(self.stages)), *units)

    def expert(self, state: SeasonState) -> Tensor:
        return self.best_actions(state.period, self._index(state))

    def _index(self, state: SeasonState) -> Tensor:
        first, second = state.stock.unbind(1)
        return torch.add(second, first, alpha=self.stock[1] + 1)

    def action_values(self, stage: int, value: Array) -> Array:
        value = value.reshape(self.num_states, -1)
        ahead = self.expected_reward(stage) + value
        for product in (0, 1):
            ahead += self.buys[..., product] * (value[self._less(product)] - value)
        return ahead

    def transition(self, stage: int, mass: Array) -> Array:
        sold = (mass[..., None] * self.buys).sum(1)  # [states, 2]
        after: Array = mass.sum(1) - sold.sum(1)
        for product in (0, 1):
            after += np.bincount(self._less(product), sold[:, product], self.num_states)
        return after

    def _less(self, product: int) -> Array:
        """The state with a unit less of a product, int64 [states]; where there is none, nothing is sold either."""
        states = np.arange(self.num_states)
        return np.where(self.units[:, product] > 0, states - (self.stock[1] + 1, 1)[product], states)

    def stresses(self) -> dict[str, Market[Any]]:
        """Demand 20 % lower and higher (of at most one customer a period), customers 20 % more sensitive to price."""

        def market(demand: float = 1.0, sensitivity: float = 1.0) -> TwoProducts:
            rate, steeper = min(1.0, demand * self.arrival_rate), sensitivity * self.sensitivity
            return TwoProducts(self.stages, self.stock, rate, self.quality, steeper, self.menu)

        shifts = {"demand_minus_20": market(0.8), "demand_plus_20": market(1.2)}
        return {**shifts, "sensitivity_plus_20": market(sensitivity=1.2)}

    def symmetries(self) -> list[Symmetry]:
        """The exchange of the products, where they have the same stock and quality."""
        if self.stock[0] != self.stock[1] or self.quality[0] != self.quality[1]:
            return []
        count = len(self.menu)
        exchanged = tuple(second * count + first for first in range(count) for second in range(count))
        images = torch.tensor((*exchanged, -1))  # before the first price there is none, −1

        def state(before: SeasonState) -> SeasonState:
            stock, sold = before.stock.flip(1), before.sold.flip(1)
            return replace(before, stock=stock, sold=sold, price=images.to(stock.device)[before.price])

        seen = SignedPermutation.exchanging(3, (1, 2))
        return [Symmetry("exchanged products", state, seen, SignedPermutation.renumbering(exchanged))]

    def expected_reward(self, stage: int) -> Array:
        reward: Array = (self.buys * self.prices).sum(2)
        return reward
