"""The base of DQN and PQN: Q-values, and ε-greedy actions from counter-based random numbers.

1. Greedy: the action of the largest Q-value, the first of equals. Illegal actions (``action_mask``) have Q = −∞.
2. ε-greedy: with probability ε an action drawn uniformly from the legal ones. Random numbers depend on (seed, env
   index, step) alone. ``exploration_spread`` α > 0 gives environment i of N its own ε_i = ε^(1 + α i / (N − 1)), from
   the scheduled ε down to almost greedy: with thousands of environments some always play well and some always explore.
3. ``normalize_reward`` divides rewards by the running deviation of the return (see
   :mod:`palaestra.agents.reward_norm`), so that Q-values are of order one; ``normalize_observation`` shifts and scales
   observations (see :mod:`palaestra.agents.networks.observation_norm`).
4. ``weight_average`` τ > 0 keeps an exponential moving average of the weights, θ̄ ← θ̄ + τ (θ − θ̄) after every gradient
   step (the plain mean over the first 1/τ). The greedy policy that :meth:`act`, :meth:`predict` and the saved file
   have is the average's; exploration, learning and targets use θ. Where actions are worth nearly the same, as prices
   are, the greedy policy of θ changes with every step, and the average's is both steadier and better.

Sources: Horgan et al., "Distributed prioritized experience replay", ICLR 2018 (a spread of ε); Polyak and Juditsky,
"Acceleration of stochastic approximation by averaging", SIAM J. Control and Optimization 1992; Schaul et al., "The
phenomenon of policy churn", NeurIPS 2022.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

import numpy as np
import stable_baselines3
import torch
from annotated_types import Ge, Le
from gymnasium import Space, spaces
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor

from palaestra.agents.flat_optimizer import clone_tensors
from palaestra.agents.networks.manual_mlp import without_gradients
from palaestra.agents.networks.q_network import QFunction
from palaestra.agents.off_policy.stepping_agent import SteppingAgent
from palaestra.agents.options import NotZero
from palaestra.envs.core.rng import Rng

PartOfRun = Annotated[float, Ge(0), Le(1), NotZero("must be above 0")]
SEARCHED = {"learning_rate": 5.0, "exploration_final_eps": 4.0, "exploration_fraction": 2.0}


def masked(q_values: Tensor, mask: Tensor | None) -> Tensor:
    """Q-values [B, A] with −∞ for actions that ``mask`` [B, A] forbids."""
    return q_values if mask is None else q_values.masked_fill(~mask, -torch.inf)


def epsilon_greedy(q_values: Tensor, epsilon: Tensor | float, rng: Rng, mask: Tensor | None = None) -> Tensor:
    """Actions int64 [N]: uniform over the legal ones with probability ε (a number, or one per environment).

    Where none is legal it is the first.
    """
    explores, count = rng.uniform() < epsilon, q_values.shape[1]
    at_random = rng.integers(0, count) if mask is None else rng.choice(mask) % count
    return torch.where(explores, at_random, masked(q_values, mask).argmax(1))


class QLearning(SteppingAgent, stable_baselines3.DQN):
    """The base of agents that learn Q-values. Subclasses store transitions and learn from them."""

    exploration_spread: float
    weight_average: float
    acts_in = "a Discrete action space"
    searched: ClassVar[Mapping[str, float]] = SEARCHED
    _counters: ClassVar[tuple[str, ...]] = (
        *("_steps_collected", "_noise_seed", "_n_calls", "exploration_rate", "_n_averaged"),
    )
    _unsaved: ClassVar[tuple[str, ...]] = (
        *(*SteppingAgent._unsaved, "_online", "_target", "_average", "_exponents"),
        *("batch_norm_stats", "batch_norm_stats_target"),
    )
    _summaries: ClassVar[tuple[str, ...]] = ("loss", "q_mean", "grad_norm")

    @classmethod
    def can_act(cls, space: Space[Any]) -> bool:
        return isinstance(space, spaces.Discrete)

    def _setup_q_learning(self) -> None:
        self._setup_without_sb3s_buffer()
        self._online, self._target = QFunction(self.q_net), QFunction(self.q_net_target)
        self._n_averaged = 0
        self._average: QNetwork | None = None  # None: it equals the online weights
        self._set_up_device()
        spread = self.exploration_spread
        self._exponents = self._spread_exponents(spread) if spread else None  # of ε

    def _episodes_began(self) -> None:
        super()._episodes_began()
        # SB3 takes the first step of a run with the ε that the last one ended with
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)

    @torch.no_grad()
    def act(self, obs: Any, rng: Rng | None = None, mask: Tensor | None = None) -> Tensor:
        """Actions int64 [N] for observations [N, …] on the device.

        The greedy action, or ε-greedy with ``rng`` (one key per row); ``mask`` bool [N, A] names the legal ones. The
        tensor twin of :meth:`predict`.
        """
        q_values = (self._average or self.q_net)(self._numbering.from_env(obs))
        if rng is None:
            actions = masked(q_values, mask).argmax(1)
        else:
            actions = epsilon_greedy(q_values, self.exploration_rate, rng, mask)
        own: Tensor = self._numbering.to_env(actions)
        return own

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """SB3's: actions and no state for NumPy observations; ε-greedy unless ``deterministic``."""
        with self._averaged(), self._counting_from_zero():
            return super().predict(*args, **kwargs)

    @contextmanager
    def _counting_from_zero(self) -> Iterator[None]:
        """SB3 draws random actions from the action space; inside this block those count from 0 too."""
        space: Any = self.action_space
        first, space.start = space.start, np.int64(0)
        try:
            yield
        finally:
            space.start = first

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The policy has the averaged weights inside this block."""
        online = self.policy.q_net
        self.policy.q_net = self._average or online
        try:
            yield
        finally:
            self.policy.q_net = online

    def _descent(
        self, loss: Tensor, q_values: Tensor, actions: Tensor, grad_chosen: Tensor, weight: Tensor | None = None
    ) -> Tensor:
        """Set the gradients of a loss; the numbers named in ``_summaries`` [3].

        Args:
            loss: [].
            q_values: the latest that the online network gave, [B, A].
            actions: int64 [B].
            grad_chosen: the loss's derivatives by the actions' Q-values, [B].
            weight: [], how many samples ``loss`` is the mean of, where that is not the same in all processes.
        """
        places = actions.unsqueeze(1)
        self._flat_optimizer.zero_grad(check=False)
        self._online.backward(torch.zeros_like(q_values).scatter_(1, places, grad_chosen.unsqueeze(1)))
        grad_norm = self._clip_gradients(weight)
        return torch.stack((loss, q_values.gather(1, places).mean(), grad_norm))

    def _descend(self, summary: Tensor) -> Tensor:
        """Change the weights by their gradients, and take their share in the average; returns ``summary``."""
        if self.weight_average and self._average is None:  # weights from a file are their own average
            self._begin_average()
        self._flat_optimizer.step()
        self._average_weights()
        return summary

    def _begin_average(self) -> None:
        self._average = copy.deepcopy(self.q_net).requires_grad_(False)
        self._average.set_training_mode(False)

    @without_gradients
    def _average_weights(self) -> None:
        if self._average is None:
            return
        self._n_averaged += 1
        share = max(self.weight_average, 1.0 / self._n_averaged)
        torch._foreach_lerp_([*self._average.parameters()], [*self.q_net.parameters()], share)
        for kept, buffer in zip(self._average.buffers(), self.q_net.buffers(), strict=True):
            kept.copy_(buffer)

    def _exploration(self) -> Tensor | float:
        """The present ε: a number, or one for each environment."""
        if self.num_timesteps < self.learning_starts:
            return 1.0 if self._exponents is None else torch.ones_like(self._exponents)
        return self.exploration_rate if self._exponents is None else self.exploration_rate**self._exponents

    def _acts_densely(self) -> bool:
        return self._online.is_dense

    def _choose(self, exploration: Tensor | float, rng: Rng) -> tuple[Tensor, Tensor]:
        """Actions int64 [N], and the Q-values [N, A], −∞ where they are illegal."""
        q_values, mask = self._online.infer(self._last_obs), self.batch.action_masks()
        return epsilon_greedy(q_values, exploration, rng, mask), masked(q_values, mask)

    def set_parameters(self, *args: Any, **kwargs: Any) -> None:
        """SB3's; the average begins again from the new weights."""
        super().set_parameters(*args, **kwargs)
        self._average = None

    def _save(self, *args: Any, **kwargs: Any) -> None:
        """The file holds the averaged weights; those that learn are part of the training state."""
        with self._averaged():
            super()._save(*args, **kwargs)

    def _extra_training_state(self) -> dict[str, Any]:
        online = None if self._average is None else clone_tensors(self.q_net.state_dict())
        return {"online": online, **super()._extra_training_state()}

    def _set_extra_training_state(self, saved: dict[str, Any]) -> None:
        if saved["online"] is not None:
            self._begin_average()
            self.q_net.load_state_dict(saved["online"])
        super()._set_extra_training_state(saved)
