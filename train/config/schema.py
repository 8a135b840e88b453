"""Names, kinds and ranges of the settings of each agent, which are constructor arguments of the same name."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import yaml
from stable_baselines3.common.utils import LinearSchedule

MAX_TEXT = 1 << 20  # characters of a configuration
_LINEAR = re.compile(r"linear\(\s*([^,\s]+)\s*,\s*([^,\s]+)\s*\)")


class ConfigError(ValueError):
    """A setting is unknown or out of range; the message names it."""


def known(name: str, names: Iterable[str], what: str) -> None:
    """Raise a ConfigError with the closest match unless ``name`` is one of ``names``."""
    names = list(names)
    if name in names:
        return
    close = difflib.get_close_matches(str(name), names, 1, 0.5)
    hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"
    raise ConfigError(f"unknown {what} {name!r}{hint}")


def parse(setting: str) -> tuple[str, Any]:
    """Key and value of a "key=value" setting, whose value is YAML.

    Raises:
        ConfigError: if it is no such thing.
    """
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {setting}: expected key=value")
    try:
        return key, number(plain(text))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {setting}: {text!r} is not a value") from error


def plain(text: str) -> Any:
    """The value of YAML text.

    Raises:
        YAMLError, ValueError: if it is none, such as a date that does not exist, or would be enormous.
    """
    try:
        value = yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    size, parts = 0, [value]
    while parts:  # aliases may stand for the same part a billion times
        part = parts.pop()
        size += 1 + (len(part) if isinstance(part, str) else 0)
        if size > MAX_TEXT:
            raise ValueError("it holds too much")
        if isinstance(part, dict):
            parts += [*part, *part.values()]
        elif isinstance(part, list | tuple):
            parts += part
    return value


def number(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 as text; people mean a number, also inside lists and mappings."""
    if isinstance(value, list):
        return [number(item) for item in value]
    if isinstance(value, dict):
        return {key: number(item) for key, item in value.items()}
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


@dataclass(frozen=True)
class Number:
    """A number's kind and range; ``schedule`` also takes ``linear(a, b)``, ``optional`` also null."""

    kind: type
    low: float
    high: float = math.inf
    schedule: bool = False
    optional: bool = False

    def check(self, name: str, value: Any) -> Any:
        if value is None and self.optional:
            return None
        value = number(value)
        if self.schedule and isinstance(value, str):
            ends = _LINEAR.fullmatch(value.strip())
            if not ends:
                raise ConfigError(f"{name}={value}: expected a number or linear(start, end)")
            start, end = (self._in_range(name, number(part)) for part in ends.groups())
            return f"linear({start}, {end})"
        return self._in_range(name, value)

    def _in_range(self, name: str, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{name}={value}: expected {'an integer' if self.kind is int else 'a number'}")
        if not math.isfinite(value):
            raise ConfigError(f"{name}={value}: must be finite")
        if self.kind is int and value != int(value):
            raise ConfigError(f"{name}={value}: expected an integer")
        if not self.low <= value <= self.high:
            upper = "" if self.high == math.inf else f" and at most {self.high:g}"
            raise ConfigError(f"{name}={value}: must be at least {self.low:g}{upper}")
        return self.kind(value)


def checkpoint_interval(value: Any) -> tuple[float, float]:
    """Steps and seconds between two checkpoints, of which one is infinite: ``100000`` steps, or ``5m`` minutes.

    Raises:
        ConfigError: if it is neither.
    """
    minutes = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)m", value.strip()) if isinstance(value, str) else None
    if minutes:
        return math.inf, 60.0 * float(minutes[1])
    try:
        return Number(int, 1).check("checkpoint_every", value), math.inf
    except ConfigError as error:
        raise ConfigError(f"checkpoint_every={value}: expected steps (100000) or minutes (5m)") from error


def schedule(value: Any) -> Any:
    """``linear(a, b)`` as Stable-Baselines3's schedule; anything else as it is."""
    ends = _LINEAR.fullmatch(value) if isinstance(value, str) else None
    return LinearSchedule(float(ends[1]), float(ends[2]), 1.0) if ends else value


_ALL: dict[str, Number | type] = {
    "policy": str,
    "policy_kwargs": dict,
    "learning_rate": Number(float, 0, schedule=True),
    "batch_size": Number(int, 2),
    "gamma": Number(float, 0, 1),
    "max_grad_norm": Number(float, 0),
    "normalize_observation": bool,
    "normalize_reward": bool,
    "stats_window_size": Number(int, 1),
}
_ROLLOUT: dict[str, Number | type] = {
    "n_steps": Number(int, 1),
    "n_epochs": Number(int, 1),
    "gae_lambda": Number(float, 0, 1),
}
_EXPLORATION: dict[str, Number | type] = {
    "exploration_fraction": Number(float, 0, 1),
    "exploration_initial_eps": Number(float, 0, 1),
    "exploration_final_eps": Number(float, 0, 1),
    "exploration_spread": Number(float, 0),
    "weight_average": Number(float, 0, 1),
}
SETTINGS: dict[str, dict[str, Number | type]] = {
    "ppo": {
        **_ALL,
        **_ROLLOUT,
        "clip_range": Number(float, 0, schedule=True),
        "clip_range_vf": Number(float, 0, schedule=True, optional=True),
        "normalize_advantage": bool,
        "ent_coef": Number(float, 0, schedule=True),
        "vf_coef": Number(float, 0),
        "use_sde": bool,
        "sde_sample_freq": Number(int, -1),
        "target_kl": Number(float, 0, optional=True),
    },
    "dqn": {
        **_ALL,
        **_EXPLORATION,
        "buffer_size": Number(int, 1),
        "learning_starts": Number(int, 0),
        "tau": Number(float, 0, 1),
        "train_freq": Number(int, 1),
        "gradient_steps": Number(int, -1),
        "samples_per_insert": Number(float, 0, optional=True),
        "n_steps": Number(int, 1),
        "target_update_interval": Number(int, 1),
        "double_q": bool,
        "huber_delta": Number(float, 1e-6),
        "prioritized_replay": Number(float, 0),
    },
    "pqn": {**_ALL, **_ROLLOUT, **_EXPLORATION},
}
NOT_ZERO = {
    "clip_range_vf": "must be above 0, or null for no clipping",
    "exploration_fraction": "must be above 0",
    "gradient_steps": "nothing would be learned",
    "samples_per_insert": "must be above 0, or null to count gradient_steps",
}
"""Settings whose range holds 0 as a bound only, and why."""
