"""The uplift: earnings of a policy over simple prices in an estimated market, with an interval.

1. Compared are the expected earnings of a season: of the policy, of one fixed price, and of the prices that were
   charged, that is of drawing each period's price from their distribution.
2. Policy and fixed price stay as they were found with the estimated coefficients. The market is drawn again 200 times,
   its coefficients from the normal distribution of the estimates (parametric bootstrap, the same draws for all three),
   and each draw gives an uplift; its 2.5 and 97.5 % points are the interval.
3. The interval knows the uncertainty of the coefficients. It does not know whether the model is right.

All values are exact for each drawn market, by backward induction for all draws at once.
"""

from __future__ import annotations

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.model import Demand

DRAWS = 200


def uplift(demand: Demand, name: str, menu: Array, stock: int, policy: Array, fixed: int) -> dict[str, float]:
    """The uplift in percent over both, with 95 % intervals, and what the charged prices earn.

    Args:
        demand: the estimated market.
        name: of the product.
        menu: prices [A].
        stock: units at the start.
        policy: actions, int64 [periods, stock + 1].
        fixed: the action of the fixed price.

    Returns:
        ``charged_mean``; and for X = ``fixed`` and ``charged`` ``uplift_over_X_percent`` with ``…_low`` and ``…_high``,
        left out where the simple prices do not earn anything.
    """
    product = demand.products[name]
    markets = np.vstack((product.estimate.coefficients, demand.draws(name, DRAWS)))
    wanted = demand.wanted(name, menu, stock, markets)  # [1 + DRAWS, A, K + 1], the estimate itself first
    gain = _gain(wanted, menu - product.unit_cost, stock)
    before = demand.wanted(name, product.prices, stock, markets)  # [1 + DRAWS, M, K + 1]
    before_gain = _gain(before, product.prices - product.unit_cost, stock)
    always = np.zeros_like(policy)
    earned = season_values(wanted, gain, policy)
    mixed = np.einsum("m,bmk->bk", product.shares, before)[:, None], np.einsum("m,bms->bs", product.shares, before_gain)
    simple = {
        "fixed": season_values(wanted[:, [fixed]], gain[:, [fixed]], always),
        "charged": season_values(mixed[0], mixed[1][:, None], always),
    }
    result = {"charged_mean": float(simple["charged"][0])}
    for what, value in simple.items():
        if (value > 0.0).all():
            percent = 100.0 * (earned / value - 1.0)
            low, high = np.percentile(percent[1:], [2.5, 97.5])
            key = f"uplift_over_{what}_percent"
            result |= {key: float(percent[0]), f"{key}_low": float(low), f"{key}_high": float(high)}
    return result


def season_values(wanted: Array, gain: Array, policy: Array) -> Array:
    """Expected earnings of a season for each of several markets, float64 [B].

    Args:
        wanted: probabilities of 0 … K wanted units in a period, [B, A, K + 1].
        gain: expected earnings of a period with 0 … C units, [B, A, C + 1].
        policy: actions, int64 [periods, C + 1].
    """
    most, states = wanted.shape[2] - 1, np.arange(policy.shape[1])
    backwards = np.ascontiguousarray(wanted[:, :, ::-1])
    value = np.zeros((len(wanted), most + len(states)))  # V(c) at most + c; sold out below
    for actions in policy[::-1]:
        windows = np.lib.stride_tricks.sliding_window_view(value, most + 1, axis=1)  # [B, C + 1, K + 1]
        chosen = backwards[:, actions] if len(set(actions.tolist())) > 1 else backwards[:, actions[:1]]
        ahead = gain[:, actions, states] + np.einsum("bsk,bsk->bs", windows, np.broadcast_to(chosen, windows.shape))
        value[:, most:] = ahead
    last: Array = value[:, -1]
    return last


def _gain(wanted: Array, margin: Array, stock: int) -> Array:
    """Expected earnings of a period, [B, A, C + 1], with ``margin`` [A]."""
    sold = np.minimum(np.arange(wanted.shape[2])[:, None], np.arange(stock + 1))  # [K + 1, C + 1]
    gain: Array = (wanted @ sold) * margin[:, None]
    return gain
