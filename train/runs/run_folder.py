"""The folder of one run: the names of its files, and how they are read; :mod:`palaestra.train.runs.finding` finds it.

``runs/<env>/<agent>/<UTC time>-s<seed>/`` holds ``config.yaml`` (every resolved setting), ``run.json`` (versions,
commit, machine, time, steps/s), ``progress.csv``, ``model.zip`` (latest), ``best.zip`` (best evaluation so far),
``eval.json`` (the final evaluation), ``videos/`` and ``wandb/``, and while it is not finished ``checkpoints/``
(:mod:`palaestra.train.runs.checkpoints`). Those go last: a folder with an evaluation and without checkpoints is
finished. ``abandoned-STEP/`` is a run folder too, see :mod:`palaestra.train.runs.abandoned`. ``.lock`` is held while a
process works in the folder. A folder that exists is never overwritten, and training deletes nothing in it but files
that it has named; links are not followed. This module is imported without PyTorch, which takes seconds.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palaestra.train.config.schema import ConfigError

if TYPE_CHECKING:
    from palaestra.train.config.run_config import RunConfig
    from palaestra.train.runs.curves import Curves

ROOT = Path("runs")
STAMP = "%Y%m%d-%H%M%S"  # UTC, when a run began
CONFIG = "config.yaml"
_LOCK = ".lock"
_PATIENCE = 0.5  # s; RunFolder.is_in_use of another process holds the lock for a moment
_CHECKPOINT = re.compile(r"\d{15}\.(zip|rank\d+of\d+)|\.\d{15}\..+\.unfinished")  # the last is one half written


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, which need not exist, by its path."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / CONFIG

    @property
    def environment_file(self) -> Path:
        """The forms of observations and actions, a digest of the environment's source, and threads and processor."""
        return self.path / "environment.json"

    @property
    def facts_file(self) -> Path:
        return self.path / "run.json"

    @property
    def progress_file(self) -> Path:
        return self.path / "progress.csv"

    @property
    def wandb_id_file(self) -> Path:
        """The id of the run's page on W&B."""
        return self.path / "wandb-id.txt"

    @property
    def wandb_folder(self) -> Path:
        """The files of W&B, which puts them into a folder of that name."""
        return self.path / "wandb"

    @property
    def model_file(self) -> Path:
        return self.path / "model.zip"

    @property
    def best_file(self) -> Path:
        return self.path / "best.zip"

    @property
    def evaluation_file(self) -> Path:
        return self.path / "eval.json"

    @property
    def episodes_file(self) -> Path:
        """Return and length of each episode of the final evaluation."""
        return self.path / "episodes.csv"

    @property
    def figures_file(self) -> Path:
        """What the environment adds to a report (``TensorEnv.report_figures``), of the final evaluation."""
        return self.path / "figures.json"

    @property
    def stress_file(self) -> Path:
        """Written by ``evaluate RUN --stress`` and ``card RUN --stress``: the scores in changed conditions."""
        return self.path / "stress.json"

    @property
    def positions_file(self) -> Path:
        """Written by ``evaluate RUN --positions N``: moves in a game for two beside perfect play."""
        return self.path / "positions.json"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def card_file(self) -> Path:
        """Written by ``palaestra card``: the model card."""
        return self.path / "README.md"

    @property
    def video_file(self) -> Path:
        return self.path / "videos" / "final.mp4"

    @property
    def checkpoints_folder(self) -> Path:
        return self.path / "checkpoints"

    def env_log_file(self, rank: int = 0) -> Path:
        """What environments of other people print in the process of that rank."""
        return self.path / (f"env-{rank}.log" if rank else "env.log")

    @property
    def lock_file(self) -> Path:
        """Held while a process works in the folder."""
        return self.path / _LOCK

    @property
    def wall_time_file(self) -> Path:
        """Written by ``palaestra results``: the command and the wall time of its whole process."""
        return self.path / "results.json"

    @classmethod
    def new(cls, config: RunConfig, path: Path | None = None) -> RunFolder:
        """Make the folder of a new run, below ``runs/`` unless ``path`` says where.

        Raises:
            ConfigError: if the agent cannot be built, or the given folder exists already or cannot be made.
        """
        cls.check_new(config, path)
        if path is None:
            stamp = datetime.now(UTC).strftime(STAMP)
            base = ROOT / config.resolved_env.short_name / config.agent / f"{stamp}-s{config.seed}"
            names = chain((base,), (Path(f"{base}.{i}") for i in count(2)))
            path = next(p for p in names if not p.exists())
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise ConfigError(f"run folder {path} exists already; a run is never overwritten") from None
        except OSError as error:
            raise ConfigError(f"cannot make run folder {path}: {error.strerror}") from error
        return cls(path)

    @staticmethod
    def check_new(config: RunConfig, path: Path | None) -> None:
        """Raise a ConfigError if the agent cannot be built, or the given folder exists already."""
        from palaestra.train.config.compatibility import check_policy
        from palaestra.train.config.run_config import build_arguments

        check_policy(config.agent, config.resolved_env, config.env_kwargs, build_arguments(config))
        if path is not None and path.exists():
            raise ConfigError(f"run folder {path} exists already; a run is never overwritten")

    def can_go_on(self, to_resume: bool = True) -> bool:
        """True if there is a model to use, or a checkpoint to resume from."""
        return self.model_file.is_file() or (to_resume and bool(self.checkpoints()))

    def config(self) -> RunConfig | None:
        """Every resolved setting; None if the folder has no configuration. A ConfigError if it is damaged."""
        from palaestra.train.config.run_config import RunConfig, read_file

        return RunConfig.from_dict(read_file(self.config_file)) if self.config_file.is_file() else None

    def write_config(self, config: RunConfig) -> None:
        from palaestra.envs.core.atomic_write import write_whole

        write_whole(self.config_file, config.as_yaml().encode())

    def facts(self) -> dict[str, Any]:
        """The content of ``run.json``; empty where there is none, as after a kill. A ConfigError if it is damaged."""
        return self._object_in(self.facts_file)

    def _object_in(self, file: Path) -> dict[str, Any]:
        if not file.is_file():
            return {}
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{file} is damaged: {error}") from error
        if not isinstance(content, dict):
            raise ConfigError(f"{file} is damaged: it holds no object")
        return content

    def write_environment(self, config: RunConfig) -> None:
        """Note what the environment and the machine are like, for :meth:`check_environment`."""
        from palaestra.envs.core.atomic_write import write_whole
        from palaestra.train.config.compatibility import space_forms
        from palaestra.train.runs.machine import arithmetic

        env = config.resolved_env
        content = {**space_forms(*env.spaces(config.env_kwargs)), "source": env.source(), "arithmetic": arithmetic()}
        write_whole(self.environment_file, json.dumps(content, indent=1))

    def check_environment(self, config: RunConfig, tell: Callable[[str], None], trains: bool = False) -> None:
        """Tell if the environment's source is another (if it was noted), and where training goes on, if the machine is.

        Raises:
            ConfigError: if observations or actions have another form now.
        """
        if not (noted := self._object_in(self.environment_file)):
            return
        from palaestra.train.config.compatibility import check_forms

        check_forms(noted, config.resolved_env, config.env_kwargs)
        if noted.get("source") != config.resolved_env.source():
            name = config.resolved_env.short_name
            tell(f"the source of {name} has changed since training began: scores may not compare")
        if trains:
            from palaestra.train.runs.machine import other_arithmetic

            if change := other_arithmetic(noted.get("arithmetic")):
                tell(change)

    @property
    def curves(self) -> Curves:
        """What was measured while it trained."""
        from palaestra.train.runs.curves import Curves

        return Curves(self.progress_file)

    def evaluation_files(self) -> list[Path]:
        """Every file that tells of the agent after its last step."""
        tests = self.stress_file, self.positions_file
        return [self.evaluation_file, self.episodes_file, self.figures_file, *tests, self.report_file]

    def is_evaluated(self) -> bool:
        """True if the final evaluation is written."""
        return self.evaluation_file.is_file()

    def evaluation(self) -> dict[str, Any]:
        """The final evaluation, as ``palaestra evaluate --json`` prints one."""
        return self._object_in(self.evaluation_file)

    def stress_test(self) -> dict[str, Any]:
        """The content of ``stress.json``; empty where there is none. A ConfigError if it is damaged."""
        return self._object_in(self.stress_file)

    def is_finished(self, config: RunConfig) -> bool:
        """True if all steps are trained, or a rule ended training, and it is evaluated unless Ctrl-C skipped that."""
        facts = {} if self.checkpoints() else self.facts()
        evaluated = self.is_evaluated() or facts.get("evaluation_skipped")
        return bool(facts and evaluated) and is_trained(facts, config.total_timesteps, config.stop_at)

    def model(self) -> Path:
        """The file of the latest weights; a ConfigError if there is none."""
        if not self.model_file.is_file():
            raise ConfigError(f"{self.path} holds no {self.model_file.name}")
        return self.model_file

    def checkpoint_file(self, steps: int) -> Path:
        """The checkpoint after so many steps."""
        return self.checkpoints_folder / f"{steps:015d}.zip"

    def checkpoint_files(self) -> list[Path]:
        """Every file of the checkpoints that training has named: those, and the shares of several processes."""
        if self.checkpoints_folder.is_symlink() or not self.checkpoints_folder.is_dir():
            return []
        files = (path for path in self.checkpoints_folder.iterdir() if _CHECKPOINT.fullmatch(path.name))
        return [path for path in files if not path.is_symlink()]

    def checkpoints(self) -> list[Path]:
        """All checkpoints, the newest first."""
        return sorted((path for path in self.checkpoint_files() if path.suffix == ".zip"), reverse=True)

    def is_untouched(self) -> bool:
        """True if the folder is there and nothing but the lock is in it, and what environments print."""
        return self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {_LOCK, self.env_log_file().name}

    def clear(self) -> None:
        """Delete what a run of this configuration has left that was killed before its first checkpoint."""
        for path in (self.progress_file, self.wandb_id_file, self.best_file, *self.checkpoint_files()):
            path.unlink(missing_ok=True)

    def is_in_use(self) -> bool:
        """True if a process works in the folder; False where nobody may look, or the disk has no locks."""
        if sys.platform == "win32":
            try:
                with only_process(self.path):
                    return False
            except ConfigError:
                return True
        import fcntl

        try:
            with self.lock_file.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # freed as it is closed
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes out of the folder; a ConfigError also if ``checkpoints`` is a link."""
        if self.checkpoints_folder.is_symlink():
            raise ConfigError(f"{self.checkpoints_folder} is a link, which is not followed: put a folder in its place")
        with only_process(self.path):
            yield


def processes_of(checkpoint: Path) -> int:
    """The number of processes that have written it: all but the first a share of their own, beside it."""
    shares = list(checkpoint.parent.glob(checkpoint.stem + ".rank*of*"))
    return int(shares[0].suffix.rpartition("of")[2]) if shares else 1


def is_trained(facts: Mapping[str, Any], total_timesteps: Any, stop_at: Any) -> bool:
    """True if by its ``run.json`` a run of that configuration has taken all steps, or the rule has ended it."""
    trained = facts.get("num_timesteps")
    whole = isinstance(trained, int) and isinstance(total_timesteps, int) and trained >= total_timesteps
    return whole or (stop_at is not None and facts.get("stopped") is not None)


@contextmanager
def only_process(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock``, which the operating system frees when this process ends, however it ends.

    A ConfigError if another process works there, or nothing may be written there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        if not folder.is_dir():  # filelock would make it
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        lock.acquire(timeout=_PATIENCE)
    except Timeout as error:
        raise ConfigError(f"{folder} is in use by another process") from error
    except OSError as error:
        raise ConfigError(f"cannot work in {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
