"""Two Q-learners price against each other: the experiment of Calvano et al., in many sessions side by side.

1. A session is a market of its own (:class:`~palaestra.envs.pricing.duopoly.DuopolyPricing`, without an end) with two
   firms that know nothing of each other. Each has a table Q(s, p) of float64, where s is the pair of last prices.
2. In period t = 0, 1, … a firm posts a random price with probability ε_t = exp(−β t), else the one with the largest
   Q. Both post at once; each then sets Q(s, p) ← (1 − α) Q(s, p) + α (profit + δ max_p' Q(s', p')).
3. Q begins with what a price earns for ever against a rival whose prices are uniformly random; the first pair of last
   prices is random.
4. A session is settled once no update has changed a firm's best price in the state it was made for in the last
   ``stable`` periods, which is looked at every :data:`CHUNK` periods. Of a settled session the table of best prices is
   kept, and it is played no further. One that has not settled after ``20 / β + 10 · stable`` periods never will.

All tensors have a row for each firm of each session, so that a period is a handful of operations whatever their number.

Source: Calvano, Calzolari, Denicolò and Pastorello, "Artificial intelligence, algorithmic pricing, and collusion",
American Economic Review 2020; α, β, the initial table, the test of convergence and the random first prices as in the
authors' published program.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from palaestra.envs.pricing.arguments import checked_number
from palaestra.envs.pricing.duopoly import PRICES, DuopolyPricing

CHUNK = 250  # periods whose random numbers are drawn together
STATES = PRICES**2
_MOST_SESSIONS = 1_000_000
_Draw = Callable[[int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class SessionSettings:
    """Settings of the learners, checked; by default those of the paper's representative experiment."""

    sessions: int = 250
    alpha: float = 0.15  # weight of a new experience
    beta: float = 4e-6  # how fast exploration dies out
    stable: int = 100_000  # periods without a change after which a session is settled
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises a ValueError that names the setting that is wrong."""
        for name, least, most in (("sessions", 1, _MOST_SESSIONS), ("stable", CHUNK, 10**9), ("seed", 0, 2**63 - 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
                raise ValueError(f"{name} must be a whole number from {least:,} to {most:,}, got {value!r}")
        checked_number("alpha", self.alpha, 1e-6, 1.0)
        checked_number("beta", self.beta, 1e-9, 1.0)

    @property
    def longest(self) -> int:
        """Periods after which a session is given up."""
        return math.ceil(20.0 / self.beta) + 10 * self.stable


@dataclass(frozen=True)
class Sessions:
    """What S sessions have come to.

    Attributes:
        tables: int64 [S, 2, 225] each firm's price by its own last price and its rival's, as a policy of the market.
        last: int64 [S, 2] the prices of the last period.
        periods: int64 [S] until the last change.
        settled: bool [S].
    """

    tables: Tensor
    last: Tensor
    periods: Tensor
    settled: Tensor


class QLearners:
    """2 · S learners in S sessions, played period by period; see the module."""

    def __init__(self, market: DuopolyPricing, settings: SessionSettings, device: str = "cpu") -> None:
        self.settings, self.discount = settings, market.discount
        sessions, self.period = settings.sessions, 0
        self.profit = torch.tensor(market.profit, device=device).flatten()  # float64 [own · 15 + rival]
        start = self.profit.view(PRICES, PRICES).mean(1) / (1.0 - market.discount)
        self.values = start.expand(2 * sessions * STATES, PRICES).contiguous()
        self.best = torch.full((2 * sessions * STATES,), int(start.argmax()), dtype=torch.int8, device=device)
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        self.posted = torch.randint(PRICES, (2 * sessions,), generator=self.generator, device=device)
        self.changed = torch.zeros(sessions, dtype=torch.int64, device=device)  # periods until the last change
        self.session = torch.arange(sessions, device=device)  # those that are still played

    def play(self, periods: int, draw: _Draw | None = None) -> None:
        """Play so many periods.

        Args:
            draw: makes uniform numbers [periods, rows] and prices int64 [periods, rows] to explore with; of the
                generator without it.
        """
        time = torch.arange(self.period, self.period + periods, dtype=torch.float64, device=self.profit.device)
        uniform, prices = (draw or self._draw)(periods)
        explores = uniform < torch.exp(-self.settings.beta * time).unsqueeze(1)
        first = torch.arange(len(self.posted), device=self.profit.device) * STATES
        row = first + pair_index(self.posted)
        for explore, price in zip(explores.unbind(), prices.unbind(), strict=True):
            row = self._period(first, row, explore, price)

    def _draw(self, periods: int) -> tuple[Tensor, Tensor]:
        shape, where = (periods, len(self.posted)), {"generator": self.generator, "device": self.profit.device}
        return torch.rand(shape, **where), torch.randint(PRICES, shape, **where)  # type: ignore[call-overload]

    def _period(self, first: Tensor, row: Tensor, explore: Tensor, price: Tensor) -> Tensor:
        """One period in the states ``row``, and what it teaches; the states after it, all int64 [2 S]."""
        cells, alpha = self.values.view(-1), self.settings.alpha
        known = self.best.index_select(0, row)
        self.posted = torch.where(explore, price, known)
        pair = pair_index(self.posted)
        after = first + pair
        ahead = cells.index_select(0, torch.add(self.best.index_select(0, after), after, alpha=PRICES))
        cell = torch.add(self.posted, row, alpha=PRICES)
        target = torch.add(self.profit.index_select(0, pair), ahead, alpha=self.discount)
        cells.index_copy_(0, cell, (1.0 - alpha) * cells.index_select(0, cell) + alpha * target)
        best = self.values.index_select(0, row).max(1).indices.to(torch.int8)
        self.best.index_copy_(0, row, best)
        self.period += 1
        self.changed.masked_fill_((best != known).view(-1, 2).any(1), self.period)
        return after

    def keep(self, sessions: Tensor) -> None:
        """Go on with those sessions alone, bool [S]."""
        rows = sessions.repeat_interleave(2)
        self.values = self.values.view(len(rows), -1)[rows].view(-1, PRICES)
        self.best = self.best.view(len(rows), -1)[rows].flatten()
        self.posted, self.changed, self.session = self.posted[rows], self.changed[sessions], self.session[sessions]

    @property
    def outcome(self) -> Sessions:
        """The sessions as they are."""
        settled = self.period - self.changed >= self.settings.stable
        tables = self.best.view(-1, 2, STATES).long()
        return Sessions(tables, self.posted.view(-1, 2), self.changed.clone(), settled)


def pair_index(price: Tensor) -> Tensor:
    """own price · 15 + rival's, int64 [2 S], from the prices of both firms of each session one behind the other."""
    return torch.add(price.view(-1, 2).flip(1).view(-1), price, alpha=PRICES)


def learn_prices(
    market: DuopolyPricing,
    settings: SessionSettings,
    device: str = "cpu",
    tell: Callable[[int, int], None] | None = None,
) -> Sessions:
    """Play sessions until all are settled, or given up.

    Args:
        market: prices, profits and δ; its own rival is not asked.
        tell: is told the periods played and how many sessions are settled, after each chunk.
    """
    learners, count = QLearners(market, settings, device), settings.sessions
    tables = torch.zeros((count, 2, STATES), dtype=torch.int64, device=device)
    last, periods = tables[:, :, 0].clone(), tables[:, 0, 0].clone()
    settled = torch.zeros(count, dtype=torch.bool, device=device)
    while not bool(settled.all()) and learners.period < settings.longest:
        learners.play(CHUNK)
        found, ends = learners.outcome, learners.period >= settings.longest
        done = found.settled | ends
        if bool(done.any()):
            place = learners.session[done]
            tables[place], last[place] = found.tables[done], found.last[done]
            periods[place], settled[place] = found.periods[done], found.settled[done]
            learners.keep(~done)
        if tell is not None:
            tell(learners.period, int(settled.sum()))
    return Sessions(tables, last, periods, settled)
