"""Curves for TensorBoard, by SB3's own writer, in ``tensorboard/`` of the run folder: ``tensorboard --logdir RUN``.

Scalars are those of ``progress.csv`` over the same steps; what else SB3's logger is given (figures, histograms, texts)
goes there too. Of a run that goes on, what was written after the step that it goes on from is purged. The settings
stand under HPARAMS and TEXT, tables under TEXT. The recorded episode and its last picture are IMAGES: TensorBoard shows
films as GIFs, and the writer's own way to make one needs a package more. It has no place for files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imageio.v3

from palaestra.train.loggers.background import BackgroundLogger
from palaestra.train.loggers.csv_logger import ScalarRow, scalar_row
from palaestra.train.loggers.metric_names import STEP
from palaestra.train.recording.film_pictures import as_gif, last_picture

if TYPE_CHECKING:
    from stable_baselines3.common.logger import TensorBoardOutputFormat


class TensorBoardLogger(BackgroundLogger):
    """Writes in a thread: importing TensorBoard's writer takes a second or two."""

    service = "TensorBoard"

    def __init__(
        self, folder: Path, config: Mapping[str, Any], resume_step: int | None, warn: Callable[[str], None]
    ) -> None:
        """Begin to write into the folder, which is made; ``resume_step`` is None for a new run."""
        super().__init__(warn)
        self._folder, self._config, self._resume_step = folder, config, resume_step
        self.place = f"tensorboard --logdir {folder}"

    def open(self) -> TensorBoardOutputFormat:
        from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat
        from torch.utils.tensorboard import SummaryWriter

        output = TensorBoardOutputFormat(str(self._folder))
        if self._resume_step is not None:  # which SB3's does not know
            output.writer.close()
            output.writer = SummaryWriter(str(self._folder), purge_step=self._resume_step + 1)
            return output
        flat = dict(_flat(self._config))
        settings = {key: value if isinstance(value, bool | int | float) else str(value) for key, value in flat.items()}
        output.write({"settings": HParam(settings, {"eval/mean_reward": 0.0})}, {"settings": ()}, 0)
        self._add_table("settings", ("setting", "value"), list(settings.items()), 0, output)
        return output

    def log_values(self, values: Mapping[str, Any], excluded: Mapping[str, tuple[str, ...]], step: int) -> None:
        row = scalar_row(values, excluded, step)
        others = {key: value for key, value in values.items() if key not in row}
        self.submit("logging", lambda run: self._write(row, run, others, excluded))

    def log_row(self, row: ScalarRow, run: TensorBoardOutputFormat) -> None:
        self._write(row, run, {}, {})

    def _write(
        self, row: ScalarRow, run: TensorBoardOutputFormat, others: Mapping[str, Any], excluded: Mapping[str, Any]
    ) -> None:
        values = {**{key: value for key, value in row.items() if key != STEP}, **others}
        run.write(values, {key: excluded.get(key) or () for key in values}, int(row[STEP]))

    def log_video(self, path: Path, step: int) -> None:
        """A smaller GIF as ``eval/video``; the last picture as ``eval/picture``."""
        self.submit("writing a video", functools.partial(self._add_video, path.absolute(), step))

    def _add_video(self, path: Path, step: int, run: TensorBoardOutputFormat) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        for name, content in {"eval/video": as_gif(path), "eval/picture": last_picture(path)}.items():
            if content is None:
                raise FileNotFoundError(f"{path} holds no film")
            height, width, _ = imageio.v3.imread(content, index=0).shape
            image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=content)
            summary = Summary(value=[Summary.Value(tag=name, image=image)])
            run.writer.file_writer.add_summary(summary, step)  # type: ignore[attr-defined]
        run.writer.flush()

    def log_table(self, name: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], step: int) -> None:
        self.submit("writing a table", functools.partial(self._add_table, name, heads, rows, step))

    def _add_table(
        self, name: str, heads: Sequence[str], rows: Sequence[Sequence[Any]], step: int, run: TensorBoardOutputFormat
    ) -> None:
        from palaestra.train.markdown import markdown_table

        text = markdown_table(heads, [[str(cell).replace("|", "\\|") for cell in row] for row in rows])
        run.writer.add_text(name, text, step)
        run.writer.flush()

    def close(self, run: TensorBoardOutputFormat) -> None:
        run.close()


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return found
