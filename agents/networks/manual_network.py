"""Which networks of Stable-Baselines3 have a hand-made twin (:mod:`palaestra.agents.networks.manual_mlp`), and it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import is_image_space, preprocess_obs
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN
from torch import Tensor, nn

from palaestra.agents.networks import onednn
from palaestra.agents.networks.extractors import FourierFeatures, SharedMlp
from palaestra.agents.networks.manual_conv import ConvLayer, FlattenLayer, images
from palaestra.agents.networks.manual_mlp import (
    Activation,
    Chain,
    DenseLayer,
    Layer,
    ManualNetwork,
    NormLayer,
    Passing,
    ReLU,
    Tanh,
    TanhBySigmoid,
)
from palaestra.agents.networks.observation_norm import Normalized, RunningNorm

_FIXED = (nn.Flatten, FourierFeatures, RunningNorm)  # nothing in them is learned by gradients


def manual_network(
    model: BaseModel, trunk: Iterable[nn.Module], branches: Sequence[Iterable[nn.Module]]
) -> ManualNetwork | None:
    """The hand-made twin of a network of SB3's; None if a module has no twin here, and autograd must do.

    A branch may be the last layers only, or all of them after an empty trunk.
    """
    space = model.observation_space
    prepare: Any = functools.partial(preprocess_obs, observation_space=space, normalize_images=model.normalize_images)
    if isinstance(space, spaces.Box) and not is_image_space(space):
        prepare = Tensor.float  # what the rules of SB3 come to, without looking them up at each call
    is_flat = isinstance(space, spaces.Box) and len(space.shape) == 1
    stem = _chain(trunk, Passing(), False, is_flat)
    passing = Passing()  # one after the other, the branches share it
    limbs = [_chain(branch, passing, True, is_flat) for branch in branches]
    found = [limb for limb in limbs if limb is not None and limb.layers]
    if stem is None or len(found) < len(limbs) or (stem.layers and any(limb._fixed for limb in found)):
        return None
    network = ManualNetwork(prepare, stem, found)
    if network.sees_images:
        if not isinstance(space, spaces.Box) or not all(c.sees_images for c in ([stem] if stem.layers else found)):
            return None
        network.prepare = functools.partial(images, scaled=model.normalize_images and is_image_space(space))
    return network


def _chain(modules: Iterable[nn.Module], passing: Passing, is_output: bool, is_flat: bool) -> Chain | None:
    flat = [*flattened_layers(modules)]
    if any(has_hooks(module) for module in flat):
        return None
    if is_flat and flat and type(flat[0]) is nn.Flatten:
        flat = flat[1:]  # it has nothing to do
    fixed = 0
    while fixed < len(flat) and type(flat[fixed]) in _FIXED:
        fixed += 1
    learned, layers = flat[fixed:], []
    shows_images = bool(learned) and type(learned[0]) is nn.Conv2d
    if shows_images and fixed:
        return None
    if is_output and learned and type(learned[-1]) is not nn.Linear:
        return None
    while learned:
        module, learned = learned[0], learned[1:]
        follows = _activation(learned[0], _device_of(module)) if learned else None
        if follows is not None:
            learned = learned[1:]
        follows = follows or Activation()
        layer: Layer | None
        if shows_images:
            layer = ConvLayer.twin_of(module, follows) or FlattenLayer.twin_of(module)
            shows_images = type(layer) is ConvLayer
        else:
            layer = _layer(module, follows, is_output and not learned, passing)
        if layer is None:
            return None
        layers.append(layer)
    return Chain(flat[:fixed], layers)


def _device_of(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def flattened_layers(modules: Iterable[nn.Module]) -> Iterable[nn.Module]:
    """The layers in their order, out of containers and extractors whose inside is known."""
    for module in modules:
        if type(module) is nn.Sequential and not has_hooks(module):
            yield from flattened_layers(module)
        elif type(module) is FlattenExtractor:
            yield module.flatten
        elif type(module) is NatureCNN:
            yield from flattened_layers([module.cnn, module.linear])
        elif type(module) is SharedMlp:
            yield from flattened_layers(module.layers)
        elif type(module) is Normalized and module.keys in ([""], []):
            yield from module.norms
            yield from flattened_layers([module.extractor])
        else:
            yield module


def has_hooks(module: nn.Module) -> bool:
    """True if a hook on the module's calls is registered."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name, None) for name in names)


def _layer(module: nn.Module, activation: Activation, is_output: bool, passing: Passing) -> Layer | None:
    if type(module) is nn.Linear and module.bias is not None:
        return DenseLayer(module, activation, is_output, passing)
    if type(module) is nn.LayerNorm and module.bias is not None and not isinstance(activation, Tanh):
        return NormLayer(module, activation)
    return None


def _activation(module: nn.Module, device: torch.device) -> Activation | None:
    """The hand-made twin of an activation; None for other modules."""
    if type(module) is nn.Tanh:
        return TanhBySigmoid() if device.type == "cpu" and not onednn.has_fast_tanh() else Tanh()
    return ReLU() if type(module) is nn.ReLU else None
