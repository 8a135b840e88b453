"""Networks that Stable-Baselines3 lacks, as features extractors of its policies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import gymnasium
import torch
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn


class Octaves(nn.Module):
    """x → (x, sin πx, cos πx, sin 2πx, cos 2πx, …): numbers in 0 … 1 with more and more detail.

    A small network hardly sees that one unit of stock less calls for another price; with these inputs it does.

    Source: Tancik et al., "Fourier features let networks learn high frequency functions in low dimensional domains",
    NeurIPS 2020.
    """

    def __init__(self, octaves: int) -> None:
        super().__init__()
        self.octaves = octaves

    def forward(self, x: Tensor) -> Tensor:
        """[B, D] → [B, D (1 + 2 octaves)]."""
        angles = [x * (math.pi * 2**k) for k in range(self.octaves)]
        return torch.cat([x, *(wave for angle in angles for wave in (angle.sin(), angle.cos()))], 1)


class SharedMlp(BaseFeaturesExtractor):
    """One trunk of ReLU layers for actor and critic; use with ``net_arch=[]`` so that linear heads follow.

    Stable-Baselines3's own ``net_arch`` gives actor and critic a network each, which costs twice the arithmetic.
    ``octaves`` > 0 puts :class:`Octaves` first, for observations of a few numbers.
    """

    def __init__(
        self,
        observation_space: gymnasium.Space,  # type: ignore[type-arg]
        hidden: Sequence[int] = (256, 256),
        octaves: int = 0,
    ) -> None:
        super().__init__(observation_space, features_dim=hidden[-1])
        inputs = get_flattened_obs_dim(observation_space)
        layers: list[nn.Module] = [nn.Flatten(), Octaves(octaves)] if octaves else [nn.Flatten()]
        for width_in, width_out in itertools.pairwise([inputs * (1 + 2 * octaves), *hidden]):
            layers += [nn.Linear(width_in, width_out), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, observations: Tensor) -> Tensor:
        """[B, *observation] → [B, hidden[-1]]."""
        features: Tensor = self.layers(observations)
        return features
