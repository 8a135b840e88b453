"""Convolutions forward and backward by hand, beside autograd through the policy's own modules."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.torch_layers import NatureCNN
from torch import Tensor, nn

from palaestra.agents import DQN, PPO
from palaestra.agents.networks import manual_conv
from palaestra.agents.networks.manual_network import manual_network
from palaestra.envs import make


class Dots(gymnasium.Env[Any, int]):
    """Random images; three actions."""

    action_space = Discrete(3)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.observation_space = Box(0, 255, shape, np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs = self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)
        return obs, float(action == obs.ravel()[0] % 3), bool(self.np_random.random() < 0.1), False, {}


gymnasium.register("Dots-v0", Dots)


def agent(kind: Any = PPO, shape: tuple[int, ...] = (36, 44, 3), policy: Any = "CnnPolicy", **kwargs: Any) -> Any:
    settings = {"n_steps": 8, "n_epochs": 2} if kind is PPO else {"learning_starts": 16, "buffer_size": 1024}
    env = make("Dots-v0", 4, "cpu", seed=0, shape=shape, vectorization_mode="sync")
    return kind(policy, env, batch_size=16, seed=0, policy_kwargs=kwargs, **settings)


def observations(model: Any, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(rows)
    return torch.randint(0, 256, (rows, *model.observation_space.shape), dtype=torch.uint8, generator=generator)


def compare(model: Any, rows: int) -> None:
    """Outputs and gradients of the policy's parameters, by hand and by autograd."""
    network, obs = model._actor_critic._manual, observations(model, rows)
    expected = model._actor_critic._through_modules(obs)
    weights = [torch.randn_like(part) for part in expected]
    loss = sum((part * weight).sum() for part, weight in zip(expected, weights, strict=True))
    parameters = list(model.policy.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    for found in (network.infer(obs), network.forward(obs)):
        torch.testing.assert_close(found, [part.detach() for part in expected], rtol=1e-4, atol=1e-5)
    network.backward(weights)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-3 * float(gradient.abs().max()))


@pytest.mark.parametrize("shape", [(36, 44, 3), (40, 64, 1), (4, 36, 36)])
@pytest.mark.parametrize("shared", [True, False])
def test_an_actor_critic_equals_autograd(shape: tuple[int, ...], shared: bool) -> None:
    model = agent(shape=shape, share_features_extractor=shared)
    assert model._actor_critic._manual is not None
    assert not model._actor_critic.is_dense
    for rows in (1, 4, 32, 4):
        compare(model, rows)


def test_weights_that_others_changed_are_seen() -> None:
    """``.data``, which target networks are moved by, leaves no trace in a tensor's version."""
    model = agent()
    obs = observations(model, 4)
    network, first = model._actor_critic._manual, model.policy.features_extractor.cnn[0]
    before = network.infer(obs)
    first.weight.data.mul_(-1.0)
    after = network.infer(obs)
    assert not torch.equal(after[1], before[1])
    expected = [part.detach() for part in model._actor_critic._through_modules(obs)]
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-5)


def test_convolutions_that_do_not_learn_keep_their_weights() -> None:
    model = agent()
    first = model.policy.features_extractor.cnn[0]
    first.requires_grad_(False)
    before, other = first.weight.clone(), model.policy.features_extractor.cnn[2].weight.clone()
    model.learn(64)
    assert torch.equal(first.weight, before)
    assert not torch.equal(model.policy.features_extractor.cnn[2].weight, other)


@pytest.mark.parametrize("kind", [PPO, DQN])
def test_training_equals_training_through_the_modules(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for rounding, which Adam makes larger than it is."""
    weights = []
    for by_hand in (True, False):
        monkeypatch.setattr(manual_conv, "has_convolutions", lambda device, here=by_hand: here)
        model = agent(kind, **({"optimizer_class": torch.optim.SGD}))
        function = model._actor_critic if kind is PPO else model._online
        assert (function._manual is not None) is by_hand
        model.learn(128)
        weights.append([p.detach().clone() for p in model.policy.parameters()])
    for ours, theirs in zip(*weights, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_images_of_floats_stay_as_they_are() -> None:
    space = Box(-1.0, 1.0, (2, 36, 36))
    model: Any = SimpleNamespace(observation_space=space, normalize_images=False)
    torch.manual_seed(0)
    layers = [NatureCNN(space, 16, normalized_image=True), nn.Linear(16, 3)]
    network = manual_network(model, [], [layers])
    assert network is not None
    obs = torch.rand(5, 2, 36, 36) * 2 - 1
    torch.testing.assert_close(network.infer(obs)[0], layers[1](layers[0](obs)).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 36 * 36, 2)],
        [nn.Conv2d(3, 3, 3, groups=3), nn.Flatten(), nn.Linear(3 * 34 * 34, 2)],
        [nn.Conv2d(3, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 34 * 34, 2)],
        [nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 34 * 34, 2)],
        [nn.Conv2d(3, 4, 3), nn.ELU(), nn.Flatten(), nn.Linear(4 * 34 * 34, 2)],
        [nn.Conv2d(3, 4, 3), nn.Linear(34, 2)],
        [nn.Conv2d(3, 4, 3), nn.Flatten(2), nn.Linear(34 * 34, 2)],
        [nn.Conv2d(3, 4, 3).double(), nn.Flatten(), nn.Linear(4 * 34 * 34, 2)],
    ],
)
def test_chains_without_a_twin(layers: list[nn.Module]) -> None:
    model: Any = SimpleNamespace(observation_space=Box(0, 255, (3, 36, 36), np.uint8), normalize_images=True)
    assert manual_network(model, [], [layers]) is None
