"""Action distributions as plain tensor functions: sampling, log-probability and entropy without synchronisation.

Stable-Baselines3 wraps ``torch.distributions``, which validate their arguments and so wait for the device. The formulas
here give the same numbers (tests compare them). Sampling takes its randomness from a counter-based
:class:`~palaestra.envs.rng.Rng`, so the action of an environment does not depend on the batch around it.

1. Categorical: inverse CDF, one uniform number per environment.
2. MultiCategorical: one categorical per component, log-probabilities and entropies summed.
3. Bernoulli: one uniform number per bit.
4. Diagonal Gaussian: mean + σ · normal; the standard deviation does not depend on the state.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
)
from torch import Tensor

from palaestra.envs.rng import Rng

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class ActionHead(Protocol):
    """One kind of distribution; ``params`` [B, P] come from the policy's action net."""

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        """Random actions, int64 [B] or [B, D], or float [B, D]."""

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        """Log-probability (density) of the actions, [B]."""

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy, each [B]."""


class Categorical:
    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        cdf = params.softmax(1).cumsum(1)
        # times the last entry, which rounding leaves a little off 1: the largest draw never picks a probability of 0
        return (cdf[:, :-1] <= rng.uniform().unsqueeze(1) * cdf[:, -1:]).sum(1)

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        return params.log_softmax(1).gather(1, actions.unsqueeze(1)).squeeze(1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        log_p = params.log_softmax(1)
        return log_p.gather(1, actions.unsqueeze(1)).squeeze(1), -(log_p.exp() * log_p).sum(1)


class MultiCategorical:
    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self._one = Categorical()

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return torch.stack([self._one.sample(part, rng) for part in torch.split(params, self.sizes, 1)], 1)

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        parts = zip(torch.split(params, self.sizes, 1), actions.unbind(1), strict=True)
        return torch.stack([self._one.log_prob(part, action) for part, action in parts]).sum(0)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        parts = zip(torch.split(params, self.sizes, 1), actions.unbind(1), strict=True)
        both = [self._one.log_prob_entropy(part, action) for part, action in parts]
        return torch.stack([b[0] for b in both]).sum(0), torch.stack([b[1] for b in both]).sum(0)


class Bernoulli:
    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return (rng.uniform(shape=params.shape[1:]) < params.sigmoid()).to(torch.int8)

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(params, actions.to(params.dtype), reduction="none").sum(1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        entropy = F.binary_cross_entropy_with_logits(params, params.sigmoid(), reduction="none").sum(1)
        return self.log_prob(params, actions), entropy


class DiagGaussian:
    def __init__(self, log_std: Tensor) -> None:
        self.log_std = log_std  # [A], the policy's own parameter

    def sample(self, params: Tensor, rng: Rng) -> Tensor:
        return params + self.log_std.exp() * rng.normal(params.shape[1:], params.dtype)

    def log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        scaled = (actions - params) * (-self.log_std).exp()
        return (-0.5 * scaled.square() - self.log_std - _HALF_LOG_TWO_PI).sum(1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        entropy = (0.5 + _HALF_LOG_TWO_PI + self.log_std).sum().expand(params.shape[0])
        return self.log_prob(params, actions), entropy


def action_head(distribution: Distribution, log_std: Tensor | None) -> ActionHead | None:
    """Our twin of a Stable-Baselines3 distribution; None where there is none (gSDE, a user's own)."""
    kind = type(distribution)
    if kind is CategoricalDistribution:
        return Categorical()
    if isinstance(distribution, MultiCategoricalDistribution) and kind is MultiCategoricalDistribution:
        return MultiCategorical([int(size) for size in distribution.action_dims])
    if kind is BernoulliDistribution:
        return Bernoulli()
    if kind is DiagGaussianDistribution and log_std is not None:
        return DiagGaussian(log_std)
    return None
