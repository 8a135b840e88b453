"""Memory planned on paper is what is allocated."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from palaestra.agents import PPO, PQN
from palaestra.agents.buffers.memory_limits import nbytes
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.core.rng import Rng, sample_actions
from palaestra.train.bench.memory_plan import gib, held_by, plan
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import build_arguments, resolve_config

RESULTS = Path(__file__).parents[3] / "train/RESULTS.md"


@pytest.mark.parametrize(
    ("name", "agent"),
    [("cartpole", "ppo"), ("snake-small", "ppo"), ("snake-small", "pqn"), ("reach-torque", "ppo"), ("pricing", "pqn")],
)
def test_environments_and_rollouts(name: str, agent: str) -> None:
    """Of an agent that has learned on the CPU."""
    config = resolve_config(name, agent, num_envs=32, settings=["batch_size=32", "n_steps=4"])
    env = make(config.env, 32, "cpu", **config.env_kwargs)
    model = AGENTS[agent](env=env, seed=0, **build_arguments(config))
    assert isinstance(model, PPO | PQN)
    model.learn(4 * 32)
    found = plan(config, 32)
    assert found.rollout == held_by(model.rollout_buffer)
    assert found.transitions == 4 * 32
    assert (found.replay, found.total) == (0, found.environments + found.rollout)


@pytest.mark.parametrize("name", ["cartpole", "snake-small", "reach", "reach-torque", "pricing", "pricing-two"])
def test_environments(name: str) -> None:
    """A batch on the CPU that resets its rows as on a GPU, where nothing is shared with the state before."""
    config = resolve_config(name)
    env = make(config.env, 32, "cpu")
    assert isinstance(env, TensorVectorEnv)
    env.reset_finished = env._reset_by_selection  # type: ignore[method-assign]
    env.reset()
    obs, *_, info = env.step(sample_actions(env.single_action_space, Rng(env.env_indices, 0)))
    assert plan(config, 32).environments == held_by(env) + nbytes([obs, info["final_obs"]])


@pytest.mark.parametrize(
    ("name", "agent"), [("cartpole", "dqn"), ("snake-small", "dqn"), ("pricing", "dqn"), ("reach", "sac")]
)
def test_replay_memories(name: str, agent: str) -> None:
    config = resolve_config(name, agent, num_envs=16, settings=["buffer_size=1000", "batch_size=32"])
    arguments = {**build_arguments(config), "learning_starts": 10}
    model: Any = AGENTS[agent](env=make(config.env, 16, "cpu"), seed=0, **arguments)
    model.learn(16 * 64)
    assert model.replay is not None
    found = plan(config, 16)
    assert found.replay == model.replay.nbytes
    assert found.transitions == 64 * 16  # 63 rows, and the one where each environment is
    assert found.rollout == 0


def test_bytes_grow_with_the_number_of_environments() -> None:
    config = resolve_config("cartpole", "ppo")
    one, many = plan(config, 64), plan(config, 640)
    assert many.environments == 10 * one.environments
    assert many.rollout == 10 * one.rollout
    assert one.rollout == 64 * 32 * (4 * 4 + 8 + 1 + 5 * 4)  # observation, action, done, five numbers


def test_a_replay_memory_of_more_environments_holds_n_steps_of_each() -> None:
    config = resolve_config("cartpole", "dqn")
    assert config.agent_kwargs["buffer_size"] < 65_536 * config.agent_kwargs["n_steps"]
    assert plan(config, 65_536).transitions == 65_536 * (config.agent_kwargs["n_steps"] + 1)


def test_the_table_in_the_results() -> None:
    """Every row of the table for 65,536 environments, made again."""
    rows = re.findall(
        r"^\| `([a-z-]+)` \| (.+?) \| (.+?) × (\d+) = (.+?) \| (.+?) \|$", RESULTS.read_text("utf-8"), re.M
    )
    assert len(rows) >= 6
    for name, environments, per_step, steps, rollout, replay in rows:
        ppo = plan(resolve_config(name, "ppo"), 65_536)
        assert environments == f"{ppo.environments / 65_536:,.0f} B, {gib(ppo.environments)}"
        assert per_step == f"{ppo.rollout / ppo.transitions:,.0f} B"
        assert int(steps) == resolve_config(name, "ppo").agent_kwargs["n_steps"]
        assert rollout == gib(ppo.rollout)
        if replay == "–":
            continue
        dqn = plan(resolve_config(name, "dqn"), 65_536)
        assert replay == f"{dqn.replay / dqn.transitions:,.0f} B × {dqn.transitions:,} = {gib(dqn.replay)}"
