"""The rules of a shop: which prices may be asked, how they may change, and when units are delivered.

1. The menu holds the prices within ``price_range`` that have one of the ``endings``: 0.99 stands for 4.99 and 19.99, 9
   for 9 and 39, 95 for 195.
2. From one period to the next a price moves by at most ``max_change`` (money), and never up where ``markdowns_only``.
   A new price stays for at least ``hold`` periods. The first price is free, unless ``current_price`` is the one that is
   asked before the season.
3. ``replenish`` gives periods, counted from 1, or dates their units, which arrive before the period begins. Each unit
   that a period leaves unsold costs ``holding_cost``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.arguments import checked_count, checked_number

_SAME = 1e-6  # of two prices, in money
_MOST = 30  # prices of a default menu
_LARGEST = 1e12  # amount of money


@dataclass(frozen=True)
class ShopRules:
    """What a shop demands of its prices; see the module for the rules."""

    price_range: tuple[float, float] | None = None
    endings: tuple[float, ...] = ()
    max_change: float | None = None
    markdowns_only: bool = False
    hold: int = 1
    current_price: float | None = None
    replenish: Mapping[int, int] = field(default_factory=dict)  # units by period, 2 … T
    holding_cost: float = 0.0

    @property
    def remembers(self) -> bool:
        """Whether what may be asked depends on the last price."""
        return self.hold > 1 or self.markdowns_only or self.max_change is not None

    @property
    def to_come(self) -> int:
        """Units of all deliveries."""
        return sum(self.replenish.values())

    def within(self, low: float, high: float) -> tuple[float, float]:
        """The part of a range of prices that the shop allows.

        Raises:
            ValueError: if there is none.
        """
        if self.price_range is None:
            return low, high
        least, most = max(low, self.price_range[0]), min(high, self.price_range[1])
        if least >= most:
            raise ValueError(
                f"price_range={_listed(self.price_range)} must overlap the known prices, {low:g} to {high:g}"
            )
        return least, most

    def menu_of_endings(self, low: float, high: float) -> Array:
        """The prices between two that have one of the endings, at most 30 or so, float64 [A].

        Raises:
            ValueError: if there are fewer than two.
        """
        prices = np.zeros(0)
        for step in (scale * factor for scale in 10 ** np.arange(9) for factor in (1, 2, 5)):
            found = np.unique(np.concatenate([_with_ending(e, low, high, int(step)) for e in self.endings]).round(6))
            if len(found) < 2 <= len(prices):
                break
            prices = found
            if len(prices) <= _MOST:
                break
        if len(prices) < 2:
            raise ValueError(
                f"endings={_listed(self.endings)} leave {'a single price' if len(prices) else 'no price'} from {low:g} "
                f"to {high:g}: add another ending, or give a wider price_range"
            )
        return prices

    def kept(self, prices: Array) -> Array:
        """Which prices of a menu the rules leave, bool [A].

        Raises:
            ValueError: if they leave fewer than two, or the others contradict them.
        """
        kept: Array = np.ones(len(prices), bool)
        if self.price_range is not None:
            low, high = self.price_range
            kept &= (prices >= low - _SAME) & (prices <= high + _SAME)
            self._check_left(prices, kept, f"price_range={_listed(self.price_range)}")
        if self.endings:
            ends = [_has_ending(prices, ending) for ending in self.endings]
            kept &= np.logical_or.reduce(ends)
            within = "" if self.price_range is None else f" within price_range={_listed(self.price_range)}"
            self._check_left(prices, kept, f"endings={_listed(self.endings)}{within}")
        return kept

    def _check_left(self, prices: Array, kept: Array, rule: str) -> None:
        if kept.sum() < 2:
            left = f"a single price, {prices[kept][0]:g}," if kept.any() else "no price"
            raise ValueError(
                f"{rule} leaves {left} of the {len(prices)} from {prices[0]:g} to {prices[-1]:g}: "
                "give env.prices that it allows, or change it"
            )

    def first_allowed(self, prices: Array) -> Array:
        """Which prices may be asked in the first period, bool [A].

        Raises:
            ValueError: if there is none.
        """
        if self.current_price is None:
            return np.ones(len(prices), bool)
        allowed: Array = self.moves(np.array([self.current_price]), prices)[0]
        if not allowed.any():
            by = [] if self.max_change is None else [f"max_change={self.max_change:g}"]
            by += ["markdowns_only"] * self.markdowns_only
            raise ValueError(
                f"{' and '.join(by)} with current_price={self.current_price:g} leave no first price of the menu, "
                f"{prices[0]:g} to {prices[-1]:g}: change one of them, or give env.prices nearer to it"
            )
        return allowed

    def is_current(self, prices: Array) -> Array:
        """Which price was asked before the season, bool [A]."""
        current: Array = np.abs(prices - (self.current_price or np.inf)) <= _SAME
        return current

    def moves(self, last: Array, prices: Array) -> Array:
        """Whether each price may follow each of the last ones, bool [len(last), len(prices)]."""
        change = prices - last[:, None]
        allowed: Array = np.ones(change.shape, bool)
        if self.markdowns_only:
            allowed &= change <= _SAME
        if self.max_change is not None:
            allowed &= np.abs(change) <= self.max_change + _SAME
        return allowed

    def check_moves(self, prices: Array) -> None:
        """Raise a ValueError if no price of a menu could ever follow another."""
        if self.max_change is not None and self.max_change + _SAME < np.diff(prices).min():
            raise ValueError(
                f"max_change={self.max_change:g} is less than any step of the menu (the smallest is "
                f"{np.diff(prices).min():g}), so that no price could follow another: raise it, or give finer env.prices"
            )


def _with_ending(ending: float, low: float, high: float, step: int) -> Array:
    """Prices from low to high with that ending, of which every ``step``-th is taken, the last of its row."""
    size = _modulus(ending)
    which = np.arange(np.ceil((low - ending) / size - _SAME), np.floor((high - ending) / size + _SAME) + 1.0)
    prices: Array = which[(which + 1) % step == 0] * size + ending
    return prices


def _has_ending(prices: Array, ending: float) -> Array:
    size = _modulus(ending)
    rest = (prices - ending) / size
    same: Array = (np.abs(rest - rest.round()) * size <= _SAME) & (prices >= ending - _SAME)
    return same


def _modulus(ending: float) -> float:
    """Of what an ending is the rest: 1 for 0.99, 10 for 9 and 9.99, 100 for 95."""
    return 10.0 ** len(str(int(ending))) if ending >= 1.0 else 1.0


def _listed(numbers: Sequence[float]) -> str:
    return f"[{', '.join(f'{number:g}' for number in numbers)}]"


def read_rules(given: Mapping[str, Any], periods: int, dates: Array | None) -> ShopRules:
    """The rules of a season, as its arguments give them.

    Args:
        given: the fields of :class:`ShopRules`; None where a rule is not given. Of ``replenish`` the keys are periods
            or dates.
        periods: T.
        dates: ordinals of the periods, int64 [T]; None where they are not known.

    Raises:
        ValueError: if one makes no sense, or two contradict each other.
    """
    found: dict[str, Any] = {}
    if (ends := given.get("price_range")) is not None:
        found["price_range"] = _read_range(ends)
    if (endings := given.get("endings")) is not None:
        found["endings"] = _read_endings(endings)
    if (change := given.get("max_change")) is not None:
        found["max_change"] = checked_number("max_change", change, 0.0, _LARGEST)
    if (down := given.get("markdowns_only")) is not None:
        if not isinstance(down, bool):
            raise ValueError(f"markdowns_only must be true or false, got {down!r}")
        found["markdowns_only"] = down
    if (hold := given.get("hold")) is not None:
        found["hold"] = min(checked_count("hold", hold), periods)
    if (current := given.get("current_price")) is not None:
        found["current_price"] = checked_number("current_price", current, 0.0, _LARGEST)
    if (cost := given.get("holding_cost")) is not None:
        found["holding_cost"] = checked_number("holding_cost", cost, 0.0, _LARGEST, above=False)
    if (deliveries := given.get("replenish")) is not None:
        found["replenish"] = _read_deliveries(deliveries, periods, dates)
    rules = ShopRules(**found)
    if rules.current_price is not None and not rules.markdowns_only and rules.max_change is None:
        raise ValueError(
            f"current_price={rules.current_price:g} changes nothing without max_change or markdowns_only: "
            "give one of them, or leave it out"
        )
    return rules


def _read_range(value: Any) -> tuple[float, float]:
    try:
        low, high = (float(end) for end in value)
    except (TypeError, ValueError):
        low, high = np.nan, np.nan
    if not 0.0 <= low < high <= _LARGEST:
        raise ValueError(f"price_range must be the lowest and the highest price, as in [2, 9], got {value!r}")
    return low, high


def _read_endings(value: Any) -> tuple[float, ...]:
    try:
        endings = tuple(float(ending) for ending in np.atleast_1d(np.asarray(value, np.float64)))
    except (TypeError, ValueError):
        endings = ()
    if not endings or not all(0.0 <= ending < _LARGEST for ending in endings):
        raise ValueError(f"endings must be those of prices, as in [0.99, 0.49], got {value!r}")
    return endings


def _read_deliveries(value: Any, periods: int, dates: Array | None) -> dict[int, int]:
    if not isinstance(value, Mapping):
        raise ValueError(f"replenish must give periods or dates their units, as in {{7: 20}}, got {value!r}")
    found: dict[int, int] = {}
    for when, units in value.items():
        if isinstance(units, bool) or not isinstance(units, int | float | np.number):
            raise ValueError(f"replenish must give {when} a number of units, as in {{7: 20}} (a space), got {units!r}")
        period = _period(when, periods, dates)
        if period in found:
            raise ValueError(f"replenish has two deliveries in period {period}: add their units up")
        found[period] = checked_count(f"replenish: the units of {when}", units)
    return dict(sorted(found.items()))


def _period(when: Any, periods: int, dates: Array | None) -> int:
    """The number of the period that a delivery is for."""
    text = str(when).strip()
    if text.isdigit() and not isinstance(when, bool):
        if not 2 <= int(text) <= periods:
            first = "; what is there in the first period belongs to env.stock" if int(text) == 1 else ""
            raise ValueError(f"replenish: period {text} must be 2 to {periods}, the periods of the season{first}")
        return int(text)
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"replenish must give periods (2 to {periods}) or dates (2025-01-13) their units, as in {{7: 20}}, "
            f"got {when!r}"
        ) from None
    if dates is None:
        raise ValueError(f"replenish: {day} needs a demand with dates: give the number of the period")
    place = np.flatnonzero(dates == day.toordinal())
    if not len(place) or not place[0]:
        second, final = (date.fromordinal(int(end)) for end in (dates[min(1, len(dates) - 1)], dates[-1]))
        raise ValueError(f"replenish: {day} must be a period of the season behind the first, {second} to {final}")
    return int(place[0]) + 1
