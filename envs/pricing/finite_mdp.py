"""Exact solver of a finite decision problem: values of every policy, without sampling.

1. A problem has ``num_states`` states and ``num_actions`` actions. ``stages`` periods end it; one stage means a problem
   without an end, whose value is discounted.
2. Everything follows from one look ahead, :meth:`FiniteMDP.action_values`: the expected reward of each action plus the
   value of what comes after. The maximum over actions gives the optimum (Bellman 1957), a policy's mean gives its own
   value.
3. A policy is a table [stages, states] of actions or [stages, states, actions] of probabilities. Where some actions are
   not ``allowed``, no policy takes them.

All arithmetic is in float64. Values of problems without an end are iterated until they change by less than 1e-15
of the largest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import numpy as np

from palaestra.envs.core import Array

_CONVERGED = 1e-15  # a few roundings
_NEGLIGIBLE = 1e-13  # probability that the process still goes on, when the rest is left out


class Solution(NamedTuple):
    value: Array  # float64 [stages + 1, states]; without an end [1, states]
    policy: Array  # int64 [stages, states], the best action (the first of equal ones)


class FiniteMDP(ABC):
    """A decision problem that is small enough to be solved.

    Attributes to define: ``num_actions``, ``num_states``, ``first_state``, ``stages`` and ``discount`` (1 where the
    stages end it).
    """

    num_states: int
    first_state: int
    stages: int
    discount: float = 1.0
    allowed: Array | None = None  # bool [states, actions], at least one in each state; None where all are

    @property
    @abstractmethod
    def num_actions(self) -> int:
        """Number of actions in every state."""

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
        """Probability of each next state, from that of each state and action: float64 [states, actions] → [states].

        The discount is not in it: the process goes on with certainty.
        """

    @abstractmethod
    def expected_reward(self, stage: int) -> Array:
        """Expected reward of each action in this period alone, float64 [states, actions].

        Where a stock limits the reward, that limit is not counted.
        """

    def optimal_value(self) -> float:
        """The most that any policy earns on average."""
        return float(self.solution.value[0, self.first_state])

    def optimal_policy(self) -> Array:
        """The best action in each period and state, int64 [stages, states]."""
        return self.solution.policy

    def policy_value(self, policy: Array) -> float:
        """Mean return of a policy.

        Args:
            policy: actions, int [stages, states], or probabilities, float [stages, states, actions].

        Raises:
            ValueError: if the table has another shape, or holds something other than actions or probabilities.
        """
        return float(self.policy_values(policy)[0, self.first_state])

    def policy_values(self, policy: Array) -> Array:
        """The same for every period and state, float64 [stages + 1, states]; without an end [1, states]."""
        table = self.checked_table(policy)
        if table.ndim == 2:
            states = np.arange(self.num_states)
            return self.backward_induction(lambda stage, ahead: ahead[states, table[stage]])
        return self.backward_induction(lambda stage, ahead: (table[stage] * ahead).sum(1))

    def myopic_policy(self) -> Array:
        """The action that earns most in the period itself, as if there were no tomorrow, int64 [stages, states]."""
        return np.stack([self._masked(self.expected_reward(stage)).argmax(1) for stage in range(self.stages)])

    def random_value(self) -> float:
        """Mean return of actions drawn uniformly from those that are allowed."""
        actions = self.num_actions
        chance = np.full((self.num_states, actions), 1.0 / actions)
        if self.allowed is not None:
            chance = self.allowed / self.allowed.sum(1, keepdims=True)
        values = self.backward_induction(lambda stage, ahead: (chance * ahead).sum(1))
        return float(values[0, self.first_state])

    @cached_property
    def solution(self) -> Solution:
        """Optimal values and actions."""
        return self.solved()

    def solved(self) -> Solution:
        """The same, computed by the look ahead of every action in every state."""
        policy = np.zeros((self.stages, self.num_states), np.int64)

        def best(stage: int, ahead: Array) -> Array:
            ahead = self._masked(ahead)
            policy[stage] = ahead.argmax(1)
            value: Array = ahead.max(1)
            return value

        value = self.backward_induction(best)
        if self.discount != 1.0:
            best(0, self.action_values(0, value[0]))
        return Solution(value, policy)

    def _masked(self, ahead: Array) -> Array:
        """Values [states, actions] with −∞ for actions that are not allowed."""
        return ahead if self.allowed is None else np.where(self.allowed, ahead, -np.inf)

    def backward_induction(self, choose: Callable[[int, Array], Array], *futures: int) -> Array:
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

    def state_distribution(self, policy: Array) -> Array:
        """Probability of each state before each period and at the end, float64 [stages + 1, states].

        Without an end: the share of each state in all periods, float64 [1, states], where a period counts by the
        probability that the process still goes on then.

        Args:
            policy: as for :meth:`policy_value`.

        Raises:
            ValueError: if the table is not a policy of this problem.
        """
        table = self.checked_table(policy)
        now = np.zeros(self.num_states)
        now[self.first_state] = 1.0
        if self.discount == 1.0:
            shares = [now]
            for stage in range(self.stages):
                shares.append(self.transition(stage, shares[-1][:, None] * self.weights(table, stage)))
            return np.stack(shares)
        total = np.zeros(self.num_states)
        now *= 1.0 - self.discount
        while now.sum() > _NEGLIGIBLE:
            total += now
            now = self.discount * self.transition(0, now[:, None] * self.weights(table, 0))
        return total[None]

    def weights(self, table: Array, stage: int) -> Array:
        """Probabilities of the actions in a period, float64 [states, actions], of a table that has been checked."""
        chosen: Array = table[stage]
        certain: Array = np.eye(self.num_actions)
        return certain[chosen] if chosen.ndim == 1 else chosen

    def checked_table(self, policy: Array) -> Array:
        """A policy's table, int [stages, states] or float64 [stages, states, actions].

        Raises:
            ValueError: if it is not a policy of this problem.
        """
        actions, shape = self.num_actions, (self.stages, self.num_states)
        policy = np.asarray(policy)
        if policy.shape == shape and np.issubdtype(policy.dtype, np.integer):
            if policy.min() < 0 or policy.max() >= actions:
                raise ValueError(f"a policy's actions must be 0 … {actions - 1}, got {policy.min()} … {policy.max()}")
            self._check_allowed(None if self.allowed is None else self.allowed[np.arange(self.num_states), policy])
            return policy
        if policy.shape != (*shape, actions) or not np.issubdtype(policy.dtype, np.floating):
            raise ValueError(
                f"a policy must be integers {shape} or probabilities {(*shape, actions)}, "
                f"got {policy.dtype} {policy.shape}"
            )
        if not (policy >= 0.0).all() or not np.allclose(policy.sum(2), 1.0, atol=1e-6):
            raise ValueError("a policy's probabilities must not be negative and must sum to 1")
        self._check_allowed(None if self.allowed is None else (self.allowed | (policy == 0.0)).all(2))
        return policy.astype(np.float64)

    def _check_allowed(self, legal: Array | None) -> None:
        """Raise a ValueError unless all [stages, states] are."""
        if legal is not None and not legal.all():
            stage, state = np.argwhere(~legal)[0]
            raise ValueError(f"a policy takes an action that is not allowed, in period {stage} and state {state}")
