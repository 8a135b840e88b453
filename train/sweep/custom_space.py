"""The user's own search space: ``--vary KEY=LOW..HIGH`` and ``--vary KEY=A,B,C``.

1. Only what is named varies; the rest is as in the preset, or as ``--set`` says.
2. A range is log-uniform from a factor of ten on, and for γ and λ through 1 − γ and 1 − λ. A number in the place of a
   schedule ``linear(a, b)`` is its start. A range of rollout lengths stands for its low end doubled again and again,
   and one of batch sizes for those that divide num_envs × n_steps.
3. Where the preset's value of what varies does not fit the rest, as a batch size that does not divide, the first value
   stands for it.
4. All values, and all combinations of sizes that depend on each other, are tried before the first trial.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import RunConfig
from palaestra.train.config.schema import ConfigError, Option, number, options_of, parse, require_choice
from palaestra.train.sweep.search_space import (
    COMPLEMENT,
    HORIZONS,
    SCHEDULE,
    Choice,
    Dimension,
    Range,
    Space,
    Value,
    setting,
)

_BETWEEN = re.compile(r"(?P<low>[^.\s]\S*?)\.\.(?P<high>\S+)")
_SIZE_KEYS = ("n_steps", "batch_size", "buffer_size", "learning_starts")


def user_space(base: RunConfig, varies: Sequence[str]) -> Space:
    """The space of ``--vary KEY=LOW..HIGH`` and ``--vary KEY=A,B,C``.

    Raises:
        ConfigError: naming what is not understood, unknown, out of range, or invalid in some combination.
    """
    dimensions = [_dimension(base, text) for text in varies]
    names = [dimension.name for dimension in dimensions]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"--vary {name.removeprefix(COMPLEMENT)} is given twice")
    dimensions = [_dividing(base, dimension, dimensions) for dimension in dimensions]
    start = {dimension.name: _value_in(base, dimension) for dimension in dimensions}
    whole = all(dimension.holds(start[dimension.name]) for dimension in dimensions)
    space = Space(base, tuple(dimensions), start if whole else None)
    _try_all(space)
    return space


def first_of(text: str) -> str:
    """The first of the values, as a setting of its own."""
    key, _, values = text.partition("=")
    ends = _BETWEEN.fullmatch(values.strip())
    return f"{key.strip()}={ends['low'] if ends else _parts(values)[0].strip()}"


def _dimension(base: RunConfig, text: str) -> Dimension:
    key, equals, values = (part.strip() for part in text.partition("="))
    if not equals or not key or not values:
        raise ConfigError(f"--vary {text}: expected KEY=LOW..HIGH or KEY=A,B,C")
    if key.startswith("env.") or key in ("num_envs", "total_timesteps", "seed", "device"):
        raise ConfigError(f"--vary {text}: scores of different tasks do not compare; only agent settings are varied")
    require_choice(key.partition(".")[0], options_of(AGENTS[base.agent]), f"{base.agent} setting")
    ends = _BETWEEN.fullmatch(values)
    if ends is not None:
        return _range(base, key, text, *(number(end) for end in ends.groups()))
    rule = options_of(AGENTS[base.agent]).get(key)
    choices = tuple(_choice(f"{key}={part.strip()}", rule) for part in _parts(values))
    if len(set(map(str, choices))) < max(2, len(choices)):
        raise ConfigError(f"--vary {text}: expected at least two values, all different")
    return Choice(key, choices)


def _parts(values: str) -> list[str]:
    """The parts between the commas that are outside brackets."""
    parts, depth = [""], 0
    for letter in values:
        depth += (letter in "[({") - (letter in "])}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _choice(text: str, rule: Option | None) -> Value:
    key, value = parse(text)
    if rule is not None and rule.kind is int:
        value = rule.check(key, value)
    return json.dumps(value) if isinstance(value, list | dict) else value


def _range(base: RunConfig, key: str, text: str, low: Any, high: Any) -> Dimension:
    rule = options_of(AGENTS[base.agent]).get(key)
    if rule is None or not rule.is_number:
        raise ConfigError(f"--vary {text}: {key} is no number; give values with commas")
    low, high = rule.check(key, low), rule.check(key, high)
    if isinstance(low, str) or isinstance(high, str) or low is None or high is None or low >= high:
        raise ConfigError(f"--vary {text}: expected a number below the second one")
    if key in HORIZONS and high < 1:
        return Range(COMPLEMENT + key, round(1 - high, 9), round(1 - low, 9), log=True)
    return Range(key, low, high, log=low > 0 and high >= 10 * low, whole=rule.kind is int)


def _dividing(base: RunConfig, dimension: Dimension, others: Sequence[Dimension]) -> Dimension:
    """A range of batch sizes (of rollout lengths) as the choice of those that divide (are divided)."""
    if "n_epochs" not in options_of(AGENTS[base.agent]) or dimension.name not in ("n_steps", "batch_size"):
        return dimension
    if isinstance(dimension, Choice):
        return dimension
    low, high = int(dimension.low), int(dimension.high)
    if dimension.name == "n_steps":
        return Choice("n_steps", tuple(low * 2**i for i in range(64) if low * 2**i <= high))
    steps = next((_dividing(base, other, ()) for other in others if other.name == "n_steps"), None)
    lengths: Sequence[Any] = [setting(base, "n_steps")] if steps is None else steps.examples()
    fits = tuple(
        size
        for size in range(low, min(high, base.num_envs * min(lengths)) + 1)
        if all(base.num_envs * n % size == 0 for n in lengths)
    )
    if len(fits) < 2:
        raise ConfigError(f"--vary batch_size={low}..{high}: fewer than two of them divide num_envs × n_steps")
    return Choice("batch_size", fits)


def _value_in(base: RunConfig, dimension: Dimension) -> Value:
    """The base's value, in the dimension's terms."""
    value = setting(base, dimension.name.removeprefix(COMPLEMENT))
    if dimension.name.startswith(COMPLEMENT):
        return float(round(1 - value, 9))
    shape = SCHEDULE.fullmatch(value) if isinstance(value, str) else None
    if shape and not dimension.holds(value):
        return float(shape[1])
    found: Value = json.dumps(value) if isinstance(value, list | dict) else value
    return found


def _try_all(space: Space) -> None:
    """Every value by itself, and all combinations of those that depend on each other."""
    sizes = [dimension for dimension in space.dimensions if dimension.name in _SIZE_KEYS]
    points = [
        dict(zip((d.name for d in sizes), p, strict=True)) for p in itertools.product(*(d.examples() for d in sizes))
    ]
    points += [{**points[0], d.name: v} for d in space.dimensions if d not in sizes for v in d.examples()]
    for point in points:
        try:
            space.config(point)
        except ConfigError as error:
            shown = ", ".join(f"{name}={value}" for name, value in point.items())
            raise ConfigError(f"--vary with {shown}: {error}") from error
