"""Training in stages: an agent goes on in other environments, from fresh episodes, between two iterations.

:class:`StagedVecEnv` makes the environments of a stage when it begins; :func:`begin_stage` brings the agent there. What
the agent has learned stays: weights, optimizer, statistics of rewards. Its scores begin anew, and so does a replay
memory whose contents have another form. The stage is part of a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from palaestra.agents.training.score_schedule import follow_score
from palaestra.envs.core import BatchedEnv
from palaestra.envs.interop.sb3_vec_env import SB3VecEnv


class StagedVecEnv(SB3VecEnv):
    """Environments that are others from stage to stage, with the same spaces.

    Attributes:
        stage: 0 … ``count`` − 1.
    """

    def __init__(self, make: Callable[[int], BatchedEnv], count: int) -> None:
        """``make`` gives the environments of a stage."""
        self._make, self.count, self.stage = make, count, 0
        super().__init__(make(0))

    @property
    def device(self) -> torch.device:
        return self.batch.device

    def go_to(self, stage: int) -> None:
        """Have the environments of that stage, which have not begun.

        Raises:
            ValueError: if there is no such stage, or its environments have other spaces.
        """
        if type(stage) is not int or not 0 <= stage < self.count:
            raise ValueError(f"there is no stage {stage!r}, only 0 … {self.count - 1}")
        if stage == self.stage:
            return
        made = self._make(stage)
        if (made.single_observation_space, made.single_action_space) != (self.observation_space, self.action_space):
            raise ValueError(f"the environments of stage {stage} have other spaces than those before")
        self.batch.close()
        self.batch, self.stage = made, stage


def begin_stage(model: Any, stage: int) -> None:
    """Between two iterations: let an agent on :class:`StagedVecEnv` go on in that stage."""
    model.env.go_to(stage)
    model._attach(model.env)
    obs, _ = model.batch.reset()
    model._last_obs = model._numbering.from_env(obs)
    model._last_episode_starts = torch.ones(model.n_envs, dtype=torch.bool, device=model.device)
    if model._reward_scale is not None:
        model._reward_scale.forget_episodes()
    model.ep_info_buffer.clear()
    follow_score(model)
    model._episodes_began()


def stage_of(model: Any) -> dict[str, int]:
    """The entry of a training state; nothing without stages."""
    return {"stage": model.env.stage} if isinstance(model.env, StagedVecEnv) else {}


def restore_stage(model: Any, saved: dict[str, Any]) -> None:
    """Let the agent's environments be those of a training state, whose episodes are loaded next.

    Raises:
        ValueError: if there is no such stage.
    """
    stage = saved.get("stage", 0)
    if isinstance(model.env, StagedVecEnv):
        model.env.go_to(stage)
        model._attach(model.env)
    elif stage != 0:
        raise ValueError(f"the training state is of stage {stage!r} of a curriculum, and the environments have none")
