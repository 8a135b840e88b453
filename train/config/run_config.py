"""Everything that determines a run, resolved before anything starts: preset < file < command line.

A resolved :class:`RunConfig` is plain data, so that ``config.yaml`` holds it as it is. Text stands for what plain data
cannot hold: ``linear(a, b)`` for a schedule over the run, and the names in :mod:`.compatibility` for classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from annotated_types import Ge, Le
from gymnasium import Space

from palaestra.agents.options import AtLeastOne
from palaestra.envs.registry import entries, resolve
from palaestra.envs.specs import ResolvedEnv
from palaestra.envs.trained_players import read_players_with
from palaestra.train.config import DEFAULT_AGENT, read_to_act, require_agent
from palaestra.train.config.compatibility import (
    check_actions,
    check_computing,
    check_device,
    check_policy_kwargs,
    check_schedules,
    check_sizes,
    checked_agent_kwargs,
    checked_env_kwargs,
    class_or_value,
    default_policy,
    is_float_image,
    spaces_of,
)
from palaestra.train.config.schema import (
    MAX_TEXT,
    ConfigError,
    Option,
    checkpoint_interval,
    dump_yaml,
    is_curriculum,
    load_yaml,
    parse,
    require_choice,
    schedule,
    with_entry,
)

if TYPE_CHECKING:
    from palaestra.train.config.presets import Preset

_COUNTS = {
    "num_envs": Option(AtLeastOne),
    "total_timesteps": Option(AtLeastOne),
    "seed": Option(Annotated[int, Ge(0), Le(2**32 - 1)]),  # evaluations have the seeds from 2^32 on
    "threads": Option(Annotated[int, Ge(1), Le(1024)] | None),
}
_TYPES: dict[str, type] = {"env": str, "agent": str, "device": str, "env_kwargs": dict, "agent_kwargs": dict}
_TYPES |= {"deterministic": bool, "graph": bool, "compile": bool, "precision": str}
_LESSON = ("pretrain", "pretrain_steps", "dataset")
_OPTIONS = (*_COUNTS, *_LESSON, "device", "checkpoint_every", "init_from", "stop_at", "precision")
"""Fields that have an option on the command line, for which ``--set`` is not needed."""
read_players_with(read_to_act)  # opponents in games


@dataclass(frozen=True)
class RunConfig:
    """One run, as ``config.yaml`` holds it; ``threads`` is None until they are chosen as the run begins."""

    env: str
    agent: str
    seed: int
    num_envs: int
    total_timesteps: int
    device: str
    env_kwargs: dict[str, Any]
    agent_kwargs: dict[str, Any]
    checkpoint_every: int | str = "1m"
    deterministic: bool = False
    init_from: str | None = None
    stop_at: str | float | None = None
    threads: int | None = None
    graph: bool = True
    precision: str = "float32"
    curriculum: dict[str, str] | None = None
    compile: bool = False
    pretrain: str | None = None
    pretrain_steps: int | None = None
    dataset: str | None = None

    @cached_property
    def resolved_env(self) -> ResolvedEnv:
        """The environment that ``env`` names."""
        return environment(self.env)

    @property
    def evaluation_kwargs(self) -> dict[str, Any]:
        """The environment's arguments in evaluations and recordings, see :meth:`ResolvedEnv.evaluation_kwargs`."""
        return self.resolved_env.evaluation_kwargs(self.env_kwargs)

    def plays_in(self, env: str) -> bool:
        """True if ``env`` names the configuration's environment, in whatever words."""
        return environment(env) == self.resolved_env

    def trains_as(self, other: RunConfig | None) -> bool:
        """True if both train the same, with whatever number of threads."""
        return other is not None and replace(self, threads=other.threads) == other

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_yaml(self) -> str:
        return dump_yaml(asdict(self))

    @classmethod
    def from_dict(cls, data: Any) -> RunConfig:
        """Read back a ``config.yaml``.

        Raises:
            ConfigError: on missing or unknown keys and on values out of range.
        """
        _check_keys(data)
        if missing := [name for name in NEEDED if name not in data]:
            raise ConfigError(f"a run configuration needs the key {missing[0]}")
        return validated(cls(**data))


_FIELDS = fields(RunConfig)
NEEDED = [field.name for field in _FIELDS if field.default is MISSING]
"""Keys of a run configuration that have no default; one with all of them stands for itself, without a preset."""


def _check_keys(data: Any) -> None:
    if not isinstance(data, dict):
        raise ConfigError(f"a run configuration is a mapping with the keys {', '.join(f.name for f in _FIELDS)}")
    for key in data:
        require_choice(key, [f.name for f in _FIELDS], "key of a run configuration:")


def read_file(path: Path) -> dict[str, Any]:
    """A configuration file, which may leave keys out.

    Raises:
        ConfigError: if it cannot be read, is no YAML mapping, or has unknown keys.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_TEXT + 1)
        if len(text) > MAX_TEXT:
            raise ValueError(f"it has more than {MAX_TEXT:,} characters")
        data = load_yaml(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:  # a ValueError for bytes that are no text too
        raise ConfigError(f"{path} is not readable: {str(error).splitlines()[0]}") from error
    try:
        _check_keys(data)
        for name in ("env_kwargs", "agent_kwargs"):
            if not isinstance(data.get(name, {}), dict):
                raise ConfigError(f"{name}={data[name]}: expected dict")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return dict(data)


def resolve_config(
    env: str | None = None,
    agent: str | None = None,
    *,
    file: Mapping[str, Any] | None = None,
    settings: Sequence[str] = (),
    **options: Any,
) -> RunConfig:
    """The preset of (env, agent) with a file over it and the command line over that.

    Args:
        env: any name that ``palaestra.envs.resolve`` knows; None for that of the file.
        agent: a key of ``AGENTS``; None for that of the file, else :data:`DEFAULT_AGENT`.
        file: what :func:`read_file` gave. Settings of the agent or the environment that it leaves out are the
            preset's, unless it has all of ``NEEDED``, as a run's ``config.yaml`` has.
        options: fields of :class:`RunConfig`; None where the command line is silent.
        settings: "key=value" of the agent's constructor (``learning_rate=3e-4``, ``policy_kwargs.net_arch=[64]``) or of
            the environment (``env.size=8``); values are YAML.

    Raises:
        ConfigError, UnknownEnvError: naming the setting, and the closest match of an unknown name.
    """
    given = {key: value for key, value in (options | {"env": env, "agent": agent}).items() if value is not None}
    of_env = [setting for setting in settings if setting.startswith("env.")]
    config = _layered(dict(file or {}), given, of_env)
    observations, actions = spaces_of(config.resolved_env, config.env_kwargs)
    config = _with_policy(config, observations)
    config = _validated_values(_put_settings(config, [setting for setting in settings if setting not in of_env]))
    check_actions(config.agent, config.resolved_env, config.env_kwargs, actions)
    config = replace(config, env_kwargs=config.resolved_env.self_contained(config.env_kwargs))
    if config.pretrain is not None and config.pretrain_steps is None:
        from palaestra.train.config.lessons import lesson_steps  # not needed by most runs

        config = replace(config, pretrain_steps=lesson_steps(config.agent, config.total_timesteps))
    _check_plan(config)  # after the score of another robot was measured
    check_computing(config.device, config.precision)
    return config


def environment(name: Any) -> ResolvedEnv:
    """The environment of that name.

    Raises:
        ConfigError: if it is no name.
        UnknownEnvError, UserCodeError: as :func:`palaestra.envs.resolve` does.
    """
    if not isinstance(name, str):
        raise ConfigError("which environment? Name it, on the command line or as env in the file")
    if not any(name in (entry.id, entry.short_name) for entry in entries()):
        from palaestra.train.env_output import arm  # not needed for those of our own

        arm()
    return resolve(name)


def _layered(file: dict[str, Any], given: dict[str, Any], of_env: Sequence[str]) -> RunConfig:
    """Preset < file < command line, for all but single settings of the agent. The environment's come first, checked:
    what the preset says of the agent follows from them, and the policy from the observations."""
    from palaestra.train.config.presets import preset  # not needed to read a configuration back

    named: dict[str, Any] = {"agent": DEFAULT_AGENT} | file | given
    found = environment(named.get("env"))
    require_agent(named["agent"])
    start = preset(found, named["agent"])
    if start.registered is not None:
        _check_preset(start, found, named["agent"])
    whole = all(name in file for name in NEEDED) and all(named[key] == file[key] for key in ("env", "agent"))
    of_preset: dict[str, Any] = {"num_envs": start.num_envs, "total_timesteps": start.total_timesteps}
    of_preset |= {"seed": 0, "device": "auto"} | named | {"env": found.absolute_name, "agent_kwargs": {}}
    of_preset["env_kwargs"] = {**({} if whole else start.env_kwargs), **file.get("env_kwargs", {})}
    config = _put_settings(RunConfig(**of_preset), of_env)
    env_kwargs = checked_env_kwargs(config.resolved_env, config.env_kwargs)
    of_agent = {**({} if whole else start.agent_kwargs_with(env_kwargs)), **file.get("agent_kwargs", {})}
    return replace(config, env_kwargs=env_kwargs, agent_kwargs=of_agent)


def _check_preset(preset: Preset, env: ResolvedEnv, agent: str) -> None:
    """Raise a ConfigError that names the preset, one from a plug-in, unless it can be trained with as it is."""
    sizes = (preset.num_envs, preset.total_timesteps)
    try:
        validated(RunConfig(env.absolute_name, agent, 0, *sizes, "auto", preset.env_kwargs, preset.agent_kwargs))
    except ConfigError as error:
        raise ConfigError(f"the preset of {preset.registered} for {agent}: {error}") from error


def _with_policy(config: RunConfig, observations: Space[Any]) -> RunConfig:
    """The policy that reads such observations; networks are for those of numbers unless another policy is named."""
    agent_kwargs = {"policy": (policy := default_policy(config.agent, observations)), **config.agent_kwargs}
    if policy != "MlpPolicy" and config.agent_kwargs.get("policy") != policy:
        network = ("net_arch", "features_extractor_class", "features_extractor_kwargs")
        kept = {k: v for k, v in config.agent_kwargs.get("policy_kwargs", {}).items() if k not in network}
        if is_float_image(observations):
            kept |= {"normalize_images": False, "features_extractor_kwargs": {"normalized_image": True}}
        agent_kwargs |= {"policy": policy, "policy_kwargs": kept}
    return replace(config, agent_kwargs=agent_kwargs)


def with_settings(config: RunConfig, settings: Sequence[str]) -> RunConfig:
    """The configuration with "key=value" settings over it, checked; see :func:`resolve_config`."""
    config = validated(_put_settings(config, settings))
    return replace(config, env_kwargs=config.resolved_env.self_contained(config.env_kwargs))


def _put_settings(config: RunConfig, settings: Sequence[str]) -> RunConfig:
    """The configuration with "key=value" settings over it, unchecked."""
    env_kwargs, agent_kwargs = config.env_kwargs, config.agent_kwargs
    for setting in settings:
        key, value = parse(setting)
        if key in _OPTIONS:
            raise ConfigError(f"--set {setting}: use --{key.replace('_', '-')} {setting.partition('=')[2]}")
        if key.startswith("env."):
            env_kwargs = {**env_kwargs, key.removeprefix("env."): value}
        else:
            agent_kwargs = with_entry(agent_kwargs, key.split("."), value)
    curriculum = config.curriculum
    if curriculum is not None or any(map(is_curriculum, env_kwargs.values())):
        from palaestra.train.config.curriculum import staged  # not needed by most runs

        env_kwargs, curriculum = staged(env_kwargs, curriculum, settings)
    return replace(config, env_kwargs=env_kwargs, agent_kwargs=agent_kwargs, curriculum=curriculum)


def validated(config: RunConfig) -> RunConfig:
    """The configuration with every value checked and in its proper type.

    Raises:
        ConfigError: naming the first setting that is wrong.
    """
    config = _validated_values(config)
    config = replace(config, env_kwargs=checked_env_kwargs(config.resolved_env, config.env_kwargs))
    actions = spaces_of(config.resolved_env, config.env_kwargs)[1]
    check_actions(config.agent, config.resolved_env, config.env_kwargs, actions)
    _check_plan(config)
    return config


def _check_plan(config: RunConfig) -> None:
    check_schedules(config.agent_kwargs, config.resolved_env, config.env_kwargs)
    if config.curriculum is not None:
        from palaestra.train.config.curriculum import check_curriculum  # the same

        check_curriculum(config.resolved_env, config.env_kwargs, config.curriculum)
    if config.stop_at is not None:
        from palaestra.train.config.stop_rule import stop_rule  # not needed by most runs

        stop_rule(config.stop_at, config.resolved_env, config.env_kwargs)
    lesson = {name: getattr(config, name) for name in _LESSON}
    if any(value is not None for value in lesson.values()):
        from palaestra.train.config.lessons import check_lesson  # the same

        check_lesson(config.agent, config.total_timesteps, **lesson)


def _validated_values(config: RunConfig) -> RunConfig:
    """As :func:`validated`, for all but the environment's arguments."""
    for name, kind in _TYPES.items():
        if not isinstance(getattr(config, name), kind):
            raise ConfigError(f"{name}={getattr(config, name)}: expected {kind.__name__}")
    require_agent(config.agent)
    check_device(config.device, config.precision)
    checkpoint_interval(config.checkpoint_every)
    if config.init_from is not None and not isinstance(config.init_from, str):
        raise ConfigError(f"init_from={config.init_from}: expected a model file or null")
    config = replace(config, **{name: rule.check(name, getattr(config, name)) for name, rule in _COUNTS.items()})
    config = replace(config, agent_kwargs=checked_agent_kwargs(config.agent, config.agent_kwargs, config.resolved_env))
    check_policy_kwargs(config.agent, config.agent_kwargs)
    check_sizes(config.agent, config.agent_kwargs, config.num_envs, config.total_timesteps)
    return config


def build_arguments(config: RunConfig) -> dict[str, Any]:
    """The agent's constructor arguments: schedules and classes made from their text."""
    arguments = {key: schedule(value) for key, value in config.agent_kwargs.items()}
    if "policy_kwargs" in arguments:
        arguments["policy_kwargs"] = {k: class_or_value(k, v) for k, v in arguments["policy_kwargs"].items()}
    return arguments
