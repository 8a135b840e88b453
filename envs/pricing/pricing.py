"""Dynamic pricing before a deadline, with customers whose willingness to pay is exponential.

In each of T periods at most one customer arrives, with probability λ_t, and buys at the price p with probability
b_t(p) = exp(−p / w_t); the scale w_t may change over the season. The rest is :mod:`palaestra.envs.pricing.season`.

``palaestra/PricingStationary-v0`` (``pricing-easy``) has 100 periods, 10 units, λ 0.5 and w 50; prices 50 … 200.
``palaestra/Pricing-v0`` (``pricing``) has 100 periods, 15 units, λ 0.6 and w_t = 30 + 170 (t/99)³, prices 20 … 600:
customers who come late pay more, as travellers do.

With ``demand``, the file that ``palaestra fit-demand`` made of real sales, any number of customers may come in a
period and buy as :mod:`palaestra.envs.pricing.demand.model` says; the reward is the margin over the unit cost if the
sales had one, by date where it changed (:mod:`palaestra.envs.pricing.demand.history`). An evaluation then also tells
the uplift (:mod:`palaestra.envs.pricing.demand.uplift`).

A shop may have rules (:mod:`palaestra.envs.pricing.rules.shop_rules`): which prices may be asked, how they may change,
and when units are delivered. The optimum and all exact values hold under them.

The price depends on the period and the units left; under rules that look back also on the last price and on how long it
must stay. It depends on nothing else, and on no personal data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from palaestra.envs.core import Array
from palaestra.envs.pricing.arguments import (
    checked_costs,
    checked_count,
    checked_date,
    checked_plan,
    checked_prices,
    per_period,
)
from palaestra.envs.pricing.demand.json_file import demand_content, load_demand
from palaestra.envs.pricing.demand.uplift import uplift
from palaestra.envs.pricing.inventory import SeasonState
from palaestra.envs.pricing.market import Market
from palaestra.envs.pricing.rules.drawn_markets import ruled_values
from palaestra.envs.pricing.rules.ruled_season import RuledSeason
from palaestra.envs.pricing.rules.shop_rules import ShopRules, read_rules

_FEWEST_LOTS = 50
_SHIFT = 0.1  # of a season
_LARGEST = 2e9  # states × prices × wanted units × periods: seconds for each exact answer


class Pricing(RuledSeason):
    """Exponential willingness to pay, one customer at a time; see the module for the rules."""

    decided_by: ClassVar[str] = "period, units left, with rules the last price; no personal data"

    def __init__(
        self,
        periods: int | None = None,
        stock: int | None = None,
        arrival_rate: Any = None,
        prices: Any = None,
        willingness: Any = None,
        demand: Any = None,
        product: Any = None,
        start: Any = None,
        plan: Any = None,
        unit_cost: Any = None,
        lot: Any = None,
        price_range: Any = None,
        endings: Any = None,
        max_change: Any = None,
        markdowns_only: Any = None,
        hold: Any = None,
        current_price: Any = None,
        replenish: Any = None,
        holding_cost: Any = None,
    ) -> None:
        """Make the market; without the last eight arguments the shop has no rules.

        Args:
            periods: T, 100 unless given; with ``demand`` a season as the data suggest.
            stock: C, 15 unless given; with ``demand`` less than the best fixed price would sell.
            arrival_rate: probability of a customer, per period or for all; 0.6 unless given.
            prices: the menu, 20 … 600 by 20 unless given; with ``demand`` round prices in the observed range, which
                none may leave.
            willingness: w, in money, per period or for all; 30 + 170 (t / (T − 1))³ unless given.
            demand: a ``demand.json``, or what it holds, in place of ``arrival_rate`` and ``willingness``.
            product: the one to price, where the demand has several.
            start: date of the first period (``2025-01-06``), where demand has effects of the calendar; the date behind
                the data unless given.
            plan: values of the demand's regressors in the season, ``{"promotion": 0}``, each a number or one per
                period; their means unless given.
            unit_cost: of a sold unit, per period or for all; 0 unless given, with ``demand`` that of the sales.
            lot: units that are sold together, where a demand has too many to count each; that of the demand unless
                given, or less, where it does not divide the stock or leaves fewer than 50 lots of it.
            price_range: lowest and highest price that may be asked.
            endings: what prices end with, ``[0.99, 0.49]``; the menu has such prices unless ``prices`` are given.
            max_change: the most by which a price moves from one period to the next, in money.
            markdowns_only: whether prices never rise.
            hold: periods for which a new price stays at least.
            current_price: the one that is asked before the season, if the first one must keep to the rules as well.
            replenish: units that arrive at the beginning of later periods, by number or date: ``{7: 20}``.
            holding_cost: of each unit that a period leaves unsold.

        Raises:
            ValueError: if an argument is out of range, or the rules leave no choice.
        """
        shop = {"price_range": price_range, "endings": endings, "max_change": max_change, "hold": hold}
        shop |= {"markdowns_only": markdowns_only, "current_price": current_price, "replenish": replenish}
        shop |= {"holding_cost": holding_cost}
        self.demand = None if demand is None else load_demand(demand)
        if self.demand is not None:
            if arrival_rate is not None or willingness is not None:
                raise ValueError("demand takes the place of arrival_rate and willingness: give one or the other")
            self._make_estimated(periods, stock, prices, product, start, plan, unit_cost, lot, shop)
            return
        for argument, value in {"product": product, "start": start, "plan": plan, "lot": lot}.items():
            if value is not None:
                raise ValueError(f"{argument}={value!r} needs a demand")
        periods = checked_count("periods", 100 if periods is None else periods)
        rules = read_rules(shop, periods, None)
        if prices is None:
            prices = rules.menu_of_endings(*rules.within(20.0, 600.0)) if rules.endings else range(20, 601, 20)
        menu = checked_prices(prices)
        menu = menu[rules.kept(menu)]
        if willingness is None:
            willingness = 30.0 + 170.0 * np.linspace(0.0, 1.0, periods) ** 3
        rate = per_period("arrival_rate", 0.6 if arrival_rate is None else arrival_rate, periods)
        scale = per_period("willingness", willingness, periods)
        if rate.min() < 0.0 or rate.max() > 1.0:
            raise ValueError(f"arrival_rate must be a probability, 0 … 1, got {rate.min()} … {rate.max()}")
        if scale.min() <= 0.0:
            raise ValueError(f"willingness must be positive, got {scale.min()}")
        self.rate, self.scale = rate, scale  # [T] probability of a customer, and w
        costs = _below_a_price(0.0 if unit_cost is None else unit_cost, menu, periods)
        super().__init__(menu, one_customer(rate, scale, menu), 15 if stock is None else stock, costs, rules)

    def _make_estimated(
        self,
        periods: int | None,
        stock: int | None,
        prices: Any,
        product: Any,
        start: Any,
        plan: Any,
        unit_cost: Any,
        lot: Any,
        shop: dict[str, Any],
    ) -> None:
        assert self.demand is not None
        self.product = self.demand.find(product)
        sold = self.demand.products[self.product]
        low, high = sold.price_range
        size = sold.lot if lot is None else checked_count("lot", lot)
        usual = self.demand.season(self.product, size)
        periods = checked_count("periods", usual[0] if periods is None else periods)
        first = checked_date("start", start)
        if self.demand.calendar is not None:
            self.dates = self.demand.calendar.season(first, periods)
        rules = read_rules(shop, periods, self.dates)
        if prices is None:
            ends = rules.within(low, high)
            prices = rules.menu_of_endings(*ends) if rules.endings else self.demand.menu(self.product, *ends)
            prices = prices[prices > 0.0]  # buyers may have had it for nothing, which is no price to ask
        menu = checked_prices(prices)
        menu = menu[rules.kept(menu)]
        if menu[0] < low * (1.0 - 1e-9) or menu[-1] > high * (1.0 + 1e-9):
            raise ValueError(f"prices must lie between {low:g} and {high:g}, where sales of {self.product} were seen")
        stock = checked_count("stock", usual[1] if stock is None else stock)
        self.levels = self.demand.levels(self.product, periods, first, checked_plan(plan, periods))
        self.own_cost = unit_cost is not None
        costs = self.demand.unit_costs(self.product, self.dates) if unit_cost is None else unit_cost
        costs = _below_a_price(costs, menu, periods, f" of {self.product}")
        self.lot = _dividing(stock, rules, size) if lot is None else size
        most = max(1, (stock + rules.to_come) // self.lot)
        wanted = self.demand.wanted(self.product, menu, most, lot=self.lot)
        if wanted.size * rules.hold * periods * most > _LARGEST:
            raise ValueError(
                f"a season of {periods} periods and {stock + rules.to_come:,} units is too large to solve: "
                "give fewer of them, or a stock that a larger lot divides"
            )
        super().__init__(menu, self._season(menu, most, periods), stock, costs, rules, self.lot)

    def _season(self, menu: Array, stock: int, periods: int, factor: float = 1.0, sensitivity: float = 1.0) -> Array:
        """Probabilities of the wanted units in each period, float64 [T, A, K + 1]."""
        assert self.demand is not None
        return self.demand.season_wanted(
            self.product, menu, stock, periods, self.levels, factor=factor, sensitivity=sensitivity, lot=self.lot
        )

    def stresses(self) -> dict[str, Market[Any]]:
        """Demand 20 % lower and higher (of at most one customer a period), customers 20 % more sensitive to price.

        Where demand changes over time, the same a tenth of the season earlier and later, and where w does its mean in
        every period; without a demand from sales, arrivals that fall from 1.5 times to half of what they were, and the
        other way round.
        """

        def market(demand: float = 1.0, sensitivity: float = 1.0) -> RuledSeason:
            if self.demand is None:
                wanted = one_customer(np.minimum(demand * self.rate, 1.0), self.scale / sensitivity, self.prices)
            else:
                most = self.capacity // self.lot
                wanted = self._season(self.prices, most, self.stages, factor=demand, sensitivity=sensitivity)
            return RuledSeason(self.prices, wanted, self.stock, self.unit_cost, self.rules, self.lot)

        shifts: dict[str, Market[Any]] = {"demand_minus_20": market(0.8), "demand_plus_20": market(1.2)}
        shifts["sensitivity_plus_20"] = market(sensitivity=1.2)
        others = self._shifted_seasons() if self.demand is not None else self._other_customers()
        for name, wanted in others.items():
            shifts[name] = RuledSeason(self.prices, wanted, self.stock, self.unit_cost, self.rules, self.lot)
        return shifts

    def _shifted_seasons(self) -> dict[str, Array]:
        """What is wanted a tenth of the season earlier and later, float64 [T, A, K + 1], where it changes."""
        if np.ptp(self.wanted, axis=0).max() == 0.0:
            return {}
        tenth, periods = max(1, round(_SHIFT * self.stages)), np.arange(self.stages)
        places = {"season_early": periods + tenth, "season_late": periods - tenth}
        return {name: self.wanted[place.clip(0, self.stages - 1)] for name, place in places.items()}

    def _other_customers(self) -> dict[str, Array]:
        """What other customers want of whom at most one comes in a period, float64 [T, A, 2]."""
        fewer = np.linspace(1.5, 0.5, self.stages)
        wanted = {
            "arrivals_early": one_customer(np.minimum(self.rate * fewer, 1.0), self.scale, self.prices),
            "arrivals_late": one_customer(np.minimum(self.rate * fewer[::-1], 1.0), self.scale, self.prices),
            **self._shifted_seasons(),
        }
        if np.ptp(self.scale) > 0.0:
            flat = np.full_like(self.scale, self.scale.mean())
            wanted["willingness_flat"] = one_customer(self.rate, flat, self.prices)
        return wanted

    @classmethod
    def self_contained(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        """The file of the demand is read, so that a run keeps the market it was trained on."""
        if "demand" not in arguments:
            return arguments
        return {**arguments, "demand": demand_content(arguments["demand"])}

    def exact(self, act: Callable[[SeasonState], Tensor]) -> dict[str, float]:
        result = super().exact(act)
        if self.demand is None:
            return result
        fixed = int(self.fixed_price_values().argmax())
        table = self.tabulate(act)
        again = self.demand.charged_again(self.product, self.dates)
        if again is not None and self.own_cost:
            again = again[0], self.unit_cost
        valued = partial(ruled_values, self) if self.is_ruled else None
        return result | uplift(
            self.demand,
            self.product,
            self.prices,
            self.unit_cost,
            self.capacity,
            self.lot,
            table,
            fixed,
            self.levels,
            again,
            valued,
        )


def _dividing(stock: int, rules: ShopRules, lot: int) -> int:
    """The largest lot up to this one that divides deliveries, and the stock into at least 50; 1 where there is none."""
    together = math.gcd(stock, *rules.replenish.values())
    return next(size for size in range(max(1, min(lot, stock // _FEWEST_LOTS)), 0, -1) if together % size == 0)


def _below_a_price(unit_cost: Any, menu: Array, periods: int, of: str = "") -> Array:
    """The cost of a unit in each period [T], which some price must exceed some time."""
    costs = checked_costs(unit_cost, periods)
    if menu[-1] <= costs.min():
        raise ValueError(f"no price is above the unit cost{of}, {costs.min():g}")
    return costs


def one_customer(rate: Array, scale: Array, prices: Array) -> Array:
    """Probability of 0 and of 1 wanted unit at each price, float64 [T, A, 2], from λ and w per period."""
    buys = rate[:, None] * np.exp(-prices / scale[:, None])  # [T, A]
    return np.stack((1.0 - buys, buys), 2)
