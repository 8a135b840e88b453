"""The base of all agents: environments whose tensors stay on the device, in Stable-Baselines3's life cycle.

:class:`OnDeviceAlgorithm` stands before one of Stable-Baselines3's algorithms in the bases of an agent and replaces
what would take its rollouts through the host:

1. ``env`` may be a :class:`~palaestra.envs.core.BatchedEnv`; any other environment is put behind an adapter with the
   same interface. ``_last_obs`` is a tensor.
2. Each iteration copies one tensor from the device to the host (:meth:`OnDeviceAlgorithm._sync_to_host`): episode
   statistics, the check for NaN, the losses of the previous update. ``rollout/ep_rew_mean`` averages over the most
   recent of these reports that together hold ``stats_window_size`` episodes.
3. :meth:`OnDeviceAlgorithm.save` writes a file that vanilla SB3 opens, ``load`` reads it without unpickling.
4. :meth:`OnDeviceAlgorithm.save_checkpoint` adds the training state: the running episodes, the generator, statistics,
   the replay memory. :meth:`OnDeviceAlgorithm.resume` continues from it, bit for bit as the uninterrupted run on the
   same machine with the same number of threads. Call the former between iterations only, as in a callback's
   ``_on_rollout_start``.
"""

from __future__ import annotations

import io
import pathlib
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Self

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.agents.buffers.rollout import map_obs
from palaestra.agents.checkpoints import model_file
from palaestra.agents.checkpoints.training_state import restore_training_state, training_state
from palaestra.agents.distributed.process_group import ProcessGroup, process_group
from palaestra.agents.episode_stats import EpisodeLog, EpisodeStatistics, append_report, episode_means, to_host
from palaestra.agents.finite_check import DivergedError, one_step, raise_non_finite
from palaestra.agents.flat_optimizer import FlatOptimizer, clone_tensors, clone_weights
from palaestra.agents.networks.numbering import Numbering
from palaestra.agents.networks.observation_norm import with_normalization
from palaestra.agents.optimizers import own_optimizer
from palaestra.agents.reward_norm import RewardScale
from palaestra.agents.symmetry.symmetric_agent import SymmetricAgent
from palaestra.agents.training.agent_traits import AgentTraits
from palaestra.agents.training.restarting_agent import RestartingAgent
from palaestra.agents.training.score_schedule import ScheduledAgent, follow_score
from palaestra.envs.core import BatchedEnv, EnvError, StepResult
from palaestra.envs.core.rng import Stream, env_keys
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter
from palaestra.envs.interop.sb3_vec_env import SB3VecEnv, with_sb3s_interface


class OnDeviceAlgorithm(AgentTraits, RestartingAgent, ScheduledAgent, SymmetricAgent, BaseAlgorithm):
    """See the module. Agents define the class variables, and call :meth:`_set_up_device` when the policy is there."""

    batch: BatchedEnv
    normalize_observation: bool
    normalize_reward: bool
    gamma: float
    _kept_flat_optimizer: FlatOptimizer
    _json_arguments: ClassVar[tuple[str, ...]]  # constructor arguments that are attributes of the same name
    _counters: ClassVar[tuple[str, ...]] = ("_steps_collected", "_noise_seed")  # numbers that a saved model holds too
    _unsaved: ClassVar[tuple[str, ...]] = ()  # further attributes that SB3's pickle leaves out
    _summaries: ClassVar[tuple[str, ...]]  # names of an update's numbers, logged as train/…
    _always_finite: ClassVar[tuple[str, ...]] = ("loss", "grad_norm")  # training stops if one of these is not finite

    @property
    def _group(self) -> ProcessGroup:
        """The processes that train this agent."""
        return process_group()

    @property
    def _flat_optimizer(self) -> FlatOptimizer:
        """Steps of the policy's optimizer, which a user may have exchanged."""
        if self._kept_flat_optimizer.optimizer is not self.main_optimizer:
            self._kept_flat_optimizer = FlatOptimizer(self.main_optimizer)
        return self._kept_flat_optimizer

    def _check_device(self) -> None:
        if isinstance(self.env, SB3VecEnv) and self.device.type != self.env.batch.device.type:
            raise ValueError(f"the agent is on {self.device}, its environments are on {self.env.batch.device}")

    def _setup_model(self) -> None:
        if self.normalize_observation:
            self.policy_kwargs = with_normalization(self.policy_class, self.policy_kwargs)
        with own_optimizer(self):
            super()._setup_model()  # type: ignore[safe-super]

    def _set_up_device(self) -> None:
        self._record_by_default()
        self._numbering = Numbering(self.observation_space, self.action_space)
        if self.env is not None:
            self._attach(self.env)
            self._tie_weights()
        self._losses: Tensor | None = None  # the last update's numbers, named in _summaries
        self._not_finite = ""  # the name of one that must be finite and is not
        self._noise_seed = int(torch.randint(2**31, ())) if self.seed is None else self.seed
        if self._group.rank > 0:  # each process draws minibatches of its own
            torch.manual_seed(self._noise_seed + self._group.rank)
        self._steps_collected = 0  # per environment, over the life of the model
        self._to_log: dict[str, tuple[float, list[str]]] = {}  # by the first iteration of a resumed run
        self._reward_scale = RewardScale(self.gamma, self.device) if self.normalize_reward else None
        self._kept_flat_optimizer = FlatOptimizer(self.main_optimizer)

    @staticmethod
    def _wrap_env(env: Any, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        env = with_sb3s_interface(env)
        return env if isinstance(env, SB3VecEnv) else BaseAlgorithm._wrap_env(env, verbose, monitor_wrapper)

    def set_env(self, env: Any, force_reset: bool = True) -> None:
        super().set_env(env, force_reset)
        self._attach(self.env)  # type: ignore[arg-type]

    def _attach(self, env: VecEnv) -> None:
        self._let_restart(env)
        self.batch = env.batch if isinstance(env, SB3VecEnv) else VecEnvAdapter(env, self.device)
        self._statistics, self._episode_log = EpisodeStatistics(self.device, self.batch), EpisodeLog()
        self._find_symmetries()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        total, callback = super()._setup_learn(*args, **kwargs)
        self._group.broadcast(self.policy)
        self._noise_seed = self._group.broadcast_int(self._noise_seed)
        for name, (value, excluded) in self._to_log.items():
            self.logger.record(name, value, exclude=tuple(excluded))
        self._to_log, self._learning_since = {}, time.perf_counter()
        # entries are reports here, not episodes; append_report() trims them by the episodes they hold
        self.ep_info_buffer = deque(self.ep_info_buffer or ())
        if not isinstance(self._last_episode_starts, Tensor):  # the environments were reset: SB3 holds NumPy arrays
            # copies, since a VecEnv may write its next observations into the same memory
            own = map_obs(lambda o: np.float32(o) if o.dtype == np.float64 else o, self._last_obs)
            self._last_obs = self._numbering.from_env(map_obs(lambda o: torch.tensor(o, device=self.device), own))
            self._last_episode_starts = torch.ones(self.n_envs, dtype=torch.bool, device=self.device)  # type: ignore[assignment]
            self._statistics = EpisodeStatistics(self.device, self.batch)
            if self._reward_scale is not None:
                self._reward_scale.forget_episodes()
            if isinstance(self.batch, VecEnvAdapter):
                self.batch.restarted()  # SB3 reset the environments behind it
            self._episodes_began()
        return total, callback

    def _episodes_began(self) -> None:
        """All environments were reset from outside; ``_last_obs`` are their first observations."""

    def speak_to(self, batch: BatchedEnv) -> None:
        """Take and give the numbers of that batch's choices."""
        self._numbering = Numbering(batch.single_observation_space, batch.single_action_space)

    def predict(self, observation: Any, *args: Any, **kwargs: Any) -> Any:
        """SB3's: actions and no state for NumPy observations, both in the environment's own numbers and units."""
        with self._as_sb3_has_it():
            actions, state = super().predict(self._numbering.from_env(observation), *args, **kwargs)
        return self._numbering.to_env(actions), state

    def _draw_keys(self) -> None:
        """Call it when collection starts: the keys of the actions' random numbers, the same for every step."""
        self._action_keys = env_keys(self._noise_seed, self.batch.env_indices, Stream.ACTION_NOISE)
        if self._recorder is not None:
            self._begin_recording()

    def _begin_update(self) -> None:
        """Call it when an update starts: weights are in their places then."""
        self._flat_optimizer.gather()
        if self._recorder is not None:
            self._begin_recording()

    def _step(self, actions: Tensor) -> StepResult:
        """A step of all environments; an EnvError names what is not finite where one of them raises because of that."""
        try:
            outcome = self.batch.step(self._numbering.to_env(actions) if self._numbering.renames_actions else actions)
        except EnvError:
            seen = {"observation": self._last_obs, "action": actions}
            fields = [one_step(name, self._steps_collected, field) for name, field in seen.items()]
            raise_non_finite(fields, self.batch.env_indices, self._episode_log)
            raise
        return self._numbering.step_from_env(outcome) if self._numbering.renames_observations else outcome

    def _bootstrap(
        self, values: Callable[..., Tensor], rewards: Tensor, truncated: Tensor, info: dict[str, Any], mask: Any = None
    ) -> Tensor:
        """Add γ V(final_obs), γ being :attr:`discount`, where the episode was cut by time, since it would have gone on.

        ``values`` maps observations, and the rows of ``mask`` if there is one, to values [B].
        """
        if not self.batch.can_truncate or not info.get("ended", True):
            return rewards
        final = (info["final_obs"],) if mask is None else (info["final_obs"], mask)
        if not self._looks:  # finding the rows would wait for the device
            # where, since the value of an end without legal actions is −∞
            return rewards + self.discount * torch.where(truncated, values(*final), 0.0)
        rows = truncated.nonzero().squeeze(1)
        if rows.numel() == 0:
            return rewards
        final = tuple(map_obs(lambda o: o[rows], part) for part in final)
        self._episode_log.cut.append((self._steps_collected, rows, final[0]))
        return rewards.index_add(0, rows, values(*final), alpha=self.discount)

    def _sync_to_host(self, check: Tensor) -> bool:
        """Copy the episode statistics, the check and the last losses to the host: the iteration's only copy.

        True if ``check``, float [1], is finite: all is well in this process. Call :meth:`_refuse_divergence` next.
        """
        losses = () if self._losses is None else (self._losses,)
        flags = self._group.save_or_stop_flags(self.device)
        shared = self._group.sum(torch.cat((self._statistics.report(), *losses, *flags)))
        own, *numbers = to_host(torch.cat((check, shared)))
        if flags:
            *numbers, save, stop = numbers
            self._group.decide_save_or_stop([save, stop])
        if self.ep_info_buffer is not None:
            size = max(self._stats_window_size, self.n_envs * self._group.size)
            append_report(self.ep_info_buffer, numbers[:5], self._statistics.has_success, size)
            follow_score(self)
        self._episode_num += int(numbers[0])
        self._record_losses([total / self._group.size for total in numbers[5:]])
        self._statistics.clear()
        return bool(np.isfinite(own))

    def _record_losses(self, losses: list[float]) -> None:
        named = dict(zip(self._summaries, losses, strict=True)) if losses else {}  # empty before the first update
        self._not_finite = next((name for name in self._always_finite if not np.isfinite(named.get(name, 0.0))), "")
        for name, value in named.items():
            if name != "std" or hasattr(self.policy, "log_std"):
                self.logger.record(f"train/{name}", value)

    def _refuse_divergence(self) -> None:
        """Stop if the last update whose losses are on the host went wrong.

        Raises:
            DivergedError: naming what is not finite.
        """
        if self._not_finite:
            what = {"grad_norm": "the norm of the gradient"}.get(self._not_finite, f"the {self._not_finite}")
            raise DivergedError(f"{what} is not finite in the last update before step {self.num_timesteps:,}")

    def _record_progress(self) -> None:
        """SB3's log of an iteration under SB3's keys; means over episodes."""
        elapsed = max(time.perf_counter() - self._learning_since, sys.float_info.epsilon)  # a clock never set back
        for name, value in episode_means(self.ep_info_buffer or (), self.n_envs * self._group.size).items():
            self.logger.record(name, value)
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def learn(self, *args: Any, **kwargs: Any) -> Self:
        """Train for ``total_timesteps`` environment steps, counted over all environments; see SB3."""
        super().learn(*args, **kwargs)  # type: ignore[safe-super]
        losses = [] if self._losses is None else to_host(self._group.sum(self._losses))
        self._record_losses([total / self._group.size for total in losses])
        self._refuse_divergence()
        return self

    def _excluded_save_params(self) -> list[str]:
        ours: tuple[str, ...] = ("batch", "_last_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer")
        ours += ("_statistics", "_episode_log", "_losses", "_not_finite", "_reward_scale", "_action_keys", "_to_log")
        ours += ("_kept_flat_optimizer", "_numbering", "remarks", "_learning_since", "_recorder", "_looks")
        return [*super()._excluded_save_params(), *ours, *self._counters, *self._unsaved]

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """SB3's, as copies: a file is to hold each tensor by itself."""
        found = super().get_parameters().items()
        return {name: (clone_weights if name == "policy" else clone_tensors)(part) for name, part in found}

    def _saved_arguments(self) -> dict[str, Any]:
        """The constructor's arguments, to build the same agent again."""
        return {n: getattr(self, n) for n in self._json_arguments} | {"stats_window_size": self._stats_window_size}

    def save(self, path: Any, exclude: Any = None, include: Any = None) -> None:
        """Write the model to a zip file, whole or not at all; see :mod:`palaestra.agents.checkpoints.model_file`.

        Raises:
            DivergedError: if a weight is not finite; a file that is there already is kept.
        """
        self._save(path, None, exclude, include)

    def _save(self, path: Any, training: dict[str, Any] | None, exclude: Any = None, include: Any = None) -> None:
        for name, value in self.policy.state_dict().items():
            if not value.isfinite().all():
                raise DivergedError(f"weights of {name} are not finite at step {self.num_timesteps:,}: not saved")
        buffer = io.BytesIO()
        with self._as_sb3_has_it():
            super().save(buffer, exclude, include)
        model_file.write(self, self._saved_arguments(), buffer, path, training)

    def _as_sb3_has_it(self) -> AbstractContextManager[None]:
        """Inside this block the policy has weights with which vanilla SB3 acts alike."""
        return nullcontext()

    def save_checkpoint(self, path: Any) -> None:
        """Write the model and its training state to one file; see the module."""
        self._save(path, training_state(self))

    @classmethod
    def resume(cls, path: str | pathlib.Path, env: Any, device: torch.device | str = "auto") -> Self:
        """Go on from a file that :meth:`save_checkpoint` wrote, with ``learn(…, reset_num_timesteps=False)``.

        Args:
            path: the file.
            env: environments like those of the run, as many. Gymnasium and SB3 environments, whose state cannot be
                saved, begin new episodes.
            device: the batch's, unless ``env`` is adapted from Gymnasium or SB3.

        Raises:
            CheckpointError: if the file is damaged, not ours, without training state, or does not fit ``env``.
        """
        model = cls.load(path, env, device)
        model_file.read_training_state(path, model.device, lambda saved: restore_training_state(model, saved))
        return model

    def _extra_training_state(self) -> dict[str, Any]:
        """Further tensors, numbers and text of an agent's training state."""
        return {}

    def _set_extra_training_state(self, saved: dict[str, Any]) -> None:
        """Restore them from the whole training state; raises a ValueError if they do not fit."""

    def take_weights(self, path: str | pathlib.Path) -> None:
        """Begin with the weights of a model file, statistics of observations included, and with a new optimizer.

        Raises:
            CheckpointError: if the file is damaged, or its network is another one.
        """
        weights: dict[str, Any] = {"policy": model_file.read_weights(path, self)}
        self.set_parameters(weights, exact_match=False)

    @classmethod
    def load(  # type: ignore[override]
        cls,
        path: str | pathlib.Path | io.BufferedIOBase,
        env: Any = None,
        device: torch.device | str = "auto",
        **kwargs: Any,
    ) -> Self:
        """Read a model that :meth:`save` wrote; nothing in the file is executed.

        Args:
            path: the file; ``.zip`` is added where the name lacks it.
            env: environments to train on; None for prediction only.
            device: where to put the model; with an ``env``, its device.
            kwargs: constructor arguments that replace the stored ones; so do those in SB3's ``custom_objects``.

        Raises:
            CheckpointError: if the file is damaged, not ours, or does not fit ``env``.
        """
        return model_file.read(cls, path, env, device, kwargs)
