"""Proximal policy optimisation on the device: Stable-Baselines3's PPO without its round-trips through the host.

The algorithm is Stable-Baselines3's, number for number (clipped surrogate, GAE, advantages normalised per minibatch,
value loss unclipped unless asked, gradient norm clipped). What differs:

1. Rollouts are collected from a :class:`~palaestra.envs.core.BatchedEnv` into tensors on its device; any other
   environment is put behind an adapter with the same interface.
2. Actions are sampled from counter-based random numbers keyed by (seed, env index, step), without
   ``torch.distributions``; policies that override SB3's own forward pass, and gSDE, use SB3's.
3. A truncated step gets γ V(final_obs) added to its reward, from the observation before the reset.
4. One tensor per iteration is copied to the host, in :meth:`collect_rollouts`: episode statistics, the check for NaN
   and the previous update's losses. ``target_kl`` needs one more per minibatch.
5. ``train/…`` losses are means over all minibatches of the update (SB3 reports some of the last one only).
6. ``ent_coef`` may be a schedule, like ``learning_rate``. Of players in turn γ is −γ, see :mod:`.training.self_play`.
7. ``normalize_reward`` and ``normalize_observation``: :mod:`.reward_norm` and :mod:`.networks.observation_norm`.
8. ``scale_actions`` and ``symmetry``: :mod:`.networks.action_units` and :mod:`.symmetry.symmetric_agent`.
9. :meth:`save` writes a file that vanilla SB3 opens, :meth:`load` reads it without unpickling anything.

Source: Schulman et al., "Proximal policy optimization algorithms", 2017 (arXiv 1707.06347).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Annotated, Any, ClassVar, Unpack

import stable_baselines3
import torch
from annotated_types import Ge
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.agents.buffers.rollout import Minibatch, TensorRolloutBuffer
from palaestra.agents.buffers.stored_observations import RolloutStorage, rollout_store
from palaestra.agents.distributed.process_group import one_thread
from palaestra.agents.episode_stats import LazyNumpy, StepInfos
from palaestra.agents.finite_check import raise_rollout_error
from palaestra.agents.networks.action_units import units_remarks
from palaestra.agents.networks.actor_critic import ActorCritic
from palaestra.agents.networks.observation_norm import learn_observations
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
from palaestra.agents.symmetry.symmetric_agent import SymmetryUse
from palaestra.envs.core import TensorVectorEnv
from palaestra.envs.core.rng import Rng
from palaestra.envs.interop.sb3_vec_env import prepare

ValueClipRange = Annotated[float, Ge(0), NotZero("must be above 0, or null for no clipping")]
_DRAWN_AT_ONCE = 16_384  # random actions: the cost of a call is small beside that, and so is the memory
_MEANS = ("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction")  # over a minibatch


class PPO(OnDeviceAlgorithm, stable_baselines3.PPO):
    """PPO with Stable-Baselines3's interface, for thousands of environments on one device; see the module.

    ``env`` is a :class:`BatchedEnv` (from :func:`palaestra.envs.make`), a Gymnasium environment, an SB3 ``VecEnv``, or
    an id (one environment, as in SB3); ``device`` defaults to the environment's.
    """

    rollout_buffer: TensorRolloutBuffer  # type: ignore[assignment]
    _parts: ClassVar[tuple[Any, Any]] = TensorRolloutBuffer, ActorCritic  # which an agent may derive its own from
    sb3_twin = stable_baselines3.PPO
    _unsaved = ("rollout_buffer_class", "ent_coef_schedule", "_actor_critic", "_noise", "_noise_steps")
    _summaries: ClassVar[tuple[str, ...]] = (*_MEANS, "loss", "grad_norm", "explained_variance", "std")

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: Any,
        learning_rate: ScheduledNonNegative = 3e-4,
        n_steps: AtLeastOne = 2048,
        batch_size: BatchSize = 64,
        n_epochs: AtLeastOne = 10,
        gamma: Probability = 0.99,
        gae_lambda: Probability = 0.95,
        clip_range: ScheduledNonNegative = 0.2,
        clip_range_vf: ValueClipRange | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: ScheduledNonNegative = 0.0,
        vf_coef: NonNegative = 0.5,
        max_grad_norm: NonNegative = 0.5,
        *,
        use_sde: bool = False,
        sde_sample_freq: Annotated[int, Ge(-1)] = -1,
        target_kl: NonNegative | None = None,
        normalize_observation: bool = False,
        normalize_reward: bool = False,
        scale_actions: bool = False,
        rollout_storage: RolloutStorage = "auto",
        symmetry: SymmetryUse = "none",
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **kwargs: Unpack[CommonOptions],
    ) -> None:
        if rollout_buffer_class is not None or kwargs.get("rollout_buffer_kwargs"):
            raise ValueError("rollout_buffer_class must be None, without kwargs: rollouts are tensors on the device")
        env, device = prepare(env, device)
        self.ent_coef_schedule = FloatSchedule(ent_coef)
        self.normalize_observation, self.normalize_reward = normalize_observation, normalize_reward
        self.scale_actions, self.rollout_storage, self.symmetry = scale_actions, rollout_storage, symmetry
        replaced = {"ent_coef": self.ent_coef_schedule(1.0), "_init_setup_model": False}
        replaced["batch_size"] = self._group.share(batch_size, "batch_size")
        super().__init__(**arguments_for(stable_baselines3.PPO, locals()) | replaced)
        self.batch_size = batch_size  # the minibatches of all processes together
        self._check_device()
        if _init_setup_model:
            self._setup_model()

    _json_arguments: ClassVar[tuple[str, ...]] = saved_arguments(__init__)

    def _setup_model(self) -> None:
        self.rollout_buffer_class, actor_critic = self._parts
        super()._setup_model()
        self._actor_critic: ActorCritic = actor_critic(self.policy, self.scale_actions)
        self.remarks += units_remarks(self.policy, self.scale_actions)
        self._noise_steps = max(1, _DRAWN_AT_ONCE // self.n_envs)
        self._set_up_device()

    def _attach(self, env: VecEnv) -> None:
        super()._attach(env)
        self.rollout_buffer.store = rollout_store(self.batch, self.rollout_storage, self.normalize_observation)
        if isinstance(self.batch, TensorVectorEnv) and self.batch.env.has("action_mask"):
            self._actor_critic.require_masks()

    def _episodes_began(self) -> None:
        if self.batch.action_masks() is not None:  # Gymnasium environments show them with their first observation
            self._actor_critic.require_masks()

    def _maybe_recommend_cpu(self, mlp_class_name: str = "ActorCriticPolicy") -> None:
        """SB3 warns of MLPs on a GPU; with thousands of environments that is the point."""

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """Fill the buffer with ``n_steps`` steps of all environments; False if a callback stopped it."""
        self.policy.set_training_mode(False)
        self.rollout_buffer.reset()
        callback.on_rollout_start()
        self._draw_keys()
        self._episode_log.clear()
        first_step = self._steps_collected
        with one_thread(self.batch.is_on_host and self._actor_critic.is_dense):
            for step in range(n_rollout_steps):
                rewards, dones, infos = self._collect_step(step)
                self.num_timesteps += self.n_envs * self._group.size
                callback.update_locals({**locals(), "rewards": LazyNumpy(rewards), "dones": LazyNumpy(dones)})
                callback.update_locals({"new_obs": self._last_obs})
                if not callback.on_step():
                    return False
        self._recorded(self._finish_rollout)
        self._report(first_step)
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _collect_step(self, step: int) -> tuple[Tensor, Tensor, StepInfos]:
        """Act, step the environments and store the transition. No synchronisation."""
        self._episode_log.note(self._steps_collected, self.batch)
        if self.use_sde and step % (self.sde_sample_freq if self.sde_sample_freq > 0 else self.n_steps) == 0:
            self.policy.reset_noise(self.n_envs)
        rewards, dones, truncated, info = self._recorded(self._transition, step, self._steps_collected)
        self._episode_log.note_rewards(rewards)
        self.rollout_buffer.pos = step + 1
        self._steps_collected += 1
        return rewards, dones, StepInfos(self.env, dones, truncated, info)

    @torch.no_grad()
    def _transition(self, place: int | Tensor, step: int | Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        """Rewards, dones and truncations [N] and info of a step, which is stored at that place of the rollout."""
        obs: Any = self._last_obs
        mask, moment = self.batch.action_masks(), self.rollout_buffer.moment()
        own, values, log_probs = self._actor_critic.sample(obs, self._noise_now(place, step), mask)
        played, actions = self._played_and_learned(obs, own, step)
        new_obs, rewards, terminated, truncated, info = self._step(self._actor_critic.for_env(played))
        dones = terminated | truncated
        scaled = rewards if self._reward_scale is None else self._reward_scale(rewards, dones)
        scaled = self._bootstrap(self._actor_critic.values, scaled, truncated, info)
        self.rollout_buffer.put(place, obs, actions, scaled, dones, values, log_probs, mask, moment)
        self._statistics.add(info)
        self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
        return rewards, dones, truncated, info

    def _played_and_learned(self, obs: Any, own: Tensor, step: int | Tensor) -> tuple[Tensor, Tensor]:
        """The actions that are played, and those that are learned from, where the policy gives ``own``."""
        return own, own

    def _noise_now(self, place: int | Tensor, step: int | Tensor) -> Tensor | None:
        """The noise of this step's actions, which is drawn for several steps of the rollout at once."""
        if isinstance(place, Tensor) or isinstance(step, Tensor):  # recorded
            return self._actor_critic.noise_at(self._action_keys, step)
        ahead = place % self._noise_steps
        if ahead == 0:
            until = step + min(self._noise_steps, self.n_steps - place)
            self._noise = self._actor_critic.noise(self._action_keys, range(step, until))
        return self._noise[ahead]

    @torch.no_grad()
    def act(self, obs: Any, rng: Rng | None = None, mask: Tensor | None = None) -> Tensor:
        """Actions [N, …] within the action space's bounds, the most likely or sampled with ``rng``; see AgentTraits."""
        actions = self._actor_critic.act(self._numbering.from_env(obs), rng, mask)
        return self._numbering.to_env(actions)  # type: ignore[no-any-return]

    def _as_sb3_has_it(self) -> AbstractContextManager[None]:
        return super()._as_sb3_has_it() if (units := self._actor_critic.units) is None else units.applied()

    @torch.no_grad()
    def _finish_rollout(self) -> None:
        self.rollout_buffer.compute_returns_and_advantage(self._actor_critic.values(self._last_obs), self.discount)

    def _report(self, first_step: int) -> None:
        """Copy the rollout's statistics and the last losses to the host, and stop if either is not finite."""
        buffer, log = self.rollout_buffer, self._episode_log
        fields = (buffer.to_check, self._last_obs, buffer.rewards, buffer.values, *(final for _, _, final in log.cut))
        parts = [part for f in fields for part in (f.values() if isinstance(f, dict) else [f])]
        # a sum is finite if all its terms are; one that overflows is looked at again below
        sums = torch.stack([part.sum().float() for part in parts]).sum().unsqueeze(0)
        finite = self._sync_to_host(sums)
        self._refuse_divergence()
        if not finite:
            log.note(self._steps_collected, self.batch)
            raise_rollout_error(self, first_step)

    def dump_logs(self, iteration: int = 0) -> None:
        """SB3's log of an iteration under SB3's keys; means over episodes."""
        if iteration > 0:
            self.logger.record("time/iterations", iteration, exclude="tensorboard")
        self._record_progress()

    @torch.no_grad()
    def train(self) -> None:
        """Update the policy from the rollout. No synchronisation, unless ``target_kl`` is set."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        clip_range = self.clip_range(progress := self._current_progress_remaining)  # type: ignore[operator]
        clip_range_vf = None if self.clip_range_vf is None else self.clip_range_vf(progress)  # type: ignore[operator]
        self.ent_coef = self.ent_coef_schedule(progress)
        self._begin_update()
        with self._actor_critic.learning(size := self._group.share(self.batch_size, "batch_size")):
            self._losses = self._summary(*self._learn(size, clip_range, clip_range_vf))
        if self.normalize_observation:
            learn_observations(self.policy, self.rollout_buffer.observations, leading=2)
        self._record_settings(clip_range, clip_range_vf)

    def _learn(self, size: int, clip_range: float, clip_range_vf: float | None) -> tuple[Tensor, Tensor]:
        """Steps of the optimizer for all minibatches of ``size``; means of the losses and of the gradients' norms."""
        total, norms = torch.zeros(len(_MEANS), device=self.device), torch.zeros(1, device=self.device)
        minibatches = 0
        for _ in range(self.n_epochs):
            self._n_updates += 1
            for minibatch in self.rollout_buffer.get(size):
                terms, norm = self._recorded(self._gradients, minibatch, clip_range, clip_range_vf, self.ent_coef)
                total.add_(terms.sum(1), alpha=1.0 / terms.shape[1])
                minibatches += 1
                if self.target_kl is not None and self._divergence(terms) > 1.5 * self.target_kl:
                    return total / minibatches, norms / minibatches
                norms += norm
                self._flat_optimizer.step()
        return total / minibatches, norms / minibatches

    def _gradients(self, batch: Minibatch, clip_range: Any, clip_range_vf: Any, ent_coef: Any) -> tuple[Tensor, Tensor]:
        """Set the gradients of a minibatch's loss; each sample's ``_MEANS`` [5, B], the gradients' norm []."""
        losses, terms = self._losses_of(batch, clip_range, clip_range_vf, ent_coef)
        self._flat_optimizer.zero_grad(check=False)
        self._actor_critic.learn(*self._in_frames(batch.observations, batch.actions, batch.masks), *losses)
        return terms, self._clip_gradients()

    def _divergence(self, terms: Tensor) -> float:
        """The new policy's from the old one's, over the minibatches of all processes."""
        return float(self._group.sum(terms[_MEANS.index("approx_kl")].mean())) / self._group.size

    def _summary(self, means: Tensor, norm: Tensor) -> Tensor:
        """The numbers of ``_summaries``."""
        policy_loss, value_loss, entropy_loss = means[:3]
        loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss
        returns, values = self.rollout_buffer.returns, self.rollout_buffer.values
        explained = 1.0 - self._group.variance(returns - values) / self._group.variance(returns)
        std = self.policy.log_std.detach().exp().mean() if hasattr(self.policy, "log_std") else explained
        return torch.cat((means, loss.view(1), norm, torch.stack((explained, std))))

    def _losses_of(self, batch: Minibatch, clip_range: Any, clip_range_vf: Any, ent_coef: Any) -> tuple[Any, Tensor]:
        """Both losses, as :meth:`ActorCritic.learn` wants them; each sample's ``_MEANS`` [5, B], which they fill in."""
        terms = batch.advantages.new_empty(len(_MEANS), size := batch.advantages.shape[0])
        surrogate, squares, entropies, divergence, clipped = terms.unbind(0)

        def policy_loss(log_prob: Tensor, entropy: Tensor | None) -> tuple[Tensor, Any]:
            grad_log_prob = self._policy_loss(batch, log_prob, clip_range, [surrogate, divergence, clipped])
            entropies.copy_(log_prob) if entropy is None else torch.neg(entropy, out=entropies)
            return grad_log_prob if entropy is not None else grad_log_prob + ent_coef / size, -ent_coef / size

        def value_loss(values: Tensor) -> Tensor:
            return _value_loss(batch, values, clip_range_vf, squares).mul_(2.0 * self.vf_coef / size)

        return (policy_loss, value_loss), terms

    def _policy_loss(self, batch: Minibatch, log_prob: Tensor, clip_range: Any, terms: list[Tensor]) -> Tensor:
        """The derivative of the clipped surrogate by ``log_prob``, [B].

        Fills in ``terms``, each [B]: the surrogate, the divergence of the policies, and 1 where the ratio is clipped.
        """
        if self.normalize_advantage and self._group.size * log_prob.shape[0] > 1:
            mean, std = self._group.mean_and_std(batch.advantages)
            costs = (mean - batch.advantages).div_(std + 1e-8)
        else:
            costs = -batch.advantages
        log_ratio = log_prob - batch.old_log_prob
        ratio = log_ratio.exp()
        plain, clipped = costs * ratio, costs * ratio.clamp(1 - clip_range, 1 + clip_range)
        torch.maximum(plain, clipped, out=terms[0])
        change = ratio.sub_(1.0)
        torch.sub(change, log_ratio, out=terms[1])  # Schulman's low-variance estimator of the divergence
        torch.gt(change.abs_(), clip_range, out=terms[2])
        return plain.masked_fill_(plain < clipped, 0.0).div_(log_prob.shape[0])  # d ratio / d log_prob = ratio

    def _record_settings(self, clip_range: float, clip_range_vf: float | None) -> None:
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", clip_range)
        self.logger.record("train/ent_coef", self.ent_coef)
        if clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", clip_range_vf)

    def _saved_arguments(self) -> dict[str, Any]:
        return super()._saved_arguments() | {"ent_coef": self.ent_coef_schedule}  # the attribute is its present value


def _value_loss(batch: Minibatch, values: Tensor, clip_range: Any, squares: Tensor) -> Tensor:
    """Errors of the values, as clipped: half the derivatives of their squares [B], which ``squares`` gets."""
    if clip_range is None:
        error = values - batch.returns
        torch.square(error, out=squares)
        return error
    change = values - batch.old_values
    error = batch.old_values + change.clamp(-clip_range, clip_range) - batch.returns
    torch.square(error, out=squares)
    return error.mul_(change.abs() <= clip_range)
