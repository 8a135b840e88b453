"""Rewards divided by the standard deviation of the discounted return, so that values are of order one.

1. Each environment carries R ← γ R + r over its running episode; the variance of all R seen so far is updated with
   every step (parallel variance, in float64), and the reward is divided by its square root.
2. The result is clipped to ±10. The mean is not subtracted: that would change which policy is best.

The numbers are those of Stable-Baselines3's ``VecNormalize(norm_obs=False)``. Here they are tensors on the device and
travel with the model. Statistics of episodes, evaluations and callbacks see the plain rewards.

Sources: Engstrom et al., "Implementation matters in deep policy gradients", ICLR 2020, section 2; Chan, Golub and
LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1982, for the merged moments.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from palaestra.agents.distributed.process_group import process_group

_CLIP, _EPSILON = 10.0, 1e-8

Moments = tuple[Tensor, Tensor, Tensor]  # mean, variance (both float64 […]), count (float64 [])


def merge_moments(moments: Moments, values: Tensor) -> Moments:
    """The moments after taking in ``values`` float64 [B, …], and those of the other processes."""
    number = values.shape[0]
    for batch_mean, batch_variance in process_group().gather(values.mean(0), values.var(0, correction=0)):
        mean, variance, count = moments
        total = count + number
        change = batch_mean - mean
        spread = variance * count + batch_variance * number + change.square() * (count * number / total)
        moments = mean + change * (number / total), spread / total, total
    return moments


class RewardScale:
    """Running statistics of returns, and rewards divided by their deviation."""

    def __init__(self, gamma: float, device: torch.device) -> None:
        self.gamma, self.device = gamma, device
        self.returns: Tensor | None = None  # [N] discounted returns of the running episodes
        self.set_state([0.0, 1.0, 1e-4])

    def state(self) -> list[float]:
        """Mean, variance and count; copies from the device."""
        return [float(value) for value in torch.stack(self._moments).tolist()]

    def set_state(self, state: Any) -> None:
        """The inverse of :meth:`state`.

        Raises:
            ValueError: if it is not three finite numbers, the last two positive.
        """
        numbers = [float(value) for value in state]
        if len(numbers) != 3 or not all(map(math.isfinite, numbers)) or min(numbers[1:]) <= 0.0:
            raise ValueError(f"bad reward statistics {state}")
        mean, variance, count = torch.tensor(numbers, dtype=torch.float64).to(self.device).unbind(0)
        self._moments = mean, variance, count

    def forget_episodes(self) -> None:
        """Begin new returns, after the environments were reset."""
        self.returns = None

    def __call__(self, rewards: Tensor, dones: Tensor) -> Tensor:
        """Scaled rewards [N] of a step that ended the episodes ``dones`` [N]; updates the statistics."""
        self.learn(rewards, dones)
        return self.scale(rewards)

    def learn(self, rewards: Tensor, dones: Tensor) -> None:
        """Update the statistics with the rewards [N] of a step that ended the episodes ``dones`` [N]."""
        returns = rewards if self.returns is None else self.returns * self.gamma + rewards
        self._moments = merge_moments(self._moments, torch.where(returns.isfinite(), returns, 0.0).double())
        self.returns = torch.where(dones, 0.0, returns)

    def scale(self, rewards: Tensor) -> Tensor:
        """Rewards divided by the deviation as it is now."""
        scaled = (rewards / (self._moments[1] + _EPSILON).sqrt().float()).clamp(-_CLIP, _CLIP)
        return scaled + 0.0 * rewards  # NaN where a reward is not finite, and only there: the agent names the place

    def unscale(self, values: Tensor) -> Tensor:
        """Values of scaled rewards [B] as values of plain ones."""
        return values * (self._moments[1] + _EPSILON).sqrt().float()
