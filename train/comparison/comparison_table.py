"""A comparison for the terminal, as JSON, and as a CSV file with a row a run."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palaestra.train.comparison.aggregate_scores import Interval
from palaestra.train.comparison.comparison import Comparison, GroupFigures, MethodFigures
from palaestra.train.comparison.learning_curves import GroupCurve
from palaestra.train.comparison.verdict import verdict
from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import columns, fitted, known, minutes, printable, two_digits

NOTHING = "–"
_FIRST = "environment,method"  # columns of the CSV file
_NO_BREAK = "\N{NO-BREAK SPACE}"
_ALWAYS = ("seeds", "score", "method")  # columns


def comparison_table(comparison: Comparison, width: int | None) -> str:
    """The verdict, a table for each environment, one over all of them, and what was left out."""
    lines = [_fitted(line, width) for line in verdict(comparison)]
    for task in dict.fromkeys(figures.group.task for figures in comparison.groups):
        heads, rows = task_rows([figures for figures in comparison.groups if figures.group.task == task])
        lines += ["", fitted(printable(task), width), *columns(heads, rows, width)]
    if len(comparison.tasks) > 1:
        heads, rows = overall_rows(comparison)
        lines += ["", f"over {len(comparison.tasks)} environments, normalised", *columns(heads, rows, width)]
    if long := settings_of(comparison):
        lines += ["", *(fitted(f"{method}: {settings}", width) for method, settings in long.items())]
    lines += ["", *(_fitted(text, width) for text in comparison.remarks)] if comparison.remarks else []
    return "\n".join(lines)


def _fitted(line: str, width: int | None) -> str:
    return fitted(in_one_piece(printable(line)), width).replace(_NO_BREAK, " ")


def in_one_piece(line: str) -> str:
    """The line with spaces between numbers and what belongs to them at which it is not broken."""
    return re.sub(r" %|\bp = ", lambda found: found[0].replace(" ", _NO_BREAK), line)


def task_rows(groups: Sequence[GroupFigures]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of one environment's groups, the best first; columns that say nothing are left out."""
    scaled = any(figures.percent is not None for figures in groups)
    groups = sorted(groups, key=lambda figures: (figures.score is None, -(figures.score or 0.0)))
    heads = ["seeds", "score", "normalised", "95 % interval", "training", "solved after", "method"]
    rows = []
    for figures in groups:
        ends = figures.percent_interval if scaled else figures.score_interval
        unit = " %" if scaled else ""
        half = _half(figures.score_interval)
        rows.append(
            [
                _seeds(len(figures.scores), len(figures.group.runs)),
                NOTHING if figures.score is None else known(figures.score, half),
                _percent(figures.percent, _half(figures.percent_interval)),
                interval_words(ends, unit),
                _training(figures),
                _solved(figures),
                figures.group.method,
            ]
        )
    told = [i for i, head in enumerate(heads) if head in _ALWAYS or any(row[i] != NOTHING for row in rows)]
    return [heads[i] for i in told], [[row[i] for i in told] for row in rows]


def _seeds(scored: int, runs: int) -> str:
    return str(runs) if scored == runs else f"{scored} of {runs}"


def _half(ends: Interval) -> float:
    low, high = ends
    return 0.0 if low is None or high is None else (high - low) / 2


def _percent(value: float | None, half: float) -> str:
    return NOTHING if value is None else f"{known(value, half)} %"


def interval_words(ends: Interval, unit: str = "") -> str:
    low, high = ends
    if low is None or high is None:
        return NOTHING
    half = (high - low) / 2
    return f"{known(low, half)} to {known(high, half)}{unit}"


def _training(figures: GroupFigures) -> str:
    if figures.training is None or figures.curve is None:
        return NOTHING
    unit = " %" if figures.curve.normalised else ""
    return f"{known(figures.training, _half(figures.training_interval))}{unit}"


def _solved(figures: GroupFigures) -> str:
    """After how many steps and how long runs solved the task, and how many if not all did."""
    solved = figures.solved
    if solved is None:
        return NOTHING
    some = "" if solved.solved == solved.runs else f"{solved.solved} of {solved.runs}"
    if math.isinf(solved.steps):
        return some
    after = f"{two_digits(solved.steps).replace(' ', '')}, {minutes(solved.seconds)}"
    return f"{some}: {after}" if some else after


def overall_rows(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the methods over all environments."""
    names = list(comparison.methods[0].figures)
    rows = []
    for method in comparison.methods:
        cells = [_percent(value, _half(ends)) for value, ends in method.figures.values()]
        rows.append([cells[0], interval_words(method.figures[names[0]][1], " %"), *cells[1:], method.method])
    return [names[0], "95 % interval", *names[1:], "method"], rows


def settings_of(comparison: Comparison) -> dict[str, str]:
    """The settings of methods whose names are numbers, as they would be too long."""
    groups = (figures.group for figures in comparison.groups)
    return {
        group.method: " ".join(f"{key}={value}" for key, value in group.settings.items())
        for group in groups
        if "#" in group.method
    }


def as_dict(comparison: Comparison) -> dict[str, Any]:
    """Plain data; what is not known, and infinite times, are None."""
    return {
        "verdict": verdict(comparison),
        "groups": [_group_dict(figures) for figures in comparison.groups],
        "environments": list(comparison.tasks),
        "normalised": comparison.normalised,
        "methods": [_method_dict(method) for method in comparison.methods],
        "profile_levels": [float(level) for level in comparison.levels],
        "improvements": [asdict(improvement) for improvement in comparison.improvements],
        "remarks": list(comparison.remarks),
    }


def _group_dict(figures: GroupFigures) -> dict[str, Any]:
    solved = figures.solved
    return {
        "environment": figures.group.task,
        "method": figures.group.method,
        "settings": dict(figures.group.settings),
        "runs": [_run_dict(run) for run in figures.group.runs],
        "score_iqm": figures.score,
        "score_interval": figures.score_interval,
        "normalised_iqm": figures.percent,
        "normalised_interval": figures.percent_interval,
        "training_iqm": figures.training,
        "training_interval": figures.training_interval,
        "solved": None if solved is None else solved.solved,
        "solved_after_steps": None if solved is None else _number(solved.steps),
        "solved_after_seconds": None if solved is None else _number(solved.seconds),
        "curve": None if figures.curve is None else _curve_dict(figures.curve),
    }


def _curve_dict(curve: GroupCurve) -> dict[str, Any]:
    ends = {name: [_number(value) for value in getattr(curve, name)] for name in ("middle", "low", "high")}
    return {"normalised": curve.normalised, "steps": [float(step) for step in curve.steps], **ends}


def _method_dict(method: MethodFigures) -> dict[str, Any]:
    figures = {
        key.replace(" ", "_"): {"value": value, "interval": ends} for key, (value, ends) in method.figures.items()
    }
    return {"method": method.method, **figures, "profile": [float(share) for share in method.profile]}


def _run_dict(run: Any) -> dict[str, Any]:
    steps, seconds = run.solved_after()
    return {
        "path": run.path,
        "seed": run.seed,
        "state": run.state,
        "steps": run.total_steps,
        "score": run.score,
        "percent_of_optimal": run.percent,
        "solved_after_steps": _number(steps),
        "solved_after_seconds": _number(seconds),
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def check_table(path: Path) -> None:
    """Raise a ConfigError unless a table may be written to ``path``: no other file is replaced, such as a run's."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file, like {path / 'compare.csv'}")
    if path.is_file():
        with path.open("rb") as file:
            begin = file.read(len(_FIRST))
        if begin and begin != _FIRST.encode():
            raise ConfigError(f"{path} is there already and is no table of palaestra compare: choose another name")


def as_csv(comparison: Comparison) -> str:
    """A row for each run: environment, method, settings that differ, and the numbers of the run."""
    keys = sorted({key for figures in comparison.groups for key in figures.group.settings})
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    rows = [
        {"environment": figures.group.task, "method": figures.group.method, **_run_dict(run), **figures.group.settings}
        for figures in comparison.groups
        for run in figures.group.runs
    ]
    heads = [*_FIRST.split(","), *_run_dict(comparison.runs[0]), *keys]
    writer.writerow(heads)
    writer.writerows([["" if row.get(key) is None else row[key] for key in heads] for row in rows])
    return text.getvalue()
