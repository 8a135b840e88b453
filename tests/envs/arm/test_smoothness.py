"""Smoothness of an arm's motion: by hand, and against NumPy on recorded joint velocities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from palaestra.agents import PPO
from palaestra.envs import TensorEnv, TensorVectorEnv, make
from palaestra.envs.arm import PANDA
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.wrappers import DelayedObservation, DiscretizedActions, FrameStack, StickyActions
from palaestra.train.evaluation.episodes import evaluate, run_episodes
from palaestra.train.evaluation.policies import ExpertPolicy, RandomPolicy

LIMITS = {"reach": "acceleration", "reach-torque": "torque"}


def test_jerk_and_limits_by_hand() -> None:
    """Joint velocities that grow with the square of the time have one jerk; joint 3 ends above its limit."""
    env, jerk = Reach(), torch.tensor([1.0, 2.0, 0.0, 0.0, 4.0, 0.0, 2.0])  # rad/s³
    start = TensorVectorEnv(env, 1, device="cpu")
    start.reset()
    states = [replace(start.state, dq=(0.5 * jerk * (k / 20) ** 2).unsqueeze(0)) for k in range(3)]  # type: ignore[type-var]
    figures = env.step_figures(*states[:2], torch.zeros(1, 7), states[2])
    assert figures["rms_jerk"].item() == pytest.approx((25 / 7) ** 0.5, rel=1e-5)
    assert figures["at_velocity_limit_percent"].tolist() == [0.0]
    assert figures["at_acceleration_limit_percent"].tolist() == [0.0]
    fast = replace(states[2], dq=states[2].dq + 2.175 * torch.eye(7)[2])
    figures = env.step_figures(*states[:2], torch.zeros(1, 7), fast)
    assert figures["at_velocity_limit_percent"].tolist() == [100.0]
    assert figures["at_acceleration_limit_percent"].tolist() == [100.0]


def first_episodes(env: TensorVectorEnv[Any]) -> tuple[list[list[np.ndarray[Any, Any]]], list[list[Tensor]]]:
    """Joint velocities before the first and after each step, and the actions, of each row's first episode."""
    obs, _ = env.reset()
    velocities = [[row.numpy().astype(float)] for row in env.state.dq]
    actions: list[list[Tensor]] = [[] for _ in velocities]
    running = torch.ones(env.num_envs, dtype=torch.bool)
    while running.any():
        action = RandomPolicy()(env, obs)
        obs, _, terminated, truncated, _ = env.step(action)
        for row in running.nonzero().flatten().tolist():
            velocities[row].append(env.final_state.dq[row].numpy().astype(float))  # type: ignore[union-attr]
            actions[row].append(action[row])
        running &= ~(terminated | truncated)
    return velocities, actions


@pytest.mark.parametrize("name", ["reach", "reach-torque"])
def test_an_evaluation_tells_what_numpy_makes_of_the_velocities(name: str) -> None:
    limit = 25 if name == "reach" else 12
    batches = [make(name, 12, "cpu", seed=5, max_episode_steps=limit) for _ in range(2)]
    velocities, actions = first_episodes(batches[0])  # type: ignore[arg-type]
    rate = 20 if name == "reach" else 50
    jerks, fast, strained = [], [], []
    for row, taken in zip(velocities, actions, strict=True):
        acceleration = np.diff(row, axis=0) * rate
        jerks.append(np.diff(np.concatenate((np.zeros((1, 7)), acceleration)), axis=0) * rate)  # it starts at rest
        fast += (np.abs(row[1:]) > 0.999 * np.array(PANDA.velocity)).any(1).tolist()
        if name == "reach":
            strained += (np.abs(acceleration) > 0.999 * np.array(PANDA.acceleration)).any(1).tolist()
        else:
            strained += [bool((action.abs() > 0.9999).any()) for action in taken]
    played = run_episodes(batches[1], RandomPolicy())
    sums, steps = played.step_sums, played.lengths.sum()
    assert steps == sum(map(len, jerks)) == len(fast)
    assert (sums["rms_jerk"] / steps) ** 0.5 == pytest.approx(np.sqrt(np.mean(np.concatenate(jerks) ** 2)), rel=1e-3)
    assert sums["at_velocity_limit_percent"] / steps == pytest.approx(100 * np.mean(fast))
    assert sums[f"at_{LIMITS[name]}_limit_percent"] / steps == pytest.approx(100 * np.mean(strained))
    assert sum(fast) > 0 or name == "reach"


class Always:
    """One action in all episodes."""

    name, deterministic = "always", True

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, env: Any, obs: Any) -> Tensor:
        return torch.full((env.num_envs, 7), self.value)


@pytest.mark.parametrize(
    ("settings", "value", "share"),
    [
        ({}, 1.0, 100.0),
        ({}, 0.9, 0.0),
        ({"gain": 1.2}, 0.9, 100.0),
        ({"action_delay": 100}, 1.0, 0.0),  # nothing arrives
        ({"control": "pd"}, 1.0, 100.0),
        ({"control": "pd"}, 0.0, 0.0),
    ],
)
def test_motors_at_their_limit(settings: dict[str, Any], value: float, share: float) -> None:
    batch = make("reach-torque", 2, "cpu", max_episode_steps=1, **settings)
    sums = run_episodes(batch, Always(value)).step_sums
    assert sums["at_torque_limit_percent"] / 2 == share


def wrapped(name: str, env: TensorEnv[Any]) -> TensorEnv[Any]:
    wrappers: dict[str, Any] = {
        "stack": lambda: FrameStack(env, 2),
        "delay": lambda: DelayedObservation(env, 1),
        "sticky": lambda: StickyActions(env, 0.0),
    }
    return wrappers[name]()  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["stack", "delay", "sticky"])
def test_wrappers_pass_the_figures_on(name: str) -> None:
    plain, around = (
        TensorVectorEnv(env, 8, device="cpu", max_episode_steps=9)
        for env in (ReachTorque(), wrapped(name, ReachTorque()))
    )
    assert run_episodes(plain, RandomPolicy()).step_sums == run_episodes(around, RandomPolicy()).step_sums


def test_figures_see_the_action_that_was_taken() -> None:
    """Of two values in each dimension, ±0.5, none is at the limit of the torque."""
    batch = TensorVectorEnv(DiscretizedActions(ReachTorque(), 2), 8, device="cpu", max_episode_steps=3)
    assert run_episodes(batch, RandomPolicy()).step_sums["at_torque_limit_percent"] == 0.0
    stuck = TensorVectorEnv(StickyActions(ReachTorque(), 0.999999), 8, device="cpu", max_episode_steps=3)

    class Second(Always):
        def __call__(self, env: Any, obs: Any) -> Tensor:
            return torch.full((8, 7), float(env.episode_length[0] > 0))

    assert run_episodes(stuck, Second(0.0)).step_sums["at_torque_limit_percent"] == 0.0


def test_an_evaluation_does_not_depend_on_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate("reach", ExpertPolicy(), episodes=12).more
    monkeypatch.setattr("palaestra.envs.specs.TensorEnvSpec.default_batch", 5)
    parts = evaluate("reach", ExpertPolicy(), episodes=12).more
    assert whole.keys() == parts.keys() > {"rms_jerk", "at_velocity_limit_percent"}
    assert all(whole[name] == pytest.approx(parts[name], rel=1e-9) for name in whole)


@pytest.mark.parametrize("env", [Reach(), ReachTorque(), ReachTorque(control="pd", gain=0.8, action_delay=1)])
def test_the_figures_need_no_synchronisation(env: TensorEnv[Any]) -> None:
    batch = TensorVectorEnv(env, 4, device="meta")
    batch.reset()
    before = batch.state
    batch.step(torch.zeros(4, 7, device="meta"))
    figures = env.step_figures(before, before, torch.zeros(4, 7, device="meta"), batch.final_state)
    assert {value.shape for value in figures.values()} == {(4,)}


def test_training_never_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(Reach, "step_figures", refuse)
    PPO("MlpPolicy", TensorVectorEnv(Reach(), 8, device="cpu"), n_steps=8, batch_size=64, seed=0).learn(128)
