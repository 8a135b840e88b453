"""The wrapper that changes nothing, and the states of wrappers.

A wrapper's state is a flat record: the fields of the state inside, by their names, and behind them the wrapper's own
tensors. So whatever handles states field by field (resets, replay, pictures of the past) need not know of wrappers.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from palaestra.envs.core import Quantity, Reference, TensorEnv, state_fields
from palaestra.envs.core.rng import Rng

if TYPE_CHECKING:
    from palaestra.envs.core import Array
    from palaestra.envs.rendering.canvas import Canvas

_SPACES = ("observation_space", "action_space")
_SAME = (
    *(*_SPACES, "max_episode_steps", "step_seconds"),
    *("frames_per_second", "turn_based", "alternates", "decided_by", "picture_size"),
)


class WrapperError(ValueError):
    """A wrapper does not fit the environment, or its setting has a wrong value; the message names the setting."""


@functools.cache
def _record(inner: Any, names: tuple[str, ...], own: tuple[str, ...]) -> Any:
    """The type of a state with the fields ``names`` of an ``inner`` one and a wrapper's ``own`` behind them."""
    fields = list(names)
    for name in own:
        while name in fields:
            name += "_"
        fields.append(name)
    record: Any = dataclasses.make_dataclass(f"Wrapped{inner.__name__}", [(f, Tensor) for f in fields], frozen=True)
    record.inner, record.inner_names = inner, names
    return record


def join(inner: Any, **own: Tensor) -> Any:
    """The state of a wrapper: the state inside with tensors of its own."""
    fields = state_fields(inner)
    kind: Any = type(inner)
    return _record(kind, tuple(fields), tuple(own))(*fields.values(), *own.values())


def split(state: Any) -> list[Any]:
    """The state inside and the wrapper's own tensors, as :func:`join` got them."""
    names, values = type(state).inner_names, list(state_fields(state).values())
    return [type(state).inner(**dict(zip(names, values, strict=False))), *values[len(names) :]]


class Wrapper(TensorEnv[Any]):
    """An environment around ``env`` that changes nothing; subclasses override what they change."""

    def __init__(self, env: TensorEnv[Any]) -> None:
        self.env, self.device = env, env.device
        for name in _SAME:
            setattr(self, name, getattr(env, name))

    def within(self, state: Any) -> tuple[TensorEnv[Any], Any]:
        """The environment inside and its state; a wrapper that has a state of its own overrides this."""
        return self.env, state

    def reset(self, rng: Rng) -> Any:
        return self.env.reset(rng)

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        return self.env.step(state, action, rng)

    def observe(self, state: Any) -> Tensor:
        env, inner = self.within(state)
        return env.observe(inner)

    def success(self, state: Any) -> Tensor:
        env, inner = self.within(state)
        return env.success(inner)

    def expert(self, state: Any) -> Tensor:
        env, inner = self.within(state)
        return env.expert(inner)

    def action_mask(self, state: Any) -> Tensor:
        env, inner = self.within(state)
        return env.action_mask(inner)

    def draw(self, state: Any, canvas: Canvas) -> None:
        env, inner = self.within(state)
        env.draw(inner, canvas)

    def keys_in(self, state: Any) -> dict[str, int]:
        env, inner = self.within(state)
        return env.keys_in(inner)

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        return self.env.summary(returns, lengths, successes)

    def report_figures(self, returns: Array, lengths: Array, successes: Array | None, act: Any) -> Any:
        return self.env.report_figures(returns, lengths, successes, None)

    def step_figures(self, earlier: Any, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        env, last = self.within(after)
        return env.step_figures(self.within(earlier)[1], self.within(before)[1], action, last)

    def stresses(self) -> Mapping[str, Mapping[str, Any] | TensorEnv[Any]]:
        return self.env.stresses()

    def action_name(self, action: int) -> str:
        return self.env.action_name(action)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        return self.env.observation_names

    @property
    def action_names(self) -> tuple[Quantity, ...]:
        return self.env.action_names

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.env.remarks

    @property
    def reference(self) -> Reference:
        return self.env.reference

    @property
    def keys_to_action(self) -> dict[str, int]:
        return self.env.keys_to_action

    def has(self, name: str) -> bool:
        """True if the environment inside has it; ``exact`` never, for its states are not the wrapper's."""
        return name != "exact" and self.env.has(name)

    def to(self, device: torch.device | str) -> Wrapper:
        self.env.to(device)
        super().to(device)
        return self


class UnseenRules(Wrapper):
    """Other rules of an environment's states, of which agent and expert see what that environment would show them."""

    def __init__(self, env: TensorEnv[Any], seen: TensorEnv[Any]) -> None:
        """``env`` has the rules, ``seen`` shows the states."""
        super().__init__(env)
        self.seen, self.observation_space = seen, seen.observation_space

    def observe(self, state: Any) -> Tensor:
        return self.seen.observe(state)

    def expert(self, state: Any) -> Tensor:
        return self.seen.expert(state)

    def exact(self, act: Callable[[Any], Tensor]) -> dict[str, float]:
        return self.env.exact(act)

    def has(self, name: str) -> bool:
        return self.env.has(name)

    def to(self, device: torch.device | str) -> UnseenRules:
        self.seen.to(device)
        super().to(device)
        return self


def is_count(value: Any, least: int) -> bool:
    """True if a setting is an integer of at least ``least``; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def free_name(name: str, taken: tuple[Quantity, ...]) -> str:
    """The name, with as many underscores as set it apart from those that are taken."""
    while any(name == one.name for one in taken):
        name += "_"
    return name
