"""A market whose demand was estimated from sales: the contents of ``demand.json``, and its answers for a price.

1. ``counts``: each product by itself. Units per period have a mean that falls with the price along one of four curves
   (:mod:`palaestra.envs.pricing.demand.counts.demand_curves`), times exp(constant), the effects of the period
   (:mod:`palaestra.envs.pricing.demand.effects`) and the mean number of visitors. They are Poisson or, with
   ``log_dispersion``, negative binomial.
2. ``logit``: buyers choose between the products by a conditional logit with utilities
   constant:NAME + price · p + feature · f + display · d + … of further attributes; those who may also leave have an
   outside option with the utility 0. Units of a product per period are Poisson(buyers × share). Prices of the other
   products, and features, displays and attributes of all, stay at their means.
3. Prices that were charged are kept as a distribution; charging them again means to draw each period's price from it.
   Where there are dates, prices and unit costs are kept with them (:mod:`palaestra.envs.pricing.demand.history`).
4. Uncertainty: the estimates are taken as normal with their covariance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Literal

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.count_distributions import lots, negative_binomial, poisson
from palaestra.envs.pricing.demand.counts.demand_curves import (
    CONSTANT,
    PARAMETERS,
    PRICE,
    felt_prices,
    log_curve,
    slope_at,
)
from palaestra.envs.pricing.demand.effects import MONTH, TREND, WEEKDAY, Calendar, log_level, spread_over_stores
from palaestra.envs.pricing.demand.estimation import LOG_DISPERSION, Estimate
from palaestra.envs.pricing.demand.history import History, days_charged_again

VISITORS, FEATURE, DISPLAY = "visitors", "feature", "display"
_LONGEST, _MOST_UNITS, _SCARCITY = 100, 300, 0.75  # default season: periods and units at most, stock over demand
_SHORTEST = 30  # periods, with lots
_ROUND_NUMBERS: list[int] = [digit * 10**power for power in range(10) for digit in (1, 2, 5)]
_MENU = 30  # most prices of a default menu
_LEAST_MEAN, _LARGEST_MEAN = 1e-9, 1e9  # units per period, where draws of very uncertain coefficients are cut
_LARGEST_LOG_DISPERSION = 20.0


class DemandError(ValueError):
    """An estimated demand, or what is asked of it, makes no sense; the message says why."""


@dataclass(frozen=True)
class Product:
    """One product: observed prices and sales, and the estimate of its demand."""

    price_range: tuple[float, float]  # lowest and highest observed price
    prices: Array  # [M] ascending, the distribution of the prices that were charged …
    shares: Array  # [M] … and how often
    means: Mapping[str, float]  # of columns: price, visitors if given, regressors; shares of weekdays and months
    unit_cost: float  # of a sold unit, behind the data
    units_sold: int
    sold_out: int  # rows where the sales equalled the stock, so that demand may have been larger
    estimate: Estimate  # the product's own demand, or the choice between all
    curve: str = "exponential"
    flags: frozenset[str] = frozenset()  # regressors that are 0 or 1
    lot: int = 1  # units that a season counts as one where many are sold
    history: History | None = None  # of counts, where dates are calendar dates

    def effects(self, coefficients: Array) -> tuple[dict[str, Array], dict[str, Array]]:
        """Coefficients [..., K] by name: those of constant, curve and dispersion, and those of the period's effects."""
        value = dict(zip(self.estimate.names, np.moveaxis(coefficients, -1, 0), strict=True))
        own = {name: value.pop(name) for name in (CONSTANT, *PARAMETERS[self.curve], LOG_DISPERSION) if name in value}
        return own, value

    def slope(self, price: float | None = None) -> tuple[float, float]:
        """d log demand / d price at a price, the mean one unless given, and its standard error."""
        estimate, reference = self.estimate, self.means[PRICE]
        value = dict(zip(estimate.names, estimate.coefficients.tolist(), strict=True))
        slope, by = slope_at(self.curve, value, reference if price is None else price, reference)
        gradient = np.array([by.get(name, 0.0) for name in estimate.names])
        return slope, float(np.sqrt(gradient @ estimate.covariance @ gradient))


@dataclass(frozen=True)
class Demand:
    """An estimated market; see the module for its kinds."""

    kind: Literal["counts", "logit"]
    products: Mapping[str, Product]
    periods: int | None  # different dates in the data
    buyers: float | None  # per period, logit only
    outside: bool  # logit only: True if buyers may take nothing
    file: str
    rows: int
    calendar: Calendar | None = None  # of counts, where dates are calendar dates

    def find(self, product: object = None) -> str:
        """The name of a product; the only one needs none.

        Raises:
            DemandError: if there is no such product, or several and none is named.
        """
        names = list(self.products)
        if product is None and len(names) == 1:
            return names[0]
        if product is None:
            raise DemandError(f"the demand has several products: choose one with product: {_some(names)}")
        if str(product) in names:
            return str(product)
        if isinstance(product, int | float):  # a settings file makes numbers of names like 007
            same = [name for name in names if _is_number(name, product)]
            if len(same) == 1:
                return same[0]
        raise DemandError(f"the demand has no product {product!r}; it has {_some(names)}")

    def mean_units(self, name: str, prices: Array, coefficients: Array, level: Any = None) -> Array:
        """Units per period that customers want of a product on average, float64 [..., P].

        Args:
            name: of the product.
            prices: [P].
            coefficients: float64 [..., K], in the order of the product's estimate.
            level: the effects of a period, [...]; the average ones unless given.
        """
        product = self.products[name]
        if self.kind == "counts":
            value, effects = product.effects(coefficients)
            level = log_level(effects, product.means, product.flags, self.calendar) if level is None else level
            own = value[CONSTANT] + level + np.log(product.means.get(VISITORS, 1.0))
            mean: Array = np.exp(own[..., None] + log_curve(product.curve, value, prices, product.means[PRICE]))
            return mean
        value = dict(zip(product.estimate.names, np.moveaxis(coefficients, -1, 0), strict=True))
        assert self.buyers is not None
        rest = {other: self._utility(other, value) for other in self.products}
        own = rest.pop(name)[..., None] + value[PRICE][..., None] * (prices - product.means[PRICE])
        against = [np.broadcast_to(utility[..., None] - own, own.shape) for utility in rest.values()]
        against += [-own] if self.outside else []
        with np.errstate(over="ignore"):
            share: Array = 1.0 / (1.0 + sum(np.exp(difference) for difference in against))
        return self.buyers * share

    def _utility(self, name: str, value: Mapping[str, Array]) -> Array:
        """Utility of a product at its means, [...]."""
        means = self.products[name].means
        slopes = [
            own * means.get(column, 0.0) for column, own in value.items() if not column.startswith(f"{CONSTANT}:")
        ]
        utility: Array = value.get(f"{CONSTANT}:{name}", 0.0) + sum(slopes[1:], slopes[0])
        return utility

    def wanted(
        self,
        name: str,
        prices: Array,
        most: int,
        coefficients: Array | None = None,
        *,
        factor: float = 1.0,
        sensitivity: float = 1.0,
        level: Any = None,
        lot: int = 1,
    ) -> Array:
        """Probabilities of 0 … ``most`` wanted lots of so many units in a period, float64 [..., P, lots + 1].

        The mean is ``factor`` times :meth:`mean_units` with ``level``. Its price coefficient is ``sensitivity`` times
        as large, with the same demand at the mean price.
        """
        product = self.products[name]
        coefficients = product.estimate.coefficients if coefficients is None else coefficients
        if sensitivity != 1.0:
            prices = felt_prices(product.curve, prices, product.means[PRICE], sensitivity)
        mean = factor * self.mean_units(name, prices, coefficients, level)
        mean = np.clip(mean, _LEAST_MEAN, _LARGEST_MEAN)
        if LOG_DISPERSION not in product.estimate.names:
            return poisson(mean, most) if lot == 1 else lots(mean, 0.0, most, lot)
        value, effects = product.effects(coefficients)
        dispersion = np.exp(np.clip(value[LOG_DISPERSION], -_LARGEST_LOG_DISPERSION, _LARGEST_LOG_DISPERSION))
        dispersion = (dispersion * spread_over_stores(effects))[..., None]
        return negative_binomial(mean, dispersion, most) if lot == 1 else lots(mean, dispersion, most, lot)

    def levels(
        self, name: str, periods: int, start: date | None = None, plan: Mapping[str, Array] | None = None
    ) -> Callable[[Array], Array] | None:
        """The effects of each period of a season, as a function of coefficients [..., K] to float64 [..., T].

        Returns:
            None where all periods are alike and average: there is neither a plan nor an effect of the calendar.

        Raises:
            DemandError: if a plan or start is given that the demand does not know.
        """
        if self.kind == "logit":
            if start is not None or plan:
                raise DemandError("start and plan are for sales per period; this demand was estimated from choices")
            return None
        product = self.products[name]
        _, effects = product.effects(product.estimate.coefficients)
        known = {effect for effect in effects if ":" not in effect and effect != TREND}
        if unknown := set(plan or {}) - known:
            those = f"it has {', '.join(sorted(known))}" if known else "it has none"
            raise DemandError(f"the demand of {name} has no regressor {sorted(unknown)[0]!r}; {those}")
        if start is not None and self.calendar is None:
            raise DemandError("start needs sales with calendar dates")
        prefixes = (f"{WEEKDAY}:", f"{MONTH}:") if self.calendar and self.calendar.repeats else (f"{WEEKDAY}:",)
        dated = any(effect.startswith(prefixes) or effect == TREND for effect in effects)
        if not dated and not plan:
            return None
        days = self.calendar.season(start, periods) if self.calendar is not None else None

        def log_levels(coefficients: Array) -> Array:
            _, effects = product.effects(coefficients)
            return log_level(effects, product.means, product.flags, self.calendar, days, plan)

        return log_levels

    def season_wanted(
        self,
        name: str,
        prices: Array,
        most: int,
        periods: int,
        levels: Callable[[Array], Array] | None = None,
        *,
        factor: float = 1.0,
        sensitivity: float = 1.0,
        lot: int = 1,
    ) -> Array:
        """:meth:`wanted` in each period of a season with :meth:`levels`, float64 [T, P, lots + 1]."""
        wanted = partial(self.wanted, name, prices, most, factor=factor, sensitivity=sensitivity, lot=lot)
        if levels is None:
            each = wanted()
            return np.broadcast_to(each, (periods, *each.shape))
        own = levels(self.products[name].estimate.coefficients)
        different, place = np.unique(own, return_inverse=True)
        season: Array = wanted(level=different)[place]
        return season

    def unit_costs(self, name: str, days: Array | None) -> Array:
        """The cost of a unit in each period of a season, float64 [T], from their ordinals; [] without a calendar."""
        product = self.products[name]
        if days is None or product.history is None or self.calendar is None:
            return np.array(product.unit_cost)
        _, costs = product.history.at(days)
        return np.where(days <= self.calendar.last.toordinal(), costs, product.unit_cost)

    def charged_again(self, name: str, days: Array | None) -> tuple[Array, Array] | None:
        """The prices that were charged on the dates of a season (or whole weeks before), and the unit costs then.

        Returns:
            float64 [T] each; None without dates.
        """
        history = self.products[name].history
        if days is None or history is None or self.calendar is None:
            return None
        first, last = int(history.days[0]), self.calendar.last.toordinal()  # of the product, which may be younger
        return history.at(days_charged_again(days, first, last))

    def check_means(self) -> None:
        """Raise a DemandError if the coefficients give a product impossible sales."""
        for name, product in self.products.items():
            with np.errstate(over="ignore"):
                mean = self.mean_units(name, np.array(product.price_range), product.estimate.coefficients)
            if not (mean.min() >= _LEAST_MEAN and mean.max() <= _LARGEST_MEAN):
                raise DemandError(f"the coefficients give {name} sales of {mean.min():g} to {mean.max():g} per period")

    def draws(self, name: str, count: int) -> Array:
        """Coefficients that the data would also allow, float64 [count, K]; the same at every call."""
        estimate = self.products[name].estimate
        generator = np.random.default_rng(0)
        return generator.multivariate_normal(estimate.coefficients, estimate.covariance, count, method="eigh")

    def menu(self, name: str, least: float = 0.0, most: float = np.inf) -> Array:
        """About 20 round prices inside the observed range, and between two if given, float64 [A]."""
        low, high = self.products[name].price_range
        low, high = max(low, least), min(high, most)
        step = 10.0 ** np.floor(np.log10((high - low) / _MENU))
        for factor in (1.0, 2.0, 5.0, 10.0):
            first, last = np.ceil(low / (step * factor) - 1e-9), np.floor(high / (step * factor) + 1e-9)
            first = max(first, 1.0)  # nothing is sold for nothing, though it may have been
            if last - first < _MENU:
                break
        decimals = max(0, -int(np.floor(np.log10(step * factor))))
        menu: Array = np.round(np.arange(first, last + 1.0) * step * factor, decimals)
        return menu

    def season(self, name: str, lot: int = 1) -> tuple[int, int]:
        """Periods and stock of the default season.

        As many periods as the data have, but at most 100 and no more than sell 300 lots at the best fixed price; and in
        whole lots three quarters of the units that this price sells on average in that time: scarce, so that timing
        matters.
        """
        mean = self._best_units(name)
        periods = max(1, min(self.periods or _LONGEST, _LONGEST, int(_MOST_UNITS * lot / mean)))
        return periods, max(1, round(_SCARCITY * periods * mean / lot)) * lot

    def _best_units(self, name: str) -> float:
        """Units per period at the best fixed price."""
        price, _ = self.best_fixed(name)
        return float(self.mean_units(name, np.array([price]), self.products[name].estimate.coefficients)[0])

    def suitable_lot(self, name: str) -> int:
        """A round number of units, 1, 2, 5, 10, …, in lots of which a season has at least 30 periods."""
        product, needed = self.products[name], min(_SHORTEST, self.periods or _SHORTEST)
        units = float(self.mean_units(name, np.array(product.price_range[:1]), product.estimate.coefficients)[0])
        if needed * units <= _MOST_UNITS:
            return 1
        least = needed * self._best_units(name) / _MOST_UNITS
        return next(lot for lot in _ROUND_NUMBERS if lot >= least)

    def best_fixed(self, name: str) -> tuple[float, bool]:
        """The price with the largest expected margin per period, whatever the stock, among those observed.

        The second value is True if it lies at an end of their range, so that the best may lie beyond.
        """
        product = self.products[name]
        grid = np.linspace(*product.price_range, 2001)
        earned = (grid - product.unit_cost) * self.mean_units(name, grid, product.estimate.coefficients)
        best = int(earned.argmax())
        return float(grid[best]), best in (0, len(grid) - 1)


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" … ({len(names)} in all)" if len(names) > 10 else "")


def _is_number(text: str, number: float) -> bool:
    try:
        return float(text) == number
    except ValueError:
        return False
