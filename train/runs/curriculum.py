"""The environments of a run's training and, where it goes through stages, the way from one to the next.

Whether the next stage begins is decided between two iterations from what a checkpoint holds (the window of the latest
episodes), so a resumed run goes on at the same step; and from numbers that all processes share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

from palaestra.agents.distributed.process_group import process_group
from palaestra.agents.episode_stats import episode_means
from palaestra.agents.training.stages import StagedVecEnv, begin_stage
from palaestra.envs.core import BatchedEnv, Reference
from palaestra.train.config.curriculum import RETURN, SUCCESS, Curriculum, curriculum_of, stage_kwargs
from palaestra.train.config.run_config import RunConfig
from palaestra.train.runs.parallel.torchrun import device_of

Environments = BatchedEnv | StagedVecEnv
_AT, _PERCENT = 0.9, 90.0


def training_environments(config: RunConfig) -> Environments:
    """Those of this process, of which each has an index among all; they begin with the first stage."""
    count, device, place = process_group().share(config.num_envs, "num_envs"), device_of(config.device), {}
    if process_group().size > 1:
        place = {"first_env_index": process_group().rank * count}

    def make(kwargs: dict[str, Any]) -> BatchedEnv:
        return config.resolved_env.open(count, device, config.seed, **kwargs, **place, compile=config.compile)

    found = curriculum_of(config.curriculum)
    if found is None:
        return make(config.env_kwargs)
    arguments = [stage_kwargs(config.resolved_env, config.env_kwargs, stage) for stage in found.stages]
    return StagedVecEnv(lambda stage: make(arguments[stage]), len(arguments))


class CurriculumCallback(BaseCallback):
    """Begins the next stage where the latest episodes of training are good enough, and logs the stage, from 1 on."""

    def __init__(self, config: RunConfig, curriculum: Curriculum, tell: Callable[[str], None]) -> None:
        """``tell`` takes a line for the user."""
        super().__init__()
        self._curriculum, self._tell = curriculum, tell
        env, kwargs = config.resolved_env, config.env_kwargs
        arguments = [stage_kwargs(env, kwargs, stage) for stage in curriculum.stages]
        self._references: list[Reference] = [env.reference(each) for each in arguments]

    def plan(self) -> str:
        """The stages in a line."""
        stages = [self._curriculum.told(stage) for stage in range(len(self._curriculum.stages))]
        return f"training goes through {len(stages)} stages: {'; '.join(stages)}; evaluations are those of the last"

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        """Between two iterations: nothing is half done."""
        env: Any = self.model.env
        assert isinstance(env, StagedVecEnv)
        passed = self._passed(env.stage) if env.stage + 1 < env.count else None
        if passed is None:
            return
        begin_stage(self.model, env.stage + 1)
        told = self._curriculum.told(env.stage)
        self._tell(f"step {self.num_timesteps:,}: stage {env.stage + 1} of {env.count}, {told}, after {passed}")

    def _means(self) -> dict[str, float]:
        """Of the latest episodes of the stage; nothing while only short ones can have ended."""
        return episode_means(self.model.ep_info_buffer or (), self.model.n_envs * process_group().size)

    def _reached(self, stage: int, means: dict[str, float]) -> float | None:
        """Their return in per cent of the stage's optimum; None if unknown."""
        return self._references[stage].percent_of_optimal(means[RETURN]) if RETURN in means else None

    def _passed(self, stage: int) -> str | None:
        """How well the latest episodes of the stage went, if that is enough; else None."""
        means = self._means()
        at, percent, score = self._curriculum.at, self._curriculum.percent, self._curriculum.score
        if score is not None:
            good = RETURN in means and means[RETURN] >= score
            return f"a mean return of {means[RETURN]:.4g}" if good else None
        if percent is None and SUCCESS in means:
            return f"{100 * means[SUCCESS]:.0f} % successes" if means[SUCCESS] >= (at or _AT) else None
        reached = self._reached(stage, means) if at is None else None
        return None if reached is None or reached < (percent or _PERCENT) else f"{reached:.0f} % of the optimum"

    def _on_rollout_end(self) -> None:
        """Runs between collection and logging."""
        env: Any = self.model.env
        self.logger.record("rollout/stage", env.stage + 1)
        if (reached := self._reached(env.stage, self._means())) is not None:
            self.logger.record("rollout/percent_of_optimal", reached)


def curriculum_callback(config: RunConfig, tell: Callable[[str], None]) -> CurriculumCallback | None:
    """The callback of a run with stages; None for one without."""
    found = curriculum_of(config.curriculum)
    return None if found is None else CurriculumCallback(config, found, tell)
