"""Two agents that learn against each other, each with weights of its own, in a market for two.

1. Each learns from environments of its own, in which the other one is the rival. It sees last prices and its own
   profit, as in any run, and knows nothing of how the other one learns.
2. The rival acts as the other agent does while it trains: with the probabilities of its policy (PPO), or ε-greedily
   (Q-learning). In distribution that is the market of Calvano et al. in which both act at once; only what a period
   teaches is not shared by the two. :func:`exchange` makes each the rival of the other as it is at that moment.
3. Between two exchanges the two do not depend on each other, so it does not matter which of them learns first:
   :class:`LearningInParts` lets one learn up to a number of steps, and stops between two iterations, where nothing is
   half done. Training goes on from there as a resumed run does, to the bit.

Source: Calvano, Calzolari, Denicolò and Pastorello, American Economic Review 2020, section II (both learn at once).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from palaestra.agents.ppo import PPO
from palaestra.agents.q_learning import QLearning


class _PausedError(Exception):
    """Learning pauses; nothing went wrong."""


def can_learn_in_pair(kind: type[Any]) -> bool:
    """True if agents of that class show with which probabilities they act: :func:`acting_chances` takes them."""
    return issubclass(kind, PPO | QLearning) and not kind.remembers


@torch.no_grad()
def acting_chances(agent: Any, obs: Tensor) -> Tensor:
    """The probability of each action while the agent trains, float32 [B, A], for observations [B, …].

    Of ε-greedy agents whose ε differs between environments it is the mean over those.
    """
    obs = agent._numbering.from_env(obs)
    if isinstance(agent, PPO):
        logits, _ = agent._actor_critic.logits_and_values(obs)
        chances: Tensor = logits.softmax(1)
        return chances
    values = agent._online.infer(obs)
    explores = torch.as_tensor(agent._exploration(), dtype=torch.float32, device=values.device).mean()
    best = torch.zeros_like(values).scatter_(1, values.argmax(1, keepdim=True), 1.0)
    mixed: Tensor = (1.0 - explores) * best + explores / values.shape[1]
    return mixed


def best_prices(agent: Any, market: Any, state: Any) -> Tensor:
    """What the agent thinks best in states of the market, int64 [N]."""
    actions: Tensor = agent.act(market.observe(state))
    return actions


def exchange(first: Any, second: Any) -> None:
    """Make each agent the rival in the other's environments, as both are now."""
    for agent, rival in ((first, second), (second, first)):
        market = agent.batch.env
        chances = acting_chances(rival, market.observe(market.states(0)))
        market.meet_by_chance(partial(best_prices, rival, market), chances)


class LearningInParts(BaseCallback):
    """The training of an agent, part by part; see the module."""

    def __init__(self, agent: Any, total: int) -> None:
        """A training of ``total`` steps, of which the agent may have taken some."""
        super().__init__()
        self.agent, self._total, self._until = agent, total, 0
        self._first, self._seconds = agent.num_timesteps, 0.0

    def learn_until(self, step: int, callbacks: Sequence[BaseCallback] = ()) -> None:
        """Let the agent learn until it has taken ``step`` steps or a few more."""
        agent, self._until = self.agent, min(step, self._total)
        if agent.num_timesteps >= self._until:
            return
        started = time.perf_counter()
        with suppress(_PausedError):
            left = self._total - agent.num_timesteps
            agent.learn(left, [*callbacks, self], reset_num_timesteps=agent.num_timesteps == 0)
        self._seconds += time.perf_counter() - started

    def finish(self) -> None:
        """Put what the last update says into the logger, also if the agent was resumed at its last step."""
        self.agent.learn(0, [self], reset_num_timesteps=False)

    def _on_training_start(self) -> None:
        """Time and speed in the curves are those of all parts together."""
        model: Any = self.model
        model._learning_since -= self._seconds
        model._num_timesteps_at_start = self._first

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self._until:
            raise _PausedError
