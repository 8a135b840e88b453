"""Curves for Trackio, a local database of runs: ``trackio show --project palaestra``. No other file imports trackio.

Trackio keeps all runs of a project in one SQLite file, in its own folder (``TRACKIO_DIR``, else in the cache of Hugging
Face); a run has the last three folders of its path for a name. A run that goes on stays one run, which gets the rows
that it has not. Nothing leaves the machine unless the person has told Trackio so (``TRACKIO_SPACE_ID``).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3

from palaestra.train.loggers.background import BackgroundLogger
from palaestra.train.loggers.csv_logger import ScalarRow
from palaestra.train.loggers.metric_names import ITERATION, STEP
from palaestra.train.recording.film_pictures import last_picture

if TYPE_CHECKING:
    import trackio

TRACKIO_PROJECT = "palaestra"


class TrackioLogger(BackgroundLogger):
    """Logs in a thread, in which alone Trackio knows the run."""

    service = "Trackio"

    def __init__(self, run_dir: Path, config: Mapping[str, Any], resumed: bool, warn: Callable[[str], None]) -> None:
        super().__init__(warn)
        self._name, self._config, self._resumed = "/".join(run_dir.resolve().parts[-3:]), dict(config), resumed
        self._seen = -1  # the last step that a resumed run has there
        self.place = f"trackio show --project {TRACKIO_PROJECT}"

    def open(self) -> trackio.Run:
        import trackio
        from trackio import run, utils

        for module in (trackio, run, utils):  # which print with every start and end, in the midst of a progress bar
            module.print = lambda *args, **kwargs: None
        found = trackio.init(
            project=TRACKIO_PROJECT,
            name=self._name,
            config=self._config,
            resume="allow" if self._resumed else "never",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        if self._resumed:
            last = trackio.SQLiteStorage.get_max_step_for_run(TRACKIO_PROJECT, found.name, run_id=found.id)
            self._seen = -1 if last is None else last
        return found

    def log_row(self, row: ScalarRow, run: trackio.Run) -> None:
        if row[STEP] > self._seen or (row[STEP] == self._seen and ITERATION not in row):  # a final evaluation
            run.log(dict(row), step=int(row[STEP]))

    def log_video(self, path: Path, step: int) -> None:
        """A copy of the file as ``eval/video``; its last picture as ``eval/picture``."""
        self.submit("sending a video", functools.partial(_log_video, path.absolute(), step))

    def log_file(self, path: Path, name: str, kind: str) -> None:
        """A copy of the file as an artifact of that type."""
        self.submit(f"sending the {kind}", functools.partial(_log_file, path.absolute(), name, kind))

    def log_table(self, name: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        self.submit("sending a table", functools.partial(_log_table, name, heads, rows, step))

    def close(self, run: trackio.Run) -> None:
        run.finish()


def _log_video(path: Path, step: int, run: trackio.Run) -> None:
    import trackio

    shown: dict[str, Any] = {"eval/video": trackio.Video(path)}
    if (picture := last_picture(path)) is not None:
        shown["eval/picture"] = trackio.Image(imageio.v3.imread(picture))
    run.log(shown, step=step)


def _log_file(path: Path, name: str, kind: str, run: trackio.Run) -> None:
    run.log_artifact(path, name=name, type=kind)


def _log_table(name: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], step: int, run: trackio.Run) -> None:
    import trackio

    run.log({name: trackio.Table(columns=list(heads), data=[list(row) for row in rows])}, step=step)
