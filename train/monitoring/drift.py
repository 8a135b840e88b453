"""How far a distribution has moved, and whether chance could have moved it as far.

1. Population stability index, Σ (q − p) ln(q / p) over bins with shares p in the reference and q in use, both with half
   a state more in each bin, so that an empty one counts. Above 0.25 is taken as a large shift (Siddiqi, "Credit Risk
   Scorecards", 2006); a normal distribution has it when its mean moves by half a standard deviation.
2. Kolmogorov–Smirnov: the largest distance of the two distribution functions, at the cuts that the reference has. The
   same half deviation of a normal is 0.197, so that 0.2 is the limit.
3. Returns: the difference of the means in standard deviations of the reference, with an interval of Welch's; the limit
   is half a deviation too (a "medium" effect: Cohen, "Statistical Power Analysis", 1988).

A number has drifted if one of them is beyond its limit and less likely than :data:`LEVEL` where nothing has changed,
shared between all comparisons (Bonferroni). States of an episode depend on each other: the statistic of PSI is compared
with chi-squared as :mod:`palaestra.train.export.held_out.monitored` says, that of Kolmogorov–Smirnov with so many
independent states as have its variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from palaestra.envs.core.reference import Array
from palaestra.train.evaluation.statistics import student_quantile
from palaestra.train.export.held_out.monitored import Distribution, WatchedNumber

LEVEL = 0.001  # of a false alarm
FEWEST = 50  # states; of fewer nothing is said
INTERVAL = 0.95


@dataclass(frozen=True)
class Limits:
    """From where on something has drifted."""

    psi: float = 0.25
    ks: float = 0.2
    out_of_range: float = 0.01  # share of the states
    returns: float = 0.5  # standard deviations
    sales: float = 0.1  # of the predicted ones


@dataclass(frozen=True)
class Shift:
    """One number in use beside its reference.

    Attributes:
        psi, ks: see the module; None without states.
        psi_chance, ks_chance: how likely as much is where nothing has changed.
        out_of_range: share of the states beyond the contract's bounds.
        mean: in use.
        shares, reference_shares: of the bins.
    """

    watched: WatchedNumber
    states: int
    psi: float | None
    psi_chance: float
    ks: float | None
    ks_chance: float
    out_of_range: float
    mean: float | None
    shares: Array
    reference_shares: Array


def stability_index(expected: Array, states: float, counts: Array) -> float:
    """PSI of bins.

    Args:
        expected: shares [B] of the reference.
        states: of the reference.
        counts: states in use in each bin [B].
    """
    half = 0.5 * len(counts)
    p = (expected * states + 0.5) / (states + half)
    q = (counts + 0.5) / (counts.sum() + half)
    return float(np.sum((q - p) * np.log(q / p)))


def chi_squared_tail(value: float, degrees: float) -> float:
    """The probability of more than ``value``, for any degrees of freedom above 0."""
    half = torch.tensor([degrees, max(value, 0.0)], dtype=torch.float64) / 2.0
    return float(torch.special.gammaincc(half[0], half[1]))


def kolmogorov_tail(distance: float, states: float) -> float:
    """The probability of a larger distance, with the correction of Stephens (1970) for few states."""
    root = math.sqrt(states)
    x = distance * (root + 0.12 + 0.11 / root)
    if x < 0.2:
        return 1.0
    terms = (math.exp(-2.0 * k * k * x * x) * (1.0 if k % 2 else -1.0) for k in range(1, 101))
    return min(1.0, max(0.0, 2.0 * math.fsum(terms)))


def shift_of(
    watched: WatchedNumber, reference: Distribution, reference_states: int, cells: Array, outside: int, total: float
) -> Shift:
    """A number in use beside its reference.

    Args:
        watched: the number.
        reference: its distribution.
        reference_states: that it is of.
        cells: states in each cell [K + 1].
        outside: states beyond the bounds.
        total: sum of the number over all states.
    """
    bins = reference.bins(watched)
    states, size = int(cells.sum()), int(bins.max()) + 1
    expected, counts = np.bincount(bins, reference.shares, size), np.bincount(bins, cells, size)
    if not states:
        return Shift(watched, 0, None, 1.0, None, 1.0, 0.0, None, counts, expected)
    psi = stability_index(expected, reference_states, counts)
    rate = 1.0 / states + 1.0 / reference_states
    distance = float(np.abs(cells.cumsum()[:-1] / states - np.array(reference.below)).max())
    return Shift(
        watched,
        states,
        psi,
        chi_squared_tail(psi / rate / reference.scale, reference.degrees),
        distance,
        kolmogorov_tail(distance, 1.0 / (rate * reference.inflation)),
        outside / states,
        total / states,
        counts / states,
        expected,
    )


def has_drifted(shift: Shift, limits: Limits, comparisons: int) -> list[str]:
    """Which measures are beyond their limits and beyond chance: "psi", "ks", "out of range"."""
    found: list[str] = []
    if shift.states < FEWEST or shift.psi is None or shift.ks is None:
        return found
    level = LEVEL / max(1, comparisons)
    if shift.psi > limits.psi and shift.psi_chance < level:
        found.append("psi")
    if shift.ks > limits.ks and shift.ks_chance < level:
        found.append("ks")
    if shift.out_of_range > limits.out_of_range:
        found.append("out of range")
    return found


@dataclass(frozen=True)
class MeanReturn:
    """Returns of episodes: how many, their sum, and their sum of squares around ``origin``.

    Sums are kept around a number near the mean, so that digits are not lost.
    """

    origin: float = 0.0
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> MeanReturn:
        apart = value - self.origin
        return MeanReturn(self.origin, self.count + 1, self.total + apart, self.squares + apart * apart)

    def join(self, other: MeanReturn) -> MeanReturn:
        sums = (getattr(self, name) + getattr(other, name) for name in ("count", "total", "squares"))
        return MeanReturn(self.origin, *sums)

    @property
    def mean(self) -> float:
        return self.origin + self.total / self.count

    @property
    def error(self) -> float:
        """Standard error of the mean, of at least two."""
        variance = (self.squares - self.total * self.total / self.count) / (self.count - 1)
        return math.sqrt(max(0.0, variance) / self.count)

    def interval(self, probability: float = INTERVAL) -> tuple[float, float] | None:
        """Of the mean, by Student's t; None of fewer than two."""
        if self.count < 2:
            return None
        half = student_quantile(0.5 + probability / 2, self.count - 1) * self.error
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class ReturnShift:
    """The mean return in use less that of the reference, with an interval, and if it is beyond limit and chance."""

    difference: float
    low: float
    high: float
    deviations: float  # of the reference
    drifted: bool


def return_shift(reference: dict[str, float], found: MeanReturn, limit: float) -> ReturnShift | None:
    """Of at least two episodes; by Welch's approximation."""
    if found.count < 2:
        return None
    error = reference["std"] / math.sqrt(reference["episodes"])
    both = math.hypot(error, found.error)
    difference = found.mean - reference["mean"]
    size = max(reference["std"], 1e-9 * max(1.0, abs(reference["mean"])))
    if both == 0.0:
        return ReturnShift(difference, difference, difference, difference / size, abs(difference) > limit * size)
    parts = (error / both) ** 4 / (reference["episodes"] - 1) + (found.error / both) ** 4 / (found.count - 1)
    degrees = max(1, int(1.0 / parts))
    half, beyond = (student_quantile(0.5 + p / 2, degrees) * both for p in (INTERVAL, 1.0 - LEVEL))
    drifted = abs(difference) > limit * size and abs(difference) > beyond
    return ReturnShift(difference, difference - half, difference + half, difference / size, drifted)
