"""Price against a rival: two firms in a logit market, one of them a script.

Rules
    1. In each period both firms post a price from the same grid. Firm i sells
       q_i = exp((a − p_i)/μ) / (exp((a − p_1)/μ) + exp((a − p_2)/μ) + exp(a₀/μ)) and earns (p_i − c) q_i.
    2. The rival follows a rule, from the prices of the last period: ``tit-for-tat`` posts the agent's last price,
       ``undercut`` one step less (not below the lower Nash price of the grid), ``best-response`` the best answer to the
       agent's last price, ``nash`` always the lower Nash price. ``self`` is no rule but the agent that plays: the rival
       posts the price that the agent thinks best in the rival's place; while it trains, by what it has learned until
       the latest rollout. Until an agent plays, and beside random play, that rival posts the lower Nash price. A model
       file is a frozen agent, which posts what it thinks best in the rival's place; ``learning:FILE`` is one that has
       learned at the same time (:mod:`palaestra.agents.training.learning_pair`). Meanwhile it drew its prices.
    3. After each period the market closes (terminated) with probability 1 − δ. The expected sum of profits is therefore
       the sum discounted by δ: a firm's present value.
    4. The first period follows one in which both firms posted the lower Nash price.

Grid: 15 prices from p_N − ξ (p_M − p_N) to p_M + ξ (p_M − p_N), with the Nash price p_N, the monopoly price p_M and
ξ 0.1; a 2, c 1, μ ¼, a₀ 0, δ 0.95.

Actions
    The index of a price.

Observation (float32 [2])
    The agent's and the rival's last price, 0 … 1 along the grid.

Reward
    The agent's profit of the period.

Source: Calvano, Calzolari, Denicolò and Pastorello, "Artificial intelligence, algorithmic pricing, and collusion",
American Economic Review 2020; the rival's rules are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Array, Quantity, Reference
from palaestra.envs.pricing.arguments import checked_number
from palaestra.envs.pricing.demand.count_distributions import logit_shares
from palaestra.envs.pricing.market import Market
from palaestra.envs.pricing.metrics import percent_of, robustness, season_measures
from palaestra.envs.pricing.two_learners.trained_rival import rival_file, trained_table
from palaestra.envs.trained_players import LEARNING, learns_too

if TYPE_CHECKING:
    from palaestra.envs.core.reference import ReportFigure
    from palaestra.envs.core.rng import Rng
    from palaestra.envs.rendering.canvas import Canvas

Rival = Literal["tit-for-tat", "undercut", "best-response", "nash", "self"]
SELF = "self"
QUALITY, COST, MU, OUTSIDE = 2.0, 1.0, 0.25, 0.0
PRICES, MARGIN = 15, 0.1


@dataclass(frozen=True)
class DuopolyState:
    period: Tensor  # int64 [N] periods gone
    price: Tensor  # int64 [N] the agent's last price, its index
    rival: Tensor  # int64 [N] the rival's last price, its index
    revenue: Tensor  # float32 [N] profit so far


class DuopolyPricing(Market[DuopolyState]):
    """Two firms, one scripted; see the module for the rules."""

    decided_by: ClassVar[str] = "the last prices of both firms; no personal data"

    def __init__(self, rival: Rival | str = "tit-for-tat", discount: float = 0.95) -> None:
        """``rival`` is its rule, ``self``, or the model file of an agent; ``discount`` is δ.

        Raises:
            ValueError: if the rule is unknown, the file holds no agent of this market, or δ is not between 0 and 0.999
                (values are iterated).
        """
        file = rival_file(rival)
        if file is None and rival not in get_args(Rival):
            raise ValueError(f"rival must be one of {', '.join(get_args(Rival))} or a model file, got {rival!r}")
        self.rule, self.discount = rival, checked_number("discount", discount, 0.0, 0.999)
        self.nash_price, self.nash_profit = logit_duopoly(QUALITY, COST, MU, OUTSIDE, collude=False)
        self.monopoly_price, self.monopoly_profit = logit_duopoly(QUALITY, COST, MU, OUTSIDE, collude=True)
        margin = MARGIN * (self.monopoly_price - self.nash_price)
        self.prices = np.linspace(self.nash_price - margin, self.monopoly_price + margin, PRICES)
        pairs = np.stack(np.meshgrid(self.prices, self.prices, indexing="ij"), 2)  # [own, rival, 2]
        self.profit = (pairs[..., 0] - COST) * logit_shares((QUALITY - pairs - OUTSIDE) / MU)[..., 0]
        self.best_response = self.profit.argmax(0)  # [rival's price]
        self.nash = [i for i in range(PRICES) if self.best_response[i] == i]  # symmetric equilibria of the grid
        answers = {
            "tit-for-tat": np.arange(PRICES),
            "undercut": np.maximum(np.arange(PRICES) - 1, self.nash[0]),
            "best-response": self.best_response,
            "nash": np.full(PRICES, self.nash[0]),
            SELF: np.full(PRICES, self.nash[0]),
        }
        self.answer = answers.get(rival, answers[SELF])  # [the agent's last price] → the rival's next
        self.meets_itself, self.by_pair = rival == SELF, rival == SELF or file is not None
        self.cumulative: Tensor | None = None  # float32 [225, 14] of the rival's prices, where it draws them
        self.stages, self.num_states, self.first_state = 1, PRICES**2, self.nash[0] * (PRICES + 1)
        self.observation_space, self.action_space = Box(0.0, 1.0, (2,)), Discrete(PRICES)
        self.answer_table = torch.tensor(self.answer.repeat(PRICES) if self.by_pair else self.answer)
        self.profit_table = torch.tensor(self.profit, dtype=torch.float32).flatten()
        self.fresh, self.nothing = torch.tensor([0, self.nash[0], self.nash[0]]), torch.zeros(1)
        if file is not None:
            self.answer_table = _from_the_other_side(trained_table(self, file))

    @classmethod
    def self_contained(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        file = rival_file(rival := arguments.get("rival"))
        if file is None:
            return arguments
        return {**arguments, "rival": f"{LEARNING * learns_too(rival)}{file.resolve()}"}

    def reset(self, rng: Rng) -> DuopolyState:
        period, price, rival = (number.expand(rng.num_envs) for number in self.fresh.unbind())
        return DuopolyState(period, price, rival, self.nothing.expand(rng.num_envs))

    def step(self, state: DuopolyState, action: Tensor, rng: Rng) -> tuple[DuopolyState, Tensor, Tensor]:
        # index_select: [] starts threads even for small batches, and they wait where cores are busy
        seen = torch.add(state.rival, state.price, alpha=PRICES) if self.by_pair else state.price
        if self.cumulative is None:
            rival = self.answer_table.index_select(0, seen)
        else:
            rival = (rng.uniform().unsqueeze(1) >= self.cumulative.index_select(0, seen)).sum(1)
        profit = self.profit_table.index_select(0, torch.add(rival, action, alpha=PRICES))
        closes = rng.uniform() >= self.discount
        return DuopolyState(state.period + 1, action, rival, state.revenue + profit), profit, closes

    @torch.no_grad()
    def meet(self, act: Callable[[DuopolyState], Tensor]) -> None:
        """Let an agent, as a function from states to actions, be its own rival, which sees the prices from its side."""
        self.answer_table.copy_(_from_the_other_side(act(self.states(0))))  # in place: replayed steps read it there
        for kept in ("answers", "after", "_rewards", "solution"):  # of the market with the rival before
            vars(self).pop(kept, None)
        if self._best is not None:
            self._best = None

    def meet_by_chance(self, act: Callable[[DuopolyState], Tensor], chances: Tensor) -> None:
        """Let the rival draw its prices; call it before the first step, and again where they change.

        Args:
            act: what the rival thinks best, as in :meth:`meet`: exact values are those against that.
            chances: probability of each of its prices, [225, 15], by its own last price · 15 + the agent's.
        """
        self.meet(act)
        sums = chances.cumsum(1)[:, :-1].view(PRICES, PRICES, -1).transpose(0, 1).reshape(PRICES**2, -1).float()
        if self.cumulative is None:
            self.cumulative = torch.empty_like(sums)
        self.cumulative.copy_(sums)

    @cached_property
    def answers(self) -> Array:
        """The rival's next price in each state, int64 [states]."""
        return self.answer_table.cpu().numpy() if self.by_pair else self.answer.repeat(PRICES)

    @cached_property
    def after(self) -> Array:
        """The state after each action, int64 [states, actions]."""
        states: Array = np.arange(PRICES) * PRICES + self.answers[:, None]
        return states

    def observe(self, state: DuopolyState) -> Tensor:
        return torch.stack((state.price, state.rival), 1) / (PRICES - 1)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        low, high = float(self.prices[0]), float(self.prices[-1])
        return tuple(Quantity(f"{whose}_last_price", "money", high - low, low) for whose in ("own", "rival"))

    def expert(self, state: DuopolyState) -> Tensor:
        return self.best_actions(torch.zeros_like(state.price), state.price * PRICES + state.rival)

    def draw(self, state: DuopolyState, canvas: Canvas) -> None:
        from palaestra.envs.pricing.dashboard.duopoly_page import DuopolyView, draw_duopoly

        states = [*canvas.past, state]
        draw_duopoly(canvas, DuopolyView(self, states, canvas.policy, over=canvas.over, reveals=canvas.reveals))

    def report_figures(
        self, returns: Array, lengths: Array, successes: Array | None, act: Callable[[DuopolyState], Tensor] | None
    ) -> list[ReportFigure]:
        """The agent's prices and profit beside those of Nash, of monopoly and of the optimal policy."""
        from palaestra.envs.pricing.dashboard.duopoly_figures import duopoly_figures

        return [] if act is None else duopoly_figures(self, self.tabulate(act))

    def exact(self, act: Callable[[DuopolyState], Tensor]) -> dict[str, float]:
        """Beside an agent also Δ in percent; against itself the value relative to the best answer to itself."""
        if not self.by_pair:
            return super().exact(act)
        from palaestra.envs.pricing.two_learners.price_pairs import PricePairs

        if self.meets_itself:
            self.meet(act)
        table = self.tabulate(act)
        theirs = self.answers.reshape(PRICES, PRICES).T.reshape(1, -1)  # seen by the rival
        pair, value = PricePairs(self, np.stack((table, theirs), 1)), self.policy_value(table)
        collusion = {"collusion_percent": 100.0 * float(pair.collusion[0])}
        if not self.meets_itself:
            return super().exact(act) | collusion
        return {
            "exact_mean": value,
            **collusion,
            "of_best_answer_percent": percent_of(value, self.optimal_value()),
            **season_measures(self, table, self.prices, None),
            **robustness(self.stresses(), table),
        }

    @cached_property
    def reference(self) -> Reference:
        """Against itself an agent's score lies between those of Nash prices and of a cartel, and random play says
        nothing: it earns more than Nash prices do."""
        if not self.meets_itself:
            return super().reference
        open_for = 1.0 / (1.0 - self.discount)
        return Reference(
            optimum=open_for * float(self.profit.diagonal().max()),
            heuristic=open_for * float(self.profit[self.nash[0], self.nash[0]]),
            source="best known: the common price that pays both most; heuristic: the lower Nash price of the grid",
        )

    def optimal_profits(self, periods: int) -> Array:
        """Profit of the optimal policy after 0 … ``periods`` periods, float64: only the end is random."""
        policy, reward, after = self.optimal_policy()[0], self.expected_reward(0), self.after
        profits, state = np.zeros(periods + 1), self.first_state
        for period in range(periods):
            profits[period + 1] = profits[period] + reward[state, policy[state]]
            state = int(after[state, policy[state]])
        return profits

    def action_values(self, stage: int, value: Array) -> Array:
        after = self.after
        future = value[after] if value.ndim == 1 else value[after, np.arange(PRICES)]
        ahead: Array = self._rewards + self.discount * future
        return ahead

    def transition(self, stage: int, mass: Array) -> Array:
        return np.bincount(self.after.ravel(), mass.ravel(), self.num_states)

    def stresses(self) -> dict[str, Market[Any]]:
        """The same market against each of the other rules."""
        others = (rule for rule in get_args(Rival) if rule not in (self.rule, SELF))
        return {f"rival_{rule.replace('-', '_')}": DuopolyPricing(rule, self.discount) for rule in others}

    def expected_reward(self, stage: int) -> Array:
        return self._rewards

    @cached_property
    def _rewards(self) -> Array:
        reward: Array = self.profit.T[self.answers]
        return reward

    def states(self, stage: int) -> DuopolyState:
        own, rival = (torch.tensor(i, device=self.device) for i in np.divmod(np.arange(self.num_states), PRICES))
        return DuopolyState(torch.zeros_like(own), own, rival, torch.zeros_like(own, dtype=torch.float32))


def _from_the_other_side(values: Tensor) -> Tensor:
    """[225] by own last price · 15 + the rival's, as seen by the rival."""
    return values.view(PRICES, PRICES).t().flatten()


class Duopoly(NamedTuple):
    price: float
    profit: float  # each firm's


def logit_duopoly(quality: float, cost: float, mu: float, outside: float, *, collude: bool) -> Duopoly:
    """Symmetric prices of two firms in a logit market: Nash equilibrium, or the joint monopoly (``collude``).

    Demand q_i = exp((a − p_i)/μ) / (Σ exp((a − p_j)/μ) + exp(a₀/μ)); p − c = μ / (1 − q) when each firm is for itself,
    μ / (1 − 2q) when both are one.

    Source: Calvano, Calzolari, Denicolò and Pastorello, American Economic Review 2020, section II.
    """
    firms = 2 if collude else 1

    def demand(price: float) -> float:
        weight = math.exp((quality - price - outside) / mu)
        return weight / (1.0 + 2.0 * weight)

    low, high = cost, cost + 100.0 * mu + abs(quality)
    for _ in range(200):  # the condition grows in p
        price = (low + high) / 2
        low, high = (price, high) if price - cost < mu / (1.0 - firms * demand(price)) else (low, price)
    return Duopoly(price, (price - cost) * demand(price))


def rule_table(rule: str) -> Array:
    """The rival's rule of that name as a policy, int64 [225].

    Raises:
        KeyError: with the names that there are, if it is none of them.
    """
    rules = tuple(name for name in get_args(Rival) if name != SELF)
    found: Any = rule
    if found not in rules:
        raise KeyError(rules)
    return np.tile(DuopolyPricing(found).answer, PRICES)  # by the other firm's last price, whatever the own one
