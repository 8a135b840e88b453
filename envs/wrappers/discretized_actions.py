"""Continuous actions as a finite set, for agents that need one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch import Tensor

from palaestra.envs.core import Array, Quantity, TensorEnv
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.user_code import one_line
from palaestra.envs.wrappers.wrapper import Wrapper, free_name, is_count

MOST_ACTIONS = 10_000


class DiscretizedActions(Wrapper):
    """A bounded Box of actions becomes ``bins`` values per dimension: the middles of equal parts of its range.

    One Discrete action stands for a value in every dimension, the last dimension counting fastest; with
    ``multidiscrete`` there is one choice per dimension. Equals ``gymnasium.wrappers.DiscretizeAction``; ``expert`` is
    the nearest to the expert inside.
    """

    def __init__(self, env: TensorEnv[Any], bins: int, multidiscrete: bool = False) -> None:
        """Raises ValueError if ``bins`` is not at least 2, for unbounded actions, or more than ``MOST_ACTIONS``."""
        super().__init__(env)
        low, high = action_bounds(env.action_space, bins, multidiscrete)
        self.bins, self.multidiscrete = bins, multidiscrete
        edges = np.linspace(low, high, bins + 1)  # [bins + 1, D]
        middles = (0.5 * (edges[:-1] + edges[1:])).astype(np.float32)
        self._grid = torch.as_tensor(middles, device=self.device)  # [bins, D]
        self._places = torch.tensor([bins**place for place in reversed(range(low.size))], device=self.device)  # [D]
        self.action_space = MultiDiscrete([bins] * low.size) if multidiscrete else Discrete(bins**low.size)

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        return self.env.step(state, self._values(action), rng)

    def step_figures(self, earlier: Any, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        return super().step_figures(earlier, before, self._values(action), after)

    def _values(self, action: Tensor) -> Tensor:
        """The actions inside, [N, …]."""
        digits = action if self.multidiscrete else action.unsqueeze(1) // self._places % self.bins  # [N, D]
        return self._grid.gather(0, digits).view(-1, *(self.env.action_space.shape or ()))

    def action_name(self, action: int) -> str:
        """The value in each dimension, in its unit."""
        digits = [action // place % self.bins for place in self._places.tolist()]
        values = [float(self._grid[digit, i]) for i, digit in enumerate(digits)]
        told = self._dimensions()
        if not told:
            return ", ".join(f"{value:.3g}" for value in values)
        rows = zip(told, values, strict=True)
        return ", ".join(f"{one.name} {one.offset + one.scale * x:.3g} {one.unit}".rstrip() for one, x in rows)

    @property
    def action_names(self) -> tuple[Quantity, ...]:
        """Of MultiDiscrete actions, by the number of the choice; those of Discrete actions are in :meth:`action_name`.

        The values are evenly spaced, so that offset and scale tell them.
        """
        if not self.multidiscrete:
            return ()
        first, spacing = self._grid[0].double(), (self._grid[-1] - self._grid[0]).double() / (self.bins - 1)
        return tuple(
            replace(one, scale=one.scale * float(step), offset=one.offset + one.scale * float(low))
            for one, low, step in zip(self._dimensions(), first, spacing, strict=False)
        )

    def _dimensions(self) -> tuple[Quantity, ...]:
        """The meaning of each dimension by itself; empty where the environment inside does not say it of all."""
        names = self.env.action_names
        numbered = [(one, f"_{i + 1}" if one.count > 1 else "") for one in names for i in range(one.count)]
        if len(numbered) != len(self._places):
            return ()
        singles: tuple[Quantity, ...] = ()
        for one, number in numbered:
            singles += (replace(one, name=free_name(one.name + number, singles), count=1),)
        return singles

    def has(self, name: str) -> bool:
        return name == "action_name" or super().has(name)

    def expert(self, state: Any) -> Tensor:
        wanted = self.env.expert(state).flatten(1).unsqueeze(1)  # [N, 1, D]
        digits = (self._grid - wanted).abs().argmin(1)
        return digits if self.multidiscrete else (digits * self._places).sum(1)


def action_bounds(space: Any, bins: Any, multidiscrete: Any) -> tuple[Array, Array]:
    """Flat bounds [D] of a space of actions that can be cut into ``bins`` per dimension."""
    if not is_count(bins, 2):
        raise ValueError("must be an integer of at least 2, the values per dimension")
    if not isinstance(multidiscrete, bool):
        raise ValueError(f"multidiscrete must be true or false, got {multidiscrete}")
    if not isinstance(space, Box) or not space.is_bounded():
        raise ValueError(f"needs bounded Box actions, got {one_line(space)}")
    size = math.prod(space.shape)
    if not multidiscrete and bins**size > MOST_ACTIONS:
        raise ValueError(
            f"{size} dimensions of {bins} values are {bins**size:,} actions, more than {MOST_ACTIONS:,}: "
            f"take fewer, or one choice per dimension with {{bins: {bins}, multidiscrete: true}}"
        )
    return space.low.ravel(), space.high.ravel()
