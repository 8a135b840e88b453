"""Exact resumption: the weights after a stop are, to the last bit, those of the run that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from training_cases import SaveAt, all_tensors, whole_and_resumed

from palaestra.agents import DQN, PPO, PQN, SAC, TD3, CheckpointError, RecurrentPPO
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.registry import entries

ROLLOUT = {"n_steps": 8, "batch_size": 64, "n_epochs": 2}
REPLAY = {"learning_starts": 200, "batch_size": 64, "buffer_size": 600, "samples_per_insert": 2.0, "train_freq": 2}
AVERAGED = {"weight_average": 0.02, "exploration_spread": 3.0}
NORMAL = {"normalize_reward": True, "normalize_observation": True}
CASES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "ppo snake": (PPO, "snake-small", {**ROLLOUT, "ent_coef": 0.01}),
    "ppo normalised": (PPO, "pricing-easy", {**ROLLOUT, **NORMAL}),
    "ppo arm": (PPO, "reach", ROLLOUT),
    "dqn states": (DQN, "snake-small", {**REPLAY, "n_steps": 3, "double_q": True}),
    "dqn observations": (DQN, "cartpole", {**REPLAY, **NORMAL, "tau": 0.5}),
    "dqn averaged": (DQN, "pricing-easy", {**REPLAY, **AVERAGED, "policy": "DuelingPolicy"}),
    "dqn prioritised": (DQN, "cartpole", {**REPLAY, "prioritized_replay": 0.6, "n_steps": 2}),
    "dqn restarts": (DQN, "cartpole", {**REPLAY, "restart_states": 0.7}),
    "ppo restarts": (PPO, "snake-small", {**ROLLOUT, "restart_states": 0.5}),
    "pqn": (PQN, "cartpole", ROLLOUT),
    "recurrent": (RecurrentPPO, "pricing-hidden", {**ROLLOUT, **NORMAL, "sequence_length": 4}),
    "recurrent whole": (RecurrentPPO, "cartpole", ROLLOUT),
    "sac": (SAC, "reach", {**REPLAY, "n_steps": 3}),
    "sac fixed": (SAC, "reach", {**REPLAY, "ent_coef": 0.1, "normalize_reward": True, "target_update_interval": 3}),
    "sac restarts": (SAC, "reach-torque", {**REPLAY, "restart_states": 0.5}),
    "td3": (TD3, "reach", {**REPLAY, "policy_delay": 3, "exploration_spread": 2.0}),
    "ppo frames": (PPO, "snake-small", {**ROLLOUT, "symmetry": "augment"}),
    "ppo tied": (PPO, "snake-small", {**ROLLOUT, "symmetry": "equivariant"}),
    "dqn frames": (DQN, "cartpole", {**REPLAY, "symmetry": "augment", "prioritized_replay": 0.6}),
    "dqn tied": (DQN, "snake-small", {**REPLAY, "symmetry": "equivariant", "policy": "DuelingPolicy"}),
    "pqn frames": (PQN, "snake-small", {**ROLLOUT, "symmetry": "augment"}),
    "pqn tied": (PQN, "cartpole", {**ROLLOUT, "symmetry": "equivariant", "weight_average": 0.02}),
    "pqn restarts": (PQN, "pricing-easy", {**ROLLOUT, "restart_states": 1.0}),
    "pqn averaged": (PQN, "snake-small", {**ROLLOUT, **AVERAGED, **NORMAL}),
}
STEPS, NUM_ENVS = 1600, 16


def environment(name: str) -> Any:
    return make(name, NUM_ENVS, device="cpu", seed=3)


def agent(case: str) -> Any:
    kind, name, kwargs = CASES[case]
    kwargs = dict(kwargs)
    return kind(kwargs.pop("policy", "MlpPolicy"), environment(name), seed=1, **kwargs)


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_ends_with_the_same_bits(case: str, tmp_path: Path) -> None:
    kind, name, _ = CASES[case]
    whole, stopped, again = whole_and_resumed(
        lambda: agent(case), lambda path: kind.resume(path, environment(name)), STEPS, tmp_path / "c.zip"
    )
    assert STEPS // 2 <= stopped.num_timesteps < STEPS
    assert again.num_timesteps == whole.num_timesteps
    assert again._n_updates == whole._n_updates
    ours, theirs = all_tensors(again), all_tensors(whole)
    assert ours.keys() == theirs.keys()
    different = [name for name, value in ours.items() if not torch.equal(value, theirs[name])]
    assert different == []
    assert any("optimizer" in name for name in ours)


WRAPPED: list[tuple[str, dict[str, Any]]] = [
    ("cartpole", {"randomized": {"gravity": [8.0, 12.0]}, "time_aware": True, "frame_stack": 3}),
    ("reach", {"discretized_actions": 3}),
]


@pytest.mark.parametrize(("name", "kwargs"), [*((entry.id, {}) for entry in entries()), *WRAPPED])
def test_on_every_environment(name: str, kwargs: dict[str, Any], tmp_path: Path) -> None:
    """PPO, and DQN where it can act, after episodes have ended: going on from the file, and without it."""
    for kind in (PPO, DQN):
        batch: Any = make(name, 4, "cpu", 3, **{"max_episode_steps": 5, **kwargs})
        if kind is DQN and not isinstance(batch.single_action_space, Discrete):
            continue
        rollout = {"n_steps": 12, "batch_size": 16, "n_epochs": 1}
        replay = {"learning_starts": 16, "batch_size": 16, "buffer_size": 64, "train_freq": 12, "n_steps": 2}
        model: Any = kind("MlpPolicy", batch, seed=1, **(rollout if kind is PPO else replay))
        model.learn(96)
        model.save_checkpoint(tmp_path / "c.zip")
        model.learn(48, reset_num_timesteps=False)
        torch.manual_seed(12345)
        fresh: Any = make(name, 4, "cpu", 3, **{"max_episode_steps": 5, **kwargs})
        again: Any = kind.resume(tmp_path / "c.zip", fresh)
        again.learn(48, reset_num_timesteps=False)
        ours, theirs = all_tensors(again), all_tensors(model)
        assert [key for key, value in ours.items() if not torch.equal(value, theirs[key])] == []


@pytest.mark.parametrize("case", ["ppo snake", "dqn averaged", "pqn averaged"])
def test_writing_a_checkpoint_changes_nothing(case: str, tmp_path: Path) -> None:
    whole = agent(case)
    whole.learn(STEPS // 2)
    theirs = all_tensors(whole)
    watched = agent(case)
    watched.learn(STEPS // 2, SaveAt(STEPS // 4, tmp_path / "c.zip", stop=False))
    assert (tmp_path / "c.zip").exists()
    assert all(torch.equal(value, theirs[name]) for name, value in all_tensors(watched).items())


@pytest.mark.parametrize("case", ["ppo normalised", "dqn averaged"])
def test_a_checkpoint_is_a_model_too(case: str, tmp_path: Path) -> None:
    """With the greedy policy's weights, and none of the training state in its way."""
    model = agent(case)
    model.learn(STEPS // 2)
    model.save_checkpoint(tmp_path / "c.zip")
    loaded = CASES[case][0].load(tmp_path / "c.zip", device="cpu")
    obs = environment(CASES[case][1]).reset()[0]
    assert torch.equal(loaded.act(obs), model.act(obs))


def test_progress_goes_on_where_it_was(tmp_path: Path) -> None:
    model = agent("ppo snake")
    model.learn(STEPS // 2)
    model.save_checkpoint(tmp_path / "c.zip")
    again = PPO.resume(tmp_path / "c.zip", environment("snake-small"))
    assert list(again.ep_info_buffer or ()) == list(model.ep_info_buffer or ())
    assert again._statistics.has_success == model._statistics.has_success
    assert (again.batch.episode > 0).any()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "num_envs", "message"),
    [("snake-small", 8, r"state\..* \(16,.* in the file"), ("cartpole", 16, "Observation spaces do not match")],
)
def test_other_environments_are_refused(name: str, num_envs: int, message: str, tmp_path: Path) -> None:
    model = agent("ppo snake")
    model.learn(256)
    model.save_checkpoint(tmp_path / "c.zip")
    env = make(name, num_envs, device="cpu", seed=3)
    with pytest.raises(CheckpointError, match=message):
        PPO.resume(tmp_path / "c.zip", env)


def test_a_model_without_training_state_is_refused(tmp_path: Path) -> None:
    model = agent("ppo snake")
    model.learn(256)
    model.save(tmp_path / "m.zip")
    with pytest.raises(CheckpointError, match=r"a model without its training state"):
        PPO.resume(tmp_path / "m.zip", environment("snake-small"))


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_other_peoples_environments_begin_new_episodes(kind: Any, tmp_path: Path) -> None:
    settings = ROLLOUT if kind is PPO else REPLAY
    model = kind("MlpPolicy", make("CartPole-v1", 8, "cpu"), seed=0, **settings)
    model.learn(800)
    model.save_checkpoint(tmp_path / "c.zip")
    again = kind.resume(tmp_path / "c.zip", make("CartPole-v1", 8, "cpu"))
    if kind is DQN:
        assert torch.equal(again.replay.rewards, model.replay.rewards)
    again.learn(800, reset_num_timesteps=False)
    assert 1600 <= again.num_timesteps <= 1664
    if kind is DQN:
        stored = again.replay.steps
        assert stored == model.replay.steps + 100


def test_a_batch_goes_on_from_its_state() -> None:
    first, second = (make("snake", 12, "cpu", seed=5) for _ in range(2))
    first.reset()
    actions = [torch.as_tensor(np.random.default_rng(0).integers(0, 3, 12)) for _ in range(60)]
    for action in actions[:30]:
        first.step(action)
    saved = first.state_dict()
    second.load_state_dict({**saved, "seed": 5})  # type: ignore[dict-item]
    for action in actions[30:]:
        mine, theirs = first.step(action), second.step(action)
        assert all(torch.equal(a, b) for a, b in zip(mine[:4], theirs[:4], strict=True))
        assert torch.equal(mine[4]["episode"]["r"], theirs[4]["episode"]["r"])
    assert isinstance(second, TensorVectorEnv)
    assert torch.equal(first.episode, second.episode)  # type: ignore[attr-defined]
