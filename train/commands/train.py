"""``palaestra train``: a new run, or one that goes on, by this process alone or together with others."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import ENV_HELP, SetOption, UsageError, read_count, read_index
from palaestra.train.formatting import say
from palaestra.train.interruptions import Shown
from palaestra.train.runs.machine import spin_briefly  # early, for its clock starts here
from palaestra.train.runs.parallel.launcher import number_of_processes, run_processes

if TYPE_CHECKING:
    from palaestra.train.config.run_config import RunConfig
    from palaestra.train.runs.parallel.torchrun import Plan
    from palaestra.train.runs.run_folder import RunFolder
    from palaestra.train.runs.trainer import RunResult


def train(
    env: Annotated[str, typer.Argument(metavar="ENV", help=ENV_HELP, show_default=False)] = "",
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="ppo by default; palaestra envs lists all.")] = None,
    total_timesteps: Annotated[
        int | None,
        typer.Option(parser=read_count, metavar="N", help="Environment steps, over all environments: 300k, 5M."),
    ] = None,
    num_envs: Annotated[int | None, typer.Option(parser=read_count, metavar="N", help="Parallel environments.")] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="auto (the default), cpu or cuda.")] = None,
    seed: Annotated[
        int | None, typer.Option(parser=read_index, metavar="N", help="Of everything random (default: 0).")
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Run folder to make (default: a new one below runs/).")
    ] = None,
    track: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Weights & Biases: auto, online, offline or disabled. Or tensorboard, trackio; several with commas.",
        ),
    ] = "auto",
    settings: SetOption = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings, as in a run's config.yaml; options beat them.")
    ] = None,
    init_from: Annotated[str | None, typer.Option(metavar="RUN", help="Begin with the weights of that run.")] = None,
    pretrain: Annotated[
        str | None,
        typer.Option(metavar="TEACHER", help="Clone a policy first: expert, a run or FILE.onnx. With --agent bc only."),
    ] = None,
    pretrain_steps: Annotated[
        int | None, typer.Option(parser=read_count, metavar="N", help="Steps of that (default: a fifth of all).")
    ] = None,
    dataset: Annotated[str | None, typer.Option(metavar="NAME", help="Minari data set that --agent bc clones.")] = None,
    checkpoint_every: Annotated[
        str | None,
        typer.Option(metavar="N|Mm", help="Steps (100k) or minutes (1m, the default) between checkpoints."),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(parser=read_count, metavar="N", help="Threads on the CPU (default: tried out as it begins)."),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(parser=read_count, metavar="K", help="Processes that train together here, one thread each."),
    ] = None,
    stop_at: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="End early: solved, plateau, a score (475) or minutes (10m)."),
    ] = None,
    deterministic: Annotated[
        bool | None, typer.Option("--deterministic", help="The same bits every time on a GPU too, somewhat slower.")
    ] = None,
    no_graph: Annotated[
        bool, typer.Option("--no-graph", help="Call operations one by one: no CUDA graphs, no replayed steps on a CPU.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a GPU's products: float32 (the default), or tf32: coarser.")
    ] = None,
    compile_steps: Annotated[
        bool, typer.Option("--compile", help="Compile the environment's steps on the CPU; needs a C++ compiler.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration, for config.yaml, and stop.")
    ] = False,
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Leave out report.html, the page that is written at the end.")
    ] = False,
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Go on with a run, a finished one with more steps (--total-timesteps)."),
    ] = None,
) -> None:
    """Train an agent with the preset of that environment, then evaluate it on held-out episodes.

    ppo takes any environment; dqn and pqn learn a value for each of a few actions, so theirs must be discrete
    (palaestra envs tells).

    \b
    palaestra train snake-small
    palaestra train snake-small --stop-at solved
    palaestra train snake-small --agent dqn
    palaestra train snake --total-timesteps 5M --seed 1
    palaestra train snake-small --set learning_rate=3e-4 --set env.size=8
    palaestra train CartPole-v1 --num-envs 16
    palaestra train --config mine.yaml --seed 1
    palaestra train snake --agent dqn --dry-run
    palaestra train snake --init-from latest
    palaestra train snake-small --threads 1
    palaestra train --resume latest
    palaestra train --resume latest --total-timesteps 10M

    Several processes train one agent, each with its share of the environments; torchrun starts them on several
    machines, and anew when one dies:

    \b
    palaestra train snake --processes 2
    torchrun --nproc-per-node=2 -m palaestra.train train snake --num-envs 4096
    """
    spin_briefly()
    options: dict[str, Any] = {"seed": seed, "num_envs": num_envs, "total_timesteps": total_timesteps, "device": device}
    options |= {"init_from": init_from, "checkpoint_every": checkpoint_every, "deterministic": deterministic}
    options |= {"pretrain": pretrain, "pretrain_steps": pretrain_steps, "dataset": dataset}
    options |= {"stop_at": stop_at, "threads": threads, "precision": precision}
    options |= {"graph": False if no_graph else None, "compile": compile_steps or None}
    if resume is not None and dry_run:
        raise UsageError("--dry-run is for new runs: config.yaml in the run folder holds the configuration of this one")
    kept = (options[name] for name in options.keys() - {"total_timesteps", "threads"})
    if resume is None and not env and config is None:
        raise UsageError("give an environment to train on, --config FILE or --resume RUN")
    if resume is not None and (env or settings or any(v is not None for v in (agent, run_dir, config, *kept))):
        others = "of the other options only --track, --threads, --total-timesteps and --no-report may be given"
        raise UsageError(f"--resume goes on with the run's own settings: {others}")
    if (count := number_of_processes(processes, resume, total_timesteps is not None)) > 1:
        raise typer.Exit(run_processes(count, sys.argv[1:]))
    if resume is not None:
        resume_run(resume, track, total_timesteps, threads, with_report=not no_report)
        return
    start = partial(start_run, with_report=not no_report, dry_run=dry_run)
    start(env or None, agent, run_dir, track, config, settings=settings or (), **options)


def start_run(
    env: str | None,
    agent: str | None,
    run_dir: Path | None,
    track: str,
    config_file: Path | None = None,
    *,
    with_report: bool = False,
    dry_run: bool = False,
    **options: Any,
) -> None:
    """Resolve the configuration, train, print the verdict; ``options`` are those of ``resolve_config``.

    A dry run prints what ``config.yaml`` would hold, after the same checks; nothing is started or written.
    """
    from palaestra.train.runs.parallel.torchrun import Plan, check_restarts, check_shares, interrupted_plan
    from palaestra.train.runs.run_folder import RunFolder
    from palaestra.train.runs.trainer import check_track

    def plan(restarted: bool) -> Plan | None:
        config = _configured(env, agent, config_file, options)
        check_track(track)
        check_shares(config)
        check_restarts(run_dir)
        if dry_run:
            RunFolder.check_new(config, run_dir)
            print(config.as_yaml(), end="")
            return None
        if restarted and run_dir is not None and run_dir.exists():
            left = interrupted_plan(config, RunFolder(run_dir))
            if left.folder.is_finished(config):
                _tell_finished(left.folder)
                return None
            return left
        return Plan(config, RunFolder.new(config, run_dir))

    _carry_out(plan, track, with_report)


def _configured(env: str | None, agent: str | None, config_file: Path | None, options: dict[str, Any]) -> RunConfig:
    """The resolved configuration of a new run."""
    from palaestra.train.config.run_config import read_file, resolve_config
    from palaestra.train.players import teacher_named
    from palaestra.train.runs.finding import find_model
    from palaestra.train.teaching.teachers import check_teacher

    file = None if config_file is None else read_file(config_file)
    config = resolve_config(env, agent, file=file, **options)
    if config.init_from is not None:
        config = replace(config, init_from=str(find_model(config.init_from).resolve()))
    if config.pretrain is not None:
        config = replace(config, pretrain=teacher_named(config.pretrain))
    check_teacher(config)
    return config


def resume_run(
    name: str,
    track: str,
    total_timesteps: int | None = None,
    threads: int | None = None,
    *,
    with_report: bool = False,
) -> None:
    """Go on with a run from its newest checkpoint, or with a finished one up to another number of steps."""
    from palaestra.envs.trained_players import learns_too
    from palaestra.train.config.run_config import validated
    from palaestra.train.config.schema import ConfigError
    from palaestra.train.runs.finding import find_unfinished
    from palaestra.train.runs.parallel.torchrun import Plan, check_shares
    from palaestra.train.runs.run_folder import RunFolder
    from palaestra.train.runs.trainer import check_track

    def plan(restarted: bool) -> Plan | None:
        check_track(track)
        source = find_unfinished(name)
        folder = RunFolder(source)
        if source.is_file():
            folder = RunFolder(source.parent)
            if source.parent.name == folder.checkpoints_folder.name:
                folder = RunFolder(source.parent.parent)
        if restarted:  # since the run went on from that file
            source = folder.path
        config = folder.config()
        if config is None:
            raise ConfigError(f"{folder.path} has no {folder.config_file.name} to go on with")
        if learns_too(config.env_kwargs.get("rival")):
            both = f"palaestra collusion --resume {shlex.quote(str(folder.path))}"
            raise ConfigError(f"{folder.path} is one of two runs that learn against each other: go on with {both}")
        if total_timesteps is not None and not (restarted and config.total_timesteps == total_timesteps):
            config = _lengthened(folder, source, config, total_timesteps)
        elif source == folder.path and folder.is_finished(config):
            _tell_finished(folder)
            return None
        check_shares(config)
        if threads is not None:
            config = validated(replace(config, threads=threads))
        return Plan(config, folder, source)

    _carry_out(plan, track, with_report)


def _lengthened(folder: RunFolder, source: Path, config: RunConfig, total_timesteps: int) -> RunConfig:
    """The configuration of a finished run with more steps, and without a rule that has ended it.

    Raises:
        ConfigError: if the run is not finished, has trained as much, or a single file of it is given.
    """
    from palaestra.train.config.run_config import validated
    from palaestra.train.config.schema import ConfigError

    run, wanted = shlex.quote(str(folder.path)), f"--total-timesteps {total_timesteps}"
    if not folder.is_finished(config):
        planned = f"go on to its {config.total_timesteps:,} steps first: palaestra train --resume {run}"
        raise ConfigError(f"{wanted}: {folder.path} is not finished; {planned}")
    if source != folder.path:
        raise ConfigError(f"{wanted} trains a finished run further: name its folder, {folder.path}, not {source.name}")
    done = folder.facts()["num_timesteps"]
    if total_timesteps <= done:
        raise ConfigError(f"{wanted}: must be above the {done:,} steps that {folder.path} has trained already")
    ended = folder.facts().get("stopped") is not None  # then the rule is met already, and would end the run at once
    return validated(replace(config, total_timesteps=total_timesteps, stop_at=None if ended else config.stop_at))


def _tell_finished(folder: RunFolder) -> None:
    run, stopped = shlex.quote(str(folder.path)), folder.facts().get("stopped")
    why = "" if stopped is None else f" ({stopped})"
    say(f"{folder.path} is finished{why}: see palaestra evaluate {run}")
    say(f"to train it further: palaestra train --resume {run} --total-timesteps N")


def _carry_out(make_plan: Callable[[bool], Plan | None], track: str, with_report: bool) -> None:
    """Train as process 0 has planned."""
    from palaestra.train.commands.looking.report import report_after_training
    from palaestra.train.interruptions import Interrupted
    from palaestra.train.runs import trainer
    from palaestra.train.runs.parallel.torchrun import broadcast_plan, joined_processes

    with joined_processes() as group:
        plan = broadcast_plan(make_plan)
        if plan is None:
            return
        _keep_output_of(plan)
        try:
            make_page = report_after_training if with_report else None
            result = trainer.train(plan.config, plan.folder, track, plan.resume, make_page)
            if result.interrupted:
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            if group.rank == 0:
                _tell_interrupted(plan.folder)
            raise Interrupted from None
        if group.rank == 0:
            _finish(result)


def _keep_output_of(plan: Plan) -> None:
    """What environments of other people print is kept in the run's folder."""
    from palaestra.agents.distributed.process_group import process_group
    from palaestra.envs.core import user_code

    env = plan.config.resolved_env
    if not env.in_tensors:
        user_code.printing.keep_in(plan.folder.env_log_file(process_group().rank))
        if user_code.printing.place is not None and process_group().rank == 0 and Shown.progress:
            say(f"what {env.short_name} prints goes to {user_code.printing.place} (-v: to the screen)")


def _tell_interrupted(folder: RunFolder) -> None:
    run, newest = shlex.quote(str(folder.path)), next(iter(folder.checkpoints()), None)  # to be pasted into a shell
    if not folder.can_go_on():
        say(f"interrupted before the first checkpoint: there is nothing to go on from in {run}")
    else:
        steps = "" if newest is None else f" after {int(newest.stem):,} steps"
        say(f"interrupted{steps}; go on with: palaestra train --resume {run}")


def _finish(result: RunResult) -> None:
    from palaestra.train.results.evaluation_report import report
    from palaestra.train.results.run_verdict import spent, verdict
    from palaestra.train.runs.run_folder import RunFolder

    run = shlex.quote(str(result.run_dir))
    if not Shown.progress:
        ended = "trained: " + spent(result) if result.evaluation is None else verdict(result)
        say(f"{ended}; run folder: {result.run_dir}")
        return
    if result.evaluation is None:
        say(f"trained: {spent(result)}; the final evaluation was skipped: palaestra evaluate {run}")
    else:
        print(report(result.evaluation))
        say(verdict(result))
    say(f"run folder: {result.run_dir}")
    video = RunFolder(result.run_dir).video_file
    say(f"an episode: {video if video.is_file() else f'palaestra watch {run} --record episode.mp4'}")
    if result.report is not None:
        say(f"report: {result.report}")
    for place in result.curves:
        say(f"curves: wandb leet {place}" if isinstance(place, Path) else f"curves: {place}")
