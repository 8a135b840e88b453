"""Stable-Baselines3's actor-critic policy, called without its distribution objects.

The networks and their parameters are the policy's own. What an agent needs of them on its hot path (sampled actions
with values and log-probabilities, and their re-evaluation in the update) is computed by the tensor functions of
:mod:`palaestra.agents.networks.distributions`, which never synchronise. A policy that overrides SB3's forward pass, or
has a distribution without a twin there (gSDE), is called through SB3's own methods instead; those know of no action
masks. Fully connected networks are evaluated by :mod:`palaestra.agents.networks.manual_mlp`, others by their modules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from torch import Tensor

from palaestra.agents.distributed.side_by_side import in_halves
from palaestra.agents.networks.action_units import ActionUnits
from palaestra.agents.networks.distributions import action_head
from palaestra.agents.networks.extractors import channels_last
from palaestra.agents.networks.manual_mlp import ManualNetwork, without_gradients
from palaestra.agents.networks.manual_network import manual_network
from palaestra.envs.core.rng import Rng

PolicyLoss = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | float]]
ValueLoss = Callable[[Tensor], Tensor]


class ActorCritic:
    """The computations of one policy, for observations [B, …] on its device."""

    def __init__(self, policy: ActorCriticPolicy, scale_actions: bool = False) -> None:
        """With ``scale_actions`` −1 … 1 of the policy is the range of a bounded Box; see :class:`ActionUnits`."""
        self.policy = policy
        overridden = overrides(policy, "forward", "evaluate_actions", "_get_action_dist_from_latent")
        self.head = None if overridden else action_head(policy.action_dist, getattr(policy, "log_std", None))
        self._manual = None if self.head is None else _manual(policy)
        self._halves = False
        self._bounds: tuple[Tensor, ...] | None = None
        if isinstance(policy.action_space, spaces.Box):
            space = policy.action_space
            low, high = (torch.as_tensor(b, dtype=torch.float32).to(policy.device) for b in (space.low, space.high))
            self._bounds = low, high
        self.units = ActionUnits.of(policy) if scale_actions and not policy.squash_output else None

    @property
    def is_dense(self) -> bool:
        """True for fully connected networks."""
        return self._manual is not None and not self._manual.sees_images

    @contextmanager
    def learning(self, rows: int) -> Iterator[None]:
        """A block of calls of :meth:`learn` with up to so many rows: two threads take a network each if they are large.

        The threads are there for nothing else then.
        """
        large = self._manual is not None and self._manual.has_halves(rows)
        with in_halves(large, self.policy.device) as self._halves:
            yield
        self._halves = False

    def require_masks(self) -> None:
        """Raise a ValueError if the policy cannot keep to action masks."""
        if self.head is None:
            raise ValueError(
                f"the environment has action masks, which {type(self.policy).__name__} would not keep to: "
                f"it overrides SB3's forward pass or has a distribution of its own"
            )

    def noise(self, keys: Tensor, steps: range) -> Sequence[Tensor | None]:
        """The random numbers of :meth:`sample` at each of these steps, for environments with these keys [N]."""
        if self.head is None:
            return [None] * len(steps)
        counter = torch.arange(steps.start, steps.stop, device=keys.device).repeat_interleave(len(keys))
        noise = self.head.noise(Rng(keys.repeat(len(steps)), counter))
        return noise.view(len(steps), len(keys), *noise.shape[1:]).unbind(0)

    def noise_at(self, keys: Tensor, step: Tensor | int) -> Tensor | None:
        """The same at one step, a number or int64 []."""
        return None if self.head is None else self.head.noise(Rng(keys, step))

    def sample(self, obs: Any, noise: Tensor | None, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Random actions [B, …] as the distribution gives them, values [B] and log-probabilities [B].

        ``mask`` bool [B, A] (here and below) names the legal actions of a discrete space.
        """
        if self.head is None or noise is None:
            actions, values, log_probs = self.policy(obs)
            return actions.flatten(1) if actions.dim() > 2 else actions, values.flatten(), log_probs
        params, values = self._params_and_values(obs, mask, learns=False)
        actions, log_probs = self.head.sample(params, noise)
        return actions, values, log_probs

    @without_gradients
    def learn(
        self, obs: Any, actions: Tensor, mask: Tensor | None, policy_loss: PolicyLoss, value_loss: ValueLoss
    ) -> None:
        """Add to the parameters' gradients those of a loss of these observations and actions, [B, …].

        Args:
            obs, actions, mask: of a minibatch.
            policy_loss: from log-probabilities and entropies, each [B], to the loss's derivatives by each of the former
                and by each of the latter, which are alike: a number, or float64 []. No entropies where there is no
                formula.
            value_loss: from values [B] to the loss's derivatives by each of them. It may be called in another thread.
        """
        head = self.head
        if self._manual is None or head is None:
            self._learn_by_autograd(obs, actions, mask, policy_loss, value_loss)
            return

        def by_params(params: Tensor) -> Tensor:
            found = head.log_prob_entropy(_masked(params, mask), actions)
            return head.backward(*policy_loss(*found))

        self._manual.learn(obs, [by_params, lambda values: value_loss(values.squeeze(1)).unsqueeze(1)], self._halves)

    def _learn_by_autograd(
        self, obs: Any, actions: Tensor, mask: Tensor | None, policy_loss: PolicyLoss, value_loss: ValueLoss
    ) -> None:
        if self.head is not None:
            with torch.enable_grad():
                params, values = self._params_and_values(obs, mask, learns=True)
            found = self.head.log_prob_entropy(params.detach(), actions)
            grad_params = self.head.backward(*policy_loss(*found))
            torch.autograd.backward([params, values], [grad_params, value_loss(values.detach())])
            return
        with torch.enable_grad():
            values, log_prob, entropy = self.policy.evaluate_actions(obs, actions)
            values = values.flatten()
        grad_log_prob, grad_entropy = policy_loss(log_prob.detach(), None if entropy is None else entropy.detach())
        leaves, grads = [values, log_prob], [value_loss(values.detach()), grad_log_prob]
        if entropy is not None and grad_entropy:  # skips the graph of entropies without weight
            leaves.append(entropy)
            grads.append(torch.full_like(entropy, float(grad_entropy)))
        torch.autograd.backward(leaves, grads)

    def act(self, obs: Any, rng: Rng | None, mask: Tensor | None = None) -> Tensor:
        """Actions within the action space: the most likely ones, or sampled with ``rng`` (one key per row)."""
        if mask is not None:
            self.require_masks()
        if self.head is not None and rng is not None:
            params, _ = self._params_and_values(obs, mask, learns=False)
            return self.for_env(self.head.sample(params, self.head.noise(rng))[0])
        if self.head is not None and mask is not None:
            return self.head.most_likely(self._params_and_values(obs, mask, learns=False)[0])
        return self.for_env(self.policy._predict(obs, deterministic=rng is None))

    def best(self, obs: Any, mask: Tensor | None = None) -> Tensor:
        """The most likely actions within the action space, as :meth:`act` gives them; without synchronisation."""
        if self.head is None:
            return self.act(obs, None, mask)
        return self.for_env(self.head.most_likely(self._params_and_values(obs, mask, learns=False)[0]))

    @without_gradients
    def logits_and_values(self, obs: Any, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits [B, A] of the actions of a Discrete space, and values [B], without gradients."""
        return self._params_and_values(obs, mask, learns=False)

    def values(self, obs: Any) -> Tensor:
        """Values [B], without gradients."""
        if self._manual is not None:
            return self._manual.infer(obs, slice(1, 2))[0].squeeze(1)
        return self.policy.predict_values(channels_last(obs)).flatten()

    def for_env(self, actions: Tensor) -> Tensor:
        """Gaussian samples have no bounds, the environment's actions do: clip (or unsquash) as SB3 does.

        They are in the environment's units then.
        """
        if self._bounds is None:
            return actions
        low, high = self._bounds
        actions = actions.view(-1, *low.shape)
        if self.policy.squash_output:
            return low + 0.5 * (actions + 1.0) * (high - low)
        if self.units is not None:
            actions = self.units.to_env(actions)
        return actions.clamp(low, high)

    def _params_and_values(self, obs: Any, mask: Tensor | None, learns: bool) -> tuple[Tensor, Tensor]:
        """The action net's output [B, P] and the values [B]: SB3's forward pass up to its distribution."""
        if self._manual is not None:
            params, values = self._manual.forward(obs) if learns else self._manual.infer(obs)
        else:
            params, values = self._through_modules(obs)
        return _masked(params, mask), values.squeeze(1)

    def _through_modules(self, obs: Any) -> tuple[Tensor, Tensor]:
        policy = self.policy
        features = policy.extract_features(channels_last(obs))
        if policy.share_features_extractor:
            latent_pi, latent_vf = policy.mlp_extractor(features)
        else:
            latent_pi = policy.mlp_extractor.forward_actor(features[0])
            latent_vf = policy.mlp_extractor.forward_critic(features[1])
        return policy.action_net(latent_pi), policy.value_net(latent_vf)


def _masked(params: Tensor, mask: Tensor | None) -> Tensor:
    """Logits of illegal actions are the lowest number there is: probability 0, and an entropy without NaN."""
    return params if mask is None else params.masked_fill(~mask, torch.finfo(params.dtype).min)


def overrides(policy: ActorCriticPolicy, *methods: str) -> bool:
    """True if the policy's class has one of these methods of its own instead of SB3's."""
    return any(getattr(type(policy), name) is not getattr(ActorCriticPolicy, name) for name in methods)


def _manual(policy: ActorCriticPolicy) -> ManualNetwork | None:
    """The policy's networks in hand-made form; None where they are of another kind."""
    extractor = policy.mlp_extractor
    if type(extractor) is not MlpExtractor or overrides(policy, "extract_features", "predict_values"):
        return None
    actor, critic = [extractor.policy_net, policy.action_net], [extractor.value_net, policy.value_net]
    if policy.share_features_extractor:
        return manual_network(policy, [policy.features_extractor], [actor, critic])
    return manual_network(policy, [], [[policy.pi_features_extractor, *actor], [policy.vf_features_extractor, *critic]])
