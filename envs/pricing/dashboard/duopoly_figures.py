"""An agent's prices against its rival, beside the Nash and the monopoly price, in the report of a run.

Only the end of an episode is random, so that the prices of a policy follow one path. A period counts by the probability
that the market is still open then.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.core.reference import LineFigure, MapFigure, ReportFigure, RowFigure

PERIODS = 40  # that are shown; few markets are open longer


def duopoly_figures(market: Any, table: Array) -> list[ReportFigure]:
    """Prices period by period, the profit, and the maps of the policy.

    Args:
        market: a ``DuopolyPricing``, whose module imports this one.
        table: the agent's actions, int64 [1, states].
    """
    best = market.optimal_policy()
    return [_path(market, table, best), _profits(market, table, best), _maps(market, table, best)]


def _path(market: Any, table: Array, best: Array) -> LineFigure:
    """Own prices of both policies, and the rival's against the agent."""
    (own, rival), (best_own, _) = (price_path(market, policy, PERIODS) for policy in (table, best))
    curves = {"agent": own, "rival": rival, "best known": best_own}
    levels = [("Nash price", market.nash_price), ("monopoly price", market.monopoly_price)]
    note = f"The rival plays {market.rule}; of both firms the price before the first period is the Nash price."
    periods = [float(number) for number in range(1, PERIODS + 1)]
    return LineFigure("Prices period by period", "period", "price", periods, curves, levels=levels, note=note)


def price_path(market: Any, policy: Array, periods: int) -> tuple[list[float], list[float]]:
    """What a policy and its rival post in each period."""
    state, own, rival = market.first_state, [], []
    for _ in range(periods):
        action = int(policy[0, state])
        state = int(market.after[state, action])
        own.append(float(market.prices[action]))
        rival.append(float(market.prices[state % len(market.prices)]))
    return own, rival


def _profits(market: Any, table: Array, best: Array) -> RowFigure:
    """The mean profit of a period, where a period counts by the probability that it comes."""
    values = {
        name: (1.0 - market.discount) * market.policy_value(policy)
        for name, policy in (("this agent", table), ("best known", best))
    }
    known = {"both at the Nash price": market.nash_profit, "both at the monopoly price": market.monopoly_profit}
    share = (values["this agent"] - market.nash_profit) / (market.monopoly_profit - market.nash_profit)
    note = f"The agent earns {100 * share:.0f} % of what lies between the profit at Nash and at monopoly prices."
    told = {name: float(f"{value:.4g}") for name, value in {**values, **known}.items()}
    return RowFigure("Profit", "profit of a period", told, list(told)[1:], note=note)


def _maps(market: Any, table: Array, best: Array) -> MapFigure:
    """The next price by the last prices of both, that of the rival upwards."""
    size = len(market.prices)
    maps = {
        name: market.prices[policy[0]].reshape(size, size).T.tolist()
        for name, policy in (("agent", table), ("best known", best))
    }
    share = market.state_distribution(table)[0]
    apart = float(share @ np.abs(market.prices[table[0]] - market.prices[best[0]]))
    first, step = float(market.prices[0]), float(market.prices[1] - market.prices[0])
    return MapFigure(
        "Next price",
        "own last price",
        "rival's last price",
        "price",
        maps,
        (first, first),
        (step, step),
        f"In the states that the agent comes to, its prices are {apart:.3g} away from the best known ones on average.",
    )
