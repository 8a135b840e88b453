"""The networks that Stable-Baselines3 lacks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor, nn

from palaestra.agents import PPO, SharedMlp
from palaestra.agents.networks.extractors import DuelingPolicy, DuelingQNetwork, FourierFeatures, LayerNormPolicy
from palaestra.envs import make


def test_octaves_are_sines_and_cosines_of_doubling_frequency() -> None:
    x = torch.tensor([[0.0, 0.25], [0.5, 1.0]], dtype=torch.float64)
    expected = [x]
    for frequency in (1, 2, 4):
        expected += [torch.sin(math.pi * frequency * x), torch.cos(math.pi * frequency * x)]
    torch.testing.assert_close(FourierFeatures(3)(x), torch.cat(expected, 1))
    assert FourierFeatures(2)(x)[0].tolist() == pytest.approx(
        [0, 0.25, 0, 0.5**0.5, 1, 0.5**0.5, 0, 1, 1, 0], abs=1e-12
    )


def test_the_trunk_is_the_product_of_its_layers() -> None:
    trunk = SharedMlp(Box(0, 1, (3,)), (5, 4), octaves=2)
    x = torch.rand(6, 3)
    first, second = (layer for layer in trunk.layers if isinstance(layer, torch.nn.Linear))
    assert first.weight.shape == (5, 3 * 5)
    by_hand = (FourierFeatures(2)(x) @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
    torch.testing.assert_close(trunk(x), by_hand.relu())
    plain = SharedMlp(Box(0, 1, (2, 3)), (5,))
    weight = next(layer.weight for layer in plain.layers if isinstance(layer, torch.nn.Linear))
    assert weight.shape == (5, 6)


def test_a_model_with_octaves_comes_back_from_its_file(tmp_path: Path) -> None:
    kwargs = {"features_extractor_class": SharedMlp, "features_extractor_kwargs": {"hidden": [16], "octaves": 3}}
    env = make("pricing-easy", 8, "cpu")
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=64, policy_kwargs={**kwargs, "net_arch": []}, seed=0)
    model.learn(256)
    model.save(tmp_path / "m.zip")
    obs = np.random.default_rng(0).random((20, 2), np.float32)
    again = PPO.load(tmp_path / "m.zip").predict(obs, deterministic=True)[0]
    np.testing.assert_array_equal(again, model.predict(obs, deterministic=True)[0])


def test_layer_norm_comes_before_every_relu() -> None:
    """Each row is normalised over its features (ε = 10⁻⁵), so its scale does not matter; the linear part by hand."""
    trunk = SharedMlp(Box(0, 1, (3,)), (5, 4), layer_norm=True)
    kinds = [nn.Flatten, nn.Linear, nn.LayerNorm, nn.ReLU, nn.Linear, nn.LayerNorm, nn.ReLU]
    assert [type(layer) for layer in trunk.layers] == kinds
    x = hidden = torch.rand(6, 3)
    for linear in (trunk.layers[1], trunk.layers[4]):
        assert isinstance(linear, nn.Linear)
        hidden = hidden @ linear.weight.T + linear.bias
        centred = hidden - hidden.mean(1, keepdim=True)
        hidden = (centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()).relu()
    torch.testing.assert_close(trunk(x), hidden)
    assert not any(isinstance(layer, nn.LayerNorm) for layer in SharedMlp(Box(0, 1, (3,)), (5, 4)).layers)


def dueling(net_arch: list[int]) -> tuple[DuelingQNetwork, Tensor]:
    """A network for three actions made by SB3's policy, and six observations."""
    torch.manual_seed(0)
    policy = DuelingPolicy(Box(-1, 1, (2,)), Discrete(3), lambda _: 1e-3, net_arch)
    assert isinstance(policy.q_net, DuelingQNetwork)
    return policy.q_net, torch.rand(6, 2) * 2 - 1


@pytest.mark.parametrize("net_arch", [[], [5, 4]])
def test_the_mean_over_actions_is_the_value(net_arch: list[int]) -> None:
    """mean_a Q = V, and Q(a) − Q(b) = A(a) − A(b)."""
    network, obs = dueling(net_arch)
    features = network.q_net(obs)
    assert features.shape == (6, net_arch[-1] if net_arch else 2)
    value, advantage, q_values = network.value(features), network.advantage(features), network(obs)
    torch.testing.assert_close(q_values.mean(1, keepdim=True), value)
    torch.testing.assert_close(q_values - q_values[:, :1], advantage - advantage[:, :1])
    assert float(advantage.detach().mean(1).abs().min()) > 1e-3  # so it is not by chance


def test_the_gradient_of_an_action_value_reaches_all_advantages() -> None:
    """∂Q(s, a)/∂A_b = [a = b] − 1/3 and ∂Q(s, a)/∂V = 1."""
    network, obs = dueling([4])
    network(obs[:1])[0, 1].backward()
    bias = network.advantage.bias
    assert isinstance(bias, Tensor)
    assert bias.grad is not None
    assert bias.grad.tolist() == pytest.approx([-1 / 3, 2 / 3, -1 / 3])
    assert network.value.bias.grad is not None
    assert network.value.bias.grad.tolist() == [1.0]


@pytest.mark.parametrize("kwargs", [{"net_arch": [8]}, {"net_arch": []}, {"features_extractor_class": SharedMlp}])
def test_sb3_trains_and_saves_a_dueling_network(kwargs: dict[str, object], tmp_path: Path) -> None:
    model = stable_baselines3.DQN(DuelingPolicy, "CartPole-v1", learning_starts=10, policy_kwargs=kwargs, seed=0)
    assert isinstance(model.q_net_target, DuelingQNetwork)
    parameters = dict(model.q_net.named_parameters())
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    assert {"value.weight", "value.bias", "advantage.weight", "advantage.bias"} <= set(before)
    model.learn(40)
    assert not any(torch.equal(before[name], parameter) for name, parameter in parameters.items())
    model.save(tmp_path / "m.zip")
    obs = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    again = stable_baselines3.DQN.load(tmp_path / "m.zip")
    np.testing.assert_array_equal(again.predict(obs, True)[0], model.predict(obs, True)[0])


def test_the_layer_norm_policy_is_a_trunk_a_linear_head_and_radam(tmp_path: Path) -> None:
    kwargs = {"features_extractor_kwargs": {"hidden": [16, 8], "octaves": 1}}
    model = stable_baselines3.DQN(LayerNormPolicy, "CartPole-v1", learning_starts=10, policy_kwargs=kwargs, seed=0)
    assert isinstance(model.policy.optimizer, torch.optim.RAdam)
    assert [tuple(layer.weight.shape) for layer in model.q_net.q_net] == [(2, 8)]
    trunk = model.q_net.features_extractor
    assert isinstance(trunk, SharedMlp)
    assert [layer.weight.shape[0] for layer in trunk.layers if isinstance(layer, nn.LayerNorm)] == [16, 8]
    assert isinstance(trunk.layers[1], FourierFeatures)
    model.learn(40)
    model.save(tmp_path / "m.zip")
    again = stable_baselines3.DQN.load(tmp_path / "m.zip")
    for name, value in model.q_net.state_dict().items():
        assert torch.equal(again.q_net.state_dict()[name], value)


def test_the_layer_norm_policy_leaves_other_extractors_alone() -> None:
    """With SB3's own flattening its default of two hidden layers, without LayerNorm."""
    flat = stable_baselines3.common.torch_layers.FlattenExtractor
    policy = LayerNormPolicy(Box(-1, 1, (2,)), Discrete(3), lambda _: 1e-3, features_extractor_class=flat)
    widths = [layer.out_features for layer in policy.q_net.modules() if isinstance(layer, nn.Linear)]
    assert widths == [64, 64, 3]
    assert not any(isinstance(layer, nn.LayerNorm) for layer in policy.modules())
