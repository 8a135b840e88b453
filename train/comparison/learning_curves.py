"""Curves of groups of runs over the same steps, and what they say of sample efficiency.

1. A curve is that of the evaluations while training, on the validation seed with the best actions. Runs of a group that
   were evaluated after the same steps are taken as they are, others between their evaluations on straight lines, at
   ``POINTS`` steps that all of them have reached.
2. A band is the interval of the interquartile mean over seeds (``band`` of ``aggregate_scores``).
3. The score while training is the mean of a run's curve over the steps that all groups of the task have in common: the
   area below it. An agent that learns the same from fewer steps has more of it.
4. Steps and seconds to the score from which an environment counts as solved are medians over seeds; a run that has not
   got there counts as infinitely long.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palaestra.train.comparison.aggregate_scores import Interval, band, interval, iqm
from palaestra.train.comparison.compared_runs import ComparedRun
from palaestra.train.comparison.run_groups import RunGroup

POINTS = 60


@dataclass(frozen=True)
class GroupCurve:
    """The curve of a group: steps, IQM and the ends of the band, [points] each; the band of one run is NaN.

    Attributes:
        normalised: whether scores are % of the way from random play to the best known, else mean returns.
        runs: [runs, points].
    """

    steps: Any
    middle: Any
    low: Any
    high: Any
    normalised: bool
    runs: Any


def group_curve(group: RunGroup) -> GroupCurve | None:
    """The group's curve, of its finished runs where there are any; None without two evaluations in common."""
    finished = [run for run in group.runs if run.state == "finished" and len(run.steps)]
    runs = finished or [run for run in group.runs if len(run.steps)]
    if not runs:
        return None
    normalised = all(run.reference is not None for run in runs)
    steps = runs[0].steps
    if not all(np.array_equal(run.steps, steps) for run in runs):
        first, last = max(run.steps[0] for run in runs), min(run.steps[-1] for run in runs)
        if first >= last:
            return None
        steps = np.unique(np.linspace(first, last, POINTS).round())
    values = np.array([np.interp(steps, run.steps, run.percents() if normalised else run.scores) for run in runs])
    return GroupCurve(steps, *band(values), normalised, values)


def common_span(curves: Sequence[GroupCurve]) -> tuple[float, float] | None:
    """The first and the last step that all curves have; None if there are none."""
    first, last = max(curve.steps[0] for curve in curves), min(curve.steps[-1] for curve in curves)
    return (float(first), float(last)) if first < last else None


def while_training(curve: GroupCurve, span: tuple[float, float]) -> tuple[float, Interval]:
    """The score while training over those steps: IQM over seeds, and its interval."""
    inside = curve.steps[(curve.steps > span[0]) & (curve.steps < span[1])]
    steps = np.concatenate([span[:1], inside, span[1:]])
    heights = np.array([np.interp(steps, curve.steps, run) for run in curve.runs])
    areas = ((heights[:, 1:] + heights[:, :-1]) / 2 * np.diff(steps)).sum(axis=1) / (span[1] - span[0])
    return float(iqm([areas])), interval(iqm, [areas])


@dataclass(frozen=True)
class TimeToSolve:
    """How many of a group's runs solved its task; medians over all, infinite where less than half of them did."""

    solved: int
    runs: int
    steps: float
    seconds: float


def time_to_solve(runs: Sequence[ComparedRun]) -> TimeToSolve | None:
    """None where the score from which the environment counts as solved is not known, or nothing was evaluated."""
    known = [run.solved_after() for run in runs if run.solved_at is not None and len(run.steps)]
    if not known:
        return None
    steps, seconds = (_median([times[i] for times in known]) for i in (0, 1))
    return TimeToSolve(sum(math.isfinite(step) for step, _ in known), len(known), steps, seconds)


def _median(values: Sequence[float]) -> float:
    """Also of infinite ones, which are in the upper half of it."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return high if math.isinf(high) else (low + high) / 2
