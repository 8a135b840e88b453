"""Networks that Stable-Baselines3 lacks, as features extractors of its policies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium.spaces import Discrete, Space
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from palaestra.agents.buffers.rollout import map_obs


def channels_last(obs: Any) -> Any:
    """Observations whose images [B, C, H, W], on a CPU, have the channels of a pixel side by side in memory.

    oneDNN's convolutions, forward and backward, take 0.5 to 0.8 of the time then; weights stay as they are.
    """

    def turned(x: Tensor) -> Tensor:
        return x.to(memory_format=torch.channels_last) if x.dim() == 4 and x.device.type == "cpu" else x

    return map_obs(turned, obs)


class FourierFeatures(nn.Module):
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
    ``octaves`` > 0 puts :class:`FourierFeatures` first, for observations of a few numbers; ``layer_norm`` puts a
    LayerNorm before every ReLU.
    """

    def __init__(
        self,
        observation_space: Space[Any],
        hidden: Sequence[int] = (256, 256),
        octaves: int = 0,
        layer_norm: bool = False,
    ) -> None:
        super().__init__(observation_space, features_dim=hidden[-1])
        inputs = get_flattened_obs_dim(observation_space)
        layers: list[nn.Module] = [nn.Flatten(), FourierFeatures(octaves)] if octaves else [nn.Flatten()]
        for width_in, width_out in itertools.pairwise([inputs * (1 + 2 * octaves), *hidden]):
            layers += [nn.Linear(width_in, width_out), *([nn.LayerNorm(width_out)] if layer_norm else []), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, observations: Tensor) -> Tensor:
        """[B, *observation] → [B, hidden[-1]]."""
        features: Tensor = self.layers(observations)
        return features


class DuelingQNetwork(QNetwork):
    """Q(s, a) = V(s) + A(s, a) − mean_a A(s, a), with a linear layer each for V and A on the same features.

    Source: Wang et al., "Dueling network architectures for deep reinforcement learning", ICML 2016, equation 9.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        layers = list(self.q_net)
        self.advantage = layers.pop()  # SB3's last layer: one output per action
        self.q_net = nn.Sequential(*layers)
        self.value = nn.Linear(self.advantage.in_features, 1)  # type: ignore[arg-type]

    def forward(self, obs: Any) -> Tensor:
        """Q-values [B, A]."""
        features = self.q_net(self.extract_features(obs, self.features_extractor))
        return self.combined(self.value(features), self.advantage(features))

    @staticmethod
    def combined(value: Tensor, advantage: Tensor) -> Tensor:
        """Q-values [B, A] of V [B, 1] and A [B, A]."""
        return value + advantage - advantage.mean(1, keepdim=True)

    @staticmethod
    def parts_of(grad_q_values: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives by V [B, 1] and A [B, A] from those by the Q-values [B, A]."""
        return grad_q_values.sum(1, keepdim=True), grad_q_values - grad_q_values.mean(1, keepdim=True)


class DuelingPolicy(DQNPolicy):
    """SB3's DQN policy with :class:`DuelingQNetwork`."""

    def make_q_net(self) -> QNetwork:
        arguments = self._update_features_extractor(self.net_args, features_extractor=None)
        return DuelingQNetwork(**arguments).to(self.device)


class LayerNormPolicy(DQNPolicy):
    """SB3's DQN policy with other defaults: :class:`SharedMlp` with LayerNorm, a linear head, RAdam."""

    def __init__(
        self,
        observation_space: Space[Any],
        action_space: Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = SharedMlp,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.RAdam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        kwargs = features_extractor_kwargs or {}
        if features_extractor_class is SharedMlp:
            net_arch, features_extractor_kwargs = net_arch or [], {"layer_norm": True, **kwargs}
        elif kwargs.get("extractor_class") is SharedMlp:  # behind the normalisation of observations
            inner = {"layer_norm": True, **kwargs["extractor_kwargs"]}
            net_arch, features_extractor_kwargs = net_arch or [], {**kwargs, "extractor_kwargs": inner}
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch,
            activation_fn,
            features_extractor_class,
            features_extractor_kwargs,
            normalize_images,
            optimizer_class,
            optimizer_kwargs,
        )
