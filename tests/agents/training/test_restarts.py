"""The option ``restart_states`` of all agents: memory, scores, infos, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gymnasium.spaces import Box
from stable_baselines3.common.callbacks import BaseCallback
from walk import walk

from palaestra.agents import DQN, PPO, PQN
from palaestra.agents.buffers.memory_limits import nbytes
from palaestra.agents.training.restarting_agent import MEMORY_SHARE
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.core.batching.restarts import RestartingVectorEnv

ROLLOUT = {"n_steps": 32, "batch_size": 256, "n_epochs": 1}
REPLAY = {"buffer_size": 4000, "learning_starts": 100, "train_freq": 4, "samples_per_insert": 1.0}
AGENTS: dict[str, tuple[Any, dict[str, Any]]] = {"ppo": (PPO, ROLLOUT), "pqn": (PQN, ROLLOUT), "dqn": (DQN, REPLAY)}
NETWORK = {"policy_kwargs": {"net_arch": [8]}}


@pytest.mark.parametrize("env", ["snake-small", "cartpole", "pricing", "reach"])
@pytest.mark.parametrize("agent", AGENTS)
def test_kept_states_take_a_twentieth_of_what_is_learned_from(agent: str, env: str) -> None:
    kind, kwargs = AGENTS[agent]
    given = {"control": "cartesian"} if env == "reach" else {}
    model = kind("MlpPolicy", make(env, 64, "cpu", **given), restart_states=0.5, **kwargs, **NETWORK)
    model.learn(64 * 40)
    batch = model.batch
    assert isinstance(batch, RestartingVectorEnv)
    assert batch.kept is not None
    assert batch.origin is not None
    kept = nbytes([*batch.kept.tensors().values(), batch.kept.key, batch.kept.order, batch.origin])
    if agent == "dqn":
        memory = sum(value.numel() * value.element_size() for value in tensors(model.replay.state_dict()))
    else:
        memory = sum(value.numel() * value.element_size() for value in tensors(vars(model.rollout_buffer)))
    assert kept <= MEMORY_SHARE * memory + 64
    assert len(batch.kept.lengths) > 16


def tensors(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [tensor for part in value.values() for tensor in tensors(part)]
    return [value] if hasattr(value, "element_size") else []


class Seen(BaseCallback):
    """Counts the episodes that ended, and those whose score is told."""

    ended = told = 0

    def _on_step(self) -> bool:
        self.ended += int(self.locals["dones"].__array__().sum())
        self.told += sum("episode" in info for info in self.locals["infos"])
        return True


def test_scores_are_of_real_starts_and_a_line_says_so() -> None:
    model, seen = PPO("MlpPolicy", make("snake-small", 32, "cpu"), restart_states=0.5, seed=0, **ROLLOUT), Seen()
    model.learn(32 * 128, seen)
    assert model._episode_num == seen.told
    assert 0.3 < seen.told / seen.ended < 0.8
    assert model.remarks[-1].startswith("50 % of the training episodes begin in states of earlier ones; scores")


def test_what_else_is_to_be_said_is_said_too(tmp_path: Path) -> None:
    """Of a new agent, and of one from a file."""
    settings: dict[str, Any] = {"scale_actions": True, "restart_states": 0.5, **ROLLOUT}
    model = PPO("MlpPolicy", walk(Box(-2.0, 2.0, (1,))), **settings)
    model.save(tmp_path / "model.zip")
    for agent in (model, PPO.load(tmp_path / "model.zip", walk(Box(-2.0, 2.0, (1,))))):
        assert [line.split(":")[0].split(" begin in")[0] for line in agent.remarks] == [
            "50 % of the training episodes",
            "actions",
        ]


def test_none_changes_nothing() -> None:
    batch = make("cartpole", 16, "cpu")
    model = PPO("MlpPolicy", batch, restart_states=0.0, **ROLLOUT)
    assert model.batch is batch
    assert model.remarks == ()
    assert type(batch) is TensorVectorEnv


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_one(share: float) -> None:
    with pytest.raises(ValueError, match="restart_states must be 0 … 1"):
        PPO("MlpPolicy", make("cartpole", 16, "cpu"), restart_states=share, **ROLLOUT)


def test_environments_without_states_are_refused() -> None:
    with pytest.raises(ValueError, match=r"restart_states=0\.5: only environments in tensors"):
        PPO("MlpPolicy", "CartPole-v1", restart_states=0.5)
