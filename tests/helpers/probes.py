"""Tiny environments whose values are known exactly, to test agents and the conformance checker with.

An agent that fails one of them has a fault that a large environment would hide. Each isolates one ability; V is the
value of a state under the optimal policy, γ the discount:

1. :class:`ConstantReward`     the value head learns at all: V = 1.
2. :class:`ObservedReward`     the value depends on the observation: V(o) = o.
3. :class:`DelayedReward`      discounting over two steps: V(0) = γ, V(1) = 1.
4. :class:`ActionReward`       the policy learns at all: action 1, V = 1.
5. :class:`MatchObservation`   the policy depends on the observation: V = 1.
6. :class:`EndlessReward`      truncation bootstraps: V = 1 / (1 − γ).
7. :class:`ContinuousTarget`   continuous actions: a = o, V = 0.

The idea of probes in order of difficulty is Andy Jones's ("Debugging RL, without the agonizing
pain", 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.envs.core import Reference, TensorEnv

if TYPE_CHECKING:
    from palaestra.envs.core.rng import Rng


@dataclass(frozen=True)
class ProbeState:
    signal: Tensor  # float32 [N] what is observed


class _Probe(TensorEnv[ProbeState]):
    """A probe observes its signal, float32 [1] in −1 … 1, and has two actions unless it says otherwise."""

    def __init__(self) -> None:
        self.observation_space = Box(-1.0, 1.0, (1,))
        self.action_space = Discrete(2)

    def reset(self, rng: Rng) -> ProbeState:
        return ProbeState(torch.zeros(rng.num_envs, device=self.device))

    def observe(self, state: ProbeState) -> Tensor:
        return state.signal.unsqueeze(1)


class _SignProbe(_Probe):
    """A probe whose signal starts at −1 or +1, equally likely."""

    def reset(self, rng: Rng) -> ProbeState:
        return ProbeState(rng.integers(0, 2) * 2.0 - 1.0)


class ConstantReward(_Probe):
    """One step, reward 1 whatever is done. Known answer: V = 1."""

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        reward = torch.ones_like(state.signal)
        return state, reward, reward > 0

    @property
    def reference(self) -> Reference:
        return Reference(optimum=1.0, source="exact")


class ObservedReward(_SignProbe):
    """One step, the reward is the observation, −1 or +1. Known answer: V(o) = o."""

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        return state, state.signal.clone(), torch.ones_like(state.signal, dtype=torch.bool)

    @property
    def reference(self) -> Reference:
        return Reference(optimum=0.0, source="exact")


class DelayedReward(_Probe):
    """Two steps, observed as 0 and 1; the second gives reward 1. Known answer: V(0) = γ, V(1) = 1."""

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        return ProbeState(torch.ones_like(state.signal)), state.signal.clone(), state.signal > 0.5

    @property
    def reference(self) -> Reference:
        return Reference(optimum=1.0, source="exact")


class ActionReward(_Probe):
    """One step; action 1 gives +1, action 0 gives −1. Known answer: always action 1, V = 1."""

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        return state, action * 2.0 - 1.0, torch.ones_like(action, dtype=torch.bool)

    def expert(self, state: ProbeState) -> Tensor:
        return torch.ones_like(state.signal, dtype=torch.int64)

    @property
    def reference(self) -> Reference:
        return Reference(optimum=1.0, random=0.0, source="exact")


class MatchObservation(_SignProbe):
    """One step; +1 for action 1 at observation +1 and action 0 at −1, else −1. Known answer: V = 1 in both states."""

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        return state, (action * 2.0 - 1.0) * state.signal, torch.ones_like(action, dtype=torch.bool)

    def expert(self, state: ProbeState) -> Tensor:
        return (state.signal > 0).long()

    @property
    def reference(self) -> Reference:
        return Reference(optimum=1.0, random=0.0, source="exact")


class EndlessReward(_Probe):
    """Reward 1 every step; nothing terminates, the time limit of 8 steps truncates.

    Known answer: V = 1 / (1 − γ) if the agent bootstraps from ``final_obs`` at the truncation. One that takes
    truncation for termination finds, for γ = 0.9, between 3.6 (the mean return to go) and 4.7 (one-step targets)
    instead of 10.
    """

    max_episode_steps = 8

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        return state, torch.ones_like(state.signal), torch.zeros_like(state.signal, dtype=torch.bool)

    @property
    def reference(self) -> Reference:
        return Reference(optimum=float(self.max_episode_steps), source="exact")


class ContinuousTarget(_Probe):
    """One step; a target uniform in [−1, 1) is observed, and the reward is −(action − target)².

    Known answer: action = observation, V = 0. The uniform random action scores −2/3, the constant 0 scores −1/3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.action_space = Box(-1.0, 1.0, (1,))

    def reset(self, rng: Rng) -> ProbeState:
        return ProbeState(rng.uniform(-1.0, 1.0))

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        error = action.squeeze(1) - state.signal
        return state, -error.square(), torch.ones_like(error, dtype=torch.bool)

    def expert(self, state: ProbeState) -> Tensor:
        return state.signal.unsqueeze(1)

    @property
    def reference(self) -> Reference:
        return Reference(optimum=0.0, random=-2.0 / 3.0, heuristic=-1.0 / 3.0, source="exact; heuristic: action 0")
