"""The dimensions that a sweep varies, and the configuration of a run at a point of them.

1. A dimension is a range (uniform, or log-uniform) or a choice. Its values become "key=value" settings over the
   configuration that the sweep starts from, so they are checked as any others.
2. By default the space surrounds that configuration (the preset with the user's ``--set`` over it), which is itself a
   point of the space and the first to be tried. A setting given with ``--set`` is not varied.
3. γ and λ are varied through 1 − γ and 1 − λ, log-uniform: their effect goes with the horizon 1 / (1 − γ). An
   undiscounted task (γ = 1) stays so. The start of a schedule ``linear(a, b)`` or ``score(a, b)`` is varied, and its
   end in proportion.
4. No combination is invalid. Agents that learn from rollouts get a number of minibatches instead of a batch size: the
   batch size is num_envs × n_steps / minibatches, and every choice divides it for all choices of n_steps.

The user's own space instead of this one is in :mod:`palaestra.train.sweep.custom_space`.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import RunConfig, with_settings
from palaestra.train.config.schema import ConfigError, options_of, parse

if TYPE_CHECKING:
    import optuna

Value = float | int | str | bool | None
MINIBATCHES, WIDTH, COMPLEMENT = "minibatches", "width", "one_minus_"  # dimensions that are no settings
HORIZONS = ("gamma", "gae_lambda")
_DIGITS = 4  # significant ones of a value, so that people can read it
SCHEDULE = re.compile(r"(?:linear|score)\(([^,]+), ([^)]+)\)")
_HIDDEN = "policy_kwargs.features_extractor_kwargs.hidden"


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included."""

    name: str
    low: float
    high: float
    log: bool
    whole: bool = False

    def suggest(self, trial: optuna.Trial) -> Value:
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def holds(self, value: Any) -> bool:
        return isinstance(value, int | float) and self.low <= value <= self.high

    def examples(self) -> tuple[Value, ...]:
        return (self.low, self.high)

    def __str__(self) -> str:
        return f"{self.name} {self.low:g} … {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choice:
    """One of a few values; lists and mappings are given as JSON text."""

    name: str
    choices: tuple[Value, ...]

    def suggest(self, trial: optuna.Trial) -> Value:
        chosen: Value = trial.suggest_categorical(self.name, self.choices)
        return chosen

    def holds(self, value: Any) -> bool:
        return value in self.choices

    def examples(self) -> tuple[Value, ...]:
        return self.choices

    def __str__(self) -> str:
        return f"{self.name} {', '.join(str(c) for c in self.choices)}"


Dimension = Range | Choice


@dataclass(frozen=True)
class Space:
    """The dimensions around a configuration.

    Attributes:
        base: the configuration that the others are changes of.
        start: the point that is ``base`` itself; None if the user's space leaves it out.
    """

    base: RunConfig
    dimensions: tuple[Dimension, ...]
    start: dict[str, Value] | None

    def suggest(self, trial: optuna.Trial) -> dict[str, Value]:
        return {dimension.name: dimension.suggest(trial) for dimension in self.dimensions}

    def config(self, point: dict[str, Value]) -> RunConfig:
        """The checked configuration at a point, with the seed of ``base``."""
        return with_settings(self.base, list(self.settings(point)))

    def settings(self, point: dict[str, Value]) -> Iterator[str]:
        """The point as "key=value" settings."""
        for name, value in point.items():
            if name != MINIBATCHES and self.start is not None and value == self.start[name]:
                continue  # as it is, to the last digit
            if name == MINIBATCHES:
                yield f"batch_size={_batch_size(self.base, point)}"
            elif name == WIDTH:
                yield from _width_settings(self.base, value)
            elif name.startswith(COMPLEMENT):
                yield f"{name.removeprefix(COMPLEMENT)}={round(1 - _rounded(value), 9)}"
            else:
                yield f"{name}={_text(setting(self.base, name), value)}"

    def shown(self, point: dict[str, Value]) -> dict[str, Value]:
        """The point in the terms of people: γ for 1 − γ, the batch size for the number of minibatches."""
        found: dict[str, Value] = {}
        for name, value in point.items():
            if name == MINIBATCHES:
                found["batch_size"] = _batch_size(self.base, point)
            elif name.startswith(COMPLEMENT):
                found[name.removeprefix(COMPLEMENT)] = round(1 - _rounded(value), 9)
            else:
                found[name] = _rounded(value) if isinstance(value, float) else value
        return found

    def describe(self) -> list[str]:
        """One line per dimension, which tells two spaces apart."""
        return [str(dimension) for dimension in self.dimensions]


def setting(config: RunConfig, key: str) -> Any:
    """The value of an agent's setting, its default included; None for a part of ``policy_kwargs`` that is not given."""
    value: Any = config.agent_kwargs
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            defaults = inspect.signature(AGENTS[config.agent]).parameters
            return defaults[key].default if key in defaults else None
        value = value[part]
    return value


def _batch_size(base: RunConfig, point: dict[str, Any]) -> int:
    steps: int = point.get("n_steps", setting(base, "n_steps"))
    return int(base.num_envs * steps // point[MINIBATCHES])


def _rounded(value: Any) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _text(base: Any, value: Value) -> str:
    """The value as the text of a setting; a number instead of a schedule keeps the schedule's shape."""
    if isinstance(value, str):
        return value
    shape = SCHEDULE.fullmatch(base) if isinstance(base, str) else None
    if isinstance(value, float):
        value = _rounded(value)
    if shape and isinstance(value, int | float) and not isinstance(value, bool):
        start, end = float(shape[1]), float(shape[2])
        return f"{base.partition('(')[0]}({value}, {_rounded(end * value / start) if value != start else end})"
    return json.dumps(value)


def default_space(base: RunConfig, fixed: Sequence[str] = ()) -> Space:
    """The space around ``base``; ``fixed`` are its "key=value" settings that stay."""
    keys = {parse(text)[0] for text in fixed}
    found = [_around(base, key, factor) for key, factor in AGENTS[base.agent].searched.items() if key not in keys]
    found += [_around_complement(base, key) for key in HORIZONS if key not in keys]
    found += _sizes(base, keys)
    if not any(key.startswith("policy_kwargs") or key == "policy" for key in keys):
        found.append(_widths(base))
    pairs = [pair for pair in found if pair is not None]
    if not pairs:
        raise ConfigError("--set fixes all that a sweep varies by default: say with --vary what to vary")
    return Space(base, tuple(d for d, _ in pairs), {d.name: value for d, value in pairs})


_FROM_ZERO = {"ent_coef": (0.0, 0.001, 0.003, 0.01)}
Found = tuple[Dimension, Value] | None  # a dimension and where the base lies in it


def _around(base: RunConfig, key: str, factor: float) -> Found:
    value, rule = setting(base, key), options_of(AGENTS[base.agent])[key]
    shape = SCHEDULE.fullmatch(value) if isinstance(value, str) else None
    start = float(shape[1]) if shape else value
    if start == 0 and key in _FROM_ZERO and not shape:
        return Choice(key, _FROM_ZERO[key]), 0.0
    if not isinstance(start, int | float) or start <= 0:
        return None  # null, or a schedule that starts at nothing
    assert rule.is_number
    low, high = max(start / factor, rule.low), min(start * factor, rule.high)
    if rule.kind is int:
        return Range(key, max(1, round(low)), round(high), log=True, whole=True), int(start)
    return Range(key, _rounded(low), _rounded(high), log=True), start


def _around_complement(base: RunConfig, key: str) -> Found:
    value = setting(base, key) if key in options_of(AGENTS[base.agent]) else None
    if value is None or value == 1:
        return None
    rest = round(1 - value, 9)
    return Range(COMPLEMENT + key, _rounded(rest / 4), max(rest, min(0.5, _rounded(rest * 4))), log=True), rest


def _sizes(base: RunConfig, fixed: set[str]) -> list[Found]:
    """The dimensions of the rollout length and of the minibatches."""
    steps, batch = setting(base, "n_steps"), setting(base, "batch_size")
    if "n_epochs" not in options_of(AGENTS[base.agent]):  # learns from a memory: any batch size is good
        longest = -(-setting(base, "buffer_size") // base.num_envs)
        lengths = Range("n_steps", 1, max(steps, min(2 * steps, longest)), log=True, whole=True)
        batches = Choice("batch_size", tuple(size for size in _doublings(batch) if size >= 2))
        return [pair for pair in ((lengths, steps), (batches, batch)) if pair[0].name not in fixed]
    pieces = base.num_envs * steps // batch
    lengths_tried = [steps]

    def holds_sequences(n: int, m: int) -> bool:
        """True if the sequences of an agent with a memory divide such rollouts and minibatches."""
        if not AGENTS[base.agent].remembers:
            return True
        length = setting(base, "sequence_length") or n
        return bool(n % length == 0 and base.num_envs * n // m % length == 0)

    found: list[Found] = []
    if "n_steps" not in fixed:
        divisor = batch if "batch_size" in fixed else pieces
        lengths_tried = [
            n
            for n in _doublings(steps, 1)
            if n == steps
            or (base.num_envs * n % divisor == 0 and base.num_envs * n >= 2 * pieces and holds_sequences(n, pieces))
        ]
        found.append((Choice("n_steps", tuple(lengths_tried)), steps))
    if "batch_size" not in fixed:
        fits = [
            m
            for m in _doublings(pieces)
            if m == pieces
            or all(
                base.num_envs * n % m == 0 and base.num_envs * n // m >= 16 and holds_sequences(n, m)
                for n in lengths_tried
            )
        ]
        found.append((Choice(MINIBATCHES, tuple(fits)), pieces))
    return found


def _doublings(value: int, times: int = 2) -> list[int]:
    """value / 2^times … value · 2^times, the whole ones."""
    return [value * 2**n // 2**times for n in range(2 * times + 1) if value * 2**n % 2**times == 0]


def _hidden(base: RunConfig) -> tuple[str, list[int]] | None:
    """The setting with the sizes of the hidden layers, and the sizes; None for networks without a simple width."""
    for key in (_HIDDEN, "policy_kwargs.net_arch"):
        sizes = setting(base, key)
        if isinstance(sizes, list) and sizes and all(isinstance(size, int) for size in sizes):
            return key, sizes
    usual = AGENTS[base.agent].net_arch
    plain = setting(base, "policy") in ("MlpPolicy", "DuelingPolicy")
    silent = setting(base, "policy_kwargs.net_arch") is None and setting(base, _HIDDEN) is None
    return ("policy_kwargs.net_arch", [*usual]) if usual is not None and plain and silent else None


def _widths(base: RunConfig) -> Found:
    found = _hidden(base)
    if found is None:
        return None
    first = found[1][0]
    return Choice(WIDTH, tuple(width for width in _doublings(first, 1) if width >= 8 or width == first)), first


def _width_settings(base: RunConfig, width: Any) -> Iterator[str]:
    found = _hidden(base)
    assert found is not None
    key, sizes = found
    if width != sizes[0]:
        yield f"{key}={[max(1, round(size * width / sizes[0])) for size in sizes]}"
