"""The runs that are compared: found by their names or below folders, and read as far as their files can be.

What cannot be read is left out and told (``ComparedRun.remarks``). PyTorch is imported only for an environment's
solved-at score, where ``run.json`` does not tell it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from yaml import YAMLError

from palaestra.train.config.schema import ConfigError, load_yaml
from palaestra.train.loggers.metric_names import ITERATION, STEP
from palaestra.train.plain_json import LARGEST, is_moderate_number
from palaestra.train.results.run_list import run_row
from palaestra.train.runs.finding import find_run
from palaestra.train.runs.machine import LONGEST, seconds_in
from palaestra.train.runs.run_folder import RunFolder

_OF_NO_ACCOUNT = ("env", "agent", "seed", "threads", "device", "checkpoint_every", "deterministic", "graph", "compile")
_SCORE, _SECONDS = "eval/mean_reward", "time/time_elapsed"


@dataclass(frozen=True)
class ComparedRun:
    """A run with what is compared.

    Attributes:
        env: short name of the environment.
        resolved: its absolute name, and its settings as Python writes them.
        settings: all that may differ by intent, by their names on the command line.
        score, percent: of the final evaluation, as returns and normalised; None where there is none.
        steps, scores, seconds: [evaluations] while training: after how many steps and seconds, and the mean return.
        reference: the environment's random and best known mean return.
        solved_at: mean return; None if it is not known.
        solved_seconds: from the start of the process, as the run noted it.
        remarks: what is wrong with its files.
    """

    path: str
    env: str
    resolved: tuple[str, str]
    agent: str
    seed: int | None
    state: str
    total_steps: int | None
    settings: Mapping[str, Any]
    score: float | None
    percent: float | None
    steps: Any
    scores: Any
    seconds: Any
    reference: tuple[float, float] | None = None
    solved_at: float | None = None
    solved_seconds: float | None = None
    remarks: Sequence[str] = field(default_factory=tuple)

    def solved_after(self) -> tuple[float, float]:
        """Steps and seconds until the first evaluation at ``solved_at`` or above; infinite if there is none."""
        reached = np.flatnonzero(self.scores >= (math.inf if self.solved_at is None else self.solved_at))
        if not len(reached):
            return math.inf, math.inf
        seconds = self.seconds[reached[0]] if self.solved_seconds is None else self.solved_seconds
        return float(self.steps[reached[0]]), float(seconds)

    def percents(self) -> Any:
        """The scores of ``scores``, normalised; None where the environment's scale is not known."""
        if self.reference is None:
            return None
        low, high = self.reference
        return 100.0 * (self.scores - low) / (high - low)


def find_runs(names: Sequence[str]) -> list[str]:
    """Paths of the run folders of those names (:func:`palaestra.train.runs.finding.find_run`), or below those folders.

    Raises:
        ConfigError: if there is no such run or folder, or none below it.
    """
    found: dict[str, None] = {}
    for name in names:
        path = find_run(name).path
        if RunFolder(path).config_file.is_file():
            found[str(path)] = None
        elif path.is_dir():
            below = sorted(_below(path))
            if not below:
                raise ConfigError(f"there is no run in {path} or below it")
            found |= dict.fromkeys(below)
        else:
            raise ConfigError(f"no run {name!r}: give run folders, a folder with runs below it, or latest")
    return list(found)


def _below(folder: Path) -> list[str]:
    """The run folders below one; what a run has set aside, and what lies inside one, is none of its own."""
    config, found = RunFolder(folder).config_file.name, []
    for place, folders, files in os.walk(folder):
        if config in files:
            found.append(place)
            folders.clear()
    return found


def read_run(path: str) -> ComparedRun | str:
    """The run in the folder; why it cannot be compared, if its configuration is damaged."""
    row, folder = run_row(path), RunFolder(Path(path))
    if row["env"] is None or row["agent"] is None:
        return f"{path} is left out: its configuration is damaged"
    try:
        config = load_yaml(folder.config_file.read_text(encoding="utf-8"))
        facts, evaluation = folder.facts(), folder.evaluation()
    except (OSError, ValueError, YAMLError) as error:  # of damaged files, and of bytes that are no text
        return f"{path} is left out: {' '.join(str(error).split())}"
    steps, scores, seconds, remarks = _evaluations(folder)
    state = row["state"]
    if state != "finished" and folder.is_in_use():
        state = "running"
    reference = evaluation.get("reference")
    ends = [_moderate(reference.get(name)) if isinstance(reference, dict) else None for name in ("random", "optimum")]
    return ComparedRun(
        path,
        row["env"],
        (str(config.get("env")), repr(config.get("env_kwargs") or {})),
        row["agent"],
        row["seed"],
        state,
        row["steps"],
        _flat(config),
        _moderate(row["score"]) if state == "finished" else None,
        _moderate(row["percent_of_optimal"]) if state == "finished" else None,
        steps,
        scores,
        seconds,
        _scale(*ends),
        _moderate(facts.get("solved_at")),
        seconds_in(facts, "solved_after_seconds") or None,
        tuple(remarks),
    )


def _evaluations(folder: RunFolder) -> tuple[Any, Any, Any, list[str]]:
    """Steps, mean returns and seconds of the evaluations while training, and what is wrong with the file."""
    nothing = np.zeros(0)
    try:
        columns, unread = folder.curves.table()
    except FileNotFoundError:
        return nothing, nothing, nothing, [f"{folder.path} has no curves"]
    except (OSError, ConfigError) as error:
        return nothing, nothing, nothing, [f"{error}; its curves are left out"]
    file, remarks = folder.progress_file, []
    if unread:
        remarks.append(f"{file} is damaged: rows that cannot be read are left out ({unread:,})")
    if _SCORE not in columns or ITERATION not in columns:
        return nothing, nothing, nothing, remarks
    scores, made = np.where(abs(columns[_SCORE]) > LARGEST, np.inf, columns[_SCORE]), ~np.isnan(columns[ITERATION])
    evaluated = np.any([np.isfinite(columns[name]) for name in columns if name.startswith("eval/")], axis=0)
    if broken := int((made & (evaluated | np.isinf(scores)) & ~np.isfinite(scores)).sum()):
        remarks.append(f"{file} has evaluations that are no finite numbers, which are left out ({broken:,})")
    kept = made & np.isfinite(scores)
    elapsed = columns.get(_SECONDS, np.zeros(len(scores)))
    elapsed = np.where((elapsed >= 0.0) & (elapsed <= LONGEST), elapsed, 0.0)
    before = np.concatenate([[0.0], np.where(np.diff(elapsed) < 0, elapsed[:-1], 0.0)]).cumsum()  # each resumption's
    order = np.argsort(columns[STEP][kept], kind="stable")
    return columns[STEP][kept][order], scores[kept][order], (elapsed + before)[kept][order], remarks


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as --set has them; what says nothing of how a run learns is left out."""
    found: dict[str, Any] = {}

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            name = f"{prefix}{key}"
            if isinstance(value, dict) and value:
                add(f"{name}.", value)
            else:
                found[name] = value

    kept = {key: value for key, value in config.items() if key not in _OF_NO_ACCOUNT}
    for key, prefix in (("agent_kwargs", ""), ("env_kwargs", "env.")):
        inner = kept.pop(key, None)
        add(prefix, inner if isinstance(inner, dict) else {})
    add("", kept)
    return found


def _scale(low: float | None, high: float | None) -> tuple[float, float] | None:
    """Those ends, if scores can be normalised by them."""
    return None if low is None or high is None or abs(high - low) * LARGEST < 1.0 else (low, high)


def _moderate(value: Any) -> float | None:
    return float(value) if is_moderate_number(value) else None


def with_scales(runs: Sequence[ComparedRun]) -> list[ComparedRun]:
    """The runs, each with scale and solved-at score of another in the same environment where it has noted none itself.

    Interrupted ones have not. Where none has, the environment is asked for the latter.
    """
    scales = {run.resolved: run.reference for run in runs if run.reference is not None}
    solved = {run.resolved: run.solved_at for run in runs if run.solved_at is not None}
    return [
        replace(
            run,
            reference=run.reference or scales.get(run.resolved),
            solved_at=solved[run.resolved] if run.resolved in solved else _solved_at(*run.resolved),
        )
        for run in runs
    ]


@cache
def _solved_at(env: str, env_kwargs: str) -> float | None:
    """The environment's; None for those in files of users, which are not run for that."""
    from ast import literal_eval

    from palaestra.envs.core import EnvError
    from palaestra.envs.registry import resolve

    if ":" in env or env.endswith(".py"):
        return None
    with suppress(EnvError, ValueError, TypeError, SyntaxError):  # another version has no such environment or argument
        return _moderate(resolve(env).reference(literal_eval(env_kwargs)).solved_at)
    return None
