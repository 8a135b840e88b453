"""A season of one product as a finite decision problem, in NumPy alone, and what dynamic pricing can win in it.

The gain is that over the best fixed price in the season that the environment makes of a demand unless told otherwise:
its periods, its stock and its menu. Both values are exact. With stock enough a fixed price earns as much: effects of
the calendar multiply the demand at every price, so that the same price is best in all periods, and the unit cost
behind the data does not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.arguments import checked_costs, checked_count, checked_distribution, checked_prices
from palaestra.envs.pricing.demand.model import Demand
from palaestra.envs.pricing.finite_mdp import FiniteMDP

_NOTHING = 0.1  # percent
_BANDED = 16  # times as many lots as can be wanted, from which on a matrix would hold little but zeros
_TOGETHER = 2**19  # entries of the matrices that are made together, 4 MiB


def values_after(value: Array, most: int, axis: int = 0) -> Array:
    """The value of what is left when ``most``, …, 1, 0 lots are wanted, a view with a last axis [most + 1] more.

    ``axis`` of the value is for 0, 1, … lots; sold out is none.
    """
    padded = np.concatenate((value.take([0], axis).repeat(most, axis), value), axis)
    return np.lib.stride_tricks.sliding_window_view(padded, most + 1, axis)


def expected_after(value: Array, wanted: Array) -> Array:
    """The mean value of what is left of 0 … C lots, in several markets: float64 [B, C + 1, R].

    Args:
        value: of 0 … C lots, float64 [B, C + 1, R].
        wanted: probabilities of 0 … K wanted lots, float64 [B, K + 1].
    """
    (markets, levels, futures), width = value.shape, wanted.shape[1]
    mean: Array
    if futures == 1 or levels > _BANDED * width:
        mean = np.einsum("bsrk,bk->bsr", values_after(value, width - 1, 1), np.ascontiguousarray(wanted[:, ::-1]))
        return mean
    mean = np.empty(value.shape)
    together = max(1, _TOGETHER // levels**2)
    for start in range(0, markets, together):
        part = slice(start, start + together)
        np.matmul(_moves(wanted[part], levels), value[part], out=mean[part])
    return mean


def _moves(wanted: Array, levels: int) -> Array:
    """The probability that sales leave j of c lots, float64 [B, c, j]: a product with it is ten times as fast as a sum
    over what is wanted."""
    width = min(levels, wanted.shape[1])
    row = np.zeros((len(wanted), 2 * levels - 1))  # P(levels − 1, …, 1, 0 wanted), and no more is left than there was
    row[:, levels - width : levels] = wanted[:, :width][:, ::-1]
    chances: Array = np.lib.stride_tricks.sliding_window_view(row, levels, 1)[:, ::-1].copy()
    chances[:, :, 0] = 0.0
    chances[:, :width, 0] = wanted[:, ::-1].cumsum(1)[:, ::-1][:, :width]  # sold out: so many or more are wanted
    return chances


class SeasonProblem(FiniteMDP):
    """States are the units left, actions the prices of the menu.

    Attributes:
        prices: the menu, float64 [A].
        lot: units that are counted as one, and sold together.
        wanted: probabilities of 0 … K wanted lots, float64 [T, A, K + 1].
        unit_cost: float64 [T].
        margins: what a sold unit earns, float64 [T, A].
        units: left in each state, int64 [C + 1, 1].
    """

    def __init__(self, prices: Any, wanted: Array, stock: int, unit_cost: Any = 0.0, lot: int = 1) -> None:
        self.lot = checked_count("lot", lot)
        self.prices: Array = checked_prices(prices)
        self.stock = checked_count("stock", stock)
        self.wanted = checked_distribution(wanted, len(self.prices))
        if self.stock % self.lot:
            raise ValueError(f"stock must be a multiple of the lot, {self.lot:,} units, got {self.stock:,}")
        self.first_state = self.stock // self.lot
        self.stages, self.num_states = len(self.wanted), self.first_state + 1
        self.unit_cost: Array = checked_costs(unit_cost, self.stages)
        self.margins: Array = self.prices - self.unit_cost[:, None]
        self.units: Array = self.lot * np.arange(self.num_states)[:, None]

    @property
    def num_actions(self) -> int:
        return len(self.prices)

    def action_values(self, stage: int, value: Array) -> Array:
        wanted = self.wanted[stage]  # [A, K + 1]
        states = np.arange(self.num_states)[:, None]
        sold = np.minimum(states, np.arange(wanted.shape[1]))  # [states, K + 1]
        ahead: Array = (sold @ wanted.T) * (self.lot * self.margins[stage])
        if value.ndim == 1:
            ahead += value[states - sold] @ wanted.T
            return ahead
        ahead += np.einsum("sak,ak->sa", values_after(value, wanted.shape[1] - 1), wanted[:, ::-1])
        return ahead

    def transition(self, stage: int, mass: Array) -> Array:
        moved = mass @ self.wanted[stage]  # [states, K + 1]
        left = np.maximum(0, np.arange(self.num_states)[:, None] - np.arange(moved.shape[1]))
        return np.bincount(left.ravel(), moved.ravel(), self.num_states)

    def expected_reward(self, stage: int) -> Array:
        mean = self.wanted[stage] @ np.arange(self.wanted.shape[2])
        return np.tile(mean * self.lot * self.margins[stage], (self.num_states, 1))


@dataclass(frozen=True)
class DynamicGain:
    """Expected earnings of a season."""

    periods: int
    stock: int
    lot: int
    fixed_price: float
    fixed: float  # what the best price that never changes earns
    optimum: float

    @property
    def percent(self) -> float:
        return 100.0 * (self.optimum / self.fixed - 1.0) if self.fixed > 0.0 else 0.0

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to speak of to win."""
        return self.percent < _NOTHING


def dynamic_gain(demand: Demand, name: str) -> DynamicGain:
    """The gain for a product.

    Raises:
        ValueError: if no price is above its unit cost.
    """
    menu, lot, cost = demand.menu(name), demand.products[name].lot, demand.products[name].unit_cost
    periods, stock = demand.season(name, lot)
    if menu[-1] <= cost:
        raise ValueError(f"no price is above the unit cost, {cost:g}")
    wanted = demand.season_wanted(name, menu, stock // lot, periods, demand.levels(name, periods), lot=lot)
    problem = SeasonProblem(menu, wanted, stock, cost, lot)
    fixed = problem.backward_induction(lambda stage, ahead: ahead, len(menu))[0, problem.first_state]
    best = int(fixed.argmax())
    optimum = max(float(fixed[best]), problem.optimal_value())
    return DynamicGain(periods, stock, lot, float(menu[best]), float(fixed[best]), optimum)
