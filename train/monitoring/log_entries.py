"""Lines of a log as what the policy saw, did and brought.

A line is an object, as ``palaestra serve --log`` writes it, or any other program:

| key | holds |
|---|---|
| ``time`` | seconds since 1970, or a text as ``2026-11-29T14:05:00+01:00`` |
| ``sha256`` | the first digits of the policy's; may be left out |
| ``request`` | observations, as ``POST /act`` takes them: one, or several |
| ``answer`` | ``{"action": …}`` of each; may be left out |
| ``episode`` | a name; may be left out |
| ``reward`` | what the action brought; in a line without a request, what the episode's last action did |
| ``sold`` | units that were sold at the price; as ``reward`` |
| ``end`` | true where the episode is over |
| ``return`` | of the whole episode that is over, where it is not the sum of the rewards in the log |

Of several observations ``episode``, ``reward``, ``sold``, ``end`` and ``return`` are lists as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Any

import numpy as np

from palaestra.envs.core.reference import Array, is_finite_number
from palaestra.train.export.observation_reader import ObservationError, ObservationReader

_KEPT = ("name", "shape", "elements")  # of an input: without bounds, so that what is out of range is counted
_DETAILS = ("episode", "reward", "sold", "end", "return")
_LONGEST_NAME = 200
LARGEST_RETURN = 1e100  # whose squares can be added up
_DIGITS = 8  # of a SHA-256 that tell policies apart


class EntryError(ValueError):
    """A line that does not fit; the message says why."""


@dataclass(frozen=True)
class Detail:
    """What a line tells of one observation, or of the episode's last action."""

    episode: str | None = None
    reward: float | None = None
    sold: int | None = None
    end: bool = False
    total: float | None = None


@dataclass(frozen=True)
class LogEntry:
    """A line of a log.

    Attributes:
        day: in the time zone that days are counted in.
        feed: observations [B, *shape] by input; None in a line that only tells what came of an action.
        action: [B, *shape]; None where it is not told.
        details: B of them, or one where there is no request.
    """

    day: date
    feed: dict[str, Array] | None
    action: Array | None
    details: list[Detail]


class EntryReader:
    """Reads the lines of one policy's log."""

    def __init__(self, contract: dict[str, Any], sha256: str, zone: tzinfo) -> None:
        """
        Args:
            contract: of the policy.
            sha256: of its file.
            zone: that days are counted in, and that times without one are of.
        """
        ends = [
            end if end.get("kind") == "mask" else {**{k: end[k] for k in _KEPT if k in end}, "dtype": "float64"}
            for end in contract["inputs"]
        ]
        self._reader = ObservationReader(ends)
        self._action, self._sha256, self._zone = contract["outputs"][0], sha256, zone

    def is_of_another(self, entry: dict[str, Any]) -> bool:
        """True for a line that another policy's file wrote."""
        noted = entry.get("sha256")
        if not isinstance(noted, str) or len(noted) < _DIGITS:
            return False
        return not self._sha256.startswith(noted.lower())

    def __call__(self, entry: dict[str, Any]) -> LogEntry:
        """
        Raises:
            EntryError: if the line does not fit the contract, or has no time.
        """
        day = self._day(entry.get("time"))
        if "request" not in entry:
            if not any(key in entry for key in _DETAILS):
                raise EntryError("it has neither a request nor what came of one")
            return LogEntry(day, None, None, _details(entry, None))
        try:
            feed, several = self._reader(entry["request"])
        except ObservationError as error:
            raise EntryError(f"{'.'.join(map(str, error.place)) or 'request'} {error}") from None
        rows = len(next(iter(feed.values())))
        action = self._action_of(entry.get("answer"), rows, several)
        return LogEntry(day, feed, action, _details(entry, rows if several else None))

    def _day(self, time: Any) -> date:
        try:
            if is_finite_number(time):
                return datetime.fromtimestamp(time, UTC).astimezone(self._zone).date()
            if isinstance(time, str):
                moment = datetime.fromisoformat(time)
                return (moment if moment.tzinfo is None else moment.astimezone(self._zone)).date()
        except (ValueError, OverflowError, OSError):
            pass
        raise EntryError("time is neither seconds since 1970 nor a text as 2026-11-29T14:05:00+01:00")

    def _action_of(self, answer: Any, rows: int, several: bool) -> Array | None:
        if answer is None:
            return None
        if not isinstance(answer, dict) or "action" not in answer:
            raise EntryError("answer has no action")
        shape = ([rows] if several else []) + self._action["shape"]
        try:
            found = np.array(answer["action"], np.float64)
        except (TypeError, ValueError, OverflowError):
            raise EntryError("answer.action is no number") from None
        if [*found.shape] != shape or not np.isfinite(found).all():
            raise EntryError(f"answer.action must be numbers of the shape {shape}")
        return found.reshape(rows, *self._action["shape"])


def _details(entry: dict[str, Any], several: int | None) -> list[Detail]:
    """The details of a line: one, or so many."""
    given = {key: entry[key] for key in _DETAILS if entry.get(key) is not None}
    if several is None:
        return [_detail(given)]
    if not given:
        return [Detail()] * several
    for key, values in given.items():
        if not isinstance(values, list) or len(values) != several:
            raise EntryError(f"{key} must be a list of {several}, as there are observations")
    return [_detail({key: values[i] for key, values in given.items() if values[i] is not None}) for i in range(several)]


def _detail(given: dict[str, Any]) -> Detail:
    episode = given.get("episode")
    if episode is not None and not (isinstance(episode, str) and 0 < len(episode) <= _LONGEST_NAME):
        raise EntryError(f"episode must be a name of at most {_LONGEST_NAME} letters")
    for key in ("reward", "return"):
        if key in given and not (is_finite_number(given[key]) and abs(given[key]) <= LARGEST_RETURN):
            raise EntryError(f"{key} must be a number")
    sold = given.get("sold")
    if sold is not None and not (is_finite_number(sold) and sold >= 0 and math.floor(sold) == sold):
        raise EntryError("sold must be a whole number of at least 0")
    if not isinstance(given.get("end", False), bool):
        raise EntryError("end must be true or false")
    return Detail(
        episode,
        given.get("reward"),
        None if sold is None else int(sold),
        given.get("end", False) or "return" in given,
        given.get("return"),
    )
