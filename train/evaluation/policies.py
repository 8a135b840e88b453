"""Policies that act: random, an environment's expert, or a trained agent, all called the same way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.envs.core import BatchedEnv, TensorEnv, TensorVectorEnv, state_fields
from palaestra.envs.core.rng import Rng, Stream, child_key, env_keys, sample_actions
from palaestra.envs.interop.host_batch import HostEnv
from palaestra.envs.trained_players import let_meet_itself

Tell = Callable[[float], None]
"""Takes how many episodes of an evaluation are over; of running ones the share of the time limit that has passed."""


def untold(over: float) -> None:
    """Nobody asks."""


def action_rng(env: BatchedEnv) -> Rng:
    """The random numbers of a policy's next action, which depend neither on the batch nor on what was played before: of
    the running episode where the batch counts its episodes, else of the steps since its reset."""
    keys = env_keys(env.seed, env.env_indices, Stream.RANDOM_POLICY)
    if isinstance(env, TensorVectorEnv):
        return Rng(child_key(keys, env.episode), env.episode_length)
    assert isinstance(env, HostEnv)
    return Rng(keys, env.steps)


class Policy(Protocol):
    """Chooses actions [N, …] for the observations [N, …] of a batch.

    ``deterministic`` says whether the actions are a function of the state.
    """

    name: str
    deterministic: bool

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor: ...


class RandomPolicy:
    """Uniform over the legal actions, from counter-based random numbers: row i does not depend on the batch."""

    name, deterministic = "random", False

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        return sample_actions(env.single_action_space, action_rng(env), env.action_masks())


class ExpertPolicy:
    """The environment's own scripted policy."""

    name, deterministic = "expert", True

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        if not isinstance(env, TensorVectorEnv) or not env.env.has("expert"):
            raise ValueError("this environment has no expert")
        action: Tensor = env.env.expert(env.state)
        return action


class AgentPolicy:
    """A trained agent: the action it thinks best, or one sampled as it does while training.

    The memories of an agent that has some begin with each episode; call it once in each step then.
    """

    def __init__(self, model: OnDeviceAlgorithm, deterministic: bool = True, name: str = "agent") -> None:
        self.model, self.name, self._best = model, name, deterministic
        self.deterministic = deterministic and not model.remembers
        model.policy.set_training_mode(False)
        self._spoken_to: BatchedEnv | None = None
        self._memory = torch.zeros(0)  # of the environments that are played in

    def check(self) -> None:
        """Raises what is to end its episodes; nothing here."""

    @torch.no_grad()
    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        self.check()
        if env is not self._spoken_to:
            self.model.speak_to(env)
            let_meet_itself(env, self.model.act, remembers=self.model.remembers)
            self._spoken_to = env
            self._memory = torch.zeros(0)
        rng, mask = None if self._best else action_rng(env), env.action_masks()
        if not self.model.remembers:
            return self.model.act(obs, rng, mask)
        if len(self._memory) != env.num_envs:
            self._memory = self.model.new_memory(env.num_envs)
        assert isinstance(env, TensorVectorEnv | HostEnv)
        memory = self._memory.masked_fill((env.episode_length == 0).unsqueeze(1), 0.0)
        actions, self._memory = self.model.act_remembering(obs, memory, rng, mask)
        return actions


@dataclass(frozen=True)
class Player:
    """A policy with the environment that it plays in, and how many episodes an evaluation has unless it is told."""

    env: str
    env_kwargs: dict[str, Any]
    policy: Policy
    device: str
    label: str
    episodes: int = 1000


def on_states(policy: Policy, rules: TensorEnv[Any]) -> Callable[[Any], Tensor]:
    """A deterministic policy as a function from a batch of states of ``rules`` to actions."""

    def act(state: Any) -> Tensor:
        batch = TensorVectorEnv(rules, len(next(iter(state_fields(state).values()))), device=rules.device)
        batch.reset()
        batch.state = state
        return policy(batch, rules.observe(state))

    return act
