"""Agents with hindsight: what they learn that they could not without, their files, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import goal_worlds
import gymnasium
import pytest
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from training_cases import all_tensors

from palaestra.agents import DQN, SAC, TD3, CheckpointError
from palaestra.agents.buffers.hindsight import HindsightReplay
from palaestra.envs import make
from palaestra.envs.goals import check_goals
from palaestra.train.config.compatibility import check_policy
from palaestra.train.config.run_config import build_arguments, resolve_config
from palaestra.train.config.schema import ConfigError

POINT, BITS = "goal-worlds/Point-v0", "goal-worlds/Bits-v0"
SMALL: dict[str, Any] = {"policy_kwargs": {"net_arch": [32, 32]}, "batch_size": 64, "learning_starts": 200, "seed": 0}


def success_rate(model: Any, name: str, **kwargs: Any) -> float:
    """Of greedy actions, in 100 episodes with other seeds than those of training."""
    batch = make(name, 20, "cpu", seed=100, **kwargs)
    obs, _ = batch.reset()
    ended = succeeded = 0
    while ended < 100:
        obs, _, terminated, truncated, info = batch.step(model.act(obs))
        over = terminated | truncated
        ended += int(over.sum())
        succeeded += int(info["is_success"][over].sum()) if "is_success" in info else 0
    return succeeded / ended


def after(kind: Any, name: str, steps: int, hindsight: int, num_envs: int = 16, **kwargs: Any) -> float:
    of_env = {key: kwargs.pop(key) for key in ("bits", "near", "max_episode_steps") if key in kwargs}
    batch = make(name, num_envs, "cpu", seed=0, **of_env)
    model = kind("MultiInputPolicy", batch, hindsight=hindsight, **{**SMALL, **kwargs})
    model.learn(steps)
    return success_rate(model, name, **of_env)


def test_dqn_learns_to_flip_bits_with_hindsight_alone() -> None:
    """Seven bits, 128 states: without hindsight a reward other than −1 is hardly ever seen."""
    settings: dict[str, Any] = {"bits": 7, "learning_rate": 1e-3, "gamma": 0.95, "samples_per_insert": 32.0}
    settings |= {"exploration_fraction": 0.3, "tau": 0.05, "target_update_interval": 16, "batch_size": 128}
    settings |= {"policy_kwargs": {"net_arch": [128]}}
    assert after(DQN, BITS, 5_000, 4, **settings) > 0.9
    assert after(DQN, BITS, 5_000, 0, **settings) < 0.2


@pytest.mark.parametrize("kind", [SAC, TD3])
def test_continuous_agents_learn_to_reach_with_hindsight(kind: Any) -> None:
    settings: dict[str, Any] = {"near": 0.05, "gamma": 0.9, "tau": 0.02}
    if kind is TD3:
        settings |= {"learning_rate": 1e-3, "samples_per_insert": 32.0, "exploration_noise": 0.3}
    else:
        settings |= {"learning_rate": 3e-3, "samples_per_insert": 16.0, "ent_coef": "auto_0.1"}
    assert after(kind, POINT, 4_000, 4, **settings) > 0.9
    if kind is SAC:  # that it is hard without is a fact of the world and not of the agent
        assert after(kind, POINT, 4_000, 0, **settings) < 0.5


@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_resumed_agent_goes_on_with_the_memory_it_had(n_steps: int, tmp_path: Path) -> None:
    """Gymnasium's environments begin new episodes, twice the same; no goal is taken from the old ones for these."""
    arguments = {**SMALL, "buffer_size": 300, "learning_starts": 50, "n_steps": n_steps, "hindsight": 4}
    model = SAC("MultiInputPolicy", make(POINT, 4, "cpu", seed=3), **arguments)
    model.learn(900)
    model.save_checkpoint(tmp_path / "c.zip")
    ends = []
    for seed in (7, 8):
        torch.manual_seed(seed)  # the generator is part of the file
        again = SAC.resume(tmp_path / "c.zip", make(POINT, 4, "cpu", seed=3))
        assert isinstance(again.replay, HindsightReplay)
        assert again.replay.hindsight == again.hindsight == 4
        assert model.replay is not None
        torch.testing.assert_close(again.replay.state_dict(), model.replay.state_dict(), rtol=0, atol=0)
        running = again.replay.running.clone()
        again.learn(100, reset_num_timesteps=False)
        assert (again.replay.running != running).all()
        ends.append(all_tensors(again))
    assert [name for name, value in ends[0].items() if not torch.equal(value, ends[1][name])] == []


def test_a_memory_in_a_file_of_its_own_is_for_agents_with_hindsight(tmp_path: Path) -> None:
    model = TD3("MultiInputPolicy", make(POINT, 4, "cpu", seed=3), buffer_size=300, hindsight=2, **SMALL)
    model.learn(400)
    model.save_replay_buffer(tmp_path / "memory")
    again = TD3("MultiInputPolicy", make(POINT, 4, "cpu", seed=3), buffer_size=300, hindsight=4, **SMALL)
    again.load_replay_buffer(tmp_path / "memory")
    assert model.replay is not None
    assert again.replay is not None
    torch.testing.assert_close(again.replay.state_dict(), model.replay.state_dict(), rtol=0, atol=0)
    again.learn(100)
    plain = TD3("MultiInputPolicy", make(POINT, 4, "cpu", seed=3), buffer_size=300, **SMALL)
    with pytest.raises(CheckpointError, match="reached"):
        plain.load_replay_buffer(tmp_path / "memory")


def test_it_learns_in_the_environments_of_sb3s_scripts() -> None:
    for env in (gymnasium.make(POINT), DummyVecEnv([lambda: gymnasium.make(POINT)] * 2)):
        model = SAC("MultiInputPolicy", env, hindsight=4, **SMALL)
        model.learn(240)
        assert isinstance(model.replay, HindsightReplay)
        assert model._n_updates > 0


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("Pendulum-v1", "hindsight=4: observations have no achieved_goal and no desired_goal; leave it out"),
        ("reach", "hindsight=4: observations have no achieved_goal and no desired_goal; leave it out"),
        (lambda: VecNormalize(DummyVecEnv([lambda: gymnasium.make(POINT)])), "VecNormalize changes the goals"),
        (lambda: make(POINT, 2, "cpu", vectorization_mode="async"), "vectorization_mode=async leaves no environment"),
    ],
)
def test_environments_without_goals_are_refused(env: Any, message: str) -> None:
    made = env() if callable(env) else env
    with pytest.raises(ValueError, match=message):
        SAC("MultiInputPolicy" if callable(env) else "MlpPolicy", made, hindsight=4)
    if callable(env):
        made.close()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NoRule", "has no method compute_reward"),
        ("Each", r"compute_reward must give 2 numbers for 2 goals at once, it gives one number, -?\d"),
    ],
)
def test_rules_that_cannot_be_asked_are_refused_before_the_run(name: str, why: str) -> None:
    config = resolve_config(f"goal-worlds/{name}-v0", "sac", settings=["hindsight=4"])
    with pytest.raises(ConfigError, match=f"^hindsight=4: .*{why}.*; leave it out$"):
        check_policy(config.agent, config.resolved_env, config.env_kwargs, build_arguments(config))


def test_no_goals_no_hindsight_before_the_run() -> None:
    for env, agent in (("Pendulum-v1", "td3"), ("reach", "sac"), ("cartpole", "dqn")):
        config = resolve_config(env, agent, settings=["hindsight=4", "prioritized_replay=0"][: 1 + (agent == "dqn")])
        with pytest.raises(ConfigError, match=r"^hindsight=4: observations have no achieved_goal .*; leave it out$"):
            check_policy(config.agent, config.resolved_env, config.env_kwargs, build_arguments(config))
    with pytest.raises(ConfigError, match="hindsight=-1: must be at least 0"):
        resolve_config("Pendulum-v1", "sac", settings=["hindsight=-1"])


def test_priorities_are_refused_beside_hindsight() -> None:
    with pytest.raises(ConfigError, match=r"hindsight=4 .*: leave prioritized_replay=0\.6 out"):
        resolve_config("cartpole", "dqn", settings=["hindsight=4", "prioritized_replay=0.6"])
    with pytest.raises(ValueError, match=r"leave prioritized_replay=0\.6 out"):
        DQN("MultiInputPolicy", make(BITS, 2, "cpu"), hindsight=4, prioritized_replay=0.6)


def test_goals_are_asked_for_in_the_environments_own_numbers() -> None:
    """float64 of the point, and what is no number for each goal is told."""
    batch = make(POINT, 2, "cpu", near=0.1)
    check_goals(batch)
    far, here = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 0.59]])
    assert batch.goal_rewards(torch.cat((far, far)), torch.cat((here, -here))).tolist() == [0.0, -1.0]
    assert goal_worlds.Point().observation_space["achieved_goal"].dtype == "float64"


def test_a_file_that_names_its_policy_keeps_its_networks() -> None:
    """Networks of a preset are for numbers, and left out where observations are a Dict; those of such a file stay."""
    kwargs = {"policy_kwargs": {"net_arch": [8, 8]}}
    named = resolve_config(POINT, "sac", file={"agent_kwargs": {"policy": "MultiInputPolicy", **kwargs}})
    assert named.agent_kwargs["policy_kwargs"] == {"net_arch": [8, 8]}
    assert resolve_config(POINT, "sac", file={"agent_kwargs": kwargs}).agent_kwargs["policy_kwargs"] == {}
    assert named.agent_kwargs["hindsight"] == 4
