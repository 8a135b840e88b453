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
from palaestra.train.config.run_config import RunConfig, resolve_config
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


def plan(env: str, agent: str | None, settings: Sequence[str], varies: Sequence[str], **options: Any) -> Space:
    """The space to search, checked before anything starts.

    Raises:
        ConfigError, UnknownEnvError: as ``palaestra train`` would, and for what ``--vary`` says.
    """
    try:
        base = resolve_config(env, agent, settings=settings, **options)
    except ConfigError:  # the preset's value of what varies may not fit what is set
        base = resolve_config(env, agent, settings=[*settings, *map(first_of, varies)], **options)
    both = {text.partition("=")[0].strip() for text in settings} & {v.partition("=")[0].strip() for v in varies}
    if both:
        raise ConfigError(f"{min(both)} is both set and varied")
    return user_space(base, varies) if varies else default_space(base, settings)


def default_folder(config: RunConfig) -> Path:
    """The folder in which the same command finds its sweep again."""
    return Path("runs", config.resolved_env.short_name, "sweeps", config.agent)


def sweep(
    space: Space,
    trials: int,
    jobs: int,
    folder: Path | None,
    url: str | None,
    as_json: bool,
    launch: LaunchTrial | None = None,
) -> bool:
    """Run the sweep, or this worker's part of it, and tell the outcome; whether there is one.

    Args:
        trials: in all, those of earlier calls and other workers included.
        jobs: trials at a time in this process; they share its cores.
        folder: of the trials; by default :func:`default_folder`.
        url: of the database, for SQLAlchemy; by default a file in the folder.
        launch: starts a trial.

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
    name = f"{space.base.resolved_env.short_name}/{folder.resolve().name}"
    with storage_errors(), StopSignal(lambda _: tell("stopping: trials save and end; again: at once")) as stop:
        storage = open_storage(url or f"sqlite:///{(folder / 'sweep.db').resolve()}")
        study = open_study(storage, name, space, str(folder) if url is None else f"the storage's study {name}")
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
