"""A lesson: whom an agent learns from, for how long, and whose actions are played meanwhile.

A teacher is any function of a batch of environments and its observations to actions, in the environment's own numbers
and units: an environment's expert, a trained agent, an exported policy. It is asked for an action in every state, also
where another one is played.

Source: Ross, Gordon and Bagnell, "A reduction of imitation learning and structured prediction to no-regret online
learning", AISTATS 2011 (DAgger; :attr:`Lesson.share` is its β).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor

from palaestra.agents.imitation.demonstrations import Demonstrations
from palaestra.envs.core import BatchedEnv, TensorVectorEnv

Teacher = Callable[[BatchedEnv, Any], Tensor]
"""Actions [N, …] for the observations [N, …] of a batch, in the environment's own numbers and units."""


@dataclass(frozen=True)
class Lesson:
    """What is learned before reinforcement learning begins.

    Attributes:
        teacher: whose actions are cloned, or the recorded episodes that are.
        steps: environment steps of the lesson, counted over all environments from the first of the run.
        share: the teacher's share of the actions that are played, from what is left of the lesson (1 → 0). 1 throughout
            is plain behaviour cloning, in states that the teacher visits. Of recorded episodes it means nothing.
        score: the teacher's mean return in so many episodes of a seed; None if nobody asks.
    """

    teacher: Teacher | Demonstrations
    steps: int
    share: Schedule = field(default_factory=lambda: LinearSchedule(1.0, 0.0, 1.0))
    score: Callable[[int, int], float] | None = None


def expert_of(batch: BatchedEnv, obs: Any) -> Tensor:
    """The scripted policy of the environment itself, as a :data:`Teacher`.

    Raises:
        ValueError: if it has none.
    """
    if not isinstance(batch, TensorVectorEnv) or not batch.env.has("expert"):
        raise ValueError("this environment has no expert: name another teacher")
    actions: Tensor = batch.env.expert(batch.state)
    return actions
