"""Wrappers by the names of settings, in one order: ours around tensor environments, Gymnasium's around all others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium

from palaestra.envs.core import TensorEnv
from palaestra.envs.core.user_code import describe, import_file, import_module
from palaestra.envs.trained_players import rules_with_own_rival
from palaestra.envs.wrappers.discretized_actions import DiscretizedActions, action_bounds
from palaestra.envs.wrappers.imperfections import (
    DelayedObservation,
    GymnasiumDelay,
    GymnasiumNoise,
    GymnasiumStickyActions,
    ObservationNoise,
    StickyActions,
)
from palaestra.envs.wrappers.observations import FrameStack, StackedObservations, TimeAware
from palaestra.envs.wrappers.randomized import Randomized
from palaestra.envs.wrappers.time_limit import limited
from palaestra.envs.wrappers.wrapper import WrapperError

WRAPPER_SETTINGS = (
    "randomized",
    "sticky_actions",
    "observation_noise",
    "delayed_observation",
    "time_aware",
    "frame_stack",
    "discretized_actions",
)
"""Names of the wrappers, from the inside out."""


def take_settings(arguments: dict[str, Any]) -> dict[str, Any]:
    """Remove the wrappers' settings from an environment's ``arguments``, and give them."""
    return {name: arguments.pop(name) for name in WRAPPER_SETTINGS if name in arguments}


def wrapped(env: TensorEnv[Any], settings: Mapping[str, Any], max_episode_steps: int | None = None) -> TensorEnv[Any]:
    """The environment within the wrappers that ``settings`` name, see :data:`WRAPPER_SETTINGS`.

    Args:
        env: the innermost environment.
        settings: ``randomized`` {attribute: [low, high]}, ``sticky_actions`` probability, ``observation_noise``
            deviation or a list of them, ``delayed_observation`` steps, ``time_aware`` true or false, ``frame_stack``
            count, ``discretized_actions`` bins or {bins, multidiscrete}.
        max_episode_steps: the batch's time limit, where it is not the environment's own; it counts as innermost.

    Raises:
        WrapperError: naming the setting.
    """
    makers: dict[str, Callable[[TensorEnv[Any], Any], TensorEnv[Any]]] = {
        "randomized": lambda env, value: Randomized(env, **_checked_mapping(value)),
        "sticky_actions": StickyActions,
        "observation_noise": ObservationNoise,
        "delayed_observation": DelayedObservation,
        "time_aware": lambda env, value: TimeAware(env) if _checked_flag(value) else env,
        "frame_stack": FrameStack,
        "discretized_actions": lambda env, value: DiscretizedActions(env, **_discretization(value)),
    }
    env = limited(env, max_episode_steps)
    for name in WRAPPER_SETTINGS:
        if name in settings:
            if rules_with_own_rival(env) is not None:
                reason = "an agent that is its own rival sees the rules as they are"
                raise WrapperError(f"{name}={settings[name]}: {reason}")
            env = _apply(name, settings[name], makers[name], env)
    return env


def gymnasium_wrappers(settings: Mapping[str, Any]) -> tuple[Callable[[Any], Any], ...]:
    """The same for ordinary Gymnasium environments, for the argument ``wrappers`` of ``gymnasium.make_vec``.

    Raises:
        WrapperError: for ``randomized``, whose attributes such environments may keep anywhere.
    """
    makers = {
        "sticky_actions": GymnasiumStickyActions,
        "observation_noise": GymnasiumNoise,
        "delayed_observation": GymnasiumDelay,
        "time_aware": _gymnasium_time,
        "frame_stack": StackedObservations,
        "discretized_actions": _gymnasium_actions,
    }
    if "randomized" in settings:
        raise WrapperError(f"randomized={settings['randomized']}: only tensor environments can be randomised")
    chosen = [name for name in WRAPPER_SETTINGS if name in settings]
    return tuple(functools.partial(_apply, name, settings[name], makers[name]) for name in chosen)


def named_wrappers(given: Any) -> tuple[Callable[[Any], Any], ...]:
    """Gymnasium wrappers by name, "module:Class" or {"module:Class": {argument: value}}; classes as they are.

    Raises:
        WrapperError: naming what is none.
        UserCodeError: if its module cannot be imported.
    """
    if not isinstance(given, list | tuple):
        raise WrapperError(f"wrappers={given}: must be a list of module:Class, or of {{module:Class: arguments}}")
    return tuple(item if callable(item) else _named_wrapper(item) for item in given)


def _named_wrapper(item: Any) -> Callable[[Any], Any]:
    name, arguments = next(iter(item.items())) if isinstance(item, dict) and len(item) == 1 else (item, {})
    place, _, cls = str(name).rpartition(":")
    if not place or not isinstance(name, str) or not isinstance(arguments, dict | None):
        raise WrapperError(f"wrappers: expected module:Class, or {{module:Class: arguments}}, got {item}")
    module = import_file(Path(place).expanduser()) if place.endswith(".py") else import_module(place)
    found = getattr(module, cls, None)
    if not isinstance(found, type) or not issubclass(found, gymnasium.Wrapper):
        raise WrapperError(f"wrappers: {name} is not a gymnasium.Wrapper")
    return functools.partial(_with_arguments, name, found, arguments or {})


def _with_arguments(name: str, wrapper: Any, arguments: dict[str, Any], env: Any) -> Any:
    try:
        return wrapper(env, **arguments)
    except Exception as error:  # whatever its constructor raises
        raise WrapperError(f"wrappers: {name} raises {describe(error)}") from error


def _apply(name: str, value: Any, make: Callable[[Any, Any], Any], env: Any) -> Any:
    """The environment in the wrapper that ``make`` gives it; its refusal names the setting."""
    try:
        return make(env, value)
    except ValueError as error:
        raise WrapperError(f"{name}={value}: {error}") from error


def _gymnasium_time(env: Any, value: Any) -> Any:
    return gymnasium.wrappers.TimeAwareObservation(env, normalize_time=True) if _checked_flag(value) else env


def _gymnasium_actions(env: Any, value: Any) -> Any:
    chosen = {"multidiscrete": False, **_discretization(value)}
    action_bounds(env.action_space, **chosen)
    return gymnasium.wrappers.DiscretizeAction(env, **chosen)


def _checked_mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise ValueError("must say {attribute: [low, high]}")
    return value


def _checked_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _discretization(value: Any) -> dict[str, Any]:
    """The arguments of the wrapper, from the number of bins or from a mapping."""
    if not isinstance(value, dict):
        return {"bins": value}
    if "bins" not in value or set(value) - {"bins", "multidiscrete"}:
        raise ValueError("must be the values per dimension, or {bins, multidiscrete}")
    return value
