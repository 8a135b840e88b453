"""Observations shifted and scaled to mean 0 and deviation 1, inside the model.

1. :class:`Normalized` is a features extractor that stands before another one. Its statistics are buffers, so they are
   saved, loaded and copied with the weights, and vanilla Stable-Baselines3 has them too.
2. The network sees (x − mean) / √(variance + 1e-8), clipped to ±10. Before anything was learned that is x itself.
3. Numbers are normalised; images, one-hot codes and flags pass. In a dictionary every entry has statistics of its own.
4. When statistics are learned is up to the agent, for the network's outputs change with them: PPO learns them from a
   rollout after its update, so that the log-probabilities of a rollout belong to one function; DQN and PQN with every
   step.

The statistics are those of Gymnasium's ``NormalizeObservation``.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from gymnasium import Space, spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from palaestra.agents.buffers.rollout import map_obs
from palaestra.agents.reward_norm import merge_moments

_CLIP, _EPSILON = 10.0, 1e-8


class RunningNorm(nn.Module):
    """Statistics of observations [B, *shape], and observations normalised by them."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("count", torch.tensor(1e-4, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """[B, *shape] → [B, *shape]."""
        scale = (self.variance + _EPSILON).rsqrt()
        return ((x - self.mean.float()) * scale.float()).clamp(-_CLIP, _CLIP)

    @torch.no_grad()
    def learn(self, x: Tensor) -> None:
        """Take in observations [B, *shape]."""
        moments = merge_moments((self.mean, self.variance, self.count), x.double())
        for buffer, value in zip((self.mean, self.variance, self.count), moments, strict=True):
            buffer.copy_(value)


class Normalized(BaseFeaturesExtractor):
    """Another features extractor, on normalised observations."""

    def __init__(
        self,
        observation_space: Space[Any],
        extractor_class: type[BaseFeaturesExtractor],
        extractor_kwargs: dict[str, Any] | None = None,
    ) -> None:
        extractor = extractor_class(observation_space, **(extractor_kwargs or {}))
        super().__init__(observation_space, extractor.features_dim)
        self.extractor = extractor
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        self.keys = [k for k, space in parts.items() if isinstance(space, spaces.Box) and not is_image_space(space)]
        self.norms = nn.ModuleList(RunningNorm(parts[key].shape or ()) for key in self.keys)

    def forward(self, observations: Any) -> Tensor:
        """The other extractor's features of the normalised observations, [B, features_dim]."""
        features: Tensor = self.extractor(self._map(observations))
        return features

    def _map(self, observations: Any) -> Any:
        if not isinstance(observations, dict):
            return self.norms[0](observations) if self.keys else observations
        normal = {key: norm(observations[key]) for key, norm in zip(self.keys, self.norms, strict=True)}
        return {**observations, **normal}

    def learn(self, observations: Any) -> None:
        """Take in observations as the environment gives them, [B, …], or a dictionary of them."""
        for key, norm in zip(self.keys, self.norms, strict=True):
            norm.learn(observations[key] if isinstance(observations, dict) else observations)  # type: ignore[operator]


def with_normalization(policy_class: type[nn.Module], policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a policy whose features extractor, its default or a given one, sees normalised observations."""
    default = inspect.signature(policy_class).parameters["features_extractor_class"].default
    extractor = policy_kwargs.get("features_extractor_class", default)
    if extractor is Normalized:
        return policy_kwargs
    kwargs = policy_kwargs.get("features_extractor_kwargs") or {}
    kwargs = {"extractor_class": extractor, "extractor_kwargs": kwargs}
    return {**policy_kwargs, "features_extractor_class": Normalized, "features_extractor_kwargs": kwargs}


def learn_observations(policy: nn.Module, observations: Any, leading: int = 1) -> None:
    """Take observations, with ``leading`` dimensions before their own shape, in all statistics of a policy."""
    observations = map_obs(lambda o: o.flatten(0, leading - 1), observations)
    for module in policy.modules():
        if isinstance(module, Normalized):
            module.learn(observations)
