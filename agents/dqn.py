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

import warnings
from typing import Annotated, Any, ClassVar, Unpack

import stable_baselines3
import torch
import torch.nn.functional as F
from annotated_types import Ge
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor

from palaestra.agents.buffers.prioritized import Priorities
from palaestra.agents.buffers.replay import Content, Replay, Transitions
from palaestra.agents.buffers.stored_observations import store_for
from palaestra.agents.checkpoints.replay_file import read_replay, write_replay
from palaestra.agents.graphs.slots import Attribute
from palaestra.agents.networks.extractors import DuelingPolicy
from palaestra.agents.networks.manual_mlp import without_gradients
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

_RARELY = 0.25  # samples per insert below which most transitions are never replayed
_FIRST_BETA = 0.4  # β of the importance weights at first; rises to 1 over the run
ReplayRatio = Annotated[float, Ge(0), NotZero("must be above 0, or null to count gradient_steps")]
_CHECKED_AT_ONCE = 1 << 14  # stored moments of a file


def _form(content: Content) -> dict[str, Any]:
    """Types and shapes of stored moments, which differ where the environments were exchanged for another kind."""
    return {name: (part.dtype, part.shape[1:]) for name, part in content.items()}


class DQN(QLearning):
    """DQN with Stable-Baselines3's interface, for thousands of environments on one device.

    ``env`` is a :class:`BatchedEnv` (from :func:`palaestra.envs.make`), a Gymnasium environment, an SB3 ``VecEnv``, or
    an id (one environment, as in SB3). All other positional arguments are SB3's; the keywords are in the module.
    """

    keeps_replay, sb3_twin = True, stable_baselines3.DQN
    searched: ClassVar[dict[str, float]] = {**SEARCHED, "samples_per_insert": 2.0, "target_update_interval": 4.0}
    policy_aliases: ClassVar[dict[str, Any]] = {
        **stable_baselines3.DQN.policy_aliases,
        "DuelingPolicy": DuelingPolicy,
    }
    _counters: ClassVar[tuple[str, ...]] = (*QLearning._counters, "_owed")
    _unsaved: ClassVar[tuple[str, ...]] = (*QLearning._unsaved, "replay", "_stored", "_just_loaded")

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
        self.prioritized_replay, self.exploration_spread = prioritized_replay, exploration_spread
        self.normalize_observation, self.normalize_reward = normalize_observation, normalize_reward
        self.weight_average, self.symmetry = weight_average, symmetry
        super().__init__(**arguments_for(stable_baselines3.DQN, locals()) | {"_init_setup_model": False})
        self._check_arguments()
        if _init_setup_model:
            self._setup_model()

    _json_arguments: ClassVar[tuple[str, ...]] = saved_arguments(__init__)

    def _check_arguments(self) -> None:
        if self.replay_buffer_class is not None or self.replay_buffer_kwargs:
            raise ValueError("replay_buffer_class must be None: transitions are kept in tensors on the device")
        if self.n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {self.n_steps}")
        if self.samples_per_insert is not None and self.samples_per_insert < 0:
            raise ValueError(f"samples_per_insert must be at least 0, got {self.samples_per_insert}")
        if self.samples_per_insert is not None and self.gradient_steps == 0:
            raise ValueError("gradient_steps=0 learns nothing; leave it out, samples_per_insert counts the steps")
        self._check_device()

    def _setup_model(self) -> None:
        self._setup_q_learning()
        self._owed = 0.0  # samples that are still to be replayed
        self.replay: Replay | None = None
        self._just_loaded = False  # from a file that has not been compared with the environments
        if self.samples_per_insert is None and 0.0 < self._replayed_per_insert() < _RARELY:
            warnings.warn(
                f"a transition is replayed {self._replayed_per_insert():.3g} times on average with {self.n_envs} "
                f"environments: set samples_per_insert, which does not depend on their number",
                stacklevel=3,
            )

    def _replayed_per_insert(self) -> float:
        """The update-to-data ratio that the settings amount to."""
        if self.samples_per_insert is not None:
            return self.samples_per_insert
        collected = self._train_frequency * self.n_envs * self._group.size
        return (self.gradient_steps if self.gradient_steps >= 0 else collected) * self.batch_size / collected

    def _episodes_began(self) -> None:
        super()._episodes_began()
        self._stored = store_for(self.batch, self._last_obs)
        content = self._stored.current(self._last_obs)
        if self.replay is not None and self._just_loaded:
            self._compare(self.replay, content)
        if self.replay is not None and _form(self.replay.content) == _form(content):
            self.replay.restart(content)
            return
        self.replay = self._empty_replay(content)

    def _compare(self, replay: Replay, content: Content) -> None:
        """Raise a ValueError unless a memory from a file holds what these environments' moments are."""
        if _form(replay.content) != _form(content):
            raise ValueError("the replay memory in the file holds other contents than these environments have")
        self._check_moments(replay)
        self._just_loaded = False

    def _empty_replay(self, content: Content) -> Replay:
        capacity = -(-self.buffer_size // self._group.size)  # this process's part
        size = Replay.rows_for(capacity, self.n_envs) * self.n_envs
        alpha = self.prioritized_replay
        return Replay(
            capacity,
            content,
            num_actions=int(self.action_space.n),  # type: ignore[attr-defined]
            gamma=self.gamma,
            n_steps=self.n_steps,
            priorities=Priorities(size, alpha, self.device) if alpha > 0.0 else None,
            looks=self._looks,
        )

    def _store(self, place: int | Tensor, q_values: Tensor, actions: Tensor, outcome: StepResult) -> None:
        new_obs, rewards, terminated, truncated, info = outcome
        assert self.replay is not None
        if self._reward_scale is not None:
            self._reward_scale.learn(rewards, terminated | truncated)
        final = self._stored.final(info["final_obs"])
        self.replay.put(actions, rewards, terminated, truncated, final, self._stored.current(new_obs))

    def _count_step(self) -> None:
        self.replay.steps += 1  # type: ignore[union-attr]

    def _rebound(self) -> list[Attribute]:
        return [*super()._rebound(), *([] if self.replay is None else self.replay.rebound())]

    def _extra_training_state(self) -> dict[str, Any]:
        return super()._extra_training_state() | {"replay": None if self.replay is None else self.replay.state_dict()}

    def _set_extra_training_state(self, saved: dict[str, Any]) -> None:
        super()._set_extra_training_state(saved)
        if saved["replay"] is None:
            return
        replay = self._replay_of(saved["replay"])
        if saved["batch"] is not None:  # else the next call of learn() looks at it
            self._stored = store_for(self.batch, self._last_obs)
            self._compare(replay, self._stored.current(self._last_obs))
        self.replay = replay

    def _replay_of(self, saved: dict[str, Any]) -> Replay:
        """The memory of a file; raises a ValueError if it is of another size, or holds what no memory does."""
        size = Replay.rows_for(-(-self.buffer_size // self._group.size), self.n_envs) * self.n_envs
        for name, part in saved["content"].items():
            if not part.dim() or len(part) != size:
                raise ValueError(f"replay.{name} has the form {tuple(part.shape)} in the file, {size} moments here")
        replay = self._empty_replay({name: part[: self.n_envs] for name, part in saved["content"].items()})
        replay.load_state_dict(saved)
        return replay

    def save_replay_buffer(self, path: Any) -> None:
        """Write the replay memory, whole or not at all; ``.pkl`` is added as SB3 does, but nothing is pickled.

        Raises:
            ValueError: if there is none yet, or each of several processes has a part.
        """
        if self.replay is None:
            raise ValueError("there is no replay memory before learn() has begun")
        if self._group.size > 1:
            raise ValueError("each process has a part of the replay memory: save_checkpoint() keeps all")
        write_replay(path, self.replay.state_dict(), self)

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True) -> None:
        """Go on with the memory of a file that :meth:`save_replay_buffer` wrote; nothing in it is executed.

        Args:
            path: as it was given to :meth:`save_replay_buffer`.
            truncate_last_traj: False: episodes that are running go on, if the environments are where the file's were.
                Where the next call of ``learn`` resets them, and wherever they differ, the file's are cut.

        Raises:
            CheckpointError: if the file is damaged, not ours, or of another form; the present memory is kept then.
        """

        def use(saved: dict[str, Any]) -> None:
            replay = self._replay_of(saved)
            self._just_loaded = True
            starts: Any = self._last_episode_starts
            if isinstance(starts, Tensor):  # in the middle of episodes
                content = self._stored.current(self._last_obs)
                self._compare(replay, content)
                if truncate_last_traj or not replay.ends_at(content):
                    replay.restart(content)
            self.replay = replay

        read_replay(path, self, use)

    @torch.no_grad()
    def _check_moments(self, replay: Replay) -> None:
        """Observe every stored moment, which raises where a file holds states that the environment never had."""
        for start in range(0, replay.rows * replay.num_envs, _CHECKED_AT_ONCE):
            content = {name: stored[start : start + _CHECKED_AT_ONCE] for name, stored in replay.content.items()}
            self._stored.observe(content)
            self._stored.action_masks(content)

    def _on_step(self) -> None:
        """SB3's, which counts the steps of this process only, while the interval counts those of all processes."""
        interval = self.target_update_interval
        self.target_update_interval = interval // self._group.size
        super()._on_step()
        self.target_update_interval = interval

    @torch.no_grad()
    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """Learn from replayed transitions. No synchronisation."""
        if self.samples_per_insert is not None:
            self._owed += self.samples_per_insert * self._train_frequency * self.n_envs * self._group.size
            gradient_steps = int(self._owed // batch_size)
            self._owed -= gradient_steps * batch_size
        self._update_learning_rate(self.policy.optimizer)
        self.logger.record("train/n_updates", self._n_updates + gradient_steps, exclude="tensorboard")
        self.logger.record("train/samples_per_insert", self._replayed_per_insert())
        if gradient_steps == 0:
            return
        assert self.replay is not None
        self.policy.set_training_mode(True)
        total = torch.zeros(len(self._summaries), device=self.device)
        beta = 1.0 - (1.0 - _FIRST_BETA) * max(0.0, self._current_progress_remaining)
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
        return returns + torch.where(batch.discounts > 0.0, batch.discounts * value, 0.0)
