"""What a comparison comes to, in sentences; it says where seeds are too few for more."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from palaestra.train.comparison.aggregate_scores import Interval
from palaestra.train.comparison.comparison import Comparison, Improvement, MethodFigures
from palaestra.train.comparison.seed_test import SIGNIFICANT, seeds_needed
from palaestra.train.formatting import known
from palaestra.train.runs.run_folder import RunFolder

MOST_NAMES = 5
FEW = 5  # seeds; intervals of fewer hold less often than they say


def verdict(comparison: Comparison) -> list[str]:
    """The sentences, the most important first."""
    if not any(len(figures.scores) for figures in comparison.groups):
        return ["No run has a final score, so nothing can be said of which is better."]
    if not comparison.methods:
        return ["No environment has final scores of all methods, so they cannot be compared as a whole."]
    best, *others = comparison.methods
    if not others:
        return _of_one(comparison, best)
    lines = [f"{best.method} is ahead with {_score(comparison, best)}{_where(comparison)}."]
    beaten = [i for i in comparison.improvements if i.p <= SIGNIFICANT]
    hopeless = [i for i in comparison.improvements if i not in beaten and i.least_p > SIGNIFICANT]
    open_ = [i for i in comparison.improvements if i not in beaten and i not in hopeless]
    if beaten:
        lines.append(f"It beats {_listed(beaten)} by more than seeds explain.")
    if open_:
        lines.append(f"It is not told apart from {_listed(open_)}.")
    if hopeless:
        lines.append(_too_few(comparison, hopeless))
    return lines + _narrow(comparison)


def _of_one(comparison: Comparison, only: MethodFigures) -> list[str]:
    runs = [run for run in comparison.runs if run.score is not None]
    if len(runs) == 1:
        start = f"There is one run only, with {_score(comparison, only)}: nothing to compare it with, and no interval."
        return [start, _more_seeds(comparison, only.method)]
    start = f"There is one method only, {only.method}, with {_score(comparison, only)}{_where(comparison)}."
    return [start, *_narrow(comparison)]


def _score(comparison: Comparison, method: MethodFigures) -> str:
    value, (low, high) = method.figures["IQM"]
    half = 0.0 if low is None or high is None else (high - low) / 2
    unit = " %" if comparison.normalised else ""
    what = "a normalised score of " if comparison.normalised else "a score of "
    if low is None or high is None:
        return f"{what}{known(value, half)}{unit}"
    return f"{what}{known(value, half)}{unit} (IQM, 95 % interval {known(low, half)} to {known(high, half)}{unit})"


def _where(comparison: Comparison) -> str:
    names = comparison.tasks
    return f" on {names[0]}" if len(names) == 1 else f" over {len(names)} environments"


def _listed(improvements: Sequence[Improvement]) -> str:
    """Each with its numbers: one or two with all, of more the first ones with p."""
    if len(improvements) <= 2:
        return " and ".join(f"{one.other} ({_numbers(one)})" for one in improvements)
    first = ", ".join(f"{one.other} (p = {one.p:.2g})" for one in improvements[:MOST_NAMES])
    more = len(improvements) - MOST_NAMES
    return f"{first} and {more} more" if more > 0 else first


def _numbers(one: Improvement) -> str:
    return f"probability of improvement {_probability(one.probability, one.interval)}, p = {one.p:.2g}"


def _probability(value: float, ends: Interval) -> str:
    low, high = ends
    return f"{value:.2f}" if low is None or high is None else f"{value:.2f}, 95 % interval {low:.2f} to {high:.2f}"


def _too_few(comparison: Comparison, hopeless: Sequence[Improvement]) -> str:
    seeds = [len(task) for method in comparison.methods for task in method.scores]
    number = f"{min(seeds)} to {max(seeds)}" if min(seeds) < max(seeds) else f"{seeds[0]}"
    least = max(one.least_p for one in hopeless)
    needed = seeds_needed(len(comparison.tasks), SIGNIFICANT / len(comparison.improvements))
    seed = "seed of each is" if number == "1" else "seeds of each are"
    more = _more_seeds(comparison, comparison.methods[0].method)
    return (
        f"{number} {seed} too few to tell it from {_listed(hopeless)}: whatever the scores, p would be {least:.2g} at "
        f"best. With {needed} seeds of each it can be as small as {SIGNIFICANT:g}. {more}"
    )


def _more_seeds(comparison: Comparison, method: str) -> str:
    """The command that trains another seed of a method."""
    runs = [run for figures in comparison.groups if figures.group.method == method for run in figures.group.runs]
    seed = max((run.seed for run in runs if run.seed is not None), default=-1) + 1
    config = shlex.quote(str(RunFolder(Path(runs[0].path)).config_file))
    return f"Another one: palaestra train --config {config} --seed {seed}"


def _narrow(comparison: Comparison) -> list[str]:
    counts = {len(task) for method in comparison.methods for task in method.scores}
    few = min(counts)
    if few >= FEW:
        return []
    here = f"here there {'is' if few == 1 else 'are'} {few}{' in places' if len(counts) > 1 else ''}"
    return [f"Intervals of fewer than {FEW} seeds are too narrow to be relied on; {here}."]
