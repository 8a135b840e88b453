"""A policy as one network: what an environment observes goes in, and an action that it takes comes out.

All that stands between the two is inside: images turned to channels first, choices counted from 0, normalisation,
Fourier features, the networks, action masks, the action's units and its bounds. There is no random number: the action
is the most likely one (PPO) or the one of the largest Q-value. With ``distribution`` there are more outputs, from which
actions can be sampled.

| agent, actions | further outputs |
|---|---|
| PPO, Discrete or MultiDiscrete | ``log_probabilities`` [B, A], of the choices one after another; ``value`` [B] |
| PPO, MultiBinary | ``probabilities`` of 1, [B, A]; ``value`` [B] |
| PPO, Box | ``mean`` and ``deviation`` [B, *shape] in the environment's units, before clipping; ``value`` [B] |
| DQN, PQN | ``q_values`` [B, A], −∞ for actions that the mask forbids |
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.sac.policies import Actor as GaussianActor
from stable_baselines3.td3.policies import Actor as TanhActor
from torch import Tensor, nn

from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.agents.networks.actor_critic import overrides
from palaestra.agents.off_policy.continuous_agent import ContinuousAgent
from palaestra.agents.off_policy.continuous_networks import in_box
from palaestra.agents.ppo import PPO
from palaestra.agents.q_learning import QLearning, masked

OBSERVATION, MASK = "observation", "action_mask"
_LOWEST = torch.finfo(torch.float32).min  # of the logits of illegal actions


class ExportError(ValueError):
    """The policy cannot be taken out of this suite; the message says why."""


class PolicyNetwork(nn.Module):
    """The policy of a model as a module that ``torch.export`` traces.

    Attributes:
        inputs: names of the inputs: ``observation``, or the keys of a dictionary of them, and then ``action_mask``.
        outputs: names of the outputs; ``action`` is the first.
    """

    def __init__(
        self,
        model: OnDeviceAlgorithm,
        with_mask: bool = False,
        distribution: bool = False,
        channels_last: Collection[str] = (),
    ) -> None:
        """
        Args:
            model: the agent; its networks are shared, not copied.
            with_mask: the last input is the mask of legal actions, bool [B, A].
            distribution: whether there are further outputs.
            channels_last: inputs whose images the environment gives as [B, H, W, C].

        Raises:
            ExportError: if the policy is of a kind of its own, or has no distribution that can be written down.
        """
        super().__init__()
        self._numbering, self._with_mask, self._distribution = model._numbering, with_mask, distribution
        self._turned = frozenset(channels_last)
        self._low: Tensor
        self._half: Tensor
        space = model.observation_space
        self._keys = list(space.spaces) if isinstance(space, spaces.Dict) else None
        self.inputs = [*(self._keys or [OBSERVATION]), *([MASK] if with_mask else [])]
        self.policy: Any
        if isinstance(model, PPO):
            self._actor_critic = model._actor_critic
            self.policy = model.policy
            _check_actor(self.policy, distribution, with_mask)
        elif isinstance(model, QLearning):
            self.policy = model._average or model.q_net
        elif isinstance(model, ContinuousAgent):
            self.policy = model.actor
            self.register_buffer("_low", model._low, persistent=False)
            self.register_buffer("_half", model._half, persistent=False)
            _check_continuous(self.policy, distribution)
        else:
            raise ExportError(f"how to export the policy of {type(model).__name__} is not known")
        self._learns_values = isinstance(model, QLearning)
        self._is_continuous = isinstance(model, ContinuousAgent)
        self.outputs = ["action", *(self._more_outputs() if distribution else [])]
        if taken := {*(self._keys or ())} & {*([MASK] if with_mask else ()), *self.outputs}:
            name = min(taken)
            what = "the mask's input" if name == MASK else "an output"
            raise ExportError(f"the observation has an entry called {name}, which is the name of {what}")
        self.eval()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs, for a batch [B, …] of each input."""
        mask = inputs[-1] if self._with_mask else None
        seen = [x.movedim(-1, 1) if name in self._turned else x for name, x in zip(self.inputs, inputs, strict=True)]
        obs = seen[0] if self._keys is None else dict(zip(self._keys, seen, strict=False))
        obs = self._numbering.from_env(obs)
        if self._is_continuous:
            return (self._numbering.to_env(self._of_actor(obs)),)
        action, more = self._greedy(obs, mask) if self._learns_values else self._most_likely(obs, mask)
        return (self._numbering.to_env(action), *(more if self._distribution else ()))

    def _greedy(self, obs: Any, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        q_values = masked(self.policy(obs), mask)
        return q_values.argmax(1), [q_values]

    def _of_actor(self, obs: Any) -> Tensor:
        """Actions of SAC's or TD3's actor without chance, in the Box."""
        features = self.policy.extract_features(obs, self.policy.features_extractor)
        gaussian = isinstance(self.policy, GaussianActor)
        squashed = self.policy.mu(self.policy.latent_pi(features)).tanh() if gaussian else self.policy.mu(features)
        return in_box(squashed, self._low, self._half)

    def _most_likely(self, obs: Any, mask: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        features = self.policy.extract_features(obs)
        of_actor, of_critic = (features,) * 2 if self.policy.share_features_extractor else features
        params = self.policy.action_net(self.policy.mlp_extractor.forward_actor(of_actor))
        if mask is not None:
            params = params.masked_fill(~mask, _LOWEST)
        head = self._actor_critic.head
        if head is None:  # noise that depends on the state: the mean
            return self._actor_critic.for_env(params.tanh() if self.policy.squash_output else params), []
        action = self._actor_critic.for_env(head.most_likely(params))
        if not self._distribution:
            return action, []
        value = self.policy.value_net(self.policy.mlp_extractor.forward_critic(of_critic)).flatten()
        return action, [*self._distribution_of(params), value]

    def _distribution_of(self, params: Tensor) -> list[Tensor]:
        space = self.policy.action_space
        if isinstance(space, spaces.Discrete):
            return [params.log_softmax(1)]
        if isinstance(space, spaces.MultiDiscrete):
            return [
                torch.cat([part.log_softmax(1) for part in torch.split(params, [int(n) for n in space.nvec], 1)], 1)
            ]
        if isinstance(space, spaces.MultiBinary):
            return [params.sigmoid()]
        mean, deviation = params.view(-1, *space.shape), self.policy.log_std.exp().view(space.shape)
        if (units := self._actor_critic.units) is not None:
            mean, deviation = units.to_env(mean), deviation * units.half
        return [mean, deviation.expand_as(mean).clone()]

    def _more_outputs(self) -> list[str]:
        if self._learns_values:
            return ["q_values"]
        if isinstance(self.policy.action_space, spaces.MultiBinary):
            return ["probabilities", "value"]
        is_box = isinstance(self.policy.action_space, spaces.Box)
        return [*(["mean", "deviation"] if is_box else ["log_probabilities"]), "value"]


def _check_continuous(actor: Any, distribution: bool) -> None:
    """Raise an ExportError unless the actor is computed as Stable-Baselines3's are."""
    if type(actor) not in (GaussianActor, TanhActor):
        raise ExportError(f"{type(actor).__name__} has a forward pass that is not known to be that of its layers")
    if distribution:
        raise ExportError("a squashed distribution has no mean and deviation to export: leave the distribution out")


def _check_actor(policy: Any, distribution: bool, with_mask: bool) -> None:
    """Raise an ExportError unless the policy is computed as Stable-Baselines3's are."""
    name = type(policy).__name__
    if overrides(policy, "forward", "extract_features", "_predict", "get_distribution", "_get_action_dist_from_latent"):
        raise ExportError(f"{name} has a forward pass of its own, which is not known to be that of its layers")
    depends = isinstance(policy.action_dist, StateDependentNoiseDistribution)
    if depends and distribution:
        raise ExportError("noise that depends on the state (use_sde) is not exported: leave the distribution out")
    if depends and with_mask:
        raise ExportError(f"{name} does not keep to action masks")
