"""Runs killed with SIGKILL, however they train: to the last bit, they end as the run that was left alone.

Runs that train from recordings are compared with one that calls each operation by itself: both on the CPU, by the ways
of a GPU, with ``--deterministic``. ``python tests/stress/kills.py`` kills longer runs more often, started by a shell.
"""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import fx_graph
import pytest
import team
from forked_command import ForkedCommand
from kills import curves, same_weights

from palaestra.train.runs.run_folder import RunFolder

ENVS = 64
TINY = ("n_steps=8", "batch_size=256", "n_epochs=2", "env.max_episode_steps=40")  # so that evaluations are short
REPLAY = ("learning_starts=1000", "batch_size=128", "buffer_size=5000", TINY[-1])


@dataclass(frozen=True)
class Case:
    """One way of training: the command's words, and what its processes, and that of the run left alone, do first."""

    env: str
    agent: str
    settings: tuple[str, ...] = TINY
    iterations: int = 20
    words: tuple[str, ...] = ()
    kills: int = 1
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
    """Recorded, compared with the same operations called one by one."""
    return Case(
        *(env, agent, settings, iterations, ("--deterministic",)),
        before=fx_graph.record_always,
        before_undisturbed=fx_graph.record_never,
    )


CASES = {
    "ppo": Case("cartpole", "ppo", kills=2),
    "dqn": Case("snake-small", "dqn", REPLAY),
    "pqn": Case("snake-small", "pqn"),
    "ppo that stores states": Case("snake-small", "ppo", (*TINY, "rollout_storage=states")),
    "pqn that stores observations": Case("snake-small", "pqn", (*TINY, "rollout_storage=observations")),
    "two processes": Case("cartpole", "ppo", processes=2),
    "recorded ppo": recorded("pricing", "ppo", (*TINY[:-1], "env.periods=30")),
    "recorded dqn": recorded("snake-small", "dqn", REPLAY),
    "recorded pqn": recorded("snake-small", "pqn", (*TINY, "rollout_storage=states")),
}


class Training:
    """The processes of a command; with ``before`` run first, if there is one."""

    def __init__(self, case: Case, words: list[str], folder: Path, before: Callable[[], None] | None) -> None:
        self.processes: Sequence[ForkedCommand] = (
            [ForkedCommand(words, folder / "log", before)]
            if case.processes == 1
            else team.start_command(case.processes, words, folder)
        )

    def runs(self) -> bool:
        return all(process.poll() is None for process in self.processes)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def ends_well(self) -> None:
        for process in self.processes:
            assert process.wait() == 0, process.said()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_run_killed_again_and_again_ends_with_the_same_weights(case: Case, tmp_path: Path) -> None:
    """At random moments once the first checkpoint is there; the run goes on from the newest whole one."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    Training(case, case.command(whole), tmp_path / "alone", case.before_undisturbed).ends_well()
    moments, kills, deadline = random.Random(0), 0, time.monotonic() + 150
    training = Training(case, case.command(killed), tmp_path, case.before)
    while kills < case.kills and time.monotonic() < deadline:
        seen = RunFolder(killed).checkpoints()
        while RunFolder(killed).checkpoints() == seen and training.runs():
            time.sleep(0.002)
        time.sleep(moments.uniform(0.0, 0.05))
        if not training.runs():
            if kills:
                break
            training.ends_well()  # before anybody could kill it
            shutil.rmtree(killed)
            training = Training(case, case.command(killed), tmp_path, case.before)
            continue
        training.kill()
        kills += 1
        words = ["train", "--resume", str(killed), "--track", "disabled", "--no-report"]
        training = Training(case, words, tmp_path, case.before)
    training.ends_well()
    assert kills > 0
    assert same_weights(killed, whole)
    assert curves(killed) == curves(whole)
    assert not (killed / "checkpoints").exists()
