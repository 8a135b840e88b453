"""Keys for Gymnasium environments.

1. The environment's own map, ``get_keys_to_action`` (MountainCar, Atari), comes first. As in ``gymnasium.utils.play``
   action 0 is taken where no key is held, unless the map says otherwise.
2. Gymnasium's other games have the maps below, by the class of the environment and its action space.
3. Where wrappers have changed the action space neither holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pygame
from gymnasium import Env, Space
from gymnasium.spaces import Box, Discrete

from palaestra.envs.core.user_code import RAISED, describe
from palaestra.train.recording.playback import WatchError

Combination = frozenset[int]
NO_KEY: Combination = frozenset()
_ARROWS = {"left": pygame.K_LEFT, "right": pygame.K_RIGHT, "up": pygame.K_UP, "down": pygame.K_DOWN}
_OLD_ARROWS = {273: pygame.K_UP, 274: pygame.K_DOWN, 275: pygame.K_RIGHT, 276: pygame.K_LEFT}  # key codes of pygame 1


@dataclass(frozen=True)
class KeyMap:
    """Keys, held together, and their actions.

    Attributes:
        actions: an int, or an array of a Box space.
        meanings: for people, of the same keys as far as they are known.
        turn_based: whether the environment waits for each action.
    """

    actions: Mapping[Combination, Any]
    meanings: Mapping[Combination, str]
    turn_based: bool = False


_Keys = dict[str, tuple[int | tuple[float, ...], str]]  # keys joined by "+", "" for none: an action and what it does

_STEERING: _Keys = {
    "": ((0.0, 0.0, 0.0), "coast"),
    "left": ((-1.0, 0.0, 0.0), "steer left"),
    "right": ((1.0, 0.0, 0.0), "steer right"),
    "up": ((0.0, 1.0, 0.0), "gas"),
    "down": ((0.0, 0.0, 0.8), "brake"),
    "left+up": ((-1.0, 1.0, 0.0), ""),
    "right+up": ((1.0, 1.0, 0.0), ""),
    "left+down": ((-1.0, 0.0, 0.8), ""),
    "right+down": ((1.0, 0.0, 0.8), ""),
}
_ENGINES: _Keys = {
    "": ((-1.0, 0.0), "all engines off"),
    "left": ((-1.0, -1.0), "turn left"),
    "right": ((-1.0, 1.0), "turn right"),
    "up": ((1.0, 0.0), "main engine"),
    "left+up": ((1.0, -1.0), ""),
    "right+up": ((1.0, 1.0), ""),
}
_DISCRETE: dict[str, _Keys] = {
    "CartPoleEnv": {"left": (0, "push left"), "right": (1, "push right")},
    "AcrobotEnv": {"": (1, "no torque"), "left": (0, "swing the lower link left"), "right": (2, "swing it right")},
    "LunarLander": {
        "": (0, "all engines off"),
        "left": (1, "turn left"),
        "right": (3, "turn right"),
        "up": (2, "main engine"),
    },
    "CarRacing": {
        "": (0, "coast"),
        "left": (2, "steer left"),
        "right": (1, "steer right"),
        "up": (3, "gas"),
        "down": (4, "brake"),
    },
    "FrozenLakeEnv": {"left": (0, "go left"), "down": (1, "go down"), "right": (2, "go right"), "up": (3, "go up")},
    "CliffWalkingEnv": {"up": (0, "go up"), "right": (1, "go right"), "down": (2, "go down"), "left": (3, "go left")},
    "TaxiEnv": {
        "down": (0, "drive down"),
        "up": (1, "drive up"),
        "right": (2, "drive right"),
        "left": (3, "drive left"),
        "p": (4, "pick the passenger up"),
        "d": (5, "drop the passenger off"),
    },
    "BlackjackEnv": {"s": (0, "stick"), "h": (1, "hit")},
}
_CONTINUOUS: dict[str, _Keys] = {
    "Continuous_MountainCarEnv": {
        "": ((0.0,), "no push"),
        "left": ((-1.0,), "push left"),
        "right": ((1.0,), "push right"),
    },
    "PendulumEnv": {"": ((0.0,), "no torque"), "left": ((2.0,), "turn left"), "right": ((-2.0,), "turn right")},
    "LunarLander": _ENGINES,
    "CarRacing": _STEERING,
}
_TURN_BASED = ("FrozenLakeEnv", "CliffWalkingEnv", "TaxiEnv", "BlackjackEnv")


def gymnasium_keys(env: Env[Any, Any], space: Space[Any], name: str) -> KeyMap | None:
    """The keys of an unwrapped environment that is played with actions of ``space``; None where there are none.

    Raises:
        WatchError: if the environment's own keys make no sense; ``name`` is for that message.
    """
    if env.action_space != space or not isinstance(space, Discrete | Box):
        return None
    if hasattr(env, "get_keys_to_action"):
        return _own_keys(env, space, name)
    kind = next((one for one in type(env).__mro__ if one.__module__.startswith("gymnasium.envs.")), None)
    keys = (_DISCRETE if isinstance(space, Discrete) else _CONTINUOUS).get("" if kind is None else kind.__name__)
    if kind is None or keys is None:
        return None
    codes = {frozenset(map(_code, filter(None, names.split("+")))): one for names, one in keys.items()}
    actions = {held: _action(space, action) for held, (action, _) in codes.items()}
    if not all(space.contains(action) for action in actions.values()):
        return None
    return KeyMap(actions, {held: said for held, (_, said) in codes.items()}, kind.__name__ in _TURN_BASED)


def _own_keys(env: Any, space: Discrete | Box, name: str) -> KeyMap | None:
    """The environment's map: keys are a code, a text of characters that are held together, or a tuple of either."""
    try:
        actions = {frozenset(_codes(keys)): _action(space, action) for keys, action in env.get_keys_to_action().items()}
        meanings = _meanings(getattr(env, "get_action_meanings", lambda: [])())
    except RAISED as error:
        raise WatchError(f"{name} cannot be played with keys: get_keys_to_action raises {describe(error)}") from error
    wrong = next((action for action in actions.values() if not space.contains(action)), None)
    if wrong is not None:
        raise WatchError(f"{name} cannot be played with keys: its get_keys_to_action gives {wrong}, no action")
    if isinstance(space, Discrete):
        actions.setdefault(NO_KEY, int(space.start))
    return KeyMap(actions, {held: meanings(action) for held, action in actions.items()})


def _code(name: str) -> int:
    return _ARROWS.get(name) or ord(name)


def _codes(keys: Any) -> Iterable[int]:
    for key in (keys,) if isinstance(keys, int) else keys:
        code = ord(key) if isinstance(key, str) else int(key)
        yield _OLD_ARROWS.get(code, code)


def _action(space: Discrete | Box, action: Any) -> Any:
    return int(action) if isinstance(space, Discrete) else np.asarray(action, space.dtype)


def _meanings(names: list[str]) -> Callable[[Any], str]:
    def meaning(action: Any) -> str:
        if isinstance(action, int) and 0 <= action < len(names):
            return str(names[action]).lower()
        return f"action {action}"

    return meaning
