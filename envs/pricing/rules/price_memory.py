"""What a shop remembers of its prices, as far as its rules let the future depend on it.

1. Where no rule looks back there is one memory, 0. Else memory 0 is that of the time before the first price, and
   1 + a · hold + k that of the last price a, which must stay for k more periods, 0 … hold − 1.
2. A state of the season is (units left, memory), counted as units · M + memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.rules.shop_rules import ShopRules


class PriceMemory:
    """The memories of a season with A prices.

    Attributes:
        size: M.
        hold, current_price: of the rules.
        price: the last price of each memory, int64 [M]; −1 where there is none.
        stays: periods for which it must stay, int64 [M].
        allowed: which prices may be asked, bool [M, A].
        next_stays: for how many periods a price stays after it is asked, int64 [M, A].
        place: the memory after a price that stays for k more periods, int64 [A, hold].
    """

    def __init__(self, rules: ShopRules, prices: Array) -> None:
        """Number the memories of a menu [A].

        Raises:
            ValueError: if the rules leave no first price, or none that could follow another.
        """
        actions, self.hold, self.current_price = len(prices), rules.hold, rules.current_price
        self.price, self.stays = np.array([-1]), np.array([0])
        self.allowed = np.ones((1, actions), bool)
        self.next_stays = np.zeros((1, actions), np.int64)
        self.place = np.zeros((actions, 1), np.int64)
        if rules.remembers:
            rules.check_moves(prices)
            self._number(rules, prices)
        self.size = len(self.price)

    def _number(self, rules: ShopRules, prices: Array) -> None:
        menu = np.arange(len(prices))
        self.place = 1 + np.arange(len(prices) * self.hold).reshape(-1, self.hold)
        self.price = np.append(-1, menu.repeat(self.hold))
        self.stays = np.append(0, np.tile(np.arange(self.hold), len(prices)))
        same = self.price[:, None] == menu
        self.allowed = np.where(self.stays[:, None] > 0, same, rules.moves(prices[self.price], prices))
        self.allowed[0] = rules.first_allowed(prices)
        self.next_stays = np.where(same, np.maximum(self.stays - 1, 0)[:, None], self.hold - 1)
        self.next_stays[0, rules.is_current(prices)] = 0  # it is no new price

    def reachable(self, stages: int) -> Array:
        """Which memories some sequence of allowed prices leads to before each period, bool [T, M]."""
        found = np.zeros((stages, self.size), bool)
        found[0, 0] = True
        after = self.place[np.arange(len(self.place)), self.next_stays]  # [M, A]
        for stage in range(1, stages):
            found[stage, after[found[stage - 1, :, None] & self.allowed]] = True
        return found

    def index(self, price: Any, stays: Any) -> Any:
        """The memory of the last price (−1 before the first) that must stay for so many periods: int64 [N] or ints."""
        return (price * self.hold + stays + 1) * (price >= 0) if self.size > 1 else price * 0
