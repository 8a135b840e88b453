"""The rule of the conformance checker on ``report_figures``: charts that the report of a run can draw, however it went.

The environment is asked of random episodes, of a single one, of episodes that all are successes or none of which is,
each with a policy and without one, and asked twice of the first. Nothing may differ, and nothing of the environment may
change.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.checker.findings import DoesNotApply
from palaestra.envs.checker.value_rules import Subject, random_actions, same
from palaestra.envs.core import TensorEnv, torch_dtype
from palaestra.envs.core.reference import BarFigure, LineFigure, MapFigure, ReportFigure, RowFigure
from palaestra.envs.core.user_code import RAISED, describe

EPISODES, STEPS = 32, 200  # random episodes, and steps after which they are cut
MOST_BYTES = 500_000  # of an environment's figures as JSON; a whole report has 3 MB
ROOM = {"x_label": 54, "y_label": 28, "value_label": 28, "title": 60}  # letters that fit
_MARKUP = re.compile(r"<[/!a-zA-Z]|&#?\w+;")


def report_figures(subject: Subject) -> str | None:
    if not subject.env.has("report_figures"):
        return DoesNotApply("write report_figures(…): the report of a run shows charts of its own")
    env = copy.deepcopy(subject.env)
    before, act = _attributes(env), _policy(env)
    for number, (told, outcome) in enumerate(_outcomes(subject)):
        for how, policy in (("with a policy", act), ("without one", None)):
            texts: list[str] = []
            for _ in range(1 if number else 2):
                given = copy.deepcopy(outcome)
                try:
                    made: Any = env.report_figures(*given, act=policy)
                except RAISED as error:
                    return f"report_figures of {told}, {how}: {describe(error)}"
                problem = _problem(made) or _changed(given, outcome)
                if problem:
                    return f"report_figures of {told}, {how}: {problem}"
                texts.append(json.dumps([figure.as_dict() for figure in made]))
            if problem := _compared(texts):
                return f"report_figures of {told}, {how}: {problem}"
    after = _attributes(env)
    name = next((name for name, value in before.items() if not _alike(value, after.get(name))), None)
    return None if name is None else f"report_figures changes self.{name}: compute with a copy"


def _compared(texts: Sequence[str]) -> str | None:
    """What is wrong with the figures of one or two calls as JSON."""
    if len({*texts}) > 1:
        return "a second call gives other figures: they must depend on what is given alone"
    if len(texts[0]) > MOST_BYTES:
        return f"as JSON they are {len(texts[0]):,} bytes, and there is room for {MOST_BYTES:,}: leave points out"
    return None


def _outcomes(subject: Subject) -> Iterator[tuple[str, tuple[Any, Any, Any]]]:
    """In words, returns, lengths and successes (None without) of episodes played at random, and of others."""
    batch = subject.batch(EPISODES)
    batch.reset()
    returns, lengths = torch.zeros(EPISODES, dtype=torch.float64), torch.zeros(EPISODES, dtype=torch.int64)
    going, flags = torch.ones(EPISODES, dtype=torch.bool), torch.zeros(EPISODES, dtype=torch.bool)
    for step in range(1, min(STEPS, batch.max_episode_steps or STEPS) + 1):
        _, reward, terminated, truncated, info = batch.step(random_actions(batch, step, batch.action_masks()))
        returns += torch.where(going, reward.double(), 0.0)  # of what is no number another rule tells
        lengths += going
        flags = torch.where(going & (terminated | truncated), info.get("is_success", flags), flags)
        going &= ~(terminated | truncated)
    known = subject.env.has("success")
    found = (returns.nan_to_num().numpy(), lengths.numpy(), flags.numpy() if known else None)
    yield f"{EPISODES} random episodes", found
    yield "a single episode", (found[0][:1], found[1][:1], None if found[2] is None else found[2][:1])
    if known:
        yield "episodes without a success", (*found[:2], np.zeros(EPISODES, bool))
        yield "episodes that all are successes", (*found[:2], np.ones(EPISODES, bool))


def _policy(env: TensorEnv[Any]) -> Callable[[Any], Tensor]:
    """The expert, or a legal action that is always the same."""

    def act(state: Any) -> Tensor:
        if env.has("expert"):
            return env.expert(state)
        if env.has("action_mask"):
            return env.action_mask(state).int().argmax(1)
        count, space = len(env.observe(state)), env.action_space
        lowest = space.low if isinstance(space, Box) else np.zeros(space.shape or (), space.dtype)
        if isinstance(space, Discrete):
            lowest = np.asarray(space.start)
        return torch.as_tensor(lowest, dtype=torch_dtype(space)).expand(count, *(space.shape or ()))

    return act


def _attributes(env: TensorEnv[Any]) -> dict[str, Any]:
    """Numbers, texts, arrays and tensors of the environment and of its class, as they are now."""
    kinds = (bool, int, float, str, tuple, list, dict, np.ndarray, Tensor)
    every = {name: value for place in (*reversed(type(env).__mro__), env) for name, value in vars(place).items()}
    return {name: copy.deepcopy(value) for name, value in every.items() if isinstance(value, kinds)}


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and same(one, other)
    if isinstance(one, np.ndarray):
        alike = isinstance(other, np.ndarray) and one.dtype == other.dtype
        return alike and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    return type(one) is type(other) and (one == other or one != one)


def _changed(given: Sequence[Any], as_it_was: Sequence[Any]) -> str | None:
    for name, now, old in zip(("returns", "lengths", "successes"), given, as_it_was, strict=True):
        if not _alike(old, now):
            return f"it changes {name} in place: compute with a copy"
    return None


def _problem(made: Any) -> str | None:
    """What is wrong with what was returned; None where it can be drawn."""
    if not isinstance(made, list | tuple):
        return f"it must return a list of figures, got {type(made).__name__}"
    for number, figure in enumerate(made):
        if not isinstance(figure, ReportFigure):
            kinds = "BarFigure, MapFigure, LineFigure or RowFigure of palaestra.envs.core.reference"
            return f"figure {number} must be a {kinds}, got {type(figure).__name__}"
        if problem := figure_problem(figure):
            return f"figure {number}, {figure.title!r}: {problem}"
    return None


def figure_problem(figure: ReportFigure) -> str | None:
    """What is wrong with a figure in a sentence; None where it can be drawn."""
    kinds: dict[type, Callable[[Any], Iterator[str | None]]] = {
        BarFigure: _bars,
        MapFigure: _maps,
        LineFigure: _lines,
        RowFigure: _rows,
    }
    checks = (*_texts(figure), *_levels(figure))
    return next((text for text in checks if text), None) or next(filter(None, kinds[type(figure)](figure)), None)


def _texts(figure: Any) -> Iterator[str | None]:
    for name in ("title", "x_label", "y_label", "value_label", "note"):
        if hasattr(figure, name):
            yield _text(name, getattr(figure, name), empty=name == "note")


def _text(name: str, text: Any, *, empty: bool = False) -> str | None:
    if not isinstance(text, str):
        return f"{name} must be a text, got {type(text).__name__}"
    if not text.strip() and not empty:
        return f"{name} is empty"
    if not text.isprintable():
        return f"{name} must be one line of letters that can be printed, got {text!r}"
    if found := _MARKUP.search(text):
        return f"{name} has markup, {text[found.start() :]!r}: the page shows it as it stands, so write plain text"
    if len(text) > (room := ROOM.get(name, len(text))):
        return f"{name} has {len(text)} letters, and there is room for {room}"
    return None


def _levels(figure: Any) -> Iterator[str | None]:
    for level in getattr(figure, "levels", ()):
        if not isinstance(level, tuple | list) or len(level) != 2:
            yield f"levels must be pairs of a name and a number, got {level!r}"
            continue
        yield _text("the name of a level", level[0])
        yield _numbers(f"level {level[0]!r}", [level[1]])


def _numbers(name: str, values: Any, *, holes: bool = False, like: int | None = None) -> str | None:
    """The problem of a row of numbers: NumPy's own, NaN and infinity are none that JSON has."""
    if not isinstance(values, list | tuple):
        return f"{name} must be a list of numbers, got {type(values).__name__}" + _hint(values)
    if like is not None and len(values) != like:
        return f"{name} has {len(values)} numbers, not {like}"
    for value in values:
        if value is None and holes:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{name} must be numbers{' or None' * holes}, got {value!r}" + _hint(value)
        if not math.isfinite(value):
            return f"{name} has {value}" + (": None leaves a gap" if holes else ": leave it out")
    return None


def _hint(value: Any) -> str:
    return ": .tolist() makes plain numbers" if isinstance(value, np.ndarray | np.generic | Tensor) else ""


def _bars(figure: BarFigure) -> Iterator[str | None]:
    yield _numbers("counts", figure.counts)
    yield None if len(figure.counts) else "counts is empty: leave the figure out"
    yield _numbers("edges", figure.edges, like=len(figure.counts) + 1)
    rising = all(a < b for a, b in zip(figure.edges, figure.edges[1:], strict=False))
    yield None if rising else "edges must rise"
    yield None if min(figure.counts) >= 0 else "counts must not be negative"
    yield (
        f"there are {len(figure.names)} names of {len(figure.counts)} bars"
        if len(figure.names)
        not in (
            0,
            len(figure.counts),
        )
        else None
    )
    yield from (_text("the name of a bar", name) for name in figure.names)
    for bar in figure.marked:
        if type(bar) is not int or not 0 <= bar < len(figure.counts):
            yield f"marked must be numbers of bars, 0 … {len(figure.counts) - 1}, got {bar!r}"


def _maps(figure: MapFigure) -> Iterator[str | None]:
    for name in ("first", "steps"):
        yield _numbers(name, getattr(figure, name), like=2)
    yield None if min(figure.steps) > 0 else f"steps must be above 0, got {figure.steps}"
    yield from _named("maps", figure.maps)
    shapes = set()
    for name, rows in figure.maps.items():
        if not isinstance(rows, list | tuple) or not rows:
            yield f"map {name!r} must be a list of rows, got {type(rows).__name__}" + _hint(rows)
            return
        yield from (_numbers(f"row {n} of map {name!r}", row, holes=True) for n, row in enumerate(rows))
        shapes |= {(len(rows), len(row)) for row in rows}
    if len(shapes) != 1 or 0 in next(iter(shapes)):
        yield f"all rows of all maps must have the same length, got {sorted(shapes)} rows and numbers"
    elif all(value is None for rows in figure.maps.values() for row in rows for value in row):
        yield "maps have no number: leave the figure out"


def _lines(figure: LineFigure) -> Iterator[str | None]:
    yield _numbers("x", figure.x)
    yield None if len(figure.x) else "x is empty: leave the figure out"
    yield None if all(a < b for a, b in zip(figure.x, figure.x[1:], strict=False)) else "x must rise"
    yield from _named("curves", figure.curves)
    for name, y in figure.curves.items():
        yield _numbers(f"curve {name!r}", y, holes=True, like=len(figure.x))
        yield f"curve {name!r} has no number: leave it out" if all(value is None for value in y) else None
    for name, ends in figure.bands.items():
        if name not in figure.curves or not isinstance(ends, tuple | list) or len(ends) != 2:
            yield f"bands must have the low and the high ends of curves by their names, got {name!r}"
            return
        yield from (_numbers(f"band {name!r}", end, holes=True, like=len(figure.x)) for end in ends)
        pairs = [(low, high) for low, high in zip(*ends, strict=True) if low is not None and high is not None]
        yield f"band {name!r} has a low end above the high one" if any(low > high for low, high in pairs) else None


def _rows(figure: RowFigure) -> Iterator[str | None]:
    yield from _named("values", figure.values)
    yield from (_numbers(f"value {name!r}", [value]) for name, value in figure.values.items())
    for name in figure.compared:
        yield None if name in figure.values else f"compared has {name!r}, which is no name of a value"


def _named(name: str, values: Any) -> Iterator[str | None]:
    if not isinstance(values, Mapping) or not values:
        yield f"{name} must be a dict by name with something in it, got {values!r:.60}"
    else:
        yield from (_text(f"a name in {name}", key, empty=len(values) == 1) for key in values)
