"""Networks that Stable-Baselines3 lacks, as features extractors of its policies."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import gymnasium
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class SharedMlp(BaseFeaturesExtractor):
    """One trunk of ReLU layers for actor and critic; use with ``net_arch=[]`` so that linear heads follow.

    Stable-Baselines3's own ``net_arch`` gives actor and critic a network each, which costs twice the arithmetic.
    """

    def __init__(self, observation_space: gymnasium.Space, hidden: Sequence[int] = (256, 256)) -> None:  # type: ignore[type-arg]
        super().__init__(observation_space, features_dim=hidden[-1])
        widths = [get_flattened_obs_dim(observation_space), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        for width_in, width_out in itertools.pairwise(widths):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, observations: Tensor) -> Tensor:
        """[B, *observation] → [B, hidden[-1]]."""
        features: Tensor = self.layers(observations)
        return features
