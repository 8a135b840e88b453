"""A seller's prices at every moment of its market, for the contract of :mod:`palaestra.train.export.price_table`.

They are the agent's own answers to all states of the market, as ``palaestra prices`` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.core.batched_env import BatchedEnv
from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.train.evaluation.policies import Policy, on_states
from palaestra.train.export.price_table import MOST_MOMENTS

_MOST_STATES = 2**20  # that the agent is asked about


def priced_moments(policy: Policy, env: BatchedEnv) -> dict[str, Any] | None:
    """The list for a contract; None where a moment of the environment has no words.

    Args:
        policy: a deterministic one.
        env: the environment that it acts in; wrapped, or with a season that is cut, it has no list.
    """
    from palaestra.envs.pricing import DuopolyPricing, Season, TwoProducts
    from palaestra.envs.pricing.price_list import decimals_of

    market = env.env if isinstance(env, TensorVectorEnv) else None
    if isinstance(market, DuopolyPricing):
        asks, arranged, told = _rivals(market)
    elif isinstance(market, TwoProducts):
        asks, arranged, told = _two_stocks(market)
    elif isinstance(market, Season):
        asks, arranged, told = _season(market)
    else:
        return None
    if told is not None and env.max_episode_steps is not None and env.max_episode_steps < told:
        return None
    digits = decimals_of(market.prices) or None  # whole prices as whole numbers
    prices = market.prices.reshape(market.num_actions, -1).tolist()
    answers = ["price"] if len(prices[0]) == 1 else ["price_first", "price_second"]
    listed: dict[str, Any] = {"asks": asks, "answers": answers}
    listed["menu"] = [[round(price, digits) for price in row] for row in prices]
    moments = int(np.prod([ask["count"] if "count" in ask else len(ask["values"]) for ask in asks]))
    if moments > MOST_MOMENTS or market.stages * market.num_states > _MOST_STATES:
        return {**listed, "actions": None}
    actions = arranged(market.tabulate(on_states(policy, market)))
    plain = actions.astype(object)
    plain[actions < 0] = None
    return {**listed, "actions": plain.tolist()}


_Arranged = tuple[list[dict[str, Any]], Callable[[Array], Array], int | None]  # and periods, where they are asked


def _counted(name: str, unit: str, least: int, count: int, step: int = 1) -> dict[str, Any]:
    return {"name": name, "unit": unit, "least": least, "step": step, "count": count}


def _rivals(market: Any) -> _Arranged:
    prices = market.prices.tolist()
    asks = [{"name": f"{whose}_last_price", "unit": "", "values": prices} for whose in ("own", "rival")]
    return asks, lambda table: table.reshape(len(prices), len(prices)), None


def _two_stocks(market: Any) -> _Arranged:
    rows, columns = (stock + 1 for stock in market.stock)
    asks = [_counted("period", market.time_unit, 1, market.stages)]
    asks += [_counted("stock_first", "unit", 0, rows), _counted("stock_second", "unit", 0, columns)]

    def arranged(table: Array) -> Array:
        found = table.reshape(market.stages, rows, columns).copy()
        found[:, 0, 0] = -1  # the season is over
        return found

    return asks, arranged, market.stages


def _season(market: Any) -> _Arranged:
    """By period and units left, and by the last price where the rules of a shop look back."""
    capacity = int(market.units.max()) // market.lot
    remembers = market.memories > 1
    fewest = 0 if remembers and market.deliveries else 1  # as palaestra prices counts
    asks = [_counted("period", market.time_unit, 1, market.stages)]
    asks.append(_counted("stock", "unit", fewest, capacity + 1 - fewest, market.lot))
    if remembers:
        last = market.prices.tolist()
        asks.append({"name": "last_price", "unit": market.currency, "values": [None, *last]})
    most = np.full(market.stages, market.stock)
    for period, units in market.deliveries.items():
        most[period - 1 :] += units
    lots = np.arange(fewest, capacity + 1)
    beyond = lots > (most // market.lot)[:, None]  # [T, C]

    def arranged(table: Array) -> Array:
        found = table.reshape(market.stages, capacity + 1, market.memories)[:, fewest:]
        found = _by_last_price(market, found) if remembers else found[:, :, 0].copy()
        found[beyond] = -1
        return found

    return asks, arranged, market.stages


def _by_last_price(market: Any, table: Array) -> Array:
    """Actions [T, C, 1 + A] from [T, C, M]: without a last price in the first period alone, and else with one.

    A price that must stay is taken as having come as early as it can.
    """
    memory = market.memory
    reachable = memory.reachable(market.stages)[:, memory.place]  # [T, A, hold]
    earliest = np.where(reachable.any(2), reachable.argmax(2), 0)  # [T, A]
    place = np.take_along_axis(memory.place[None], earliest[..., None], 2)[..., 0]  # [T, A]
    after: Array = np.take_along_axis(table, place[:, None, :], 2)
    found = np.concatenate((table[:, :, :1], after), 2)
    found[0, :, 1:] = found[1:, :, 0] = -1
    return found
