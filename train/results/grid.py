"""The grid environment × agent × seed: trained run by run as a user would, and told in one Markdown table.

1. The grid is every environment and agent with a preset (:mod:`palaestra.train.config.presets`), seeds 0 … n − 1. Each
   run is ``palaestra train ENV --agent AGENT --seed S --track disabled --run-dir DIR/<env>/<agent>/s<S>`` in a process
   of its own, so that start-up and memory are those of a user's run, one after another with all cores each. With
   ``jobs`` J > 1, J runs at a time share the cores evenly: the grid is done sooner, each run later. What a run prints
   goes to ``s<S>.log`` beside its folder.
2. A finished run is known by ``results.json`` in its folder, which is written last and holds the wall time of the whole
   process. It is kept if its ``config.yaml`` equals what would be trained today. Anything else at its place is moved
   aside (``s<S>.old1``, …): the table never mixes runs of different settings.
3. A run that fails is reported and leaves a dash in the table; the others go on.
4. Score: the final evaluation's mean return, or the exact expectation where the environment knows it. % of optimum is
   100 · score / optimum. Beside them, where there are any: the success rate, the share of the way from the best fixed
   price to the optimum, the mean time over the bound.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from palaestra.envs.core.atomic_write import write_whole
from palaestra.envs.core.host import available_cores
from palaestra.envs.registry import EnvEntry, entries, resolve
from palaestra.train.config.compatibility import AGENTS, rules_of
from palaestra.train.config.presets import PRESETS
from palaestra.train.config.run_config import RunConfig, read_file, resolve_config
from palaestra.train.config.schema import ConfigError, known
from palaestra.train.runs.child_process import ChildProcess, failure

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
NONE = "–"
Launch = Callable[[list[str], Path, int | None], int]  # command, file for its output, threads → exit status


@dataclass(frozen=True)
class GridRun:
    """One run of the grid: what it trains, and where."""

    name: str  # short name of the environment
    config: RunConfig
    folder: Path

    @property
    def pair(self) -> str:
        return f"palaestra train {self.name} --agent {self.config.agent}"

    @property
    def command(self) -> str:
        return f"{self.pair} --seed {self.config.seed}"

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")


def grid(names: Sequence[str], agents: Sequence[str], seeds: int, root: Path) -> list[GridRun]:
    """The runs of all pairs that have a preset, by environment, agent and seed.

    Args:
        names: environments; none for all.
        agents: keys of ``AGENTS``.
        seeds: how many.
        root: below it the run folders are made.

    Raises:
        ConfigError, UnknownEnvError: on an unknown name, and on an environment without a preset.
    """
    for agent in agents:
        known(agent, AGENTS, "agent")
    runs: list[GridRun] = []
    chosen = [resolve(name) for name in names] or entries()
    for found in {found.id: found for found in chosen}.values():
        theirs = [agent for agent in dict.fromkeys(agents) if (found.id, agent) in PRESETS]
        if names and not theirs:
            raise ConfigError(f"{found.id} has no preset for {' or '.join(agents)}")
        for agent in theirs:
            assert isinstance(found, EnvEntry)  # other people's environments have no presets
            configs = [resolve_config(found.id, agent, seed=seed) for seed in range(seeds)]
            folder = root / found.short_name / agent
            runs += [GridRun(found.short_name, config, folder / f"s{config.seed}") for config in configs]
    if not runs:
        raise ConfigError(f"no environment has a preset for {' or '.join(agents)}")
    return runs


# ---------------------------------------------------------------------------------------------------- running


class Processes:
    """Commands that threads of ours wait for, and that end with them."""

    def __init__(self) -> None:
        self._running: set[ChildProcess] = set()
        self._ended, self._lock = False, threading.Lock()

    def launch(self, command: list[str], log: Path, threads: int | None) -> int:
        """Run a command to its end, with that many threads (None: its own choice); its exit status."""
        with self._lock:
            if self._ended:
                return 1
            child = ChildProcess(command, log, threads)
            self._running.add(child)
        try:
            return child.wait() or 0
        finally:
            with self._lock:
                self._running.discard(child)

    def end(self) -> None:
        """Kill what runs, and start nothing more."""
        with self._lock:
            self._ended = True
            for child in self._running:
                child.kill()


def run_grid(runs: Sequence[GridRun], fresh: bool, jobs: int = 1, launch: Launch | None = None) -> dict[Path, str]:
    """Make all runs that are not there yet, or all if ``fresh``, ``jobs`` at a time; what went wrong, by run."""
    processes = Processes()
    start = processes.launch if launch is None else launch
    threads = max(1, available_cores() // jobs) if jobs > 1 else None

    def make(numbered: tuple[int, GridRun]) -> str | None:
        number, run = numbered
        place = f"[{number}/{len(runs)}] {run.command}"
        if not fresh and is_finished(run):
            _tell(f"{place}: kept")
            return None
        _tell(f"{place}: running since {time.strftime('%H:%M:%S')}, output in {run.log}")
        error = _train(run, threads, start)
        if error is not None:
            _tell(f"failed: {run.command}: {error}")
        return error

    with ThreadPoolExecutor(jobs) as pool:
        try:
            errors = pool.map(make, enumerate(runs, 1))
            return {run.folder: error for run, error in zip(runs, errors, strict=True) if error is not None}
        except BaseException:  # Ctrl-C above all: only this thread hears of it, and unfinished runs are of no use
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end()
            raise


def _train(run: GridRun, threads: int | None, launch: Launch) -> str | None:
    """Make one run; what went wrong, if anything did."""
    _move_aside(run.folder)
    run.log.parent.mkdir(parents=True, exist_ok=True)
    run.log.unlink(missing_ok=True)
    arguments = [*run.command.split()[1:], "--track", "disabled", "--run-dir", str(run.folder)]
    started = time.perf_counter()
    status = launch([sys.executable, "-m", "palaestra.train.cli", *arguments], run.log, threads)
    seconds = time.perf_counter() - started
    if status != 0:
        return failure(status, run.log)
    if not _has_config_of(run):
        return f"{run.folder} does not hold the configuration that was to be trained"
    facts = {"command": run.command, "wall_seconds": round(seconds, 2)}
    write_whole(run.folder / "results.json", json.dumps(facts, indent=1).encode())
    return None


def is_finished(run: GridRun) -> bool:
    """Whether the folder holds a whole run with today's settings."""
    whole = all((run.folder / name).is_file() for name in ("results.json", "run.json", "eval.json"))
    return whole and _has_config_of(run)


def _has_config_of(run: GridRun) -> bool:
    path = run.folder / "config.yaml"
    if not path.is_file():
        return False
    try:
        return RunConfig.from_dict(read_file(path)) == run.config
    except ConfigError:
        return False  # whatever it is, it is not this run's


def _move_aside(folder: Path) -> None:
    if folder.exists():
        aside = next(p for n in count(1) if not (p := folder.with_name(f"{folder.name}.old{n}")).exists())
        folder.rename(aside)
        _tell(f"{folder} moved to {aside}")


def _tell(text: str) -> None:
    """Progress, apart from the table on standard output."""
    print(text, file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------- numbers


def collect(runs: Iterable[GridRun], failures: dict[Path, str]) -> list[dict[str, Any]]:
    """One row per environment and agent as plain data, with all numbers of its runs; a failed run has its ``error``."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.pair not in rows:
            rows[run.pair] = {
                "env": run.config.env,
                "agent": run.config.agent,
                "command": run.pair,
                "solved_at": _solved_at(run.config),
                "runs": [],
            }
        told = {"error": failures[run.folder]} if run.folder in failures else _numbers(run.folder)
        rows[run.pair]["runs"].append({"seed": run.config.seed, "folder": str(run.folder), **told})
    return list(rows.values())


def _solved_at(config: RunConfig) -> float | None:
    found = resolve(config.env)
    assert isinstance(found, EnvEntry)
    return rules_of(found, config.env_kwargs).reference.solved_at


def _numbers(folder: Path) -> dict[str, Any]:
    measured, facts, evaluation = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("results", "run", "eval")
    )
    return {"wall_seconds": measured["wall_seconds"], **facts, "evaluation": evaluation}


# ---------------------------------------------------------------------------------------------------- text

HEADS = "command | steps | wall time | steps/s | score (optimum) | % of optimum | also | solved after | commit"
ALSO = {  # number in eval.json → how it is told
    "success_rate": ("success", "{:.1%}"),
    "captured_percent": ("captured", "{:.1f}%"),
    "seconds_per_bound": ("time / bound", "{:.2f}"),
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown, and what their numbers mean."""
    lines = (HEADS, " | ".join("---" for _ in HEADS.split(" | ")), *(" | ".join(_cells(row)) for row in rows))
    return "\n".join(f"| {line} |" for line in lines) + "\n\n" + _caption(rows)


def _caption(rows: Sequence[dict[str, Any]]) -> str:
    seeds = ", ".join(str(run["seed"]) for run in rows[0]["runs"])
    done = [run for row in rows for run in row["runs"] if "error" not in run]
    machines = {f"{r['machine']} ({r['device']}, {_threads(r)}, torch {r['torch']})": None for r in done}
    return f"""\
Lists are in the order of the seeds: `--seed` {seeds}. Wall time is that of the whole command, with start-up, imports,
evaluations and the recorded episode; steps/s are those of training, with the evaluations on the way. The score is the
mean return of 1,000 held-out episodes, or the exact expectation where the environment knows it, and % of optimum is
100 · score / optimum. Solved after: seconds from the start of the process to the first of the ten evaluations during
training that reached the score before the colon. {NONE} is none.
Measured on {"; ".join(machines) or "no machine"}."""


def _threads(run: dict[str, Any]) -> str:
    return f"{run['threads']} thread{'s' if run['threads'] != 1 else ''} a run"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    runs = [{**run.get("evaluation", {}), **run} for run in row["runs"]]
    optimum = next((run["reference"]["optimum"] for run in runs if "reference" in run), None)
    score = "exact_mean" if any("exact_mean" in run for run in runs) else "mean"
    scores, seconds = _each(runs, score, "{:,.4g}"), _each(runs, "solved_after_seconds", "{:.1f}")
    also = [f"{name} {_each(runs, key, text)}" for key, (name, text) in ALSO.items() if _values(runs, key)]
    return (
        f"`{row['command']}`",
        _span(runs, "num_timesteps", _short),
        _span(runs, "wall_seconds", _clock),
        _span(runs, "steps_per_second", _short),
        scores if optimum is None else f"{scores} ({optimum:,.4g})",
        _each(runs, "ratio_to_optimal_percent", "{:.1f}"),
        "; ".join(also) or NONE,
        f"{row['solved_at']:,.4g}: {seconds} s" if _values(runs, "solved_after_seconds") else NONE,
        ", ".join(dict.fromkeys(commit[:7] for commit in _values(runs, "git_commit"))) or NONE,
    )


def _values(runs: Iterable[dict[str, Any]], key: str) -> list[Any]:
    """What is known; a failed run knows nothing."""
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


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


# ---------------------------------------------------------------------------------------------------- the README


def between_markers(path: Path, text: str) -> str:
    """The file's content with ``text`` between the markers.

    Raises:
        ConfigError: unless the file has each marker once, in their order.
    """
    content = path.read_text(encoding="utf-8")
    before, begin, rest = content.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not end or BEGIN in inside + after or END in before + after:
        raise ConfigError(f"{path} must have one line {BEGIN} and, below it, one line {END}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def write_readme(path: Path, text: str) -> None:
    """Replace what is between the markers."""
    write_whole(path.resolve(), between_markers(path, text).encode())
