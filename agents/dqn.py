"""Deep Q-networks on the device: Stable-Baselines3's DQN for thousands of environments.

The algorithm is Stable-Baselines3's, number for number (uniform replay, ε-greedy, Huber loss, gradient norm clipped,
target network). What differs:

1. Transitions are kept in :class:`~palaestra.agents.buffers.replay.Replay`, on the device. Where an environment's state
   is at most half as large as its observation, states are stored and observations computed again (a 10 × 10 Snake
   board: 246 bytes a transition instead of 1,610).
2. A step that was cut by the time limit bootstraps from the observation before the reset; a termination does not.
3. ``samples_per_insert`` is the update-to-data ratio: how often a transition is replayed on average. An iteration
   makes samples_per_insert · train_freq · N / batch_size gradient steps (what is left over counts for the next), so
   the ratio is the same for any number of environments. Without it ``train_freq`` (steps of the batch) and
   ``gradient_steps`` mean what they mean in SB3, and the ratio falls as N grows: ``train/samples_per_insert`` says
   where it is, and a warning when most transitions would never be seen.
4. Options, off by default as in SB3: ``double_q`` (the online network chooses the action that the target network
   values), ``n_steps`` > 1 (through truncations and the end of the data exactly, see replay), ``prioritized_replay``
   α > 0, the policy "DuelingPolicy", and what :mod:`palaestra.agents.q_learning` offers. ``huber_delta`` is the error
   up to which the loss is quadratic, 1 as in SB3. A small one makes light of rare disasters: where death costs a value
   of 6, as in Snake, the agent learns to accept it.
5. ``target_update_interval`` counts environment steps over all environments, as in SB3; with ``tau`` < 1 every update
   mixes.
6. One tensor is copied to the host every 64 steps of the batch. ``train/loss`` is the mean of the latest update.

Sources: Mnih et al., "Human-level control through deep reinforcement learning", Nature 2015; van Hasselt, Guez and
Silver, "Deep reinforcement learning with double Q-learning", AAAI 2016; Hessel et al., "Rainbow", AAAI 2018;
``samples_per_insert`` as in Cassirer et al., "Reverb", 2021.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Unpack

import stable_baselines3
import torch
import torch.nn.functional as F
from annotated_types import Ge
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from palaestra.agents.buffers.prioritized import Priorities
from palaestra.agents.buffers.replay import Replay, Transitions
from palaestra.agents.networks.extractors import DuelingPolicy
from palaestra.agents.networks.manual_mlp import without_gradients
from palaestra.agents.off_policy.replaying_agent import Hindsight, ReplayingAgent, ReplayRatio
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
from palaestra.agents.q_learning import SEARCHED, PartOfRun, QLearning, masked
from palaestra.agents.symmetry.symmetric_agent import SymmetryUse
from palaestra.envs.core import StepResult
from palaestra.envs.interop.sb3_vec_env import prepare

_FIRST_BETA = 0.4  # β of the importance weights at first; rises to 1 over the run


class DQN(ReplayingAgent, QLearning):
    """DQN with Stable-Baselines3's interface, for thousands of environments on one device.

    ``env`` is a :class:`BatchedEnv` (from :func:`palaestra.envs.make`), a Gymnasium environment, an SB3 ``VecEnv``, or
    an id (one environment, as in SB3). All other positional arguments are SB3's; the keywords are in the module.
    """

    sb3_twin = stable_baselines3.DQN
    searched: ClassVar[dict[str, float]] = {**SEARCHED, "samples_per_insert": 2.0, "target_update_interval": 4.0}
    policy_aliases: ClassVar[dict[str, Any]] = {
        **stable_baselines3.DQN.policy_aliases,
        "DuelingPolicy": DuelingPolicy,
    }
    _counters: ClassVar[tuple[str, ...]] = (*QLearning._counters, *ReplayingAgent._counters)
    _unsaved: ClassVar[tuple[str, ...]] = (*QLearning._unsaved, *ReplayingAgent._unsaved)

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: Any,
        learning_rate: ScheduledNonNegative = 1e-4,
        buffer_size: AtLeastOne = 1_000_000,
        learning_starts: Annotated[int, Ge(0)] = 100,
        batch_size: BatchSize = 32,
        tau: Probability = 1.0,
        gamma: Probability = 0.99,
        train_freq: AtLeastOne | tuple[int, str] = 4,
        gradient_steps: Annotated[int, Ge(-1), NotZero("nothing would be learned")] = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: AtLeastOne = 1,
        target_update_interval: AtLeastOne = 10_000,
        exploration_fraction: PartOfRun = 0.1,
        exploration_initial_eps: Probability = 1.0,
        exploration_final_eps: Probability = 0.05,
        max_grad_norm: NonNegative = 10.0,
        *,
        samples_per_insert: ReplayRatio | None = None,
        hindsight: Hindsight = 0,
        double_q: bool = False,
        huber_delta: Annotated[float, Ge(1e-6)] = 1.0,
        prioritized_replay: NonNegative = 0.0,
        exploration_spread: NonNegative = 0.0,
        normalize_observation: bool = False,
        normalize_reward: bool = False,
        weight_average: Probability = 0.0,
        symmetry: SymmetryUse = "none",
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **kwargs: Unpack[CommonOptions],
    ) -> None:
        env, device = prepare(env, device)
        self.samples_per_insert, self.double_q, self.huber_delta = samples_per_insert, double_q, huber_delta
        self.hindsight = hindsight
        self.prioritized_replay, self.exploration_spread = prioritized_replay, exploration_spread
        self.normalize_observation, self.normalize_reward = normalize_observation, normalize_reward
        self.weight_average, self.symmetry = weight_average, symmetry
        super().__init__(**arguments_for(stable_baselines3.DQN, locals()) | {"_init_setup_model": False})
        self.check_settings({"hindsight": hindsight, "prioritized_replay": prioritized_replay})
        self._check_replay_arguments()
        if _init_setup_model:
            self._setup_model()

    _json_arguments: ClassVar[tuple[str, ...]] = saved_arguments(__init__)

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any]) -> None:
        """Raise a ValueError if transitions would be drawn by priorities that goals have changed since."""
        if settings["hindsight"] and settings["prioritized_replay"]:
            raise ValueError(
                f"hindsight={settings['hindsight']} gives a transition another goal in each draw, so that it has no "
                f"priority of its own: leave prioritized_replay={settings['prioritized_replay']} out"
            )

    def _setup_model(self) -> None:
        self._setup_q_learning()
        self._setup_replay()

    def _memory_form(self) -> dict[str, Any]:
        size, alpha = Replay.rows_for(self._capacity(), self.n_envs) * self.n_envs, self.prioritized_replay
        priorities = Priorities(size, alpha, self.device) if alpha > 0.0 else None
        return {"num_actions": int(self.action_space.n), "priorities": priorities}  # type: ignore[attr-defined]

    def _store(self, place: int | Tensor, beside: Tensor, actions: Tensor, outcome: StepResult) -> None:
        self._keep(actions, outcome)

    def _on_step(self) -> None:
        """SB3's, which counts the steps of this process only, while the interval counts those of all processes."""
        interval = self.target_update_interval
        self.target_update_interval = interval // self._group.size
        super()._on_step()
        self.target_update_interval = interval

    @torch.no_grad()
    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Learn from replayed transitions. No synchronisation."""
        gradient_steps = self._due_steps(gradient_steps, batch_size)
        self._update_learning_rate(self.policy.optimizer)
        if gradient_steps == 0:
            return
        assert self.replay is not None
        self.policy.set_training_mode(True)
        total = torch.zeros(len(self._summaries), device=self.device)
        beta = 1.0 - (1.0 - _FIRST_BETA) * self._current_progress_remaining
        self._begin_update()
        for _ in range(gradient_steps):
            total += self._learn_from_replay(self.replay, self._group.share(batch_size, "batch_size"), beta)
        self._losses = total / gradient_steps
        self._n_updates += gradient_steps

    def _learn_from_replay(self, replay: Replay, batch_size: int, beta: float) -> Tensor:
        def gradients(index: Tensor, weights: Tensor | None) -> Tensor:
            return self._gradients(replay.gather(index, weights))

        return self._descend(self._recorded(gradients, *self._dealt(*replay.draw(batch_size, beta))))

    def _update(self, batch: Transitions) -> Tensor:
        """One gradient step; the numbers named in ``_summaries`` [3]."""
        return self._descend(self._gradients(batch))

    def _gradients(self, batch: Transitions) -> Tensor:
        """Set the gradients of a batch's loss; see :meth:`_descent`."""
        obs, actions, _ = self._in_frames(self._stored.observe(batch.content), batch.actions)
        q_values = self._online.forward(obs)
        targets = self._targets(batch)
        error = q_values.gather(1, actions.unsqueeze(1)).squeeze(1) - targets
        losses = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.huber_delta)
        count = (batch.weights > 0).sum()
        shares = batch.weights / count.clamp(min=1)
        grad_chosen = error.clamp(-self.huber_delta, self.huber_delta) * shares
        assert self.replay is not None
        if self.replay.priorities is not None:
            self.replay.priorities.update(batch.indices, -error)
        return self._descent((losses * shares).sum(), q_values, actions, grad_chosen, count)

    @without_gradients
    def _targets(self, batch: Transitions) -> Tensor:
        """R + γ^m max_a Q'(s', a) of each transition, float32 [B]; see replay for R and m."""
        obs, mask = self._stored.observe(batch.next_content), self._stored.action_masks(batch.next_content)
        values = self._target.infer(obs)
        if self.double_q:
            best = masked(self._online.infer(obs), mask).argmax(1, keepdim=True)
            value = values.gather(1, best).squeeze(1)
        else:
            value = masked(values, mask).amax(1)
        scale = self._reward_scale
        returns = batch.returns if scale is None else scale.scale(batch.returns)
        # a mask may forbid everything after the end of an episode: −∞ there, times 0
        return returns + torch.where(batch.discounts != 0.0, batch.discounts * value, 0.0)
