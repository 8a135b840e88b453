"""Mean stock and revenue over time under the optimal policy: the yardstick of a season while it runs."""

from __future__ import annotations

from typing import NamedTuple

from palaestra.envs.core import Array
from palaestra.envs.pricing.finite_mdp import FiniteMDP

_LIKELY = 0.01  # probability of a state that counts


class ExpectedPath(NamedTuple):
    stock: Array  # float64 [T + 1, products] left before each period, and at the end
    revenue: Array  # float64 [T + 1] earned until then
    prices: tuple[float, float]  # lowest and highest that is posted with some probability


def expected_path(problem: FiniteMDP, prices: Array, units: Array) -> ExpectedPath:
    """Mean stock and mean revenue over time under the optimal policy of a market with a deadline, exact.

    The distribution over states is carried forwards. What is earned until a period is what is expected at the start
    less what is still expected from the states reached by then; after the last period it is V*.

    Args:
        problem: the market.
        prices: of each action, float64 [actions] or [actions, products].
        units: left of each product in each state, int64 [states, products].
    """
    policy, menu = problem.optimal_policy(), prices.reshape(len(prices), -1)
    shares = problem.state_distribution(policy)
    to_come = (shares * problem.solution.value).sum(1)
    likely = (shares[:-1, :, None] >= _LIKELY) & (units > 0)  # [T, states, products]
    posted = menu[policy][likely]
    return ExpectedPath(shares @ units, to_come[0] - to_come, (float(posted.min()), float(posted.max())))
