"""The grid environment × agent × seed, trained run by run as a user would (the table of it: ``results/table.py``).

1. The grid is every environment and agent with a preset (:mod:`palaestra.train.config.presets`), seeds 0 … n − 1. Each
   run is ``palaestra train ENV --agent AGENT --seed S --track disabled --run-dir DIR/<env>/<agent>/s<S>`` in a process
   of its own, so that start-up, memory and threads are those of a user's run, one after another. With ``jobs`` J > 1,
   J runs at a time share the cores evenly: the grid is done sooner, each run later. What a run prints goes to
   ``s<S>.log`` beside its folder.
2. A finished run is known by ``results.json`` in its folder, which is written last and holds the wall time of the whole
   process. It is kept if its ``config.yaml``, threads apart, equals what would be trained today. Anything else at its
   place is moved aside (``s<S>.old1``, …): the table never mixes runs of different settings.
3. A run that fails is reported and leaves a dash in the table; the others go on.
"""

from __future__ import annotations

import json
import shlex
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from palaestra.envs.core.atomic_write import write_whole
from palaestra.envs.core.host import available_cores
from palaestra.envs.registry import entries
from palaestra.train.config import require_agent
from palaestra.train.config.presets import find_preset, own_preset
from palaestra.train.config.run_config import RunConfig, environment, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import tell
from palaestra.train.runs.parallel.child_process import ChildProcess, failure
from palaestra.train.runs.run_folder import RunFolder

RunCommand = Callable[[list[str], Path, int | None], int]  # command, file for its output, threads → exit status


@dataclass(frozen=True)
class GridRun:
    """One run of the grid: what it trains, and where."""

    name: str  # short name of the environment
    config: RunConfig
    folder: Path

    @property
    def pair(self) -> str:
        return f"palaestra train {shlex.quote(self.name)} --agent {self.config.agent}"

    @property
    def command(self) -> str:
        return f"{self.pair} --seed {self.config.seed}"

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")


def grid(names: Sequence[str], agents: Sequence[str], seeds: int, root: Path) -> list[GridRun]:
    """The runs of all pairs that have a preset, by environment, agent and seed.

    Args:
        names: environments; none for all that have a preset of their own, not only that of their class.
        agents: keys of ``AGENTS``.
        seeds: how many.
        root: below it the run folders are made.

    Raises:
        ConfigError, UnknownEnvError: on an unknown name, and on an environment without a preset.
    """
    for agent in agents:
        require_agent(agent)
    runs: list[GridRun] = []
    chosen = [environment(name) for name in names] or entries()
    preset_of = find_preset if names else own_preset
    for found in {found.id: found for found in chosen}.values():
        theirs = [agent for agent in dict.fromkeys(agents) if preset_of(found, agent) is not None]
        if names and not theirs:
            raise ConfigError(f"{found.id} has no preset for {' or '.join(agents)}")
        for agent in theirs:
            configs = [resolve_config(found.absolute_name, agent, seed=seed) for seed in range(seeds)]
            folder = root / found.short_name / agent
            runs += [GridRun(found.shortest_name, config, folder / f"s{config.seed}") for config in configs]
    if not runs:
        raise ConfigError(f"no environment has a preset for {' or '.join(agents)}")
    return runs


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


def run_grid(runs: Sequence[GridRun], fresh: bool, jobs: int = 1, launch: RunCommand | None = None) -> dict[Path, str]:
    """Make all runs that are not there yet, or all if ``fresh``, ``jobs`` at a time; what went wrong, by run."""
    processes = Processes()
    start = processes.launch if launch is None else launch
    threads = max(1, available_cores() // jobs) if jobs > 1 else None

    def make(numbered: tuple[int, GridRun]) -> str | None:
        number, run = numbered
        place = f"[{number}/{len(runs)}] {run.command}"
        if not fresh and is_finished(run):
            tell(f"{place}: kept")
            return None
        tell(f"{place}: running since {time.strftime('%H:%M:%S')}, output in {run.log}")
        error = _train(run, threads, start)
        if error is not None:
            tell(f"failed: {run.command}: {error}", error=True)
        return error

    with ThreadPoolExecutor(jobs) as pool:
        try:
            errors = pool.map(make, enumerate(runs, 1))
            return {run.folder: error for run, error in zip(runs, errors, strict=True) if error is not None}
        except BaseException:  # Ctrl-C above all: only this thread hears of it, and unfinished runs are of no use
            pool.shutdown(wait=False, cancel_futures=True)
            processes.end()
            raise


def _train(run: GridRun, threads: int | None, launch: RunCommand) -> str | None:
    """Make one run; what went wrong, if anything did."""
    _move_aside(run.folder)
    run.log.parent.mkdir(parents=True, exist_ok=True)
    run.log.unlink(missing_ok=True)
    arguments = [*shlex.split(run.command)[1:], "--track", "disabled", "--no-report", "--run-dir", str(run.folder)]
    started = time.perf_counter()
    status = launch([sys.executable, "-m", "palaestra.train.cli", *arguments], run.log, threads)
    seconds = time.perf_counter() - started
    if status != 0:
        return failure(status, run.log)
    if not _has_config_of(run):
        return f"{run.folder} does not hold the configuration that was to be trained"
    facts = {"command": run.command, "wall_seconds": round(seconds, 2)}
    write_whole(RunFolder(run.folder).wall_time_file, json.dumps(facts, indent=1).encode())
    return None


def is_finished(run: GridRun) -> bool:
    """True if the folder holds a whole run with today's settings."""
    folder = RunFolder(run.folder)
    whole = all(file.is_file() for file in (folder.wall_time_file, folder.facts_file, folder.evaluation_file))
    return whole and _has_config_of(run)


def _has_config_of(run: GridRun) -> bool:
    try:
        return run.config.trains_as(RunFolder(run.folder).config())
    except ConfigError:
        return False  # not this run's configuration, whatever it is


def _move_aside(folder: Path) -> None:
    if folder.exists():
        aside = next(p for n in count(1) if not (p := folder.with_name(f"{folder.name}.old{n}")).exists())
        folder.rename(aside)
        tell(f"{folder} moved to {aside}")
