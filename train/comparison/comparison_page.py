"""A comparison as one page of HTML, with its charts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from palaestra.train.comparison.comparison import Comparison, GroupFigures
from palaestra.train.comparison.comparison_table import (
    NOTHING,
    as_dict,
    in_one_piece,
    overall_rows,
    settings_of,
    task_rows,
)
from palaestra.train.comparison.verdict import verdict
from palaestra.train.formatting import NORMALISED, known
from palaestra.train.report.charts import Curve, ScoreRow, SvgChart, interval_chart, line_chart
from palaestra.train.report.html_page import render

TEMPLATE = Path(__file__).with_name("compare.html")
_RUN_HEADS = ("run", "environment", "method", "seed", "state", "steps", "score", NORMALISED)


def comparison_page(comparison: Comparison) -> str:
    """The page; it holds everything that ``--json`` prints as well."""
    names = [method.method for method in comparison.methods]
    names += [f.group.method for f in comparison.groups if f.group.method not in names]
    colours = {name: number for number, name in enumerate(dict.fromkeys(names))}
    tasks: list[dict[str, Any]] = []
    for number, task in enumerate(dict.fromkeys(figures.group.task for figures in comparison.groups)):
        own = [figures for figures in comparison.groups if figures.group.task == task]
        tasks.append(
            {"name": task, "table": _method_first(task_rows(own)), "charts": _task_charts(number, own, colours)}
        )
    overall = _overall_charts(comparison, colours)
    methods = ", ".join(colours) if len(colours) <= 4 else f"{len(colours)} methods"
    where = tasks[0]["name"] if len(tasks) == 1 else f"{len(tasks)} environments"
    return render(
        TEMPLATE,
        [*overall, *(chart for task in tasks for chart in task["charts"])],
        {"comparison": as_dict(comparison)},
        title=f"{methods} on {where}",
        made=f"{_runs(len(comparison.runs))}, compared on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        verdict=[in_one_piece(line) for line in verdict(comparison)],
        remarks=comparison.remarks,
        overall=overall,
        overall_table=_method_first(overall_rows(comparison)) if len(comparison.tasks) > 1 else None,
        tasks=tasks,
        settings=list(settings_of(comparison).items()),
        run_heads=_RUN_HEADS,
        run_rows=_run_rows(comparison.groups),
    )


def _method_first(table: tuple[list[str], list[list[str]]]) -> tuple[list[str], list[list[str]]]:
    """The table with its last column first, which names the rows."""
    heads, rows = table
    return heads[-1:] + heads[:-1], [row[-1:] + row[:-1] for row in rows]


def _task_charts(number: int, groups: Sequence[GroupFigures], colours: dict[str, int]) -> list[SvgChart]:
    """Final scores, curves, and scores while training."""
    charts = []
    scaled = all(f.percent is not None for f in groups if f.score is not None)
    label = f"{NORMALISED}, %" if scaled else "mean return"
    levels = (("best known", 100.0),) if scaled else ()
    rows = []
    for f in sorted(groups, key=lambda f: -(f.score or 0.0)):
        value, (low, high) = (f.percent, f.percent_interval) if scaled else (f.score, f.score_interval)
        if value is not None:
            rows.append(ScoreRow(f.group.method, value, low, high, colours[f.group.method], _seeds(len(f.scores))))
    if rows:
        charts.append(interval_chart(f"score-{number}", "Final score (IQM)", rows, x_label=label, levels=levels))
    drawn = sorted((f for f in groups if f.curve is not None), key=lambda f: colours[f.group.method])
    scaled = all(f.curve is not None and f.curve.normalised for f in drawn)
    label = f"{NORMALISED}, %" if scaled else "mean return"
    if drawn and len({f.curve.normalised for f in drawn if f.curve is not None}) == 1:
        curves = [_curve(f, colours) for f in drawn]
        note = "Evaluations while training: IQM over seeds, with the 95 % interval of a bootstrap."
        levels = (("best known", 100.0),) if scaled else ()
        chart = line_chart(
            *(f"curve-{number}", "Learning", curves), x_label="steps", y_label=label, levels=levels, note=note
        )
        charts.append(chart)
    trained = sorted((f for f in groups if f.training is not None), key=lambda f: -(f.training or 0.0))
    if trained:
        rows = [
            ScoreRow(f.group.method, f.training or 0.0, *f.training_interval, colours[f.group.method]) for f in trained
        ]
        note = "The mean height of the curve over the steps that all have in common: more is learnt from fewer steps."
        title = "Score while training"
        charts.append(interval_chart(f"training-{number}", title, rows, x_label=label, note=note))
    return charts


def _curve(figures: GroupFigures, colours: dict[str, int]) -> Curve:
    curve, method = figures.curve, figures.group.method
    assert curve is not None
    low, high = ([], []) if len(curve.runs) < 2 else (_plain(curve.low), _plain(curve.high))
    name = f"{method} ({_seeds(len(curve.runs))})"
    steps = [float(step) for step in curve.steps]
    return Curve(name, steps, _plain(curve.middle), low, high, colour=colours[method])


def _plain(values: Any) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count:,} runs"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"{count} seeds"


def _overall_charts(comparison: Comparison, colours: dict[str, int]) -> list[SvgChart]:
    """Performance profiles, the probability of improvement, and over several environments the aggregate scores."""
    charts = []
    label = f"{NORMALISED}, %" if comparison.normalised else "mean return"
    if len(comparison.tasks) > 1:
        rows = [ScoreRow(m.method, *_pair(m.figures["IQM"]), colours[m.method]) for m in comparison.methods]
        title = f"IQM over {len(comparison.tasks)} environments"
        charts.append(interval_chart("overall", title, rows, x_label=label, levels=(("best known", 100.0),)))
    if comparison.improvements:
        rows = [
            ScoreRow(f"{i.best} over {i.other}", i.probability, *i.interval, colours[i.best], f"p = {i.p:.2g}")
            for i in comparison.improvements
        ]
        note = "The probability that a run of the one scores more than a run of the other; 0.5 is no difference."
        title = "Probability of improvement"
        levels = (("no difference", 0.5),)
        charts.append(interval_chart("improvement", title, rows, x_label="probability", levels=levels, note=note))
    if sum(len(task) for method in comparison.methods for task in method.scores) > 1:
        curves = [
            Curve(m.method, _plain(comparison.levels), _plain(m.profile), *_profile_ends(m), colour=colours[m.method])  # type: ignore[arg-type]
            for m in comparison.methods
        ]
        note = "The share of runs that score more than what stands below; the higher curve is the better method."
        title = "Performance profile"
        charts.append(
            line_chart("profile", title, curves, x_label=label, y_label="share of runs", from_zero=True, note=note)
        )
    return charts


def _pair(figure: tuple[float, tuple[float | None, float | None]]) -> tuple[float, float | None, float | None]:
    value, (low, high) = figure
    return value, low, high


def _profile_ends(method: Any) -> tuple[list[float | None], list[float | None]]:
    low, high = _plain(method.profile_low), _plain(method.profile_high)
    return ([], []) if None in low else (low, high)


def _run_rows(groups: Sequence[GroupFigures]) -> list[list[str]]:
    return [
        [
            run.path,
            figures.group.task,
            figures.group.method,
            NOTHING if run.seed is None else str(run.seed),
            run.state,
            NOTHING if run.total_steps is None else f"{run.total_steps:,}",
            NOTHING if run.score is None else known(run.score),
            NOTHING if run.percent is None else f"{run.percent:.1f} %",
        ]
        for figures in groups
        for run in figures.group.runs
    ]
