"""PPO that begins with a lesson: it clones a teacher on the device, and goes on by itself from there.

1. While a lesson lasts (:class:`~palaestra.agents.imitation.lesson.Lesson`), the environments are stepped with the
   learner's sampled actions or, for a falling share of them, with the teacher's; the rollout keeps the teacher's
   actions in place of those that were played (DAgger, whose data are thrown away after each rollout, since the teacher
   answers for nothing). Which share is played where follows from counter-based random numbers.
2. An update minimises −log π(the teacher's action) + ``vf_coef`` · (V − λ-return)², in PPO's minibatches. So values are
   those of what was played, which near the end of the lesson is the learner itself: PPO begins with a critic.
3. The deviation of a Gaussian policy is not learned meanwhile: it would shrink to the error of the cloning, and leave
   PPO nothing to explore with. The loss of its mean is the squared error.
4. Schedules of the learning rate run over the lesson, and after it over the run. PPO begins with a new optimizer, as
   after :meth:`~palaestra.agents.base.OnDeviceAlgorithm.take_weights`.
5. Without a lesson, and after it, everything is PPO's; files are PPO's too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.agents.buffers.rollout import Minibatch
from palaestra.agents.imitation.demonstrations import Demonstrations
from palaestra.agents.imitation.lesson import Lesson
from palaestra.agents.networks.observation_norm import learn_observations
from palaestra.agents.ppo import PPO
from palaestra.envs.core.rng import Rng, child_key

_OF_LESSON = ("imitation_loss", "value_loss", "entropy_loss", "agreement", "teacher_share")
_OF_THE_RUN = ("lesson", "_recorded_episodes", "_in_lesson", "_losses_of_lesson")  # attributes that no file holds
_WHO_PLAYS = 1  # child of the keys of action noise


class TaughtPPO(PPO):
    """See the module."""

    saved_as: ClassVar[str] = "PPO"
    lesson: Lesson | None = None
    _recorded_episodes: Demonstrations | None = None
    _in_lesson = False
    _losses_of_lesson = False  # those of the last update

    @property
    def _summaries(self) -> tuple[str, ...]:  # type: ignore[override]
        """As many numbers in a lesson as in PPO's own updates."""
        return (*_OF_LESSON, *PPO._summaries[len(_OF_LESSON) :]) if self._losses_of_lesson else PPO._summaries

    def collect_rollouts(self, env: VecEnv, *args: Any, **kwargs: Any) -> bool:
        """Fill the buffer with ``n_steps`` steps of all environments; False if a callback stopped it."""
        self._in_lesson = self.lesson is not None and self.num_timesteps < self.lesson.steps
        if self._in_lesson and self._recorded_episodes is not None:
            return self._read_on(*args, **kwargs)
        return super().collect_rollouts(env, *args, **kwargs)

    def _read_on(self, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int) -> bool:
        """Count the recorded steps that the next update draws; no environment is stepped."""
        callback.on_rollout_start()
        self.num_timesteps += n_rollout_steps * self.n_envs * self._group.size
        callback.update_locals({"new_obs": self._last_obs})
        if not callback.on_step():
            return False
        self._sync_to_host(torch.zeros(1, device=self.device))
        self._refuse_divergence()
        callback.on_rollout_end()
        return True

    def begin_lesson(self, lesson: Lesson | None) -> None:
        """Have a teacher from the next iteration on, until so many steps are taken over the life of the model.

        Raises:
            MemoryError: if recorded episodes do not fit on the device.
        """
        self.lesson = lesson
        if lesson is None or not isinstance(episodes := lesson.teacher, Demonstrations):
            self._recorded_episodes = None
            return
        if episodes is self._recorded_episodes:
            return
        episodes.to(self.device, self._numbering.from_env, self._own_actions)
        moments = episodes.discount(self.discount, self._reward_scale is not None)
        if self._reward_scale is not None:
            self._reward_scale.set_state([*moments, float(episodes.steps)])
        if self.normalize_observation and self.num_timesteps == 0:
            learn_observations(self.policy, episodes.observations)
        self._recorded_episodes = episodes

    def _left(self) -> float:
        """What is left of the lesson, 1 → 0."""
        assert self.lesson is not None
        return max(0.0, 1.0 - self.num_timesteps / self.lesson.steps)

    def _can_record(self) -> bool:
        return super()._can_record() and not self._in_lesson  # a teacher may do anything

    def _played_and_learned(self, obs: Any, own: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor]:
        if not self._in_lesson:
            return super()._played_and_learned(obs, own, step)
        wanted = self._wanted(obs, own)
        return self._played(own, wanted, step), wanted

    def _wanted(self, obs: Any, own: Tensor) -> Tensor:
        """The teacher's actions for the observations, as the policy gives its ``own``."""
        assert self.lesson is not None
        assert not isinstance(self.lesson.teacher, Demonstrations)
        actions = self.lesson.teacher(self.batch, self._numbering.obs_to_env(obs)).to(self.device)
        return self._own_actions(actions).to(own.dtype).view(own.shape)

    def _own_actions(self, actions: Tensor) -> Tensor:
        """Actions [B, …] of the environment as the policy gives them: flat, counted from 0, in its own units."""
        actions = self._numbering.actions_from_env(actions)
        if not isinstance(self.action_space, spaces.Box):
            return actions
        if (units := self._actor_critic.units) is not None:
            actions = units.from_env(actions.view(-1, *units.half.shape))
        return actions.flatten(1).float()

    def _played(self, own: Tensor, wanted: Tensor, step: int | Tensor) -> Tensor:
        """The teacher's actions for its share of the environments, chosen anew in every step."""
        assert self.lesson is not None
        share = float(self.lesson.share(self._left()))
        if share in (0.0, 1.0):
            return wanted if share else own
        teachers = Rng(child_key(self._action_keys, _WHO_PLAYS), step).uniform() < share
        return torch.where(teachers.view(-1, *[1] * (own.dim() - 1)), wanted, own)

    @torch.no_grad()
    def train(self) -> None:
        """Clone the teacher while the lesson lasts, else update as PPO does. No synchronisation."""
        was, self._losses_of_lesson = self._losses_of_lesson, self._in_lesson
        if not self._in_lesson:
            if was:  # its moments are of another loss
                self.policy.optimizer.state = defaultdict(dict)
            super().train()
            return
        self.policy.set_training_mode(True)
        progress, self._current_progress_remaining = self._current_progress_remaining, self._left()
        self._update_learning_rate(self.policy.optimizer)
        self._begin_update()
        with self._actor_critic.learning(size := self._group.share(self.batch_size, "batch_size")):
            self._losses = self._clone(size)
        if self.normalize_observation and self._recorded_episodes is None:
            learn_observations(self.policy, self.rollout_buffer.observations, leading=2)
        self._current_progress_remaining = progress
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _clone(self, size: int) -> Tensor:
        """Steps of the optimizer for all minibatches of ``size``; the numbers of ``_summaries``."""
        assert self.lesson is not None
        total, norms = torch.zeros(3, device=self.device), torch.zeros(1, device=self.device)
        minibatches, agreement, returns = 0, None, None
        for batch in self._minibatches(size):
            if agreement is None:
                agreement, returns = self._agreement(batch), batch.returns
            terms = self._cloning_gradients(batch)
            norms += self._clip_gradients()
            total.add_(terms.sum(1), alpha=1.0 / terms.shape[1])
            self._flat_optimizer.step()
            minibatches += 1
        assert agreement is not None
        assert returns is not None
        means = total / minibatches
        share = torch.full_like(norms, float(self.lesson.share(self._left())))
        explained = 1.0 - means[1:2] / self._group.variance(returns)
        std = self.policy.log_std.detach().exp().mean().view(1) if hasattr(self.policy, "log_std") else share * 0.0
        loss = means[:1] + self.vf_coef * means[1:2]
        return torch.cat((means, agreement.view(1), share, loss, norms / minibatches, explained, std))

    def _minibatches(self, size: int) -> Iterator[Minibatch]:
        """Those of an update: of the rollout in every epoch, or as many steps of recorded episodes as were counted."""
        if (episodes := self._recorded_episodes) is not None:
            self._n_updates += 1
            count = max(1, self.n_steps * self.n_envs // size)
            yield from episodes.minibatches(count, size, self._actor_critic.values)
            return
        for _ in range(self.n_epochs):
            self._n_updates += 1
            yield from self.rollout_buffer.get(size)

    def _cloning_gradients(self, batch: Minibatch) -> Tensor:
        """Set the gradients of a minibatch's loss; losses of policy and values and negative entropies, [3, B]."""
        terms = batch.returns.new_empty(3, size := batch.returns.shape[0])

        def policy_loss(log_prob: Tensor, entropy: Tensor | None) -> tuple[Tensor, float]:
            torch.neg(log_prob, out=terms[0])
            terms[2].copy_(log_prob) if entropy is None else torch.neg(entropy, out=terms[2])
            return torch.full_like(log_prob, -1.0 / size), 0.0

        def value_loss(values: Tensor) -> Tensor:
            error = values - batch.returns
            torch.square(error, out=terms[1])
            return error.mul_(2.0 * self.vf_coef / size)

        self._flat_optimizer.zero_grad(check=False)
        seen = self._in_frames(batch.observations, batch.actions, batch.masks)
        self._actor_critic.learn(*seen, policy_loss, value_loss)
        deviation = getattr(self.policy, "log_std", None)
        if deviation is not None and deviation.grad is not None:
            deviation.grad.zero_()
        return terms

    def _agreement(self, batch: Minibatch) -> Tensor:
        """How far the policy's best actions are the teacher's in a minibatch that it has not learned from, [].

        The share of rows in which they are equal; of a Box the share of the variance of the teacher's actions that the
        policy's explain.
        """
        wanted = self._actor_critic.for_env(batch.actions)
        own = self._actor_critic.best(batch.observations, batch.masks).view(wanted.shape)
        if isinstance(self.action_space, spaces.Box):
            spread = (wanted - wanted.mean(0)).square().sum()
            return 1.0 - (own - wanted).square().sum() / spread.clamp(min=1e-12)
        return (own == wanted).view(len(own), -1).all(1).float().mean()

    def _extra_training_state(self) -> dict[str, Any]:
        return super()._extra_training_state() | {"losses_of_lesson": self._losses_of_lesson}

    def _set_extra_training_state(self, saved: dict[str, Any]) -> None:
        super()._set_extra_training_state(saved)
        self._losses_of_lesson = bool(saved.get("losses_of_lesson", False))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), *_OF_THE_RUN]
