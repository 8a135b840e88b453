"""What the sub-commands do, once their arguments are parsed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palaestra.agents.checkpoints.model_file import agent_of
from palaestra.envs.registry import EnvEntry, resolve
from palaestra.train.config.compatibility import AGENTS, rules_of
from palaestra.train.config.run_config import RunConfig, read_file, resolve_config, with_settings
from palaestra.train.config.schema import ConfigError, known
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, Evaluation
from palaestra.train.evaluation.episodes import evaluate as run_evaluation
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, Policy, RandomPolicy
from palaestra.train.runs import trainer as runs
from palaestra.train.runs.checkpoints import checkpoints
from palaestra.train.runs.torchrun import Plan, agreed, check_restarts, check_shares, interrupted_plan, together

SCRIPTED: dict[str, type[RandomPolicy] | type[ExpertPolicy]] = {"random": RandomPolicy, "expert": ExpertPolicy}


def train(
    env: str | None,
    agent: str | None,
    run_dir: Path | None,
    track: str,
    config_file: Path | None = None,
    **options: Any,
) -> None:
    """Resolve the configuration, train, print the verdict."""

    def plan(restarted: bool) -> Plan | None:
        file = None if config_file is None else read_file(config_file)
        config = resolve_config(env, agent, file=file, **options)
        if config.init_from is not None:
            config = replace(config, init_from=str(find_model(config.init_from).resolve()))
        _check_track(track)
        check_shares(config)
        check_restarts(run_dir)
        if restarted and run_dir is not None and run_dir.exists():
            if _is_finished(run_dir, config):
                _say_finished(run_dir)
                return None
            if (left := interrupted_plan(config, run_dir)) is not None:
                return left
        return Plan(config, runs.new_run_dir(config, run_dir))

    _carry_out(plan, track)


def _carry_out(plan: Callable[[bool], Plan | None], track: str) -> None:
    """Train as process 0 has planned."""
    with together() as world:
        agreement = agreed(plan)
        if agreement is None:
            return
        result = runs.train(agreement.config, agreement.run_dir, track, agreement.resume)
        if world.rank == 0:
            _finish(result)
        elif result.interrupted:
            raise KeyboardInterrupt


def resume(name: str, track: str) -> None:
    """Go on with a run from its newest checkpoint, up to the number of steps in its configuration."""

    def plan(restarted: bool) -> Plan | None:
        _check_track(track)
        source = find_unfinished(name)
        run_dir = source.parent if source.is_file() else source
        config = config_of(run_dir / "model.zip")
        if config is None:
            raise ConfigError(f"{run_dir} has no config.yaml to go on with")
        if source == run_dir and _is_finished(run_dir, config):
            _say_finished(run_dir)
            return None
        check_shares(config)
        return Plan(config, run_dir, source)

    _carry_out(plan, track)


def _say_finished(run_dir: Path) -> None:
    print(f"{run_dir} is finished: see palaestra evaluate {shlex.quote(str(run_dir))}")


def _is_finished(run_dir: Path, config: RunConfig) -> bool:
    """Whether all steps of the configuration are trained and evaluated."""
    if checkpoints(run_dir) or not (run_dir / "eval.json").is_file():
        return False
    trained = runs.facts_of(run_dir).get("num_timesteps")
    return isinstance(trained, int) and trained >= config.total_timesteps


def _check_track(track: str) -> None:
    if track not in ("auto", "online", "offline", "disabled"):
        raise ConfigError(f"--track {track}: expected auto, online, offline or disabled")


def _finish(result: runs.RunResult) -> None:
    if result.interrupted:
        run = shlex.quote(str(result.run_dir))  # to be pasted into a shell
        print(f"interrupted after {result.num_timesteps:,} steps; go on with: palaestra train --resume {run}")
        raise KeyboardInterrupt
    assert result.evaluation is not None
    print(report(result.evaluation))
    print(verdict(result.evaluation, result))
    print(f"run folder: {result.run_dir}")
    if isinstance(result.curves, Path):
        print(f"curves: wandb leet {result.curves}")
    elif result.curves:
        print(f"curves: {result.curves}")


def evaluate(
    name: str,
    env: str | None,
    episodes: int,
    seed: int,
    stochastic: bool,
    as_json: bool,
    settings: Sequence[str],
) -> None:
    """Evaluate a run or a scripted policy and print the result."""
    subject = find_subject(name, env, stochastic, settings)
    result = run_evaluation(
        subject.env, subject.policy, episodes=episodes, seed=seed, device=subject.device, env_kwargs=subject.env_kwargs
    )
    print(json.dumps(result.as_dict(), indent=1) if as_json else report(result))


def watch(
    name: str,
    env: str | None,
    record: Path | None,
    grid: tuple[int, int],
    episodes: int | None,
    seed: int,
    env_index: int | None,
    episode: int | None,
    training: bool,
    stochastic: bool,
    settings: Sequence[str],
) -> None:
    """Show or record episodes: those that ``evaluate`` plays with that seed, or those of the run's training."""
    from palaestra.train.recording.show import watch as show

    seed = _training_seed(name, env, seed, settings) if training else EVALUATION_SEEDS + seed
    subject = find_subject(name, env, stochastic, settings)
    found = resolve(subject.env)
    shown = show(
        found.short_name if isinstance(found, EnvEntry) and ":" not in found.id else subject.env,  # a class has no name
        subject.policy,
        env_kwargs=subject.env_kwargs,
        seed=seed,
        device=subject.device,
        record=record,
        grid=grid,
        episodes=episodes,
        env_index=env_index,
        episode=episode,
        label=subject.label,
    )
    if shown.path is not None:
        cut = " (cut at the longest length for this kind of file)" if shown.cut else ""
        print(f"{shown.path}: {shown.frames} frame{'s' if shown.frames != 1 else ''}{cut}")


def _training_seed(name: str, env: str | None, seed: int, settings: Sequence[str]) -> int:
    """The seed of the episodes that a run was trained on.

    Raises:
        ConfigError: where there are none that could be played again.
    """
    if name in SCRIPTED:
        raise ConfigError(f"--training shows the episodes that a run was trained on: {name} is no run")
    if env is not None or seed or settings:
        raise ConfigError("--training shows the run's own episodes: leave --env, --seed and --set out")
    model_file = find_model(name)
    config = config_of(model_file)
    if config is None:
        raise ConfigError(f"{model_file} is not in a run folder: nobody knows which episodes it was trained on")
    if not isinstance(resolve(config.env), EnvEntry):
        raise ConfigError(f"{config.env} is not a palaestra environment: its episodes cannot be played again")
    return config.seed


def bench(env: str, agent: str, repeats: int, device: str, what: str, as_json: bool) -> None:
    """Measure and print: ``what`` is throughput, scaling or solving."""
    from palaestra.train.bench import report as bench_table
    from palaestra.train.bench import scaling, time_to_solve
    from palaestra.train.bench import throughput as bench

    known(device.partition(":")[0], ("auto", "cpu", "cuda"), "device")
    known(agent, AGENTS, "agent")
    if what == "scaling":
        result, table = scaling.measure_scaling(env, agent, repeats, device), scaling.scaling_table
    elif what == "solving":
        result, table = time_to_solve.measure_solving(env, agent, device), time_to_solve.solving_table
    else:
        result, table = bench.measure(env, agent, repeats, device), bench_table.table
    print(json.dumps(result, indent=1) if as_json else table(result))


def results(
    envs: Sequence[str],
    agents: Sequence[str],
    seeds: int,
    root: Path,
    jobs: int,
    as_json: bool,
    readme: Path | None,
    fresh: bool,
) -> bool:
    """Run the grid and tell its results; whether all runs went well. A README gets no table with holes."""
    from palaestra.train.results.grid import between_markers, collect, grid, run_grid, table, write_readme

    runs = grid(envs, agents, seeds, root)
    if readme is not None:
        between_markers(readme, "")  # find out now, not after hours
    failures = run_grid(runs, fresh, jobs)
    rows = collect(runs, failures)
    if readme is not None and not failures:
        write_readme(readme, table(rows))
    if as_json:
        print(json.dumps(rows, indent=1))
    elif readme is None or failures:
        print(table(rows))
    return not failures


# ---------------------------------------------------------------------------------------------------- what to act with


@dataclass(frozen=True)
class Subject:
    """Who plays, and where."""

    env: str
    env_kwargs: dict[str, Any]
    policy: Policy
    device: str
    label: str


def find_subject(name: str, env: str | None, stochastic: bool, settings: Sequence[str]) -> Subject:
    """A scripted policy or the agent of a run, with its environment; ``settings`` may change the environment."""
    if bad := [s for s in settings if not s.startswith("env.")]:
        raise ConfigError(f"--set {bad[0]}: only environment settings (env.KEY=VALUE) apply here")
    if name in SCRIPTED:
        if env is None:
            raise ConfigError(f"{name} needs --env ENV")
        kwargs = resolve_config(env, settings=settings).env_kwargs
        found = resolve(env)
        if name == "expert" and not (isinstance(found, EnvEntry) and rules_of(found, kwargs).has("expert")):
            raise ConfigError(f"{env} has no expert")
        return Subject(env, kwargs, SCRIPTED[name](), "cpu", name)
    model_file = find_model(name)
    config = config_of(model_file)
    if config is None and env is None:
        raise ConfigError(f"{model_file} is not in a run folder: say which environment it plays with --env ENV")
    if config is None or (env is not None and resolve(config.env) != resolve(env)):
        assert env is not None
        config = resolve_config(env, _agent_in(model_file), settings=settings)
    else:
        config = with_settings(config, settings)
    runs.use_available_cores()
    model = AGENTS[config.agent].load(model_file)
    policy = AgentPolicy(model, deterministic=not stochastic, name=str(model_file))
    return Subject(config.env, config.env_kwargs, policy, str(model.device), config.agent)


def find_unfinished(name: str) -> Path:
    """What ``--resume`` goes on from: a run folder, a file in one, or the newest run below ``runs/`` for ``latest``.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(name)
    if name == "latest":
        made = [p.parent for p in _runs_made() if (p.parent / "model.zip").is_file() or checkpoints(p.parent)]
        if not made:
            raise ConfigError("there is no run with a checkpoint below runs/ yet; palaestra train makes one")
        return made[-1]
    if not path.exists():
        raise ConfigError(f"no run {name!r}: give a run folder, a checkpoint or latest")
    return path


def _runs_made() -> list[Path]:
    """Their configurations, the newest last."""
    return sorted(Path("runs").glob("*/*/*/config.yaml"), key=lambda p: p.stat().st_mtime)


def find_model(name: str) -> Path:
    """The model file of a run folder, a file itself, or the newest run below ``runs/`` for ``latest``.

    Raises:
        ConfigError: if there is none.
    """
    path = Path(name)
    if name == "latest":
        with_model = [p.parent for p in _runs_made() if (p.parent / "model.zip").is_file()]
        if not with_model:
            raise ConfigError("there is no run with a model below runs/ yet; palaestra train makes one")
        path = with_model[-1]
    if path.is_dir():
        if not (path / "model.zip").is_file():
            raise ConfigError(f"{path} holds no model.zip")
        return path / "model.zip"
    if not path.is_file():
        raise ConfigError(f"no run {name!r}: give a run folder, a model file, latest, random or expert")
    return path


def _agent_in(model_file: Path) -> str:
    names = {cls.__name__: name for name, cls in AGENTS.items()}
    found = agent_of(model_file)
    known(found, names, f"agent in {model_file}:")
    return names[found]


def config_of(model_file: Path) -> RunConfig | None:
    """The configuration beside a model file; None where there is none."""
    path = model_file.parent / "config.yaml"
    if not path.is_file():
        return None
    return RunConfig.from_dict(read_file(path))


# ---------------------------------------------------------------------------------------------------- text


def report(result: Evaluation) -> str:
    """An evaluation for people to read."""
    lines = [
        f"{result.run} on {result.env}, {result.episodes:,} held-out episodes (seed {result.seed})",
        f"  mean return    {result.mean:.3f}  (95% interval {result.ci_low:.3f} to {result.ci_high:.3f})",
        f"  IQM            {result.iqm:.3f}",
        f"  deviation      {result.std:.3f}",
        f"  mean length    {result.mean_length:.1f} steps",
    ]
    if result.success_rate is not None:
        lines.append(f"  success rate   {100 * result.success_rate:.1f}%")
    if result.ratio_to_optimal_percent is not None:
        lines.append(f"  of the optimum {result.ratio_to_optimal_percent:.1f}%  ({result.reference['optimum']:g})")
    if result.percent_of_optimal is not None:
        lines.append(f"  % of optimal   {result.percent_of_optimal:.1f}%  (random policy = 0, optimum = 100)")
    width = max((len(name) for name in result.more), default=0)
    lines += [f"  {name.replace('_', ' '):<{max(14, width)}} {value:.3f}" for name, value in result.more.items()]
    return "\n".join(lines)


def verdict(result: Evaluation, run: runs.RunResult) -> str:
    """One line: how good, after how long."""
    minutes, seconds = divmod(round(run.training_seconds), 60)
    spent = f"{run.num_timesteps:,} steps in {minutes}:{seconds:02d}"
    if run.solved_at is None:
        return f"trained: mean return {result.score:.2f} after {spent}"
    word = "solved" if result.score >= run.solved_at else "not solved"
    reached = run.solved_after_seconds
    when = "" if reached is None else f"; reached {run.solved_at:g} after {reached:.1f} s"
    return f"{word}: mean return {result.score:.2f} (solved from {run.solved_at:g}) after {spent}{when}"
