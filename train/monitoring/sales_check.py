"""Sales of a pricing policy in use beside those that its market predicts, and whether to fit demand anew.

1. In period t with n units left the market sells min(W, n) units at a price, W with the distribution that the policy
   was trained for. Sums of sales less their means have the sum of the variances, however the prices were chosen.
2. By price, the sum of squared deviations over their variances is chi-squared with one degree of freedom for each
   price; prices whose variance is below :data:`_LEAST` units² are joined with the next ones.
3. Demand should be fitted anew if that is less likely than :data:`~palaestra.train.monitoring.drift.LEVEL`, and the
   deviations are beyond a share of the predicted sales: the root of their mean square, weighted by predicted sales,
   without what chance adds to it.

What was sold is told by the log (``sold``), or by the reward, which is a margin for each unit, or by two observations
of an episode in a row, if they have the units left and none are delivered in between. The sale that ends a season has
no observation after it: without ``end`` such sales would be missing, and the others be too few, so that nothing is
judged.
"""

from __future__ import annotations

import math
from array import array
from datetime import date
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from palaestra.envs.core.reference import Array
from palaestra.train.export.observation_reader import elements_of
from palaestra.train.monitoring.drift import LEVEL, chi_squared_tail
from palaestra.train.monitoring.log_entries import Detail, LogEntry

if TYPE_CHECKING:
    from palaestra.envs.pricing.season import Season

MOST_ROWS = 1_000_000  # of a file of sales
_LEAST = 5.0
_WHOLE = 1e-3  # how near to a whole number a reward's units are
_Z = 1.959964  # of a two-sided interval of 95 %
_KINDS = ("periods_left", "units_left")  # names of numbers of an observation


class Asked(NamedTuple):
    """A price that was asked."""

    day: date
    period: int  # from 0 on
    stock: int
    action: int


class PriceSales(NamedTuple):
    """Sales at one price."""

    price: float
    asked: int
    sold: int
    predicted: float
    low: float  # of the interval of sales, where the prediction is right
    high: float


class SalesVerdict(NamedTuple):
    """All prices together."""

    sold: int
    predicted: float
    low: float  # of the interval of sold / predicted
    high: float
    deviation: float  # share of the predicted sales
    chance: float
    refit: bool


class SalesCheck:
    """Collects sales, for the periods and prices of a market."""

    def __init__(self, market: Season, contract: dict[str, Any], product: str) -> None:
        """
        Args:
            market: that the policy was trained for.
            contract: of the policy, whose first input names periods and units left.
            product: for the file of sales.
        """
        self.market, self.product = market, product
        self._input = contract["inputs"][0]["name"]
        elements = elements_of(contract["inputs"][0])
        self._places = [[e.name for e in elements].index(name) for name in _KINDS]
        self._elements = [elements[place] for place in self._places]
        count = len(market.prices)
        self.asked_for, self.units = np.zeros(count, np.int64), np.zeros(count, np.int64)
        self.mean, self.variance = np.zeros(count), np.zeros(count)
        self.unlike = 0  # prices and stocks that the market does not know
        self.by_stock = 0  # sales that only the units left tell
        self._rewards_are_sales = not contract["environment"].get("settings", {}).get("holding_cost")
        self._rows = [array("q") for _ in range(4)]  # day, action, stock, units
        self._periods = array("q")
        self.rows_left_out = 0
        self._known: dict[tuple[int, int, int], tuple[float, float]] = {}

    @staticmethod
    def fits(market: Any, contract: dict[str, Any]) -> bool:
        """True for a season whose observations tell period and stock."""
        from palaestra.envs.pricing.season import Season

        names = {element.name for element in elements_of(contract["inputs"][0])}
        return isinstance(market, Season) and {*_KINDS} <= names

    def asked(self, day: date, entry: LogEntry, row: int) -> Asked | None:
        assert entry.feed is not None
        if entry.action is None:
            return None
        numbers = entry.feed[self._input][row].ravel()
        values = [e.quantity(float(numbers[p])) for e, p in zip(self._elements, self._places, strict=True)]
        if not all(math.isfinite(value) and abs(value) < 2**53 for value in values):
            self.unlike += 1
            return None
        left, stock = (round(value) for value in values)
        period, action = self.market.stages - left, int(entry.action[row])
        most = int(self.market.units.max())
        if not (0 <= period < self.market.stages and 0 <= stock <= most and 0 <= action < len(self.units)):
            self.unlike += 1
            return None
        return Asked(day, period, stock, action)

    def told(self, asked: Asked, detail: Detail) -> bool:
        units = detail.sold
        if units is None and detail.reward is not None and self._rewards_are_sales:
            margin = float(self.market.margins[asked.period, asked.action])
            exact = detail.reward / margin if margin > 0.0 else math.nan
            if abs(exact) <= asked.stock + 0.5 and abs(exact - round(exact)) < _WHOLE:
                units = round(exact)
        if units is None or not 0 <= units <= asked.stock:
            return False
        self.sold(asked, units)
        return True

    def followed(self, before: Asked, now: Asked) -> None:
        if now.period == before.period + 1 and now.stock <= before.stock and not self.market.deliveries:
            self.by_stock += 1
            self.sold(before, before.stock - now.stock)

    def ended(self, asked: Asked) -> None:
        """A season that is over before its last period is sold out; of the last period nothing is known."""
        if asked.period < self.market.stages - 1 and not self.market.deliveries:
            self.by_stock += 1
            self.sold(asked, asked.stock)

    def sold(self, asked: Asked, units: int) -> None:
        mean, variance = self._predicted(asked)
        self.asked_for[asked.action] += 1
        self.units[asked.action] += units
        self.mean[asked.action] += mean
        self.variance[asked.action] += variance
        if len(self._periods) == MOST_ROWS:
            self.rows_left_out += 1
            return
        for column, value in zip(self._rows, (asked.day.toordinal(), asked.action, asked.stock, units), strict=True):
            column.append(value)
        self._periods.append(asked.period)

    def _predicted(self, asked: Asked) -> tuple[float, float]:
        """Mean and variance of the units that are sold."""
        key = asked.period, asked.action, asked.stock
        if key not in self._known:
            chances, lot = self.market.wanted[asked.period, asked.action], self.market.lot
            sold = np.minimum(lot * np.arange(len(chances)), asked.stock)
            mean = float(chances @ sold)
            self._known[key] = mean, max(0.0, float(chances @ sold**2) - mean * mean)
        return self._known[key]

    def by_price(self) -> list[PriceSales]:
        """The prices that were asked, ascending."""
        found = []
        for i in np.flatnonzero(self.asked_for).tolist():
            mean, half = float(self.mean[i]), _Z * math.sqrt(self.variance[i])
            price, sold = float(self.market.prices[i]), int(self.units[i])
            found.append(PriceSales(price, int(self.asked_for[i]), sold, mean, max(0.0, mean - half), mean + half))
        return found

    def verdict(self, limit: float) -> SalesVerdict | None:
        """None before any sale could have been predicted."""
        predicted, variance = float(self.mean.sum()), float(self.variance.sum())
        if not self.asked_for.any() or predicted <= 0.0:
            return None
        groups = _joined(self.variance)
        sold, mean, spread = (np.bincount(groups, of) for of in (self.units, self.mean, self.variance))
        well = spread >= _LEAST
        squares = (sold - mean) ** 2
        count = int(well.sum())
        chance = chi_squared_tail(float((squares[well] / spread[well]).sum()), count) if count else 1.0
        weighted = (squares - spread)[well] / mean[well]
        deviation = math.sqrt(max(0.0, float(weighted.sum()) / float(mean[well].sum()))) if count else 0.0
        half, total = _Z * math.sqrt(variance) / predicted, int(self.units.sum())
        ratio = total / predicted
        refit = deviation > limit and chance < LEVEL
        return SalesVerdict(total, predicted, max(0.0, ratio - half), ratio + half, deviation, chance, refit)

    def table(self) -> tuple[list[str], list[list[Any]]]:
        """Heads and rows for ``palaestra fit-demand``: a row for each price that was asked.

        Where a day has several prices, its rows are numbered instead, or the fit would know of their mean alone.
        """
        days, actions, stocks, units = (np.frombuffer(column, np.int64) for column in self._rows)
        periods = np.frombuffer(self._periods, np.int64)
        costly = bool(self.market.unit_cost.any())
        heads = ["date", "product", "price", "units", "stock", *(["unit_cost"] if costly else [])]
        dated = len(np.unique(days)) == len(days)
        rows = []
        for i in range(len(days)):
            when = date.fromordinal(int(days[i])).isoformat() if dated else f"sale {i + 1}"
            row = [when, self.product, float(self.market.prices[actions[i]]), int(units[i]), int(stocks[i])]
            rows.append(row + ([float(self.market.unit_cost[periods[i]])] if costly else []))
        return heads, rows


def _joined(variance: Array) -> Array:
    """The group of each price, int64 [A]: prices are joined from the lowest on until their variance suffices."""
    groups, group, filled = np.zeros(len(variance), np.int64), 0, 0.0
    for i, one in enumerate(variance):
        groups[i], filled = group, filled + float(one)
        if filled >= _LEAST and variance[i + 1 :].sum() >= _LEAST:
            group, filled = group + 1, 0.0
    return groups
