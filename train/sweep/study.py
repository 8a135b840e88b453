"""The shared part of a sweep: an Optuna study in a database, and a worker that runs its trials.

1. Any number of workers, on one machine or several, ask the same storage for trials until the study has as many as were
   wanted. The storage numbers the trials; if two workers claim one at once and only one is left, the later
   claim is released.
2. The sampler is multivariate TPE, which takes running trials into account. Bad trials are stopped early by
   asynchronous successive halving: at 20, 40 and 80 % of the training only the better half goes on. The first ``WHOLE``
   go on in any case, for early scores alone say little.
3. A trial whose process fails is a failed trial, with its error. A trial whose worker stops or dies (no heartbeat for
   ``GRACE`` seconds) is lost: it does not count, and is tried again with the same values, in the same folder, where it
   goes on from its last checkpoint if the folder is there.
4. A worker is one thread that looks at its trials a few times a second.

Sources: Bergstra et al. 2011 (TPE); Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (ASHA).
"""

from __future__ import annotations

import importlib.util
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import tell
from palaestra.train.sweep.search_space import Space
from palaestra.train.sweep.trial import LaunchTrial, TrialProcess, score

HEARTBEAT, GRACE = 15, 120  # s
LOCK_PATIENCE = 60.0  # s that SQLite waits for other workers
POLL = 0.25  # s
WHOLE = 4  # trials that are never stopped early
REPORTS = 10  # steps that the pruner counts in; a run has ten evaluations
SEEDS = 2**32
_FACTS, _SETTINGS, _ORIGIN, _ERROR = "sweep", "settings", "origin", "error"  # user attributes
_SHOWN = 100  # letters of a value in a message
_RETRIES = 3

warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", "Heartbeat of storage")  # Worker keeps it
optuna.logging.set_verbosity(logging.ERROR)  # we tell what happens


def open_storage(url: str) -> RDBStorage:
    """The database behind a URL, made where it is not there yet.

    Raises:
        ConfigError: if it cannot be reached, or PostgreSQL's driver is missing.
    """
    url = _with_driver(url)
    engine: dict[str, Any] = {"pool_pre_ping": True}  # connections that a restarted server has closed are made anew
    if url.startswith("sqlite"):
        engine = {"connect_args": {"timeout": LOCK_PATIENCE}}
    for attempt in range(10):
        try:
            return RDBStorage(
                url,
                engine_kwargs=engine,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(_RETRIES),
            )
        except (SQLAlchemyError, ImportError, RuntimeError, KeyError, ValueError) as error:
            # another worker may be making the same tables
            if attempt == 9 or isinstance(error, ArgumentError | ImportError) or not _may_pass(error):
                raise ConfigError(f"the storage cannot be reached: {str(error).splitlines()[0]}") from error
            time.sleep(0.2 * (attempt + 1))
    raise AssertionError


def _with_driver(url: str) -> str:
    """The URL with the driver that the extra brings: SQLAlchemy's own choice depends on its version."""
    scheme, separator, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres") or not separator:
        return url
    if importlib.util.find_spec("psycopg") is None:
        raise ConfigError(f"--storage {scheme}://… needs psycopg: pip install 'palaestra[sweep]'")
    return f"postgresql+psycopg://{rest}"


def _may_pass(error: Exception) -> bool:
    return isinstance(error, SQLAlchemyError) and any(word in str(error) for word in ("exists", "locked", "UNIQUE"))


@contextmanager
def storage_errors() -> Iterator[None]:
    """A ConfigError in place of errors of a database that goes away in the middle; no trial is lost."""
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        text = str(cause).splitlines()[0]
        raise ConfigError(f"the storage failed ({text}); the same command goes on with the sweep") from error


def open_study(storage: RDBStorage, name: str, space: Space, where: str, settings: Sequence[str] = ()) -> optuna.Study:
    """The study of that name, new or as it is; ``settings`` are those of the command line that begins it.

    Raises:
        ConfigError: if it is another sweep's.
    """
    facts = {**{k: v for k, v in space.base.as_dict().items() if k != "device"}, "space": space.describe()}
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=REPORTS // 5, reduction_factor=2)
    options: dict[str, Any] = {"storage": storage, "study_name": name, "pruner": pruner}
    try:
        study = optuna.create_study(**options, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError:
        study = optuna.load_study(**options)
        found = _facts(study)
        for key, value in facts.items():
            if found.get(key) != value:
                name, theirs, ours = _difference(key, found.get(key), value)
                raise ConfigError(
                    f"{where} holds another sweep, whose {name} is {theirs}, not {ours}; use another --dir"
                ) from None
        return study
    if space.start is not None:
        study.enqueue_trial(space.start)
    study.set_user_attr(_SETTINGS, list(settings))
    study.set_user_attr(_FACTS, facts)
    return study


def begun(storage: RDBStorage, name: str, settings: Sequence[str]) -> dict[str, Any] | None:
    """The run configuration, without a device, that a sweep began with; None unless it was with these settings."""
    try:
        study = optuna.load_study(storage=storage, study_name=name)
    except KeyError:
        return None
    if study.user_attrs.get(_SETTINGS) != list(settings):
        return None
    return {key: value for key, value in _facts(study).items() if key != "space"}


def _facts(study: optuna.Study) -> dict[str, Any]:
    """The settings that the study was made with; they are written right after it is made."""
    for _ in range(50):
        if _FACTS in study.user_attrs:
            return dict(study.user_attrs[_FACTS])
        time.sleep(0.1)
    raise ConfigError(
        f"the study {study.study_name} was not made by palaestra sweep, or never whole; use another --dir"
    )


def _difference(name: str, theirs: Any, ours: Any) -> tuple[str, str, str]:
    """The first part that differs, by its name, as one and the other have it, in few letters."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        key = next(key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key))
        return _difference(f"{name}.{key}", theirs.get(key), ours.get(key))
    if isinstance(theirs, list) and isinstance(ours, list) and all(isinstance(x, str) for x in (*theirs, *ours)):
        pairs = ((theirs, ours), (ours, theirs))
        less, more = ("; ".join(x for x in one if x not in other) or "less" for one, other in pairs)
        return name, less, more
    found = ["not set" if value is None else f"{value!r}" for value in (theirs, ours)]
    first, second = (text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…" for text in found)
    return name, first, second


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that are running or done, in the order of their numbers; lost ones and those not begun are not."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED) or error_of(trial) is not None
    ]


def number_of(trial: FrozenTrial | optuna.Trial) -> int:
    """The number of the trial, or of the lost one that it repeats; it names the folder and gives the seed."""
    return int(trial.user_attrs.get(_ORIGIN, trial.number))


def error_of(trial: FrozenTrial) -> str | None:
    """The error of a failed trial; None for others."""
    error: str | None = trial.user_attrs.get(_ERROR) if trial.state == TrialState.FAIL else None
    return error


def folder_name(number: int) -> str:
    return f"trial-{number:04d}"


def claim(study: optuna.Study, wanted: int, seed: int) -> optuna.Trial | None:
    """A new trial; None if all are taken."""
    fail_stale_trials(study)
    if len(counted(study)) >= wanted:
        return None
    # a sampler of its own for each trial: workers do not repeat each other, and one worker alone repeats itself
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=min(10, max(3, wanted // 4)),
        multivariate=True,
        constant_liar=True,
        seed=(seed + 1_000_003 * len(study.get_trials(deepcopy=False))) % SEEDS,
    )
    trial = study.ask()
    if sum(other.number < trial.number for other in counted(study)) >= wanted:  # another worker was faster
        study.tell(trial, state=TrialState.FAIL)
        return None
    return trial


@dataclass
class ClaimedTrial:
    """A trial that this worker runs."""

    trial: optuna.Trial
    process: TrialProcess
    reported: int = 0  # steps, of REPORTS
    seen: int = 0  # evaluations
    settled: bool = False  # the storage knows how it ended
    beat: float = field(default_factory=time.monotonic)


class Worker:
    """Runs trials of a study, ``jobs`` at a time, until it has as many as wanted."""

    def __init__(
        self, study: optuna.Study, storage: RDBStorage, space: Space, folder: Path, launch: LaunchTrial
    ) -> None:
        self.study, self.storage, self.space, self.folder, self.launch = study, storage, space, folder, launch
        self.jobs: list[ClaimedTrial] = []

    def run(self, wanted: int, at_once: int, stopped: Callable[[], bool]) -> bool:
        """True when all trials are done, those of other workers too; False if ``stopped`` said so."""
        told, looked = False, -60.0
        try:
            while not stopped():
                self._look(wanted)
                while len(self.jobs) < at_once and self._start(wanted):
                    pass
                if not self.jobs and time.monotonic() - looked > (1.0 if told else 0.0):
                    others = sum(trial.state == TrialState.RUNNING for trial in counted(self.study))
                    if not others and len(counted(self.study)) >= wanted:
                        return True
                    if not told:
                        tell(f"waiting for {others} trial{'s' if others != 1 else ''} of other workers")
                    told, looked = True, time.monotonic()
                time.sleep(POLL)
            return False
        finally:
            self._give_up()

    def _start(self, wanted: int) -> bool:
        trial = claim(self.study, wanted, self.space.base.seed)
        if trial is None:
            return False
        self.storage.record_heartbeat(trial._trial_id)  # Optuna's own loop has no other way
        number = number_of(trial)
        trial.set_user_attr(_ORIGIN, number)
        config = self.space.config(self.space.suggest(trial))
        config = replace(config, seed=(config.seed + number) % SEEDS)
        self.jobs.append(ClaimedTrial(trial, self.launch(config, self.folder / folder_name(number))))
        return True

    def _look(self, wanted: int) -> None:
        for job in list(self.jobs):
            ended = job.process.ended()  # before its evaluations are read, so that none is missed
            try:
                if not job.settled:
                    self._follow(job, ended, wanted)
            except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
                if self.study.get_trials(deepcopy=False)[job.trial.number].state == TrialState.RUNNING:
                    raise
                job.process.stop()  # for a long while no heartbeat came through, and the trial was given to another
                job.settled = True
                tell(f"trial {number_of(job.trial)} was taken for dead and is run by another worker")
            if ended:
                job.process.wait()
                self.jobs.remove(job)

    def _follow(self, job: ClaimedTrial, ended: bool, wanted: int) -> None:
        """Report what is new, and stop a trial that is not worth going on."""
        if time.monotonic() - job.beat > HEARTBEAT:
            self.storage.record_heartbeat(job.trial._trial_id)
            job.beat = time.monotonic()
        found = job.process.evaluations()
        for evaluated in found[job.seen :]:
            job.seen += 1
            step = max(1, int(REPORTS * evaluated.done + 1e-9))
            if step <= job.reported:
                continue
            job.reported = step
            job.trial.report(evaluated.score, step)
            bad = job.trial.should_prune()  # asked for the first ones too, for it keeps the scores to compare with
            if bad and step < REPORTS and number_of(job.trial) >= WHOLE:
                job.process.stop()
                self._settle(
                    job, TrialState.PRUNED, None, f"stopped at {step / REPORTS:.0%}: {evaluated.score:,.4g}", wanted
                )
                return
        if not ended:
            return
        error, value = job.process.error(), score(found)
        if error is None and value is None:
            error = "there was no evaluation: total_timesteps is too small"
        if error is None:
            self._settle(job, TrialState.COMPLETE, value, f"{value:,.4g}", wanted)
        else:
            job.trial.set_user_attr(_ERROR, error)
            self._settle(job, TrialState.FAIL, None, f"failed: {error}", wanted)

    def _settle(self, job: ClaimedTrial, state: TrialState, value: float | None, text: str, wanted: int) -> None:
        self.study.tell(job.trial, value, state)
        job.settled = True
        done = sum(trial.state.is_finished() for trial in counted(self.study))
        settings = ", ".join(f"{key} {value}" for key, value in self.space.shown(job.trial.params).items())
        tell(f"[{done}/{wanted}] trial {number_of(job.trial)} {text}   {settings}")

    def _give_up(self) -> None:
        """End what runs, which only an interruption or an error leaves running; its trials are put back."""
        for job in self.jobs:
            job.process.stop()
        for job in self.jobs:
            job.process.wait()
        for job in self.jobs:
            if not job.settled and self.study.get_trials(deepcopy=False)[job.trial.number].state == TrialState.RUNNING:
                RetryHeartbeatStaleTrialCallback(_RETRIES)(
                    self.study, self.study.tell(job.trial, state=TrialState.FAIL)
                )
        self.jobs.clear()
