"""Expected earnings of a policy under the rules of a shop, in many drawn markets at once.

1. The policy does not depend on the market, so that the memories (:mod:`palaestra.envs.pricing.rules.price_memory`) it
   can be in at a period are the same in all of them, and few: only these are valued.
2. Backwards, a price and the memory that it leads to are valued once for all units left, whatever was before; the
   memories that one price leads to together, as a product of matrices.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.season_problem import expected_after
from palaestra.envs.pricing.demand.uplift import Period
from palaestra.envs.pricing.rules.ruled_season import RuledSeason


def ruled_values(season: RuledSeason, period: Callable[[int], Period], policy: Array, unit_cost: Array) -> Array:
    """Expected earnings of the season for each of several markets, float64 [B].

    Args:
        season: the shop: deliveries, holding cost and memories.
        period: the markets in a period, 0 … periods − 1, with 0 … C lots.
        policy: actions, int64 [periods, states] of the season; or [periods, C + 1] where nothing is remembered.
        unit_cost: of a sold unit in each period [periods].
    """
    levels, memory = season.stock_levels, season.memory
    table = policy.reshape(len(policy), levels, -1)  # [T, C + 1, M]
    after = np.zeros((1, 1 + int(table.max())), np.int64)
    if table.shape[2] > 1:
        after = memory.place[np.arange(len(season.prices)), memory.next_stays]  # [M, A]
    value: dict[int, Array] = {}  # [B, C + 1] of each memory, of the period behind
    for stage, highest in reversed(list(enumerate(_reached(season, table, after)))):
        markets = period(stage)
        asked = [(place, a) for place, most in highest.items() for a in set(table[stage, : most + 1, place].tolist())]
        known: dict[tuple[int, int], Array] = {}
        for action in {a for _, a in asked}:
            there = sorted({int(after[place, a]) for place, a in asked if a == action})
            values = [value[place] for place in there] if value else [np.zeros((len(markets.wanted), levels))]
            ahead = _ahead(season, stage, markets, action, np.stack(values, 2), unit_cost[stage])
            known |= {(action, place): ahead[:, :, i if value else 0] for i, place in enumerate(there)}
        now = {place: np.zeros((len(markets.wanted), levels)) for place in highest}
        for place, action in asked:
            units = np.flatnonzero(table[stage, : highest[place] + 1, place] == action)
            now[place][:, units] = known[action, int(after[place, action])][:, units]
        value = now
    first: Array = value[0][:, season.stock // season.lot]
    return first


def _reached(season: RuledSeason, table: Array, after: Array) -> list[dict[int, int]]:
    """The memories that the policy can be in before each period, each with the most units that can be left then."""
    found = [{0: season.stock // season.lot}]
    for stage in range(len(table) - 1):
        behind: dict[int, int] = {}
        for place, most in found[-1].items():
            actions = table[stage, : most + 1, place]
            for action in np.unique(actions).tolist():
                units = int(season.delivered(stage)[np.flatnonzero(actions == action)[-1]])
                there = int(after[place, action])
                behind[there] = max(units, behind.get(there, 0))
        found.append(behind)
    return found


def _ahead(season: RuledSeason, stage: int, markets: Period, action: int, value: Array, unit_cost: float) -> Array:
    """Earnings of an action and what comes afterwards, by units left: [B, C + 1, R] from ``value`` [B, C + 1, R]."""
    levels, cost = season.stock_levels, season.rules.holding_cost
    gain: Array = markets.revenue[:, action] - (unit_cost - cost) * markets.units[:, action]
    gain = gain - cost * season.lot * np.arange(levels)
    wanted, value = markets.wanted[:, action], value[:, season.delivered(stage)]
    return expected_after(value, wanted) + gain[:, :, None]
