"""Pricing markets: environments whose decision problem is solved exactly.

A market has an action for each entry of its menu of prices, and a state for what is in stock (in the duopoly for the
last prices). :class:`~palaestra.envs.pricing.finite_mdp.FiniteMDP` gives the values of every policy;
:mod:`palaestra.envs.pricing.metrics` describes a policy beyond its mean.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core import Array, Reference, StateT, TensorEnv
from palaestra.envs.pricing.finite_mdp import FiniteMDP
from palaestra.envs.pricing.metrics import lowest_mean, percent_of, robustness, season_measures


class Market(TensorEnv[StateT], FiniteMDP):
    """A finite decision problem whose actions are prices.

    Attributes to define: those of :class:`FiniteMDP` except ``num_actions``, ``prices`` float64 [actions] (or [actions,
    products]), and ``units`` where there is a stock: what each state has left of each product, int64 [states,
    products].
    """

    picture_size: ClassVar[tuple[int, int]] = (960, 540)
    turn_based: ClassVar[bool] = True
    currency: ClassVar[str] = ""  # in front of money in pictures
    time_unit: ClassVar[str] = "period"
    prices: Array
    units: Array | None = None
    _best: Tensor | None = None  # int64 [stages · states], made when the expert is first asked

    @abstractmethod
    def states(self, stage: int) -> StateT:
        """All states of a period as a batch, in the order of the tables."""

    @property
    def num_actions(self) -> int:
        return len(self.prices)

    def fixed_price_values(self) -> Array:
        """Mean return of each price when it never changes, float64 [actions]."""
        values = self.backward_induction(lambda stage, ahead: ahead, self.num_actions)  # all actions at once
        fixed: Array = values[0, self.first_state]
        return fixed

    def best_fixed_price(self) -> tuple[Any, float]:
        """The best price (or prices) that never changes, and its mean return."""
        values = self.fixed_price_values()
        best = int(values.argmax())
        price = self.prices[best]
        return float(price) if price.ndim == 0 else tuple(price.tolist()), float(values[best])

    def best_actions(self, stage: Tensor, state: Tensor) -> Tensor:
        """The optimal action of each environment, int64 [N], from its period and the index of its state."""
        if self._best is None:
            self._best = torch.from_numpy(self.solution.policy.ravel()).to(self.device)
        return self._best[stage * self.num_states + state]

    def action_name(self, action: int) -> str:
        """The price, or the prices."""
        return "price " + " and ".join(f"{self.currency}{price:.4g}" for price in np.atleast_1d(self.prices[action]))

    def tabulate(self, act: Callable[[StateT], Tensor]) -> Array:
        """The table [stages, states] of a deterministic policy that maps a batch of states to actions."""
        return np.stack([act(self.states(stage)).cpu().numpy() for stage in range(self.stages)])

    def percent_of_optimum(self, policy: Array) -> float:
        """The exact value of a policy, a table of int64 actions, relative to that of the optimal one."""
        return _percent_of_optimum(self, policy.tobytes())

    def stresses(self) -> Mapping[str, Market[StateT]]:
        """Markets with the same states and actions but other customers or rivals, which the seller does not see."""
        return {}

    def has(self, name: str) -> bool:
        return super().has(name) and (name != "stresses" or type(self).stresses is not Market.stresses)

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        return {} if self.units is None else {"revenue_at_5_percent": lowest_mean(returns)}

    def exact(self, act: Callable[[StateT], Tensor]) -> dict[str, float]:
        table = self.tabulate(act)
        mean = self.policy_value(table)
        _, fixed = self.best_fixed_price()
        best = self.optimal_value()
        captured = 100.0 * (mean - fixed) / (best - fixed) if best > fixed else 100.0
        numbers = {"exact_mean": mean, "captured_percent": captured, "best_fixed_mean": fixed}
        return {
            **numbers,
            **season_measures(self, table, self.prices, self.units),
            **robustness(self.stresses(), table),
        }

    @cached_property
    def reference(self) -> Reference:
        best, fixed = self.optimal_value(), self.best_fixed_price()[1]
        solved_at = best - 0.02 * abs(best)
        if self.units is not None:  # a price that never changes may come closer to the optimum than 2 %
            solved_at = max(solved_at, min(0.5 * (fixed + best), best - 0.001 * abs(best)))
        return Reference(
            optimum=best,
            random=self.random_value(),
            heuristic=fixed,
            solved_at=solved_at,
            source="best known: exact, by dynamic programming; heuristic: the best price that never changes",
        )


@lru_cache(maxsize=4)  # a film asks for every frame
def _percent_of_optimum(market: Market[Any], policy: bytes) -> float:
    table = np.frombuffer(policy, np.int64).reshape(market.stages, market.num_states)
    return percent_of(market.policy_value(table), market.optimal_value())
