"""Evaluations of positions for :mod:`.puct`: by an agent's networks, or by nothing at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.agents.ppo import PPO
from palaestra.envs.core import TensorEnv

TEMPERATURE = 4.0  # of the policy; see tests/stress/search_strength.py


def uniform(game: TensorEnv[Any], state: Any, legal: Tensor) -> tuple[Tensor, Tensor]:
    """All legal moves alike, and every position worth nothing: the search sees what ends games, and that alone."""
    priors = legal.float()
    count = priors.sum(1)
    return priors / count.clamp(min=1.0).unsqueeze(1), torch.zeros_like(count)


class AgentEvaluation:
    """The policy and the values of an agent that has both.

    1. Probabilities are those of the policy at a temperature of :data:`TEMPERATURE`: trained agents are nearly sure of
       one move, and a search would see no other.
    2. The agent's values are of its returns, which are divided by their deviation where it normalises rewards; here
       they are multiplied by it again, and kept between −1 and 1. They are discounted, which the search is not.
    """

    def __init__(self, agent: Any) -> None:
        """Raises ValueError unless it is an agent with a policy and values, and without a memory."""
        name = type(agent).__name__
        if agent.remembers:
            raise ValueError(f"{name} has a memory of the episode, with which it cannot search: ppo can")
        if not isinstance(agent, PPO):
            raise ValueError(f"{name} has no policy with values, which a search needs: ppo has")
        agent._actor_critic.require_masks()
        self.agent = agent

    def __call__(self, game: TensorEnv[Any], state: Any, legal: Tensor) -> tuple[Tensor, Tensor]:
        mask = legal | ~legal.any(1, keepdim=True)  # a full board has no legal move, and needs none
        obs = self.agent._numbering.from_env(game.observe(state))
        logits, values = self.agent._actor_critic.logits_and_values(obs, mask)
        if self.agent._reward_scale is not None:
            values = self.agent._reward_scale.unscale(values)
        return logits.div(TEMPERATURE).softmax(1), values.clamp(-1.0, 1.0)
