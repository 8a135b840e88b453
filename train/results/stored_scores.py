"""The scores that a run folder holds, read back: the final evaluation, and a stress test of the same weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palaestra.envs.core.atomic_write import write_whole
from palaestra.envs.core.reference import is_finite_number
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.evaluation.stress import StressTest
from palaestra.train.runs.run_folder import RunFolder

if TYPE_CHECKING:
    from palaestra.train.evaluation.games.judged_play import JudgedPlay

_MODEL = "model_sha256"
_SCORES = ("score", "ci_low", "ci_high", "loss", "percent_of_optimal", "optimum", "success_rate")  # None: not known
_NAMES = {field.name for field in fields(Evaluation)} - {"more"}
_TEXTS = ("env", "run")
_NUMBERS = ("mean", "std", "iqm", "ci_low", "ci_high", "mean_length")
_COUNTS = ("episodes", "seed", "cut_episodes")


def final_evaluation(folder: RunFolder) -> Evaluation | None:
    """The final evaluation; None if there is none. A ConfigError if the file is damaged."""
    if not (content := folder.evaluation()):
        return None
    own = {name: value for name, value in content.items() if name in _NAMES}
    more = {name: value for name, value in content.items() if name not in _NAMES and is_finite_number(value)}
    try:
        found = Evaluation(**own, more=more)
    except TypeError as error:
        raise ConfigError(f"{folder.evaluation_file} is damaged: {error}") from error
    for kinds, names in ((str, _TEXTS), (int, _COUNTS), (int | float, _NUMBERS), (dict, ("reference",))):
        for name in names:
            if not isinstance(getattr(found, name), kinds):
                raise ConfigError(f"{folder.evaluation_file} is damaged: {name} is {getattr(found, name)!r}")
    return found


def store_stress(folder: RunFolder, test: StressTest) -> None:
    """Write a stress test of the run's newest model into its folder."""
    _store(folder, folder.stress_file, test.as_dict())


def store_positions(folder: RunFolder, judged: JudgedPlay) -> None:
    """Write how the run's newest model plays beside perfect play into its folder."""
    _store(folder, folder.positions_file, judged.as_dict())


def _store(folder: RunFolder, file: Path, content: dict[str, Any]) -> None:
    write_whole(file, json.dumps({**content, _MODEL: _digest(folder)}, indent=1).encode())


def stored_stress(folder: RunFolder) -> dict[str, Any] | None:
    """The stress test in a run's folder, as :meth:`StressTest.as_dict` gives it; None if it is of other weights.

    Raises:
        ConfigError: if the file is damaged.
    """
    content = folder.stress_test()
    if not content or content.get(_MODEL) != _digest(folder):
        return None
    rows = content.get("stresses")
    if not isinstance(rows, list) or not all(map(_is_condition, (content.get("unchanged"), *rows))):
        raise ConfigError(f"{folder.stress_file} is damaged: palaestra card RUN --stress writes it anew")
    return content


def _is_condition(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    known = all(row.get(name) is None or is_finite_number(row[name]) for name in _SCORES)
    return known and is_finite_number(row.get("mean")) and isinstance(row.get("name", ""), str)


def _digest(folder: RunFolder) -> str:
    return hashlib.sha256(folder.model().read_bytes()).hexdigest()
