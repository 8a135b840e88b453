"""Imperfect control and imperfect sight: actions that stick, observations with noise, observations that come late.

They make a task harder, for training (a policy that lasts) and for tests of robustness (``palaestra evaluate RUN
--stress``). Each is there for tensor environments and, by the same rule, for Gymnasium environments.

Source: sticky actions, Machado et al., "Revisiting the Arcade Learning Environment: evaluation protocols and open
problems for general agents", Journal of Artificial Intelligence Research 2018, section 5.2.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Array, Reference, TensorEnv, torch_dtype
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.user_code import one_line
from palaestra.envs.wrappers.wrapper import Wrapper, is_count, join, split

STICKY, DELAY, NOISE = 0.25, 2, 0.05  # of the stresses that every environment can be put under
Perturbations = dict[str, dict[str, Any]]


def common_stresses(observations: gymnasium.Space[Any]) -> Perturbations:
    """Settings under which any environment with such observations can be tested: see ``TensorEnv.stresses``.

    Noise is among them only where bounds tell its size: ``NOISE`` of half the range of each number.
    """
    named: Perturbations = {
        f"sticky_actions_{100 * STICKY:.0f}_percent": {"sticky_actions": STICKY},
        "delay_1_step": {"delayed_observation": 1},
        f"delay_{DELAY}_steps": {"delayed_observation": DELAY},
    }
    if isinstance(observations, Box) and np.issubdtype(observations.dtype, np.floating) and observations.is_bounded():
        deviation = NOISE * (observations.high.astype(np.float64) - observations.low) / 2
        same = len(observations.shape) != 1 or np.ptp(deviation) == 0.0
        size = float(deviation.max()) if same else [float(f"{number:.3g}") for number in deviation]
        named["noise_5_percent"] = {"observation_noise": size}
    return named


class StickyActions(Wrapper):
    """With some probability the action taken in the step before is taken again, in place of the one chosen.

    The first action of an episode is always the chosen one. An action that the mask forbids now is not repeated. The
    environment's own random numbers are those it draws alone. The optimum inside stays a bound; of other returns
    nothing is known.
    """

    def __init__(self, env: TensorEnv[Any], probability: float) -> None:
        """Raises ValueError unless 0 ≤ ``probability`` < 1."""
        super().__init__(env)
        self.probability = checked_probability(probability)

    def within(self, state: Any) -> tuple[TensorEnv[Any], Any]:
        return self.env, split(state)[0]

    def reset(self, rng: Rng) -> Any:
        shape = (rng.num_envs, *(self.action_space.shape or ()))
        action = torch.zeros(shape, dtype=torch_dtype(self.action_space), device=self.device)
        acted = torch.zeros(rng.num_envs, dtype=torch.bool, device=self.device)
        return join(self.env.reset(rng), last_action=action, acted=acted)

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        inner, last, acted = split(state)
        sticks = acted & (rng.spawn().uniform() < self.probability)
        if self.env.has("action_mask") and isinstance(self.action_space, Discrete):
            place = (last - int(self.action_space.start)).clamp(min=0)
            sticks = sticks & self.env.action_mask(inner).gather(1, place.unsqueeze(1)).squeeze(1)
        action = torch.where(sticks.view(-1, *(1,) * (action.dim() - 1)), last, action)
        after, reward, terminated = self.env.step(inner, action, rng)
        return join(after, last_action=action, acted=torch.ones_like(acted)), reward, terminated

    def step_figures(self, earlier: Any, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        taken = split(after)[1]
        return super().step_figures(earlier, before, taken, after)

    @property
    def reference(self) -> Reference:
        inside = self.env.reference
        return Reference(optimum=inside.optimum, solved_at=inside.solved_at, source=inside.source)


class ObservationNoise(Wrapper):
    """Normal errors are added to every observation, new ones in each step, and the sum kept within the bounds."""

    def __init__(self, env: TensorEnv[Any], deviation: Any) -> None:
        """``deviation`` in the units of the observation: one number for all, or one for each.

        Raises:
            ValueError: if it is something else, or the observation no Box of floating-point numbers.
        """
        super().__init__(env)
        deviations = checked_deviation(env.observation_space, deviation)
        space: Any = env.observation_space
        self.deviation, self._shape = deviation, space.shape
        self._size = torch.tensor(deviations, dtype=torch.float32, device=self.device)
        self._low, self._high = (torch.as_tensor(bound, device=self.device) for bound in (space.low, space.high))

    def within(self, state: Any) -> tuple[TensorEnv[Any], Any]:
        return self.env, split(state)[0]

    def reset(self, rng: Rng) -> Any:
        return join(self.env.reset(rng), errors=self._errors(rng))

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        after, reward, terminated = self.env.step(split(state)[0], action, rng)
        return join(after, errors=self._errors(rng)), reward, terminated

    def observe(self, state: Any) -> Tensor:
        inner, errors = split(state)
        obs = self.env.observe(inner)
        return torch.minimum(torch.maximum(obs + errors.to(obs.dtype), self._low), self._high)

    def _errors(self, rng: Rng) -> Tensor:
        return rng.spawn().normal(self._shape) * self._size


class DelayedObservation(Wrapper):
    """The agent sees the environment as it was ``steps`` steps ago; until then as it was at the start."""

    def __init__(self, env: TensorEnv[Any], steps: int) -> None:
        """Raises ValueError if ``steps`` is not at least 1."""
        super().__init__(env)
        if not is_count(steps, 1):
            raise ValueError("must be an integer of at least 1, the steps of the delay")
        self.steps = steps

    def within(self, state: Any) -> tuple[TensorEnv[Any], Any]:
        return self.env, split(state)[0]

    def reset(self, rng: Rng) -> Any:
        inner = self.env.reset(rng)
        return join(inner, on_their_way=torch.stack([self.env.observe(inner)] * self.steps, 1))

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        inner, waiting = split(state)
        newest = self.env.observe(inner).unsqueeze(1)  # at the end of the step it is one step old
        after, reward, terminated = self.env.step(inner, action, rng)
        return join(after, on_their_way=torch.cat((waiting[:, 1:], newest), 1)), reward, terminated

    def observe(self, state: Any) -> Tensor:
        waiting: Tensor = split(state)[1]
        return waiting[:, 0]


def checked_probability(value: Any) -> float:
    """The probability of a repetition; a ValueError says that it is none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value < 1.0:
        raise ValueError("must be a probability, from 0 to below 1")
    return float(value)


def checked_deviation(space: Any, value: Any) -> Array:
    """The standard deviation of each number's error, shaped like the observation.

    Raises:
        ValueError: it is none, or observations of that space take none.
    """
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        raise ValueError(f"needs Box observations of floating-point numbers, got {one_line(space)}")
    several = isinstance(value, list | tuple)
    given = list(value) if several else [value]
    numbers = all(isinstance(number, int | float) and not isinstance(number, bool) for number in given)
    if not numbers or not all(math.isfinite(number) and number >= 0.0 for number in given):
        raise ValueError("must be a standard deviation, or a list of them, none below 0")
    if several and len(given) != math.prod(space.shape):
        raise ValueError(f"has {len(given)} entries, the observation {math.prod(space.shape)}")
    deviations: Array = np.array(given, np.float64)
    return deviations.reshape(space.shape) if several else np.full(space.shape, deviations[0])


class GymnasiumStickyActions(gymnasium.Wrapper[Any, Any, Any, Any]):
    """:class:`StickyActions` of a Gymnasium environment, by random numbers of its own."""

    def __init__(self, env: gymnasium.Env[Any, Any], probability: float) -> None:
        super().__init__(env)
        self._probability, self._last = checked_probability(probability), None
        self._random = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._last, self._random = None, _generator(self._random, seed)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        sticks = self._random.random() < self._probability
        self._last = action = copy.copy(self._last if sticks and self._last is not None else action)
        return self.env.step(action)


class GymnasiumNoise(gymnasium.ObservationWrapper[Any, Any, Any]):
    """:class:`ObservationNoise` of a Gymnasium environment, by random numbers of its own."""

    def __init__(self, env: gymnasium.Env[Any, Any], deviation: Any) -> None:
        super().__init__(env)
        self._size = checked_deviation(env.observation_space, deviation)
        self._random = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._random = _generator(self._random, seed)
        return super().reset(seed=seed, options=options)

    def observation(self, observation: Any) -> Any:
        space: Any = self.observation_space
        noisy = observation + self._size * self._random.standard_normal(space.shape)
        return np.clip(noisy, space.low, space.high).astype(space.dtype)


class GymnasiumDelay(gymnasium.Wrapper[Any, Any, Any, Any]):
    """:class:`DelayedObservation` of a Gymnasium environment, whatever it observes."""

    def __init__(self, env: gymnasium.Env[Any, Any], steps: int) -> None:
        super().__init__(env)
        if not is_count(steps, 1):
            raise ValueError("must be an integer of at least 1, the steps of the delay")
        self._waiting: deque[Any] = deque(maxlen=steps + 1)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(**kwargs)
        self._waiting.extend([copy.deepcopy(obs)] * (self._waiting.maxlen or 1))
        return self._waiting[0], info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        obs, *outcome = self.env.step(action)
        self._waiting.append(copy.deepcopy(obs))  # the environment may change it in place
        return self._waiting[0], *outcome


def _generator(before: np.random.Generator, seed: int | None) -> np.random.Generator:
    """The wrapper's random numbers after a reset: new ones of a seed, apart from the environment's own."""
    return before if seed is None else np.random.default_rng([seed, 0x5717])
