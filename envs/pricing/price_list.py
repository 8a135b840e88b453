"""A policy as a list: the price in each period with each number of units left, and what is earned from there on.

All values are exact, by backward induction. The shadow price of a unit is what the optimum earns more with it than
without: V*(t, n) − V*(t, n − 1) with n units before period t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.metrics import percent_of

if TYPE_CHECKING:
    from palaestra.envs.pricing.season import Season

_CENTS, _DIGITS, _MOST_DECIMALS = 2, 4, 6
_PERIOD = "period"
_UNITS = {1: "day", 7: "week"}  # of time, by the days from one date to the next


class PriceList:
    """What a policy asks and earns, float64 [T, C] each, with 1 … C units left; ``policy`` None means the optimal one.

    Attributes:
        price: the policy's price.
        optimal_price: that of the optimal policy.
        expected: mean return of the policy from the period on.
        optimal: that of the optimal policy.
        shadow: shadow price of a unit.
        dates: of the periods; None without a calendar.
        earnings: what a return is, "revenue" or, after a unit cost, "margin".
        unit_cost: of each period, float64 [T]; None where it stays the same.
        time_unit: what a period is, as far as it is known.
        lost_percent: what the policy earns less than the optimal one from the start, as a percentage of it.
    """

    def __init__(self, market: Season, policy: Array | None = None) -> None:
        solution, stages = market.solution, market.stages
        self.is_optimal = policy is None
        policy = solution.policy if policy is None else policy
        self.periods, self.stock, self.currency = stages, market.stock, market.currency
        self.price, self.optimal_price = (market.prices[table][:, 1:] for table in (policy, solution.policy))
        value = market.policy_values(policy)
        self.expected, self.optimal = value[:stages, 1:], solution.value[:stages, 1:]
        self.shadow: Array = np.diff(solution.value[:stages], axis=1)
        self.earnings = "margin" if market.unit_cost.any() else "revenue"
        self.unit_cost = market.unit_cost if np.ptp(market.unit_cost) > 0.0 else None
        self.fixed_price, self.fixed = market.best_fixed_price()
        self.value, self.best = float(value[0, -1]), market.optimal_value()
        self.lost_percent = max(0.0, 100.0 - percent_of(self.value, self.best))
        self.dates = None if market.dates is None else [date.fromordinal(day) for day in market.dates.tolist()]
        self.time_unit = market.time_unit
        if market.dates is not None and stages > 1 and market.time_unit == _PERIOD:
            self.time_unit = _UNITS.get(int(market.dates[1] - market.dates[0]), self.time_unit)
        self.decimals = next((d for d in range(12) if np.allclose(market.prices, market.prices.round(d), 1e-9, 0)), 12)
        self.decimals = self.decimals and max(self.decimals, _CENTS)  # 4.50, not 4.5; but 4 where no price has cents

    def heads(self) -> list[str]:
        """Names of the columns of :meth:`rows`."""
        expected, dated = f"expected_{self.earnings}", ["date"] if self.dates else []
        cost = ["unit_cost"] if self.unit_cost is not None else []
        if self.is_optimal:
            return ["period", *dated, "stock", *cost, "price", expected, "shadow_price"]
        optimal = ["optimal_price", f"optimal_{self.earnings}"]
        return ["period", *dated, "stock", *cost, "price", optimal[0], expected, optimal[1], "shadow_price"]

    def rows(self) -> Iterator[list[Any]]:
        """The list, by period from 1 on and units left from 1 on; prices as in the menu, money as :func:`money`."""
        digits = self.decimals or None  # whole prices as whole numbers
        for t in range(self.periods):
            dated = [self.dates[t]] if self.dates else []
            cost = [] if self.unit_cost is None else [money(self.unit_cost[t])]
            for n in range(self.stock):
                price, best = (round(table[t, n].item(), digits) for table in (self.price, self.optimal_price))
                expected, optimal, shadow = (money(table[t, n]) for table in (self.expected, self.optimal, self.shadow))
                start = [t + 1, *dated, n + 1, *cost, price]
                yield [*start, expected, shadow] if self.is_optimal else [*start, best, expected, optimal, shadow]


def money_decimals(amount: float) -> int:
    """Decimals of an amount: cents, or as many as four significant digits of it take."""
    size = abs(float(amount))
    digits = _DIGITS - 1 - math.floor(math.log10(size)) if size > 0.0 else 0
    return min(max(_CENTS, digits), _MOST_DECIMALS)


def money(amount: float) -> float:
    """An amount rounded to cents, or to four significant digits where these are finer."""
    return round(float(amount), money_decimals(amount)) + 0.0  # no −0
