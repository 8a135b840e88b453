"""Aggregates of scores over runs and tasks, and their intervals.

The source is Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021,
section 4.

Scores are one array [runs] for each task; tasks may have different numbers of runs.

1. The interquartile mean (IQM) is that of all runs of all tasks together; the mean and the median are those of the
   tasks' means; the optimality gap is by how much runs fall short of 100 %, on average, those above counting as none.
2. The probability of improvement is P(X > Y), ties a half, on a task, averaged over tasks.
3. The performance profile is the share of all runs with a score above τ.
4. Intervals: percentiles of a bootstrap stratified by task: of each task as many runs as it has are drawn with
   replacement. Of one run there is none, and of few it is too narrow, which :mod:`palaestra.train.comparison.seed_test`
   tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from palaestra.train.evaluation.statistics import LEVEL, interquartile_means

REPETITIONS = 2000
OPTIMAL = 100.0  # %, normalised
Scores = Sequence[Any]  # a [runs] of each task; of a bootstrap [repetitions, runs]
Interval = tuple[float | None, float | None]


def iqm(scores: Scores) -> Any:
    """[…] of scores [… runs] of each task."""
    return interquartile_means(np.concatenate(scores, axis=-1))


def mean(scores: Scores) -> Any:
    return np.mean([task.mean(axis=-1) for task in scores], axis=0)


def median(scores: Scores) -> Any:
    return np.median([task.mean(axis=-1) for task in scores], axis=0)


def optimality_gap(scores: Scores, optimum: float = OPTIMAL) -> Any:
    return optimum - np.minimum(np.concatenate(scores, axis=-1), optimum).mean(axis=-1)


def improvement(first: Scores, second: Scores) -> Any:
    """The probability that a run of ``first`` scores more than one of ``second``, tasks in the same order."""
    shares = []
    for x, y in zip(first, second, strict=True):
        wins, ties = x[..., :, None] > y[..., None, :], x[..., :, None] == y[..., None, :]
        shares.append(wins.mean(axis=(-2, -1)) + 0.5 * ties.mean(axis=(-2, -1)))
    return np.mean(shares, axis=0)


def profile(scores: Scores, levels: Any) -> Any:
    """[… levels], the share of runs with more than each level."""
    return (np.concatenate(scores, axis=-1)[..., None] > levels).mean(axis=-2)


def drawn(scores: Scores, stream: int = 0, repetitions: int = REPETITIONS) -> list[Any]:
    """Runs drawn with replacement task by task: [repetitions, runs] of each, the same every time."""
    rng = np.random.default_rng([2021, stream])
    return [task[rng.integers(0, len(task), (repetitions, len(task)))] for task in scores]


def interval(figure: Callable[..., Any], *scores: Scores) -> Interval:
    """Ends of the 95 % interval of ``figure(*scores)``; None where no task has more than one run."""
    if not any(len(task) > 1 for some in scores for task in some):
        return None, None
    values = figure(*(drawn(some, stream) for stream, some in enumerate(scores)))
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def band(values: Any) -> tuple[Any, Any, Any]:
    """Of curves [runs, points] of one task: their IQM at each point, and the ends of its interval (NaN of one run)."""
    middle = interquartile_means(values.T)
    if len(values) < 2:
        return middle, np.full_like(middle, math.nan), np.full_like(middle, math.nan)
    rng = np.random.default_rng([2021, 0])
    again = values[rng.integers(0, len(values), (REPETITIONS // 4, len(values)))]  # [repetitions, runs, points]
    low, high = np.quantile(interquartile_means(again.swapaxes(1, 2)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return middle, low, high
