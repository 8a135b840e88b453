"""Outputs of a run's numbers: ``progress.csv`` always, and the trackers that ``--track`` names beside it.

One row, several places: all get the same scalars from SB3's logger, so what a tracker shows equals ``progress.csv`` row
for row. The x axis is ``global_step``. Each tracker is a thread of its own
(:mod:`palaestra.train.loggers.background`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from stable_baselines3.common.logger import KVWriter

from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import tell
from palaestra.train.loggers.background import BackgroundLogger, BackgroundOutput
from palaestra.train.loggers.csv_logger import CsvOutput, ScalarRow
from palaestra.train.loggers.tensorboard_logger import TensorBoardLogger
from palaestra.train.loggers.trackio_logger import TrackioLogger
from palaestra.train.loggers.wandb_logger import Mode, WandbLogger, resolve_mode

WANDB_MODES = get_args(Mode)
OTHERS = ("tensorboard", "trackio")  # and the packages that they need


def trackers_of(track: str) -> tuple[str, list[str]]:
    """W&B's mode ("disabled" unless one is named) and the other trackers, of names joined by commas.

    Raises:
        ConfigError: on an unknown name, two modes of W&B, and a tracker that is not installed.
    """
    names = [name.strip() for name in track.split(",")]
    modes = [name for name in names if name in WANDB_MODES]
    if len(modes) > 1 or any(name not in (*WANDB_MODES, *OTHERS) for name in names):
        known = f"{', '.join(WANDB_MODES[:-1])} or {WANDB_MODES[-1]} (Weights & Biases)"
        raise ConfigError(f"--track {track}: expected {known}, tensorboard, trackio, or several with commas")
    others = [name for name in OTHERS if name in names]
    for name in others:
        if find_spec(name) is None:
            raise ConfigError(f"--track {name} needs a package that is not installed: pip install {name}")
    return modes[0] if modes else "disabled", others


class Tracker:
    """A run's tracking: give ``outputs`` to SB3's ``Logger``, and call :meth:`finish` at the end.

    Attributes:
        outputs: writers for ``stable_baselines3.common.logger.Logger``.
    """

    def __init__(self, csv_output: CsvOutput | None, loggers: Sequence[BackgroundLogger]) -> None:
        self._csv, self._loggers = csv_output, loggers
        self.outputs: list[KVWriter] = [BackgroundOutput(logger) for logger in loggers]
        if csv_output is not None:
            self.outputs.insert(0, csv_output)

    @classmethod
    def start(
        cls,
        run_dir: Path,
        config: Mapping[str, Any],
        track: str = "auto",
        *,
        progress_file: Path,
        id_file: Path,
        resume_step: int | None = None,
        warn: Callable[[str], None] = tell,
    ) -> Tracker:
        """Open the curves, and the trackers in the background. Call it early: they load beside the rest.

        Args:
            run_dir: the run folder, which exists; W&B's files go to ``run_dir/wandb``, TensorBoard's to
                ``run_dir/tensorboard``.
            config: every resolved setting, as plain values.
            track: ``auto``, ``online``, ``offline`` or ``disabled`` (W&B), ``tensorboard``, ``trackio``, or several of
                them with commas.
            progress_file: ``progress.csv`` of the run.
            id_file: keeps the id of the run's page on W&B.
            resume_step: the step that the run goes on from (see :class:`CsvOutput`); None for a new run.
            warn: takes a line for the user, from another thread.

        Raises:
            ConfigError: unknown name.
            FileExistsError: the curves exist and ``resume_step`` is None.
        """
        mode, others = trackers_of(track)
        wanted = resolve_mode(mode)
        csv_output = CsvOutput(progress_file, resume_step)
        earlier = csv_output.rows() if resume_step is not None and wanted != "disabled" else None
        return cls(csv_output, _loggers(run_dir, config, wanted, others, (id_file, resume_step, earlier), warn))

    @classmethod
    def reopen(
        cls,
        run_dir: Path,
        config: Mapping[str, Any],
        track: str,
        step: int,
        *,
        id_file: Path,
        warn: Callable[[str], None] = tell,
    ) -> Tracker:
        """Open the trackers of a run that has ended after that step, to add to it; its ``progress.csv`` stays as it is.

        Arguments and errors are those of :meth:`start`.
        """
        mode, others = trackers_of(track)
        return cls(None, _loggers(run_dir, config, resolve_mode(mode), others, (id_file, step, []), warn, adds=True))

    @property
    def places(self) -> list[str | Path]:
        """Where the curves are: an address or a folder of W&B, and the commands that show them elsewhere."""
        return [logger.place for logger in self._loggers if logger.place is not None]

    @property
    def url(self) -> str | None:
        """Of the run on W&B's site; None while it is not known, and offline."""
        return next((logger.url for logger in self._loggers if isinstance(logger, WandbLogger)), None)

    @property
    def offline_dir(self) -> Path | None:
        """The folder that `wandb sync` sends; None while it is not known, and online."""
        return next((logger.offline_dir for logger in self._loggers if isinstance(logger, WandbLogger)), None)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a row of one's own, e.g. an evaluation's numbers, to every output."""
        for output in self.outputs:
            output.write(dict(metrics), {}, step)

    def log_video(self, path: Path, step: int) -> None:
        """Send a recorded episode (mp4, gif or webm) as ``eval/video``, and its last picture as ``eval/picture``.

        The file stays until :meth:`finish`.
        """
        for logger in self._loggers:
            logger.log_video(path, step)

    def log_model(self, path: Path, name: str) -> None:
        """Send a copy of a model file as an artifact of type "model"; the file stays until :meth:`finish`."""
        self._log_file(path, name, "model")

    def log_page(self, path: Path, name: str) -> None:
        """Send a copy of the run's report as an artifact of type "report"; the file stays until :meth:`finish`."""
        self._log_file(path, name, "report")

    def _log_file(self, path: Path, name: str, kind: str) -> None:
        """The name of an artifact has letters, digits, ``_``, ``.`` and ``-`` only."""
        for logger in self._loggers:
            logger.log_file(path, re.sub(r"[^\w.-]+", "-", name), kind)

    def log_table(self, name: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        """Send a table, such as the final evaluation's."""
        for logger in self._loggers:
            logger.log_table(name, heads, rows, step)

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """Set summary values, close everything, and wait in bounded time for the uploads; later calls do nothing."""
        if self._csv is not None:
            self._csv.close()
        for logger in self._loggers:
            if logger.is_alive():
                logger.log_summary(summary or {})
                logger.end()


def _loggers(
    run_dir: Path,
    config: Mapping[str, Any],
    mode: Mode,
    others: Sequence[str],
    earlier: tuple[Path, int | None, list[ScalarRow] | None],
    warn: Callable[[str], None],
    adds: bool = False,
) -> list[BackgroundLogger]:
    """Start the trackers; ``earlier`` are the file of W&B's id, and the step and rows that the run goes on from."""
    id_file, resume_step, rows = earlier
    loggers: list[BackgroundLogger] = []
    if mode != "disabled":
        loggers.append(WandbLogger(run_dir, config, mode, id_file, rows, warn, keeps_parts=adds))
    if "tensorboard" in others:
        loggers.append(TensorBoardLogger(run_dir / "tensorboard", config, resume_step, warn))
    if "trackio" in others:
        loggers.append(TrackioLogger(run_dir, config, resume_step is not None, warn))
    for logger in loggers:
        logger.start()
    return loggers
