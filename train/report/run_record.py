"""Everything that a run folder tells, read in whatever state it is; what cannot be read is told in ``troubles``.

Nothing here needs PyTorch or the environment, so a page of a run of another machine is made in a moment.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from palaestra.envs.core.reference import FIGURE_KINDS
from palaestra.train.config.schema import ConfigError, load_yaml
from palaestra.train.formatting import hours
from palaestra.train.plain_json import is_moderate_number
from palaestra.train.report.curve_table import CurveTable, read_curves
from palaestra.train.results.cost import Cost, cost_of
from palaestra.train.runs.run_folder import RunFolder, is_trained

FINISHED, RUNNING, INTERRUPTED = "finished", "running", "interrupted"


@dataclass
class RunRecord:
    """A run as plain data; empty or None is what the folder does not hold.

    Attributes:
        settings: ``config.yaml`` as it is, unchecked.
        facts: ``run.json``.
        evaluation: the final one, with a finite mean.
        episodes: columns of the final evaluation's episodes.
        figures: what the environment adds.
        stress: the stress test.
        positions: moves in a game for two beside perfect play.
        state: finished, running or interrupted.
        troubles: sentences on what could not be read.
    """

    folder: RunFolder
    settings: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    episodes: dict[str, list[float]] = field(default_factory=dict)
    figures: list[dict[str, Any]] = field(default_factory=list)
    stress: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, Any] = field(default_factory=dict)
    curves: CurveTable = field(default_factory=CurveTable)
    cost: Cost | None = None
    state: str = INTERRUPTED
    troubles: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The folder, as it was named."""
        return str(self.folder.path)

    @property
    def steps(self) -> int:
        """Environment steps that it has trained."""
        told = self.facts.get("num_timesteps")
        return told if isinstance(told, int) else max(self.curves.steps, default=0)

    @property
    def score(self) -> float | None:
        """The expected return where it is known exactly, else the mean of the final evaluation."""
        exact = self.number("exact_mean")
        return self.number("mean") if exact is None else exact

    def number(self, *keys: str) -> float | None:
        """A finite number of the final evaluation, under keys within each other; None if it is none."""
        value: Any = self.evaluation
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return float(value) if value is not None and is_moderate_number(value) else None


def read_record(folder: RunFolder) -> RunRecord:
    """The record of a run.

    Raises:
        ConfigError: if the folder holds no run.
        OSError: if a file cannot be read for a reason of the disk.
    """
    if not folder.path.is_dir():
        raise ConfigError(f"no run {str(folder.path)!r}: give a run folder, or latest")
    if not folder.config_file.is_file() and not folder.progress_file.is_file():
        raise ConfigError(f"{folder.path} is no run folder: it holds neither {folder.config_file.name} nor curves")
    found = RunRecord(folder)
    found.settings = _object(found, folder.config_file, load_yaml)
    found.facts = _object(found, folder.facts_file, json.loads)
    found.evaluation = _object(found, folder.evaluation_file, json.loads)
    found.stress = _object(found, folder.stress_file, json.loads)
    found.positions = _object(found, folder.positions_file, json.loads)
    if found.evaluation and found.score is None:
        found.troubles.append(f"{folder.evaluation_file.name} holds no score.")
        found.evaluation = {}
    if folder.progress_file.is_file():
        found.curves = read_curves(folder.progress_file)
    _tell_curves(found)
    found.episodes = _episodes(found)
    found.figures = _figures(found)
    try:
        found.cost = cost_of(folder)
    except (ConfigError, ValueError, ArithmeticError):  # damaged, which is told already
        found.cost = None
    found.state = _state(found)
    return found


def _object(record: RunRecord, file: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    """What a file holds; empty if it is not there, or damaged, which is told."""
    if not file.is_file():
        return {}
    try:
        content = parse(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it holds no mapping")
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        record.troubles.append(f"{file.name} is damaged ({reason}), and is left out.")
        return {}
    return {str(key): value for key, value in content.items()}


def _tell_curves(record: RunRecord) -> None:
    curves, name = record.curves, record.folder.progress_file.name
    if not curves.steps and not curves.unread:
        record.troubles.append(f"There are no curves: {name} is missing or empty.")
    elif not curves.steps:
        record.troubles.append(f"There are no curves: {name} is damaged.")
    elif curves.unread:
        total = curves.unread + len(curves.steps)
        record.troubles.append(f"{curves.unread:,} of {total:,} rows of {name} are damaged and left out.")
    for column, (step, count) in curves.broken.items():
        record.troubles.append(
            f"{column} was NaN or infinite in {count:,} row{'s' * (count > 1)} of the curves, first at step {step:,}; "
            "the curve has gaps there."
        )


def _episodes(record: RunRecord) -> dict[str, list[float]]:
    """Columns of the episodes; empty without them."""
    file, found = record.folder.episodes_file, {}
    if not file.is_file():
        return {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        if not rows:
            raise ValueError("it has no rows")
        for name in ("episode", "return", "length"):
            found[name] = [float(row[name]) for row in rows]
            if not all(is_moderate_number(value) for value in found[name]):
                raise ValueError("a number is none")
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        record.troubles.append(f"{file.name} is damaged ({error}), and is left out.")
        return {}
    return found


def _figures(record: RunRecord) -> list[dict[str, Any]]:
    """The environment's figures; those of unknown kinds, as of a later version, are left out."""
    file = record.folder.figures_file
    if not file.is_file():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return [figure for figure in content if figure["kind"] in FIGURE_KINDS]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        record.troubles.append(f"{file.name} is damaged ({error}), and is left out.")
        return []


def _state(record: RunRecord) -> str:
    folder, facts, settings = record.folder, record.facts, record.settings
    done = not folder.checkpoints() and (record.evaluation or facts.get("evaluation_skipped"))
    if done and is_trained(facts, settings.get("total_timesteps"), settings.get("stop_at")):
        return FINISHED
    return RUNNING if folder.is_in_use() else INTERRUPTED


def spent(record: RunRecord) -> str:
    """Wall time of the run, like 1:15:04; empty if it is not known."""
    seconds = None if record.cost is None else record.cost.seconds
    return "" if seconds is None else hours(seconds)
