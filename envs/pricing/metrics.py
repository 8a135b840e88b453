"""Measures of a pricing policy beyond its mean return, and the mean path of the optimal one: exact, from the
probability of every state.

1. Prices count in every period in which there is something to sell; ``price_deviation`` is the standard deviation of
   the price of one such period taken at random (price dispersion).
2. Robustness is the value of the same table in markets with other customers, beside the best value there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.finite_mdp import FiniteMDP

LOWEST = 0.05  # share of the episodes that count as bad ones
_LIKELY = 0.01  # probability of a state that counts on the mean path


def percent_of(value: float, best: float) -> float:
    """A value relative to the best; where the best is a loss, less by as many percent as the loss is larger."""
    if best < 0.0:
        return 100.0 * (2.0 - value / best)
    return 100.0 * value / best if best > 0.0 else 100.0


def season_measures(problem: FiniteMDP, policy: Array, prices: Array, units: Array | None) -> dict[str, float]:
    """Sold-out seasons, unsold stock (where there is a stock), mean and dispersion of prices.

    Args:
        problem: the market.
        policy: as for :meth:`FiniteMDP.policy_value`.
        prices: of each action, float64 [actions] or [actions, products].
        units: left of each product in each state, int64 [states, products]; None where there is no stock.
    """
    shares = problem.state_distribution(policy)
    numbers: dict[str, float] = {}
    if units is not None:
        left = units.sum(1)
        numbers["sold_out_percent"] = 100.0 * float(shares[-1, left == 0].sum())
        numbers["unsold_units"] = float(shares[-1] @ left)
    table, prices = problem.checked_table(policy), prices.reshape(len(prices), -1)
    for product in range(prices.shape[1]):
        offered = shares[: problem.stages] * (1.0 if units is None else units[:, product] > 0)
        posted = sum((share @ problem.weights(table, stage) for stage, share in enumerate(offered)), np.zeros(()))
        posted = posted / posted.sum()
        mean = float(posted @ prices[:, product])
        name = "price" if prices.shape[1] == 1 else f"price_{product + 1}"
        numbers[f"{name}_mean"] = mean
        numbers[f"{name}_deviation"] = float(np.sqrt(posted @ (prices[:, product] - mean) ** 2))
    return numbers


def robustness(perturbed: Mapping[str, FiniteMDP], policy: Array) -> dict[str, float]:
    """For each perturbed market its optimum, and the policy's value there as a percentage of it."""
    numbers = {}
    for name, other in perturbed.items():
        best = other.optimal_value()
        numbers[f"{name}_optimum"] = best
        numbers[f"{name}_ratio_percent"] = percent_of(other.policy_value(policy), best)
    return numbers


def lowest_mean(returns: Array) -> float:
    """Mean of the lowest returns, of at least one (conditional value at risk)."""
    count = max(1, round(LOWEST * len(returns)))
    return float(np.sort(returns)[:count].mean())


class ExpectedPath(NamedTuple):
    stock: Array  # float64 [T + 1, products] left before each period, and at the end
    revenue: Array  # float64 [T + 1] earned until then
    prices: tuple[float, float]  # lowest and highest that is posted with some probability


def expected_path(problem: FiniteMDP, prices: Array, units: Array, memories: int = 1) -> ExpectedPath:
    """Mean stock and mean revenue over time under the optimal policy of a market with a deadline, exact.

    The distribution over states is carried forwards. What is earned until a period is what is expected at the start
    less what is still expected from the states reached by then; after the last period it is V*.

    Args:
        problem: the market.
        prices: of each action, float64 [actions] or [actions, products].
        units: left of each product in each state, int64 [states, products].
        memories: number of states with the same units, one behind the other.
    """
    policy, menu = problem.optimal_policy(), prices.reshape(len(prices), -1)
    shares = problem.state_distribution(policy)
    to_come = (shares * problem.solution.value).sum(1)
    alike = shares[:-1].reshape(len(policy), -1, memories).sum(2).repeat(memories, 1)  # of the same units
    likely = (alike[:, :, None] >= _LIKELY) & (shares[:-1, :, None] > 0.0) & (units > 0)  # [T, states, products]
    posted = menu[policy][likely]
    return ExpectedPath(shares @ units, to_come[0] - to_come, (float(posted.min()), float(posted.max())))
