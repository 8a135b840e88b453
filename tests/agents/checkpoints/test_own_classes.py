"""Models whose policy or networks are classes of the user's, which a file names but never opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from palaestra.agents import PPO
from palaestra.agents.checkpoints.zip_archive import CheckpointError
from palaestra.envs import make


class OwnPolicy(ActorCriticPolicy):
    pass


class OwnExtractor(BaseFeaturesExtractor):
    def __init__(self, space: Any, features_dim: int = 8) -> None:
        super().__init__(space, features_dim)
        self.layer = nn.Linear(4, features_dim)

    def forward(self, obs: Tensor) -> Tensor:
        return self.layer(obs)


OWN_EXTRACTOR = {"features_extractor_class": OwnExtractor}


def saved(path: Path, policy: Any, **policy_kwargs: Any) -> PPO:
    kwargs = {"net_arch": [5], **policy_kwargs}
    model = PPO(policy, make("cartpole", 2, "cpu"), n_steps=8, batch_size=16, policy_kwargs=kwargs, seed=0)
    model.save(path)
    return model


def same(a: PPO, b: PPO) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.policy.parameters(), b.policy.parameters(), strict=True))


@pytest.mark.parametrize("given", [{"policy": OwnPolicy}, {"custom_objects": {"policy_class": OwnPolicy}}])
def test_a_policy_of_ones_own(given: dict[str, Any], tmp_path: Path) -> None:
    model = saved(tmp_path / "own.zip", OwnPolicy)
    with pytest.raises(CheckpointError, match=r"; pass policy=OwnPolicy to load\(\)$"):
        PPO.load(tmp_path / "own.zip")
    loaded = PPO.load(tmp_path / "own.zip", **given)
    assert type(loaded.policy) is OwnPolicy
    assert same(loaded, model)


@pytest.mark.parametrize(
    "given",
    [
        {"policy_kwargs": OWN_EXTRACTOR},
        {"custom_objects": {"policy_kwargs": OWN_EXTRACTOR, "lr_schedule": None, "anything": 1}, "force_reset": True},
    ],
)
def test_networks_of_ones_own_beside_the_settings_in_the_file(given: dict[str, Any], tmp_path: Path) -> None:
    model = saved(tmp_path / "own.zip", "MlpPolicy", **OWN_EXTRACTOR)
    with pytest.raises(CheckpointError, match=r"pass policy_kwargs=\{'features_extractor_class': OwnExtractor\}"):
        PPO.load(tmp_path / "own.zip")
    assert same(PPO.load(tmp_path / "own.zip", **given), model)


def test_custom_objects_replace_what_the_file_holds(tmp_path: Path) -> None:
    saved(tmp_path / "plain.zip", "MlpPolicy")
    assert PPO.load(tmp_path / "plain.zip", custom_objects={"gamma": 0.5, "clip_range": lambda _: 0.1}).gamma == 0.5
    with pytest.raises(TypeError, match="custom_objects must be a dictionary, got 3"):
        PPO.load(tmp_path / "plain.zip", custom_objects=3)
