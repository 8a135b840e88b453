"""Observations that hold more: the time, or the past.

Source: time, Pardo et al., "Time limits in reinforcement learning", ICML 2018; stacked frames, Mnih et al.,
"Human-level control through deep reinforcement learning", Nature 2015.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box
from torch import Tensor

from palaestra.envs.core import Quantity, TensorEnv
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.user_code import one_line
from palaestra.envs.wrappers.stacking import stacked, stacked_space, stacking_axis
from palaestra.envs.wrappers.wrapper import Wrapper, free_name, is_count, join, split


class TimeAware(Wrapper):
    """Behind the observation stands the share of the time limit that is used up, 0 at the start and 1 at the end.

    Without it an agent cannot know how much reward is still to come before the limit. Equals
    ``gymnasium.wrappers.TimeAwareObservation(normalize_time=True)``.
    """

    def __init__(self, env: TensorEnv[Any], max_episode_steps: int | None = None) -> None:
        """``max_episode_steps`` where the batch has another limit than the environment's own.

        Raises:
            ValueError: there is no limit, or the observation is not a Box of one dimension.
        """
        super().__init__(env)
        space, limit = env.observation_space, max_episode_steps or env.max_episode_steps
        if limit is None:
            raise ValueError("the environment has no time limit: set max_episode_steps")
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise ValueError(f"needs Box observations of one dimension, got {one_line(space)}")
        self.max_episode_steps = limit
        low, high = (np.append(bound.astype(np.float32), end) for bound, end in ((space.low, 0.0), (space.high, 1.0)))
        self.observation_space = Box(low.astype(np.float32), high.astype(np.float32))
        self._limit = torch.tensor(float(limit), device=self.device)  # a tensor: a GPU divides by a number less exactly

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        names = self.env.observation_names
        used = Quantity(free_name("time_used", names), scale=float(self.max_episode_steps or 1), unit="step")
        return (*names, used) if names else ()

    def within(self, state: Any) -> tuple[TensorEnv[Any], Any]:
        return self.env, split(state)[0]

    def reset(self, rng: Rng) -> Any:
        return join(self.env.reset(rng), elapsed=torch.zeros(rng.num_envs, dtype=torch.int32, device=self.device))

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        inner, elapsed = split(state)
        after, reward, terminated = self.env.step(inner, action, rng)
        return join(after, elapsed=elapsed + 1), reward, terminated

    def observe(self, state: Any) -> Tensor:
        inner, elapsed = split(state)
        return torch.cat((self.env.observe(inner).float(), (elapsed.float() / self._limit).unsqueeze(1)), 1)


class FrameStack(Wrapper):
    """The latest ``count`` observations, oldest first, [N, count, *shape]; before the first one stand copies of it.

    The agents' networks take them flat, count · size numbers; images are stacked in their channels, see
    :mod:`palaestra.envs.wrappers.stacking`. But for those it equals
    ``gymnasium.wrappers.FrameStackObservation(padding_type="reset")``.
    """

    def __init__(self, env: TensorEnv[Any], count: int) -> None:
        """Raises ValueError if ``count`` is not at least 1, or the observation is no Box."""
        super().__init__(env)
        if not is_count(count, 1):
            raise ValueError("must be an integer of at least 1")
        if not isinstance(env.observation_space, Box):
            raise ValueError(f"needs Box observations, got {one_line(env.observation_space)}")
        self.count, self._axis = count, stacking_axis(env.observation_space, count)
        self.observation_space = stacked_space(env.observation_space, count)

    @property
    def observation_names(self) -> tuple[Quantity, ...]:
        """Those of each frame; images have none, as their frames stand between each other."""
        named: tuple[Quantity, ...] = ()
        for steps in range(self.count - 1, -1, -1) if self._axis is None else ():
            for one in self.env.observation_names:
                name = f"{one.name}_{steps}_ago" if steps else one.name
                named += (dataclasses.replace(one, name=free_name(name, named)),)
        return named

    def within(self, state: Any) -> tuple[TensorEnv[Any], Any]:
        return self.env, split(state)[0]

    def reset(self, rng: Rng) -> Any:
        inner = self.env.reset(rng)
        return join(inner, frames=torch.cat([self._newest(inner)] * self.count, 1))

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        inner, frames = split(state)
        after, reward, terminated = self.env.step(inner, action, rng)
        newest = self._newest(after)
        return join(after, frames=torch.cat((frames[:, newest.shape[1] :], newest), 1)), reward, terminated

    def observe(self, state: Any) -> Tensor:
        frames: Tensor = split(state)[1]
        return frames

    def _newest(self, inner: Any) -> Tensor:
        obs = self.env.observe(inner)
        return obs.unsqueeze(1) if self._axis is None else obs.movedim(self._axis, 1)


class StackedObservations(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The same for a Gymnasium environment, and for every entry of a Dict, in memory of its own."""

    def __init__(self, env: gymnasium.Env[Any, Any], count: int) -> None:
        """Raises ValueError if ``count`` is not at least 1, or for observations that cannot be stacked."""
        super().__init__(env)
        if not is_count(count, 1):
            raise ValueError("must be an integer of at least 1")
        self.observation_space = stacked_space(env.observation_space, count)
        self._frames: deque[Any] = deque(maxlen=count)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        self._frames.extend([copy.deepcopy(obs)] * (self._frames.maxlen or 1))
        return self._together(), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, *outcome = self.env.step(action)
        self._frames.append(copy.deepcopy(obs))  # the environment may change it in place
        return self._together(), *outcome

    def _together(self) -> Any:
        return stacked(self.env.observation_space, list(self._frames))
