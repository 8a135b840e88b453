"""The outcome of a sweep: a table, ``results.md``, ``trials.csv``, ``results.json``, ``best.yaml`` and pictures."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from palaestra.envs.core.atomic_write import write_whole
from palaestra.train.markdown import markdown_table
from palaestra.train.sweep.plots import draw
from palaestra.train.sweep.reruns import Candidate, best_of, chance, spread, verdict
from palaestra.train.sweep.search_space import Space
from palaestra.train.sweep.study import REPORTS, counted, error_of, folder_name, number_of
from palaestra.train.sweep.trial import LAST_PART

NONE = "–"
SHOWN = 10  # trials in the table; all of them are in trials.csv
TrialRow = dict[str, Any]
_FAILURES = 5  # that are told
_STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


def report(space: Space, study: optuna.Study, candidates: Sequence[Candidate], folder: Path, as_json: bool) -> str:
    """Write the files and give the text to print."""
    rows = [_row(space, trial, folder) for trial in _ranked(counted(study))]
    result = _result(space, rows, candidates, folder)
    write_whole(folder / "results.json", json.dumps(result, indent=1).encode())
    write_whole(folder / "trials.csv", _csv(rows).encode())
    best = best_of(candidates)
    write_whole(folder / "best.yaml", yaml.safe_dump(best.config.as_dict(), sort_keys=False).encode())
    pictures = draw(space, study, folder)
    text = _text(space, rows, candidates, folder)
    shown = "".join(f"\n\n![{path.stem}]({path.name})" for path in pictures)
    write_whole(folder / "results.md", f"{text}{shown}\n".encode())
    return json.dumps(result, indent=1) if as_json else text


def _ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Finished ones by score, stopped ones by how far they came and score, failed ones."""
    order = list(_STATES)

    def key(trial: FrozenTrial) -> tuple[float, ...]:
        far = 0 if trial.state == TrialState.COMPLETE else -(trial.last_step or 0)
        return order.index(trial.state), far, -(trial.value if trial.value is not None else 0.0)

    return sorted((trial for trial in trials if trial.state in order), key=key)


def _row(space: Space, trial: FrozenTrial, folder: Path) -> TrialRow:
    number = number_of(trial)
    return {
        "trial": number,
        "state": _STATES[trial.state],
        "score": trial.value,
        "trained": (trial.last_step or 0) / REPORTS,
        "preset": trial.params == space.start,
        "error": error_of(trial),
        "folder": str(folder / folder_name(number)),
        "settings": space.shown(trial.params),
    }


def _result(space: Space, rows: Sequence[TrialRow], candidates: Sequence[Candidate], folder: Path) -> dict[str, Any]:
    best = best_of(candidates)
    return {
        "env": space.base.env,
        "agent": space.base.agent,
        "folder": str(folder),
        "best": best.name,
        "best_file": str(folder / "best.yaml"),
        "verdict": verdict(candidates),
        "again": [
            {
                "name": c.name,
                "settings": {} if c.point is None else space.shown(c.point),
                "seeds": [config.seed for config, _ in c.runs()],
                "validation": c.validation,
                "held_out": c.held_out,
                "p_against_preset": None if c.point is None else chance(c.held_out, candidates[0].held_out),
                "errors": c.errors,
            }
            for c in candidates
        ],
        "trials": list(rows),
    }


def _csv(rows: Sequence[TrialRow]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row["settings"]))
    plain = ["trial", "state", "score", "trained", "preset", "error", "folder"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(plain + names)
    writer.writerows([row[k] for k in plain] + [row["settings"].get(name) for name in names] for row in rows)
    return out.getvalue()


def _text(space: Space, rows: Sequence[TrialRow], candidates: Sequence[Candidate], folder: Path) -> str:
    counts = {state: sum(row["state"] == state for row in rows) for state in _STATES.values()}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    parts = [
        f"# {space.base.env}, {space.base.agent}: {len(rows)} trials ({told})",
        trials_table(rows),
        f"The score is the mean return of the evaluations after {LAST_PART:.0%} of "
        f"{space.base.total_timesteps:,} steps.",
    ]
    if len(rows) > SHOWN:
        parts[-1] += f" {len(rows) - SHOWN} more trials are in trials.csv."
    if len(candidates) > 1:
        parts += ["## Trained again, on seeds that no trial had", reruns_table(candidates)]
    if failures := _failures(rows, candidates):
        more = f"\n* {len(failures) - _FAILURES} more are in results.json" if len(failures) > _FAILURES else ""
        parts.append("Failed:\n\n" + "\n".join(f"* {failure}" for failure in failures[:_FAILURES]) + more)
    command = f"palaestra train --config {shlex.quote(str(folder / 'best.yaml'))}"
    parts += [verdict(candidates), f"The best setting ({best_of(candidates).name}): `{command}`"]
    return "\n\n".join(parts)


def _failures(rows: Sequence[TrialRow], candidates: Sequence[Candidate]) -> list[str]:
    """What failed, and why."""
    failed = [f"trial {row['trial']}: {row['error']}" for row in rows if row["error"] is not None]
    return failed + [f"{c.name}, trained again: {error}" for c in candidates for error in c.errors]


def trials_table(rows: Sequence[TrialRow]) -> str:
    """The best trials, in Markdown, with a column for each setting that varies."""
    names = list(dict.fromkeys(name for row in rows for name in row["settings"]))
    heads = ["trial", "score", "trained", *(name.rpartition(".")[2] for name in names)]
    return markdown_table(heads, [_cells(row, names) for row in rows[:SHOWN]], padded=True)


def _cells(row: TrialRow, names: Sequence[str]) -> list[str]:
    trial = f"{row['trial']} (preset)" if row["preset"] else str(row["trial"])
    values = [NONE if row["settings"].get(name) is None else str(row["settings"][name]) for name in names]
    if row["error"] is not None:
        return [trial, "failed", NONE, *values]
    score = NONE if row["score"] is None else f"{row['score']:,.4g}"
    return [trial, score, "whole" if row["state"] == "finished" else f"{row['trained']:.0%}", *values]


def reruns_table(candidates: Sequence[Candidate]) -> str:
    """Means and deviations over the fresh seeds, in Markdown."""
    ranked = sorted(candidates, key=lambda c: -fmean(c.validation or [float("-inf")]))
    heads = ["setting", "score", "held-out mean return", "seeds"]
    rows = [[c.name, spread(c.validation), spread(c.held_out), _seeds(c)] for c in ranked]
    return markdown_table(heads, rows, padded=True)


def _seeds(candidate: Candidate) -> str:
    failed = len(candidate.runs()) - len(candidate.held_out)
    return f"{len(candidate.held_out)}" + (f" ({failed} failed)" if failed else "")
