"""The networks that Stable-Baselines3 lacks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from palaestra.agents import PPO, SharedMlp
from palaestra.agents.networks import Octaves
from palaestra.envs import make


def test_octaves_are_sines_and_cosines_of_doubling_frequency() -> None:
    x = torch.tensor([[0.0, 0.25], [0.5, 1.0]], dtype=torch.float64)
    expected = [x]
    for frequency in (1, 2, 4):
        expected += [torch.sin(math.pi * frequency * x), torch.cos(math.pi * frequency * x)]
    torch.testing.assert_close(Octaves(3)(x), torch.cat(expected, 1))
    assert Octaves(2)(x)[0].tolist() == pytest.approx([0, 0.25, 0, 0.5**0.5, 1, 0.5**0.5, 0, 1, 1, 0], abs=1e-12)


def test_the_trunk_is_the_product_of_its_layers() -> None:
    trunk = SharedMlp(Box(0, 1, (3,)), (5, 4), octaves=2)
    x = torch.rand(6, 3)
    first, second = (layer for layer in trunk.layers if isinstance(layer, torch.nn.Linear))
    assert first.weight.shape == (5, 3 * 5)
    by_hand = (Octaves(2)(x) @ first.weight.T + first.bias).relu() @ second.weight.T + second.bias
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
