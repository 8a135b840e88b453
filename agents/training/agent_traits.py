"""The facts about an agent that the command line, searches and benchmarks ask its class for.

An agent, ours or a plug-in's, is a class with these; nothing else in palaestra knows agents by their names. The list of
agents is in :mod:`palaestra.train.config`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from gymnasium import Space, spaces
from torch import Tensor

from palaestra.agents.buffers.stored_observations import replay_keeps_states
from palaestra.envs.core import BatchedEnv
from palaestra.envs.core.rng import Rng

_SEARCHED = {"learning_rate": 5.0, "ent_coef": 5.0, "clip_range": 2.0, "n_epochs": 2.0}


class AgentTraits:
    """Stands for an agent that learns a policy from rollouts; others say what differs."""

    keeps_replay: ClassVar[bool] = (
        False  # learns from a replay memory of ``buffer_size`` transitions, not from rollouts
    )
    acts_in: ClassVar[str] = "discrete or bounded actions"  # what :meth:`can_act` takes, for messages
    sb3_twin: ClassVar[type | None] = None  # the same algorithm with the same arguments, beside which a bench puts it
    net_arch: ClassVar[Sequence[int] | None] = (64, 64)  # hidden layers if nothing is said; None: no simple width
    searched: ClassVar[Mapping[str, float]] = (
        _SEARCHED  # a sweep goes from the preset's value divided by that to × that
    )
    remembers: ClassVar[bool] = False  # acts by :meth:`act_remembering`, since it has a memory of the episode
    presets: ClassVar[Mapping[str, Any]] = {}  # by environment id, see :mod:`palaestra.train.config.presets`
    batch: BatchedEnv
    remarks: tuple[str, ...] = ()  # lines for the user where a run begins

    @classmethod
    def can_act(cls, space: Space[Any]) -> bool:
        """True if the agent can learn to act in ``space``."""
        if isinstance(space, spaces.Box):
            return space.is_bounded()
        return isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)

    @classmethod
    def check_settings(cls, settings: Mapping[str, Any]) -> None:
        """Raise a ValueError unless the constructor's arguments, all of them by name, fit each other."""

    def act(self, obs: Any, rng: Rng | None = None, mask: Tensor | None = None) -> Tensor:
        """Actions [N, …] in the environment's own numbers and units, for observations [N, …] on the device.

        The best action, or with ``rng`` (one key per row) one as it is taken while training; ``mask`` bool [N, A] names
        the legal ones. The tensor twin of :meth:`predict`.
        """
        raise NotImplementedError

    @property
    def main_optimizer(self) -> Any:
        """The optimizer whose steps count as gradient steps."""
        return self.policy.optimizer  # type: ignore[attr-defined]

    def new_memory(self, rows: int) -> Tensor:
        """The memories of an agent that ``remembers`` at the beginning of so many episodes, [rows, …]."""
        raise NotImplementedError

    def act_remembering(
        self, obs: Any, memory: Tensor, rng: Rng | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """:meth:`act` of an agent that ``remembers``, and the memories [N, …] after the observations.

        ``memory`` is that before them: from the call before, :meth:`new_memory` where an episode begins.
        """
        raise NotImplementedError

    def steps_per_iteration(self) -> int:
        """Steps of each environment between two updates."""
        return int(self.n_steps)  # type: ignore[attr-defined]

    def stores_states(self) -> bool:
        """True if states of the environments are kept, from which the observations are computed again."""
        rollout = getattr(self, "rollout_buffer", None)
        return replay_keeps_states(self.batch) if rollout is None else rollout.store is not None
