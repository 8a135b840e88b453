"""The curves of a run, ``progress.csv``, as they are read."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from palaestra.train.loggers.metric_names import ITERATION, STEP


class TrainingEvaluation(NamedTuple):
    """One evaluation on the validation seed: after how many steps, the mean return, and the lower end of its interval
    where it was repeated with more episodes (:mod:`palaestra.train.config.stop_rule`)."""

    step: int
    mean_reward: float
    lower_end: float | None = None


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

    def last_step(self) -> int:
        """The last step in the curves; 0 without curves."""
        return int(next((row[STEP] for row in reversed(self._rows())), 0))

    def evaluations(self) -> list[TrainingEvaluation]:
        """The evaluations during training so far, without the final one, whose episodes are held out."""
        return [
            TrainingEvaluation(int(row[STEP]), float(row["eval/mean_reward"]), _float(row.get("eval/lower_end")))
            for row in self._rows()
            if row.get("eval/mean_reward") and row.get(ITERATION)
        ]

    def seconds(self) -> float:
        """Seconds of training in the curves, in all processes that went on with it one after another."""
        seconds = [float(row["time/time_elapsed"]) for row in self._rows() if row.get("time/time_elapsed")]
        return sum(now for now, later in pairwise([*seconds, -1.0]) if later < now)

    def best_score(self) -> float:
        """The best evaluation during training so far; −∞ before the first."""
        return max((evaluation.mean_reward for evaluation in self.evaluations()), default=-float("inf"))


def _float(cell: str | None) -> float | None:
    return float(cell) if cell else None
