"""The settings of a run that differ from the preset, and the command that trains it again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from palaestra.envs.core.user_code import RAISED
from palaestra.envs.registry import entries, resolve
from palaestra.envs.specs import ResolvedEnv

_OPTIONS = {"num_envs": "--num-envs", "total_timesteps": "--total-timesteps"}
_DEFAULTS: dict[str, Any] = {"stop_at": None, "init_from": None, "checkpoint_every": "1m", "deterministic": False}
_DEFAULTS |= {"pretrain": None, "pretrain_steps": None, "dataset": None}
_DEFAULTS |= {"graph": True, "compile": False, "precision": "float32"}
_OTHERS = tuple(_DEFAULTS)  # that have one default everywhere
_FLAGS = {"deterministic": "--deterministic", "graph": "--no-graph", "compile": "--compile"}
_SCHEDULE = re.compile(r"linear\(\s*([\d.e+-]+)\s*,\s*([\d.e+-]+)\s*\)")
_LONGEST = 200  # letters of a value on a command line; a longer one is in config.yaml


class Difference(NamedTuple):
    """A setting that is not the preset's; None is left out there, or here."""

    key: str
    here: Any
    preset: Any


def short_name(env: Any) -> str:
    """The environment's name on the command line, if it is one of ours; else the name itself."""
    return next((entry.short_name for entry in entries() if env in (entry.id, entry.short_name)), str(env))


def find_env(name: Any) -> ResolvedEnv | None:
    """The environment; None if there is none of that name here any more."""
    try:
        return resolve(str(name))
    except RAISED:  # it is of other people, and not on this machine perhaps
        return None


def differences(settings: Mapping[str, Any]) -> list[Difference] | None:
    """Settings, as ``config.yaml`` has them, that are not the preset's; None where no preset can be found.

    Keys of the agent are as ``--set`` takes them, those of the environment have ``env.`` before them.
    """
    env = find_env(settings.get("env"))
    if env is None:
        return None
    from palaestra.train.config.presets import preset

    try:
        chosen = preset(env, str(settings.get("agent")))
    except (*RAISED, OSError):
        return None
    usual = {"num_envs": chosen.num_envs, "total_timesteps": chosen.total_timesteps, **_DEFAULTS}
    found = [Difference(key, settings[key], usual[key]) for key in usual if settings.get(key, usual[key]) != usual[key]]
    usual_agent = {"policy": "MlpPolicy", **chosen.agent_kwargs}
    found += [*_apart(_mapping(settings, "agent_kwargs"), usual_agent, "")]
    # what has stages stands for its last value
    of_env = {**_mapping(settings, "env_kwargs"), **_mapping(settings, "curriculum")}
    return [*found, *_apart(of_env, chosen.env_kwargs, "env.")]


def _mapping(settings: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = settings.get(key)
    return value if isinstance(value, Mapping) else {}


def _apart(here: Mapping[str, Any], usual: Mapping[str, Any], before: str) -> Iterator[Difference]:
    for key in dict.fromkeys((*here, *usual)):
        a, b = here.get(key), usual.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping) and not before:
            yield from _apart(a, b, f"{key}.")
        elif _plain(a) != _plain(b):
            yield Difference(f"{before}{key}", a, b)


def _plain(value: Any) -> Any:
    """The value; a schedule as its two numbers, which may be written in several ways."""
    found = _SCHEDULE.fullmatch(value) if isinstance(value, str) else None
    return (float(found[1]), float(found[2])) if found else value


def value_text(value: Any) -> str:
    """A setting's value as it may be given on the command line."""
    if value is None or isinstance(value, str | bool):
        return value if isinstance(value, str) else {None: "–", True: "true", False: "false"}[value]
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else json.dumps(value, ensure_ascii=False)


def repeat_command(settings: Mapping[str, Any], found: list[Difference] | None, config_file: Path) -> str:
    """The command that trains the same again: from the preset where its differences fit a line, else from the file."""
    from_file = shlex.join(["palaestra", "train", "--config", str(config_file)])
    if found is None or any(change.here is None for change in found):
        return from_file
    words = ["palaestra", "train", short_name(settings.get("env")), "--agent", str(settings.get("agent"))]
    words += ["--seed", str(settings.get("seed"))]
    for key, here, _ in found:
        value = here if isinstance(here, str) else json.dumps(here, ensure_ascii=False)
        if len(value) > _LONGEST or key == "init_from":
            return from_file
        if key in _FLAGS:
            words.append(_FLAGS[key])
        elif key in _OPTIONS or key in _OTHERS:
            words += [f"--{key.replace('_', '-')}", value]
        else:
            words += ["--set", f"{key}={value}"]
    if isinstance(settings.get("threads"), int):  # sums depend on it to the last bit
        words += ["--threads", str(settings["threads"])]
    return shlex.join(words)
