"""One training run from start to finish: folder, agent, live display, evaluations, checkpoints, verdict.

The run folder ``runs/<env>/<agent>/<UTC time>-s<seed>/`` holds ``config.yaml`` (every resolved setting), ``run.json``
(versions, commit, machine, time, steps/s), ``progress.csv``, ``model.zip`` (latest), ``best.zip`` (best evaluation so
far), ``eval.json`` (the final evaluation), ``videos/`` and ``wandb/``, and while it is not finished ``checkpoints/``
(:mod:`palaestra.train.runs.checkpoints`). They go last: a folder with an evaluation and without checkpoints is
finished. A folder that exists is never overwritten.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from stable_baselines3.common.logger import Logger

from palaestra.agents.checkpoints.model_file import write_whole
from palaestra.agents.distributed.process_group import world
from palaestra.envs.core import BatchedEnv, Reference, TensorVectorEnv
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter, available_cores
from palaestra.envs.registry import EnvEntry, make, resolve
from palaestra.train.config.compatibility import AGENTS, Agent, check_memory, check_policy, rules_of
from palaestra.train.config.run_config import RunConfig, build_arguments
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, Evaluation
from palaestra.train.evaluation.policies import AgentPolicy
from palaestra.train.loggers.console import ProgressOutput
from palaestra.train.loggers.wandb_logger import Tracker
from palaestra.train.runs import checkpoints
from palaestra.train.runs.callbacks import EvalAndCheckpointCallback, eval_metrics, evaluate_run, is_ours
from palaestra.train.runs.failures import explained
from palaestra.train.runs.interrupt import Stopped, StopSignal
from palaestra.train.runs.torchrun import device_of

FINAL_EPISODES = 1000
FINAL_EPISODES_OF_OTHERS = 100  # they step one after another


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        evaluation: the final one; None when the run was interrupted, and in all processes but the first.
        num_timesteps: environment steps in all.
        training_seconds: without the final evaluation.
        curves: W&B's page or offline folder; None without W&B.
        solved_at: the mean return from which the environment counts as solved; None where nobody says.
        solved_after_seconds: from the start of the process to the first evaluation at ``solved_at`` or above.
    """

    run_dir: Path
    evaluation: Evaluation | None
    num_timesteps: int
    training_seconds: float
    curves: str | Path | None
    solved_at: float | None = None
    solved_after_seconds: float | None = None
    interrupted: bool = False


def use_available_cores() -> None:
    """At most one thread per core that this process may use: with more, OpenMP's threads wait for each other."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), available_cores()))


def new_run_dir(config: RunConfig, run_dir: Path | None = None) -> Path:
    """Create the run folder.

    Raises:
        ConfigError: if the agent cannot be built, or the given folder exists already or cannot be made.
    """
    check_policy(config.agent, config.env, config.env_kwargs, build_arguments(config))
    if run_dir is None:
        found = resolve(config.env)
        name = found.short_name if isinstance(found, EnvEntry) else config.env.rpartition(":")[2].replace("/", "-")
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        base = Path("runs", name, config.agent, f"{stamp}-s{config.seed}")
        run_dir = next(p for p in (base, *(Path(f"{base}.{i}") for i in range(2, 10_000))) if not p.exists())
    try:
        run_dir.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"run folder {run_dir} exists already; a run is never overwritten") from None
    except OSError as error:
        raise ConfigError(f"cannot make run folder {run_dir}: {error.strerror}") from error
    return run_dir


def reference_of(env: BatchedEnv) -> Reference:
    """Known returns of the environment; nothing is known of other people's."""
    return env.env.reference if isinstance(env, TensorVectorEnv) else Reference()


def solved_at(env: BatchedEnv) -> float | None:
    """The mean return from which the environment counts as solved, other people's too; None where nobody says."""
    if isinstance(env, GymnasiumAdapter):
        return env.spec.reward_threshold if env.spec else None
    return reference_of(env).solved_at


def train(config: RunConfig, run_dir: Path, track: str = "auto", resume: Path | None = None) -> RunResult:
    """Train, evaluate, and leave everything in ``run_dir`` (which exists).

    Args:
        config: what to train.
        track: W&B mode, see :class:`~palaestra.train.loggers.wandb_logger.Tracker`.
        resume: what to go on from, see :func:`palaestra.train.runs.checkpoints.resumed`; None starts anew.

    Raises:
        ConfigError: if another process works in that folder.
        RunFailed: if the environment breaks down, training diverges or memory runs out; the last checkpoint is kept.
    """
    started = time.perf_counter()
    use_available_cores()
    alone = checkpoints.only_process(run_dir) if world().rank == 0 else nullcontext()
    with alone, _determinism(config.deterministic):
        try:
            check_memory(config.env, config.env_kwargs, config.num_envs // world().size, config.device)
            env = _environments(config)
            try:
                if world().rank > 0:
                    return _follow(config, env, run_dir, resume)
                return _train(config, env, run_dir, track, resume, started)
            finally:
                env.close()
        except Exception as error:
            failure = explained(error, config, run_dir)
            if failure is None:
                raise
            raise failure from error


def _environments(config: RunConfig) -> BatchedEnv:
    """Those of this process, of which each has an index among all."""
    count, device, place = world().share(config.num_envs, "num_envs"), device_of(config.device), {}
    if world().size > 1:
        place = {"first_env_index": world().rank * count}
    return make(config.env, count, device, config.seed, **config.env_kwargs, **place)


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Only operations that give the same bits every time; those of the CPU do anyway."""
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _train(
    config: RunConfig, env: BatchedEnv, run_dir: Path, track: str, resume: Path | None, started: float
) -> RunResult:
    progress = ProgressOutput(config.total_timesteps, reference_of(env).percent_of_optimal)
    model = _agent(config, env, run_dir, resume, progress.message)
    tracker = Tracker.start(
        run_dir, config.as_dict(), track, resume_step=None if resume is None else model.num_timesteps
    )
    model.set_logger(Logger(None, [progress, *tracker.outputs]))
    start_step, evaluation = model.num_timesteps, None
    callback = EvalAndCheckpointCallback(config, run_dir, solved_at(env), StopSignal(progress.message))
    try:
        with progress, callback.stop:
            progress.message(_headline(config, env))
            remaining = max(0, config.total_timesteps - start_step)
            model.learn(remaining, callback, reset_num_timesteps=resume is None)
            checkpoints.save(model, run_dir)
            model.save(run_dir / "model.zip")
        seconds = time.perf_counter() - started
        evaluation = _final_evaluation(model, config, run_dir, tracker)
    except (Stopped, KeyboardInterrupt):
        seconds = time.perf_counter() - started
    finally:
        summary = {} if evaluation is None else {f"final/{k}": v for k, v in _numbers(evaluation).items()}
        tracker.finish(summary)
    solved_after = callback.solved_after if resume is None else _solved_before(run_dir)
    _write_facts(run_dir, model, seconds, start_step, solved_after)
    if evaluation is not None:
        checkpoints.discard(run_dir)
    curves = tracker.url or tracker.offline_dir
    interrupted = evaluation is None
    return RunResult(
        run_dir, evaluation, model.num_timesteps, seconds, curves, callback.solved_at, solved_after, interrupted
    )


def _follow(config: RunConfig, env: BatchedEnv, run_dir: Path, resume: Path | None) -> RunResult:
    """What all processes but the first do: train with it, silently, and write their shares of checkpoints."""
    started, interrupted = time.perf_counter(), False
    model = _agent(config, env, run_dir, resume, _nobody)
    model.set_logger(Logger(None, []))
    callback = EvalAndCheckpointCallback(config, run_dir, None, StopSignal(_nobody))
    try:
        with callback.stop:
            remaining = max(0, config.total_timesteps - model.num_timesteps)
            model.learn(remaining, callback, reset_num_timesteps=resume is None)
            checkpoints.save(model, run_dir)
    except (Stopped, KeyboardInterrupt):
        interrupted = True
    seconds = time.perf_counter() - started
    return RunResult(run_dir, None, model.num_timesteps, seconds, None, interrupted=interrupted)


def _nobody(text: str) -> None:
    """Process 0 tells the user the same."""


def _agent(
    config: RunConfig, env: BatchedEnv, run_dir: Path, resume: Path | None, tell: Callable[[str], None]
) -> Agent:
    """A new one, whose configuration is written down, or one that goes on."""
    if resume is not None:
        return checkpoints.resumed(AGENTS[config.agent], resume, env, tell)
    if world().rank == 0:
        write_whole(run_dir / "config.yaml", yaml.safe_dump(config.as_dict(), sort_keys=False).encode())
    model = AGENTS[config.agent](env=env, seed=config.seed, **build_arguments(config))
    if config.init_from is not None:
        model.take_weights(config.init_from)
    return model


def _headline(config: RunConfig, env: BatchedEnv) -> str:
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' if count != 1 else ''}" if env.device.type == "cpu" else ""
    processes = f" in {world().size} processes" if world().size > 1 else ""
    return (
        f"{config.agent} on {config.env}: {config.num_envs:,} environments{processes} on {env.device}{threads}, "
        f"{config.total_timesteps:,} steps, seed {config.seed}"
    )


def _numbers(result: Evaluation) -> dict[str, float]:
    return {key: value for key, value in result.as_dict().items() if isinstance(value, int | float)}


def _final_evaluation(model: Agent, config: RunConfig, run_dir: Path, tracker: Tracker) -> Evaluation:
    """Held-out episodes; the last row of the curves, with the last update's losses; a recorded episode."""
    episodes = FINAL_EPISODES if is_ours(config) else FINAL_EPISODES_OF_OTHERS
    result = evaluate_run(model, config, episodes, run=str(run_dir))
    write_whole(run_dir / "eval.json", json.dumps(result.as_dict(), indent=1).encode())
    for key, value in eval_metrics(result).items():
        model.logger.record(key, value)
    model.logger.dump(model.num_timesteps)
    video = _record_episode(model, config, run_dir)
    if video is not None:
        tracker.log_video(video, model.num_timesteps)
    tracker.log_model(run_dir / "model.zip", f"{config.env}-{config.agent}")
    return result


def _record_episode(model: Agent, config: RunConfig, run_dir: Path) -> Path | None:
    """An episode of the trained agent as ``videos/final.mp4``; None where the environment cannot be drawn."""
    found = resolve(config.env)
    if not isinstance(found, EnvEntry) or not rules_of(found, config.env_kwargs).has("draw"):
        return None
    from palaestra.train.recording.show import watch

    path = run_dir / "videos" / "final.mp4"
    watch(
        config.env,
        AgentPolicy(model),
        env_kwargs=config.env_kwargs,
        seed=EVALUATION_SEEDS,
        device=str(model.device),
        record=path,
        max_steps=1000,
        label=config.agent,
    )
    return path


def _solved_before(run_dir: Path) -> float | None:
    """What the first process of a resumed run reached; later ones are not timed, for pauses are no training."""
    seconds: float | None = facts_of(run_dir).get("solved_after_seconds")
    return seconds


def facts_of(run_dir: Path) -> dict[str, Any]:
    """What is in ``run.json``; nothing where there is none, as after a kill.

    Raises:
        ConfigError: if somebody else has been at the file.
    """
    path = run_dir / "run.json"
    if not path.is_file():
        return {}
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from error
    if not isinstance(facts, dict):
        raise ConfigError(f"{path} is damaged: it holds no object")
    return facts


def _write_facts(run_dir: Path, model: Agent, seconds: float, start_step: int, solved_after: float | None) -> None:
    """``run.json``: what is needed to judge and to repeat the run."""
    facts: dict[str, Any] = {
        "palaestra": version("palaestra"),
        **{name: version(name) for name in ("torch", "stable_baselines3", "gymnasium", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "processes": world().size,
        "git_commit": _git_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_timesteps": model.num_timesteps,
        "training_seconds": round(seconds, 3),
        "steps_per_second": round((model.num_timesteps - start_step) / seconds),
        "solved_after_seconds": None if solved_after is None else round(solved_after, 2),
    }
    write_whole(run_dir / "run.json", json.dumps(facts, indent=1).encode())


def _git_commit() -> str | None:
    """Of the folder that training was started in; None outside a repository or without git."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
