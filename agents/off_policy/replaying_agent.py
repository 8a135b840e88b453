"""The base of agents with a replay memory on the device: DQN, SAC and TD3.

1. Transitions are kept in :class:`~palaestra.agents.buffers.replay.Replay`, as observations or as states of the
   environments (:mod:`palaestra.agents.buffers.stored_observations`).
2. ``samples_per_insert`` is the update-to-data ratio: how often a transition is replayed on average. An iteration makes
   samples_per_insert · train_freq · N / batch_size gradient steps (what is left over counts for the next). Without it
   ``train_freq`` and ``gradient_steps`` mean what they mean in SB3.
3. The memory is a part of the training state; it can be written and read by itself.
4. ``hindsight`` k > 0 replays k transitions with goals that were achieved for each one with the goal that was asked for
   (:mod:`palaestra.agents.buffers.hindsight`), in Gymnasium's goal environments.

Source: ``samples_per_insert`` as in Cassirer et al., "Reverb", 2021.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from palaestra.agents.buffers.replay import Content, Replay
from palaestra.agents.buffers.stored_observations import MomentStore, store_for
from palaestra.agents.checkpoints.replay_file import read_replay, write_replay
from palaestra.agents.graphs.slots import Attribute
from palaestra.agents.off_policy.stepping_agent import SteppingAgent
from palaestra.agents.options import NotZero
from palaestra.envs.core import EnvError, StepResult
from palaestra.envs.goals import check_goals

_RARELY = 0.25  # samples per insert below which most transitions are never replayed
Hindsight = Annotated[int, Ge(0)]
ReplayRatio = Annotated[float, Ge(0), NotZero("must be above 0, or null to count gradient_steps")]
_CHECKED_AT_ONCE = 1 << 14  # stored moments of a file


def _form(content: Content) -> dict[str, Any]:
    """Types and shapes of stored moments, which differ where the environments were exchanged for another kind."""
    return {name: (part.dtype, part.shape[1:]) for name, part in content.items()}


class ReplayingAgent(SteppingAgent):
    """See the module."""

    keeps_replay = True
    samples_per_insert: float | None
    hindsight: int
    buffer_size: Any
    gradient_steps: int
    batch_size: int
    replay_buffer_class: Any
    replay_buffer_kwargs: Any
    replay: Replay | None
    _stored: MomentStore
    _counters: ClassVar[tuple[str, ...]] = ("_steps_collected", "_noise_seed", "_owed")
    _unsaved: ClassVar[tuple[str, ...]] = (*SteppingAgent._unsaved, "replay", "_stored", "_just_loaded")

    def _check_replay_arguments(self) -> None:
        if self.replay_buffer_class is not None or self.replay_buffer_kwargs:
            raise ValueError("replay_buffer_class must be None: transitions are kept in tensors on the device")
        if self.n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {self.n_steps}")
        if self.samples_per_insert is not None and self.samples_per_insert < 0:
            raise ValueError(f"samples_per_insert must be at least 0, got {self.samples_per_insert}")
        if self.samples_per_insert is not None and self.gradient_steps == 0:
            raise ValueError("gradient_steps=0 learns nothing; leave it out, samples_per_insert counts the steps")
        if self.hindsight < 0:
            raise ValueError(f"hindsight must be at least 0, got {self.hindsight}")
        self._check_device()

    def _attach(self, env: VecEnv) -> None:
        super()._attach(env)
        if not self.hindsight:
            return
        try:
            check_goals(self.batch)
        except EnvError as error:
            raise ValueError(f"hindsight={self.hindsight}: {error}; leave it out") from error

    def _setup_replay(self) -> None:
        self._owed = 0.0  # samples that are still to be replayed
        self.replay = None
        self._just_loaded = False  # from a file that has not been compared with the environments
        if self.samples_per_insert is None and 0.0 < self._replayed_per_insert() < _RARELY:
            warnings.warn(
                f"a transition is replayed {self._replayed_per_insert():.3g} times on average with {self.n_envs} "
                f"environments: set samples_per_insert, which does not depend on their number",
                stacklevel=4,
            )

    def _due_steps(self, gradient_steps: int, batch_size: int) -> int:
        """The gradient steps of this iteration, which SB3 would make ``gradient_steps``; writes of them to the log."""
        if self.samples_per_insert is not None:
            self._owed += self.samples_per_insert * self._train_frequency * self.n_envs * self._group.size
            gradient_steps = int(self._owed // batch_size)
            self._owed -= gradient_steps * batch_size
        self.logger.record("train/n_updates", self._n_updates + gradient_steps, exclude="tensorboard")
        self.logger.record("train/samples_per_insert", self._replayed_per_insert())
        return gradient_steps

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

    def _keep(self, actions: Tensor, outcome: StepResult) -> None:
        """Store a step of all environments."""
        new_obs, rewards, terminated, truncated, info = outcome
        assert self.replay is not None
        if self._reward_scale is not None:
            self._reward_scale.learn(rewards, terminated | truncated)
        final = self._stored.final(info["final_obs"])
        self.replay.put(actions, rewards, terminated, truncated, final, self._stored.current(new_obs))

    def _empty_replay(self, content: Content) -> Replay:
        """A new memory; raises a MemoryError if it does not fit."""
        form = {"gamma": self.discount, "n_steps": self.n_steps, "looks": self._looks, **self._memory_form()}
        if not self.hindsight:
            return Replay(self._capacity(), content, **form)
        from palaestra.agents.buffers.hindsight import HindsightReplay  # not needed by most runs

        def goal_rewards(achieved: Tensor, desired: Tensor) -> Tensor:
            return self.batch.goal_rewards(achieved, desired)  # environments may be exchanged

        return HindsightReplay(self._capacity(), content, hindsight=self.hindsight, goal_rewards=goal_rewards, **form)

    def _memory_form(self) -> dict[str, Any]:
        """Arguments of :class:`Replay`: the form of actions, priorities."""
        raise NotImplementedError

    def _capacity(self) -> int:
        """Transitions of this process's part of the memory."""
        return int(-(-self.buffer_size // self._group.size))

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
        size = Replay.rows_for(self._capacity(), self.n_envs) * self.n_envs
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
