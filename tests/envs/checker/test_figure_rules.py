"""The rule on ``report_figures``: a broken figure of every sort is found, and a sound one of every kind is not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box
from torch import Tensor

from palaestra.envs import TensorEnv
from palaestra.envs.checker.figure_rules import figure_problem, report_figures
from palaestra.envs.checker.findings import DoesNotApply
from palaestra.envs.checker.value_rules import Subject
from palaestra.envs.core.reference import BarFigure, LineFigure, MapFigure, RowFigure
from palaestra.envs.core.rng import Rng

BARS = BarFigure("Lengths", "cells", "episodes", [0.5, 1.5, 2.5], [3, 0], [1], ["1", "2"], [("mean", 1.2)], "A note.")
MAPS = MapFigure("Prices", "period", "units", "price", {"agent": [[1.0, None], [2, 3.5]]})
LINES = LineFigure("Way", "time, s", "cm", [0.0, 1.0], {"agent": [3, None]}, {"agent": ([1, None], [4, None])})
ROWS = RowFigure("Profit", "a period", {"agent": 0.3, "best": 0.4}, ["best"], [("Nash", 0.2)])
ALONE = replace(ROWS, compared=())


@dataclass(frozen=True)
class FieldState:
    height: Tensor  # float32 [N]


class Field(TensorEnv[FieldState]):
    """A ball that falls; an episode ends on the ground."""

    max_episode_steps = 20

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-9.0, 9.0, (1,)), Box(-1.0, 1.0, (1,))
        self.table = torch.arange(3.0)

    def reset(self, rng: Rng) -> FieldState:
        return FieldState(rng.uniform(0.0, 1.0))

    def step(self, state: FieldState, action: Tensor, rng: Rng) -> tuple[FieldState, Tensor, Tensor]:
        after = FieldState(state.height - 0.1)
        return after, torch.ones_like(state.height), after.height < 0.0

    def observe(self, state: FieldState) -> Tensor:
        return state.height.unsqueeze(1)

    def success(self, state: FieldState) -> Tensor:
        return state.height < -0.05

    def report_figures(self, returns: Any, lengths: Any, successes: Any, act: Any) -> Any:
        assert lengths.shape == successes.shape == returns.shape
        return [BARS, MAPS, LINES, ROWS]


def verdict(env: TensorEnv[Any]) -> str | None:
    return report_figures(Subject(env, 8, 4, 0))


@pytest.mark.parametrize("figure", [BARS, MAPS, LINES, ROWS], ids=lambda figure: type(figure).__name__)
def test_sound_figures_pass(figure: Any) -> None:
    assert figure_problem(figure) is None
    assert figure_problem(replace(figure, note="")) is None


@pytest.mark.parametrize(
    ("figure", "change", "problem"),
    [
        (BARS, {"title": 3}, "title must be a text, got int"),
        (BARS, {"x_label": " "}, "x_label is empty"),
        (BARS, {"note": "two\nlines"}, "note must be one line of letters that can be printed, got 'two\\nlines'"),
        (BARS, {"title": "more <b>bold"}, "title has markup, '<b>bold': the page shows it as it stands"),
        (BARS, {"note": "a &lt; b"}, "note has markup, '&lt; b'"),
        (BARS, {"y_label": "y" * 40}, "y_label has 40 letters, and there is room for 28"),
        (BARS, {"edges": [0.5, 1.5]}, "edges has 2 numbers, not 3"),
        (BARS, {"edges": [0.5, 0.5, 1.0]}, "edges must rise"),
        (BARS, {"counts": [], "edges": [1.0]}, "counts is empty: leave the figure out"),
        (BARS, {"counts": [1, -1]}, "counts must not be negative"),
        (BARS, {"counts": np.array([1, 2])}, "counts must be a list of numbers, got ndarray: .tolist() makes plain"),
        (BARS, {"counts": [np.float32(1), 2]}, "counts must be numbers, got np.float32(1.0): .tolist() makes plain"),
        (BARS, {"counts": [float("nan"), 2]}, "counts has nan: leave it out"),
        (BARS, {"counts": [True, 2]}, "counts must be numbers, got True"),
        (BARS, {"names": ["1"]}, "there are 1 names of 2 bars"),
        (BARS, {"marked": [2]}, "marked must be numbers of bars, 0 … 1, got 2"),
        (BARS, {"levels": [1.0]}, "levels must be pairs of a name and a number, got 1.0"),
        (BARS, {"levels": [("mean", float("inf"))]}, "level 'mean' has inf: leave it out"),
        (MAPS, {"steps": (1.0, 0.0)}, "steps must be above 0, got (1.0, 0.0)"),
        (MAPS, {"maps": {}}, "maps must be a dict by name with something in it, got {}"),
        (MAPS, {"maps": {"a": [[1.0], [1.0, 2.0]]}}, "all rows of all maps must have the same length"),
        (MAPS, {"maps": {"a": [[1.0]], "b": [[1.0, 2.0]]}}, "all rows of all maps must have the same length"),
        (MAPS, {"maps": {"a": np.ones((2, 2))}}, "map 'a' must be a list of rows, got ndarray: .tolist() makes plain"),
        (MAPS, {"maps": {"a": [[None, float("nan")]]}}, "row 0 of map 'a' has nan: None leaves a gap"),
        (MAPS, {"maps": {"a": [[None, None]]}}, "maps have no number: leave the figure out"),
        (MAPS, {"value_label": None}, "value_label must be a text, got NoneType"),
        (LINES, {"x": [1.0, 0.0]}, "x must rise"),
        (LINES, {"curves": {"agent": [1.0]}}, "curve 'agent' has 1 numbers, not 2"),
        (LINES, {"curves": {"agent": [None, None]}}, "curve 'agent' has no number: leave it out"),
        (LINES, {"curves": {}}, "curves must be a dict by name with something in it, got {}"),
        (LINES, {"bands": {"other": ([0, 0], [1, 1])}}, "bands must have the low and the high ends of curves"),
        (LINES, {"bands": {"agent": ([0, 0], [1])}}, "band 'agent' has 1 numbers, not 2"),
        (LINES, {"bands": {"agent": ([2, 0], [1, 1])}}, "band 'agent' has a low end above the high one"),
        (ROWS, {"values": {"agent": None}}, "value 'agent' must be numbers, got None"),
        (ROWS, {"values": {"<script>": 1.0, "b": 1.0}}, "a name in values has markup, '<script>'"),
        (ROWS, {"compared": ["worst"]}, "compared has 'worst', which is no name of a value"),
    ],
)
def test_a_broken_figure_is_found(figure: Any, change: dict[str, Any], problem: str) -> None:
    found = figure_problem(replace(figure, **change))
    assert found is not None
    assert found.startswith(problem)


class NoList(Field):
    def report_figures(self, *arguments: Any, act: Any = None) -> Any:
        return BARS


class OfNoKind(Field):
    def report_figures(self, *arguments: Any, act: Any = None) -> Any:
        return [BARS, {"kind": "bars"}]


class Broken(Field):
    def report_figures(self, *arguments: Any, act: Any = None) -> Any:
        return [replace(ROWS, title="")]


class NeedsAPolicy(Field):
    def report_figures(self, *arguments: Any, act: Any = None) -> Any:
        return [replace(ALONE, values={"mean": float(act(FieldState(torch.zeros(2))).mean())})]


class NeedsASuccess(Field):
    def report_figures(self, returns: Any, lengths: Any, successes: Any, act: Any) -> Any:
        return [replace(ALONE, values={"mean": float(lengths[successes].mean())})] if len(lengths) > 1 else []


class OfManyEpisodes(Field):
    def report_figures(self, returns: Any, lengths: Any, successes: Any, act: Any) -> Any:
        return [replace(ALONE, values={"deviation": float(lengths.std(ddof=1))})]


class Random(Field):
    def report_figures(self, *arguments: Any, act: Any = None) -> Any:
        return [replace(ROWS, note=f"{np.random.default_rng().random()}")]


class SortsInPlace(Field):
    def report_figures(self, returns: Any, lengths: Any, successes: Any, act: Any) -> Any:
        lengths.sort()
        return [ROWS]


class ChangesItsTable(Field):
    def report_figures(self, *arguments: Any, act: Any = None) -> Any:
        self.table.add_(1.0)
        return [ROWS]


class ChangesItsLimit(Field):
    def report_figures(self, *arguments: Any, act: Any = None) -> Any:
        self.max_episode_steps = 7
        return [ROWS]


class TooLarge(Field):
    def report_figures(self, *arguments: Any, act: Any = None) -> Any:
        return [replace(MAPS, maps={"a": [[1.0] * 1000] * 200})]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("env", "problem"),
    [
        (NoList, "of 32 random episodes, with a policy: it must return a list of figures, got BarFigure"),
        (OfNoKind, "figure 1 must be a BarFigure, MapFigure, LineFigure or RowFigure of palaestra.envs.core.reference"),
        (Broken, "of 32 random episodes, with a policy: figure 0, '': title is empty"),
        (NeedsAPolicy, "of 32 random episodes, without one: TypeError: 'NoneType' object is not callable"),
        (NeedsASuccess, "of episodes without a success, with a policy: figure 0, 'Profit': value 'mean' has nan"),
        (OfManyEpisodes, "of a single episode, with a policy: figure 0, 'Profit': value 'deviation' has nan"),
        (Random, "with a policy: a second call gives other figures: they must depend on what is given alone"),
        (SortsInPlace, "with a policy: it changes lengths in place: compute with a copy"),
        (ChangesItsTable, "report_figures changes self.table: compute with a copy"),
        (ChangesItsLimit, "report_figures changes self.max_episode_steps: compute with a copy"),
        (TooLarge, "as JSON they are 1,000,"),
    ],
)
def test_a_broken_environment_is_found(env: type[TensorEnv[Any]], problem: str) -> None:
    found = verdict(env())
    assert found is not None
    assert problem in found


def test_a_sound_environment_passes_and_another_is_told_what_it_would_gain() -> None:
    class Without(Field):
        report_figures = TensorEnv.report_figures

    assert verdict(Field()) is None
    assert isinstance(verdict(Without()), DoesNotApply)
