"""Dynamic pricing with hidden demand: customers come from one of two regimes, of which the seller sees the sales alone.

Rules
    1. A season has T periods and stock enough. In each period the seller posts a price from the menu; in regime s one
       customer arrives with probability λ_s and buys at the price p with probability exp(−p / w_s).
    2. After each period the regime stays with a probability of its own, else it becomes the other one. The first one
       is drawn from the share of time that each has in the long run.
    3. The episode ends (terminated) after the last period.

Actions
    The index of a price in the menu.

Observation (float32 [3])
    Periods left as a share of T; the price of the last period as a share of the highest, 0 before the first; 1 if it
    was sold at, else 0. What else is known of the regime lies in earlier observations: it takes a memory.

Reward
    The revenue of the period.

Default: 100 periods, prices 10 … 70 by 10, λ (0.9, 0.5), w (8, 50), either regime stays with probability 0.98: many who
pay little, or few who pay much. A price tells something of the regime as well as earning, and the best one does both.

The state holds the seller's belief, the probability of the second regime given all prices and sales so far; ``expert``
posts the price with which most is earned by that belief (:mod:`palaestra.envs.pricing.hidden.belief_values`).
``lost_per_period`` of an evaluation is what the policy's prices lose against it by that measure: ``T`` times that is
how far its mean return is from the optimum, with far less noise than the return has.

Source: the problem is that of Aviv and Pazgal, "A partially observed Markov decision process for dynamic pricing",
Management Science 2005; the numbers are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Array, Quantity, Reference, TensorEnv
from palaestra.envs.pricing.arguments import checked_count, checked_number, checked_prices
from palaestra.envs.pricing.hidden.belief_values import BeliefValues, HiddenChain
from palaestra.envs.pricing.metrics import lowest_mean

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas

_LONGEST = 10_000  # periods that are solved in seconds


@dataclass(frozen=True)
class HiddenDemandState:
    period: Tensor  # int64 [N] periods gone, 0 … T
    regime: Tensor  # int64 [N] 0 or 1, hidden
    belief: Tensor  # float64 [N] probability of regime 1 as the seller can know it
    price: Tensor  # int64 [N] action of the last period; −1 before the first
    sold: Tensor  # int64 [N] units sold in the last period, 0 or 1
    revenue: Tensor  # float32 [N] so far


class HiddenDemand(TensorEnv[HiddenDemandState]):
    """One product, two regimes of customers; see the module for the rules."""

    picture_size: ClassVar[tuple[int, int]] = (960, 540)
    turn_based: ClassVar[bool] = True
    decided_by: ClassVar[str] = "the seller's own prices and sales so far; no personal data"

    def __init__(
        self,
        periods: int = 100,
        prices: Sequence[float] = tuple(range(10, 71, 10)),
        arrival_rate: Sequence[float] = (0.9, 0.5),
        willingness: Sequence[float] = (8.0, 50.0),
        stay: Sequence[float] = (0.98, 0.98),
    ) -> None:
        """Make the market.

        Args:
            periods: T, at most 10,000.
            prices: the menu.
            arrival_rate: λ, the probability of a customer in either regime.
            willingness: w, in money, in either regime.
            stay: the probability that a regime lasts one more period, below 1.

        Raises:
            ValueError: if an argument is out of range.
        """
        self.periods = checked_count("periods", periods)
        if self.periods > _LONGEST:
            raise ValueError(f"periods must be at most {_LONGEST:,}, got {periods}")
        self.prices = checked_prices(prices)
        rates = _for_both("arrival_rate", arrival_rate, 0.0, 1.0)
        scales = _for_both("willingness", willingness, 0.0, 1e12, above=True)
        self.stay = _for_both("stay", stay, 0.0, 1.0 - 1e-9)
        self.demand = rates[:, None] * np.exp(-self.prices / scales[:, None])  # [2, A] probability of a sale
        leave = 1.0 - self.stay
        moves = np.stack((np.stack((self.stay[0], leave[0])), np.stack((leave[1], self.stay[1]))))
        outcomes = np.stack((1.0 - self.demand, self.demand), 2)
        self.chain = HiddenChain(outcomes, self.demand * self.prices, moves, float(leave[0] / leave.sum()))
        self.observation_space, self.action_space = Box(0.0, 1.0, (3,)), Discrete(len(self.prices))
        self.sale = torch.tensor(self.demand.ravel())  # float64 [2 · A]
        self.likelihood = torch.tensor(outcomes.reshape(2, -1))  # [2, A · 2]
        self.busy_next = torch.tensor(moves[:, 1])  # [2] probability of regime 1 after either
        self.price_list = torch.tensor(self.prices, dtype=torch.float32)
        self.earned = torch.tensor(self.chain.reward)  # [2, A] mean revenue
        self._upper: Tensor | None = None  # float64 [(T + 1) · G], made when it is first asked for

    @property
    def solution(self) -> BeliefValues:
        """Optimal values and prices by belief."""
        arrays = self.chain.outcomes, self.chain.reward, self.chain.moves
        return _solved(self.periods, len(self.prices), self.chain.start, *(array.tobytes() for array in arrays))

    def reset(self, rng: Rng) -> HiddenDemandState:
        zero = torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device)
        belief = torch.full((rng.num_envs,), self.chain.start, dtype=torch.float64, device=self.device)
        regime = (rng.uniform() < belief).long()
        return HiddenDemandState(zero, regime, belief, zero - 1, zero, zero.float())

    def step(self, state: HiddenDemandState, action: Tensor, rng: Rng) -> tuple[HiddenDemandState, Tensor, Tensor]:
        place = torch.add(action, state.regime, alpha=len(self.prices))
        sold = (rng.uniform() < self.sale.index_select(0, place)).long()
        regime = (rng.uniform() < self.busy_next.index_select(0, state.regime)).long()
        reward = self.price_list.index_select(0, action) * sold
        belief, _ = self._learned(state.belief, action, sold)
        after = HiddenDemandState(state.period + 1, regime, belief, action, sold, state.revenue + reward)
        return after, reward, after.period == self.periods

    def _learned(self, belief: Tensor, action: Tensor, sold: Tensor) -> tuple[Tensor, Tensor]:
        """The belief after such a sale by Bayes' rule and the next move, and the probability of the sale, [N] each."""
        place = torch.add(sold, action, alpha=2)
        slow = self.likelihood[0].index_select(0, place) * (1.0 - belief)
        busy = self.likelihood[1].index_select(0, place) * belief
        chance = slow + busy
        share = busy / chance
        return share * self.busy_next[1] + (1.0 - share) * self.busy_next[0], chance

    def observe(self, state: HiddenDemandState) -> Tensor:
        left = (self.periods - state.period) / self.periods
        posted = self.price_list.index_select(0, state.price.clamp(min=0)) / self.price_list[-1]
        return torch.stack((left, posted * (state.price >= 0), state.sold.float()), 1)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        return (
            Quantity("periods_left", "period", float(self.periods)),
            Quantity("last_price", "money", float(self.prices[-1]), meaning="0 before the first"),
            Quantity("last_sold", "unit"),
        )

    def action_name(self, action: int) -> str:
        return f"price {self.prices[action]:.4g}"

    def expert(self, state: HiddenDemandState) -> Tensor:
        """The best price by the seller's belief, for episodes that have not ended."""
        return self.action_values(state.period, state.belief).argmax(1)

    def action_values(self, period: Tensor, belief: Tensor) -> Tensor:
        """Mean revenue of each price now and of what is best afterwards, float64 [N, A].

        Args:
            period: periods gone, int64 [N], less than T.
            belief: float64 [N].
        """
        value = self.earned[0] * (1.0 - belief).unsqueeze(1) + self.earned[1] * belief.unsqueeze(1)
        for sold in (0, 1):
            columns = []
            for action in range(len(self.prices)):
                posted = torch.full_like(period, action)
                after, chance = self._learned(belief, posted, torch.full_like(period, sold))
                columns.append(torch.where(chance > 0.0, chance * self.value(period + 1, after), 0.0))
            value = value + torch.stack(columns, 1)
        return value

    def value(self, period: Tensor, belief: Tensor) -> Tensor:
        """The most that is earned from a belief on average, float64 [N], 0 after the last period."""
        if self._upper is None:
            self._upper = torch.tensor(self.solution.upper.ravel(), device=self.device)
        last = self._upper.numel() // (self.periods + 1) - 1
        place = belief * last
        left = place.floor().clamp(0, last - 1)
        start = torch.add(left.long(), period, alpha=last + 1)
        low, high = (self._upper.index_select(0, start + i) for i in (0, 1))
        return low + (place - left) * (high - low)

    def step_figures(
        self, earlier: HiddenDemandState, before: HiddenDemandState, action: Tensor, after: HiddenDemandState
    ) -> dict[str, Tensor]:
        """What the price loses against the best one by the seller's belief."""
        chosen = self.action_values(before.period, before.belief).gather(1, action.unsqueeze(1)).squeeze(1)
        return {"lost_per_period": self.value(before.period, before.belief) - chosen}

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        return {"revenue_at_5_percent": lowest_mean(returns)}

    def fixed_price_values(self) -> Array:
        """Mean return of each price when it never changes, float64 [A]."""
        shares = np.array([1.0 - self.chain.start, self.chain.start])
        values: Array = self.periods * (shares @ self.chain.reward)
        return values

    @property
    def reference(self) -> Reference:
        bounds, fixed = self.solution.bounds, self.fixed_price_values()
        return Reference(
            optimum=bounds.low,
            random=float(fixed.mean()),
            heuristic=float(fixed.max()),
            solved_at=0.985 * bounds.low,
            source=f"best known: dynamic programming over beliefs, the optimum is at most {bounds.high:.6g}; "
            "heuristic: the best price that never changes",
        )

    def draw(self, state: HiddenDemandState, canvas: Canvas) -> None:
        from palaestra.envs.pricing.dashboard.hidden_page import HiddenView, draw_hidden

        draw_hidden(canvas, HiddenView(self, [*canvas.past, state], over=canvas.over, reveals=canvas.reveals))


def _for_both(name: str, values: Any, least: float, most: float, *, above: bool = False) -> Array:
    """A number for either regime, float64 [2]."""
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        raise ValueError(f"{name} must be a list of two numbers, one for either regime, got {values!r}")
    return np.array([checked_number(name, value, least, most, above=above) for value in values])


@lru_cache(maxsize=8)
def _solved(periods: int, actions: int, start: float, outcomes: bytes, reward: bytes, moves: bytes) -> BeliefValues:
    parts = (outcomes, (2, actions, 2)), (reward, (2, actions)), (moves, (2, 2))
    shown, earned, chain = (np.frombuffer(part).reshape(form) for part, form in parts)
    return BeliefValues(HiddenChain(shown, earned, chain, start), periods)
