"""Parallelised Q-learning on the device: no replay memory and no target network.

1. All N environments take ``n_steps`` steps, ε-greedily; the rollout is learned from and thrown away.
2. Targets are λ-returns, computed backwards over the rollout with the Q-values that acted:
   G_t = r_t + γ ((1 − λ) max_a Q(s_{t+1}, a) + λ G_{t+1}), r_t alone at a termination, r_t + γ max_a Q(final_obs, a)
   at a truncation. Exploratory actions do not cut the trace (Peng's Q(λ)).
3. ``n_epochs`` passes over shuffled minibatches of ``batch_size`` minimise half the squared error.
4. What keeps this stable in place of a target network is LayerNorm, so the network of "MlpPolicy" is
   :class:`~palaestra.agents.networks.extractors.SharedMlp` with ``layer_norm`` and a linear head, unless
   ``policy_kwargs`` say otherwise. The optimiser is RAdam, as in the source.

The constructor's arguments have the names and meanings that they have in Stable-Baselines3's PPO (``n_steps``,
``n_epochs``, ``batch_size``, ``gae_lambda``) and DQN (``exploration_…``, ``max_grad_norm``). Where the source decays ε
over a fraction of the run, so does this.

Source: Gallici et al., "Simplifying deep temporal difference learning", ICLR 2025 (arXiv 2407.04811).
"""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import stable_baselines3
import torch
from stable_baselines3.common.type_aliases import RolloutReturn
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from palaestra.agents.buffers.rollout import TensorRolloutBuffer
from palaestra.agents.buffers.stored_observations import RolloutStorage, rollout_store
from palaestra.agents.networks.extractors import DuelingPolicy, LayerNormPolicy
from palaestra.agents.options import (
    AtLeastOne,
    BatchSize,
    CommonOptions,
    NonNegative,
    Probability,
    ScheduledNonNegative,
    arguments_for,
    saved_arguments,
)
from palaestra.agents.q_learning import SEARCHED, PartOfRun, QLearning, masked
from palaestra.agents.symmetry.symmetric_agent import SymmetryUse
from palaestra.envs.core import StepResult
from palaestra.envs.interop.sb3_vec_env import prepare


class PQN(QLearning):
    """PQN with Stable-Baselines3's interface, for thousands of environments on one device; see the module.

    ``env`` is a :class:`BatchedEnv` (from :func:`palaestra.envs.make`), a Gymnasium environment, an SB3 ``VecEnv``, or
    an id (one environment, as in SB3).
    """

    rollout_buffer: TensorRolloutBuffer
    searched: ClassVar[dict[str, float]] = {**SEARCHED, "n_epochs": 2.0}
    net_arch = None
    policy_aliases: ClassVar[dict[str, Any]] = {
        "MlpPolicy": LayerNormPolicy,
        "DuelingPolicy": DuelingPolicy,
    }

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: Any,
        learning_rate: ScheduledNonNegative = 2.5e-4,
        n_steps: AtLeastOne = 32,
        batch_size: BatchSize = 1024,
        n_epochs: AtLeastOne = 4,
        gamma: Probability = 0.99,
        gae_lambda: Probability = 0.65,
        exploration_fraction: PartOfRun = 0.2,
        exploration_initial_eps: Probability = 1.0,
        exploration_final_eps: Probability = 0.05,
        max_grad_norm: NonNegative = 10.0,
        *,
        exploration_spread: NonNegative = 0.0,
        normalize_observation: bool = False,
        normalize_reward: bool = False,
        weight_average: Probability = 0.0,
        rollout_storage: RolloutStorage = "auto",
        symmetry: SymmetryUse = "none",
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **kwargs: Unpack[CommonOptions],
    ) -> None:
        env, device = prepare(env, device)
        self.n_epochs, self.gae_lambda = n_epochs, gae_lambda
        self.normalize_observation, self.normalize_reward = normalize_observation, normalize_reward
        self.exploration_spread, self.weight_average = exploration_spread, weight_average
        self.rollout_storage, self.symmetry = rollout_storage, symmetry
        replaced = {"learning_starts": 0, "train_freq": n_steps, "gradient_steps": 1, "n_steps": 1}
        replaced["_init_setup_model"] = False
        super().__init__(**arguments_for(stable_baselines3.DQN, locals()) | replaced)
        self.n_steps = n_steps
        self._check_device()
        if _init_setup_model:
            self._setup_model()

    _json_arguments: ClassVar[tuple[str, ...]] = saved_arguments(__init__)

    def _setup_model(self) -> None:
        self.train_freq = self.n_steps
        self.target_update_interval = 2**62  # vanilla SB3, and our own _on_step, know of a target network
        self._setup_q_learning()
        self.rollout_buffer = TensorRolloutBuffer(
            self.n_steps,
            self.observation_space,
            self.action_space,
            self.device,
            self.gae_lambda,
            self.gamma,
            self.n_envs,
        )
        if self.env is not None:
            self._attach(self.env)

    def _attach(self, env: VecEnv) -> None:
        super()._attach(env)
        if hasattr(self, "rollout_buffer"):  # which is made once the rest is
            self.rollout_buffer.store = rollout_store(self.batch, self.rollout_storage)

    def save_replay_buffer(self, *args: Any, **kwargs: Any) -> None:
        """Not for this agent.

        Raises:
            ValueError: always.
        """
        raise ValueError("PQN has no replay memory: it learns from rollouts, and save() keeps the model")

    load_replay_buffer = save_replay_buffer

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Fill the buffer with ``n_steps`` steps of all environments."""
        self.rollout_buffer.reset()
        return super().collect_rollouts(*args, **kwargs)

    def _place(self) -> int:
        return self.rollout_buffer.pos

    def _count_step(self) -> None:
        self.rollout_buffer.pos += 1

    def _transition(self, *step: Any) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        self._moment = self.rollout_buffer.moment()
        return super()._transition(*step)

    def _store(self, place: int | Tensor, q_values: Tensor, actions: Tensor, outcome: StepResult) -> None:
        _, rewards, terminated, truncated, info = outcome
        dones = terminated | truncated
        scaled = rewards if self._reward_scale is None else self._reward_scale(rewards, dones)
        scaled = self._bootstrap(self._best, scaled, truncated, info, self.batch.final_action_masks())
        obs: Any = self._last_obs
        self.rollout_buffer.put(place, obs, actions, scaled, dones, q_values.amax(1), moment=self._moment)

    def _best(self, obs: Any, mask: Tensor | None = None) -> Tensor:
        """max_a Q(obs, a) over the legal actions, [B]."""
        return masked(self._online.infer(obs), mask).amax(1)

    @torch.no_grad()
    def train(self, gradient_steps: int = 0, batch_size: int = 0) -> None:
        """Learn from the rollout; the arguments, which SB3's loop passes, are not used. No synchronisation."""
        self._update_learning_rate(self.policy.optimizer)
        buffer, updates = self.rollout_buffer, 0
        self._begin_update()
        self._recorded(self._finish_rollout)
        self.policy.set_training_mode(True)
        total = torch.zeros(len(self._summaries), device=self.device)
        for _ in range(self.n_epochs):
            for obs, actions, returns in buffer.shuffled(
                (buffer.actions, buffer.returns), self._group.share(self.batch_size, "batch_size")
            ):
                total += self._update(obs, actions, returns)
                updates += 1
        self._losses = total / updates
        self._n_updates += updates
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _finish_rollout(self) -> None:
        last_values = self._best(self._last_obs, self.batch.action_masks())
        self.rollout_buffer.compute_returns_and_advantage(last_values, self.discount)

    def _gradients(self, obs: Any, actions: Tensor, returns: Tensor) -> Tensor:
        """Set the gradients of a minibatch's loss; see :meth:`_descent`."""
        obs, actions, _ = self._in_frames(obs, actions)
        q_values = self._online.forward(obs)
        error = q_values.gather(1, actions.unsqueeze(1)).squeeze(1) - returns
        return self._descent(0.5 * error.square().mean(), q_values, actions, error / len(error))

    def _update(self, obs: Any, actions: Tensor, returns: Tensor) -> Tensor:
        """One gradient step; the numbers named in ``_summaries`` [3]."""
        return self._descend(self._recorded(self._gradients, obs, actions, returns))
