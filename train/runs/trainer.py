"""One training run from start to finish: agent, live display, evaluations, checkpoints, final evaluation and facts.

Everything goes to the run's folder (:mod:`palaestra.train.runs.run_folder`).
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.logger import Logger

from palaestra.agents.distributed.process_group import process_group
from palaestra.envs.core import BatchedEnv
from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.config.compatibility import Agent, check_memory
from palaestra.train.config.run_config import RunConfig
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, Evaluation, most_steps
from palaestra.train.evaluation.kept_results import added_figures, episodes_table
from palaestra.train.evaluation.policies import AgentPolicy
from palaestra.train.interruptions import Stopped, StopSignal
from palaestra.train.loggers.console import ProgressOutput
from palaestra.train.loggers.headline import early_end, headlines, lengthened, whole_rollouts
from palaestra.train.loggers.metric_names import moves_for_both
from palaestra.train.loggers.tracker import Tracker, trackers_of
from palaestra.train.runs import checkpoints
from palaestra.train.runs.abandoned import set_aside
from palaestra.train.runs.callbacks import (
    EvalAndCheckpointCallback,
    StoppablePolicy,
    StopRuleMet,
    eval_metrics,
    evaluate_run,
)
from palaestra.train.runs.curriculum_callback import Environments, curriculum_callback, training_environments
from palaestra.train.runs.failures import explaining
from palaestra.train.runs.machine import Stopwatch, deterministic, products_in, write_facts
from palaestra.train.runs.parallel.stall_watch import StallWatch
from palaestra.train.runs.parallel.threads import ThreadChoice, chosen_threads
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.teaching.teachers import learner, new_agent, teach

RECORDED_STEPS = 1000  # at most, of the episode that is shown
MakePage = Callable[[RunFolder], Path | None]


@dataclass(frozen=True)
class RunResult:
    """The end of a run.

    Attributes:
        evaluation: the final one; None when the run was interrupted or Ctrl-C skipped it, and in all processes but
            the first.
        num_timesteps: environment steps in all.
        training_seconds: without the final evaluation, with those before a resumption.
        curves: W&B's page (or offline folder), and commands that show them in other trackers.
        report: the page of the run; None without one.
        solved_at: the mean return from which the environment counts as solved; None if unknown.
        solved_after_seconds: from the start of the process to the first evaluation at ``solved_at`` or above.
        stopped: why it ended before its steps were taken; None if it did not.
        saved_seconds: what they would have taken.
    """

    run_dir: Path
    evaluation: Evaluation | None
    num_timesteps: int
    training_seconds: float
    curves: Sequence[str | Path]
    solved_at: float | None = None
    solved_after_seconds: float | None = None
    interrupted: bool = False
    stopped: str | None = None
    saved_seconds: float = 0.0
    report: Path | None = None


def train_new(config: RunConfig, run_dir: str | Path | None = None, track: str = "disabled") -> RunResult:
    """Make a run: train an agent, evaluate it, and leave everything in a new folder, as ``palaestra train`` does.

    Args:
        config: what to train, see :func:`palaestra.train.resolve_config`.
        run_dir: the folder to make; None for ``runs/ENV/AGENT/TIME-sSEED``.
        track: Weights & Biases: "auto", "online", "offline" or "disabled"; or "tensorboard", "trackio", or several with
            commas.

    Raises:
        ConfigError: if the folder exists or cannot be made, or the mode is unknown.
        RunFailed: if the environment breaks down, training diverges or memory runs out; the last checkpoint is kept.
    """
    check_track(track)
    return train(config, RunFolder.new(config, None if run_dir is None else Path(run_dir)), track)


def check_track(track: str) -> None:
    """Raise a ConfigError unless it names trackers that are there."""
    trackers_of(track)


def train(
    config: RunConfig,
    folder: RunFolder,
    track: str = "auto",
    resume: Path | None = None,
    make_page: MakePage | None = None,
) -> RunResult:
    """Train, evaluate, and leave everything in the folder, which exists.

    Args:
        config: what to train.
        track: trackers, see :class:`~palaestra.train.loggers.tracker.Tracker`.
        resume: what to go on from, see :func:`palaestra.train.runs.checkpoints.resumed`; None starts anew.
        make_page: makes the page of the finished run, for the trackers too, and returns where it is.

    Raises:
        ConfigError: if another process works in that folder.
        RunFailed: if the environment breaks down, training diverges or memory runs out; the last checkpoint is kept.
    """
    started, stop = Stopwatch(), StopSignal(None if process_group().rank == 0 else _silent)
    alone = folder.lock() if process_group().rank == 0 else nullcontext()
    explained = explaining(config, folder)
    with alone, explained, deterministic(config.deterministic), products_in(config.precision, config.device), stop:
        try:
            check_memory(config.resolved_env, config.env_kwargs, config.num_envs // process_group().size, config.device)
            with (
                chosen_threads(config, resume is not None, stop.check) as (config, choice),
                closing(training_environments(config)) as env,
                ExitStack() as at_end,
            ):
                stop.check()
                if process_group().rank > 0:
                    return _follow(config, env, folder, resume, stop)
                return _train(config, env, folder, track, resume, stop, started, choice, make_page, at_end)
        except Stopped:
            raise KeyboardInterrupt from None


def _train(
    config: RunConfig,
    env: Environments,
    folder: RunFolder,
    track: str,
    resume: Path | None,
    stop: StopSignal,
    started: Stopwatch,
    choice: ThreadChoice,
    make_page: MakePage | None,
    at_end: ExitStack,
) -> RunResult:
    reference = config.resolved_env.reference(config.env_kwargs)
    progress = ProgressOutput(reference.percent_of_optimal, both_sides=moves_for_both(config.env_kwargs))
    model = _agent(config, env, folder, resume, progress.message)
    if not config.graph:
        model.record_with(None)
    stop.check()
    stop.say = progress.message
    tracker = Tracker.start(
        *(folder.path, config.as_dict(), track),
        progress_file=folder.progress_file,
        id_file=folder.wandb_id_file,
        resume_step=None if resume is None else model.num_timesteps,
    )
    at_end.callback(tracker.finish)
    model.set_logger(Logger(None, [progress, *tracker.outputs]))
    progress.steps = start_step = model.num_timesteps
    rollout = _rollout_steps(model, config)
    progress.total = total = whole_rollouts(config.total_timesteps, start_step, rollout)
    finished, evaluation, stopped, saved = False, None, None, 0.0
    callback = EvalAndCheckpointCallback(config, folder, reference.solved_at, stop)
    callback.show_on(progress)
    watch = StallWatch(config, folder, progress.message, choice.fastest_now)
    stages = curriculum_callback(config, progress.message)
    try:
        with progress:
            first = headlines(config, reference, model, start_step, rollout)
            plans = callback.plan(), "" if stages is None else stages.plan()
            for line in filter(None, (*first, *plans, choice.remark, *model.remarks)):
                progress.remark(line)
            remaining = max(0, config.total_timesteps - start_step)
            stop.when = " after this iteration"
            try:
                callbacks = [callback, watch, *([] if stages is None else [stages])]
                model.learn(remaining, callbacks, reset_num_timesteps=resume is None)
                checkpoints.save(model, folder)
            except StopRuleMet as met:
                stopped, saved = str(met), callback.seconds_left()
                progress.remark(early_end(model.num_timesteps, total, stopped, saved))
                _take_best(model, folder)
            model.save(folder.model_file)
        seconds, stop.when = started.seconds, ""
        env.close()  # some can be open once only
        stop.check()  # it may have been asked for in the last iteration
        finished, evaluation = True, final_evaluation(model, config, folder, tracker, stop, progress)
    except (Stopped, KeyboardInterrupt):
        seconds = started.seconds
    before = {} if resume is None else folder.facts()
    solved_after = callback.solved_after if resume is None else before.get("solved_after_seconds")
    speed, seconds = (model.num_timesteps - start_step) / seconds, callback.seconds_before + seconds
    skipped, at = finished and evaluation is None, callback.solved_at
    rival = None if evaluation is None else evaluation.opponent
    write_facts(folder.facts_file, model, seconds, speed, (at, solved_after), stopped, skipped, started, before, rival)
    if finished:
        checkpoints.discard(folder)
    page = make_page(folder) if finished and make_page is not None else None
    if page is not None:
        tracker.log_page(page, f"{config.env}-{config.agent}-report")
    tracker.finish({} if evaluation is None else {f"final/{k}": v for k, v in _numbers(evaluation).items()})
    steps, curves = model.num_timesteps, tracker.places
    return RunResult(
        *(folder.path, evaluation, steps, seconds, curves, at, solved_after, not finished, stopped, saved, page)
    )


def _take_best(model: Agent, folder: RunFolder) -> None:
    """Give the agent the weights of the best evaluation, of which there is one unless all have failed."""
    if folder.best_file.is_file():
        model.take_weights(folder.best_file)


def _follow(
    config: RunConfig, env: Environments, folder: RunFolder, resume: Path | None, stop: StopSignal
) -> RunResult:
    """Train together with process 0, silently, and write this process's share of checkpoints."""
    started, interrupted = time.perf_counter(), False
    model = _agent(config, env, folder, resume, _silent)
    model.set_logger(Logger(None, []))
    try:
        remaining = max(0, config.total_timesteps - model.num_timesteps)
        stages = curriculum_callback(config, _silent)
        callbacks = [EvalAndCheckpointCallback(config, folder, None, stop), *([] if stages is None else [stages])]
        model.learn(remaining, callbacks, reset_num_timesteps=resume is None)
        checkpoints.save(model, folder)
    except StopRuleMet:
        pass
    except (Stopped, KeyboardInterrupt):
        interrupted = True
    seconds = time.perf_counter() - started
    return RunResult(folder.path, None, model.num_timesteps, seconds, (), interrupted=interrupted)


def _silent(text: str) -> None:
    """No output: process 0 already prints this."""


def _agent(
    config: RunConfig, env: Environments, folder: RunFolder, resume: Path | None, tell: Callable[[str], None]
) -> Agent:
    """A new agent, whose configuration is written to the folder, or a resumed one."""
    leads = process_group().rank == 0
    if resume is not None:
        folder.check_environment(config, tell, trains=True)
        model = checkpoints.resumed(learner(config), resume, env, tell)
        teach(model, config)
        if leads and resume.is_file():
            set_aside(folder, resume, model, tell)
        if leads and (before := folder.config()) != config:
            folder.write_config(config)
            if before is not None and not config.trains_as(before):
                tell(lengthened(before, config, model.num_timesteps, model.lr_schedule))
        return model
    if leads:
        folder.write_config(config)
        folder.write_environment(config)
    model = new_agent(config, env)
    teach(model, config)
    if config.init_from is not None:
        model.take_weights(config.init_from)
    return model


def _rollout_steps(model: Agent, config: RunConfig) -> int:
    """Environment steps of an iteration, over all environments of all processes."""
    return model.steps_per_iteration() * config.num_envs


def _numbers(result: Evaluation) -> dict[str, float]:
    return {key: value for key, value in result.as_dict().items() if isinstance(value, int | float)}


def final_evaluation(
    model: Agent, config: RunConfig, folder: RunFolder, tracker: Tracker, stop: StopSignal, progress: ProgressOutput
) -> Evaluation | None:
    """Held-out episodes; the last row of the curves, with the last update's losses; a recorded episode.

    Ctrl-C skips what is left of them; None if that is the evaluation.
    """
    policy = StoppablePolicy(model, stop, str(folder.path))
    result, video, count = None, None, config.resolved_env.final_episodes(config.total_timesteps)
    try:
        stop.skippable = "the final evaluation and the recording"
        with progress.stage(f"final evaluation: {count:,} held-out episodes") as stage:
            result = evaluate_run(policy, config, count, tell=lambda over: stage.tell(over / count))
        write_whole(folder.evaluation_file, json.dumps(result.as_dict(), indent=1).encode())
        write_whole(folder.episodes_file, episodes_table(result))
        write_whole(folder.figures_file, added_figures(result, policy, stop.say))
        for file in (folder.stress_file, folder.positions_file):
            file.unlink(missing_ok=True)  # of an agent that has trained further
        stop.skippable = "the recording"
        with progress.stage("recording an episode", at_most=True) as stage:
            video = _record_episode(policy, config, folder.video_file, stage.tell)
    except Stopped:
        if not stop.skipped:
            raise
        for file in (folder.video_file, *(folder.evaluation_files() if result is None else [])):
            file.unlink(missing_ok=True)  # the same
    stop.skippable = ""
    for key, value in ({} if result is None else eval_metrics(result)).items():
        model.logger.record(key, value)
    model.logger.dump(model.num_timesteps)
    if video is not None:
        tracker.log_video(video, model.num_timesteps)
    tracker.log_model(folder.model_file, f"{config.env}-{config.agent}")
    if result is not None:
        tracker.log_table("eval/final", ("figure", "value"), [*_numbers(result).items()], model.num_timesteps)
    return result


def _record_episode(policy: AgentPolicy, config: RunConfig, file: Path, tell: Callable[[float], None]) -> Path | None:
    """The file with an episode of the trained agent; None where the environment cannot be drawn."""
    if not config.resolved_env.has("draw", config.env_kwargs):
        return None
    from palaestra.train.recording.show import watch

    steps = itertools.count()

    def act(env: BatchedEnv, obs: Any) -> torch.Tensor:
        tell(next(steps) / min(RECORDED_STEPS, most_steps(env)))
        return policy(env, obs)

    watch(
        config.env,
        act,
        env_kwargs=config.evaluation_kwargs,
        seed=EVALUATION_SEEDS,
        device=str(policy.model.device),
        record=file,
        max_steps=RECORDED_STEPS,
        label=config.agent,
    )
    return file
