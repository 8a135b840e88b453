"""What was charged and paid when, and what that says of a season's unit costs and of charging the same prices again.

1. A product has a price and a unit cost from each date on at which one of them changed. Between two dates they stay;
   before the first they are those of the first. Several stores on one date have their mean.
2. A season inside of the dates of the data has the costs of its dates. Behind them the cost is the last one where
   neighbouring dates have similar costs (their correlation is above 1/2: the last one then is closer to the next than
   the mean is), and else the mean.
3. The prices of a season behind the data are those that were charged 52 weeks before (or a multiple of that); where
   the data are shorter, as many whole weeks before as they have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from palaestra.envs.core import Array

_WEEK, _YEAR = 7, 364  # days
_LASTING = 0.5
_CHARGED_POINTS = 100  # points of the distribution of prices that were charged


@dataclass(frozen=True)
class History:
    """Prices and unit costs from dates on."""

    days: Array  # int64 [n] ordinals, ascending
    prices: Array  # float64 [n]
    costs: Array  # float64 [n]

    def at(self, days: Array) -> tuple[Array, Array]:
        """Price and unit cost on some dates, float64 [T] each."""
        place = np.maximum(np.searchsorted(self.days, days, "right") - 1, 0)
        return self.prices[place], self.costs[place]


def history_of(columns: Mapping[str, Array]) -> History:
    """The history behind rows of one product with the columns ``day``, ``price`` and perhaps ``unit_cost``."""
    days, row = np.unique(columns["day"].astype(np.int64), return_inverse=True)
    prices, costs = _by_date(columns, "price", row), _by_date(columns, "unit_cost", row)
    changed = np.ones(len(days), bool)
    changed[1:] = (np.diff(prices) != 0.0) | (np.diff(costs) != 0.0)
    return History(days[changed], prices[changed], costs[changed])


def _by_date(columns: Mapping[str, Array], name: str, row: Array) -> Array:
    """The mean of a column on each date, float64 [dates]; 0 where there is no such column."""
    count = np.bincount(row)
    if name not in columns:
        return np.zeros(len(count))
    column = columns[name]
    mean: Array = np.bincount(row, column) / count
    return np.clip(mean, column.min(), column.max())  # a column that never varies stays as it is, to the last bit


def charged_prices(price: Array) -> tuple[Array, Array]:
    """The distribution of prices that were charged: at most 100 of them, ascending, and how often, float64 [M] each."""
    points, counts = np.unique(price, return_counts=True)
    if len(points) > _CHARGED_POINTS:
        quantiles = np.quantile(price, (np.arange(_CHARGED_POINTS) + 0.5) / _CHARGED_POINTS)
        points, counts = np.unique(quantiles, return_counts=True)
    return points, counts / counts.sum()


def coming_cost(columns: Mapping[str, Array]) -> tuple[float, str | None]:
    """The unit cost behind the data, and a note where it has changed; 0 where there is none.

    Args:
        columns: of the rows of one product: ``unit_cost`` and, where there is an order of time, ``day`` or ``date``.
    """
    if "unit_cost" not in columns:
        return 0.0, None
    time = columns.get("day", columns.get("date", np.zeros(1)))
    _, row = np.unique(np.broadcast_to(time, len(columns["unit_cost"])), return_inverse=True)
    costs = _by_date(columns, "unit_cost", row)
    mean, last = float(np.clip(costs.mean(), costs.min(), costs.max())), float(costs[-1])
    if np.ptp(columns["unit_cost"]) == 0.0:
        return mean, None
    away = costs - mean
    lasting = bool((away[1:] * away[:-1]).sum() > _LASTING * (away**2).sum())
    cost, which = (last, "the last one") if lasting else (mean, "their mean")
    low, high = columns["unit_cost"].min(), columns["unit_cost"].max()
    dated = "those of its dates, and behind the data " if "day" in columns else ""
    return cost, (
        f"unit_cost was {low:.4g} to {high:.4g}: a season has {dated}{which}, {cost:.4g} "
        "(env.unit_cost sets a number, or a list of one per period)"
    )


def days_charged_again(days: Array, first: int, last: int) -> Array:
    """For each period of a season the date of the data whose price it has, int64 [T].

    Args:
        days: ordinals of the periods, [T].
        first: date of the data.
        last: date of the data.
    """
    back = _YEAR if last - first + 1 >= _YEAR else max(_WEEK, (last - first + 1) // _WEEK * _WEEK)
    again: Array = days - back * np.maximum(0, -((last - days) // back))
    return again
