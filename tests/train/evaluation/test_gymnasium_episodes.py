"""Held-out episodes of Gymnasium environments: those without an end, and what goes wrong while training."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from palaestra.agents import PPO
from palaestra.envs import BatchedEnv, EnvError, make, specs
from palaestra.envs.specs import GymnasiumSpec
from palaestra.train.config.run_config import resolve_config
from palaestra.train.evaluation import episodes as module
from palaestra.train.evaluation import processes
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, evaluate
from palaestra.train.evaluation.policies import AgentPolicy, RandomPolicy
from palaestra.train.interruptions import Stopped, StopSignal
from palaestra.train.recording.show import watch
from palaestra.train.results.evaluation_report import report
from palaestra.train.runs import callbacks
from palaestra.train.runs.callbacks import StoppablePolicy
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import RunResult, train


class Corridor(gymnasium.Env[Any, Any]):
    """Five cells; a step costs 1, the right end pays 10 and is a success, which alone is told; no time limit.

    The agent begins in the middle. Where the ``goal`` is out of reach no episode ends.
    """

    observation_space, action_space = Box(0.0, 4.0, (1,)), Discrete(2)
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 30}
    broken = False
    seeds: ClassVar[list[int]] = []  # of all resets

    def __init__(self, goal: int = 4, render_mode: str | None = None) -> None:
        self.goal, self.render_mode = goal, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.seeds.append(seed)
        self.cell = 2
        return np.float32([self.cell]), {}

    def step(self, action: Any) -> Any:
        if self.broken:
            raise RuntimeError("the floor is wet")
        self.cell = min(4, max(0, self.cell + 2 * int(action) - 1))
        there = self.cell == self.goal
        return np.float32([self.cell]), 10.0 * there - 1, there, False, {"is_success": True} if there else {}

    def render(self) -> Any:
        return np.full((20, 30, 3), 40 * self.cell, np.uint8)


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    gymnasium.register("Corridor-v0", entry_point=Corridor)
    monkeypatch.setattr(module, "MAX_HOST_STEPS", 50)
    monkeypatch.setattr(Corridor, "seeds", [])
    yield
    del gymnasium.registry["Corridor-v0"]
    specs._gymnasium_spaces.cache_clear()


class Parity:
    """Even rows go right, odd ones into the wall."""

    name, deterministic = "parity", True

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        return 1 - env.env_indices % 2


class Right(Parity):
    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        return torch.ones(env.num_envs, dtype=torch.int64)


# ------------------------------------------------------------------------------------------- no end


@pytest.mark.parametrize("batch", [2, 4, 6])
def test_cut_episodes_count_with_what_they_have(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half reach the goal after 2 steps with 10 − 2, half are cut after 50 with −50."""
    monkeypatch.setattr(GymnasiumSpec, "default_batch", batch)
    result = evaluate("Corridor-v0", Parity(), episodes=12)
    assert (result.mean, result.mean_length, result.success_rate) == ((8 - 50) / 2, (2 + 50) / 2, 0.5)
    assert (result.cut_episodes, result.cut_after) == (6, 50)
    line = "6 of 12 episodes had no end and were cut after 50 steps (--set env.max_episode_steps=N sets a limit)"
    assert line in report(result)
    assert result.as_dict()["cut_episodes"] == 6


@pytest.mark.parametrize("limit", [20, 80])
def test_a_time_limit_takes_the_place_of_the_cut(limit: int) -> None:
    result = evaluate("Corridor-v0", Parity(), episodes=4, env_kwargs={"max_episode_steps": limit})
    assert (result.mean_length, result.cut_episodes, result.cut) == ((2 + limit) / 2, 0, None)
    assert "cut" not in report(result)


def test_successes_that_alone_are_told_are_a_share_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a batch without one nobody tells of it."""
    monkeypatch.setattr(GymnasiumSpec, "default_batch", 1)

    class FirstFails(Parity):
        def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
            return (env.env_indices > 0).long()

    assert evaluate("Corridor-v0", FirstFails(), episodes=4).success_rate == 0.75


def test_a_recording_is_cut_where_an_evaluation_is(tmp_path: Path) -> None:
    seen = watch("Corridor-v0", Parity(), record=tmp_path / "x.png", grid=(1, 2))
    assert (seen.cut, seen.returns) == (True, [8])
    seen = watch("Corridor-v0", Parity(), record=tmp_path / "x.mp4", grid=(1, 2), episodes=4)
    assert (seen.cut, seen.returns, seen.frames) == (True, [8, 8], 2 * (1 + 50 + 30))
    seen = watch("Corridor-v0", Right(), record=tmp_path / "x.mp4", episodes=4, max_steps=4)
    assert (seen.cut, seen.returns) == (True, [8, 8])  # two episodes fit, two do not


# ------------------------------------------------------------------------------------------- seeds


HERE = {"vectorization_mode": "sync"}  # without a trial of how long steps take, which has a seed too


def test_evaluations_share_no_episode(tmp_path: Path) -> None:
    """Neither with another seed, nor with training, nor with the evaluations while training."""
    used: list[set[int]] = []
    for seed in (0, 1, 32, 64, 2**14 - 1, 2**14, 2**40, callbacks.VALIDATION_SEED):
        Corridor.seeds.clear()
        evaluate("Corridor-v0", Right(), episodes=100, seed=seed, env_kwargs=HERE)
        used.append(set(Corridor.seeds))
        assert len(used[-1]) == 100
    Corridor.seeds.clear()
    for seed in (0, 1, 32, 2**32 - 1):
        make("Corridor-v0", 1000, "cpu", seed, **HERE).reset()
    used.append(set(Corridor.seeds))
    assert len(set().union(*used)) == 8 * 100 + 4 * 1000


def test_a_recording_shows_the_episodes_of_the_evaluation(tmp_path: Path) -> None:
    evaluate("Corridor-v0", Right(), episodes=6, seed=3, env_kwargs=HERE)
    evaluated = Corridor.seeds.copy()
    Corridor.seeds.clear()
    watch("Corridor-v0", Right(), record=tmp_path / "x.mp4", seed=EVALUATION_SEEDS + 3, grid=(1, 2), episodes=6)
    assert Corridor.seeds == evaluated


# ------------------------------------------------------------------------------------------- processes


@pytest.fixture
def _two_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "available_cores", lambda: 2)
    monkeypatch.setattr(processes, "FEW", 5)


def cartpole_agent(**kwargs: Any) -> AgentPolicy:
    return AgentPolicy(PPO("MlpPolicy", make("CartPole-v1", 4, "cpu"), n_steps=8, batch_size=32, seed=0), **kwargs)


@pytest.mark.usefixtures("_two_processes")
@pytest.mark.parametrize("policy", [RandomPolicy(), cartpole_agent(), cartpole_agent(deterministic=False)])
def test_processes_play_the_same_episodes(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    in_processes, calls = processes.play_in_processes, []
    monkeypatch.setattr(processes, "play_in_processes", lambda *args: calls.append(args[2:4]) or in_processes(*args))
    here = evaluate("CartPole-v1", policy, episodes=37, env_kwargs={"vectorization_mode": "sync"})
    assert not calls
    told = [0.0]
    assert evaluate("CartPole-v1", policy, episodes=37, tell=told.append) == here
    assert told == sorted(told)
    assert told[-1] <= 37
    assert calls == [(37, 2)]
    assert not multiprocessing.active_children()


@pytest.mark.usefixtures("_two_processes")
@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (None, r"^Corridor: step raises RuntimeError: the floor is wet .* in environment (0|10), episode 0, step 1$"),
        (os._exit, r"^a process of the evaluation has died \(exit code 7\)$"),
    ],
)
def test_what_happens_in_a_process_is_told(trouble: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Corridor, "broken", True)
    if trouble is not None:
        monkeypatch.setattr(Corridor, "step", lambda self, action: trouble(7))
    with pytest.raises(EnvError, match=message):
        evaluate("Corridor-v0", RandomPolicy(), episodes=20)
    assert not multiprocessing.active_children()


class Alone(Corridor):
    """Holds a file, so that one can be open at a time."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = Path(place)
        self.place.touch(exist_ok=False)

    def close(self) -> None:
        self.place.unlink()


@pytest.mark.usefixtures("_two_processes")
def test_what_can_be_open_once_only_is_played_here(tmp_path: Path) -> None:
    gymnasium.register("Alone-v0", entry_point=Alone)
    try:
        result = evaluate("Alone-v0", RandomPolicy(), episodes=6, env_kwargs={"place": str(tmp_path / "lock")})
    finally:
        del gymnasium.registry["Alone-v0"]
    expected = evaluate("Corridor-v0", RandomPolicy(), episodes=6)
    assert (result.mean, result.mean_length) == (expected.mean, expected.mean_length)


@pytest.mark.usefixtures("_two_processes")
def test_an_evaluation_in_processes_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_HOST_STEPS", 10**9)
    began, stop = time.monotonic(), StopSignal(print)

    class Told(StoppablePolicy):
        def check(self) -> None:
            stop.requested = time.monotonic() > began + 0.5
            super().check()

    policy = Told(cartpole_agent().model, stop, "agent")  # type: ignore[arg-type]
    monkeypatch.setattr(Told, "__call__", Parity.__call__)
    with pytest.raises(Stopped):
        evaluate("Corridor-v0", policy, episodes=20)
    assert time.monotonic() - began < 30
    assert not multiprocessing.active_children()


# ------------------------------------------------------------------------------------------- while training


def trained(folder: Path, monkeypatch: pytest.MonkeyPatch, *settings: str) -> RunResult:
    """After four iterations, each with an evaluation."""
    monkeypatch.setattr(GymnasiumSpec, "validation_episodes", 2)
    monkeypatch.setattr(GymnasiumSpec, "evaluation_episodes", 4)
    monkeypatch.setattr(callbacks, "EVALUATIONS", 4)
    settings = ("n_steps=8", "batch_size=16", "n_epochs=1", *settings)
    config = resolve_config("Corridor-v0", "ppo", num_envs=2, total_timesteps=64, device="cpu", settings=settings)
    return train(config, RunFolder.new(config, folder), "disabled")


def test_training_without_an_end_in_sight_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = trained(tmp_path / "run", monkeypatch, "env.goal=7")
    assert result.evaluation is not None
    assert (result.evaluation.mean, result.evaluation.cut_episodes) == (-50, 2)
    assert len(RunFolder(tmp_path / "run").curves.evaluations()) == 4
    told = [line for line in capsys.readouterr().out.splitlines() if "no end" in line]
    assert told == [
        "evaluation at step 16: 2 of 2 episodes had no end and were cut after 50 steps "
        "(--set env.max_episode_steps=N sets a limit)"
    ]


def test_an_evaluation_that_fails_never_ends_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, calls = callbacks.evaluate, []

    def evaluate_with_trouble(*args: Any, **kwargs: Any) -> Any:
        calls.append(len(calls))
        monkeypatch.setattr(Corridor, "broken", len(calls) in (2, 3))
        try:
            return whole(*args, **kwargs)
        finally:
            Corridor.broken = False

    monkeypatch.setattr(callbacks, "evaluate", evaluate_with_trouble)
    result = trained(tmp_path / "run", monkeypatch, "env.max_episode_steps=5")
    assert result.evaluation is not None
    assert [one.step for one in RunFolder(tmp_path / "run").curves.evaluations()] == [16, 64]
    told = [line for line in capsys.readouterr().out.splitlines() if "wet" in line]
    assert len(told) == 1
    assert told[0].startswith(
        "evaluation at step 32: failed (Corridor: step raises RuntimeError: the floor is wet (test_"
    )
