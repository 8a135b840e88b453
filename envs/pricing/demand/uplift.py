"""The uplift: earnings of a policy over simple prices in an estimated market, with an interval.

1. Compared are the expected earnings of a season: of the policy, of one fixed price, and of the prices that were
   charged. Where the season has dates these are those of the dates, or of as many weeks before, with the unit costs of
   their own dates (:mod:`palaestra.envs.pricing.demand.history`); else each period's price is drawn from all of them.
2. Policy and fixed price stay as they were found with the estimated coefficients. The market is drawn again 200 times,
   its coefficients from the normal distribution of the estimates (parametric bootstrap, the same draws for all three),
   and each draw gives an uplift; its 2.5 and 97.5 % points are the interval.
3. The interval knows the uncertainty of the coefficients. It does not know whether the model is right.

All values are exact for each drawn market, by backward induction for all draws at once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.model import Demand

DRAWS = 200
_KEPT = 8  # periods that are kept: a week of days, and one


def uplift(
    demand: Demand,
    name: str,
    menu: Array,
    unit_cost: Array,
    stock: int,
    lot: int,
    policy: Array,
    fixed: int,
    levels: Callable[[Array], Array] | None = None,
    again: tuple[Array, Array] | None = None,
    valued: Valued | None = None,
) -> dict[str, float]:
    """The uplift in percent over both, with 95 % intervals, and what the charged prices earn.

    Args:
        demand: the estimated market.
        name: of the product.
        menu: prices [A].
        unit_cost: of a sold unit in each period [T].
        stock: the most units that there can be; without ``valued`` those at the start.
        lot: units that are counted as one.
        policy: actions, int64 [periods, lots + 1], or as ``valued`` takes them.
        fixed: the action of the fixed price.
        levels: the effects of the periods, if they differ; see :meth:`Demand.levels`.
        again: the prices that were charged and the unit costs, [T] each; see :meth:`Demand.charged_again`.
        valued: in place of :func:`season_values`, for seasons with further rules.

    Returns:
        ``charged_mean``; and for X = ``fixed`` and ``charged`` ``uplift_over_X_percent`` with ``…_low`` and ``…_high``,
        left out where the simple prices do not earn anything.
    """
    product = demand.products[name]
    most = stock // lot
    markets = np.vstack((product.estimate.coefficients, demand.draws(name, DRAWS)))
    level = None if levels is None else levels(markets)  # [1 + DRAWS, T], the estimate itself first

    def period_of(prices: Array, shares: Array | None) -> Callable[[int], Period]:
        """The market in a period; with ``shares`` of one action, which draws its price from them."""

        def make(own: Array | None) -> Period:
            wanted = demand.wanted(name, prices, most, markets, level=own, lot=lot)  # [1 + DRAWS, A, K + 1]
            units = wanted @ (lot * np.minimum(np.arange(wanted.shape[2])[:, None], np.arange(most + 1)))
            revenue = units * prices[:, None]
            if shares is None:
                return Period(wanted, revenue, units)
            return Period(*(np.einsum("m,bmk->bk", shares, table)[:, None] for table in (wanted, revenue, units)))

        return _remembered(make, level)

    def only_fixed(stage: int) -> Period:
        return Period(*(table[:, [fixed]] for table in whole(stage)))

    values = valued or season_values

    def charged() -> Array:
        if again is None:
            return values(period_of(product.prices, product.shares), always, unit_cost)
        prices, costs = again
        posted = {price: period_of(np.array([price]), None) for price in set(prices.tolist())}
        return values(lambda stage: posted[prices[stage]](stage), always, costs)

    whole, always = period_of(menu, None), np.zeros((len(policy), most + 1), np.int64)
    earned = values(whole, policy, unit_cost)
    simple = {
        "fixed": values(only_fixed, always, unit_cost),
        "charged": charged(),
    }
    result = {"charged_mean": float(simple["charged"][0])}
    for what, value in simple.items():
        if (value > 0.0).all():
            percent = 100.0 * (earned / value - 1.0)
            low, high = np.percentile(percent[1:], [2.5, 97.5])
            key = f"uplift_over_{what}_percent"
            result |= {key: float(percent[0]), f"{key}_low": float(low), f"{key}_high": float(high)}
    return result


class Period(NamedTuple):
    """Several markets in one period."""

    wanted: Array  # probabilities of 0 … K wanted lots, [B, A, K + 1]
    revenue: Array  # expected with 0 … C lots, [B, A, C + 1]
    units: Array  # that are sold on average, [B, A, C + 1]


Valued = Callable[[Callable[[int], Period], Array, Array], Array]
"""A function like :func:`season_values`."""


def season_values(period: Callable[[int], Period], policy: Array, unit_cost: Array) -> Array:
    """Expected earnings of a season for each of several markets, float64 [B].

    Args:
        period: the markets in a period, 0 … periods − 1.
        policy: actions, int64 [periods, C + 1].
        unit_cost: of a sold unit in each period [periods].
    """
    states = np.arange(policy.shape[1])
    value = np.zeros((len(period(0).wanted), 2 * len(states) - 1))  # V(c) at C + c; sold out below
    for stage in range(len(policy) - 1, -1, -1):
        wanted, revenue, units = period(stage)
        actions, most = policy[stage], wanted.shape[2] - 1
        windows = np.lib.stride_tricks.sliding_window_view(value[:, -(most + len(states)) :], most + 1, axis=1)
        backwards = np.ascontiguousarray(wanted[:, :, ::-1])
        chosen = backwards[:, actions] if len(set(actions.tolist())) > 1 else backwards[:, actions[:1]]
        gain = revenue[:, actions, states] - unit_cost[stage] * units[:, actions, states]
        ahead = gain + np.einsum("bsk,bsk->bs", windows, np.broadcast_to(chosen, windows.shape))
        value[:, -len(states) :] = ahead
    last: Array = value[:, -1]
    return last


def _remembered(make: Callable[[Array | None], Period], level: Array | None) -> Callable[[int], Period]:
    """The markets of each period; made once where all periods are alike, and again only where the level is another."""
    if level is None:
        alike = make(None)
        return lambda stage: alike
    known = lru_cache(maxsize=_KEPT)(lambda own: make(np.frombuffer(own)))
    return lambda stage: known(np.ascontiguousarray(level[:, stage]).tobytes())
