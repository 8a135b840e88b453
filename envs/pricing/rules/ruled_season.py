"""A season that keeps the rules of a shop (:mod:`palaestra.envs.pricing.rules.shop_rules`).

1. A price that the rules forbid is masked (``action_mask``). Where a player asks it all the same, no price is posted:
   nothing is sold in that period, and the last price remains.
2. With deliveries to come a season goes on when it is sold out. Units that arrive can be sold in the period for which
   they are ordered, and count as units left from its beginning.
3. The reward is also less the holding cost of each unit that the period leaves unsold.
4. The observation grows by what is needed: where rules look back the place of the last price in the menu (0 before the
   first), with ``hold`` the periods for which it must stay, with deliveries the units still to come; all as shares.

Without any rule it is the plain season, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from palaestra.envs.core import Array, Quantity
from palaestra.envs.pricing.arguments import checked_distribution, checked_prices
from palaestra.envs.pricing.demand.season_problem import expected_after
from palaestra.envs.pricing.finite_mdp import Solution
from palaestra.envs.pricing.inventory import SeasonState
from palaestra.envs.pricing.rules.price_memory import PriceMemory
from palaestra.envs.pricing.rules.shop_rules import ShopRules
from palaestra.envs.pricing.season import Season

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng


_LARGEST = 30_000_000  # states × periods: a few hundred megabytes for each table


@dataclass(frozen=True)
class RuledState(SeasonState):
    """N seasons with rules; ``price`` is the last one that was posted."""

    stays: Tensor  # int64 [N] periods for which the last price must stay


class RuledSeason(Season):
    """One product over a season under the rules of a shop; see the module."""

    memory: PriceMemory

    def __init__(
        self,
        prices: Any,
        wanted: Array,
        stock: int,
        unit_cost: Any = 0.0,
        rules: ShopRules | None = None,
        lot: int = 1,
    ) -> None:
        """Make the market; the other arguments are those of :class:`Season`, for the whole menu.

        Raises:
            ValueError: if an argument is out of range, or the rules leave no price.
        """
        self.rules = rules or ShopRules()
        menu = checked_prices(prices)
        kept = self.rules.kept(menu)
        super().__init__(menu[kept], checked_distribution(wanted, len(menu))[:, kept], stock, unit_cost, lot)
        self.memory, self.capacity = PriceMemory(self.rules, self.prices), self.stock + self.rules.to_come
        self.stock_levels = self.capacity // self.lot + 1  # of the stock, in lots
        if self.capacity % self.lot:
            raise ValueError(f"replenish must give multiples of the lot, {self.lot:,} units")
        self.is_ruled = self.memory.size > 1 or self.rules.to_come > 0 or self.rules.holding_cost > 0.0
        if self.is_ruled:
            self._number_states()

    def _number_states(self) -> None:
        memory, levels = self.memory, self.stock_levels
        self.num_states, self.first_state = levels * memory.size, self.stock // self.lot * memory.size
        if self.num_states * self.stages > _LARGEST:
            raise ValueError(
                f"a season of {self.stages:,} periods, {self.capacity:,} units and {len(self.prices)} prices is too "
                f"large to solve under its rules{f', with hold={memory.hold}' * (memory.hold > 1)}: give fewer of them"
            )
        self.units = self.lot * np.arange(levels).repeat(memory.size)[:, None]
        self.arrivals = np.zeros(self.stages + 1, np.int64)  # [T + 1] at the beginning of each period
        self.deliveries = self.rules.replenish
        for period, units in self.deliveries.items():
            self.arrivals[period - 1] = units
        self.arriving = torch.tensor(self.arrivals)
        self.outstanding = self.arriving.flip(0).cumsum(0).flip(0) - self.arriving  # [T + 1] behind each period
        if memory.size > 1:
            self.allowed = np.tile(memory.allowed, (levels, 1))
        self.legal, self.next_stays = torch.tensor(memory.allowed), torch.tensor(memory.next_stays)  # [M, A]
        more = (memory.size > 1) + (memory.hold > 1) + (self.rules.to_come > 0)
        self.observation_space = Box(0.0, 1.0, (int(np.prod(self.observation_space.shape or ())) + more,))

    @property
    def earnings(self) -> str:
        return "margin" if self.unit_cost.any() or self.rules.holding_cost else "revenue"

    def has(self, name: str) -> bool:
        return super().has(name) and (name != "action_mask" or self.memory.size > 1)

    def reset(self, rng: Rng) -> SeasonState:
        state = super().reset(rng)
        return RuledState(**vars(state), stays=state.period) if self.is_ruled else state

    def step(self, state: SeasonState, action: Tensor, rng: Rng) -> tuple[SeasonState, Tensor, Tensor]:
        if not isinstance(state, RuledState):
            return super().step(state, action, rng)
        actions = len(self.prices)
        place = torch.add(action, state.period, alpha=actions)
        row = torch.add(action, self._memory_of(state), alpha=actions)
        legal = self.legal.flatten().index_select(0, row)
        sold = torch.minimum(self._wanted(place, rng.uniform()) * self.lot, state.stock) * legal
        left, period = state.stock - sold, state.period + 1
        reward = self.margin.index_select(0, place) * sold - self.rules.holding_cost * left
        stock = left + self.arriving.index_select(0, period)
        price = torch.where(legal, action, state.price)
        stays = torch.where(legal, self.next_stays.flatten().index_select(0, row), (state.stays - 1).clamp(min=0))
        after = RuledState(period, stock, price, sold, state.revenue + reward, stays)
        return after, reward, (period == self.stages) | (stock + self.outstanding.index_select(0, period) == 0)

    def observe(self, state: SeasonState) -> Tensor:
        if not isinstance(state, RuledState):
            return super().observe(state)
        shares = [(self.stages - state.period) / self.stages, state.stock / self.capacity]
        if self.varies:
            shares += self.outlook.index_select(0, state.period).unbind(1)
        if self.memory.size > 1:
            shares.append((state.price + 1) / len(self.prices))
        if self.memory.hold > 1:
            shares.append(state.stays / (self.memory.hold - 1))
        if self.rules.to_come:
            shares.append(self.outstanding.index_select(0, state.period) / self.rules.to_come)
        return torch.stack(shares, 1)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        named = super().observation_names
        if not self.is_ruled:
            return named
        periods, units, *others = named
        others.insert(0, replace(units, scale=float(self.capacity)))
        if self.memory.size > 1:
            place = "place of the last price in the menu, -1 before the first"
            others.append(Quantity("last_price", "", float(len(self.prices)), -1.0, place))
        if self.memory.hold > 1:
            stays = "for which the last price must stay"
            others.append(Quantity("hold_left", self.time_unit, self.memory.hold - 1.0, meaning=stays))
        if self.rules.to_come:
            others.append(Quantity("units_to_come", "unit", float(self.rules.to_come)))
        return (periods, *others)

    def expert(self, state: SeasonState) -> Tensor:
        return self.best_actions(state.period, state.stock // self.lot * self.memory.size + self._memory_of(state))

    def action_mask(self, state: SeasonState) -> Tensor:
        return self.legal.index_select(0, self._memory_of(state))

    def _memory_of(self, state: SeasonState) -> Tensor:
        found: Tensor = self.memory.index(state.price, state.stays if isinstance(state, RuledState) else state.price)
        return found

    def memory_in(self, state: Any, *, free: bool = False) -> int:
        return int(self.memory.index(state.price, 0 if free else state.stays)) if self.is_ruled else 0

    def states(self, stage: int) -> SeasonState:
        state = super().states(stage)
        if not self.is_ruled:
            return state
        price, stays = (
            torch.tensor(np.tile(column, self.stock_levels), device=self.device)
            for column in (self.memory.price, self.memory.stays)
        )
        return RuledState(state.period, state.stock, price, state.sold, state.revenue, stays)

    def action_values(self, stage: int, value: Array) -> Array:
        if not self.is_ruled:
            return super().action_values(stage, value)
        ahead = self._of_memories(self._after_prices(stage, value), slice(None))
        values: Array = ahead.reshape(self.num_states, -1)
        return values

    def _after_prices(self, stage: int, value: Array) -> Array:
        """Expected reward of a price and value afterwards, by lots left and for how long it stays, [C + 1, A, k]."""
        return self._ahead(stage, value.reshape(self.stock_levels, -1)[:, self.memory.place])

    def _of_memories(self, ahead: Array, memories: Array | slice) -> Array:
        """The same by lots, memory and price, [C + 1, M, A]."""
        found: Array = ahead[:, np.arange(len(self.prices)), self.memory.next_stays[memories]]
        return found

    @cached_property
    def solution(self) -> Solution:
        """Optimal values and actions; where a price must stay there is no choice, and nothing to compare."""
        if not self.is_ruled:
            return self.solved()
        memory, shape = self.memory, (self.stages, self.stock_levels, self.memory.size)
        free, held = np.flatnonzero(memory.stays == 0), np.flatnonzero(memory.stays > 0)
        policy, value = np.zeros(shape, np.int64), np.zeros((self.stages + 1, *shape[1:]))
        policy[:, :, held] = memory.price[held]
        for stage in reversed(range(self.stages)):
            ahead = self._after_prices(stage, value[stage + 1])
            choice = np.where(memory.allowed[free], self._of_memories(ahead, free), -np.inf)
            policy[stage][:, free], value[stage][:, free] = choice.argmax(2), choice.max(2)
            value[stage][:, held] = ahead[:, memory.price[held], memory.stays[held] - 1]
        return Solution(value.reshape(self.stages + 1, -1), policy.reshape(self.stages, -1))

    def policy_values(self, policy: Array) -> Array:
        table = self.checked_table(policy)
        if not self.is_ruled or table.ndim == 3:
            return super().policy_values(table)
        levels, memories = np.arange(self.stock_levels)[:, None], np.arange(self.memory.size)
        value = np.zeros((self.stages + 1, self.num_states))
        for stage in reversed(range(self.stages)):
            action = table[stage].reshape(self.stock_levels, -1)
            ahead = self._after_prices(stage, value[stage + 1])
            value[stage] = ahead[levels, action, self.memory.next_stays[memories, action]].ravel()
        return value

    def _ahead(self, stage: int, after: Array) -> Array:
        """Expected reward of each price by lots left, plus what is expected afterwards, float64 [C + 1, A, k].

        Args:
            stage: the period.
            after: value after it, by the lots of the next period, price asked and any further index, [C + 1, A, k].
        """
        wanted, cost = self.wanted[stage], self.rules.holding_cost
        units = np.arange(self.stock_levels)[:, None]
        sold = np.minimum(units, np.arange(wanted.shape[1]))  # [C + 1, K + 1]
        gain = self.lot * ((sold @ wanted.T) * (self.margins[stage] + cost) - cost * units)
        ahead: Array = gain[:, :, None].repeat(after.shape[2], 2)
        after = after[self.delivered(stage)]
        ahead += expected_after(after.transpose(1, 0, 2), wanted).transpose(1, 0, 2)
        return ahead

    def delivered(self, stage: int) -> Array:
        """Lots of the next period by lots left after this one, int64 [C + 1]; no more than there can ever be."""
        units: Array = np.minimum(
            np.arange(self.stock_levels) + self.arrivals[stage + 1] // self.lot, self.stock_levels - 1
        )
        return units

    def transition(self, stage: int, mass: Array) -> Array:
        if not self.is_ruled:
            return super().transition(stage, mass)
        memory, levels, wanted = self.memory, self.stock_levels, self.wanted[stage]
        state, action = np.nonzero(mass)  # few are reached, and none where a price may not be asked
        level, place = np.divmod(state, memory.size)
        shape = levels, *memory.place.shape
        future = np.ravel_multi_index((level, action, memory.next_stays[place, action]), shape)
        moved = np.bincount(future, mass[state, action], levels * memory.place.size).reshape(shape)
        left = np.zeros_like(moved)  # [C + 1, A, k]
        for units, probability in enumerate(wanted.T[:levels]):
            part = moved * probability[:, None]
            left[: levels - units] += part[units:]
            left[0] += part[:units].sum(0)
        left[0] += (moved * wanted[:, levels:].sum(1)[:, None]).sum(0)
        after = np.zeros((levels, memory.size))
        np.add.at(after, (self.delivered(stage)[:, None, None], memory.place), left)
        return after.ravel()

    def expected_reward(self, stage: int) -> Array:
        if not self.is_ruled:
            return super().expected_reward(stage)
        cost, mean = self.rules.holding_cost, self.wanted[stage] @ np.arange(self.wanted.shape[2])
        reward: Array = self.lot * mean * (self.margins[stage] + cost) - cost * self.units
        return reward

    def fixed_price_values(self) -> Array:
        if not self.is_ruled:
            return super().fixed_price_values()
        value = np.zeros((self.stock_levels, len(self.prices), 1))
        for stage in reversed(range(self.stages)):
            value = self._ahead(stage, value)
        return np.where(self.memory.allowed[0], value[self.stock // self.lot, :, 0], -np.inf)
