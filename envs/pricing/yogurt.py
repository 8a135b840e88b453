"""A season of yoghurt with real demand: the Yoplait manager's prices against three rivals.

1. Each of 26 weeks brings a Poisson number of category buyers, 20 on average. Each buys one unit (an ounce) of one of
   four brands by a conditional logit with utilities α_brand + β price + γ feature. Yoplait sells to its share.
2. The manager posts Yoplait's price, $ 0.06 … 0.16 per oz by cents, and has 100 units for the season. The rivals stay
   at their mean prices, without advertising (all features are 0).
3. The coefficients are estimates from a scanner panel, 2,412 purchases of 100 households: ``Yogurt``, used by Jain,
   Vilcassim and Chintagunta, Journal of Business & Economic Statistics 1994, as distributed with the R package Ecdat;
   base brand Dannon. The panel records purchases only, so there is no outside option.

``palaestra.envs.pricing.demand.choices.refit_yogurt`` estimates them again from the data.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.arguments import checked_count, checked_number, checked_prices
from palaestra.envs.pricing.demand.count_distributions import poisson
from palaestra.envs.pricing.market import Market
from palaestra.envs.pricing.season import Season

PRICE, FEATURE = -36.658447, 0.491433  # per $/oz, and of an advertisement
BRANDS = {"yoplait": 0.734571, "dannon": 0.0, "hiland": -3.715600, "weight": -0.641184}
MEAN_PRICES = {"dannon": 0.081634744, "hiland": 0.053629354, "weight": 0.079490882}  # $/oz


class Yogurt(Season):
    """Yoplait's price for a season; see the module for the rules."""

    currency: ClassVar[str] = "$"
    time_unit: ClassVar[str] = "week"

    def __init__(
        self,
        periods: int = 26,
        stock: int = 100,
        buyers: float = 20.0,
        prices: Any = (0.06, 0.07, 0.08, 0.09, 0.10, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16),
    ) -> None:
        """Make the market; ``buyers`` is the mean number of category buyers per period.

        Raises:
            ValueError: if an argument is out of range.
        """
        menu, periods, stock = checked_prices(prices), checked_count("periods", periods), checked_count("stock", stock)
        self.buyers = checked_number("buyers", buyers, 0.0, 1e6)
        wanted = poisson(self.buyers * share(menu), stock)
        super().__init__(menu, np.tile(wanted, (periods, 1, 1)), stock)

    def stresses(self) -> dict[str, Market[Any]]:
        """Buyers 20 % fewer and more, and 20 % more sensitive to all prices."""

        def market(buyers: float = 1.0, sensitivity: float = 1.0) -> Season:
            wanted = poisson(buyers * self.buyers * share(self.prices, sensitivity * PRICE), self.stock)
            return Season(self.prices, np.tile(wanted, (self.stages, 1, 1)), self.stock)

        shifts = {"demand_minus_20": market(0.8), "demand_plus_20": market(1.2)}
        return {**shifts, "sensitivity_plus_20": market(sensitivity=1.2)}


def share(price: Array, coefficient: float = PRICE) -> Array:
    """Share of buyers that take Yoplait at its ``price`` ($/oz, any shape), the rivals at their mean prices."""
    rivals = sum(np.exp(BRANDS[name] + coefficient * MEAN_PRICES[name]) for name in MEAN_PRICES)
    own = np.exp(BRANDS["yoplait"] + coefficient * price)
    shares: Array = own / (own + rivals)
    return shares
