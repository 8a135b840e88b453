"""What a policy does over a season beyond its mean revenue: exact, by carrying probabilities forward.

1. The probability of every state before each period follows from the policy's table and :meth:`Market.transition`. In a
   market without an end, periods count by the probability that the market is still open then.
2. Prices count in every period in which there is something to sell; ``price_deviation`` is the standard deviation of
   the price of one such period taken at random (price dispersion).
3. Robustness is the value of the same table in each market of :meth:`Market.perturbed_markets`, beside the best value
   there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from palaestra.envs.core import Array

if TYPE_CHECKING:
    from palaestra.envs.pricing.market import Market

LOWEST = 0.05  # share of the episodes that count as bad ones
_NEGLIGIBLE = 1e-13  # probability that the market is still open, when the rest is left out


def state_distribution(market: Market[Any], policy: Array) -> Array:
    """Probability of each state before each period and at the end, float64 [stages + 1, states].

    Without an end: the share of each state in all periods, float64 [1, states].

    Args:
        market: any.
        policy: as for :meth:`Market.policy_value`.

    Raises:
        ValueError: if the table is not a policy of this market.
    """
    weights = market.probabilities(policy)
    now = np.zeros(market.num_states)
    now[market.first_state] = 1.0
    if market.discount == 1.0:
        shares = [now]
        for stage in range(market.stages):
            shares.append(market.transition(stage, shares[-1][:, None] * weights[stage]))
        return np.stack(shares)
    total = np.zeros(market.num_states)
    now *= 1.0 - market.discount
    while now.sum() > _NEGLIGIBLE:
        total += now
        now = market.discount * market.transition(0, now[:, None] * weights[0])
    return total[None]


def season_measures(market: Market[Any], policy: Array) -> dict[str, float]:
    """Sold-out seasons, unsold stock (where there is a stock), mean and dispersion of prices."""
    shares = state_distribution(market, policy)
    numbers: dict[str, float] = {}
    if market.units is not None:
        left = market.units.sum(1)
        numbers["sold_out_percent"] = 100.0 * float(shares[-1, left == 0].sum())
        numbers["unsold_units"] = float(shares[-1] @ left)
    weights, prices = market.probabilities(policy), market.prices.reshape(len(market.prices), -1)
    for product in range(prices.shape[1]):
        offered = shares[: market.stages] * (1.0 if market.units is None else market.units[:, product] > 0)
        posted = np.einsum("ts,tsa->a", offered, weights)
        posted /= posted.sum()
        mean = float(posted @ prices[:, product])
        name = "price" if prices.shape[1] == 1 else f"price_{product + 1}"
        numbers[f"{name}_mean"] = mean
        numbers[f"{name}_deviation"] = float(np.sqrt(posted @ (prices[:, product] - mean) ** 2))
    return numbers


def robustness(market: Market[Any], policy: Array) -> dict[str, float]:
    """For each shifted market its optimum, and what the policy earns there as a percentage of it."""
    numbers = {}
    for name, other in market.perturbed_markets().items():
        best = other.optimal_value()
        numbers[f"{name}_optimum"] = best
        numbers[f"{name}_ratio_percent"] = 100.0 * other.policy_value(policy) / best if best > 0.0 else 100.0
    return numbers


def lowest_mean(returns: Array, share: float = LOWEST) -> float:
    """Mean of the lowest returns, of at least one (conditional value at risk)."""
    count = max(1, round(share * len(returns)))
    return float(np.sort(returns)[:count].mean())
