"""Runs killed with SIGKILL, however they train: to the last bit, they end as the run that was left alone.

Runs that train from recordings are compared with one that calls each operation by itself: both on the CPU, by the ways
of a GPU, with ``--deterministic``. ``python tests/stress/kills.py`` kills longer runs more often, started by a shell.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import fx_graph
import pytest
import team
from forked_command import ForkedCommand
from kills import curves, same_weights

from palaestra.train.runs.run_folder import RunFolder

ENVS, KILLS = 64, 2
TINY = ("n_steps=8", "batch_size=256", "env.max_episode_steps=40")  # so that evaluations are short
REPLAY = ("learning_starts=1000", "batch_size=128", "buffer_size=5000", TINY[-1])


@dataclass(frozen=True)
class Case:
    """One way of training: the command's words, and what its processes, and that of the run left alone, do first."""

    env: str
    agent: str
    settings: tuple[str, ...] = TINY
    iterations: int = 40
    words: tuple[str, ...] = ()
    processes: int = 1
    before: Callable[[], None] | None = None
    before_undisturbed: Callable[[], None] | None = None

    def command(self, run: Path) -> list[str]:
        steps = ENVS * 8 * self.iterations
        sizes = ("--total-timesteps", str(steps), "--num-envs", str(ENVS), "--checkpoint-every", str(steps // 10))
        settings = [part for setting in self.settings for part in ("--set", setting)]
        train = ["train", self.env, "--agent", self.agent, *sizes, *settings, *self.words]
        return [*train, "--run-dir", str(run), "--track", "disabled", "--no-report"]


def recorded(env: str, agent: str, settings: tuple[str, ...] = TINY, iterations: int = 20) -> Case:
    return Case(
        *(env, agent, settings, iterations, ("--deterministic",)),
        before=fx_graph.record_always,
        before_undisturbed=fx_graph.record_never,
    )


CASES = {
    "ppo": Case("cartpole", "ppo"),
    "dqn": Case("snake-small", "dqn", REPLAY),
    "pqn": Case("snake-small", "pqn"),
    "ppo that stores states": Case("snake-small", "ppo", (*TINY, "rollout_storage=states")),
    "pqn that stores observations": Case("snake-small", "pqn", (*TINY, "rollout_storage=observations")),
    "two processes": Case("cartpole", "ppo", processes=2),
    "recorded ppo": recorded("cartpole", "ppo"),
    "recorded dqn": recorded("cartpole", "dqn", REPLAY),
    "recorded pqn": recorded("snake-small", "pqn", (*TINY, "rollout_storage=states")),
}


class Training:
    """The processes of a command."""

    def __init__(self, case: Case, words: list[str], folder: Path, before: Callable[[], None] | None) -> None:
        self.one = ForkedCommand(words, folder / "log", before) if case.processes == 1 else None
        self.all = [] if self.one is not None else team.start_command(case.processes, words, folder)
        self.said = self.one.said if self.one else lambda: team.said(case.processes, folder)

    def runs(self) -> bool:
        return self.one.poll() is None if self.one else all(process.exitcode is None for process in self.all)

    def wait(self) -> list[int]:
        return [self.one.wait()] if self.one else team.wait(self.all)

    def kill(self) -> None:
        for process in self.all or [self.one]:
            process.kill()
        for process in self.all:
            process.join()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run_killed_again_and_again_ends_with_the_same_weights(case: Case, tmp_path: Path) -> None:
    """At random moments once the first checkpoint is there; the run goes on from the newest whole one."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = Training(case, case.command(whole), tmp_path / "alone", case.before_undisturbed)
    assert set(undisturbed.wait()) == {0}, undisturbed.said()
    moments, kills, deadline = random.Random(0), 0, time.monotonic() + 150
    training = Training(case, case.command(killed), tmp_path, case.before)
    while kills < KILLS and time.monotonic() < deadline:
        before = RunFolder(killed).checkpoints()
        while RunFolder(killed).checkpoints() == before and training.runs():
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.1))
        if not training.runs():
            break
        training.kill()
        kills += 1
        training = Training(case, ["train", "--resume", str(killed), "--track", "disabled", "--no-report"], tmp_path, case.before)
    assert set(training.wait()) == {0}, training.said()
    assert kills > 0
    assert same_weights(killed, whole)
    assert curves(killed) == curves(whole)
    assert not (killed / "checkpoints").exists()
