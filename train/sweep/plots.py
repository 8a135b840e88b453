"""Three pictures of a sweep: its history, the importance of each setting, and the score over each setting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from palaestra.train.sweep.search_space import COMPLEMENT, Choice, Dimension, Range, Space
from palaestra.train.sweep.study import counted

BLUE, GREY, ORANGE = "#2266bb", "#9a9a9a", "#d9730d"
_ENOUGH = 10  # finished trials, to say what matters
_COLUMNS = 3


def draw(space: Space, study: optuna.Study, folder: Path) -> list[Path]:
    """The pictures that there are enough trials for."""
    trials = [trial for trial in counted(study) if trial.value is not None]
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not finished:
        return []
    figures = {"history": _history(space, trials), "slices": _slices(space, trials)}
    if len(finished) >= _ENOUGH and len({trial.value for trial in finished}) > 1 and len(space.dimensions) > 1:
        figures["importance"] = _importance(study, len(finished))
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=120)
    return paths


def _split(trials: Sequence[FrozenTrial]) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return finished, [trial for trial in trials if trial.state != TrialState.COMPLETE]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _history(space: Space, trials: Sequence[FrozenTrial]) -> Figure:
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    finished, stopped = _split(trials)
    numbers, scores = _points(finished)
    last = max(trial.number for trial in trials)
    best = list(itertools.accumulate(scores, max))
    axes.step([*numbers, last], [*best, best[-1]], where="post", color=BLUE, lw=1, label="best so far")
    axes.plot(numbers, scores, "o", color=BLUE, label="finished")
    if stopped:
        axes.plot(*_points(stopped), "o", mfc="none", color=GREY, label="stopped early, score then")
    for trial in finished:
        if trial.params == space.start:
            axes.axhline(
                float(trial.value or 0.0), color=ORANGE, ls="--", lw=1, label="the preset's one trial", zorder=0
            )
            break
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel="score", title=f"{space.base.env}, {space.base.agent}")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    _plain(axes)
    return figure


def _points(trials: Sequence[FrozenTrial]) -> tuple[list[int], list[float]]:
    return [trial.number for trial in trials], [float(trial.value or 0.0) for trial in trials]


def _importance(study: optuna.Study, count: int) -> Figure:
    found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    names, values = list(found)[::-1], list(found.values())[::-1]
    figure = Figure(figsize=(7, 1.4 + 0.35 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh([_label(name) for name in names], values, color=BLUE)
    axes.bar_label(bars, [f"{value:.0%}" for value in values], padding=4)
    axes.set(
        xlim=(0, 1.12 * max(*values, 0.01)),
        xlabel="share",
        title=f"What good scores depend on ({count} finished trials)",
    )
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
    _plain(axes)
    return figure


def _slices(space: Space, trials: Sequence[FrozenTrial]) -> Figure:
    columns = min(_COLUMNS, len(space.dimensions))
    rows = -(-len(space.dimensions) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.6 * rows + 0.4), layout=ConstrainedLayoutEngine(w_pad=0.15))
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, dimension in itertools.zip_longest(panels.flat, space.dimensions):
        if dimension is None:
            axes.remove()
            continue
        _slice(axes, space, dimension, trials)
    for row in panels:
        row[0].set_ylabel("score")
    handles, labels = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return figure


def _slice(axes: Axes, space: Space, dimension: Dimension, trials: Sequence[FrozenTrial]) -> None:
    finished, stopped = _split(trials)
    styles: list[tuple[list[FrozenTrial], dict[str, Any], str]] = [
        (stopped, {"mfc": "none", "color": GREY}, "stopped early"),
        (finished, {"color": BLUE}, "finished"),
    ]
    for group, style, label in styles:
        if group:
            places = [_place(dimension, trial.params[dimension.name]) for trial in group]
            axes.plot(places, _points(group)[1], "o", ms=5, label=label, **style)
    if space.start is not None:
        axes.axvline(
            _place(dimension, space.start[dimension.name]), color=ORANGE, ls="--", lw=1, label="preset", zorder=0
        )
    if isinstance(dimension, Choice):
        axes.set_xticks(range(len(dimension.choices)), [str(choice) for choice in dimension.choices])
        axes.set_xlim(-0.5, len(dimension.choices) - 0.5)
    elif dimension.log:
        axes.set_xscale("log")
        marks = (dimension.low, math.sqrt(dimension.low * dimension.high), dimension.high)
        axes.set_xticks(marks, [f"{mark:.2g}" for mark in marks])
        axes.set_xticks([], minor=True)
    axes.set_xlabel(_label(dimension.name))
    _plain(axes)


def _label(name: str) -> str:
    return name.replace(COMPLEMENT, "1 − ")


def _place(dimension: Dimension, value: Any) -> float:
    return float(value) if isinstance(dimension, Range) else float(dimension.choices.index(value))
