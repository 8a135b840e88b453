"""What the optimal policy does on average, as paths over time: what a season is measured against while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.metrics import state_distribution

if TYPE_CHECKING:
    from palaestra.envs.pricing.duopoly import DuopolyPricing
    from palaestra.envs.pricing.market import Market

_LIKELY = 0.01  # probability of a state that counts


class ExpectedPath(NamedTuple):
    stock: Array  # float64 [T + 1, products] left before each period, and at the end
    revenue: Array  # float64 [T + 1] earned until then
    prices: tuple[float, float]  # lowest and highest that is posted with some probability


def expected_path(market: Market[Any]) -> ExpectedPath:
    """Mean stock and mean revenue over time under the optimal policy of a market with a deadline, exact.

    The distribution over states is carried forwards. What is earned until a period is what is expected at the start
    less what is still expected from the states reached by then; after the last period it is V*.
    """
    assert market.units is not None
    policy, menu = market.optimal_policy(), market.prices.reshape(len(market.prices), -1)
    shares = state_distribution(market, policy)
    to_come = (shares * market.solution.value).sum(1)
    likely = (shares[:-1, :, None] >= _LIKELY) & (market.units > 0)  # [T, states, products]
    posted = menu[policy][likely]
    return ExpectedPath(shares @ market.units, to_come[0] - to_come, (float(posted.min()), float(posted.max())))


def optimal_profits(market: DuopolyPricing, periods: int) -> Array:
    """What the best policy has earned after 0 … ``periods`` periods, float64: nothing is random there but the end."""
    policy, reward = market.optimal_policy()[0], market.expected_reward(0)
    profits, state = np.zeros(periods + 1), market.first_state
    for period in range(periods):
        profits[period + 1] = profits[period] + reward[state, policy[state]]
        state = int(market.after[state, policy[state]])
    return profits
