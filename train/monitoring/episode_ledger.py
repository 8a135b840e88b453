"""Episodes of a log: what each has brought, and what the action that waits for its outcome was.

An episode begins with its first observation in the log, and its return is the sum of the rewards from there on, or what
a line says that it is. Outcomes of episodes of which the log has no observation are counted and left out. At most
:data:`MOST_OPEN` are under way; the one that has been silent for longest gives way, and is counted.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol

from palaestra.train.monitoring.live_counts import LiveCounts
from palaestra.train.monitoring.log_entries import Detail, LogEntry

MOST_OPEN = 100_000


@dataclass
class OpenEpisode:
    """One that is under way."""

    rewards: int = 0  # that were told
    total: float = 0.0
    waiting: Any = None  # the sale whose units are not known yet


class SaleBook(Protocol):
    """Takes what was asked, and what was sold for it."""

    def asked(self, day: date, entry: LogEntry, row: int) -> Any:
        """What is to be known of an action whose sales are to come; None where it is none."""

    def told(self, asked: Any, detail: Detail) -> bool:
        """Take the sales that a line tells; False where it tells none."""

    def followed(self, before: Any, now: Any) -> None:
        """Take the sales that two observations in a row tell by the units that are left."""

    def ended(self, asked: Any) -> None:
        """Take the sales of an action after which the episode was over."""


class EpisodeLedger:
    """Follows the episodes of a log.

    Attributes:
        ends: how many have ended.
        lost: how many were given up, see the module.
        unbegun: outcomes of episodes of which the log has no observation.
    """

    def __init__(self, counts: LiveCounts, book: SaleBook | None = None) -> None:
        self._counts, self._book = counts, book
        self._open: OrderedDict[str, OpenEpisode] = OrderedDict()
        self.ends = self.lost = self.unbegun = 0

    def add(self, entry: LogEntry, counted: bool) -> None:
        """Follow a line; where it is not ``counted`` it only leads to later ones."""
        for row, detail in enumerate(entry.details):
            self._add(entry, row, detail, counted)

    def _add(self, entry: LogEntry, row: int, detail: Detail, counted: bool) -> None:
        episode = self._episode(detail, begins=entry.feed is not None)
        if self._book is not None:
            self._book_sale(self._book, entry, row, detail, episode, counted)
        if episode is not None and detail.reward is not None:
            episode.rewards, episode.total = episode.rewards + 1, episode.total + detail.reward
        if not detail.end:
            return
        self.ends += 1
        if detail.episode is not None:
            self._open.pop(detail.episode, None)
        value = detail.total if detail.total is not None else episode.total if episode and episode.rewards else None
        if value is not None and counted:
            day = self._counts.of(entry.day)
            day.returns = day.returns.add(value)

    def _book_sale(
        self, book: SaleBook, entry: LogEntry, row: int, detail: Detail, episode: OpenEpisode | None, counted: bool
    ) -> None:
        """Follow what was asked until it is known what was sold."""
        waiting = None if episode is None else episode.waiting
        if entry.feed is not None:
            asked = book.asked(entry.day, entry, row) if counted else None
            if waiting is not None and asked is not None:
                book.followed(waiting, asked)
            waiting = asked
        if waiting is not None and book.told(waiting, detail):
            waiting = None
        if waiting is not None and detail.end:
            book.ended(waiting)
            waiting = None
        if episode is not None:
            episode.waiting = waiting

    def _episode(self, detail: Detail, begins: bool) -> OpenEpisode | None:
        if detail.episode is None:
            return None
        if detail.episode not in self._open:
            if not begins:
                self.unbegun += detail.total is None
                return None
            if len(self._open) == MOST_OPEN:
                self._open.popitem(last=False)
                self.lost += 1
            self._open[detail.episode] = OpenEpisode()
        self._open.move_to_end(detail.episode)
        return self._open[detail.episode]
