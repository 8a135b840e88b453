"""Kinds and ranges of the agents' options, as types of their constructors' arguments.

An option is declared once, in a signature or in :class:`CommonOptions`: name, default, kind and range. From there the
checks of a run's configuration, the search spaces of a sweep and the settings in a model file are read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict

from annotated_types import Ge, Le
from stable_baselines3.common.type_aliases import Schedule


@dataclass(frozen=True)
class NotZero:
    """Marks a range whose bound 0 is itself refused; ``reason`` is what the message says."""

    reason: str


AtLeastOne = Annotated[int, Ge(1)]
NonNegative = Annotated[float, Ge(0)]
Probability = Annotated[float, Ge(0), Le(1)]
ScheduledNonNegative = NonNegative | Schedule
BatchSize = Annotated[int, Ge(2)]

_NOT_SAVED = ("self", "policy", "env", "device", "_init_setup_model", "kwargs")
_OTHER_NAMES = ("tensorboard_log", "stats_window_size")  # not saved, or saved under another name
_NOT_SAVED_OF_SB3 = (
    "rollout_buffer_class",
    "replay_buffer_class",
    "replay_buffer_kwargs",
    "optimize_memory_usage",
    "action_noise",
)


class CommonOptions(TypedDict, total=False):
    """Keyword arguments that all agents hand on: to Stable-Baselines3, and the last ones to their common base."""

    stats_window_size: AtLeastOne
    tensorboard_log: str | None
    policy_kwargs: dict[str, Any] | None
    verbose: int
    seed: int | None
    restart_states: Probability
    weight_decay: NonNegative


def saved_arguments(constructor: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the arguments that a model file holds, all of them attributes of the agent."""
    names = (*inspect.signature(constructor).parameters, *CommonOptions.__annotations__)
    return tuple(name for name in names if name not in (*_NOT_SAVED, *_NOT_SAVED_OF_SB3, *_OTHER_NAMES))


def arguments_for(base: type, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``base``'s constructor among a constructor's ``locals()``, and its ``kwargs`` as they are."""
    names = {*inspect.signature(base).parameters} - {"kwargs"}
    arguments: dict[str, Any] = {name: value for name, value in given.items() if name in names}
    return {**arguments, **given["kwargs"]}
