"""``palaestra sweep``: search for better settings than the preset's, and find out whether they are better.

1. Trials are runs in ``<folder>/trial-NNNN/``, each with a training seed of its own, so that no seed's luck is
   optimised. Their score is that of the evaluations during training, on the validation seed. The study that chooses
   them is in ``<folder>/sweep.db`` or any database (:mod:`palaestra.train.sweep.study`); the same command goes on with
   it, in any number of processes and machines.
2. When all trials are done the best few are trained again, beside the preset, on seeds that no trial had, in
   ``<folder>/again/``. One worker does that.
3. ``results.md``, ``trials.csv``, ``results.json``, three pictures, and ``best.yaml`` for ``palaestra train --config``
   tell the outcome (:mod:`palaestra.train.sweep.summary`).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palaestra.envs.core.host import available_cores
from palaestra.train.config import DEFAULT_AGENT
from palaestra.train.config.run_config import RunConfig, environment, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import tell, terminal_width
from palaestra.train.interruptions import Interrupted, StopSignal
from palaestra.train.markdown import on_screen
from palaestra.train.runs.run_folder import only_process
from palaestra.train.sweep.custom_space import first_of, user_space
from palaestra.train.sweep.search_space import Space, default_space
from palaestra.train.sweep.trial import LaunchTrial, TrialProcess

if TYPE_CHECKING:
    import optuna

    from palaestra.envs.specs import ResolvedEnv

DATABASE = "sweep.db"


def plan(env: str, agent: str | None, settings: Sequence[str], varies: Sequence[str], **options: Any) -> Space:
    """The space to search, checked before anything starts.

    Raises:
        ConfigError, UnknownEnvError: as ``palaestra train`` would, and for what ``--vary`` says.
    """
    try:
        base = resolve_config(env, agent, settings=settings, **options)
    except ConfigError:  # the preset's value of what varies may not fit what is set
        base = resolve_config(env, agent, settings=[*settings, *map(first_of, varies)], **options)
    return _space(base, settings, varies)


def plan_again(
    env: str,
    agent: str | None,
    settings: Sequence[str],
    varies: Sequence[str],
    folder: Path | None,
    url: str | None,
    **options: Any,
) -> Space | None:
    """The space of a sweep that the same command began; None if there is none.

    What its settings named then, a robot's file say, may be gone or in another folder by now: the sweep has kept it.
    """
    found = environment(env)
    folder = folder or _default_folder(found, agent or DEFAULT_AGENT)
    if url is None and not (folder / DATABASE).is_file():
        return None
    from palaestra.train.sweep.study import begun, open_storage, storage_errors

    with storage_errors():
        kept = begun(open_storage(url or _database(folder)), _study_name(found, folder), settings)
    if kept is None or kept["agent"] != (agent or DEFAULT_AGENT):
        return None
    given = {name: value for name, value in options.items() if value is not None}
    return _space(RunConfig.from_dict({**kept, "device": "auto", **given}), settings, varies)


def _space(base: RunConfig, settings: Sequence[str], varies: Sequence[str]) -> Space:
    both = {text.partition("=")[0].strip() for text in settings} & {v.partition("=")[0].strip() for v in varies}
    if both:
        raise ConfigError(f"{min(both)} is both set and varied")
    return user_space(base, varies) if varies else default_space(base, settings)


def _database(folder: Path) -> str:
    return f"sqlite:///{(folder / DATABASE).resolve()}"


def _study_name(env: ResolvedEnv, folder: Path) -> str:
    return f"{env.short_name}/{folder.resolve().name}"


def default_folder(config: RunConfig) -> Path:
    """The folder in which the same command finds its sweep again."""
    return _default_folder(config.resolved_env, config.agent)


def _default_folder(env: ResolvedEnv, agent: str) -> Path:
    return Path("runs", env.short_name, "sweeps", agent)


def sweep(
    space: Space,
    trials: int,
    jobs: int,
    folder: Path | None,
    url: str | None,
    as_json: bool,
    launch: LaunchTrial | None = None,
    settings: Sequence[str] = (),
) -> bool:
    """Run the sweep, or this worker's part of it, and tell the outcome; whether there is one.

    Args:
        trials: in all, those of earlier calls and other workers included.
        jobs: trials at a time in this process; they share its cores.
        folder: of the trials; by default :func:`default_folder`.
        url: of the database, for SQLAlchemy; by default a file in the folder.
        launch: starts a trial.
        settings: of the command line, by which the same command is known again.

    Raises:
        ConfigError: without Optuna, on a storage out of reach, on a folder or a study of another sweep.
        KeyboardInterrupt: after Ctrl-C, when all is put away.
    """
    for package in ("optuna", "matplotlib", "scipy"):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(f"palaestra sweep needs {package}: pip install 'palaestra[sweep]'")
    from palaestra.train.sweep.study import Worker, open_storage, open_study, storage_errors

    threads = max(1, available_cores() // jobs) if jobs > 1 else None
    launch = launch or (lambda config, folder: TrialProcess(config, folder, threads))
    folder = folder or default_folder(space.base)
    folder.mkdir(parents=True, exist_ok=True)
    name = _study_name(space.base.resolved_env, folder)
    with storage_errors(), StopSignal(lambda _: tell("stopping: trials save and end; again: at once")) as stop:
        storage = open_storage(url or _database(folder))
        where = str(folder) if url is None else f"the storage's study {name}"
        study = open_study(storage, name, space, where, settings)
        tell(f"varied: {'; '.join(space.describe())}")
        done = Worker(study, storage, space, folder, launch).run(trials, jobs, lambda: stop.requested)
        if done:
            with ExitStack() as held:
                try:
                    held.enter_context(only_process(folder))
                except ConfigError:
                    tell(f"another worker trains the best again; its report will be in {folder}")
                    return True
                outcome = _outcome(space, study, folder, launch, jobs, stop, as_json)
            if outcome is not None:
                return outcome
        tell("interrupted; the same command goes on")
        raise Interrupted


def _outcome(
    space: Space, study: optuna.Study, folder: Path, launch: LaunchTrial, jobs: int, stop: StopSignal, as_json: bool
) -> bool | None:
    """Train the best again and report; whether there is a best, None if stopped."""
    from palaestra.train.sweep.reruns import choose, train_again
    from palaestra.train.sweep.study import counted
    from palaestra.train.sweep.summary import report

    candidates = choose(space, counted(study), folder / "again")
    if not train_again(candidates, launch, jobs, lambda: stop.requested):
        return None
    text = report(space, study, candidates, folder, as_json)
    print(text if as_json else on_screen(text, terminal_width(sys.stdout)))
    return len(candidates) > 1
