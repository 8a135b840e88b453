"""A policy that acts in −1 … 1, whatever the bounds of its environment's actions.

A Gaussian policy begins with mean 0 and deviation 1. In a Box of 0 … 1000 it would never explore, in one of ±0.01 it
would always be at a bound. So where this is wanted

1. the policy's action a stands for c + h a, c being the middle and h half the width of each dimension's range; what
   lies beyond the bounds is clipped as before. Dimensions without two bounds stay as they are, and so does −1 … 1;
2. learning, and the weights that we save, know of a alone;
3. for Stable-Baselines3 the same Gaussian is written in the environment's units, mean c + h μ and deviation h σ:
   :meth:`ActionUnits.applied`. So vanilla SB3 acts alike with our files and needs to know nothing of this.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from palaestra.envs.core.user_code import one_line

_UNBOUNDED = 1e30  # bounds beyond it stand for none


def units_remarks(policy: ActorCriticPolicy, scale_actions: bool) -> tuple[str, ...]:
    """What to tell a user of the units that the policy acts in; warns where it could hardly learn in them."""
    space = policy.action_space
    if not isinstance(space, spaces.Box) or policy.squash_output:
        return ()
    shown = one_line(space)
    if scale_actions and ActionUnits.of(policy) is not None:
        return (f"actions: −1 … 1 of the policy is the range of {shown}; vanilla PPO is scale_actions=false",)
    centre, half = 0.5 * (space.high + space.low), 0.5 * (space.high.astype(np.float64) - space.low)
    if not scale_actions and ((half > 5.0) | (half < 0.2) | (np.abs(centre) > half + 2.0)).any():
        warnings.warn(
            f"the policy's actions begin with mean 0 and deviation 1, which fits {shown} badly: set scale_actions=True",
            stacklevel=4,
        )
    return ()


class ActionUnits:
    """The linear map c + h a for one policy."""

    def __init__(self, policy: ActorCriticPolicy, centre: Tensor, half: Tensor) -> None:
        self._policy, self.centre, self.half = policy, centre, half  # [*action_space.shape]

    @staticmethod
    def of(policy: ActorCriticPolicy) -> ActionUnits | None:
        """That of a policy whose Box is not −1 … 1 already; None for all others.

        Raises:
            ValueError: if the policy is of a kind that cannot be written in the environment's units.
        """
        space = policy.action_space
        if not isinstance(space, spaces.Box):
            return None
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        bounded = (np.abs(low) < _UNBOUNDED) & (np.abs(high) < _UNBOUNDED)
        low, high = np.where(bounded, low, -1.0), np.where(bounded, high, 1.0)
        if (low == -1.0).all() and (high == 1.0).all():
            return None
        noise = policy.action_dist
        depends = isinstance(noise, StateDependentNoiseDistribution) and (noise.use_expln or not noise.full_std)
        if depends or not isinstance(getattr(policy, "action_net", None), nn.Linear):
            what = "use_expln or full_std=False" if depends else type(policy).__name__
            raise ValueError(f"scale_actions does not work with {what}: set scale_actions=False")
        centre, half = 0.5 * (low + high), np.maximum(0.5 * (high - low), 1e-12)
        both = (torch.as_tensor(a.astype(np.float32)).to(policy.device) for a in (centre, half))
        return ActionUnits(policy, *both)

    def to_env(self, actions: Tensor) -> Tensor:
        """Actions [N, *shape] of the policy in the environment's units, unclipped."""
        return torch.addcmul(self.centre, actions, self.half)

    def from_env(self, actions: Tensor) -> Tensor:
        """The inverse of :meth:`to_env`."""
        return (actions - self.centre) / self.half

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The policy has the environment's units inside this block: as Stable-Baselines3 wants it."""
        policy, centre, half = self._policy, self.centre.flatten(), self.half.flatten()
        net, noise = policy.action_net, policy.action_dist
        assert isinstance(net, nn.Linear)
        drawn = [getattr(noise, name, None) for name in ("exploration_mat", "exploration_matrices")]  # of gSDE
        changed = [net.weight, net.bias, policy.log_std, *(part for part in drawn if part is not None)]
        kept = [part.detach().clone() for part in changed]
        with torch.no_grad():
            net.weight.mul_(half.unsqueeze(1))
            net.bias.mul_(half).add_(centre)
            policy.log_std.add_(half.log())
            for part in changed[3:]:
                part.mul_(half)
        try:
            yield
        finally:
            with torch.no_grad():
                for part, before in zip(changed, kept, strict=True):
                    part.copy_(before)
