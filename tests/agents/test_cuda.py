"""On a GPU: nothing waits for the device, episodes are those of the CPU, models travel between the two.

Without a GPU these tests are skipped; tests/agents/test_no_sync.py then stands in for the first of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import probes
import pytest
import torch
from torch import Tensor

from palaestra.agents import DQN, PPO, PQN, base
from palaestra.agents.graphs.cuda_graph import CudaGraph
from palaestra.envs import TensorVectorEnv, make
from palaestra.envs.core.rng import Rng, sample_actions
from palaestra.envs.registry import entries
from palaestra.envs.specs import TensorEnvSpec
from palaestra.train.config import AGENTS
from palaestra.train.config.presets import load_presets
from palaestra.train.config.run_config import build_arguments, resolve_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

BUILT_IN = [entry for entry in entries() if entry.id.startswith("palaestra/")]


@pytest.fixture
def forbid_synchronisation(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whatever waits for the device raises an error, but for the one commented copy of each iteration."""
    copy = base.to_host

    def allowed(values: Tensor) -> list[float]:
        torch.cuda.set_sync_debug_mode("default")
        try:
            return copy(values)
        finally:
            torch.cuda.set_sync_debug_mode("error")

    monkeypatch.setattr(base, "to_host", allowed)
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


PRESETS = [(env, agent) for agent in AGENTS for env in load_presets(agent) if "/" in env]


@pytest.mark.parametrize(("env_id", "agent"), PRESETS)
def test_training_waits_for_the_device_once_per_iteration(env_id: str, agent: str, forbid_synchronisation: Any) -> None:
    config = resolve_config(env_id, agent)
    small = {"n_steps": 8, "batch_size": 512, "buffer_size": 20_000, "learning_starts": 256}
    arguments = build_arguments(config)
    arguments |= {name: value for name, value in small.items() if name in arguments}
    model = AGENTS[agent](env=make(env_id, 256, "cuda", **config.env_kwargs), seed=0, **arguments)
    model.learn(256 * 80)  # graphs are recorded
    before = model._n_updates
    forbid_synchronisation()
    model.learn(256 * 80, reset_num_timesteps=False)
    assert model._n_updates > before
    assert model.num_timesteps == 256 * 160


@pytest.mark.parametrize(("env_id", "agent"), PRESETS)
def test_graphs_train_as_single_calls_do(env_id: str, agent: str, recwarn: pytest.WarningsRecorder) -> None:
    """The same kernels on the same numbers; nothing falls back."""
    config = resolve_config(env_id, agent)
    small = {"n_steps": 8, "batch_size": 512, "buffer_size": 20_000, "learning_starts": 256}
    arguments = build_arguments(config)
    arguments |= {name: value for name, value in small.items() if name in arguments}
    weights = []
    for backend in (None, CudaGraph):
        model = AGENTS[agent](env=make(env_id, 256, "cuda", **config.env_kwargs), seed=0, **arguments)
        model.record_with(backend)
        torch.manual_seed(0)
        model.learn(256 * 80)
        weights.append(torch.cat([p.detach().flatten() for p in model.policy.parameters()]))
    assert not [w for w in recwarn if "graphs" in str(w.message)]
    assert model._recorder is not None
    assert all(recording.is_made for recording in model._recorder._recordings.values())
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-4)


def test_the_debug_mode_would_notice(forbid_synchronisation: Any) -> None:
    values = torch.ones(3, device="cuda")
    forbid_synchronisation()
    with pytest.raises(RuntimeError, match="synchroniz"):
        values.sum().item()


@pytest.mark.parametrize("entry", BUILT_IN, ids=lambda entry: entry.short_name)
def test_episodes_are_those_of_the_cpu(entry: TensorEnvSpec) -> None:
    """The same draws, so the same starts and the same rewards, up to rounding that has no time to grow."""
    batches = [make(entry.id, 64, device, seed=5, max_episode_steps=6) for device in ("cpu", "cuda")]
    observations = [batch.reset()[0].cpu() for batch in batches]
    torch.testing.assert_close(*observations, rtol=1e-4, atol=1e-4)
    for step in range(20):
        actions = sample_actions(batches[0].single_action_space, Rng(batches[0].env_indices, step))
        results = [batch.step(actions.to(batch.device)) for batch in batches]
        for mine, theirs in zip(results[0][:4], results[1][:4], strict=True):
            torch.testing.assert_close(mine, theirs.cpu(), rtol=1e-3, atol=1e-3)
        finals = [result[4]["final_obs"].cpu() for result in results]
        torch.testing.assert_close(*finals, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", [PPO, DQN, PQN])
def test_agents_learn_and_travel(kind: Any, tmp_path: Path) -> None:
    settings = {
        PPO: {"n_steps": 16, "batch_size": 256, "learning_rate": 3e-3},
        DQN: {"learning_starts": 500, "batch_size": 256, "samples_per_insert": 4.0, "learning_rate": 3e-3},
        PQN: {"n_steps": 16, "batch_size": 256, "learning_rate": 3e-3},
    }
    env = TensorVectorEnv(probes.MatchObservation(), 64, device="cuda")
    model = kind("MlpPolicy", env, gamma=0.5, seed=0, **settings[kind])
    model.learn(64 * 400)
    obs = env.reset()[0]
    greedy = model.act(obs)
    assert greedy.device.type == "cuda"
    reward = env.step(greedy)[1]
    assert reward.mean() == 1.0
    model.save(tmp_path / "model")
    elsewhere = kind.load(tmp_path / "model", device="cpu")
    assert torch.equal(elsewhere.act(obs.cpu()), greedy.cpu())
    np.testing.assert_array_equal(elsewhere.predict(obs.cpu().numpy(), deterministic=True)[0], greedy.cpu().numpy())


def test_the_same_seed_gives_the_same_weights() -> None:
    def weights() -> list[Tensor]:
        env = make("snake-small", 256, "cuda", seed=1)
        model = PPO("MlpPolicy", env, n_steps=8, batch_size=512, n_epochs=2, seed=1)
        model.learn(256 * 32)
        return [p.detach().cpu() for p in model.policy.parameters()]

    for first, second in zip(weights(), weights(), strict=True):
        assert torch.equal(first, second)
