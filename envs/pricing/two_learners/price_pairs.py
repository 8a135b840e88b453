"""Pairs of pricing policies in the duopoly: the prices they come to, Δ, and what follows a one-period undercut.

1. Both policies are tables (:meth:`Market.tabulate`), so that prices run into a cycle of at most 225 pairs: one pair
   for ever, or several in turn. Means over the cycle are what the two earn in the long run.
2. Δ = (π − π_N) / (π_M − π_N), with π the mean of both firms' profits, π_N and π_M those at the Nash and at the
   monopoly prices: 0 is competition, 1 is what a cartel would earn.
3. The deviation: in each period of the cycle, and for each firm, this firm once posts the best answer to the price that
   the other posts in that period; after that both follow their tables again. It pays if the firm's discounted profits
   are larger with it than without.
4. A pair is an equilibrium on its path if in no period of the cycle a firm would earn more, discounted, by another
   price in that period and its own table after it. This is the test of the authors' program: it leaves out what other
   policies could win. :attr:`PricePairs.of_best` compares with the best of all policies against the same rival, from
   value iteration. Both prices of a period make all that comes next: V(s) = max_p π(p, r(s)) + δ V(p, r(s)).

Source: Calvano, Calzolari, Denicolò and Pastorello, American Economic Review 2020: table 1 (Δ, cycles, equilibria) and
figure 4 (deviations); the authors' published program.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from palaestra.envs.core import Array

RESPONSE = 15  # periods that are shown after a deviation
_EQUAL = 1e-9  # difference of discounted profits that is none


class PricePairs:
    """B pairs of tables in one market; see the module.

    Attributes:
        tables: int64 [B, 2, 225] each firm's next price by own last price · 15 + the rival's.
        period: int64 [C] number of each period of each pair's cycle within it, from 0; the cycles one behind the other.
        pair: int64 [C] the pair it belongs to.
        prices: int64 [C, 2] what was posted in the period before.
    """

    def __init__(self, market: Any, tables: Array, last: Array | None = None) -> None:
        """Play all pairs until they are in their cycles.

        Args:
            market: a ``DuopolyPricing``, whose module imports this one.
            tables: as the attribute.
            last: int64 [B, 2] prices of the period before; the lower Nash price of both without it.

        Raises:
            ValueError: if the tables are of another form, or hold something other than prices.
        """
        tables, self.size = np.asarray(tables), len(market.prices)
        states = self.size**2
        if tables.ndim != 3 or tables.shape[1:] != (2, states) or not len(tables):
            raise ValueError(f"tables must be [pairs, 2, {states}], got {list(tables.shape)}")
        if tables.min() < 0 or tables.max() >= self.size:
            raise ValueError(f"tables must hold prices 0 … {self.size - 1}, got {tables.min()} … {tables.max()}")
        self.market, self.tables = market, tables
        start = np.full((len(tables), 2), market.nash[0]) if last is None else np.asarray(last)
        everyone = np.arange(len(tables))
        for _ in range(states):
            start = self.answers(everyone, start)
        self.pair, self.period, self.prices = self._cycles(everyone, start)

    def answers(self, pair: Array, prices: Array) -> Array:
        """What both firms post after those prices, int64 [n, 2]."""
        state = prices * self.size + prices[:, ::-1]
        chosen: Array = self.tables[pair[:, None], [[0, 1]], state]
        return chosen

    def _cycles(self, pair: Array, start: Array) -> tuple[Array, Array, Array]:
        """The cycles that begin after the prices ``start``."""
        found, prices, number = [], start, 0
        while len(pair):
            found.append((pair, np.full(len(pair), number), prices))
            prices, number = self.answers(pair, prices), number + 1
            going = (prices != start).any(1)
            pair, prices, start = pair[going], prices[going], start[going]
        pairs, numbers, posted = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.lexsort((numbers, pairs))
        return pairs[order], numbers[order], posted[order]

    @cached_property
    def lengths(self) -> Array:
        """Periods of each pair's cycle, int64 [B]."""
        return np.bincount(self.pair, minlength=len(self.tables))

    def mean(self, values: Array) -> Array:
        """The mean of [C, …] over each pair's cycle, float64 [B, …]."""
        total = np.zeros((len(self.tables), *values.shape[1:]))
        np.add.at(total, self.pair, values)
        lengths: Array = self.lengths.reshape(-1, *[1] * (values.ndim - 1))
        means: Array = total / lengths
        return means

    @cached_property
    def mean_prices(self) -> Array:
        """Of each firm, float64 [B, 2]."""
        return self.mean(self.market.prices[self.prices])

    @cached_property
    def mean_profits(self) -> Array:
        """Of each firm in a period, float64 [B, 2]."""
        return self.mean(self.profits(self.prices))

    def profits(self, prices: Array) -> Array:
        """Of both firms at those prices, float64 [n, 2]."""
        earned: Array = self.market.profit[prices, prices[:, ::-1]]
        return earned

    @cached_property
    def collusion(self) -> Array:
        """Δ of each pair, float64 [B]."""
        market = self.market
        gained: Array = (self.mean_profits.mean(1) - market.nash_profit) / (market.monopoly_profit - market.nash_profit)
        return gained

    @cached_property
    def values(self) -> Array:
        """Discounted profits of each firm where both follow their tables, float64 [B, 2, 225], by own last price · 15 +
        the rival's."""
        prices = np.stack(np.divmod(np.arange(self.size**2), self.size), 1)
        everyone = np.arange(len(self.tables)).repeat(self.size**2)
        found = []
        for firm in (0, 1):
            seen = np.tile(prices if firm == 0 else prices[:, ::-1], (len(self.tables), 1))
            posted = self.answers(everyone, seen)
            after = (posted[:, firm] * self.size + posted[:, 1 - firm]).reshape(-1, self.size**2)
            earned = self.profits(posted)[:, firm].reshape(-1, self.size**2)
            found.append(_discounted(earned, after, self.market.discount))
        return np.stack(found, 1)

    def worth(self, firm: int, posted: Array) -> Array:
        """Discounted profits of a firm from a period on in which these prices [C, 2] are posted, both tables followed
        after it, float64 [C]."""
        after = posted[:, firm] * self.size + posted[:, 1 - firm]
        total: Array = self.profits(posted)[:, firm] + self.market.discount * self.values[self.pair, firm, after]
        return total

    def deviation(self) -> Deviation:
        """What follows where a firm deviates for one period."""
        usual, count = self.answers(self.pair, self.prices), 2 * len(self.tables)
        weight = 1.0 / (count * self.lengths[self.pair])  # of each period of a pair's cycle, for each firm
        path = np.zeros((1 + RESPONSE, 2))
        at_once, in_all, possible, pays = 0.0, 0.0, 0.0, 0.0
        for firm in (0, 1):
            posted = usual.copy()
            posted[:, firm] = self.market.best_response[usual[:, 1 - firm]]
            (now, usual_now), (ever, usual_ever) = (
                [self.profits(prices)[:, firm] for prices in (posted, usual)],
                [self.worth(firm, prices) for prices in (posted, usual)],
            )
            better = now > usual_now + _EQUAL
            at_once += float(weight @ (now / usual_now - 1.0))
            in_all += float(weight @ (ever / usual_ever - 1.0))
            possible += float(weight @ better)
            pays += float(weight @ (better & (ever > usual_ever + _EQUAL)))
            path[0] += self.mean_prices[:, [firm, 1 - firm]].sum(0) / count
            for period in range(1, 1 + RESPONSE):
                path[period] += weight @ self.market.prices[posted[:, [firm, 1 - firm]]]
                posted = self.answers(self.pair, posted)
        return Deviation(path, at_once, in_all, possible, pays)

    @cached_property
    def is_equilibrium(self) -> Array:
        """True for pairs that are equilibria on their paths, bool [B]."""
        holds = np.ones(len(self.tables), bool)
        usual = self.answers(self.pair, self.prices)
        for firm in (0, 1):
            own = self.worth(firm, usual)
            for price in range(self.size):
                posted = usual.copy()
                posted[:, firm] = price
                np.logical_and.at(holds, self.pair, self.worth(firm, posted) <= own + _EQUAL)
        return holds

    @cached_property
    def of_best(self) -> Array:
        """The discounted profits of each firm on the path relative to the most that any policy would earn there against
        the same rival, float64 [B, 2], at most 1."""
        usual, shares = self.answers(self.pair, self.prices), []
        for firm in (0, 1):
            best = best_values(self.market, self.tables[:, 1 - firm])
            state = self.prices[:, firm] * self.size + self.prices[:, 1 - firm]
            shares.append(self.worth(firm, usual) / best[self.pair, state])
        return self.mean(np.stack(shares, 1))


@dataclass(frozen=True)
class Deviation:
    """Means over all pairs, both firms and all periods of the cycles.

    Attributes:
        prices: float64 [1 + 15, 2] of the firm that deviates and of its rival: on the cycle, in the period of the
            deviation, and in the periods after it.
        at_once: what the deviation adds to the firm's profit of the period, relative.
        in_all: the same to its discounted profits.
        possible: share in which there is a better answer than what the firm posts.
        pays: share in which the discounted profits grow.
    """

    prices: Array
    at_once: float
    in_all: float
    possible: float
    pays: float


def _discounted(earned: Array, after: Array, discount: float) -> Array:
    """Discounted sums of what is earned along fixed ways, from each state, both float64 and int64 [B, 225]."""
    values, weight = earned, discount
    while weight > _EQUAL**2:  # values hold as many periods as have been walked, which double
        values = values + weight * np.take_along_axis(values, after, 1)
        after, weight = np.take_along_axis(after, after, 1), weight * weight
    return values


def best_values(market: Any, tables: Array) -> Array:
    """The most that a firm can earn, discounted, against rivals with tables int64 [B, 225]: float64 [B, 225], by its
    own last price · 15 + the rival's."""
    size = len(market.prices)
    own, rival = np.divmod(np.arange(size**2), size)
    answer = tables[:, rival * size + own]  # the rival's state is seen from its side
    values = np.zeros((len(tables), size**2))
    for _ in range(10_000):
        ahead = (market.profit + market.discount * values.reshape(-1, size, size)).max(1)  # [B, rival's price]
        before, values = values, np.take_along_axis(ahead, answer, 1)
        if float(np.abs(values - before).max()) < _EQUAL * (1.0 - market.discount):
            break
    return values
