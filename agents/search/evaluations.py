"""Evaluations of positions for :mod:`.puct`: by an agent's networks, or by nothing at all."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from palaestra.agents.ppo import PPO
from palaestra.envs.core import TensorEnv


def uniform(game: TensorEnv[Any], state: Any, legal: Tensor) -> tuple[Tensor, Tensor]:
    """All legal moves alike, and every position worth nothing: the search sees what ends games, and that alone."""
    priors = legal.float()
    shares = priors.sum(1)
    return priors / shares.clamp(min=1.0).unsqueeze(1), shares * 0.0


class AgentEvaluation:
    """The policy and the values of an agent that has both.

    The agent's values are of its returns, which are divided by their deviation where it normalises rewards; here they
    are multiplied by it again, and kept between −1 and 1.
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
        log_probs, values = self.agent._actor_critic.log_probs_and_values(obs, mask)
        if self.agent._reward_scale is not None:
            values = self.agent._reward_scale.unscale(values)
        return log_probs.exp_(), values.clamp(-1.0, 1.0)

    @property
    def discount(self) -> float:
        """Of a move; the agent's is of two, its own and the reply, since its values are of positions that far apart."""
        return max(float(self.agent.gamma) ** 0.5, 0.5)
