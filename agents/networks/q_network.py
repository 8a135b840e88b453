"""The Q-values of a network, computed for acting, for targets and for learning."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor

from palaestra.agents.networks.extractors import DuelingQNetwork, channels_last
from palaestra.agents.networks.manual_mlp import ManualNetwork, without_gradients
from palaestra.agents.networks.manual_network import has_hooks, manual_network


class QFunction:
    """A network of Q-values. Those that are fully connected go through :mod:`palaestra.agents.networks.manual_mlp`."""

    def __init__(self, network: QNetwork) -> None:
        self.network, self._manual = network, _manual(network)
        self._latest: Tensor = torch.empty(0)  # Q-values, where autograd goes back from them
        self.is_dueling = type(network) is DuelingQNetwork

    @property
    def is_dense(self) -> bool:
        """True for fully connected networks."""
        return self._manual is not None and not self._manual.sees_images

    @without_gradients
    def infer(self, obs: Any) -> Tensor:
        """Q-values [B, A], without gradients."""
        if self._manual is not None:
            return self._whole(self._manual.infer(obs))
        q_values: Tensor = self.network(channels_last(obs))
        return q_values

    def forward(self, obs: Any) -> Tensor:
        """Q-values [B, A], without a graph; remembers what one :meth:`backward` needs."""
        if self._manual is not None:
            return self._whole(self._manual.forward(obs))
        with torch.enable_grad():
            self._latest = self.network(channels_last(obs))
        return self._latest.detach()

    @without_gradients
    def backward(self, grad_q_values: Tensor) -> None:
        """Add to the parameters' gradients those of a loss with these derivatives [B, A] by the latest Q-values."""
        if self._manual is None:
            torch.autograd.backward(self._latest, grad_q_values)
        elif self.is_dueling:
            self._manual.backward(DuelingQNetwork.parts_of(grad_q_values))
        else:
            self._manual.backward([grad_q_values])

    def _whole(self, outputs: list[Tensor]) -> Tensor:
        return DuelingQNetwork.combined(*outputs) if self.is_dueling else outputs[0]


def _manual(network: QNetwork) -> ManualNetwork | None:
    if has_hooks(network):
        return None
    if type(network) is QNetwork:
        return manual_network(network, [], [[network.features_extractor, network.q_net]])
    if type(network) is DuelingQNetwork:
        trunk = [network.features_extractor, network.q_net]
        return manual_network(network, trunk, [[network.value], [network.advantage]])
    return None
