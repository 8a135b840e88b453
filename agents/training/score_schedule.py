"""Schedules that follow the score as well as time: they fall as the gap between training and the optimum closes.

A :class:`ScoreSchedule` is at its start while nothing is known, and at its end when the run is over or the optimum is
reached, whichever comes first. The gap is that of the latest training episodes, which checkpoints hold: a resumed run
has the same values, and held-out episodes have no say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule

from palaestra.agents.episode_stats import episode_means
from palaestra.envs.core import TensorVectorEnv

_SCHEDULED = ("lr_schedule", "ent_coef_schedule", "clip_range", "clip_range_vf")  # attributes of agents


class ScoreSchedule:
    """end + (start − end) · min(what is left of the run, gap).

    Attributes:
        gap: 1 for the score of random play or worse, 0 for the optimum; the agent sets it.
    """

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end, self.gap = start, end, 1.0

    def __call__(self, progress_remaining: float) -> float:
        return self.start + (1.0 - min(progress_remaining, self.gap)) * (self.end - self.start)

    def __reduce__(self) -> tuple[Any, ...]:
        """Linear in time for vanilla Stable-Baselines3, for which a part of model files is."""
        return LinearSchedule, (self.start, self.end, 1.0)

    def __repr__(self) -> str:
        return f"ScoreSchedule(start={self.start}, end={self.end})"


class ScheduledAgent(BaseAlgorithm):
    """An agent whose schedules end with its run, also where whole rollouts take more steps than were asked for.

    Stable-Baselines3 says of a schedule's argument that it falls from 1 to 0, and goes on below: a learning rate that
    is a multiple of it is negative in such a run's last update.
    """

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        self._current_progress_remaining = max(0.0, self._current_progress_remaining)


def follow_score(model: Any) -> None:
    """Set the gap of the agent's schedules from its latest training episodes; 1 where nothing is known."""
    schedules = [*_schedules(model)]
    if not schedules:
        return
    gap, batch = 1.0, model.batch
    means = episode_means(model.ep_info_buffer or (), model.n_envs * model._group.size)
    if "rollout/ep_rew_mean" in means and isinstance(batch, TensorVectorEnv):
        percent = batch.env.reference.percent_of_optimal(means["rollout/ep_rew_mean"])
        gap = 1.0 if percent is None else min(1.0, max(0.0, 1.0 - percent / 100.0))
    for schedule in schedules:
        schedule.gap = gap


def _schedules(model: Any) -> Iterator[ScoreSchedule]:
    for name in _SCHEDULED:
        value = getattr(model, name, None)
        inner = value.value_schedule if isinstance(value, FloatSchedule) else value
        if isinstance(inner, ScoreSchedule):
            yield inner
