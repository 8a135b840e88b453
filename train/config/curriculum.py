"""Training in stages: ``env.KEY=curriculum(first, …, last)`` in a run's configuration.

1. Training begins with the first value and goes on to the next one when it goes well enough: when the latest training
   episodes succeed in ``at`` of the cases (``curriculum(6, 8, 10, at=0.8)``, 0.9 unless given) or, where the
   environment defines no success, reach ``percent`` of the optimum (90). Giving one of them chooses it, and so does
   ``score``, a mean return.
2. Everything else of the run, evaluations above all, is about the last value: ``env_kwargs`` holds that.
3. Several arguments may have stages, as many each, which then change together.
4. One network plays all stages, so they must have the same observations and actions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from palaestra.envs.core.user_code import one_line
from palaestra.envs.specs import ResolvedEnv
from palaestra.train.config.compatibility import checked_env_kwargs, space_forms, spaces_of
from palaestra.train.config.schema import CURRICULUM, ConfigError, is_curriculum, load_yaml, number

_OPTION = re.compile(r"(at|percent|score)\s*=\s*(\S+)")
_EXPECTED = "expected curriculum(first, …, last), and perhaps one of at=0.9, percent=90 and score=400 behind the last"
_MOST = {"at": 1.0, "percent": 100.0}
SUCCESS, RETURN = "rollout/success_rate", "rollout/ep_rew_mean"


@dataclass(frozen=True)
class Curriculum:
    """The arguments of the environment that differ between stages, and when the next one begins.

    Attributes:
        stages: arguments by name of each stage.
        at: success rate, 0 … 1; or None.
        percent: of the optimum; or None.
        score: mean return; or None. All three are None where the environment decides which of the first two counts.
    """

    stages: tuple[dict[str, Any], ...]
    at: float | None = None
    percent: float | None = None
    score: float | None = None

    def told(self, stage: int) -> str:
        """The arguments of a stage, 0 …, as text."""
        return ", ".join(f"{key}={value}" for key, value in self.stages[stage].items())


def _parsed(key: str, text: str) -> tuple[list[Any], dict[str, float]]:
    """The values, and the options.

    Raises:
        ConfigError: naming the setting.
    """
    found = CURRICULUM.fullmatch(text.strip())
    error = ConfigError(f"env.{key}={text}: {_EXPECTED}")
    try:
        items = number(load_yaml(f"[{found[1]}]")) if found else []
    except (yaml.YAMLError, ValueError):
        raise error from None
    options: dict[str, float] = {}
    while items and isinstance(items[-1], str) and (option := _OPTION.fullmatch(items[-1])):
        name, value = option[1], number(option[2])
        if name == "score" and not (isinstance(value, float) and math.isfinite(value)):
            raise ConfigError(f"env.{key}={text}: score must be a number")
        if name in _MOST and not (isinstance(value, float) and 0.0 < value <= _MOST[name]):
            raise ConfigError(f"env.{key}={text}: {name} must be above 0 and at most {_MOST[name]:g}")
        options[name] = value
        items.pop()
    if len(items) < 2 or len(options) > 1:
        raise error
    return items, options


def staged(
    env_kwargs: Mapping[str, Any], texts: Mapping[str, str] | None, settings: Sequence[str]
) -> tuple[dict[str, Any], dict[str, str] | None]:
    """The environment's arguments with the last values of curricula, and the texts of these apart.

    Args:
        env_kwargs: arguments, which may be such texts.
        texts: those that are apart already.
        settings: "key=value" that were put over both; an earlier curriculum of an argument given anew is void.
    """
    _check_texts(texts)
    changed = {setting.partition("=")[0].removeprefix("env.") for setting in settings if setting.startswith("env.")}
    found = {key: text for key, text in (texts or {}).items() if key not in changed}
    found |= {key: value for key, value in env_kwargs.items() if is_curriculum(value)}
    last = {key: _parsed(key, text)[0][-1] for key, text in found.items()}
    return {**env_kwargs, **last}, found or None


def _check_texts(texts: Any) -> None:
    """Raise a ConfigError for anything but None and texts of curricula by argument."""
    if texts is None:
        return
    if not isinstance(texts, Mapping) or not texts or not all(map(is_curriculum, texts.values())):
        raise ConfigError(f"curriculum={texts}: expected a mapping of arguments to curriculum(first, …, last)")


def curriculum_of(texts: Any) -> Curriculum | None:
    """The stages of a run's training from the texts that its configuration holds; None for None.

    Raises:
        ConfigError: if they are none, or differ in number.
    """
    if texts is None:
        return None
    _check_texts(texts)
    values: dict[str, list[Any]] = {}
    options: dict[str, float] = {}
    for key, text in texts.items():
        values[key], own = _parsed(key, text)
        options |= own
    (first, count), *others = ((key, len(items)) for key, items in values.items())
    for key, number_of in others:
        if number_of != count:
            raise ConfigError(f"env.{key} has {number_of} stages, env.{first} {count}: give both as many")
    if len(options) > 1:
        raise ConfigError(f"{' and '.join(options)} exclude each other: give one of them")
    stages = tuple(dict(zip(values, stage, strict=True)) for stage in zip(*values.values(), strict=True))
    return Curriculum(stages, **options)


def stage_kwargs(env: ResolvedEnv, env_kwargs: dict[str, Any], stage: dict[str, Any]) -> dict[str, Any]:
    """The environment's arguments in that stage."""
    return checked_env_kwargs(env, {**env_kwargs, **stage})


def check_curriculum(env: ResolvedEnv, env_kwargs: dict[str, Any], texts: Any) -> None:
    """Raise a ConfigError unless every stage can be made, looks alike to the network, and can be passed."""
    found = curriculum_of(texts)
    if found is None:
        return
    last = spaces_of(env, env_kwargs)
    for place, stage in enumerate(found.stages[:-1]):
        kwargs = stage_kwargs(env, env_kwargs, stage)
        spaces = spaces_of(env, kwargs)
        if spaces != last:
            _refuse(env, found, place, spaces, last)
        succeeds = env.has("success", kwargs) if env.in_tensors else True  # others tell it as they play
        scored = env.reference(kwargs).percent_of_optimal(0.0) is not None
        measured = (succeeds or found.at is None) and (scored or found.percent is None) and (succeeds or scored)
        if found.score is None and not measured:
            unknown = [text for text, there in (("no success", succeeds), ("no known optimum", scored)) if not there]
            told, what = found.told(place), " and ".join(unknown)
            raise ConfigError(f"env.{told}: {env.short_name} has {what} to go on at; a mean return does: score=…")


def _refuse(env: ResolvedEnv, found: Curriculum, place: int, spaces: Any, last: Any) -> None:
    """Raise the ConfigError for a stage that looks otherwise than the last one."""
    forms = space_forms(*spaces), space_forms(*last)
    what = next((name for name in forms[0] if forms[0][name] != forms[1][name]), None)
    if what is None:  # bounds
        what = "observations" if spaces[0] != last[0] else "actions"
        here, there = (one_line(pair[what == "actions"]) for pair in (spaces, last))
    else:
        here, there = (form[what] for form in forms)
    hint = ""
    if "frame" in (env.kwarg_kinds() or ()) and "size" in found.stages[0]:
        hint = f"; --set env.frame={max(stage['size'] for stage in found.stages)} shows all of them in one form"
    raise ConfigError(
        f"the network does not fit all stages: env.{found.told(len(found.stages) - 1)} has {what} {there}, "
        f"env.{found.told(place)} has {here}{hint}"
    )
