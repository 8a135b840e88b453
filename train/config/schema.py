"""The settings of the agents: constructor arguments, read from text and checked by the types declared there."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from decimal import Decimal
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_OF_THE_RUN = ("verbose", "seed")  # saved with an agent, but settings of the run
MAX_TEXT = 1 << 20  # characters of a configuration
_TRIED = 100_000  # values on either side of one that does not fit
EXAMPLES = "such as 300k, 5M or 1e5"
_EXPONENTS = {"": 0, "k": 3, "K": 3, "M": 6, "G": 9, "B": 9}
_COUNT = re.compile(
    r"(?P<digits>[+-]?(?:\d{1,3}(?:,\d{3})+|\d+(?:_\d+)*)(?P<part>\.\d+)?)"
    r"(?:[eE](?P<exponent>[+-]?\d{1,3}))?\s?(?P<unit>[kKMGB]?)"
)
_MOST = 2**63 - 1
CURRICULUM = re.compile(r"curriculum\((.*)\)", re.DOTALL)
_SCHEDULE = re.compile(r"(linear|score)\(\s*([^,\s]+)\s*,\s*([^,\s]+)\s*\)")


class ConfigError(ValueError):
    """A setting is unknown or out of range; the message names it."""


def require_choice(name: str, names: Iterable[str], what: str) -> None:
    """Raise a ConfigError with the closest match unless ``name`` is one of ``names``."""
    names = list(names)
    if name in names:
        return
    from palaestra.envs.core.suggest import closest  # with the environments comes NumPy
    from palaestra.train.config.other_names import SETTINGS

    close = SETTINGS[str(name)] if SETTINGS.get(str(name)) in names else closest(str(name), names)
    hint = f"; did you mean {close!r}?" if close else f"; known: {', '.join(names)}"
    raise ConfigError(f"unknown {what} {name!r}{hint}")


def parse(setting: str) -> tuple[str, Any]:
    """Key and value of a "key=value" setting, whose value is YAML.

    Raises:
        ConfigError: if it is no such thing.
    """
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {setting}: expected key=value")
    if is_curriculum(text):  # its values are YAML
        return key, text.strip()
    try:
        return key, number(load_yaml(text))
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--set {setting}: {text!r} is not a value") from error


def is_curriculum(value: Any) -> bool:
    """True for the text of a curriculum, see :mod:`palaestra.train.config.curriculum`."""
    return isinstance(value, str) and CURRICULUM.fullmatch(value.strip()) is not None


def with_entry(data: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """A copy of nested dictionaries with one entry replaced."""
    if len(path) == 1:
        return {**data, path[0]: value}
    inner = data.get(path[0])
    return {**data, path[0]: with_entry(inner if isinstance(inner, dict) else {}, path[1:], value)}


def env_settings(settings: Sequence[str]) -> dict[str, Any]:
    """The environment's arguments from "env.key=value" settings.

    Raises:
        ConfigError: on any other setting.
    """
    if bad := [setting for setting in settings if not setting.startswith("env.")]:
        raise ConfigError(f"--set {bad[0]}: only environment settings (env.KEY=VALUE) apply here")
    return {key.removeprefix("env."): value for key, value in map(parse, settings)}


class _Loader(yaml.SafeLoader):
    """YAML whose dates stay text, as JSON has them; the environments that take dates read them."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(text: str) -> Any:
    """The value of YAML text.

    Raises:
        YAMLError, ValueError: if it is none, or would be enormous.
    """
    try:
        value = yaml.load(text, _Loader)  # a SafeLoader
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


class Option:
    """The kind and range of a setting, read from the type that an agent's constructor declares.

    ``kind`` is int, float, bool, str or dict; ``low`` and ``high`` bound a number. A ``schedule`` also takes
    ``linear(a, b)`` and ``score(a, b)``; a number that is ``optional`` also takes null, or one of its ``words``.
    Text may be one of ``choices``, if there are any.
    """

    def __init__(self, declared: Any) -> None:
        from palaestra.agents.options import NotZero  # here and below: with the agents comes PyTorch

        members = get_args(declared) if get_origin(declared) in (Union, UnionType) else (declared,)
        self.schedule = any(get_origin(member) is Callable for member in members)
        words: tuple[Any, ...] = next((get_args(member) for member in members if get_origin(member) is Literal), ())
        has_number = any(_kind(member) in (int, float) for member in members)
        self.choices: tuple[Any, ...] = () if has_number else words
        self.words: tuple[Any, ...] = words if has_number else ()
        self._declared = str if self.choices else next(member for member in members if _kind(member) in _EXPECTED)
        self.kind = _kind(self._declared)
        self.is_number = self.kind in (int, float)
        self.optional = self.is_number and NoneType in members
        self.low, self.high, self._not_zero = -math.inf, math.inf, ""
        for mark in getattr(self._declared, "__metadata__", ()):
            if isinstance(mark, NotZero):
                self._not_zero = mark.reason
            else:
                self.low, self.high = getattr(mark, "ge", self.low), getattr(mark, "le", self.high)

    def check(self, name: str, value: Any) -> Any:
        """The value in its proper type.

        Raises:
            ConfigError: naming the setting and what is wrong with its value.
        """
        if (value is None and self.optional) or (isinstance(value, str) and value in self.words):
            return value
        if self.kind is int and isinstance(value, str):
            with suppress(ValueError):
                value = whole_number(value)
        value = number(value) if self.is_number else value
        if self.schedule and isinstance(value, str):
            found = _SCHEDULE.fullmatch(value.strip())
            if not found:
                raise ConfigError(f"{name}={value}: expected a number, linear(start, end) or score(start, end)")
            kind, *ends = found.groups()
            start, end = (self._validated(name, number(part)) for part in ends)
            return f"{kind}({start}, {end})"
        found = self._validated(name, value)
        if self.choices:
            require_choice(found, self.choices, name)
        if self._not_zero and found == 0:
            raise ConfigError(f"{name}=0: {self._not_zero}")
        return found

    def _validated(self, name: str, value: Any) -> Any:
        from pydantic import ValidationError

        if self.kind is int and isinstance(value, float) and value.is_integer():
            value = int(value)
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            kind = error.errors()[0]["type"]
        if kind in ("greater_than_equal", "less_than_equal"):
            shown = "," if self.kind is int else "g"
            upper = "" if self.high == math.inf else f" and at most {self.high:{shown}}"
            raise ConfigError(f"{name}={value}: must be at least {self.low:{shown}}{upper}")
        if self.is_number and isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name}={value}: must be finite")
        raise ConfigError(f"{name}={value}: expected {_EXPECTED[self.kind]}")

    @functools.cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        from pydantic import TypeAdapter  # it takes a tenth of a second to import

        return TypeAdapter(
            self._declared if self.is_number else self.kind, config={"strict": True, "allow_inf_nan": False}
        )


_EXPECTED = {int: f"an integer, {EXAMPLES}", float: "a number", bool: "true or false", str: "str", dict: "dict"}


def _kind(declared: Any) -> Any:
    return getattr(declared, "__origin__", declared)


@functools.cache
def options_of(agent: type) -> dict[str, Option]:
    """The settings of an agent by name: those of its constructor's arguments that a configuration can hold."""
    from palaestra.agents.options import CommonOptions

    declared = get_type_hints(agent.__init__, include_extras=True) | get_type_hints(CommonOptions, include_extras=True)  # type: ignore[misc]
    names = [name for name in agent._json_arguments if name not in _OF_THE_RUN]  # type: ignore[attr-defined]
    return {name: Option(declared[name]) for name in ("policy", "policy_kwargs", *names, "stats_window_size")}


def checkpoint_interval(value: Any) -> tuple[float, float]:
    """Steps and seconds between two checkpoints, of which one is infinite: ``100000`` steps, or ``5m`` minutes.

    Raises:
        ConfigError: if it is neither.
    """
    from palaestra.agents.options import AtLeastOne

    minutes = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)m", value.strip()) if isinstance(value, str) else None
    if minutes:
        return math.inf, 60.0 * float(minutes[1])
    try:
        return Option(AtLeastOne).check("checkpoint_every", value), math.inf
    except ConfigError as error:
        raise ConfigError(f"checkpoint_every={value}: expected steps (100k) or minutes (5m)") from error


def schedule(value: Any) -> Any:
    """``linear(a, b)`` as Stable-Baselines3's schedule, ``score(a, b)`` as ours; anything else as it is."""
    from stable_baselines3.common.utils import LinearSchedule

    from palaestra.agents.training.score_schedule import ScoreSchedule

    found = _SCHEDULE.fullmatch(value) if isinstance(value, str) else None
    if not found:
        return value
    start, end = float(found[2]), float(found[3])
    return ScoreSchedule(start, end) if follows_score(value) else LinearSchedule(start, end, 1.0)


def follows_score(value: Any) -> bool:
    """True for the text of a schedule that follows the score."""
    found = _SCHEDULE.fullmatch(value) if isinstance(value, str) else None
    return found is not None and found[1] == "score"


def fitting(**asked: tuple[int, Callable[[int], bool]]) -> str:
    """The nearest values that fit, below and above within a factor of two, to end an error's message with.

    Args:
        asked: for each setting its value, which does not fit, and what tells if another does.
    """
    named = []
    for key, (value, fits) in asked.items():
        ranges = range(value - 1, (value - 1) // 2, -1), range(value + 1, 2 * value + 1)
        found = [next(filter(fits, numbers[:_TRIED]), None) for numbers in ranges]
        if near := " or ".join(str(number) for number in found if number is not None):
            named.append(f"{key}={near}")
    return f"; near it: {', '.join(named)}" if named else ""


def whole_number(text: str) -> int:
    """The number that the text means.

    Raises:
        ValueError: if it is none, is not whole, or is beyond 64 bits; also for 1.000, which is a thousand to some.
    """
    found = _COUNT.fullmatch(text.strip())
    if not found:
        raise ValueError(f"expected a whole number, {EXAMPLES}")
    shift = int(found["exponent"] or 0) + _EXPONENTS[found["unit"]]
    value = Decimal(f"{re.sub('[,_]', '', found['digits'])}e{shift}")
    if (found["part"] and not (found["exponent"] or found["unit"])) or value != value.to_integral_value():
        raise ValueError(f"expected a whole number, {EXAMPLES}")
    if abs(value) > _MOST:
        raise ValueError("it is too large")
    return int(value)


class _Dumper(yaml.SafeDumper):
    """YAML with a row of numbers on one line."""


def _row(dumper: yaml.SafeDumper, row: list[Any]) -> yaml.Node:
    numbers = all(isinstance(item, int | float | None) for item in row)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", row, flow_style=numbers or None)


_Dumper.add_representer(list, _row)


def dump_yaml(value: Any) -> str:
    """The value as YAML text, whose texts are not broken over lines."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=sys.maxsize)
    return text
