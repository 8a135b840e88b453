"""Seconds from the start of a process, imports included, until an agent solves its environment.

1. palaestra: ``palaestra train ENV`` with its preset, its evaluations counted, until the first of them that reaches the
   environment's ``solved_at``. The others learn CartPole (:mod:`palaestra.train.bench.libraries.solving`), theirs not
   counted.
2. One run at a time, palaestra with the threads that it chooses and the others with all, seeds 0, 1, 2 in turns; the
   median counts. A run that does not get there is worse than all others.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from palaestra.envs.core import resolve_device
from palaestra.envs.core.host import use_available_cores
from palaestra.train.bench.bench_tables import heading, wrapped
from palaestra.train.bench.interleaved import OURS, WorkloadError
from palaestra.train.bench.libraries import LEARNERS, installed
from palaestra.train.bench.throughput import CARTPOLE, machine, say
from palaestra.train.config import DEFAULT_AGENT
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.runs.parallel.child_process import ChildProcess, last_line
from palaestra.train.runs.run_folder import RunFolder

SEEDS = (0, 1, 2)
SOLVERS = ("sbx", "rsl_rl")  # beside SB3
LONGEST, PATIENCE = 600.0, 60.0  # s, of a run and from the request to stop until it is killed


def measure_solving(env: str, agent: str = DEFAULT_AGENT, device: str = "auto") -> dict[str, Any]:
    """Time each workload once per seed, about three minutes on two cores for CartPole.

    Returns:
        Plain data: the machine, ``solved_at``, ``seconds`` (workload → one number a seed, None where it was not
        reached) and ``left_out``.

    Raises:
        ConfigError: the environment does not say when it is solved, or the agent cannot act in it.
        WorkloadError: palaestra's own run failed.
    """
    use_available_cores()
    config = resolve_config(env, agent, device=device)
    score = config.resolved_env.reference(config.env_kwargs).solved_at
    if score is None:
        raise ConfigError(f"{config.env} does not say from which mean return it counts as solved")
    left_out: dict[str, str] = {}
    names = [OURS, *_others(config, left_out)]
    seconds: dict[str, list[float | None]] = {name: [] for name in names}
    for seed in SEEDS:
        for name in [name for name in names if name in seconds]:
            say(f"{name}, seed {seed}")
            try:
                found = _ours(config, seed, score) if name == OURS else _peer(name, seed, score)
            except WorkloadError as error:
                if name == OURS:
                    raise
                left_out[name] = str(error)
                del seconds[name]
                continue
            seconds[name].append(found)
    device_used = resolve_device(config.device)
    result = {"env": config.env, "agent": config.agent, **machine(device_used), "solved_at": score}
    return {**result, "seconds": seconds, "left_out": left_out}


def _others(config: RunConfig, left_out: dict[str, str]) -> list[str]:
    if config.env != CARTPOLE or config.agent != "ppo":
        left_out["others"] = "they have published settings for PPO on CartPole"
        return []
    found = installed([peer for peer in LEARNERS if peer.name in SOLVERS], left_out)
    return ["SB3", *(peer.name for peer in found)]


def _ours(config: RunConfig, seed: int, score: float) -> float | None:
    """Train in a new folder, and stop when an evaluation has reached the score."""
    with tempfile.TemporaryDirectory() as folder:
        run, log = RunFolder(Path(folder, "run")), Path(folder, "log")
        command = [sys.executable, "-m", "palaestra.train.cli", "train", config.env, "--agent", config.agent]
        command += ["--seed", str(seed), "--device", config.device, "--track", "disabled", "--run-dir"]
        command += [str(run.path), "--no-report"]
        with ChildProcess(command, log) as child:
            _wait_for(child, run, score)
            child.end(PATIENCE)
        if not run.facts_file.is_file():
            raise WorkloadError(f"palaestra train ended with {last_line(log) or 'nothing'}")
        seconds: float | None = run.facts()["solved_after_seconds"]
        return seconds


def _wait_for(child: ChildProcess, run: RunFolder, score: float) -> None:
    """Until it ends by itself, has reached the score or has had its time; then it is told to stop, which it does."""
    started = time.perf_counter()
    while child.status() is None:
        if run.curves.best_score() >= score or time.perf_counter() - started > LONGEST:
            child.stop()
            return
        time.sleep(0.2)


def _peer(name: str, seed: int, score: float) -> float | None:
    command = [sys.executable, "-m", "palaestra.train.bench.libraries.solving", name, str(score), str(seed)]
    command.append(str(torch.get_num_threads()))
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with ChildProcess(command, log, stdout=True) as child:
            status = child.wait(LONGEST)
            if status is None or child.answers is None:
                return None
            if status:
                raise WorkloadError((last_line(log) or f"its process ended ({status})")[:200])
            seconds: float | None = json.load(child.answers)
    return seconds


def solving_table(result: dict[str, Any]) -> str:
    """For people to read."""
    head = f"seconds to a mean return of {result['solved_at']:g}"
    lines = [*heading(result), "", f"{head:<36}{'median':>9}{'min':>9}{'max':>9}{'ratio':>9}"]
    ours = _median(result["seconds"][OURS])
    for name, own in result["seconds"].items():
        known = [math.inf if value is None else value for value in own]
        figures = "".join(_shown(value) for value in (_median(own), min(known), max(known)))
        times = _median(own) / ours if math.isfinite(ours) else math.nan
        lines.append(f"  {name:<34}{figures}{'' if name == OURS else f'{times:>8.1f}×'}")
    lines += [line for name, reason in result["left_out"].items() for line in wrapped(f"left out: {name}: {reason}")]
    notes = (
        f"Seeds {', '.join(map(str, SEEDS))} in turns, each run alone, from the start of its process; palaestra "
        "chooses its threads, the others have all. The mean is that of 100 held-out episodes, played ten times in a "
        "run; the time for that counts for palaestra only. palaestra: its preset; SB3 and sbx: RL Zoo's settings; "
        "rsl_rl: its usual ones. –: not reached."
    )
    return "\n".join([*lines, "", *wrapped(notes)])


def _median(seconds: list[float | None]) -> float:
    return statistics.median(math.inf if value is None else value for value in seconds)


def _shown(seconds: float) -> str:
    return f"{seconds:>9.1f}" if math.isfinite(seconds) else f"{'–':>9}"
