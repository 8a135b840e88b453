"""What moves demand beside the price: weekday, month, trend, stores and further regressors, for periods of a season.

1. The log of a period's mean has, for each coefficient, its effect times what it belongs to: ``weekday:Tue`` on
   Tuesdays, ``month:Feb`` in February, ``trend`` per year since the first date of the data, ``store:NAME`` for a store
   beside the first, and any other column's name times its value.
2. A season has dates: its start and one period every so many days as the data. What has no date and no plan stays at
   its average: numbers at their mean; for 0/1 columns, weekdays and months the mean of demand over their shares. So do
   months that were seen in one year only, which may have been anything that happened then. The trend goes on behind
   the data for as long as they last. Units are those of all stores together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from palaestra.envs.core import Array

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
WEEKDAY, MONTH, STORE, TREND = "weekday", "month", "store", "trend"
YEAR = 365.25  # days
_TWICE = 540  # days, a year and a half


@dataclass(frozen=True)
class Calendar:
    """The dates of the data."""

    first: date
    last: date
    step: int  # days from one date to the next

    def season(self, start: date | None, periods: int) -> Array:
        """Ordinals of the periods of a season, int64 [T]; from the next date behind the data unless given.

        Raises:
            ValueError: if there are no dates any more.
        """
        first = start.toordinal() if start else self.last.toordinal() + self.step
        if first + self.step * (periods - 1) > date.max.toordinal():
            raise ValueError(
                f"a season of {periods} periods from {start or f'behind {self.last}'} ends after {date.max}"
            )
        return first + self.step * np.arange(periods)

    @property
    def repeats(self) -> bool:
        """Whether months were seen often enough to tell them from what happened in one year."""
        return (self.last - self.first).days >= _TWICE

    def years(self, days: Array) -> Array:
        """Years since the first date, at most twice as many as the data have."""
        span = self.last.toordinal() - self.first.toordinal()
        years: Array = np.clip(days - self.first.toordinal(), 0, 2 * span) / YEAR
        return years


def date_parts(days: Array) -> tuple[Array, Array]:
    """Weekday (0 Monday) and month (0 January) of ordinals, int64 [n] each."""
    unix = (days - date(1970, 1, 1).toordinal()).astype("datetime64[D]")
    return (days - 1) % 7, unix.astype("datetime64[M]").astype(np.int64) % 12


def log_level(
    value: Mapping[str, Array],
    means: Mapping[str, float],
    flags: frozenset[str],
    calendar: Calendar | None,
    days: Array | None = None,
    plan: Mapping[str, Array] | None = None,
) -> Array:
    """The part of the log of the mean that belongs to neither the constant nor the price, float64 [...] or [..., T].

    Args:
        value: coefficients by name, [...] each, without those of the constant, the price and the dispersion.
        means: of columns, and the shares of weekdays and months.
        flags: columns that are 0 or 1.
        calendar: of the data.
        days: ordinals of the periods [T]; None for the average of the data at the end of the trend.
        plan: values of columns in each period [T] in place of their means.
    """
    plan = plan or {}
    level: Any = 0.0

    def wide(effect: Array) -> Array:
        return effect if days is None and not plan else effect[..., None]

    for kind, names, place in ((WEEKDAY, WEEKDAYS, 0), (MONTH, MONTHS, 1)):
        own = {name: effect for name, effect in value.items() if name.startswith(f"{kind}:")}
        once = kind == MONTH and not (calendar and calendar.repeats)
        if own and (days is None or once):
            shares = [means[name] * np.expm1(effect) for name, effect in own.items()]
            level = level + wide(np.log1p(sum(shares[1:], shares[0])))
        elif own:
            assert days is not None
            part = date_parts(days)[place]
            level = level + sum(
                wide(effect) * (part == names.index(name.partition(":")[2])) for name, effect in own.items()
            )
    if stores := [effect for name, effect in value.items() if name.startswith(f"{STORE}:")]:
        level = level + wide(np.log1p(sum(np.exp(effect) for effect in stores)))
    if TREND in value and calendar is not None:
        when = np.array([calendar.last.toordinal()]) if days is None else days
        years = calendar.years(when)
        level = level + (value[TREND] * years[0] if days is None else wide(value[TREND]) * years)
    for name, effect in value.items():
        if ":" in name or name == TREND:
            continue
        if name in plan:
            level = level + wide(effect) * plan[name]
        elif name in flags:
            level = level + wide(np.log1p(means[name] * np.expm1(effect)))
        else:
            level = level + wide(effect * means.get(name, 0.0))
    return np.asarray(level, np.float64)


def spread_over_stores(value: Mapping[str, Array]) -> Array:
    """Σ μ_s² / (Σ μ_s)² over the stores: the dispersion of their sum relative to that of each, [...] or 1."""
    stores = [np.exp(effect) for name, effect in value.items() if name.startswith(f"{STORE}:")]
    if not stores:
        return np.ones(())
    return np.asarray((1.0 + sum(mean**2 for mean in stores)) / (1.0 + sum(stores)) ** 2)
