"""The Q-values of a network, computed for acting, for targets and for learning."""

from __future__ import annotations

from typing import Any

import torch
from stable_baselines3.dqn.policies import QNetwork
from torch import Tensor

from palaestra.agents.dense import DenseNetwork, dense_network, has_hooks
from palaestra.agents.networks import DuelingQNetwork


class QFunction:
    """A network of Q-values. Those that are fully connected go through :mod:`palaestra.agents.dense`."""

    def __init__(self, network: QNetwork) -> None:
        self.network, self._dense = network, _dense(network)
        self.parameters: list[Tensor] = [*network.parameters()]

    @torch.no_grad()
    def infer(self, obs: Any) -> Tensor:
        """Q-values [B, A], without gradients."""
        q_values: Tensor = self.network(obs) if self._dense is None else self._whole(self._dense.infer(obs))
        return q_values

    def forward(self, obs: Any) -> Tensor:
        """Q-values [B, A]; after the ``backward()`` of a loss of them comes :meth:`backward`."""
        q_values: Tensor = self.network(obs) if self._dense is None else self._whole(self._dense.forward(obs))
        return q_values

    def backward(self) -> None:
        """The rest of the way, from the loss to the parameters."""
        if self._dense is not None:
            self._dense.backward()

    def _whole(self, outputs: list[Tensor]) -> Tensor:
        return outputs[0] if len(outputs) == 1 else DuelingQNetwork.combined(*outputs)


def _dense(network: QNetwork) -> DenseNetwork | None:
    if has_hooks(network):
        return None
    if type(network) is QNetwork:
        return dense_network(network, [], [[network.features_extractor, network.q_net]])
    if type(network) is DuelingQNetwork:
        trunk = [network.features_extractor, network.q_net]
        return dense_network(network, trunk, [[network.value], [network.advantage]])
    return None
