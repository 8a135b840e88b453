"""Recorded episodes on the device, to be cloned from, with the returns from each of their steps on.

1. Episodes lie one after another. The value of a step is its discounted return to the end of the episode; where that
   was cut by time or is not recorded to its end, γ^k V(last observation) is added with the critic as it is.
2. Minibatches are drawn with replacement by PyTorch's generator, whose state is part of a checkpoint.
3. Nothing is known of action masks: recorded actions are legal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.agents.buffers.memory_limits import nbytes, require
from palaestra.agents.buffers.rollout import Minibatch, map_obs
from palaestra.envs.core import Array


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode in the environment's own numbers and units: arrays of its T steps, or a dictionary of them.

    Attributes:
        observations: [T + 1, …], the last one after the last step.
        actions: [T, …].
        rewards: [T].
        terminated: True if the rules ended it; else it would have gone on.
    """

    observations: Any
    actions: Array
    rewards: Array
    terminated: bool


class Demonstrations:
    """Steps of recorded episodes; see the module.

    Attributes:
        steps: how many there are.
        returns: the undiscounted return of each episode, float64 [E].
    """

    def __init__(self, episodes: Sequence[RecordedEpisode]) -> None:
        """Join episodes; they stay on the host until :meth:`to` is called.

        Raises:
            ValueError: if there are none.
        """
        if not episodes:
            raise ValueError("there is no episode to learn from")
        lengths = np.array([len(episode.rewards) for episode in episodes])
        self.steps, self._ends = int(lengths.sum()), np.cumsum(lengths)
        self.returns = np.array([float(np.sum(episode.rewards, dtype=np.float64)) for episode in episodes])
        self._rewards = np.concatenate([np.asarray(e.rewards, dtype=np.float64) for e in episodes])
        self._terminated = np.array([episode.terminated for episode in episodes])
        self.observations, self._last = (
            _joined([map_obs(lambda o, part=part: o[part], episode.observations) for episode in episodes])
            for part in (slice(None, -1), slice(-1, None))
        )
        self.actions = torch.from_numpy(np.concatenate([np.asarray(episode.actions) for episode in episodes]))
        self._episode = torch.from_numpy(np.repeat(np.arange(len(episodes)), lengths))

    def to(self, device: torch.device, from_env: Callable[[Any], Any], own_actions: Callable[[Tensor], Tensor]) -> None:
        """Move everything to a device, as an agent has it.

        Args:
            device: the agent's.
            from_env: makes its observations of the environment's.
            own_actions: makes its actions of the environment's, [B, …].

        Raises:
            MemoryError: if it does not fit.
        """
        parts = [*self.observations.values()] if isinstance(self.observations, dict) else [self.observations]
        require(nbytes([*parts, self.actions]), device, f"{self.steps:,} recorded steps")
        self.observations, self._last = (
            from_env(map_obs(lambda o: o.to(device), part)) for part in (self.observations, self._last)
        )
        self.actions, self._episode = own_actions(self.actions.to(device)), self._episode.to(device)

    def discount(self, gamma: float, scales: bool) -> tuple[float, float]:
        """Compute the returns from each step on, divided by their deviation if it ``scales``; mean and variance."""
        returns, ahead = np.empty(self.steps), np.empty(self.steps)
        starts = np.concatenate(([0], self._ends[:-1]))
        for start, end, terminated in zip(starts, self._ends, self._terminated, strict=True):
            rest, left = 0.0, 0.0 if terminated else 1.0
            for step in range(end - 1, start - 1, -1):
                rest, left = self._rewards[step] + gamma * rest, gamma * left
                returns[step], ahead[step] = rest, left
        mean, variance = float(returns.mean()), float(returns.var())
        returns /= np.sqrt(variance + 1e-8) if scales else 1.0
        device = self._episode.device
        self._returns, self._ahead = (torch.from_numpy(part).float().to(device) for part in (returns, ahead))
        return mean, variance

    def minibatches(self, count: int, size: int, values: Callable[[Any], Tensor]) -> Iterator[Minibatch]:
        """``count`` minibatches of so many random steps; ``values`` are those of last observations, [B]."""
        beyond = values(self._last)
        for _ in range(count):
            rows = torch.randint(self.steps, (size,), device=self._episode.device)
            returns = self._returns[rows] + self._ahead[rows] * beyond[self._episode[rows]]
            seen = map_obs(lambda o, rows=rows: o[rows], self.observations)
            yield Minibatch(seen, self.actions[rows], returns, returns, returns, returns)


def _joined(parts: Sequence[Any]) -> Any:
    """Arrays, or dictionaries of them, one after another as tensors."""
    return map_obs(lambda *arrays: _tensor(np.concatenate(arrays)), *parts)


def _tensor(array: Array) -> Tensor:
    """As environments give observations: no float64."""
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float64 else array)
