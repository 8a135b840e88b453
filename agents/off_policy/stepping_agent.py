"""The base of agents that are, to Stable-Baselines3, off-policy: collection step by step, with few reports.

1. An iteration takes ``train_freq`` steps of all environments, then learns. Loss and progress are reported every
   ``REPORT_STEPS`` steps of the batch, in one copy from the device.
2. Subclasses choose the actions (:meth:`SteppingAgent._choose`) and keep what was done (:meth:`SteppingAgent._store`).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import RolloutReturn, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, no_grad

from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.agents.distributed.process_group import one_thread
from palaestra.agents.episode_stats import LazyNumpy, StepInfos
from palaestra.agents.finite_check import FiniteCheck
from palaestra.agents.graphs.slots import Attribute, places_of
from palaestra.agents.networks.observation_norm import learn_observations
from palaestra.envs.core import StepResult
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.state_dict import fill

REPORT_STEPS = 64
_NO_BUFFER: Any = object()


class SteppingAgent(OnDeviceAlgorithm):
    """See the module."""

    n_steps: int
    train_freq: Any
    replay_buffer: Any
    _train_frequency: int
    _unsaved: ClassVar[tuple[str, ...]] = ("_moment", "replay_buffer_class", "_finite")

    def steps_per_iteration(self) -> int:
        return self._train_frequency

    def _setup_without_sb3s_buffer(self) -> None:
        """SB3's set-up of networks, optimizers and schedules."""
        self.replay_buffer = _NO_BUFFER  # SB3 makes its own only where there is none
        n_steps, self.n_steps = self.n_steps, 1  # SB3 refuses more where observations are dictionaries
        super()._setup_model()
        self.replay_buffer, self.n_steps = None, n_steps
        frequency = self.train_freq  # SB3 has made a TrainFreq of it
        if frequency.unit != TrainFrequencyUnit.STEP:
            raise ValueError("train_freq must count steps: the host does not know when episodes end on the device")
        if frequency.frequency < 1:
            raise ValueError(f"steps between updates must be at least 1, got {frequency.frequency}")
        self._train_frequency = frequency.frequency

    def _spread_exponents(self, spread: float) -> Tensor:
        """From 1 to 1 + ``spread`` over the environments of all processes, [N] of this one's; 1 where there is one."""
        number, first = self.n_envs * self._group.size, self.n_envs * self._group.rank
        place = torch.linspace(0.0, 1.0, number)[first : first + self.n_envs] if number > 1 else torch.zeros(1)
        return (1.0 + spread * place).to(self.device)

    def _episodes_began(self) -> None:
        self._finite = FiniteCheck(self.n_envs, self.device, self._looks)
        self._finite.add("observation", self._steps_collected, self._last_obs)
        self._reported_episodes = self._episode_num  # SB3 may have begun to count anew
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: Any,
        action_noise: Any = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """Take ``train_freq`` steps of all environments; ``continue_training`` is False if a callback stopped it."""
        self.policy.set_training_mode(False)
        callback.on_rollout_start()
        self._draw_keys()
        with one_thread(self.batch.is_on_host and self._acts_densely()):
            for taken in range(1, train_freq.frequency + 1):
                rewards, dones, infos = self._collect_step()
                self.num_timesteps += self.n_envs * self._group.size
                callback.update_locals({**locals(), "rewards": LazyNumpy(rewards), "dones": LazyNumpy(dones)})
                callback.update_locals({"new_obs": self._last_obs})
                if not callback.on_step():
                    return RolloutReturn(taken * self.n_envs * self._group.size, 0, continue_training=False)
                self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
                self._on_step()  # type: ignore[attr-defined]
        callback.on_rollout_end()
        ends = self.num_timesteps >= self._total_timesteps
        if ends or self._steps_collected % REPORT_STEPS < train_freq.frequency:
            self._report(log_interval)
        return RolloutReturn(train_freq.frequency * self.n_envs * self._group.size, 0, continue_training=True)

    @no_grad()
    def _collect_step(self) -> tuple[Tensor, Tensor, StepInfos]:
        """Act, step the environments and store the transition. No synchronisation."""
        self._episode_log.note(self._steps_collected, self.batch)
        inputs = self._exploration(), self._steps_collected, self._place()
        rewards, dones, truncated, info = self._recorded(self._transition, *inputs)
        self._count_step()
        self._steps_collected += 1
        return rewards, dones, StepInfos(self.env, dones, truncated, info)

    def _transition(
        self, exploration: Tensor | float, step: int | Tensor, place: int | Tensor
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        """Rewards, dones and truncations [N] and info of a step of the run, which is stored at that place."""
        actions, beside = self._choose(exploration, Rng(self._action_keys, step))
        outcome = self._step(actions)
        new_obs, rewards, terminated, truncated, info = outcome
        dones = terminated | truncated
        self._store(place, beside, actions, outcome)
        self._finite.add("reward", step, rewards)
        self._finite.add("observation", step + 1, new_obs)
        if info["final_obs"] is not new_obs:  # targets look at it where an episode was cut
            self._finite.add("last observation", step + 1, info["final_obs"], truncated)
        self._statistics.add(info)
        if self.normalize_observation:
            learn_observations(self.policy, new_obs)
        self._last_obs, self._last_episode_starts = new_obs, dones  # type: ignore[assignment]
        return rewards, dones, truncated, info

    def _exploration(self) -> Tensor | float:
        """How much is left to chance at this step: a number, or one for each environment."""
        raise NotImplementedError

    def _acts_densely(self) -> bool:
        """True if actions come from fully connected networks."""
        raise NotImplementedError

    def _choose(self, exploration: Tensor | float, rng: Rng) -> tuple[Tensor, Tensor]:
        """Actions [N, …] for ``self._last_obs``, and what is stored beside them."""
        raise NotImplementedError

    def _place(self) -> int:
        """Where the next step is stored."""
        return 0

    def _count_step(self) -> None:
        """One more is stored."""

    def _store(self, place: int | Tensor, beside: Tensor, actions: Tensor, outcome: StepResult) -> None:
        """Keep a step; ``self._last_obs`` is still the observation before it."""
        raise NotImplementedError

    def _rebound(self) -> list[Attribute]:
        return super()._rebound() + places_of(self._finite)

    def _report(self, log_interval: int | None) -> None:
        if not self._sync_to_host(self._finite.result()):
            self._episode_log.note(self._steps_collected, self.batch)
            self._finite.raise_error(self.batch.env_indices, self._episode_log)
        self._episode_log.clear()
        self._refuse_divergence()  # after it, since the updates learned from what was collected
        if log_interval is not None and self._episode_num - self._reported_episodes >= log_interval:
            self._reported_episodes = self._episode_num
            self.dump_logs()

    def dump_logs(self) -> None:
        """SB3's log under SB3's keys; means over episodes."""
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        self._record_progress()

    def _extra_training_state(self) -> dict[str, Any]:
        return {"finite": self._finite.first, "reported_episodes": self._reported_episodes}

    def _set_extra_training_state(self, saved: dict[str, Any]) -> None:
        if saved["batch"] is not None:
            self._finite = FiniteCheck(self.n_envs, self.device, self._looks)
            fill("finite", self._finite.first, saved["finite"])
            self._reported_episodes = int(saved["reported_episodes"])

    def _saved_arguments(self) -> dict[str, Any]:
        arguments = super()._saved_arguments()
        return arguments | ({"train_freq": self._train_frequency} if "train_freq" in arguments else {})
