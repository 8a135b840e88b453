"""Behaviour cloning on the device: the policy of a teacher, or of recorded episodes, as a network of one's own.

1. With a teacher, thousands of environments are stepped and it is asked in every state (DAgger unless ``teacher_share``
   is 1 throughout): :mod:`palaestra.agents.imitation.taught_ppo`.
2. With recorded episodes (:class:`~palaestra.agents.imitation.demonstrations.Demonstrations`) no environment is
   stepped: a step is a transition that is drawn from them and learned from.
3. The network is PPO's, actor and critic, so PPO can go on from the file (``--init-from``), and vanilla
   Stable-Baselines3 opens it with its PPO.

Sources: Pomerleau, "ALVINN: an autonomous land vehicle in a neural network", 1989, for the cloning; Ross, Gordon and
Bagnell, 2011, for DAgger.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Unpack

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import FloatSchedule

from palaestra.agents.buffers.stored_observations import RolloutStorage
from palaestra.agents.imitation.demonstrations import Demonstrations
from palaestra.agents.imitation.lesson import Lesson, Teacher, expert_of
from palaestra.agents.imitation.taught_ppo import TaughtPPO
from palaestra.agents.options import (
    AtLeastOne,
    BatchSize,
    CommonOptions,
    NonNegative,
    Probability,
    ScheduledNonNegative,
    saved_arguments,
)
from palaestra.agents.symmetry.symmetric_agent import SymmetryUse


class BC(TaughtPPO):
    """Cloning of a teacher, with Stable-Baselines3's interface; see the module.

    ``env`` is what PPO takes; ``teacher`` a function of a batch and its observations to actions, or recorded episodes;
    the environment's own expert if nothing is said.
    """

    saved_as: ClassVar[str] = "BC"
    searched: ClassVar[dict[str, float]] = {"learning_rate": 5.0, "n_epochs": 2.0}

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: Any,
        learning_rate: ScheduledNonNegative = 1e-3,
        n_steps: AtLeastOne = 32,
        batch_size: BatchSize = 256,
        n_epochs: AtLeastOne = 4,
        gamma: Probability = 0.99,
        gae_lambda: Probability = 0.95,
        vf_coef: NonNegative = 0.5,
        max_grad_norm: NonNegative = 0.5,
        *,
        teacher_share: ScheduledNonNegative = 0.5,
        normalize_observation: bool = False,
        normalize_reward: bool = False,
        scale_actions: bool = False,
        rollout_storage: RolloutStorage = "auto",
        symmetry: SymmetryUse = "none",
        teacher: Teacher | Demonstrations | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        **kwargs: Unpack[CommonOptions],
    ) -> None:
        self.teacher, self.teacher_share = teacher, teacher_share
        given = {name: value for name, value in locals().items() if name in _OF_PPO}
        super().__init__(**given, _init_setup_model=_init_setup_model, **kwargs)

    _json_arguments: ClassVar[tuple[str, ...]] = tuple(n for n in saved_arguments(__init__) if n != "teacher")

    def _setup_learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        total, callback = super()._setup_learn(total_timesteps, *args, **kwargs)
        lesson = self.lesson or Lesson(self.teacher or expert_of, total)
        if lesson.teacher is expert_of:
            expert_of(self.batch, self._last_obs)  # raises where there is none
        self.begin_lesson(replace(lesson, steps=total, share=FloatSchedule(self.teacher_share)))
        return total, callback

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "teacher"]


_OF_PPO = {*saved_arguments(BC.__init__), "policy", "env", "device"} - {"teacher", "teacher_share"}
