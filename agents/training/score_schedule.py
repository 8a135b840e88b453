"""Schedules that follow the score as well as time: they fall as the gap between training and the optimum closes.

A :class:`ScoreSchedule` is at its start while nothing is known, and at its end when the run is over or the optimum is
reached, whichever comes first. The gap is that of the latest training episodes, which checkpoints hold: a resumed run
has the same values, and held-out episodes have no say.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

from stable_baselines3.common.utils import FloatSchedule, LinearSchedule

from palaestra.agents.episode_stats import episode_means
from palaestra.envs.core import TensorVectorEnv

_SCHEDULED = ("lr_schedule", "ent_coef_schedule", "clip_range", "clip_range_vf")  # attributes of agents


class ScoreSchedule:
    """end + (start − end) · min(what is left of the run, gap)."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end = start, end
        self._gap: Callable[[], float] = lambda: 1.0

    @property
    def gap(self) -> float:
        """1 for the score of random play or worse, or where nothing is known; 0 for the optimum."""
        return self._gap()

    def follow(self, gap: Callable[[], float]) -> None:
        """Take the gap from there."""
        self._gap = gap

    def __call__(self, progress_remaining: float) -> float:
        return self.start + (1.0 - min(progress_remaining, self.gap)) * (self.end - self.start)

    def __reduce__(self) -> tuple[Any, ...]:
        """Linear in time for vanilla Stable-Baselines3, for which a part of model files is."""
        return LinearSchedule, (self.start, self.end, 1.0)

    def __repr__(self) -> str:
        return f"ScoreSchedule(start={self.start}, end={self.end})"


def follow_score(model: Any) -> None:
    """Let the agent's schedules of this kind follow its training episodes."""
    for schedule in _schedules(model):
        schedule.follow(functools.partial(_gap_of, model))


def _gap_of(model: Any) -> float:
    """The gap of the latest training episodes."""
    means = episode_means(model.ep_info_buffer or (), model.n_envs * model._group.size)
    if "rollout/ep_rew_mean" not in means or not isinstance(model.batch, TensorVectorEnv):
        return 1.0
    percent = model.batch.env.reference.percent_of_optimal(means["rollout/ep_rew_mean"])
    return 1.0 if percent is None else min(1.0, max(0.0, 1.0 - percent / 100.0))


def _schedules(model: Any) -> Iterator[ScoreSchedule]:
    for name in _SCHEDULED:
        value = getattr(model, name, None)
        inner = value.value_schedule if isinstance(value, FloatSchedule) else value
        if isinstance(inner, ScoreSchedule):
            yield inner
