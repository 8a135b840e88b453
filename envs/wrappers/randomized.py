"""Domain randomisation: numbers of the rules that differ from episode to episode.

Source: Tobin et al., "Domain randomization for transferring deep neural networks from simulation to the real world",
IROS 2017.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from palaestra.envs.core import Reference, TensorEnv, TensorVectorEnv
from palaestra.envs.core.rng import Rng, sample_actions
from palaestra.envs.core.user_code import one_line
from palaestra.envs.wrappers.wrapper import Wrapper, join, split

_TRIAL_ROWS = 11  # a batch that fits no other dimension by chance


class Randomized(Wrapper):
    """Numbers of the rules are drawn anew for each episode, uniformly (domain randomisation).

    ``Randomized(CartPole(), half_length=(0.25, 1.0))``: every method of the environment inside sees a copy of it whose
    attribute ``half_length`` is a tensor [N] (a number for ``draw``). So the rules must calculate with the attribute
    itself; what the constructor has derived from it stays. The environment's own random numbers are those it draws
    alone, and nothing is known of attainable returns. Gymnasium has no such wrapper.
    """

    def __init__(self, env: TensorEnv[Any], /, **ranges: Any) -> None:
        """Each keyword is the name of a float attribute, with its (low, high).

        Raises:
            ValueError: no such attribute, it is no float, the range is none, or the rules take no tensor there.
        """
        super().__init__(env)
        if not ranges:
            raise ValueError("name at least one attribute and its range [low, high]")
        self.ranges = {name: _checked_range(_innermost(env), name, ends) for name, ends in ranges.items()}
        self._try()

    def within(self, state: Any) -> tuple[TensorEnv[Any], Any]:
        inner, *values = split(state)
        return _replaced(self.env, dict(zip(self.ranges, values, strict=True))), inner

    def reset(self, rng: Rng) -> Any:
        apart = rng.spawn()
        values = {name: apart.uniform(low, high) for name, (low, high) in self.ranges.items()}
        return join(_replaced(self.env, values).reset(rng), **values)

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        env, inner = self.within(state)
        after, reward, terminated = env.step(inner, action, rng)
        return join(after, **dict(zip(self.ranges, split(state)[1:], strict=True))), reward, terminated

    def stresses(self) -> Mapping[str, Mapping[str, Any] | TensorEnv[Any]]:
        """Those inside, but for numbers that are drawn here and cannot be set."""
        return {
            name: change
            for name, change in self.env.stresses().items()
            if isinstance(change, TensorEnv) or not {*change} & {*self.ranges}
        }

    @property
    def reference(self) -> Reference:
        return Reference()

    def _try(self) -> None:
        """One step of a small batch: the sooner the rules refuse a tensor, the better."""
        batch = TensorVectorEnv(self, _TRIAL_ROWS, device=self.device)
        try:
            batch.reset()
            batch.step(sample_actions(self.action_space, Rng(batch.env_indices, 1)))
        except Exception as error:  # anything at all, for the author expected a number
            names = ", ".join(self.ranges)
            problem = one_line(error)
            raise ValueError(
                f"the rules cannot calculate with a tensor [N] in the place of {names} ({problem})"
            ) from error


def _innermost(env: TensorEnv[Any]) -> TensorEnv[Any]:
    return _innermost(env.env) if isinstance(env, Wrapper) else env


def _replaced(env: TensorEnv[Any], values: Mapping[str, Any]) -> TensorEnv[Any]:
    """A shallow copy with other values of the innermost environment's attributes."""
    twin = copy.copy(env)
    if isinstance(env, Wrapper) and isinstance(twin, Wrapper):
        twin.env = _replaced(env.env, values)
    else:
        vars(twin).update(values)
    return twin


def _checked_range(env: TensorEnv[Any], name: str, ends: Any) -> tuple[float, float]:
    missing = object()
    value = inspect.getattr_static(env, name, missing)  # a property could not be replaced
    if value is missing:
        floats = sorted(key for key, item in vars(env).items() if isinstance(item, float))
        hint = f"; its numbers are {', '.join(floats)}" if floats else ""
        raise ValueError(f"{type(env).__name__} has no attribute {name!r}{hint}")
    if isinstance(value, tuple) and len(value) == 2 and all(type(end) in (int, float) for end in value):
        raise ValueError(
            f"{name} of {type(env).__name__} is a range that it draws from itself: {name}={ends} does that"
        )
    if not isinstance(value, float):
        raise ValueError(f"{name} of {type(env).__name__} is no float but {type(value).__name__}: it cannot be drawn")
    pair = list(ends) if isinstance(ends, list | tuple) else []
    if len(pair) != 2 or not all(isinstance(end, int | float) and math.isfinite(end) for end in pair):
        raise ValueError(f"{name} needs its range [low, high], got {ends}")
    if pair[0] > pair[1]:
        raise ValueError(f"{name} has low {pair[0]} above high {pair[1]}")
    return float(pair[0]), float(pair[1])
