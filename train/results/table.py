"""The numbers of the grid's runs, and their table in Markdown.

Score: the final evaluation's mean return, or the exact expectation where the environment knows it. The normalised score
is 100 · (score − random) / (best known − random) %. Beside them, where there are any: the success rate, the share of
the way from the best fixed price to the optimum, the mean time over the bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from palaestra.train.formatting import NORMALISED, SCORES, minutes
from palaestra.train.markdown import markdown_table
from palaestra.train.results.grid import GridRun
from palaestra.train.runs.run_folder import RunFolder

NONE = "–"


def collect(runs: Iterable[GridRun], failures: dict[Path, str]) -> list[dict[str, Any]]:
    """One row per environment and agent as plain data, with all numbers of its runs; a failed run has its ``error``."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.pair not in rows:
            rows[run.pair] = {
                "env": run.config.env,
                "agent": run.config.agent,
                "command": run.pair,
                "solved_at": run.config.resolved_env.reference(run.config.env_kwargs).solved_at,
                "runs": [],
            }
        told = {"error": failures[run.folder]} if run.folder in failures else _numbers(run.folder)
        rows[run.pair]["runs"].append({"seed": run.config.seed, "folder": str(run.folder), **told})
    return list(rows.values())


def _numbers(folder: Path) -> dict[str, Any]:
    run = RunFolder(folder)
    measured = json.loads(run.wall_time_file.read_text(encoding="utf-8"))
    return {"wall_seconds": measured["wall_seconds"], **run.facts(), "evaluation": run.evaluation()}


HEADS = (
    "command",
    "steps",
    "wall time",
    "steps/s",
    f"score ({SCORES['optimum']})",
    f"{NORMALISED}, %",
    "also",
    "solved after",
    "commit",
)
ALSO = {  # number in eval.json → how it is told
    "success_rate": ("success", "{:.1%}"),
    "captured_percent": ("captured", "{:.1f}%"),
    "seconds_per_bound": ("time / bound", "{:.2f}"),
}


def results_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown, and what their numbers mean."""
    return f"{markdown_table(HEADS, [_cells(row) for row in rows])}\n\n{_caption(rows)}"


def _caption(rows: Sequence[dict[str, Any]]) -> str:
    seeds = ", ".join(str(run["seed"]) for run in rows[0]["runs"])
    done = [run for row in rows for run in row["runs"] if "error" not in run]
    machines = {f"{r['machine']} ({r['device']}, {_threads(r)}, torch {r['torch']})": None for r in done}
    return f"""\
Lists are in the order of the seeds: `--seed` {seeds}. Wall time is that of the whole command, with start-up, imports,
evaluations and the recorded episode; steps/s are those of training, with the evaluations on the way. The score is the
mean return of 1,000 held-out episodes, or the exact expectation where the environment knows it; normalised, random play
has 0 % and the best known 100 %. Solved after: seconds from the start of the process to the first of the ten
evaluations during training that reached the score before the colon. {NONE} is none.
Measured on {"; ".join(machines) or "no machine"}."""


def _threads(run: dict[str, Any]) -> str:
    return f"{run['threads']} thread{'s' if run['threads'] != 1 else ''} a run"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    runs = [{**run.get("evaluation", {}), **run} for run in row["runs"]]
    best = next((run["reference"]["optimum"] for run in runs if "reference" in run), None)
    score = "exact_mean" if any("exact_mean" in run for run in runs) else "mean"
    scores, seconds = _each(runs, score, "{:,.4g}"), _each(runs, "solved_after_seconds", "{:.1f}")
    also = [f"{name} {_each(runs, key, text)}" for key, (name, text) in ALSO.items() if _values(runs, key)]
    return (
        f"`{row['command']}`",
        _span(runs, "num_timesteps", _short),
        _span(runs, "wall_seconds", minutes),
        _span(runs, "steps_per_second", _short),
        scores if best is None else f"{scores} ({best:,.4g})",
        _each(runs, "percent_of_optimal", "{:.1f}"),
        "; ".join(also) or NONE,
        f"{row['solved_at']:,.4g}: {seconds} s" if _values(runs, "solved_after_seconds") else NONE,
        ", ".join(dict.fromkeys(commit[:7] for commit in _values(runs, "git_commit"))) or NONE,
    )


def _values(runs: Iterable[dict[str, Any]], key: str) -> list[Any]:
    """The known values of that key; a failed run has none."""
    return [run[key] for run in runs if run.get(key) is not None]


def _each(runs: Iterable[dict[str, Any]], key: str, text: str) -> str:
    return ", ".join(NONE if run.get(key) is None else text.format(run[key]) for run in runs)


def _span(runs: Iterable[dict[str, Any]], key: str, text: Callable[[float], str]) -> str:
    """Least to greatest."""
    values = _values(runs, key)
    return NONE.join(dict.fromkeys(text(value) for value in (min(values), max(values)))) if values else NONE


def _short(number: float) -> str:
    if number >= 999_500:
        return f"{number / 1e6:.1f} M"
    return f"{number / 1e3:.0f} k" if number >= 9_500 else f"{number:,}"
