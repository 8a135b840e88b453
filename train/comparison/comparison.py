"""A comparison of runs: its groups with their figures, aggregates over tasks, and what can be said of the methods.

Scores are those of final evaluations, on held-out episodes, of finished runs. Over several tasks they are normalised,
since returns of different environments have nothing in common; tasks whose scale is not known are left out of
aggregates then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from palaestra.train.comparison import aggregate_scores as aggregates
from palaestra.train.comparison.aggregate_scores import Interval, interval
from palaestra.train.comparison.compared_runs import ComparedRun, find_runs, read_run, with_scales
from palaestra.train.comparison.learning_curves import (
    GroupCurve,
    TimeToSolve,
    common_span,
    group_curve,
    time_to_solve,
    while_training,
)
from palaestra.train.comparison.run_groups import RunGroup, grouped
from palaestra.train.comparison.seed_test import adjusted, least_p, permutation_p
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.statistics import LEVEL

POINTS_OF_PROFILE = 101  # of a performance profile


@dataclass(frozen=True)
class GroupFigures:
    """A group with its figures, each with its interval; None where nothing is known.

    Attributes:
        score, percent: IQM of the final scores, as returns and normalised.
        training: IQM of the score while training, as far as all groups of the task have trained.
    """

    group: RunGroup
    scores: Any
    percents: Any
    score: float | None
    score_interval: Interval
    percent: float | None
    percent_interval: Interval
    curve: GroupCurve | None
    training: float | None
    training_interval: Interval
    solved: TimeToSolve | None


@dataclass(frozen=True)
class MethodFigures:
    """A method over the tasks that all methods have, and the share of its runs above each level."""

    method: str
    scores: Sequence[Any]
    figures: dict[str, tuple[float, Interval]]
    profile: Any
    profile_low: Any
    profile_high: Any


@dataclass(frozen=True)
class Improvement:
    """The best method beside another: the probability that it improves on it, and p of that by chance."""

    best: str
    other: str
    probability: float
    interval: Interval
    p: float
    least_p: float


@dataclass(frozen=True)
class Comparison:
    """See the module.

    Attributes:
        tasks: those that aggregates are over.
        normalised: whether aggregates are of normalised scores, else of mean returns.
        levels: of the profiles.
        methods: the best first; empty where no task has scores of all methods.
    """

    groups: Sequence[GroupFigures]
    tasks: Sequence[str]
    normalised: bool
    levels: Any
    methods: Sequence[MethodFigures]
    improvements: Sequence[Improvement]
    remarks: Sequence[str]

    @property
    def runs(self) -> list[ComparedRun]:
        return [run for figures in self.groups for run in figures.group.runs]


def compare_runs(names: Sequence[str]) -> Comparison:
    """Compare runs.

    Args:
        names: run folders or starts of their names, "latest", or folders with runs below them.

    Raises:
        ConfigError: if there is no such run, or none that can be read.
    """
    found = [read_run(path) for path in find_runs(names)]
    runs = with_scales([run for run in found if isinstance(run, ComparedRun)])
    remarks = [text for text in found if isinstance(text, str)]
    if not runs:
        raise ConfigError(f"none of the runs can be compared: {remarks[0]}")
    groups, repeated = grouped(runs)
    counted = [run for group in groups for run in group.runs]
    remarks += [*repeated, *_without_score(counted), *(text for run in counted for text in run.remarks)]
    curves = [group_curve(group) for group in groups]
    figures = []
    for group, curve in zip(groups, curves, strict=True):
        alike = [c for g, c in zip(groups, curves, strict=True) if g.task == group.task and c is not None]
        span = common_span(alike) if curve is not None and len({c.normalised for c in alike}) == 1 else None
        figures.append(_figures(group, curve, span))
    return _over_tasks(figures, remarks)


def _without_score(runs: Sequence[ComparedRun]) -> list[str]:
    paths = {state: [run.path for run in runs if run.state == state] for state in ("running", "interrupted", "broken")}
    unmeasured = [run.path for run in runs if run.state == "finished" and run.score is None]
    paths["finished without an evaluation"] = unmeasured
    return [f"{text}, so without a final score: {', '.join(own)}" for text, own in paths.items() if own]


def _figures(group: RunGroup, curve: GroupCurve | None, span: tuple[float, float] | None) -> GroupFigures:
    scores, percents = (
        np.array([value for run in group.runs if (value := getattr(run, name)) is not None], dtype=float)
        for name in ("score", "percent")
    )
    score, score_interval = _iqm(scores)
    percent, percent_interval = _iqm(percents)
    training, training_interval = (None, (None, None)) if curve is None or span is None else while_training(curve, span)
    return GroupFigures(
        *(group, scores, percents, score, score_interval, percent, percent_interval),
        *(curve, training, training_interval, time_to_solve(group.runs)),
    )


def _iqm(values: Any) -> tuple[float | None, Interval]:
    if not len(values):
        return None, (None, None)
    return float(aggregates.iqm([values])), interval(aggregates.iqm, [values])


def _over_tasks(groups: Sequence[GroupFigures], remarks: list[str]) -> Comparison:
    names = list(dict.fromkeys(figures.group.method for figures in groups if len(figures.scores)))
    by = {(figures.group.task, figures.group.method): figures for figures in groups}
    every = list(dict.fromkeys(figures.group.task for figures in groups))
    scored = [task for task in every if all((task, name) in by and len(by[task, name].scores) for name in names)]
    scales = [task for task in scored if all(len(by[task, n].percents) == len(by[task, n].scores) for n in names)]
    normalised = scales == scored or len(scored) > 1
    tasks = (scales if normalised else scored) if names else []
    lacking = {
        "not all methods have final scores there": [task for task in every if names and task not in scored],
        "the scale of its scores is not known": [task for task in scored if task not in tasks],
    }
    remarks = remarks + [f"{task} is left out of the verdict: {why}" for why, left in lacking.items() for task in left]
    scores = {
        name: [by[task, name].percents if normalised else by[task, name].scores for task in tasks] for name in names
    }
    if not tasks:
        return Comparison(groups, (), normalised, np.zeros(0), (), (), remarks)
    pooled = np.concatenate([task for own in scores.values() for task in own])
    low, high = float(pooled.min()), float(pooled.max())
    if normalised:
        low, high = 10.0 * math.floor(low / 10.0 - 0.5), max(100.0, high)
    levels = np.linspace(low, high, POINTS_OF_PROFILE)
    methods = sorted(
        (_method(name, scores[name], levels, normalised) for name in names), key=lambda m: -m.figures["IQM"][0]
    )
    return Comparison(groups, tasks, normalised, levels, methods, _improvements(methods), remarks)


def _method(name: str, scores: Sequence[Any], levels: Any, normalised: bool) -> MethodFigures:
    wanted = {"IQM": aggregates.iqm, "median": aggregates.median, "mean": aggregates.mean}
    if normalised:
        wanted["optimality gap"] = aggregates.optimality_gap
    figures = {key: (float(figure(scores)), interval(figure, scores)) for key, figure in wanted.items()}
    share = aggregates.profile(scores, levels)
    low = high = np.full(len(levels), math.nan)
    if any(len(task) > 1 for task in scores):
        again = aggregates.profile(aggregates.drawn(scores, 0, aggregates.REPETITIONS // 4), levels)
        low, high = np.quantile(again, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return MethodFigures(name, scores, figures, share, low, high)


def _improvements(methods: Sequence[MethodFigures]) -> list[Improvement]:
    """The best method beside each of the others; p is corrected for their number."""
    best, *others = methods
    ps = adjusted([permutation_p(best.scores, other.scores) for other in others])
    found = []
    for other, p in zip(others, ps, strict=True):
        probability = float(aggregates.improvement(best.scores, other.scores))
        ends = interval(aggregates.improvement, best.scores, other.scores)
        least = least_p([(len(x), len(y)) for x, y in zip(best.scores, other.scores, strict=True)])
        found.append(Improvement(best.method, other.method, probability, ends, p, min(1.0, least * len(others))))
    return found
