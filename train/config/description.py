"""What is known of one environment: its card, spaces, reference scores, and the settings that may be given."""

from __future__ import annotations

import inspect
import math
import re
import sys
from typing import Any

from gymnasium import Space

from palaestra.envs.core.user_code import RAISED, one_line
from palaestra.envs.interface import interface_of
from palaestra.envs.specs import GymnasiumSpec, ResolvedEnv, TensorEnvSpec
from palaestra.train.config import AGENTS
from palaestra.train.config.compatibility import can_act, spaces_of
from palaestra.train.config.presets import Preset, find_preset, preset
from palaestra.train.config.schema import Option, options_of
from palaestra.train.formatting import SCORES

_MARKUP = re.compile(r":\w+:`~?([^`]+)`|``([^`]+)``")
_KINDS = {"int": "integer", "float": "number", "bool": "true, false", "str": "text", "dict": "mapping"}
_KINDS |= {"None": "null", "Any": ""}


def describe_env(env: ResolvedEnv) -> dict[str, Any]:
    """Everything about it as plain data; of Gymnasium environments what their registration and class tell.

    Raises:
        ConfigError: if it cannot be made.
    """
    observations, actions = spaces_of(env, {})
    reference, rules = env.reference({}), env.build()
    scores = (*SCORES, "source")
    return {
        "name": env.short_name,
        "id": env.id,
        "card": card(env),
        "observations": one_line(observations),
        "actions": one_line(actions),
        "max_episode_steps": _time_limit(env) if rules is None else rules.max_episode_steps,
        "decided_by": "" if rules is None else rules.decided_by,
        "reference": {name: getattr(reference, name) for name in scores},
        "interface": _interface(env),
        "env_settings": _env_settings(env),
        "agents": {name: _agent_settings(env, name) for name in AGENTS if can_act(name, _actions_of(env, name))},
    }


def card(env: ResolvedEnv) -> str:
    """What it says about itself; a class that refers to its module has the card there."""
    if isinstance(env, GymnasiumSpec):
        try:
            text = inspect.getdoc(env.load()) or ""
        except RAISED:  # it can be made all the same
            return ""
        parts = re.split(r"^#+ *(.*)$", text, flags=re.MULTILINE)  # text before a heading, heading, text, …
        return _joined((parts[0].strip() or "".join(parts[2:3])).strip())
    assert isinstance(env, TensorEnvSpec)
    found = env.load()
    text = inspect.getdoc(found) or ""
    if "see the module" in text or not text:
        text = (sys.modules[found.__module__].__doc__ or text).strip()
    return _joined(_MARKUP.sub(lambda match: match[1] or match[2], text))


def _joined(text: str) -> str:
    """The text with each paragraph and each item of a list on one line."""
    lines: list[str] = []
    previous, item = -1, False  # indentation of the line before, -1 where it was empty
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip()) if line.strip() else -1
        starts = bool(re.match(r"\s*(\d+\.|[*-]) ", line))
        if previous >= 0 and indent >= 0 and not starts and (indent <= previous or item):
            lines[-1] += f" {line.strip()}"
            continue
        lines.append(line.rstrip())
        previous, item = indent, starts
    return "\n".join(lines)


def _time_limit(env: ResolvedEnv) -> int | None:
    assert isinstance(env, GymnasiumSpec)
    return env.spec.max_episode_steps


def _interface(env: ResolvedEnv) -> dict[str, Any]:
    """The meaning of each number of observations and actions; nothing of Gymnasium environments, which do not say."""
    rules = env.build() if isinstance(env, TensorEnvSpec) else None
    return {} if rules is None else interface_of(rules)


def _env_settings(env: ResolvedEnv) -> list[dict[str, Any]]:
    """Key, type and default of each argument; of other Gymnasium environments those that their class tells."""
    if isinstance(env, TensorEnvSpec):
        accepted = inspect.signature(env.load().__init__).parameters
        given = dict(env.kwargs)
        kinds = env.kwarg_kinds()
    else:
        assert isinstance(env, GymnasiumSpec)
        try:
            accepted = inspect.signature(env.load()).parameters
        except (*RAISED, ValueError):
            return []
        given = dict(env.spec.kwargs)
        named = [p for p in accepted.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        kinds = {p.name: inspect.formatannotation(p.annotation).strip("'") for p in named if p.name != "render_mode"}
    rows = []
    for key, kind in kinds.items():
        default = given.get(key, accepted[key].default if key in accepted else None)
        text = "" if default is inspect.Parameter.empty or key not in accepted else str(default)
        text = text if len(text) <= 100 else f"{text[:97]}..."
        rows.append({"key": f"env.{key}", "type": _in_words(kind), "default": text})
    return rows


def _in_words(annotation: str) -> str:
    """A declared type: ``Literal['a', 'b'] | None`` is a, b, null."""
    if "_empty" in annotation:
        return ""
    parts = re.sub(r"Literal\[(.*?)\]", lambda match: match[1].replace(",", "|"), annotation).split("|")
    words = [part.strip(" \"'") for part in parts]
    return ", ".join(_KINDS.get(word, word) for word in words)


def _actions_of(env: ResolvedEnv, agent: str) -> Space[Any]:
    """Actions with the environment's arguments from that agent's preset."""
    return spaces_of(env, preset(env, agent).env_kwargs)[1]


def _agent_settings(env: ResolvedEnv, agent: str) -> dict[str, Any]:
    chosen: Preset = preset(env, agent)
    signature = inspect.signature(AGENTS[agent]).parameters
    rows = []
    for key, option in options_of(AGENTS[agent]).items():
        default = signature[key].default if key in signature else None
        text = "" if key == "policy" or default is None else str(default)
        row = {"key": key, "type": allowed(option), "default": text}
        rows.append(row | {"preset": str(chosen.agent_kwargs.get(key, ""))})
    return {
        "preset": {
            "of_its_own": find_preset(env, agent) is not None,
            "num_envs": chosen.num_envs,
            "total_timesteps": chosen.total_timesteps,
            "env_kwargs": dict(chosen.env_kwargs),
        },
        "settings": rows,
    }


def allowed(option: Option) -> str:
    """Kind and range of a setting in words."""
    text = ", ".join(option.choices) or _KINDS[option.kind.__name__]
    if option.low > -math.inf:
        text += f" ≥ {option.low:g}" if option.high == math.inf else f" {option.low:g} … {option.high:g}"
    return text + (", linear(a, b), score(a, b)" if option.schedule else "") + (", null" if option.optional else "")
