"""Twin delayed deep deterministic policy gradients: Stable-Baselines3's TD3 for thousands of environments.

The algorithm is Stable-Baselines3's, number for number (two critics, noise on the targets' actions, a delayed actor).
What differs is in :mod:`palaestra.agents.off_policy.continuous_agent` and
:mod:`palaestra.agents.off_policy.replaying_agent`, and:

1. ``exploration_noise`` is the deviation of normal noise on the actions of collection, in units of half the range of
   the Box; SB3 has an object for that, ``action_noise``. ``exploration_spread`` α > 0 gives environment i of N the
   deviation σ^(1 + α i / (N − 1)): with many environments some explore much and some act almost as the policy does.
2. ``train/actor_loss`` is that of the last step in which the actor learned.

Source: Fujimoto, van Hoof and Meger, "Addressing function approximation error in actor-critic methods", ICML 2018.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Unpack

import stable_baselines3
import torch
from annotated_types import Ge
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.td3.policies import TD3Policy
from torch import Tensor

from palaestra.agents.buffers.replay import Replay
from palaestra.agents.off_policy.continuous_agent import ContinuousAgent
from palaestra.agents.off_policy.continuous_networks import Deterministic
from palaestra.agents.off_policy.replaying_agent import Hindsight, ReplayRatio
from palaestra.agents.options import (
    AtLeastOne,
    BatchSize,
    CommonOptions,
    NonNegative,
    NotZero,
    Probability,
    ScheduledNonNegative,
    arguments_for,
    saved_arguments,
)
from palaestra.envs.core.rng import Rng
from palaestra.envs.interop.sb3_vec_env import prepare


class TD3(ContinuousAgent, stable_baselines3.TD3):
    """TD3 with Stable-Baselines3's interface, for thousands of environments on one device; see the module.

    ``env`` is a :class:`BatchedEnv` (from :func:`palaestra.envs.make`), a Gymnasium environment, an SB3 ``VecEnv``, or
    an id (one environment, as in SB3). All other positional arguments are SB3's.
    """

    sb3_twin = stable_baselines3.TD3
    net_arch = (400, 300)
    _actor: Deterministic
    _summaries: ClassVar[tuple[str, ...]] = ("critic_loss", "actor_loss", "q_mean")
    _unsaved: ClassVar[tuple[str, ...]] = (
        *ContinuousAgent._unsaved,
        *("_target_actor", "_latest", "_deviations"),
        *("actor_batch_norm_stats", "critic_batch_norm_stats"),
        *("actor_batch_norm_stats_target", "critic_batch_norm_stats_target"),
    )

    def __init__(
        self,
        policy: str | type[TD3Policy],
        env: Any,
        learning_rate: ScheduledNonNegative = 1e-3,
        buffer_size: AtLeastOne = 1_000_000,
        learning_starts: Annotated[int, Ge(0)] = 100,
        batch_size: BatchSize = 256,
        tau: Probability = 0.005,
        gamma: Probability = 0.99,
        train_freq: AtLeastOne | tuple[int, str] = 1,
        gradient_steps: Annotated[int, Ge(-1), NotZero("nothing would be learned")] = 1,
        action_noise: None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: AtLeastOne = 1,
        policy_delay: AtLeastOne = 2,
        target_policy_noise: NonNegative = 0.2,
        target_noise_clip: NonNegative = 0.5,
        *,
        exploration_noise: NonNegative = 0.1,
        exploration_spread: NonNegative = 0.0,
        samples_per_insert: ReplayRatio | None = None,
        hindsight: Hindsight = 0,
        normalize_reward: bool = False,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **kwargs: Unpack[CommonOptions],
    ) -> None:
        env, device = prepare(env, device)
        self.samples_per_insert, self.hindsight, self.normalize_reward = samples_per_insert, hindsight, normalize_reward
        self.exploration_noise, self.exploration_spread = exploration_noise, exploration_spread
        super().__init__(**arguments_for(stable_baselines3.TD3, locals()) | {"_init_setup_model": False})
        self._check_continuous_arguments()
        if _init_setup_model:
            self._setup_model()

    _json_arguments: ClassVar[tuple[str, ...]] = saved_arguments(__init__)

    def _setup_model(self) -> None:
        self._setup_without_sb3s_buffer()
        self._actor, self._target_actor = Deterministic(self.actor), Deterministic(self.actor_target)
        self._setup_networks()
        self._latest = torch.zeros(2, device=self.device)  # the actor's loss and mean value when it learned last
        deviations = self.exploration_noise ** self._spread_exponents(self.exploration_spread)
        self._deviations = deviations.unsqueeze(1)  # [N, 1]

    def _explore(self, obs: Any, rng: Rng) -> Tensor:
        best = self._actor.best(obs)
        deviation = self._deviations if len(best) == len(self._deviations) else self.exploration_noise
        return (best + deviation * rng.normal((self._low.numel(),))).clamp(-1.0, 1.0)

    def _learn_from_replay(self, replay: Replay, batch_size: int) -> Tensor:
        critic, actor = self._flats()
        index, _ = replay.draw(batch_size)
        loss, obs, shares, count = self._recorded(self._learn_values, index, self._noise(batch_size, 1)[0])
        self._descend(critic, count)
        if self._n_updates % self.policy_delay == 0:
            self._latest = self._recorded(self._learn_policy, obs, shares).clone()
            self._descend(actor, count)
            self._follow([*self.critic_target.parameters()], [*self.critic.parameters()], self.tau)
            self._follow([*self.actor_target.parameters()], [*self.actor.parameters()], self.tau)
            self._follow(self.critic_batch_norm_stats_target, self.critic_batch_norm_stats, 1.0)
            self._follow(self.actor_batch_norm_stats_target, self.actor_batch_norm_stats, 1.0)
        return torch.cat((loss.unsqueeze(0), self._latest))

    def _learn_values(self, index: Tensor, noise: Tensor) -> tuple[Tensor, Any, Tensor, Tensor]:
        """Set the critic's gradients; the loss [], observations [B, …], shares [B] and the number [] that count."""
        assert self.replay is not None
        batch = self.replay.gather(index)
        obs, after = self._stored.observe(batch.content), self._stored.observe(batch.next_content)
        limit = self.target_noise_clip
        noise = (noise * self.target_policy_noise).clamp(-limit, limit)
        actions = (self._target_actor.best(after) + noise).clamp(-1.0, 1.0)
        next_values = self._target.infer(after, actions).amin(0)
        loss, shares, count = self._critic_gradients(batch, obs, next_values, 1.0)
        return loss, obs, shares, count

    def _learn_policy(self, obs: Any, shares: Tensor) -> Tensor:
        """Set the actor's gradients; its loss and the mean value, [2]."""
        told: list[Tensor] = []

        def derivatives(actions: Tensor) -> Tensor:
            values, grad = self._critics.by_actions(obs, actions, lambda v: -shares.expand_as(v), only_first=True)
            told.append((values[0] * shares).sum())
            return grad

        self._flat_actor.zero_grad(check=False)
        self._actor.learn(obs, derivatives)
        return torch.stack((-told[0], told[0]))

    def _extra_training_state(self) -> dict[str, Any]:
        return super()._extra_training_state() | {"latest": self._latest}

    def _set_extra_training_state(self, saved: dict[str, Any]) -> None:
        super()._set_extra_training_state(saved)
        if tuple(saved["latest"].shape) != (2,):
            raise ValueError("the training state's latest numbers of the actor are not two")
        self._latest = saved["latest"]
