"""Fully connected networks whose weights are tied so that they commute with a symmetry group exactly.

For each element g of the group, what the network says of the image of an observation is the image of what it says of
the observation: values stay, logits and Q-values of actions change places as the actions do, means of a Box too, with
their signs (``symmetry="equivariant"``).

1. Hidden layers are made of groups of G units, which g moves around as it moves the group's own elements; units left
   over stay in their places. A linear layer W commutes if W[j, i] is the same, but for signs, along the orbit of (j, i)
   under the group: where both ends are moved.
2. The network is an ordinary one with equal numbers in it: it costs what it cost before, is saved, exported and loaded
   by whatever read it before, and has a G-th of the free weights. Gradients are averaged over each orbit, so that what
   was equal stays equal under every optimizer that treats numbers alike.
3. Fresh weights are those of the orbit's first member: they scatter as an ordinary network's do.

Source: Cohen and Welling, "Group equivariant convolutional networks", ICML 2016 (units that a group permutes); van der
Pol et al., "MDP homomorphic networks: group symmetries in reinforcement learning", NeurIPS 2020 (policies).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import MlpExtractor
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import Tensor, nn

from palaestra.agents.networks.extractors import DuelingQNetwork, FourierFeatures
from palaestra.agents.networks.manual_network import flattened_layers
from palaestra.envs.core.symmetries import SignedPermutation, SymmetryGroup

_ELEMENTWISE = (nn.Tanh, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.Sigmoid, nn.Identity)
_LARGEST_DIFFERENCE = 1e-4  # between tied weights of a file, relative to the largest

Moved = Sequence[SignedPermutation]  # how each element of the group moves the numbers between two layers


class TiedWeights:
    """The orbits of a policy's parameters, all in one vector."""

    def __init__(self, policy: BasePolicy, group: SymmetryGroup) -> None:
        """Raises a ValueError, in one line, where a part of the policy cannot be tied."""
        self._group = group
        self._forms: dict[nn.Parameter, _Form] = {}
        self._copies: list[tuple[nn.Module, nn.Module]] = []  # networks with the weights of others
        if isinstance(policy, ActorCriticPolicy):
            self._tie_actor_critic(policy)
            self._require_all(policy)
        elif isinstance(policy, DQNPolicy):
            self._tie_q_network(policy.q_net)
            self._require_all(policy.q_net)
            self._copies = [(policy.q_net, policy.q_net_target)]
        self._parameters = [*self._forms]
        self._orbits = _Orbits(*_joined([*self._forms.values()]), device=policy.device)

    def tie(self) -> None:
        """Make the weights equal that are to be equal: those of the first member of each orbit."""
        weights = [parameter.data for parameter in self._parameters]
        self._put(weights, self._orbits.spread(_vector(weights)[self._orbits.first]))
        for network, twin in self._copies:
            twin.load_state_dict(network.state_dict())

    def are_tied(self) -> bool:
        """True if the weights are equal that are to be equal, but for rounding."""
        weights = _vector([parameter.data for parameter in self._parameters])
        if weights.is_meta:
            return True  # it has no numbers
        apart = (self._orbits.spread(weights[self._orbits.first]) - weights).abs().max()
        return bool(apart <= _LARGEST_DIFFERENCE * weights.abs().max())

    def fold_gradients(self) -> None:
        """Average the gradients over each orbit."""
        grads = [p.grad if p.grad is not None else torch.zeros_like(p.data) for p in self._parameters]
        self._put(grads, self._orbits.averaged(_vector(grads)))

    @property
    def free_weights(self) -> int:
        """The number of weights that are not equal to others."""
        return len(self._orbits.first)

    def _put(self, tensors: list[Tensor], vector: Tensor) -> None:
        pieces = torch.split(vector, [tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [piece.view(t.shape) for piece, t in zip(pieces, tensors, strict=True)])

    def _tie_actor_critic(self, policy: ActorCriticPolicy) -> None:
        extractor, group = policy.mlp_extractor, self._group
        if type(extractor) is not MlpExtractor:
            raise _untied(extractor)
        actor, critic = [extractor.policy_net, policy.action_net], [extractor.value_net, policy.value_net]
        if policy.share_features_extractor:
            seen = self._walk([policy.features_extractor], group.observations)
            ahead = [(seen, actor), (seen, critic)]
        else:
            parts = (policy.pi_features_extractor, actor), (policy.vf_features_extractor, critic)
            ahead = [(self._walk([extractor], group.observations), layers) for extractor, layers in parts]
        for (seen, layers), says in zip(ahead, (group.actions, self._unmoved(1)), strict=True):
            self._walk(layers, seen, says)
        if isinstance(spread := getattr(policy, "log_std", None), nn.Parameter):
            self._add(spread, [SignedPermutation(part.places) for part in group.actions])

    def _tie_q_network(self, network: QNetwork) -> None:
        seen, group = self._walk([network.features_extractor], self._group.observations), self._group
        if isinstance(network, DuelingQNetwork):
            seen = self._walk([network.q_net], seen)
            self._walk([network.value], seen, self._unmoved(1))
            self._walk([network.advantage], seen, group.actions)
        else:
            self._walk([network.q_net], seen, group.actions)

    def _walk(self, modules: Iterable[nn.Module], moved: Moved, says: Moved | None = None) -> Moved:
        """Tie the layers, and tell how what comes out of them is moved; ``says`` is how it is to be."""
        layers = [*flattened_layers(modules)]
        last = max((k for k, layer in enumerate(layers) if isinstance(layer, nn.Linear)), default=-1)
        for k, layer in enumerate(layers):
            if isinstance(layer, nn.Linear):
                after = says if says is not None and k == last else self._regular(layer.out_features)
                self._add(layer.weight, after, moved)
                self._add(layer.bias, after)
                moved = after
            elif isinstance(layer, nn.LayerNorm) and layer.normalized_shape == (len(moved[0]),):
                self._add(layer.weight, moved)
                self._add(layer.bias, moved)
            elif isinstance(layer, FourierFeatures):
                moved = [_with_waves(part, layer.octaves) for part in moved]
            elif not isinstance(layer, (nn.Flatten, *_ELEMENTWISE)):
                raise _untied(layer)
        return moved

    def _regular(self, width: int) -> Moved:
        """How the units of a hidden layer are moved."""
        size, moved = len(self._group), []
        for element in range(size):
            places = [k - k % size + self._group.products[k % size][element] for k in range(width - width % size)]
            moved.append(SignedPermutation((*places, *range(len(places), width))))
        return moved

    def _unmoved(self, width: int) -> Moved:
        return [SignedPermutation.identity(width)] * len(self._group)

    def _add(self, parameter: Any, rows: Moved, columns: Moved | None = None) -> None:
        if parameter is not None:
            self._forms[parameter] = _form(rows, columns or self._unmoved(1))

    def _require_all(self, network: nn.Module) -> None:
        for name, parameter in network.named_parameters():
            if parameter not in self._forms:
                raise _untied(network.get_submodule(name.rpartition(".")[0]))


_Form = tuple[Tensor, Tensor]  # int64 [G, P] and float [G, P]: each number is equal to that one times the sign


def _form(rows: Moved, columns: Moved) -> _Form:
    """Of a matrix whose rows and columns each element of the group moves like that."""
    members, signs = [], []
    for row, column in zip(rows, columns, strict=True):
        (r, r_sign), (c, c_sign) = ((torch.tensor(m.places), torch.tensor(m.signs).float()) for m in (row, column))
        members.append((r.unsqueeze(1) * len(column) + c).flatten())
        signs.append((r_sign.unsqueeze(1) * c_sign).flatten())
    return torch.stack(members), torch.stack(signs)


def _joined(forms: Sequence[_Form]) -> _Form:
    """Of all numbers behind one another."""
    sizes = [members.shape[1] for members, _ in forms]
    starts = itertools.accumulate(sizes, initial=0)
    members = torch.cat([members + start for (members, _), start in zip(forms, starts, strict=False)], 1)
    return members, torch.cat([signs for _, signs in forms], 1)


def _vector(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


class _Orbits:
    """The orbits of P numbers, R in all."""

    def __init__(self, members: Tensor, signs: Tensor, device: torch.device) -> None:
        whole = torch.arange(members.shape[1])
        nearest, element = members.min(0)
        first, place = torch.unique(nearest, return_inverse=True)
        # a number that is its own opposite is 0
        is_zero = ((members == whole) & (signs < 0)).any(0)
        factors = signs.gather(0, element.unsqueeze(0)).squeeze(0).masked_fill(is_zero, 0.0)
        self._has_factors = bool((factors != 1.0).any())
        self._factors = factors.to(device)
        self._place, self.first = place.to(device), first.to(device)
        self._members = members[:, first].T.flatten().to(device)
        self._signs = signs[:, first].T.contiguous().to(device)

    def spread(self, numbers: Tensor) -> Tensor:
        """The numbers [P] of orbits whose first members have these [R]."""
        spread = numbers.index_select(0, self._place)
        return spread * self._factors if self._has_factors else spread

    def averaged(self, numbers: Tensor) -> Tensor:
        """The mean over each orbit, at each of its members, [P]."""
        gathered = numbers.index_select(0, self._members).view(self._signs.shape)
        return self.spread((gathered * self._signs if self._has_factors else gathered).mean(1))


def _with_waves(part: SignedPermutation, octaves: int) -> SignedPermutation:
    """How x, sin x, cos x, sin 2x … are moved as x is."""
    whole = part
    for _ in range(octaves):
        whole = SignedPermutation(part.places).behind(part.behind(whole))  # a cosine keeps its sign
    return whole


def _untied(module: nn.Module) -> ValueError:
    return ValueError(
        f'symmetry="equivariant" ties the weights of linear layers, not those of {type(module).__name__}: '
        'use symmetry="augment"'
    )
