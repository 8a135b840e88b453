"""Ranges of numbers that are drawn for each episode, and where the state holds what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core.reference import is_finite_number
from palaestra.envs.core.rng import Rng

LowHigh = tuple[float, float]


def checked_range(name: str, values: Any, unit: str) -> LowHigh:
    """A range (low, high) of numbers from 0, equal if nothing is to be drawn.

    Raises:
        ValueError: if it is something else.
    """
    try:
        low, high = (float(value) for value in values)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a pair (low, high){unit}, got {values!r}") from None
    if not 0.0 <= low <= high < float("inf"):
        raise ValueError(f"{name} must be a pair (low, high){unit} with 0 ≤ low ≤ high, got {values!r}")
    return low, high


def number_or_range(name: str, value: Any, words: str, *, positive: bool = False, whole: bool = False) -> Any:
    """A number, or a pair (low, high) to draw from in each episode, as a pair.

    Args:
        words: what the number must be, for the message.
        positive: it must be above 0, not only at least 0.
        whole: it must be an integer.

    Raises:
        ValueError: if it is something else.
    """
    if not isinstance(value, list | tuple):
        if not _fits(value, positive, whole):
            raise ValueError(f"{name} must be {words}, got {value}")
        return (value, value) if whole else (float(value), float(value))
    if len(value) != 2 or not all(_fits(end, positive, whole) for end in value) or value[0] > value[1]:
        raise ValueError(f"{name} must be {words}, or a pair (low, high) of such numbers, got {value}")
    return tuple(value) if whole else tuple(float(end) for end in value)


def _fits(value: Any, positive: bool, whole: bool) -> bool:
    right = isinstance(value, int) and not isinstance(value, bool) if whole else is_finite_number(value)
    return right and (value > 0 or (value == 0 and not positive))


def plain(pair: LowHigh) -> Any:
    """A range as a setting: one number where nothing is drawn."""
    return pair[0] if pair[0] == pair[1] else list(pair)


def drawn_in_order(rng: Rng, ranges: Sequence[LowHigh], least: Tensor, more_follow: bool) -> list[Tensor]:
    """A number [N] from each range, the ``least`` [ranges] where it holds one only.

    Those are drawn all the same where a later draw, or one that follows on these, would otherwise be another one.
    """
    needed = [i for i, (low, high) in enumerate(ranges) if low < high or more_follow]
    last = max(needed, default=-1)
    return [
        rng.uniform(*pair) if i <= last else low.expand(rng.num_envs)
        for i, (pair, low) in enumerate(zip(ranges, least, strict=True))
    ]


class Drawn:
    """The numbers of an episode, by name: those that are drawn are columns of one tensor [N, columns] of the state."""

    def __init__(self, ranges: dict[str, LowHigh], vectors: dict[str, int], whole: tuple[str, ...] = ()) -> None:
        """Make the columns of all ranges (low, high) whose ends differ.

        Args:
            ranges: by name.
            vectors: lengths of those that are vectors.
            whole: names of integers, whose ends are both drawn.
        """
        self.ranges, self._vectors, self._whole = ranges, vectors, whole
        self._places: dict[str, slice] = {}
        self._columns = 0
        for name, (low, high) in ranges.items():
            if low < high:
                size = vectors.get(name, 1)
                self._places[name] = slice(self._columns, self._columns + size)
                self._columns += size

    @property
    def any_drawn(self) -> bool:
        """True if there is a column."""
        return self._columns > 0

    def draw(self, rng: Rng) -> Tensor:
        """The numbers of new episodes, float32 [N, columns], by draws that shift no others."""
        if not self._columns:
            return torch.zeros(rng.num_envs, 0, device=rng.device)
        apart, parts = rng.spawn(), []
        for name, at in self._places.items():
            low, high = self.ranges[name]
            size = (at.stop - at.start,)
            parts.append(
                apart.uniform(low, high + 1, size).floor() if name in self._whole else apart.uniform(low, high, size)
            )
        return torch.cat(parts, 1)

    def of(self, drawn: Tensor, name: str) -> Any:
        """A number [N] or vector [N, size] in each environment; one float where it is the same in all."""
        at = self._places.get(name)
        if at is None:
            return self.ranges[name][0]
        return drawn[:, at] if name in self._vectors else drawn[:, at.start]
