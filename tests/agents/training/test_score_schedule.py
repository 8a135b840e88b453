"""Schedules that follow the score: known values, the agents that set the gap, files, the same bits after a resume."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.utils import LinearSchedule
from training_cases import SaveAt, all_tensors

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.training.score_schedule import ScoreSchedule, follow_score
from palaestra.envs import make

ENVS = 16
ROLLOUT = {"n_steps": 8, "batch_size": 64, "n_epochs": 1}
REPLAY = {"learning_starts": 100, "batch_size": 64, "buffer_size": 1000, "samples_per_insert": 2.0, "train_freq": 2}
AGENTS: dict[str, tuple[Any, dict[str, Any]]] = {"ppo": (PPO, ROLLOUT), "pqn": (PQN, ROLLOUT), "dqn": (DQN, REPLAY)}


def agent(name: str, env: str = "cartpole", **settings: Any) -> Any:
    kind, kwargs = AGENTS[name]
    schedule = ScoreSchedule(1e-2, 1e-3)
    return kind("MlpPolicy", make(env, ENVS, "cpu", 3), learning_rate=schedule, seed=1, **kwargs, **settings)


@pytest.mark.parametrize(
    ("left", "gap", "value"),
    [(1.0, 1.0, 10.0), (0.5, 1.0, 6.0), (1.0, 0.25, 4.0), (0.1, 0.25, 2.8), (0.0, 1.0, 2.0), (0.7, 0.0, 2.0)],
)
def test_the_lesser_of_time_and_gap_decides(left: float, gap: float, value: float) -> None:
    schedule = ScoreSchedule(10.0, 2.0)
    schedule.gap = gap
    assert schedule(left) == pytest.approx(value)


@pytest.mark.parametrize("schedule", [lambda left: 1e-2 * left, ScoreSchedule(1e-2, 0.0)], ids=["time", "score"])
@pytest.mark.parametrize("name", AGENTS)
def test_the_last_update_of_a_run_in_whole_rollouts_has_the_last_value(name: str, schedule: Any) -> None:
    kind, kwargs = AGENTS[name]
    model = kind("MlpPolicy", make("cartpole", ENVS, "cpu", 3), learning_rate=schedule, seed=1, **kwargs)
    model.learn(3 * 8 * ENVS - 1)
    assert model.num_timesteps == 3 * 8 * ENVS
    assert model.main_optimizer.param_groups[0]["lr"] == 0.0


@pytest.mark.parametrize("name", AGENTS)
def test_the_gap_is_that_of_the_latest_training_episodes(name: str) -> None:
    model = agent(name)
    assert model.lr_schedule(1.0) == 1e-2  # nothing is known
    model.learn(ENVS * 1500)
    reference, window = model.batch.env.reference, model.ep_info_buffer
    mean = sum(e["n"] * e["r"] for e in window) / sum(e["n"] for e in window)
    gap = 1.0 - (mean - reference.random) / (reference.optimum - reference.random)
    assert name == "dqn" or 0.0 < gap < 1.0  # which has learned nothing yet
    assert model.lr_schedule(1.0) == pytest.approx(1e-3 + 9e-3 * min(1.0, gap))


def test_other_schedules_of_an_agent_follow_too() -> None:
    model = agent("ppo", ent_coef=ScoreSchedule(0.1, 0.0), clip_range=ScoreSchedule(0.3, 0.1))
    model.ep_info_buffer = [{"n": 8.0, "r": 500.0, "l": 500.0, "e": float(ENVS), "t": 0.0}]
    follow_score(model)
    assert [model.ent_coef_schedule(1.0), model.clip_range(1.0)] == [0.0, pytest.approx(0.1)]
    model.ep_info_buffer = [{"n": 8.0, "r": 5.0, "l": 5.0, "e": float(ENVS), "t": 0.0}]  # less than at random
    follow_score(model)
    assert [model.ent_coef_schedule(1.0), model.clip_range(1.0)] == [0.1, pytest.approx(0.3)]


@pytest.mark.parametrize("name", AGENTS)
def test_a_resumed_run_has_the_same_bits(name: str, tmp_path: Path) -> None:
    steps = ENVS * 1000
    whole = agent(name).learn(steps)
    stopped = agent(name)
    stopped.learn(steps, SaveAt(steps * 3 // 4, tmp_path / "c.zip", stop=True))
    again = AGENTS[name][0].resume(tmp_path / "c.zip", make("cartpole", ENVS, "cpu", 3))
    gaps = [model.lr_schedule.value_schedule.gap for model in (again, stopped)]
    assert gaps[0] == gaps[1]
    assert name == "dqn" or gaps[0] < 1.0  # which has learned nothing yet
    again.learn(steps - again.num_timesteps, reset_num_timesteps=False)
    ours, theirs = all_tensors(again), all_tensors(whole)
    assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []


def test_a_model_file_holds_it_and_vanilla_sb3_has_a_linear_one(tmp_path: Path) -> None:
    model = agent("ppo", ent_coef=ScoreSchedule(0.1, 0.0))
    model.save(tmp_path / "m.zip")
    loaded = PPO.load(tmp_path / "m.zip")
    assert repr(loaded.lr_schedule.value_schedule) == "ScoreSchedule(start=0.01, end=0.001)"  # type: ignore[attr-defined]
    assert repr(loaded.ent_coef_schedule.value_schedule) == "ScoreSchedule(start=0.1, end=0.0)"
    kept = pickle.loads(pickle.dumps(ScoreSchedule(3.0, 1.0)))
    assert isinstance(kept, LinearSchedule)
    assert [kept(1.0), kept(0.5), kept(0.0)] == [3.0, 2.0, 1.0]


def test_without_a_known_optimum_only_time_counts() -> None:
    kind, kwargs = AGENTS["ppo"]
    model = kind("MlpPolicy", "CartPole-v1", learning_rate=ScoreSchedule(1.0, 0.0), **kwargs)
    model.learn(256)
    assert model.lr_schedule(0.5) == 0.5
