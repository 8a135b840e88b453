"""The normalisation of observations: Gymnasium's NormalizeObservation as reference; it travels with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import probes
import pytest
import stable_baselines3
import torch
from gymnasium import spaces
from gymnasium.wrappers.vector import NormalizeObservation
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN

from palaestra.agents import DQN, PPO, PQN, SharedMlp
from palaestra.agents.networks.observation_norm import Normalized, RunningNorm, learn_observations, with_normalization
from palaestra.envs import TensorVectorEnv, make

AGENTS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
    DQN: {"learning_starts": 64, "batch_size": 64, "buffer_size": 4096, "samples_per_insert": 1.0},
    PQN: {"n_steps": 16, "batch_size": 64, "n_epochs": 1},
}


class Offset(probes.MatchObservation):
    """The sign to match, hidden in the last digits of a number around a thousand."""

    def observe(self, state: probes.ProbeState) -> torch.Tensor:
        return super().observe(state) * 0.01 + 1000.0


def agent(kind: Any, **kwargs: Any) -> Any:
    env = make("cartpole", 8, device="cpu", seed=3)
    return kind("MlpPolicy", env, normalize_observation=True, seed=0, **{**AGENTS[kind], **kwargs})


def norms_of(model: Any) -> list[RunningNorm]:
    return [module for module in model.policy.modules() if isinstance(module, RunningNorm)]


def test_statistics_and_outputs_are_those_of_gymnasium() -> None:
    venv = NormalizeObservation(gymnasium.make_vec("CartPole-v1", 16, vectorization_mode="sync"))
    norm = RunningNorm((4,))
    raw: list[Any] = []
    inner = venv.env.step
    venv.env.step = lambda actions: (raw.append(result := inner(actions)), result)[1]  # type: ignore[method-assign]
    venv.reset(seed=0)
    norm.mean.copy_(torch.as_tensor(venv.obs_rms.mean))  # it has learned the observations of the reset
    norm.variance.copy_(torch.as_tensor(venv.obs_rms.var))
    norm.count.copy_(torch.as_tensor(venv.obs_rms.count))
    venv.action_space.seed(0)
    for _ in range(100):
        theirs, *_ = venv.step(venv.action_space.sample())
        seen = torch.as_tensor(raw[-1][0])
        norm.learn(seen)
        np.testing.assert_allclose(norm(seen).numpy(), np.clip(theirs, -10, 10), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(norm.mean.numpy(), venv.obs_rms.mean, rtol=1e-5)  # theirs are float32
    np.testing.assert_allclose(norm.variance.numpy(), venv.obs_rms.var, rtol=1e-5)


def test_nothing_changes_before_anything_is_learned_but_for_the_bounds() -> None:
    x = torch.tensor([[0.5, -3.0], [200.0, -200.0]])
    torch.testing.assert_close(RunningNorm((2,))(x), torch.tensor([[0.5, -3.0], [10.0, -10.0]]))


def test_a_row_has_the_same_bits_alone_and_in_a_batch() -> None:
    norm = RunningNorm((7,))
    norm.learn(torch.randn(50, 7) * 3 + 1)
    x = torch.randn(33, 7)
    assert all(torch.equal(norm(x)[i], norm(x[i : i + 1])[0]) for i in range(33))


def test_only_numbers_are_normalised() -> None:
    space = spaces.Dict(
        {
            "speed": spaces.Box(-np.inf, np.inf, (2,)),
            "picture": spaces.Box(0, 255, (1, 36, 36), np.uint8),
            "gear": spaces.Discrete(3),
            "depth": spaces.Box(0, 100, (1,)),
        }
    )
    extractor = Normalized(space, CombinedExtractor)
    assert extractor.keys == ["depth", "speed"]
    batch = {
        "speed": torch.randn(64, 2) * 5,
        "picture": torch.zeros(64, 1, 36, 36),
        "gear": torch.zeros(64, 3),
        "depth": torch.rand(64, 1) * 100,
    }
    extractor.learn(batch)
    seen = extractor._map(batch)
    assert seen["picture"] is batch["picture"]
    assert seen["gear"] is batch["gear"]
    for key in extractor.keys:
        assert abs(float(seen[key].mean())) < 1e-3
        assert float(seen[key].std(correction=0)) == pytest.approx(1.0, abs=1e-3)
    assert extractor(batch).shape == (64, extractor.features_dim)
    assert Normalized(spaces.Discrete(5), FlattenExtractor).keys == []


def test_the_extractor_behind_it_is_the_policys_own() -> None:
    aliases = PPO.policy_aliases
    kwargs = with_normalization(aliases["CnnPolicy"], {"net_arch": [8]})
    assert kwargs["features_extractor_class"] is Normalized
    assert kwargs["features_extractor_kwargs"] == {"extractor_class": NatureCNN, "extractor_kwargs": {}}
    assert kwargs["net_arch"] == [8]
    assert with_normalization(aliases["CnnPolicy"], kwargs) is kwargs
    given = {"features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [8]}}
    inner = with_normalization(aliases["MlpPolicy"], given)["features_extractor_kwargs"]
    assert inner == {"extractor_class": SharedMlp, "extractor_kwargs": {"hidden": [8]}}


def test_pqn_keeps_its_layer_norm() -> None:
    plain = PQN("MlpPolicy", make("cartpole", 8, device="cpu"), seed=0, **AGENTS[PQN])
    kinds = [type(module) for module in plain.q_net.modules() if not list(module.children())]
    normal = [type(m) for m in agent(PQN).q_net.modules() if not list(m.children()) and not isinstance(m, RunningNorm)]
    assert torch.nn.LayerNorm in kinds
    assert sorted(map(str, normal)) == sorted(map(str, kinds))


def test_ppo_learns_a_rollout_after_its_update() -> None:
    """Its log-probabilities belong to one function, so that the first minibatch has ratio 1."""
    model = agent(PPO, n_steps=32, batch_size=256)  # one minibatch
    seen: list[float] = []
    gradients = model._gradients
    model._gradients = lambda *args: (result := gradients(*args), seen.append(float(result[0][3].mean())))[0]
    model.learn(3 * 256)
    assert max(map(abs, seen)) < 1e-6
    (norm,) = norms_of(model)
    observations = model.rollout_buffer.observations.flatten(0, 1)
    before = RunningNorm((4,))
    assert float(norm.count) == pytest.approx(3 * 256, abs=1e-3)
    before.learn(observations)
    assert not torch.allclose(norm.mean, before.mean)  # of three rollouts, not of the last one


@pytest.mark.parametrize("kind", [DQN, PQN])
def test_q_networks_learn_every_step_and_agree(kind: Any) -> None:
    model = agent(kind)
    model.learn(8 * 32)
    norms = norms_of(model)
    assert len(norms) == 2  # online and target
    for norm in norms:
        assert float(norm.count) == pytest.approx(8 * 32, abs=1e-3)
        assert torch.equal(norm.mean, norms[0].mean)


@pytest.mark.parametrize("kind", [PPO, DQN, PQN])
def test_statistics_travel_with_the_model(kind: Any, tmp_path: Path) -> None:
    model = agent(kind)
    model.learn(8 * 64)
    model.save(tmp_path / "model")
    ours = kind.load(tmp_path / "model", device="cpu")
    observations = torch.randn(50, 4) * 2
    assert torch.equal(ours.act(observations), model.act(observations))
    for mine, theirs in zip(norms_of(ours), norms_of(model), strict=True):
        assert torch.equal(mine.mean, theirs.mean)
        assert float(mine.count) > 8 * 60
    assert ours.normalize_observation
    vanilla = getattr(stable_baselines3, "PPO" if kind is PPO else "DQN").load(tmp_path / "model", device="cpu")
    actions, _ = vanilla.predict(observations.numpy(), deterministic=True)
    np.testing.assert_array_equal(actions, model.act(observations).numpy())


def test_training_goes_on_from_a_file_as_if_nothing_had_happened(tmp_path: Path) -> None:
    model = agent(PPO)
    model.learn(8 * 64)
    model.save(tmp_path / "model")
    again = PPO.load(tmp_path / "model", env=make("cartpole", 8, device="cpu", seed=3))
    count = float(norms_of(again)[0].count)
    again.learn(8 * 16, reset_num_timesteps=False)
    assert float(norms_of(again)[0].count) == pytest.approx(count + 8 * 16)


def test_badly_scaled_observations_are_no_obstacle() -> None:
    """A sign hidden in a number around a thousand, of which the network alone sees nothing."""
    scores = {}
    for normalize in (False, True):
        env = TensorVectorEnv(Offset(), 64, device="cpu", seed=0)
        model = PPO(
            "MlpPolicy", env, n_steps=16, batch_size=256, n_epochs=4, gamma=0.0, learning_rate=3e-3, seed=0,
            normalize_observation=normalize,
        )  # fmt: skip
        model.learn(64 * 16 * 30)
        obs, _ = env.reset()
        scores[normalize] = float(env.step(model.act(obs))[1].mean())
    assert scores[True] == 1.0
    assert scores[False] < 0.5


def test_leading_dimensions_are_flattened() -> None:
    model = agent(PPO)
    rollout = torch.randn(5, 8, 4)
    learn_observations(model.policy, rollout, leading=2)
    assert float(norms_of(model)[0].count) == pytest.approx(40, abs=1e-3)
    torch.testing.assert_close(norms_of(model)[0].mean.float(), rollout.mean((0, 1)), rtol=1e-4, atol=1e-4)
