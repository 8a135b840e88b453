"""A test of whether two sets of runs differ more than seeds do, and of how many seeds it takes to tell.

1. The statistic is the probability of improvement (:mod:`palaestra.train.comparison.aggregate_scores`). Were there no
   difference, every way of dealing the runs of a task out to the two sides would be as likely as the one that was seen:
   p is the share of them in which the statistic is as far from a half (Fisher's exact permutation test, stratified by
   task; with one task that is Mann and Whitney's). Where there are more than ``MOST_DEALS`` ways, it is estimated from
   as many drawn ones.
2. No scores, however far apart, make p less than two of all ways: with three seeds on each side and one task 0.1. That
   is how a verdict knows that seeds are too few.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from operator import itemgetter
from typing import Any

import numpy as np

from palaestra.train.comparison.aggregate_scores import Scores, improvement

SIGNIFICANT = 0.05
MOST_DEALS = 20_000
_MOST_SEEDS = 1000


def permutation_p(first: Scores, second: Scores) -> float:
    """The two-sided p of scores [runs] of each task on either side, tasks in the same order."""
    pairs = list(zip(first, second, strict=True))
    seen = abs(float(improvement(first, second)) - 0.5) - 1e-12
    if math.prod(math.comb(len(x) + len(y), len(x)) for x, y in pairs) > MOST_DEALS:
        rng = np.random.default_rng(2021)
        drawn = [_shares(x, y, lambda ranks: rng.permuted(np.tile(ranks, (MOST_DEALS, 1)), axis=1)) for x, y in pairs]
        return float(1 + (abs(np.mean(drawn, axis=0) - 0.5) >= seen).sum()) / (1 + MOST_DEALS)
    totals = np.zeros(1)
    for x, y in pairs:
        deals = np.array([*combinations(range(len(x) + len(y)), len(x))])
        totals = (totals[:, None] + _shares(x, y, itemgetter(deals))).ravel()
    return float((abs(totals / len(pairs) - 0.5) >= seen).mean())


def _shares(x: Any, y: Any, deal: Callable[[Any], Any]) -> Any:
    """[deals] probabilities of improvement, each from the sum of the ranks of the first side's runs."""
    _, places, counts = np.unique(np.concatenate([x, y]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # ties have the mean of theirs
    sums = deal(ranks)[:, : len(x)].sum(axis=1)
    return (sums - len(x) * (len(x) + 1) / 2) / (len(x) * len(y))


def least_p(counts: Sequence[tuple[int, int]]) -> float:
    """The least p that any scores give with so many runs on the two sides, task by task."""
    return min(1.0, 2.0 / math.prod(math.comb(x + y, x) for x, y in counts))


def seeds_needed(tasks: int, level: float = SIGNIFICANT) -> int:
    """Seeds on each side of each task with which p can be as small as ``level``."""
    return next(n for n in range(1, _MOST_SEEDS) if least_p([(n, n)] * tasks) <= level)


def adjusted(values: Sequence[float]) -> list[float]:
    """Holm's correction of several p for being several, in their order."""
    order: Any = sorted(range(len(values)), key=lambda i: values[i])
    found, before = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        before = found[i] = min(1.0, max(before, (len(values) - rank) * values[i]))
    return found
