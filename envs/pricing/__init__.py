"""Dynamic pricing in tensors: markets whose optimal policies are known exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palaestra.envs.core import imported_late

if TYPE_CHECKING:
    from palaestra.envs.pricing.duopoly import DuopolyPricing, logit_duopoly
    from palaestra.envs.pricing.finite_mdp import FiniteMDP, Solution
    from palaestra.envs.pricing.hidden.hidden_demand import HiddenDemand
    from palaestra.envs.pricing.market import Market
    from palaestra.envs.pricing.pricing import Pricing
    from palaestra.envs.pricing.season import Season
    from palaestra.envs.pricing.two_products import TwoProducts
    from palaestra.envs.pricing.yogurt import Yogurt

__all__ = [
    "DuopolyPricing",
    "FiniteMDP",
    "HiddenDemand",
    "Market",
    "Pricing",
    "Season",
    "Solution",
    "TwoProducts",
    "Yogurt",
    "logit_duopoly",
]

__getattr__, __dir__ = imported_late(
    __name__,
    {
        "duopoly": "DuopolyPricing logit_duopoly",
        "finite_mdp": "FiniteMDP Solution",
        "hidden.hidden_demand": "HiddenDemand",
        "market": "Market",
        "pricing": "Pricing",
        "season": "Season",
        "two_products": "TwoProducts",
        "yogurt": "Yogurt",
    },
)
