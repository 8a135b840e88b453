"""What a log holds, counted by day as it streams through: cells of each number's distribution, and sums.

Memory is that of :data:`MOST_DAYS` days and one block of observations, however long the log is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from palaestra.envs.core.reference import Array
from palaestra.train.export.held_out.monitored import MOST_NUMBERS, Distribution, numbers_of
from palaestra.train.export.observation_reader import bounds_of
from palaestra.train.monitoring.drift import MeanReturn
from palaestra.train.monitoring.log_files import MonitorError

MOST_DAYS = 3_660
_BLOCK, _LINES = 2**20, 2**12  # numbers, and lines, that wait to be counted


@dataclass
class DayCounts:
    """One day, or several.

    Attributes:
        cells: states in each cell, int64 [numbers, most cells].
        outside: states beyond the bounds, int64 [numbers].
        totals: sum of each number, float64 [numbers].
        returns: of the episodes that ended.
    """

    cells: Array
    outside: Array
    totals: Array
    returns: MeanReturn = field(default_factory=MeanReturn)

    def join(self, other: DayCounts) -> None:
        self.cells += other.cells
        self.outside += other.outside
        self.totals += other.totals
        self.returns = self.returns.join(other.returns)


class LiveCounts:
    """Counts of all days.

    Attributes:
        days: by date.
    """

    def __init__(self, contract: dict[str, Any], numbers: list[Distribution], origin: float) -> None:
        """
        Args:
            contract: of the policy.
            numbers: the reference's.
            origin: near the mean of the returns.
        """
        self._inputs, self._action = contract["inputs"], contract["outputs"][0]
        self._cuts = [np.array(number.cuts) for number in numbers]
        self._origin = origin
        self.days: dict[date, DayCounts] = {}
        self._day: date | None = None
        self._feeds: list[dict[str, Array]] = []
        self._actions: list[Array] = []
        self._waiting = 0
        self._size = max(1, sum(math.prod(end["shape"]) for end in self._inputs))

    def of(self, day: date) -> DayCounts:
        if day not in self.days:
            if len(self.days) == MOST_DAYS:
                raise MonitorError(f"the log is of more than {MOST_DAYS:,} days: choose some with --since and --until")
            self.days[day] = self.empty()
        return self.days[day]

    def empty(self) -> DayCounts:
        count, most = len(self._cuts), max(len(cuts) for cuts in self._cuts) + 1
        zeros = np.zeros(count, np.int64)
        return DayCounts(np.zeros((count, most), np.int64), zeros, np.zeros(count), MeanReturn(self._origin))

    def add(self, day: date, feed: dict[str, Array], action: Array | None) -> None:
        """Count observations [B, …] by input, and actions [B, …]."""
        if day != self._day or self._waiting >= _BLOCK or len(self._feeds) >= _LINES:
            self.flush()
            self._day = day
        self._feeds.append(feed)
        if action is not None:
            self._actions.append(action)
        self._waiting += self._size * len(next(iter(feed.values())))

    def flush(self) -> None:
        """Count what waits."""
        if self._day is None or not self._feeds:
            return
        counts = self.of(self._day)
        feed = {end["name"]: np.concatenate([part[end["name"]] for part in self._feeds]) for end in self._inputs}
        with np.errstate(over="ignore"):  # what is beyond all floats is out of range
            feed = {end["name"]: _as_seen(end, feed[end["name"]]) for end in self._inputs}
            seen = numbers_of(self._inputs, feed)
        outside = np.concatenate([_outside(end, feed[end["name"]]) for end in self._inputs])
        self._count(counts, 0, seen, outside)
        if self._actions:
            actions = np.concatenate(self._actions)
            done = numbers_of([self._action], {"action": actions})
            self._count(counts, seen.shape[1], done, _outside(self._action, actions))
        self._feeds, self._actions, self._waiting = [], [], 0

    def _count(self, counts: DayCounts, first: int, values: Array, outside: Array) -> None:
        """Count the values [B, n] of the numbers from ``first`` on."""
        for i in range(values.shape[1]):
            cells = np.searchsorted(self._cuts[first + i], values[:, i], side="right")
            found = np.bincount(cells)
            counts.cells[first + i, : len(found)] += found
        place = slice(first, first + values.shape[1])
        counts.outside[place] += outside
        counts.totals[place] += values.clip(-1e300, 1e300).sum(0)


def _as_seen(end: dict[str, Any], array: Array) -> Array:
    """Numbers in the precision in which the policy sees them."""
    floats = np.dtype(end["dtype"]).kind == "f"
    return array.astype(end["dtype"]).astype(np.float64) if floats else array


def _outside(end: dict[str, Any], array: Array) -> Array:
    """How many rows are beyond the bounds, for each number that is watched, int64 [n]."""
    if end.get("kind") == "mask":
        return np.zeros(1, np.int64)
    low, high = bounds_of(end)
    beyond = ((array < low) | (array > high)).reshape(len(array), -1)
    if beyond.shape[1] > MOST_NUMBERS:
        return np.full(2, beyond.any(1).sum())
    found: Array = beyond.sum(0)
    return found
