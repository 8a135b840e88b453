"""The runs below ``runs/``: what was trained, how far, the score of the final evaluation, and what state it is in.

A run is *finished* when all its steps are trained, or a rule ended it, and it is evaluated unless Ctrl-C skipped that;
*running* while a process works in its folder; *broken* where its files are damaged, or a finished one has lost its
model; else *interrupted*, and ``palaestra train --resume`` goes on with it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import NORMALISED, columns, four_digits, terminal_width
from palaestra.train.results.run_index import RunRow, indexed
from palaestra.train.runs.finding import runs_by_age
from palaestra.train.runs.run_folder import RunFolder, is_trained

ON_A_TERMINAL = 20  # runs at most
STATES = ("finished", "running", "interrupted", "broken")
BEST_FIRST = ("steps", "score", "percent_of_optimal")
ORDERS = ("began", "env", "agent", "seed", *BEST_FIRST, "state")
_LINES = re.compile(r"^(env|agent|seed|total_timesteps|stop_at): (.*(?:\n .*)*)$", re.MULTILINE)  # of a configuration
_PLAIN = re.compile(r"[\w./:-]+")


def list_runs() -> list[RunRow]:
    """One row per run folder as plain data, those that began last first; None for what its files do not tell."""
    rows = indexed(runs_by_age(), run_row)
    for row in rows:
        if row["state"] != "finished" and RunFolder(Path(row["path"])).is_in_use():
            row["state"] = "running"
    return rows


def run_row(path: str) -> RunRow:
    """What the files of a run folder tell, see :func:`list_runs`; nothing of whether it is running."""
    folder, damaged = RunFolder(Path(path)), False
    settings = _settings(folder)
    env, agent, seed, total = (settings.get(name) for name in ("env", "agent", "seed", "total_timesteps"))
    facts, evaluation = _told(folder.facts), _told(folder.evaluation)
    told, score = facts or {}, evaluation or {}
    steps, done = _number(told.get("num_timesteps")), False
    try:  # whether it is finished shows in the checkpoints' folder
        checkpoints = folder.checkpoints()
        steps, done = int(checkpoints[0].stem) if checkpoints else steps, not checkpoints
    except OSError:
        damaged = True
    enough = done and is_trained({**told, "num_timesteps": steps}, total, settings.get("stop_at"))
    finished = bool(enough and (score or told.get("evaluation_skipped")))
    damaged |= facts is None or evaluation is None or not (isinstance(env, str) and isinstance(agent, str))
    damaged |= finished and not folder.model_file.is_file()
    return {
        "env": _short_name(env) if isinstance(env, str) else None,
        "agent": agent if isinstance(agent, str) else None,
        "seed": seed if type(seed) is int else None,
        "steps": steps,
        "total_timesteps": total if type(total) is int else None,
        "score": _number(score.get("exact_mean", score.get("mean"))),
        "percent_of_optimal": _number(score.get("percent_of_optimal")),
        "state": "broken" if damaged else "finished" if finished else "interrupted",
        "finished": finished,
        "path": path,
    }


@cache
def _short_name(env: str) -> str | None:
    from palaestra.envs.registry import entries

    return next((entry.short_name for entry in entries() if entry.id == env), env.rpartition("/")[2] or None)


def _settings(folder: RunFolder) -> dict[str, Any]:
    """Those of the configuration that a row needs; empty where it cannot be read."""
    with suppress(OSError, ValueError):  # YAML's parser takes a hundred times as long, and PyTorch is imported for it
        lines = dict(_LINES.findall(folder.config_file.read_text(encoding="utf-8")))
        if not all(_PLAIN.fullmatch(text) for text in lines.values()):
            from palaestra.train.config.run_config import read_file

            return read_file(folder.config_file)
        return {key: None if text == "null" else int(text) if text.isdecimal() else text for key, text in lines.items()}
    return {}


def _told(read: Any) -> dict[str, Any] | None:
    """What a file says, nothing where there is none; None if it is damaged, as palaestra evaluate RUN says."""
    try:
        return dict(read())
    except (ConfigError, OSError):
        return None


def _number(value: Any) -> Any:
    """The value, if it is a finite number, else None."""
    from palaestra.envs.core.reference import is_finite_number

    return value if is_finite_number(value) else None


def chosen(
    rows: Sequence[RunRow],
    env: str | None,
    agent: str | None,
    seed: int | None,
    state: str | None,
    sort: str,
    last: bool,
) -> list[RunRow]:
    """The rows of that environment (any of its names), agent, seed and state, in an order.

    Args:
        rows: of :func:`list_runs`.
        env, agent, seed, state: None for all.
        sort: one of ``ORDERS``: the best or the most first, names from A to Z, "began" as they are. Rows that do not
            tell what they are sorted by come last.
        last: the other way round.

    Raises:
        UnknownEnvError, UserCodeError: if there is no such environment.
    """
    names = _names_of(env) if env else ()
    kept = [row for row in rows if not names or row["env"] in names]
    for key, value in (("agent", agent), ("seed", seed), ("state", state)):
        kept = [row for row in kept if value is None or row[key] == value]
    if sort == "began":
        return kept[::-1] if last else kept
    told = [row for row in kept if row[sort] is not None]
    told.sort(key=lambda row: row[sort], reverse=(sort in BEST_FIRST) != last)
    return told + [row for row in kept if row[sort] is None]


def _names_of(env: str) -> tuple[str, ...]:
    from palaestra.envs.registry import resolve

    found = resolve(env)
    return found.short_name, found.id.rpartition("/")[2]


def print_runs(rows: Sequence[RunRow], as_json: bool, most: int | None = None) -> None:
    """Print them on standard output, on a terminal the first twenty unless ``most`` says how many."""
    width = terminal_width(sys.stdout)
    if as_json:
        print(json.dumps(rows[:most], indent=1))
    else:
        print(runs_table(rows, width, ON_A_TERMINAL if width and most is None else most))


def runs_table(rows: Sequence[RunRow], width: int | None, most: int | None = None) -> str:
    """The rows for people to read, the first ``most`` of them."""
    if not rows:
        return "there are no runs below runs/ yet; palaestra train snake-small makes one"
    heads = ("environment", "agent", "seed", "steps", "score", NORMALISED, "state", "run")
    lines = columns(heads, [_cells(row) for row in rows[:most]], width)
    if left := len(rows) - len(rows[:most]):
        lines.append(f"{left:,} more: palaestra runs --limit {len(rows)}")
    return "\n".join(lines)


def _cells(row: RunRow) -> tuple[str, ...]:
    seed, steps, score, percent = row["seed"], row["steps"], row["score"], row["percent_of_optimal"]
    return (
        row["env"] or "–",
        row["agent"] or "–",
        "–" if seed is None else str(seed),
        "–" if steps is None else f"{steps:,}",
        "–" if score is None else four_digits(score),
        "–" if percent is None else f"{percent:z.1f} %",
        row["state"],
        row["path"],
    )
