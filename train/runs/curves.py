"""The curves of a run, ``progress.csv``, as they are read."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from palaestra.train.config.schema import ConfigError
from palaestra.train.loggers.metric_names import ITERATION, STEP
from palaestra.train.runs.machine import LONGEST

if TYPE_CHECKING:
    import numpy as np


class TrainingEvaluation(NamedTuple):
    """One evaluation on the validation seed: after how many steps, the mean return, the lower end of its interval where
    it was repeated with more episodes (:mod:`palaestra.train.config.stop_rule`), and in small games for two the agent's
    exploitability (:mod:`palaestra.train.evaluation.games.exploitability`)."""

    step: int
    mean_reward: float
    lower_end: float | None = None
    exploitability: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """The greater, the better: exploitability, which is exact, comes before a score against one opponent."""
        return -(self.exploitability or 0.0), self.mean_reward


@dataclass(frozen=True)
class Curves:
    """Rows of measurements, each with the step after which it was made."""

    file: Path

    def _rows(self) -> list[dict[str, str]]:
        """The rows of the curves, without one that is only half written; none without curves."""
        try:
            with self.file.open(newline="", encoding="utf-8") as file:
                return list(csv.DictReader(line for line in file if line.endswith("\n")))
        except FileNotFoundError:
            return []

    def table(self) -> tuple[dict[str, np.ndarray], int]:
        """Every column as an array [rows], and the number of rows that cannot be read, which are left out.

        ``global_step`` is of int64, the others are of float64.

        An empty cell is NaN; a last line that is only half written is no row.

        Raises:
            ConfigError: if the file is no such table.
            OSError: if it cannot be read.
        """
        import numpy as np

        with self.file.open(newline="", encoding="utf-8", errors="replace") as file:
            heads, *rows = [[], *_cells(line.replace("\0", "") for line in file if line.endswith("\n"))][1:] or [[]]
        if STEP not in heads or len({*heads}) < len(heads):
            raise ConfigError(f"{self.file} is damaged: its first line names no column {STEP}, or one twice")
        numbers = [row for row in (_numbers(cells, heads) for cells in rows) if row is not None]
        columns = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(heads)).T
        found: dict[str, np.ndarray] = dict(zip(heads, columns, strict=True))
        found[STEP] = found[STEP].astype(np.int64)
        return found, len(rows) - len(numbers)

    def last_step(self) -> int:
        """The last step in the curves; 0 without curves."""
        return int(next((row[STEP] for row in reversed(self._rows())), 0))

    def evaluations(self) -> list[TrainingEvaluation]:
        """The evaluations during training so far, without the final one, whose episodes are held out."""
        return [
            TrainingEvaluation(
                *(int(row[STEP]), float(row["eval/mean_reward"])),
                *(_float(row.get(name)) for name in ("eval/lower_end", "eval/exploitability")),
            )
            for row in self._rows()
            if row.get("eval/mean_reward") and row.get(ITERATION)
        ]

    def seconds(self) -> float:
        """Seconds of training in the curves, in all processes that went on with it one after another."""
        told = [float(row["time/time_elapsed"]) for row in self._rows() if row.get("time/time_elapsed")]
        seconds = [second for second in told if 0.0 <= second <= LONGEST]
        return sum(now for now, later in pairwise([*seconds, -1.0]) if later < now)

    def best(self) -> TrainingEvaluation | None:
        """The evaluation during training whose weights were kept, the first of equals; None before the first."""
        return max(self.evaluations(), key=lambda evaluation: evaluation.rank, default=None)

    def best_score(self) -> float:
        """The best evaluation during training so far; −∞ before the first."""
        return max((evaluation.mean_reward for evaluation in self.evaluations()), default=-float("inf"))


def _cells(lines: Iterator[str]) -> Iterator[list[str]]:
    reader = csv.reader(lines)
    while True:
        try:
            yield next(reader)
        except csv.Error:
            yield []
        except StopIteration:
            return


def _numbers(cells: list[str], heads: list[str]) -> list[float] | None:
    """The numbers of a row; None if they cannot be read."""
    if len(cells) != len(heads):
        return None
    try:
        row = [float(cell) if cell else math.nan for cell in cells]
    except ValueError:
        return None
    return row if abs(row[heads.index(STEP)]) < 2**53 else None  # no NaN either


def _float(cell: str | None) -> float | None:
    return float(cell) if cell else None
