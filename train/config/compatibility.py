"""Checks of an environment, an agent and a device against each other, before anything starts.

Spaces and the agents that can act in them, sizes of batches and memories, networks that can be built, copies that fit
into memory.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from torch import nn

from palaestra.agents import PPO, SharedMlp
from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.agents.buffers.memory_limits import at_most, available, nbytes, require
from palaestra.agents.optimizers import with_own_optimizer
from palaestra.agents.options import AtLeastOne
from palaestra.agents.symmetry.symmetric_agent import check_symmetry
from palaestra.envs.core import TensorVectorEnv, resolve_device, state_fields
from palaestra.envs.core.errors import is_machine_failure
from palaestra.envs.core.user_code import RAISED, describe, one_line
from palaestra.envs.specs import ResolvedEnv
from palaestra.envs.trained_players import learns_too
from palaestra.envs.wrappers import WrapperError
from palaestra.envs.wrappers.stacking import SMALLEST_IMAGE
from palaestra.envs.wrappers.two_players.opponents import EARLIER, SELF
from palaestra.train.config import AGENTS
from palaestra.train.config.schema import (
    ConfigError,
    Option,
    fitting,
    follows_score,
    options_of,
    require_choice,
    whole_number,
)

Agent = OnDeviceAlgorithm
PRECISIONS = ("float32", "tf32")  # of a GPU's products
_CLASSES = (
    *(nn.ReLU, nn.Tanh, nn.ELU, nn.GELU, nn.SiLU, nn.LeakyReLU),
    *(torch.optim.Adam, torch.optim.AdamW, torch.optim.RAdam, torch.optim.RMSprop, torch.optim.SGD),
    *(SharedMlp, FlattenExtractor, NatureCNN, CombinedExtractor),
)
CLASSES: dict[str, type] = {cls.__name__: cls for cls in _CLASSES}
_CLASS_KEYS = ("activation_fn", "features_extractor_class", "optimizer_class")
_LONGEST_VALUE = 60  # characters, of an argument in a message
_FLATTENED = "; --set env.wrappers=[gymnasium.wrappers:FlattenObservation] flattens those of a Gymnasium environment"


def spaces_of(env: ResolvedEnv, env_kwargs: dict[str, Any]) -> tuple[Space[Any], Space[Any]]:
    """Observation and action space of one environment with its arguments.

    Raises:
        ConfigError: if it cannot be made.
    """
    try:
        return env.spaces(env_kwargs)
    except WrapperError as error:
        raise ConfigError(f"env.{error}") from error
    except RAISED as error:  # the message names the place
        raise ConfigError(f"{env.absolute_name} cannot be made: {describe(error)}") from error


def space_forms(observations: Space[Any], actions: Space[Any]) -> dict[str, str]:
    """The forms of observations and actions, without their bounds, which an agent does not depend on."""
    return {"observations": _form(observations), "actions": _form(actions)}


def _form(space: Space[Any]) -> str:
    if isinstance(space, spaces.Dict):
        return f"{{{', '.join(f'{key}: {_form(inner)}' for key, inner in space.spaces.items())}}}"
    return f"Box{space.shape}" if isinstance(space, spaces.Box) else one_line(space)


def check_forms(trained: Mapping[str, str], env: ResolvedEnv, env_kwargs: dict[str, Any]) -> None:
    """Raise a ConfigError unless an agent that was trained with these forms fits the environment."""
    for what, found in space_forms(*spaces_of(env, env_kwargs)).items():
        if trained.get(what, found) != found:
            raise ConfigError(f"the agent was trained with {what} {trained[what]}, and {env.short_name} has {found}")


def checked_env_kwargs(env: ResolvedEnv, env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments with whole numbers read, their names checked where they are known; making it checks their values.

    Raises:
        ConfigError: naming the setting.
    """
    if not env_kwargs or (kinds := env.kwarg_kinds()) is None:
        return env_kwargs
    checked = {}
    for key, value in _with_parts(env_kwargs, kinds).items():
        require_choice(key, kinds, "environment setting")
        if key == "max_episode_steps":
            value = Option(AtLeastOne | None).check(f"env.{key}", value)
        elif kinds[key].startswith("int") and isinstance(value, str):
            with suppress(ValueError):  # what is none the environment refuses
                value = whole_number(value)
        checked[key] = value
    return checked


def _with_parts(env_kwargs: dict[str, Any], kinds: Mapping[str, str]) -> dict[str, Any]:
    """The arguments with "robot.tip" as the entry "tip" of the mapping "robot", where that may be a mapping.

    A plain value that has parts becomes the mapping's entry "from": the robot of a file, with another tip.
    """
    dotted = [key for key in env_kwargs if isinstance(key, str) and "." in key]
    split = {key: env_kwargs[key] for key in dotted if "dict" in kinds.get(key.partition(".")[0], "")}
    whole = {key: value for key, value in env_kwargs.items() if key not in split}
    for key in sorted(split, key=lambda key: key.count(".")):
        *path, last = key.split(".")
        at = whole
        for part in path:
            inner = at.get(part)
            at[part] = dict(inner) if isinstance(inner, Mapping) else {} if inner is None else {"from": inner}
            at = at[part]
        at[last] = split[key]
    return whole


def checked_agent_kwargs(agent: str, agent_kwargs: dict[str, Any], env: ResolvedEnv) -> dict[str, Any]:
    """The agent's arguments, each in its proper type.

    Raises:
        ConfigError: naming the setting.
    """
    options, checked = options_of(AGENTS[agent]), {}
    for key, value in agent_kwargs.items():
        if key not in options and key in (env.kwarg_kinds() or ()):
            raise ConfigError(f"unknown {agent} setting {key!r}; did you mean 'env.{key}', of the environment?")
        require_choice(key, options, f"{agent} setting")
        checked[key] = options[key].check(key, value)
    require_choice(checked.get("policy", "MlpPolicy"), AGENTS[agent].policy_aliases, "policy")
    if checked.get("restart_states") and not env.in_tensors:
        share = checked["restart_states"]
        raise ConfigError(f"restart_states={share}: only environments in tensors have states to begin in; leave it out")
    if checked.get("rollout_storage") == "states":
        hint = 'leave it at "auto", which keeps what can be kept'
        if not env.in_tensors:
            raise ConfigError(f"rollout_storage=states: only environments in tensors have states to keep; {hint}")
        if issubclass(AGENTS[agent], PPO) and checked.get("normalize_observation"):
            raise ConfigError(f"rollout_storage=states: normalize_observation reads all observations at once; {hint}")
    return checked


def is_float_image(space: Space[Any]) -> bool:
    """True for images [C, H, W] whose numbers are 0 … 1 already."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 3 or not np.issubdtype(space.dtype, np.floating):
        return False
    return bool((space.low == 0.0).all() and (space.high == 1.0).all()) and is_image_space_channels_first(space)


def default_policy(agent: str, space: Space[Any]) -> str:
    """SB3's name of the policy for such observations.

    Raises:
        ConfigError: if the agent has none, or no agent reads such observations.
    """
    parts = list(space.spaces.values()) if isinstance(space, spaces.Dict) else [space]
    if not all(isinstance(p, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) for p in parts):
        kinds = "Box, Discrete, MultiDiscrete, MultiBinary or a Dict of them"
        raise ConfigError(f"agents read observations in {kinds}, the environment gives {one_line(space)}{_FLATTENED}")
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            if is_image_space(part) and min(sorted(part.shape or ())[1:]) < SMALLEST_IMAGE:
                least = f"networks read images of at least {SMALLEST_IMAGE} × {SMALLEST_IMAGE} pixels in a Dict"
                raise ConfigError(f"observation[{key!r}] is {one_line(part)}, and {least}{_FLATTENED}")
        policy = "MultiInputPolicy"
    elif (is_image_space(space) or is_float_image(space)) and min(sorted(space.shape or ())[1:]) >= SMALLEST_IMAGE:
        policy = "CnnPolicy"
    else:
        policy = "MlpPolicy"
    aliases = AGENTS[agent].policy_aliases
    if policy not in aliases:
        able = [name for name, kind in AGENTS.items() if policy in kind.policy_aliases]
        raise ConfigError(f"{agent} has no {policy} for {one_line(space)}: use --agent {' or '.join(able)}")
    return policy


def can_act(agent: str, space: Space[Any]) -> bool:
    """True if the agent can learn to act in ``space``."""
    return AGENTS[agent].can_act(space)


def check_actions(agent: str, env: ResolvedEnv, env_kwargs: dict[str, Any], space: Space[Any]) -> None:
    """Raise a ConfigError unless the agent can act in the environment's action space; it names agents that can."""
    if AGENTS[agent].remembers and env_kwargs.get("rival") == SELF:
        raise ConfigError(f"env.rival={SELF}: {agent} has a memory of the episode, which the rival would not have")
    if can_act(agent, space):
        return
    short = {k: f"{v}" if len(f"{v}") <= _LONGEST_VALUE else "…" for k, v in env_kwargs.items()}
    where = " with " + ", ".join(f"{k}={v}" for k, v in short.items()) if short else ""
    takes = [name for name in AGENTS if can_act(name, space)]
    hint = f": use --agent {takes[0]}" if takes else ""
    raise ConfigError(f"{agent} needs {AGENTS[agent].acts_in}, {env.absolute_name}{where} has {one_line(space)}{hint}")


def check_memory(env: ResolvedEnv, env_kwargs: dict[str, Any], num_envs: int, device: str) -> None:
    """Raise a MemoryError if so many copies certainly do not fit; the memory of other kinds is their own."""
    if not env.in_tensors:
        return
    one = env.make(1, "cpu", **env_kwargs)
    assert isinstance(one, TensorVectorEnv)
    obs, _ = one.reset()
    # the state and what is seen of it, before and after a step
    size = 2 * (nbytes(state_fields(one.state).values()) + nbytes([obs]))
    require(num_envs * size, resolve_device(device), f"{num_envs:,} environments (num_envs)")


def check_sizes(agent: str, agent_kwargs: dict[str, Any], num_envs: int, total_timesteps: int) -> None:
    """Raise a ConfigError unless what is collected fits what learns from it."""
    defaults = inspect.signature(AGENTS[agent]).parameters

    def value(name: str) -> Any:
        return agent_kwargs.get(name, defaults[name].default)

    try:
        AGENTS[agent].check_settings({name: value(name) for name in defaults if name != "kwargs"} | agent_kwargs)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    size, steps = value("batch_size"), value("n_steps")
    if "n_epochs" in defaults and num_envs * steps % size:  # learns from rollouts
        near = fitting(
            batch_size=(size, lambda one: one > 1 and num_envs * steps % one == 0),
            n_steps=(steps, lambda one: num_envs * one % size == 0),
            num_envs=(num_envs, lambda one: one * steps % size == 0),
        )
        raise ConfigError(f"batch_size={size} does not divide num_envs × n_steps = {num_envs * steps}{near}")
    if "buffer_size" in defaults and value("n_steps") > -(-value("buffer_size") // num_envs):
        needed = (value("n_steps") - 1) * num_envs
        raise ConfigError(
            f"buffer_size={value('buffer_size')}: must be above {needed} for {num_envs} environments "
            f"with n_steps={value('n_steps')}"
        )
    if "learning_starts" in defaults and value("learning_starts") >= total_timesteps:
        raise ConfigError(
            f"learning_starts={value('learning_starts')}: must be below total_timesteps={total_timesteps}, "
            f"or nothing would be learned"
        )


def check_schedules(agent_kwargs: Mapping[str, Any], env: ResolvedEnv, env_kwargs: dict[str, Any]) -> None:
    """Raise a ConfigError for a schedule that follows the score of an environment whose optimum is unknown."""
    for key, value in agent_kwargs.items():
        if follows_score(value) and (not env.in_tensors or env.reference(env_kwargs).percent_of_optimal(0.0) is None):
            raise ConfigError(f"{key}={value}: the optimum of {env.short_name} is unknown; use linear(start, end)")


def begins_elsewhere(
    agent_kwargs: Mapping[str, Any], curriculum: Mapping[str, str] | None, env_kwargs: Mapping[str, Any]
) -> str:
    """The settings with which an episode of training does not follow from seed and number alone; empty without any."""
    share = agent_kwargs.get("restart_states")
    found = [f"restart_states={share}"] if share else []
    given = [(key, name, str(env_kwargs.get(key, ""))) for key, name in (("opponent", EARLIER), ("rival", SELF))]
    found += [f"env.{key}={text}" for key, name, text in given if name in text.split("+") or learns_too(text)]
    return " and ".join([*found, *(f"env.{key}={text}" for key, text in (curriculum or {}).items())])


def check_device(device: str, precision: str = "float32") -> None:
    """Raise a ConfigError unless PyTorch knows the device, agents can compute on it, and the precision is known."""
    require_choice(precision, PRECISIONS, "precision")
    if device.partition(":")[0] == "mps":
        raise ConfigError(f"device={device}: Apple's GPUs have no 64-bit floats, which agents compute with: use cpu")
    require_choice(device.partition(":")[0], ("auto", "cpu", "cuda"), "device")
    try:
        torch.device("cpu" if device == "auto" else device)
    except RuntimeError as error:
        raise ConfigError(f"device={device}: {str(error).splitlines()[0]}") from error


def check_computing(device: str, precision: str) -> None:
    """Raise a ConfigError unless a run that begins here has that device, and there its products that precision."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={device}: there is no such device here")
    if precision != "float32" and resolve_device(device).type != "cuda":
        raise ConfigError(f"precision={precision}: a GPU has it, and this run computes on the CPU: leave it out")


def check_policy_kwargs(agent: str, agent_kwargs: dict[str, Any]) -> None:
    """Raise a ConfigError that names an argument which the policy of that agent does not have, or an unknown class."""
    policy = AGENTS[agent].policy_aliases[agent_kwargs.get("policy", "MlpPolicy")]
    given = ("observation_space", "action_space", "lr_schedule", "use_sde")  # by the agent itself
    names = [f"policy_kwargs.{name}" for name in inspect.signature(policy).parameters if name not in given]
    for key, value in agent_kwargs.get("policy_kwargs", {}).items():
        require_choice(f"policy_kwargs.{key}", names, "setting")
        class_or_value(key, value)


def class_or_value(key: str, value: Any) -> Any:
    """The class of that name, where the argument takes one; any other value as it is."""
    if key in _CLASS_KEYS:
        require_choice(value, CLASSES, f"policy_kwargs.{key}")
    return CLASSES[value] if key in _CLASS_KEYS else value


def check_policy(agent: str, env: ResolvedEnv, env_kwargs: dict[str, Any], arguments: dict[str, Any]) -> None:
    """Build the policy once, for what is wrong with the arguments of networks and optimisers only they know.

    Raises:
        ConfigError: if it cannot be built, or does not fit into memory.
    """
    observations, actions = spaces_of(env, env_kwargs)
    policy = AGENTS[agent].policy_aliases[arguments.get("policy", "MlpPolicy")]
    kwargs = arguments.get("policy_kwargs", {})
    decay = arguments.get("weight_decay", 0.0)
    sde = {"use_sde": True} if arguments.get("use_sde") else {}
    if sde and not isinstance(actions, spaces.Box):
        raise ConfigError(f"use_sde=True is for continuous actions; {env.short_name} has {one_line(actions)}")
    given = ", ".join(f"{key}={value}" for key, value in kwargs.items())
    too_large = ConfigError(f"policy_kwargs ({given}): such networks do not fit into memory")
    try:
        # weights, gradients and Adam's two moments; the run's own random numbers begin later
        with at_most(available(torch.device("cpu")) / 16, too_large), torch.random.fork_rng(devices=[]):
            built = policy(observations, actions, lambda _: 1e-3, **sde, **with_own_optimizer(policy, kwargs, decay))
    except ConfigError:
        raise
    except Exception as error:  # whatever their constructors raise
        if is_machine_failure(error):
            raise too_large from error
        raise ConfigError(f"policy_kwargs ({given}): {describe(error)}") from error
    _check_symmetry(env, env_kwargs, arguments, built)
    if arguments.get("hindsight"):
        from palaestra.train.config.goal_check import check_hindsight  # not needed by most runs

        check_hindsight(env, env_kwargs, arguments["hindsight"])


def _check_symmetry(env: ResolvedEnv, env_kwargs: dict[str, Any], arguments: dict[str, Any], policy: Any) -> None:
    """Raise a ConfigError unless the environment has the symmetries that the agent is to use."""
    use = arguments.get("symmetry", "none")
    if use == "none":
        return
    if not env.in_tensors:
        raise ConfigError(f"symmetry={use} is for environments in tensors, which name their symmetries: leave it out")
    batch: Any = env.open(1, "cpu", 0, **env_kwargs)
    try:
        check_symmetry(use, bool(arguments.get("normalize_observation")), batch.env, policy)
    except ValueError as error:
        raise ConfigError(f"symmetry={use}: {error}") from error
