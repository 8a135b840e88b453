"""Action distributions as plain tensor functions: sampling, log-probability and entropy without synchronisation.

Stable-Baselines3 wraps ``torch.distributions``, which validate their arguments and so wait for the device. The formulas
here give the same numbers (tests compare them). Sampling takes its randomness from a counter-based
:class:`~palaestra.envs.core.rng.Rng`, so the action of an environment does not depend on the batch around it.

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

from palaestra.agents.networks.manual_mlp import gradient_of
from palaestra.envs.core.rng import Rng

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)
_WIDE = 16  # torch's log_softmax is vectorised over so many numbers in a row


class ActionHead(Protocol):
    """One kind of distribution; ``params`` [B, P] come from the policy's action net."""

    def noise(self, rng: Rng) -> Tensor:
        """The random numbers of :meth:`sample`, float [B, …] for the B keys of ``rng``."""

    def sample(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Random actions, int64 [B] or [B, D], or float [B, D], and their log-probabilities (densities) [B]."""

    def most_likely(self, params: Tensor) -> Tensor:
        """The actions of greatest probability, as :meth:`sample` gives them."""

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy, each [B]; remembers what :meth:`backward` needs."""

    def backward(self, grad_log_prob: Tensor, grad_entropy: Tensor | float) -> Tensor:
        """The derivatives of a loss by ``params`` [B, P].

        Args:
            grad_log_prob: its derivatives by the latest log-probabilities, [B].
            grad_entropy: by each of the entropies; they are alike. A number, or float64 [].
        """


class Categorical:
    def noise(self, rng: Rng) -> Tensor:
        return rng.uniform()

    def sample(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        log_p = params.log_softmax(1)
        cdf = log_p.exp().cumsum(1)
        # times the last entry, which rounding leaves a little off 1: the largest draw never picks a probability of 0
        actions = (cdf[:, :-1] <= noise.unsqueeze(1) * cdf[:, -1:]).sum(1)
        return actions, log_p.gather(1, actions.unsqueeze(1)).squeeze(1)

    def most_likely(self, params: Tensor) -> Tensor:
        return params.argmax(1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        # over few actions a CPU is faster along the batch; its last bits depend on the place there
        dim = 0 if params.shape[1] < _WIDE else 1
        log_p = (params.t().contiguous() if dim == 0 else params).log_softmax(dim)
        p, places = log_p.exp(), actions.unsqueeze(dim)
        entropy = (p * log_p).sum(dim).neg_()
        self._latest = log_p, p, places, entropy, dim
        return log_p.gather(dim, places).squeeze(dim), entropy

    def backward(self, grad_log_prob: Tensor, grad_entropy: Tensor | float) -> Tensor:
        log_p, p, places, entropy, dim = self._latest
        grad_log_prob = grad_log_prob.unsqueeze(dim)
        grad_params = (p * -grad_log_prob).scatter_add_(dim, places, grad_log_prob)
        if isinstance(grad_entropy, Tensor):  # the same bits
            grad_params.addcmul_((log_p + entropy.unsqueeze(dim)).mul_(p), -grad_entropy)
        elif grad_entropy:
            grad_params.sub_((log_p + entropy.unsqueeze(dim)).mul_(p), alpha=grad_entropy)
        return grad_params.t() if dim == 0 else grad_params


class MultiCategorical:
    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes
        self._parts = [Categorical() for _ in sizes]

    def noise(self, rng: Rng) -> Tensor:
        return torch.stack([part.noise(rng) for part in self._parts], 1)

    def sample(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        drawn = [
            part.sample(logits, u)
            for part, logits, u in zip(self._parts, torch.split(params, self.sizes, 1), noise.unbind(1), strict=True)
        ]
        return torch.stack([actions for actions, _ in drawn], 1), torch.stack([log_p for _, log_p in drawn]).sum(0)

    def most_likely(self, params: Tensor) -> Tensor:
        return torch.stack([logits.argmax(1) for logits in torch.split(params, self.sizes, 1)], 1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        both = [
            part.log_prob_entropy(logits, action)
            for part, logits, action in zip(
                self._parts, torch.split(params, self.sizes, 1), actions.unbind(1), strict=True
            )
        ]
        return torch.stack([b[0] for b in both]).sum(0), torch.stack([b[1] for b in both]).sum(0)

    def backward(self, grad_log_prob: Tensor, grad_entropy: Tensor | float) -> Tensor:
        return torch.cat([part.backward(grad_log_prob, grad_entropy) for part in self._parts], 1)


class Bernoulli:
    def __init__(self, bits: int) -> None:
        self.bits = bits

    def noise(self, rng: Rng) -> Tensor:
        return rng.uniform(shape=(self.bits,))

    def sample(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        actions = (noise < params.sigmoid()).to(torch.int8)
        return actions, self._log_prob(params, actions)

    def most_likely(self, params: Tensor) -> Tensor:
        return (params > 0.0).to(torch.int8)

    def _log_prob(self, params: Tensor, actions: Tensor) -> Tensor:
        return -F.binary_cross_entropy_with_logits(params, actions.to(params.dtype), reduction="none").sum(1)

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        p = params.sigmoid()
        entropy = F.binary_cross_entropy_with_logits(params, p, reduction="none").sum(1)
        self._latest = params, p, actions
        return self._log_prob(params, actions), entropy

    def backward(self, grad_log_prob: Tensor, grad_entropy: Tensor | float) -> Tensor:
        params, p, actions = self._latest
        return (actions - p) * grad_log_prob.unsqueeze(1) - grad_entropy * params * p * (1.0 - p)


class DiagGaussian:
    def __init__(self, log_std: Tensor) -> None:
        self.log_std = log_std  # [A], the policy's own parameter

    def noise(self, rng: Rng) -> Tensor:
        return rng.normal(self.log_std.shape, self.log_std.dtype)

    def sample(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        actions = params + self.log_std.exp() * noise
        return actions, self._log_prob(noise)

    def most_likely(self, params: Tensor) -> Tensor:
        return params

    def _log_prob(self, scaled: Tensor) -> Tensor:
        """Log-density at a distance from the mean, counted in standard deviations."""
        return scaled.square().sum(1).mul_(-0.5) - (self.log_std + _HALF_LOG_TWO_PI).sum()

    def log_prob_entropy(self, params: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        precision = (-self.log_std).exp()
        scaled = (actions - params) * precision
        self._latest = scaled, precision
        entropy = (0.5 + _HALF_LOG_TWO_PI + self.log_std).sum().expand(params.shape[0])
        return self._log_prob(scaled), entropy

    def backward(self, grad_log_prob: Tensor, grad_entropy: Tensor | float) -> Tensor:
        """The derivatives by ``params``, as for the others; those by ``log_std`` become its gradient."""
        scaled, precision = self._latest
        grad_action = scaled * grad_log_prob.unsqueeze(1)
        if self.log_std.requires_grad:
            gradient = (grad_action * scaled).sum(0) - grad_log_prob.sum() + grad_entropy * len(grad_log_prob)
            gradient_of(self.log_std).copy_(gradient)
        return grad_action * precision


def action_head(distribution: Distribution, log_std: Tensor | None) -> ActionHead | None:
    """Our twin of a Stable-Baselines3 distribution; None where there is none (gSDE, a user's own)."""
    kind = type(distribution)
    if kind is CategoricalDistribution:
        return Categorical()
    if isinstance(distribution, MultiCategoricalDistribution) and kind is MultiCategoricalDistribution:
        return MultiCategorical([int(size) for size in distribution.action_dims])
    if kind is BernoulliDistribution:
        return Bernoulli(int(distribution.action_dims))  # type: ignore[attr-defined]
    if kind is DiagGaussianDistribution and log_std is not None:
        return DiagGaussian(log_std)
    return None
