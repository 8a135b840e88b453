"""Settings that train each environment well: one YAML file per agent, and what a plug-in has brought.

1. A preset is plain data in the format of a run's ``config.yaml``; everything in it can be changed with ``--set``.
2. An environment has the preset that it was registered with (:func:`palaestra.envs.register`), else that of its id in
   the agent's file, else the preset of the nearest class that it is derived from, without the environment's arguments
   that it does not take. Of several ids of one class, such as the sizes of Snake, the one with the same arguments
   counts, else the first that was registered.
3. Without any, there is one for all tensor environments and one for all Gymnasium environments; of an agent with
   hindsight another one for those with goals (:mod:`palaestra.envs.goals`).
4. A preset of ours may hold changes under ``other``: settings that the agent has where an argument of the environment,
   such as the robot of an arm's task, is not the one named there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from palaestra.envs.core.user_code import RAISED
from palaestra.envs.registry import relatives
from palaestra.envs.specs import ResolvedEnv
from palaestra.train.config import AGENTS, OWN_AGENTS, agent_places
from palaestra.train.config.schema import ConfigError, require_choice

ANY_TENSOR_ENV, ANY_GYMNASIUM_ENV = "any tensor environment", "any Gymnasium environment"
ANY_GOAL_ENV = "any Gymnasium environment with goals"
_KEYS = ("num_envs", "total_timesteps", "env_kwargs", "agent_kwargs")


@dataclass(frozen=True)
class Preset:
    """Number of environments and steps, and the arguments of agent and environment.

    ``registered`` is the id that it was registered with; None for palaestra's own. Each of ``other`` has ``than``,
    arguments of the environment, and ``agent_kwargs`` that stand over the preset's where one of those arguments is
    given and differs.
    """

    num_envs: int
    total_timesteps: int
    agent_kwargs: dict[str, Any] = field(default_factory=dict)
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    registered: str | None = None
    other: list[dict[str, dict[str, Any]]] = field(default_factory=list)

    def agent_kwargs_with(self, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The agent's arguments where the environment has these."""
        chosen = self.agent_kwargs
        for change in self.other:
            if any(env_kwargs.get(name, usual) != usual for name, usual in change["than"].items()):
                chosen = _over(chosen, change["agent_kwargs"])
        return chosen


_UNSAID = Preset(num_envs=64, total_timesteps=1_000_000)  # of an agent without presets


@functools.cache
def load_presets(agent: str) -> dict[str, Preset]:
    """The agent's file, or what a plug-in's class has as ``presets``, by environment id."""
    file = Path(__file__).with_name(f"{agent}.yaml")
    if agent in OWN_AGENTS and file.is_file():
        return {env: Preset(**entry) for env, entry in yaml.safe_load(file.read_text(encoding="utf-8")).items()}
    found = dict.fromkeys((ANY_TENSOR_ENV, ANY_GYMNASIUM_ENV), _UNSAID)
    for env, given in AGENTS[agent].presets.items():
        try:
            found[env] = _read(given, found.get(env, _UNSAID))
        except ConfigError as error:
            raise ConfigError(f"the preset of {env} for {agent}: {error}") from error
    return found


def find_preset(env: ResolvedEnv, agent: str) -> Preset | None:
    """The preset of that pair, its own or that of its class; None without any.

    Raises:
        ConfigError: if what it was registered with is no preset.
    """
    found = own_preset(env, agent)
    if found is not None:
        return found
    for entry in relatives(env):
        if (found := own_preset(entry, agent)) is not None:
            accepted = env.kwarg_kinds() or ()
            return replace(found, env_kwargs={k: v for k, v in found.env_kwargs.items() if k in accepted})
    return None


def preset(env: ResolvedEnv, agent: str) -> Preset:
    """The preset of that pair, or the agent's for all environments of that kind."""
    return find_preset(env, agent) or default_preset(env, agent)


def default_preset(env: ResolvedEnv, agent: str) -> Preset:
    """The agent's preset for all environments of that kind."""
    found = load_presets(agent)
    if not env.in_tensors and ANY_GOAL_ENV in found and _has_goals(env):
        return found[ANY_GOAL_ENV]
    return found[ANY_TENSOR_ENV if env.in_tensors else ANY_GYMNASIUM_ENV]


def _has_goals(env: ResolvedEnv) -> bool:
    """True if observations hold goals; what cannot be made without arguments is told of with its arguments."""
    from palaestra.envs.goals import without_goals  # with PyTorch

    try:
        return not without_goals(env.spaces({})[0])
    except RAISED:
        return False


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with others over them, those in mappings one by one."""
    both = {
        k: _over(below[k], v) if isinstance(v, dict) and isinstance(below.get(k), dict) else v for k, v in above.items()
    }
    return {**below, **both}


def own_preset(env: ResolvedEnv, agent: str) -> Preset | None:
    """The preset that the environment was registered with or that its agent's file has for it; None without any.

    Raises:
        ConfigError: if what it was registered with is no preset.
    """
    if not env.presets:
        return load_presets(agent).get(env.id)
    try:
        for name in env.presets:
            require_choice(name, agent_places(), "agent")
        if agent not in env.presets:
            return None
        return replace(_read(env.presets[agent], default_preset(env, agent)), registered=env.id)
    except ConfigError as error:
        raise ConfigError(f"the preset of {env.id} for {agent}: {error}") from error


def _read(given: Any, default: Preset) -> Preset:
    """A preset from outside, with the sizes of another where it says none."""
    if not isinstance(given, Mapping):
        raise ConfigError(f"{given}: expected a mapping with the keys {', '.join(_KEYS)}")
    for key in given:
        require_choice(key, _KEYS, "key")
    for key in ("env_kwargs", "agent_kwargs"):
        if not isinstance(given.get(key, {}), Mapping):
            raise ConfigError(f"{key}={given[key]}: expected a mapping")
    return Preset(
        given.get("num_envs", default.num_envs),
        given.get("total_timesteps", default.total_timesteps),
        dict(given.get("agent_kwargs", {})),
        dict(given.get("env_kwargs", {})),
    )
