"""The runs below ``runs/``, the newest first: what was trained, how far, and the score of the final evaluation."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from palaestra.envs.core.reference import is_finite_number
from palaestra.envs.registry import entries
from palaestra.train.config.run_config import read_file
from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import NORMALISED, columns, four_digits
from palaestra.train.runs.finding import runs_by_age
from palaestra.train.runs.run_folder import RunFolder, is_trained

ON_A_TERMINAL = 20  # runs at most
_LINES = re.compile(r"^(env|agent|seed|total_timesteps|stop_at): (.*(?:\n .*)*)$", re.MULTILINE)  # of a configuration
_PLAIN = re.compile(r"[\w./:-]+")


def list_runs() -> list[dict[str, Any]]:
    """One row per run folder as plain data; None for what its files do not tell."""
    names = {entry.id: entry.short_name for entry in entries()}
    return [_row(RunFolder(Path(path)), names) for path in runs_by_age()]


def _row(folder: RunFolder, names: dict[str, str]) -> dict[str, Any]:
    settings = _settings(folder)
    env, agent, seed, total = (settings.get(name) for name in ("env", "agent", "seed", "total_timesteps"))
    facts, evaluation = _told(folder.facts), _told(folder.evaluation)
    steps, done = _number(facts.get("num_timesteps")), False
    with suppress(OSError):  # whether it is finished shows in the checkpoints' folder
        checkpoints = folder.checkpoints()
        steps, done = int(checkpoints[0].stem) if checkpoints else steps, not checkpoints
    enough = done and is_trained({**facts, "num_timesteps": steps}, total, settings.get("stop_at"))
    return {
        "env": (names.get(env) or env.rpartition("/")[2] or None) if isinstance(env, str) else None,
        "agent": agent if isinstance(agent, str) else None,
        "seed": seed if type(seed) is int else None,
        "steps": steps,
        "total_timesteps": total if type(total) is int else None,
        "score": _number(evaluation.get("exact_mean", evaluation.get("mean"))),
        "percent_of_optimal": _number(evaluation.get("percent_of_optimal")),
        "finished": bool(enough and (evaluation or facts.get("evaluation_skipped"))),
        "path": str(folder.path),
    }


def _settings(folder: RunFolder) -> dict[str, Any]:
    """Those of the configuration that a row needs; empty where it cannot be read."""
    with suppress(OSError, ValueError):  # YAML's parser takes a hundred times as long
        lines = dict(_LINES.findall(folder.config_file.read_text(encoding="utf-8")))
        if not all(_PLAIN.fullmatch(text) for text in lines.values()):
            return read_file(folder.config_file)
        return {key: None if text == "null" else int(text) if text.isdecimal() else text for key, text in lines.items()}
    return {}


def _told(read: Any) -> dict[str, Any]:
    try:
        return dict(read())
    except (ConfigError, OSError):  # damaged; palaestra evaluate RUN says so
        return {}


def _number(value: Any) -> Any:
    """The value, if it is a finite number, else None."""
    return value if is_finite_number(value) else None


def runs_table(rows: list[dict[str, Any]], width: int | None, most: int | None = None) -> str:
    """The rows for people to read, the newest ``most`` of them."""
    if not rows:
        return "there are no runs below runs/ yet; palaestra train snake-small makes one"
    heads = ("environment", "agent", "steps", "score", NORMALISED, "state", "run")
    lines = columns(heads, [_cells(row) for row in rows[:most]], width)
    if left := len(rows) - len(rows[:most]):
        lines.append(f"{left:,} older: palaestra evaluate | less")
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    steps, score, percent = row["steps"], row["score"], row["percent_of_optimal"]
    return (
        row["env"] or "–",
        row["agent"] or "–",
        "–" if steps is None else f"{steps:,}",
        "–" if score is None else four_digits(score),
        "–" if percent is None else f"{percent:z.1f} %",
        "finished" if row["finished"] else "not finished",
        row["path"],
    )
