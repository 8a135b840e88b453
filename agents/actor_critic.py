"""Stable-Baselines3's actor-critic policy, called without its distribution objects.

The networks and their parameters are the policy's own. What an agent needs of them on its hot path (sampled actions
with values and log-probabilities, and their re-evaluation in the update) is computed by the tensor functions of
:mod:`palaestra.agents.actions`, which never synchronise. A policy that overrides SB3's forward pass, or has a
distribution without a twin there (gSDE), is called through SB3's own methods instead; those know of no action masks.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from palaestra.agents.actions import action_head
from palaestra.envs.rng import Rng


class ActorCritic:
    """The computations of one policy, for observations [B, …] on its device."""

    def __init__(self, policy: ActorCriticPolicy) -> None:
        self.policy = policy
        overridden = any(
            getattr(type(policy), name) is not getattr(ActorCriticPolicy, name)
            for name in ("forward", "evaluate_actions", "_get_action_dist_from_latent")
        )
        self.head = None if overridden else action_head(policy.action_dist, getattr(policy, "log_std", None))
        self._bounds: tuple[Tensor, ...] | None = None
        if isinstance(policy.action_space, spaces.Box):
            low, high = (
                torch.as_tensor(b).to(policy.device) for b in (policy.action_space.low, policy.action_space.high)
            )
            self._bounds = low, high

    def require_masks(self) -> None:
        """Raise a ValueError if the policy cannot keep to action masks."""
        if self.head is None:
            raise ValueError(
                f"the environment has action masks, which {type(self.policy).__name__} would not keep to: "
                f"it overrides SB3's forward pass or has a distribution of its own"
            )

    def sample(self, obs: Any, rng: Rng, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Random actions [B, …] as the distribution gives them, values [B] and log-probabilities [B].

        ``mask`` bool [B, A] (here and below) names the legal actions of a discrete space.
        """
        if self.head is None:
            actions, values, log_probs = self.policy(obs)
            return actions.flatten(1) if actions.dim() > 2 else actions, values.flatten(), log_probs
        params, values = self._params_and_values(obs, mask)
        actions = self.head.sample(params, rng)
        return actions, values, self.head.log_prob(params, actions)

    def evaluate(self, obs: Any, actions: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Values, log-probabilities and entropies, each [B]; no entropies where there is no formula."""
        if self.head is None:
            values, log_prob, entropy = self.policy.evaluate_actions(obs, actions)
            return values.flatten(), log_prob, entropy
        params, values = self._params_and_values(obs, mask)
        return values, *self.head.log_prob_entropy(params, actions)

    def act(self, obs: Any, rng: Rng | None, mask: Tensor | None = None) -> Tensor:
        """Actions within the action space: the most likely ones, or sampled with ``rng`` (one key per row)."""
        if mask is not None:
            self.require_masks()
        if self.head is not None and rng is not None:
            return self.for_env(self.head.sample(self._params_and_values(obs, mask)[0], rng))
        if self.head is not None and mask is not None:
            return self._params_and_values(obs, mask)[0].argmax(1)
        return self.for_env(self.policy._predict(obs, deterministic=rng is None))

    def values(self, obs: Any) -> Tensor:
        """Values [B]."""
        return self.policy.predict_values(obs).flatten()

    def for_env(self, actions: Tensor) -> Tensor:
        """Gaussian samples have no bounds, the environment's actions do: clip (or unsquash) as SB3 does."""
        if self._bounds is None:
            return actions
        low, high = self._bounds
        actions = actions.view(-1, *low.shape)
        if self.policy.squash_output:
            return low + 0.5 * (actions + 1.0) * (high - low)
        return actions.clamp(low, high)

    def _params_and_values(self, obs: Any, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The action net's output [B, P] and the values [B]: SB3's forward pass up to its distribution.

        Logits of illegal actions are the lowest number there is: probability 0, and an entropy without NaN.
        """
        policy = self.policy
        features = policy.extract_features(obs)
        if policy.share_features_extractor:
            latent_pi, latent_vf = policy.mlp_extractor(features)
        else:
            latent_pi = policy.mlp_extractor.forward_actor(features[0])
            latent_vf = policy.mlp_extractor.forward_critic(features[1])
        params = policy.action_net(latent_pi)
        if mask is not None:
            params = params.masked_fill(~mask, torch.finfo(params.dtype).min)
        return params, policy.value_net(latent_vf).squeeze(1)
