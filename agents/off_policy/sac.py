"""Soft actor-critic on the device: Stable-Baselines3's SAC for thousands of environments.

The algorithm is Stable-Baselines3's, number for number (two critics, a squashed Gaussian, an entropy coefficient that
is learned or fixed, Polyak averages). What differs is in :mod:`palaestra.agents.off_policy.continuous_agent` and
:mod:`palaestra.agents.off_policy.replaying_agent`, and:

1. The entropy coefficient steps after the critic and the actor, with whose samples it learns; both use its value before
   the step, as SB3's do.
2. ``target_update_interval`` counts gradient steps over the whole run; SB3 begins to count anew in each iteration.
3. No gSDE.

Source: Haarnoja et al., "Soft actor-critic algorithms and applications", 2018 (arXiv 1812.05905), algorithm 1.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Unpack

import stable_baselines3
import torch
from annotated_types import Ge
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.sac.policies import SACPolicy
from torch import Tensor

from palaestra.agents.buffers.replay import Replay
from palaestra.agents.flat_optimizer import FlatOptimizer
from palaestra.agents.off_policy.continuous_agent import ContinuousAgent
from palaestra.agents.off_policy.continuous_networks import SquashedGaussian
from palaestra.agents.off_policy.replaying_agent import Hindsight, ReplayRatio
from palaestra.agents.optimizers import UncompiledAdam
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

Learned = Literal["auto", "auto_0.1", "auto_0.01"]  # with the value that it begins with, 1 if nothing is said


class SAC(ContinuousAgent, stable_baselines3.SAC):
    """SAC with Stable-Baselines3's interface, for thousands of environments on one device; see the module.

    ``env`` is a :class:`BatchedEnv` (from :func:`palaestra.envs.make`), a Gymnasium environment, an SB3 ``VecEnv``, or
    an id (one environment, as in SB3). All other positional arguments are SB3's.
    """

    sb3_twin = stable_baselines3.SAC
    _actor: SquashedGaussian
    _counters: ClassVar[tuple[str, ...]] = (*ContinuousAgent._counters, "_log_coefficient")
    _summaries: ClassVar[tuple[str, ...]] = (
        "critic_loss",
        "actor_loss",
        "ent_coef",
        "ent_coef_loss",
        "entropy",
        "q_mean",
    )

    def __init__(
        self,
        policy: str | type[SACPolicy],
        env: Any,
        learning_rate: ScheduledNonNegative = 3e-4,
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
        ent_coef: NonNegative | Learned = "auto",
        target_update_interval: AtLeastOne = 1,
        target_entropy: Annotated[float, Ge(-1000)] | Literal["auto"] = "auto",
        *,
        samples_per_insert: ReplayRatio | None = None,
        hindsight: Hindsight = 0,
        normalize_reward: bool = False,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **kwargs: Unpack[CommonOptions],
    ) -> None:
        env, device = prepare(env, device)
        self.samples_per_insert, self.hindsight, self.normalize_reward = samples_per_insert, hindsight, normalize_reward
        super().__init__(**arguments_for(stable_baselines3.SAC, locals()) | {"_init_setup_model": False})
        self._check_continuous_arguments()
        if _init_setup_model:
            self._setup_model()

    _json_arguments: ClassVar[tuple[str, ...]] = saved_arguments(__init__)

    def _setup_model(self) -> None:
        given: Any = self.ent_coef
        is_learned = isinstance(given, str) and given.startswith("auto")
        self.ent_coef = 1.0 if is_learned else given  # SB3 would make an Adam that imports PyTorch's compiler
        self._setup_without_sb3s_buffer()
        self.ent_coef = given
        self._others: list[FlatOptimizer] = []
        if is_learned:
            del self.ent_coef_tensor
            start = float(given.partition("_")[2] or 1.0)
            self.log_ent_coef = torch.full((1,), start, device=self.device).log_().requires_grad_(True)
            self.ent_coef_optimizer = UncompiledAdam([self.log_ent_coef], lr=self.lr_schedule(1))
            self._others = [FlatOptimizer(self.ent_coef_optimizer)]
        self._actor = SquashedGaussian(self.actor)
        self._setup_networks()

    @property
    def _log_coefficient(self) -> float:
        """The logarithm of the learned coefficient, for files; 0 where it is fixed."""
        return 0.0 if self.log_ent_coef is None else float(self.log_ent_coef.detach())

    @_log_coefficient.setter
    def _log_coefficient(self, value: float) -> None:
        if self.log_ent_coef is not None:
            self.log_ent_coef.data.fill_(value)

    def _flats(self) -> list[FlatOptimizer]:
        return [*super()._flats(), *self._others]

    def _coefficient(self) -> Tensor:
        """The entropy coefficient α, []."""
        log = self.log_ent_coef
        return self.ent_coef_tensor if log is None else log.detach().exp().squeeze(0)

    def _explore(self, obs: Any, rng: Rng) -> Tensor:
        return self._actor.sample(obs, rng.normal((self._low.numel(),)))[0]

    def _learn_from_replay(self, replay: Replay, batch_size: int) -> Tensor:
        critic, actor, *others = self._flats()
        index, _ = replay.draw(batch_size)
        noise = self._noise(batch_size, 2)
        loss, obs, shares, count = self._recorded(self._learn_values, index, noise[1])
        self._descend(critic, count)
        summary = self._recorded(self._learn_policy, obs, noise[0], shares)
        self._descend(actor, count)
        for other in others:
            self._descend(other, count)
        if self._n_updates % self.target_update_interval == 0:
            self._follow([*self.critic_target.parameters()], [*self.critic.parameters()], self.tau)
            self._follow(self.batch_norm_stats_target, self.batch_norm_stats, 1.0)
        return torch.cat((loss.unsqueeze(0), summary))

    def _learn_values(self, index: Tensor, noise: Tensor) -> tuple[Tensor, Any, Tensor, Tensor]:
        """Set the critic's gradients; the loss [], observations [B, …], shares [B] and the number [] that count."""
        assert self.replay is not None
        batch = self.replay.gather(index)
        obs, after = self._stored.observe(batch.content), self._stored.observe(batch.next_content)
        actions, log_prob = self._actor.sample(after, noise)
        next_values = self._target.infer(after, actions).amin(0) - self._coefficient() * log_prob
        loss, shares, count = self._critic_gradients(batch, obs, next_values, 0.5)
        return loss, obs, shares, count

    def _learn_policy(self, obs: Any, noise: Tensor, shares: Tensor) -> Tensor:
        """Set the gradients of the actor and of α; the numbers after the first of ``_summaries``."""
        coefficient = self._coefficient()
        told: list[Tensor] = []

        def derivatives(actions: Tensor, log_prob: Tensor) -> tuple[Tensor, Tensor]:
            values, grad = self._critics.by_actions(obs, actions, lambda values: -_is_least(values) * shares)
            told.append(values.amin(0))
            return grad, coefficient * shares

        self._flat_actor.zero_grad(check=False)
        log_prob = self._actor.learn(obs, noise, derivatives)
        least, mean = (told[0] * shares).sum(), (log_prob * shares).sum()
        loss = torch.zeros_like(mean)
        if self.log_ent_coef is not None:
            surplus = mean + float(self.target_entropy) * (shares > 0).any()
            gradient = self.log_ent_coef.grad
            assert gradient is not None
            gradient.copy_(-surplus)
            loss = -self.log_ent_coef.detach().squeeze(0) * surplus
        return torch.stack((coefficient * mean - least, coefficient, loss, -mean, least))


def _is_least(values: Tensor) -> Tensor:
    """1 at the least of each column [K, B], the first of equals, else 0."""
    return torch.zeros_like(values).scatter_(0, values.argmin(0, keepdim=True), 1.0)
