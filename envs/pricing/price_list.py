"""A policy as a list: the price in each period with each number of units left, and what is earned from there on.

All values are exact, by backward induction. The shadow price of a unit is what the optimum earns more with it than
without: V*(t, n) − V*(t, n − 1) with n units before period t.

Under rules that look back (:mod:`palaestra.envs.pricing.rules.shop_rules`) the price also depends on the last one. The
list then has the last prices that the rules can lead to and, where a new price must stay, those that may change.
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
    from palaestra.envs.pricing.rules.price_memory import PriceMemory
    from palaestra.envs.pricing.season import Season

_CENTS, _DIGITS, _MOST_DECIMALS = 2, 4, 6
_PERIOD = "period"
_UNITS = {1: "day", 7: "week"}  # of time, by the days from one date to the next


class PriceList:
    """What a policy asks and earns, float64 [T, C, M] each; ``policy`` None means the optimal one.

    C stands for ``fewest`` … ``capacity`` / ``lot`` lots left, M for the memories of the last price, one where none
    matters.

    Attributes:
        price: the policy's price.
        optimal_price: that of the optimal policy.
        expected: mean return of the policy from the period on.
        optimal: that of the optimal policy.
        shadow: shadow price of a unit, of a lot's units on average.
        memory: of the last price; None where it does not matter.
        lot: units that are counted as one.
        fewest: lots of the first row: 1, or 0 where the price without any matters for the next ones.
        capacity: the most units that there can ever be.
        most: the most that there can be before each period, int64 [T].
        current_price: the one asked before the season, if it matters.
        depends_on: the columns that the price depends on.
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
        self._read_shop(market)
        memories, fewest, self.lot = 1 if self.memory is None else self.memory.size, self.fewest, market.lot
        shape = (stages, self.capacity // self.lot + 1, memories)
        self.price, self.optimal_price = (
            market.prices[t].reshape(shape)[:, fewest:] for t in (policy, solution.policy)
        )
        value, best = (table[:stages].reshape(shape) for table in (market.policy_values(policy), solution.value))
        self.expected, self.optimal = value[:, fewest:], best[:, fewest:]
        self.shadow: Array = np.diff(best, axis=1) / self.lot
        if fewest == 0:
            self.shadow = np.pad(self.shadow, ((0, 0), (1, 0), (0, 0)))
        shares = None if self.memory is None else market.state_distribution(policy)[:stages].reshape(shape)[:, fewest:]
        self.likeliest = None if shares is None else np.where(shares.any(2), shares.argmax(2), -1)  # memory [T, C]
        self.earnings = market.earnings
        self.unit_cost = market.unit_cost if np.ptp(market.unit_cost) > 0.0 else None
        self.fixed_price, self.fixed = market.best_fixed_price()
        self.value, self.best = float(value.reshape(stages, -1)[0, market.first_state]), market.optimal_value()
        self.lost_percent = max(0.0, 100.0 - percent_of(self.value, self.best))
        self.dates = None if market.dates is None else [date.fromordinal(day) for day in market.dates.tolist()]
        self.time_unit = market.time_unit
        if market.dates is not None and stages > 1 and market.time_unit == _PERIOD:
            self.time_unit = _UNITS.get(int(market.dates[1] - market.dates[0]), self.time_unit)
        self.decimals = decimals_of(market.prices)

    def _read_shop(self, market: Season) -> None:
        """What the rules of a shop let the price depend on."""
        arrivals = np.zeros(market.stages, np.int64)
        for period, units in market.deliveries.items():
            arrivals[period - 1] = units
        self.most, self.capacity = market.stock + arrivals.cumsum(), int(market.units.max())
        self.memory: PriceMemory | None = market.memory if market.memories > 1 else None
        self.fewest, self.depends_on, self.menu = 1, ["period", "stock"], market.prices
        self.current_price: float | None = None
        if self.memory is not None:
            self.fewest = 0 if market.deliveries else 1
            self.current_price = self.memory.current_price
            self.depends_on.append("last_price")
            self.reachable = self.memory.reachable(market.stages)

    def memories(self, stage: int) -> list[int]:
        """The memories of a period's rows: those that the rules can lead to, and where the price may change."""
        if self.memory is None:
            return [0]
        return np.flatnonzero(self.reachable[stage] & (self.memory.stays == 0)).tolist()

    def last_price(self, memory: int) -> float | None:
        """The price that was asked last; None before the first."""
        if self.memory is None or memory == 0:
            return self.current_price
        return float(self.menu[self.memory.price[memory]])

    def heads(self) -> list[str]:
        """Names of the columns of :meth:`rows`."""
        expected, dated = f"expected_{self.earnings}", ["date"] if self.dates else []
        cost = ["unit_cost"] if self.unit_cost is not None else []
        start = ["period", *dated, "stock", *(["last_price"] if self.memory else []), *cost, "price"]
        if self.is_optimal:
            return [*start, expected, "shadow_price", "price_depends_on"]
        return [*start, "optimal_price", expected, f"optimal_{self.earnings}", "shadow_price", "price_depends_on"]

    def rows(self) -> Iterator[list[Any]]:
        """The list, by period from 1 on, last price and units left; prices as in the menu, money as :func:`money`."""
        digits = self.decimals or None  # whole prices as whole numbers
        depends_on = " + ".join(self.depends_on)
        for t in range(self.periods):
            dated = [self.dates[t]] if self.dates else []
            cost = [] if self.unit_cost is None else [money(self.unit_cost[t])]
            for memory in self.memories(t):
                last = self.last_price(memory)
                asked = [] if self.memory is None else [None if last is None else round(last, digits)]
                for n in range(self.fewest, int(self.most[t]) // self.lot + 1):
                    place = t, n - self.fewest, memory
                    price, best = (round(table[place].item(), digits) for table in (self.price, self.optimal_price))
                    earned = (money(table[place]) for table in (self.expected, self.optimal, self.shadow))
                    expected, optimal, shadow = earned
                    start = [t + 1, *dated, n * self.lot, *asked, *cost, price]
                    more = [expected] if self.is_optimal else [best, expected, optimal]
                    yield [*start, *more, shadow, depends_on]


def decimals_of(prices: Array) -> int:
    """Decimals of a menu: 4.50, not 4.5; but 4 where no price has cents."""
    decimals = next((d for d in range(12) if np.allclose(prices, prices.round(d), 1e-9, 0)), 12)
    return decimals and max(decimals, _CENTS)


def money_decimals(amount: float) -> int:
    """Decimals of an amount: cents, or as many as four significant digits of it take."""
    size = abs(float(amount))
    digits = _DIGITS - 1 - math.floor(math.log10(size)) if size > 0.0 else 0
    return min(max(_CENTS, digits), _MOST_DECIMALS)


def money(amount: float) -> float:
    """An amount rounded to cents, or to four significant digits where these are finer."""
    return round(float(amount), money_decimals(amount)) + 0.0  # no −0
