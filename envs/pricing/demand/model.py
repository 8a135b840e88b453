"""A market whose demand was estimated from sales: the contents of ``demand.json``, and its answers for a price.

1. ``exponential``: each product by itself. Units per period have the mean
   exp(constant + price · p + competitor_price · p̄_c) × visitors, and are Poisson or, with ``log_dispersion``, negative
   binomial. The competitor's price and the number of visitors stay at their means.
2. ``logit``: buyers choose between the products by a conditional logit with utilities
   constant:NAME + price · p + feature · f + display · d; those who may also leave have an outside option with the
   utility 0. Units of a product per period are Poisson(buyers × share). Prices, features and displays of the other
   products, and the product's own features and displays, stay at their means.
3. Prices that were charged are kept as a distribution; charging them again means to draw each period's price from it.
4. Uncertainty: the estimates are taken as normal with their covariance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.count_distributions import negative_binomial, poisson
from palaestra.envs.pricing.demand.estimation import LOG_DISPERSION, Estimate

CONSTANT, PRICE, COMPETITOR = "constant", "price", "competitor_price"
VISITORS, FEATURE, DISPLAY = "visitors", "feature", "display"
_LONGEST, _MOST_UNITS, _SCARCITY = 100, 300, 0.75  # default season: periods and units at most, stock over demand
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
    means: Mapping[str, float]  # column means: price, and competitor_price, visitors, feature, display if given
    unit_cost: float
    units_sold: int
    sold_out: int  # rows where the sales equalled the stock, so that demand may have been larger
    estimate: Estimate  # the product's own demand, or the choice between all


@dataclass(frozen=True)
class Demand:
    """An estimated market; see the module for its kinds."""

    kind: Literal["exponential", "logit"]
    products: Mapping[str, Product]
    periods: int | None  # different dates in the data
    buyers: float | None  # per period, logit only
    outside: bool  # logit only: True if buyers may take nothing
    file: str
    rows: int

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

    def mean_units(self, name: str, prices: Array, coefficients: Array) -> Array:
        """Units per period that customers want of a product on average, float64 [..., P].

        Args:
            name: of the product.
            prices: [P].
            coefficients: float64 [..., K], in the order of the product's estimate.
        """
        product = self.products[name]
        value = dict(zip(product.estimate.names, np.moveaxis(coefficients, -1, 0), strict=True))
        if self.kind == "exponential":
            own = value[CONSTANT] + value.get(COMPETITOR, 0.0) * product.means.get(COMPETITOR, 0.0)
            own = own + np.log(product.means.get(VISITORS, 1.0))
            mean: Array = np.exp(own[..., None] + value[PRICE][..., None] * prices)
            return mean
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
        slopes = [value[column] * means.get(column, 0.0) for column in (PRICE, FEATURE, DISPLAY) if column in value]
        utility: Array = value.get(f"{CONSTANT}:{name}", 0.0) + sum(slopes[1:], slopes[0])
        return utility

    def wanted(
        self, name: str, prices: Array, most: int, coefficients: Array | None = None, factor: float = 1.0
    ) -> Array:
        """Probabilities of 0 … ``most`` wanted units in a period, float64 [..., P, units + 1].

        The mean is ``factor`` times :meth:`mean_units`.
        """
        estimate = self.products[name].estimate
        coefficients = estimate.coefficients if coefficients is None else coefficients
        mean = np.clip(factor * self.mean_units(name, prices, coefficients), _LEAST_MEAN, _LARGEST_MEAN)
        if LOG_DISPERSION not in estimate.names:
            return poisson(mean, most)
        logarithm = coefficients[..., estimate.names.index(LOG_DISPERSION)]
        dispersion = np.exp(np.clip(logarithm, -_LARGEST_LOG_DISPERSION, _LARGEST_LOG_DISPERSION))
        return negative_binomial(mean, dispersion[..., None], most)

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

    def menu(self, name: str) -> Array:
        """About 20 round prices inside the observed range, float64 [A]."""
        low, high = self.products[name].price_range
        step = 10.0 ** np.floor(np.log10((high - low) / _MENU))
        for factor in (1.0, 2.0, 5.0, 10.0):
            first, last = np.ceil(low / (step * factor) - 1e-9), np.floor(high / (step * factor) + 1e-9)
            if last - first < _MENU:
                break
        decimals = max(0, -int(np.floor(np.log10(step * factor))))
        menu: Array = np.round(np.arange(first, last + 1.0) * step * factor, decimals)
        return menu

    def season(self, name: str) -> tuple[int, int]:
        """Periods and stock of the default season.

        As many periods as the data have, but at most 100 and no more than sell 300 units at the best fixed price; and
        three quarters of the units that this price sells on average in that time: scarce, so that timing matters.
        """
        price, _ = self.best_fixed(name)
        mean = float(self.mean_units(name, np.array([price]), self.products[name].estimate.coefficients)[0])
        periods = max(1, min(self.periods or _LONGEST, _LONGEST, int(_MOST_UNITS / mean)))
        return periods, max(1, round(_SCARCITY * periods * mean))

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
