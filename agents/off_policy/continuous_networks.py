"""The networks of Stable-Baselines3's SAC and TD3, computed for acting, for targets and for learning.

1. The parameters are the policy's own. Fully connected networks on flat observations go through
   :mod:`palaestra.agents.networks.manual_mlp`, others through their modules and autograd.
2. A critic's gradient by the actions, for the actor's loss, leaves out what autograd computes beside it and SB3 throws
   away: that by the critic's weights.
3. The squashed Gaussian is SB3's, number for number, without ``torch.distributions``, whose checks wait for the device:
   u = μ + σ ε, a = tanh u, log π(a) = Σ log N(u; μ, σ) − Σ log(1 − a² + 10⁻⁶), log σ clamped to −20 … 2.

Source: Haarnoja et al., "Soft actor-critic algorithms and applications", 2018 (arXiv 1812.05905), appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel, ContinuousCritic
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN
from stable_baselines3.sac.policies import Actor as GaussianActor
from stable_baselines3.td3.policies import Actor as TanhActor
from torch import Tensor, nn

from palaestra.agents.networks.manual_mlp import ManualNetwork, without_gradients
from palaestra.agents.networks.manual_network import has_hooks, manual_network

_SMALL = 1e-6  # SB3's, in the logarithm of the squashing's derivative
_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def _is_flat(model: BaseModel) -> bool:
    """True if the model's features are its observations, in one row."""
    space = model.observation_space
    boxed = isinstance(space, spaces.Box) and not is_image_space(space)
    return boxed and type(model.features_extractor) is FlattenExtractor and not has_hooks(model)


def in_box(actions: Tensor, low: Tensor, half: Tensor) -> Tensor:
    """Actions [N, A] in −1 … 1 in the units of a Box, [N, …], as SB3's ``unscale_action`` has them.

    Args:
        low: the Box's lower bounds, […].
        half: half of its range, […].
    """
    return low + (actions.view(-1, *low.shape) + 1.0) * half


class Critics:
    """The networks of a ``ContinuousCritic``: values [K, B] of actions [B, A] in −1 … 1."""

    def __init__(self, critic: ContinuousCritic) -> None:
        self.critic = critic
        self._parameters = [*critic.parameters()]
        known = type(critic) is ContinuousCritic and _is_flat(critic)
        self._manual = manual_network(critic, [], [[q] for q in critic.q_networks]) if known else None
        self._latest: Tensor = torch.empty(0)  # values, where autograd goes back from them

    @without_gradients
    def infer(self, obs: Any, actions: Tensor) -> Tensor:
        """Values [K, B], without gradients."""
        return self._values(obs, actions) if self._manual is None else _rows(self._manual.infer(_joined(obs, actions)))

    def forward(self, obs: Any, actions: Tensor) -> Tensor:
        """Values [K, B], without a graph; remembers what one :meth:`backward` needs."""
        if self._manual is not None:
            return _rows(self._manual.forward(_joined(obs, actions)))
        with torch.enable_grad():
            self._latest = self._values(obs, actions)
        return self._latest.detach()

    @without_gradients
    def backward(self, grad: Tensor) -> None:
        """Add to the parameters' gradients those of a loss with these derivatives [K, B] by the latest values."""
        if self._manual is None:
            torch.autograd.backward(self._latest, grad)
        else:
            self._manual.backward([row.unsqueeze(1) for row in grad])

    def by_actions(
        self, obs: Any, actions: Tensor, derivative: Callable[[Tensor], Tensor], only_first: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Values [K, B], and a loss's derivatives by the actions [B, A]; the parameters' gradients stay as they are.

        Args:
            obs, actions: [B, …].
            derivative: of the loss by the values, [K, B], from these.
            only_first: of the first network only, so that K is 1.
        """
        learning = [parameter.requires_grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.requires_grad_(False)
        try:
            if self._manual is not None:
                return self._by_actions(self._manual, obs, actions, derivative, only_first)
            with torch.enable_grad():
                inputs = actions.detach().requires_grad_()
                values = self._values(obs, inputs, only_first)
            (grad,) = torch.autograd.grad(values, inputs, derivative(values.detach()))
            return values.detach(), grad
        finally:
            for parameter, learns in zip(self._parameters, learning, strict=True):
                parameter.requires_grad_(learns)

    @without_gradients
    def _by_actions(
        self,
        manual: ManualNetwork,
        obs: Any,
        actions: Tensor,
        derivative: Callable[[Tensor], Tensor],
        only_first: bool,
    ) -> tuple[Tensor, Tensor]:
        joined, networks = _joined(obs, actions), slice(0, 1 if only_first else None)
        values = _rows(manual.forward(joined, networks))
        return values, manual.input_gradient([r.unsqueeze(1) for r in derivative(values)])[:, -actions.shape[1] :]

    def _values(self, obs: Any, actions: Tensor, only_first: bool = False) -> Tensor:
        found = (self.critic.q1_forward(obs, actions),) if only_first else self.critic(obs, actions)
        return torch.cat(found, 1).t()


def _joined(obs: Tensor, actions: Tensor) -> Tensor:
    return torch.cat((obs.flatten(1).float(), actions), 1)


def _rows(columns: list[Tensor]) -> Tensor:
    return torch.cat(columns, 1).t()


class _Actor:
    """The actor's outputs [B, A], one or two of them."""

    is_dense: bool

    def __init__(self, actor: Any, manual: ManualNetwork | None) -> None:
        self.actor, self._manual = actor, manual
        self.is_dense = manual is not None and not manual.sees_images
        self._latest: list[Tensor] = []

    @without_gradients
    def infer(self, obs: Any) -> list[Tensor]:
        """The outputs, without gradients."""
        return self._outputs(obs) if self._manual is None else self._manual.infer(obs)

    def forward(self, obs: Any) -> list[Tensor]:
        """The outputs, without a graph; remembers what one :meth:`backward` needs."""
        if self._manual is not None:
            return self._manual.forward(obs)
        with torch.enable_grad():
            self._latest = self._outputs(obs)
        return [output.detach() for output in self._latest]

    @without_gradients
    def backward(self, grads: list[Tensor]) -> None:
        """Add to the parameters' gradients those of a loss with these derivatives [B, A] by the latest outputs."""
        if self._manual is None:
            torch.autograd.backward(self._latest, grads)
        else:
            self._manual.backward(grads)

    def _outputs(self, obs: Any) -> list[Tensor]:
        raise NotImplementedError


class SquashedGaussian(_Actor):
    """SAC's actor: the outputs are μ and log σ before it is clamped."""

    def __init__(self, actor: GaussianActor) -> None:
        parts: tuple[Iterable[nn.Module], Any] = (
            [actor.features_extractor, actor.latent_pi],
            [[actor.mu], [actor.log_std]],
        )
        super().__init__(
            actor, manual_network(actor, *parts) if type(actor) is GaussianActor and _is_flat(actor) else None
        )

    def best(self, obs: Any) -> Tensor:
        """The actions of the mean, [B, A] in −1 … 1."""
        return self.infer(obs)[0].tanh()

    def sample(self, obs: Any, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Actions [B, A] and their log-densities [B], for standard normal noise [B, A]."""
        mean, log_std = self.infer(obs)
        return squashed(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX), noise)

    def learn(self, obs: Any, noise: Tensor, loss: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        """Set the parameters' gradients; the log-densities [B] of the actions with that noise [B, A].

        Args:
            obs, noise: [B, …].
            loss: gives its derivatives by the actions [B, A], other than through their log-densities, and by these [B].
        """
        mean, raw = self.forward(obs)
        log_std = raw.clamp(LOG_STD_MIN, LOG_STD_MAX)
        actions, log_prob = squashed(mean, log_std, noise)
        grad_actions, grad_log_prob = loss(actions, log_prob)
        grad_log_prob = grad_log_prob.unsqueeze(1)
        slope = 1.0 - actions.square()
        grad_mean = (grad_actions + grad_log_prob * 2.0 * actions / (slope + _SMALL)) * slope
        grad_log_std = grad_mean * noise * log_std.exp() - grad_log_prob
        inside = (raw >= LOG_STD_MIN) & (raw <= LOG_STD_MAX)
        self.backward([grad_mean, grad_log_std * inside])
        return log_prob

    def _outputs(self, obs: Any) -> list[Tensor]:
        latent = self.actor.latent_pi(self.actor.extract_features(obs, self.actor.features_extractor))
        return [self.actor.mu(latent), self.actor.log_std(latent)]


def squashed(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions [B, A] in −1 … 1 and their log-densities [B], from μ, log σ and standard normal noise, each [B, A]."""
    actions = (mean + log_std.exp() * noise).tanh()
    log_normal = (-0.5 * noise.square() - log_std - _HALF_LOG_TWO_PI).sum(1)
    return actions, log_normal - (1.0 - actions.square() + _SMALL).log().sum(1)


class Deterministic(_Actor):
    """TD3's actor: the output is the action before the tangent."""

    def __init__(self, actor: TanhActor) -> None:
        known = type(actor) is TanhActor and _is_flat(actor) and type(actor.mu[-1]) is nn.Tanh
        layers: list[nn.Module] = [*actor.mu][:-1] if known else []
        manual = manual_network(actor, [], [[actor.features_extractor, *layers]]) if known else None
        super().__init__(actor, manual)

    def best(self, obs: Any) -> Tensor:
        """The actions [B, A] in −1 … 1."""
        return self.infer(obs)[0].tanh()

    def learn(self, obs: Any, loss: Callable[[Tensor], Tensor]) -> None:
        """Set the parameters' gradients, from a loss's derivatives [B, A] by the actions [B, A]."""
        (raw,) = self.forward(obs)
        actions = raw.tanh()
        self.backward([loss(actions) * (1.0 - actions.square())])

    def _outputs(self, obs: Any) -> list[Tensor]:
        features = self.actor.extract_features(obs, self.actor.features_extractor)
        return [self.actor.mu[:-1](features)]
