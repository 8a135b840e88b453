"""Actions from the keyboard.

* :class:`KeyboardController`: keys stand for actions. A turn-based environment takes one step for each key that has a
  meaning. In real time the first such key starts the episode, and keys pressed since the last step are used in that
  order, one per step. Otherwise the last key goes on; where there is an action without a key, only while it is held.
* :class:`MenuController`: for discrete actions without keys. Arrow keys move along the actions and Enter or Space takes
  one; with ten actions or fewer, a digit key takes the action directly.

Keys are pygame's key codes, so that an environment's names for them are checked and those of Gymnasium environments
(:mod:`palaestra.train.play.gymnasium_keys`), which give codes or characters, fit in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import pygame
from gymnasium.spaces import Discrete

from palaestra.train.play.gymnasium_keys import NO_KEY, Combination, gymnasium_keys
from palaestra.train.recording.playback import Playback, TensorPlayback, WatchError

ENTER = (pygame.K_SPACE, pygame.K_RETURN, pygame.K_KP_ENTER)
_MOST_WAITING = 2  # keys in real time: a player who presses three within one step wants the last two
_DIGITS = 10
_ARROWS = {"up", "down", "left", "right"}


class Keyboard(Protocol):
    """Keys pressed and held, as key codes.

    Attributes:
        taps: keys pressed and not yet used, oldest first; whoever uses one takes it out.
        held: keys that are down now.
    """

    taps: deque[int]
    held: set[int]


class KeyboardController:
    """Keys that stand for actions; ``actions`` is asked anew each time, since a key's meaning may change.

    Attributes:
        turn_based: whether the environment waits for each action.
        help: which keys there are.
        legend: a key and what it does, as far as that is known.
    """

    def __init__(
        self,
        actions: Callable[[], Mapping[Combination, Any]],
        turn_based: bool,
        meaning: Callable[[Combination, Any], str] = lambda keys, action: "",
    ) -> None:
        self._actions, self.turn_based = actions, turn_based
        self._last: int | None = None
        known = actions()
        said = [(_names(keys) or "no key", meaning(keys, action)) for keys, action in known.items() if len(keys) < 2]
        self.legend = [(keys, what) for keys, what in said if what]
        self.help = f"keys: {_names({key for combination in known for key in combination})}"
        if not turn_based and NO_KEY not in known:
            self.help += ", of which the last one pressed goes on"

    @property
    def waits(self) -> bool:
        """Whether no key with a meaning has been pressed in this episode."""
        return self._last is None

    @property
    def status(self) -> str:
        """A hint to show now; empty for none."""
        return "press a key to start" if self.waits else ""

    def start(self) -> None:
        """An episode begins."""
        self._last = None

    def choose(self, keyboard: Keyboard, allowed: Callable[[Any], bool]) -> Any:
        """The action to take now; None to wait. ``allowed`` tells of each action whether it may be taken."""
        actions = {keys: action for keys, action in self._actions().items() if allowed(action)}
        while not self.turn_based and len(keyboard.taps) > _MOST_WAITING:
            keyboard.taps.popleft()
        while keyboard.taps:
            key = keyboard.taps.popleft()
            action = _meant(actions, keyboard.held, key)
            if action is not None:
                self._last = key
                return action
        if self.turn_based or self._last is None:
            return None
        if NO_KEY in actions and self._last not in keyboard.held:
            others = [key for key in keyboard.held if frozenset((key,)) in actions]
            if not others:
                return actions[NO_KEY]
            self._last = others[0]
        return _meant(actions, keyboard.held, self._last)


def _meant(actions: Mapping[Combination, Any], held: set[int], key: int) -> Any:
    """The action of the key together with those held, or else of the key alone."""
    return actions.get(frozenset(held | {key}), actions.get(frozenset((key,))))


class MenuController:
    """The same for any discrete action, chosen from a list."""

    turn_based, waits = True, False
    legend: tuple[tuple[str, str], ...] = ()

    def __init__(self, space: Discrete, name: Callable[[int], str]) -> None:
        self._first, self._count, self._name = int(space.start), int(space.n), name
        self._choice = self._count // 2
        self._refused = False
        leap = math.isqrt(self._count)  # for two choices in one, a step of the first
        self._moves = {pygame.K_LEFT: -1, pygame.K_RIGHT: 1, pygame.K_DOWN: -leap, pygame.K_UP: leap}
        self.help = "arrow keys choose, Enter takes"

    @property
    def status(self) -> str:
        """The choice, and its place in the list."""
        place = f"{self._name(self._first + self._choice)}  ({self._choice + 1} of {self._count})"
        return f"{place} is not allowed now" if self._refused else place

    def start(self) -> None:
        """The choice stays where it was."""
        self._refused = False

    def choose(self, keyboard: Keyboard, allowed: Callable[[int], bool]) -> int | None:
        while keyboard.taps:
            key = keyboard.taps.popleft()
            digit = key - pygame.K_0
            by_digit = self._count <= _DIGITS and 0 <= digit < self._count
            if by_digit:
                self._choice = digit
            self._choice = min(max(self._choice + self._moves.get(key, 0), 0), self._count - 1)
            self._refused = (by_digit or key in ENTER) and not allowed(self._first + self._choice)
            if (by_digit or key in ENTER) and not self._refused:
                return self._first + self._choice
        return None


def controller_for(playback: Playback, name: str) -> KeyboardController | MenuController:
    """The controller for a playback that has been started; ``name`` is for messages.

    Raises:
        WatchError: if the actions are not discrete, or a key is unknown.
    """
    space = playback.env.single_action_space
    if not isinstance(playback, TensorPlayback):
        keys = gymnasium_keys(playback.env.envs[0].unwrapped, space, name)
        if keys is not None:
            return KeyboardController(lambda: keys.actions, keys.turn_based, lambda held, _: keys.meanings[held])
    if not isinstance(space, Discrete):
        raise WatchError(
            f"keys need one of a few actions, {name} has {' '.join(str(space).split())}; look for a setting with "
            "discrete actions, or see an agent play: palaestra watch"
        )
    if not isinstance(playback, TensorPlayback):
        return MenuController(space, "action {}".format)
    batch, rules = playback.env, playback.env.env
    if not rules.keys_in(batch.state_of(0)):
        return MenuController(space, rules.action_name)
    named = rules.has("action_name") and not rules.has("keys_in")  # a legend of keys whose meaning stays
    return KeyboardController(
        lambda: _named(rules.keys_in(batch.state_of(0))),
        rules.turn_based,
        lambda _, action: rules.action_name(action) if named else "",
    )


def _named(keys: Mapping[str, int]) -> dict[Combination, int]:
    """The actions of keys that are given by name, "" standing for none."""
    return {frozenset((_code(key),) if key else ()): action for key, action in keys.items()}


def _code(name: str) -> int:
    try:
        return int(pygame.key.key_code(name))
    except ValueError as error:
        raise WatchError(f"keys_to_action: pygame knows no key {name!r}; left and a are two") from error


def _names(keys: Iterable[int]) -> str:
    """Of keys, for people."""
    names = {pygame.key.name(key) for key in keys}
    others = sorted(name.upper() if len(name) == 1 else name for name in names - _ARROWS)
    if len(names & _ARROWS) > 2:  # one that has no meaning now may have one later
        return " ".join(["arrow keys", *others])
    return " ".join([*sorted(names & _ARROWS), *others])
