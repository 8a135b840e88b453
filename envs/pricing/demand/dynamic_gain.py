"""What dynamic pricing can win: the optimum of a season beside its best fixed price, both exact, before any training.

The season is the one that the environment makes of a demand unless told otherwise: its periods, its stock and its menu.
With stock enough a fixed price earns as much: effects of the calendar multiply the demand at every price, so that the
same price is best in all periods, and the unit cost behind the data does not change.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from palaestra.envs.pricing.demand.model import Demand
from palaestra.envs.pricing.pricing import Pricing

_NOTHING = 0.1  # percent


@dataclass(frozen=True)
class DynamicGain:
    """Expected earnings of a season."""

    periods: int
    stock: int
    fixed_price: float
    fixed: float  # what the best price that never changes earns
    optimum: float

    @property
    def percent(self) -> float:
        return 100.0 * (self.optimum / self.fixed - 1.0) if self.fixed > 0.0 else 0.0

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to speak of to win."""
        return self.percent < _NOTHING


def dynamic_gain(demand: Demand, name: str) -> DynamicGain:
    """The gain for a product.

    Raises:
        ValueError: if no season can be made of its demand.
    """
    own = demand if demand.kind == "logit" else replace(demand, products={name: demand.products[name]})
    market = Pricing(demand=own, product=name)
    price, fixed = market.best_fixed_price()
    return DynamicGain(market.stages, market.stock, float(price), fixed, max(fixed, market.optimal_value()))
