"""Pricing as a finite decision problem: exact values of every policy, without sampling.

1. A market has ``num_states`` states (what is in stock; in the duopoly the last prices) and an action for each entry of
   its menu of prices. ``stages`` periods end the season; one stage means a market without an end, whose value is
   discounted.
2. Everything follows from one look ahead, :meth:`Market.action_values`: the expected reward of each action plus the
   value of what comes after. The maximum over actions gives the optimum (Bellman 1957), a policy's mean gives its own
   value.
3. A policy is a table [stages, states] of actions or [stages, states, actions] of probabilities.

All arithmetic is in float64. Values of markets without an end are iterated until they change by less than 1e-15
of the largest.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core import Array, Reference, StateT, TensorEnv
from palaestra.envs.pricing.metrics import lowest_mean, robustness, season_measures

_CONVERGED = 1e-15  # a few roundings


class Solution(NamedTuple):
    value: Array  # float64 [stages + 1, states]; without an end [1, states]
    policy: Array  # int64 [stages, states], the best action (the lowest price of equal ones)


class Market(TensorEnv[StateT]):
    """An environment whose decision problem is small enough to be solved.

    Attributes to define: ``prices`` float64 [actions] (or [actions, products]), ``stages``, ``num_states``,
    ``first_state`` and ``discount`` (1 for a season), and ``units`` where there is a stock: what each state has left of
    each product, int64 [states, products].
    """

    picture_size: ClassVar[tuple[int, int]] = (960, 540)
    turn_based: ClassVar[bool] = True
    currency: ClassVar[str] = ""  # in front of money in pictures
    time_unit: ClassVar[str] = "period"
    prices: Array
    stages: int
    num_states: int
    first_state: int
    discount: float = 1.0
    units: Array | None = None
    _best: Tensor | None = None  # int64 [stages · states], made when the expert is first asked

    @abstractmethod
    def action_values(self, stage: int, value: Array) -> Array:
        """Expected reward of each action now plus the value afterwards, float64 [states, actions].

        Args:
            stage: the period, 0 … stages − 1.
            value: of each state after it, float64 [states]; or [states, actions] where each action leads to a future
                of its own.
        """

    @abstractmethod
    def transition(self, stage: int, mass: Array) -> Array:
        """Where the probability of each state and action goes, float64 [states, actions] → [states].

        It takes every market as staying open: the discount is not in it.
        """

    @abstractmethod
    def states(self, stage: int) -> StateT:
        """All states of a period as a batch, in the order of the tables."""

    @abstractmethod
    def expected_reward(self, stage: int) -> Array:
        """What each action earns in this period alone where the stock does not matter, float64 [states, actions]."""

    # ------------------------------------------------------------------------------------------------ exact answers

    def optimal_value(self) -> float:
        """The most that any policy earns on average."""
        return float(self.solution.value[0, self.first_state])

    def optimal_policy(self) -> Array:
        """The best action in each period and state, int64 [stages, states]."""
        return self.solution.policy

    def policy_value(self, policy: Array) -> float:
        """What a policy earns on average.

        Args:
            policy: actions, int [stages, states], or probabilities, float [stages, states, actions].

        Raises:
            ValueError: if the table has another shape, or holds something other than actions or probabilities.
        """
        return float(self.policy_values(policy)[0, self.first_state])

    def policy_values(self, policy: Array) -> Array:
        """The same for every period and state, float64 [stages + 1, states]; without an end [1, states]."""
        weights = self.probabilities(policy)
        return self._backwards(lambda stage, ahead: (weights[stage] * ahead).sum(1))

    def myopic_policy(self) -> Array:
        """The price that earns most in the period itself, as if there were no tomorrow, int64 [stages, states]."""
        return np.stack([self.expected_reward(stage).argmax(1) for stage in range(self.stages)])

    def fixed_price_values(self) -> Array:
        """What each price earns on average when it never changes, float64 [actions]."""
        values = self._backwards(lambda stage, ahead: ahead, len(self.prices))  # all actions at once
        fixed: Array = values[0, self.first_state]
        return fixed

    def best_fixed_price(self) -> tuple[Any, float]:
        """The best price (or prices) that never changes, and what it earns."""
        values = self.fixed_price_values()
        best = int(values.argmax())
        price = self.prices[best]
        return float(price) if price.ndim == 0 else tuple(price.tolist()), float(values[best])

    def random_value(self) -> float:
        """What uniformly random prices earn on average."""
        actions = len(self.prices)
        return self.policy_value(np.full((self.stages, self.num_states, actions), 1.0 / actions))

    @cached_property
    def solution(self) -> Solution:
        """Optimal values and actions."""
        value = self._backwards(lambda stage, ahead: ahead.max(1))
        after = value[1:] if self.discount == 1.0 else value
        policy = [self.action_values(stage, after[stage]).argmax(1) for stage in range(self.stages)]
        return Solution(value, np.stack(policy))

    def best_actions(self, stage: Tensor, state: Tensor) -> Tensor:
        """The optimal action of each environment, int64 [N], from its period and the index of its state."""
        if self._best is None:
            self._best = torch.from_numpy(self.solution.policy.ravel()).to(self.device)
        return self._best[stage * self.num_states + state]

    def _backwards(self, choose: Callable[[int, Array], Array], *futures: int) -> Array:
        """Values [stages + 1, states] by going back from the end; [1, states] by iteration where there is none.

        ``choose`` makes the values [states, *futures] of a period from its look ahead.
        """
        if self.discount == 1.0:
            value = np.zeros((self.stages + 1, self.num_states, *futures))
            for stage in range(self.stages - 1, -1, -1):
                value[stage] = choose(stage, self.action_values(stage, value[stage + 1]))
            return value
        value, change = np.zeros((1, self.num_states, *futures)), np.inf
        while change > _CONVERGED * max(1.0, float(np.abs(value).max())):
            before, value = value, choose(0, self.action_values(0, value[0]))[None]
            change = float(np.abs(value - before).max())
        return value

    def probabilities(self, policy: Array) -> Array:
        """A policy's table as probabilities, float64 [stages, states, actions]."""
        actions, shape = len(self.prices), (self.stages, self.num_states)
        policy = np.asarray(policy)
        if policy.shape == shape and np.issubdtype(policy.dtype, np.integer):
            if policy.min() < 0 or policy.max() >= actions:
                raise ValueError(f"a policy's actions must be 0 … {actions - 1}, got {policy.min()} … {policy.max()}")
            certain: Array = np.eye(actions)[policy]
            return certain
        if policy.shape != (*shape, actions) or not np.issubdtype(policy.dtype, np.floating):
            raise ValueError(
                f"a policy must be integers {shape} or probabilities {(*shape, actions)}, "
                f"got {policy.dtype} {policy.shape}"
            )
        if not (policy >= 0.0).all() or not np.allclose(policy.sum(2), 1.0, atol=1e-6):
            raise ValueError("a policy's probabilities must not be negative and must sum to 1")
        return policy.astype(np.float64)

    def action_name(self, action: int) -> str:
        """The price, or the prices."""
        return "price " + " and ".join(f"{self.currency}{price:.4g}" for price in np.atleast_1d(self.prices[action]))

    # ------------------------------------------------------------------------------------------------ evaluation

    def tabulate(self, act: Callable[[StateT], Tensor]) -> Array:
        """The table [stages, states] of a deterministic policy that maps a batch of states to actions."""
        return np.stack([act(self.states(stage)).cpu().numpy() for stage in range(self.stages)])

    def perturbed_markets(self) -> dict[str, Market[Any]]:
        """Markets with the same states and actions but other customers or rivals, to test a policy's robustness."""
        return {}

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        return {} if self.units is None else {"revenue_at_5_percent": lowest_mean(returns)}

    def exact(self, act: Callable[[StateT], Tensor]) -> dict[str, float]:
        table = self.tabulate(act)
        mean = self.policy_value(table)
        _, fixed = self.best_fixed_price()
        best = self.optimal_value()
        captured = 100.0 * (mean - fixed) / (best - fixed) if best > fixed else 100.0
        numbers = {"exact_mean": mean, "captured_percent": captured, "best_fixed_mean": fixed}
        return {**numbers, **season_measures(self, table), **robustness(self, table)}

    @property
    def reference(self) -> Reference:
        return self._reference

    @cached_property
    def _reference(self) -> Reference:
        best = self.optimal_value()
        return Reference(
            optimum=best,
            random=self.random_value(),
            heuristic=self.best_fixed_price()[1],
            solved_at=0.98 * best,
            source="optimum: exact, by dynamic programming; heuristic: the best price that never changes",
        )
