"""Evaluations and checkpoints at regular intervals during training.

1. A tenth of the steps apart: an evaluation on episodes of its own seed, neither trained nor finally evaluated on; the
   agent with the best one so far is kept as ``best.zip``, in small games for two the one with the least exploitability.
   What goes wrong with one is told, and never ends training.
   With a rule by which training may end early they are half as far apart: a score is noticed after a fortieth of the
   steps on average, which on 6 × 6 Snake takes about as long as the ten evaluations that come on top of the others.
2. Between two iterations, every ``checkpoint_every``: a checkpoint, and ``model.zip`` from the same moment. Where
   saving takes long, distances in minutes grow until it takes less than ``SAVING_SHARE`` of the time.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import cast

from stable_baselines3.common.callbacks import BaseCallback

from palaestra.agents.distributed.process_group import process_group
from palaestra.agents.episode_stats import episode_means
from palaestra.agents.imitation.taught_ppo import TaughtPPO
from palaestra.agents.training.stages import StagedVecEnv
from palaestra.envs.core import EnvError
from palaestra.envs.core.user_code import RAISED, describe
from palaestra.train.config.compatibility import Agent
from palaestra.train.config.run_config import RunConfig
from palaestra.train.config.schema import checkpoint_interval
from palaestra.train.config.stop_rule import stop_rule
from palaestra.train.evaluation.episodes import VALIDATION_SEED as VALIDATION_SEED
from palaestra.train.evaluation.episodes import Evaluation, evaluate
from palaestra.train.evaluation.games.elo import EloLog
from palaestra.train.evaluation.games.exploitability import ExploitabilityLog
from palaestra.train.evaluation.policies import AgentPolicy, Tell, untold
from palaestra.train.evaluation.statistics import share_of
from palaestra.train.interruptions import Stopped, StopSignal
from palaestra.train.loggers.console import ProgressOutput
from palaestra.train.loggers.metric_names import moves_for_both
from palaestra.train.runs import checkpoints
from palaestra.train.runs.curves import TrainingEvaluation
from palaestra.train.runs.machine import process_seconds
from palaestra.train.runs.run_folder import RunFolder

EVALUATIONS = 10
EVALUATIONS_WITH_RULE = 20
EVALUATIONS_OF_SMALL_GAMES = 100  # where training ends with the first agent that is perfect
SAVING_SHARE = 0.02
_OF_TEACHER = "share_of_teacher_percent"


class StopRuleMet(Exception):  # noqa: N818  nothing went wrong
    """Training may end early; the message says why. Everything is saved."""


class EvalAndCheckpointCallback(BaseCallback):
    """See the module.

    Attributes:
        solved_after: age of the process, s, at the end of the first evaluation at ``solved_at`` or above.
        next_evaluation: takes place at the end of the first iteration with that many steps or more.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, solved_at: float | None, stop: StopSignal) -> None:
        super().__init__()
        self.config, self.folder, self.solved_at, self.stop = config, folder, solved_at, stop
        self._episodes = config.resolved_env.validation_episodes
        self._rule = stop_rule(config.stop_at, config.resolved_env, config.env_kwargs)
        count = EVALUATIONS if self._rule is None else EVALUATIONS_WITH_RULE
        if self._rule is not None and self._rule.unexploitable:
            count = EVALUATIONS_OF_SMALL_GAMES
        self._count, self._interval = count, max(1, config.total_timesteps // count)
        self.next_evaluation = self._interval
        self._leads = process_group().rank == 0  # the others only train, and save their shares
        self._best = folder.curves.best() if folder.best_file.is_file() else None
        self._steps, self._seconds = checkpoint_interval(config.checkpoint_every)
        self._save_at_step, self._save_at_time = math.inf, math.inf
        self.solved_after: float | None = None
        self._exploitability = ExploitabilityLog(config.resolved_env, config.evaluation_kwargs)
        self._elo = EloLog(config.resolved_env, config.env_kwargs)
        self._said = False  # what went wrong with evaluations
        self._found, self._since = folder.curves.evaluations(), time.perf_counter()
        self.seconds_before = folder.curves.seconds()  # of training, until it was interrupted

    def _on_training_start(self) -> None:
        self.next_evaluation = (self.num_timesteps // self._interval + 1) * self._interval
        self._plan_checkpoint(0.0)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        """Between two iterations: nothing is half done."""
        due, stop = process_group().request_save_or_stop(self._wishes)
        if due or stop:
            started = time.perf_counter()
            checkpoints.save(cast(Agent, self.model), self.folder)
            if self._leads:
                self.model.save(self.folder.model_file)  # after it: no model without a checkpoint in a killed run
            self._plan_checkpoint(time.perf_counter() - started)
        if stop:
            if self._rule is not None and self._rule.seconds < math.inf and self._leads and self._reason():
                self.look()  # the newest agent may be the best
            if reasons := [text for text in process_group().all_gather_text(self._reason() or "") if text]:
                raise StopRuleMet(reasons[0])
            raise Stopped

    def _wishes(self) -> tuple[bool, bool]:
        """Two flags, 0 or 1: a checkpoint is due, and training is to stop."""
        due = self.num_timesteps >= self._save_at_step or time.perf_counter() >= self._save_at_time
        return due, self.stop.requested or self._reason() is not None

    def _reason(self) -> str | None:
        """Says why training may end early; None if it is to go on."""
        if self._rule is None or not self._leads:
            return None
        lower_ends = [e.lower_end for e in self._found if e.lower_end is not None]
        exact = [e.exploitability for e in self._found if e.exploitability is not None]
        return self._rule.reason([e.mean_reward for e in self._found], lower_ends, self._seconds_so_far(), exact)

    def plan(self) -> str:
        """When training will end early; empty if it will not."""
        return "" if self._rule is None else self._rule.plan()

    def show_on(self, progress: ProgressOutput) -> None:
        """Give the display what it shows of the evaluations and of the end."""
        found = [(evaluation.step, evaluation.mean_reward) for evaluation in self._found]
        progress.plan_evaluations(self._count, self._interval, lambda: self.next_evaluation, found)
        progress.seconds = self.seconds_at_most()

    def seconds_at_most(self) -> float:
        """Seconds from now after which training ends at the latest; infinite without such a rule."""
        return math.inf if self._rule is None else self._rule.seconds - self._seconds_so_far()

    def _seconds_so_far(self) -> float:
        """Seconds of training, before a resumption too."""
        return self.seconds_before + time.perf_counter() - self._since

    def seconds_left(self) -> float:
        """About how many seconds the steps take that are not taken yet."""
        left = max(0, self.config.total_timesteps - self.num_timesteps)
        return left * self._seconds_so_far() / max(1, self.num_timesteps)

    def _plan_checkpoint(self, cost: float) -> None:
        """The next one, after one that took ``cost`` seconds."""
        if self._steps < math.inf:
            self._save_at_step = (self.num_timesteps // self._steps + 1) * self._steps
        self._save_at_time = time.perf_counter() + max(self._seconds, cost / SAVING_SHARE)
        if self._seconds == math.inf:
            self._save_at_time = math.inf

    def _on_rollout_end(self) -> None:
        """Runs between collection and logging, so that the numbers are part of the iteration's row."""
        if self.model.num_timesteps < self.next_evaluation or not self._leads:
            return
        self.next_evaluation += self._interval
        self.look()

    def look(self) -> None:
        """Evaluate the agent, and keep it if it is the best."""
        result = self._evaluation(self._episodes)
        if result is None:
            return
        metrics = eval_metrics(result)
        if self._rule is not None and result.score >= self._rule.score:
            result = self._evaluation(self.config.resolved_env.evaluation_episodes) or result
            metrics = eval_metrics(result) | {"eval/lower_end": result.lower_end}
        if self.solved_after is None and self.solved_at is not None and result.score >= self.solved_at:
            self.solved_after = process_seconds()
        metrics |= self._game_metrics(result)
        for key, value in (metrics | self._above_training(result.score)).items():
            self.logger.record(key, value)
        more = (metrics.get(name) for name in ("eval/lower_end", "eval/exploitability"))
        self._found.append(TrainingEvaluation(self.num_timesteps, result.score, *more))
        if result.score > -math.inf and (self._best is None or self._found[-1].rank > self._best.rank):  # no NaN
            self._best = self._found[-1]
            checkpoints.check_there(self.folder)
            self.model.save(self.folder.best_file)

    def _above_training(self, score: float) -> dict[str, float]:
        """By how much the score is above that of the latest training episodes, if both are of one environment."""
        if moves_for_both(self.config.env_kwargs):
            return {}
        env, window = self.model.env, self.model.ep_info_buffer or ()
        means = episode_means(window, self.model.n_envs * process_group().size)
        last = not isinstance(env, StagedVecEnv) or env.stage == env.count - 1
        trained = means.get("rollout/ep_rew_mean") if last else None
        return {} if trained is None else {"eval/above_training": score - trained}

    def _evaluation(self, episodes: int) -> Evaluation | None:
        """One during training; None if it failed. What went wrong is said once."""
        result, trouble = None, None
        try:
            result = evaluate_run(AgentPolicy(cast(Agent, self.model)), self.config, episodes, VALIDATION_SEED)
            trouble = result.cut
        except RAISED as error:
            text = str(error) if isinstance(error, EnvError) else describe(error)
            trouble = f"failed ({text}); training goes on without"
        if trouble:
            self._say_once(trouble)
        return result

    def _game_metrics(self, result: Evaluation) -> dict[str, float]:
        """What else is known of the agent in a game for two, beside an evaluation; empty if that failed."""
        policy = AgentPolicy(cast(Agent, self.model))
        try:
            return self._exploitability.metrics(policy) | self._elo.metrics(policy, result)
        except RAISED as error:
            self._say_once(f"exploitability and Elo failed ({describe(error)}); training goes on without")
        return {}

    def _say_once(self, trouble: str) -> None:
        if not self._said:
            self.stop.say(f"evaluation at step {self.num_timesteps:,}: {trouble}")
            self._said = True


class StoppablePolicy(AgentPolicy):
    """An agent that raises Stopped after a signal."""

    def __init__(self, model: Agent, stop: StopSignal, name: str) -> None:
        super().__init__(model, name=name)
        self._stop = stop

    def check(self) -> None:
        self._stop.check()


def evaluate_run(
    policy: AgentPolicy, config: RunConfig, episodes: int, seed: int = 0, tell: Tell = untold
) -> Evaluation:
    """Evaluate an agent on the environment of its run; ``tell`` takes how many episodes are over.

    With a teacher, its score is compared with the teacher's on the same episodes.
    """
    device, kwargs = str(policy.model.device), config.evaluation_kwargs
    found = evaluate(config.env, policy, episodes=episodes, seed=seed, device=device, env_kwargs=kwargs, tell=tell)
    lesson = policy.model.lesson if isinstance(policy.model, TaughtPPO) else None
    if lesson is None or lesson.score is None:
        return found
    share = share_of(found.score, lesson.score(episodes, seed), found.reference["random"])
    return found if share is None else replace(found, more={**found.more, _OF_TEACHER: share})


def eval_metrics(result: Evaluation) -> dict[str, float]:
    """The evaluation under SB3's metric names."""
    metrics = {"eval/mean_reward": result.score, "eval/mean_ep_length": result.mean_length}
    if result.percent_of_optimal is not None:
        metrics["eval/percent_of_optimal"] = result.percent_of_optimal
    if result.success_rate is not None:
        metrics["eval/success_rate"] = result.success_rate
    if _OF_TEACHER in result.more:
        metrics["eval/percent_of_teacher"] = result.more[_OF_TEACHER]
    return metrics
