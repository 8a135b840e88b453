"""Fully connected networks with forward and backward passes by hand, in memory that is reused.

1. The parameters are those of the policy's own modules, and the numbers are autograd's, but for rounding. What autograd
   spends its time on beside the arithmetic is left out: fresh memory for every intermediate result, which has left the
   caches when it is needed again, and a node of a graph per operation.
2. The gradient of a weight matrix, a product over all rows of a batch, is computed in the orientation that puts the
   thinner factor first, and in parts. On a CPU this is 4 to 10 times as fast for the few inputs or outputs of a first
   or last layer.
3. On a CPU tanh x is computed as 2 σ(2x) − 1, to within 2.5e-7: PyTorch's sigmoid is ten times as fast as its tanh.
   Large products are oneDNN's, activation included, where that is the faster library
   (:mod:`palaestra.agents.networks.onednn`).
4. Memory is touched as little as possible, for what does not fit into the caches is slow: activations work in place,
   and what flows backward takes the place of what flowed forward.
5. Layers: Linear, LayerNorm, Tanh, ReLU; before the first of them anything without parameters to learn. Networks with
   others (convolutions, a user's own) are left to autograd; see :func:`dense_network`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import torch
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn

from palaestra.agents.networks import onednn
from palaestra.agents.networks.extractors import FourierFeatures, SharedMlp
from palaestra.agents.networks.observation_norm import Normalized, RunningNorm

_FIXED = (nn.Flatten, FourierFeatures, RunningNorm)  # nothing in them is learned by gradients
_PARTS, _ROWS_TO_SPLIT = 4, 1024  # a product over rows on a CPU is split; fewer rows gain nothing


def gradient_of(parameter: Tensor) -> Tensor:
    """The memory of a parameter's gradient, with any contents."""
    if parameter.grad is None:
        parameter.grad = torch.empty_like(parameter)
    return parameter.grad


class Layer(Protocol):
    def infer(self, x: Tensor) -> Tensor:
        """[B, in] → [B, out]."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, in] → [B, out]; remembers what :meth:`backward` needs."""

    def backward(self, grad: Tensor, to_input: bool) -> Tensor:
        """Set the parameters' gradients; the input's gradient, if asked for."""


class _Matrix:
    """A reused matrix; it is allocated anew for more rows than ever before, or another dtype or device."""

    def __init__(self) -> None:
        self._kept = self._given = torch.empty(0, 0)
        self._form: tuple[Any, ...] = ()

    def __call__(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """[rows, columns], with any contents."""
        form = (rows, columns, like.dtype, like.device)
        if form != self._form:
            if form[1:] != self._form[1:] or self._kept.shape[0] < rows:
                self._kept = torch.empty(rows, columns, dtype=like.dtype, device=like.device)
            self._form, self._given = form, self._kept[:rows]
        return self._given


class _Passing:
    """Memory for the outputs of layers that the next layer consumes: two matrices of each width, in turns."""

    def __init__(self) -> None:
        self._pairs: dict[int, tuple[_Matrix, _Matrix]] = {}

    def __call__(self, rows: int, columns: int, beside: Tensor) -> Tensor:
        """One of the two matrices, not the one that is ``beside``."""
        pair = self._pairs.setdefault(columns, (_Matrix(), _Matrix()))
        first = pair[0](rows, columns, beside)
        return pair[1](rows, columns, beside) if first is beside else first


class _Identity:
    """An activation, which works in place on ``factor`` times its input."""

    name, factor = "none", 1

    def apply(self, x: Tensor) -> Tensor:
        return x

    def backward(self, grad: Tensor, output: Tensor) -> Tensor:
        """The input's gradient, where the output was."""
        return grad


class _Tanh(_Identity):
    name, factor = "tanh", 2  # a layer before it can double its output at no cost

    def __init__(self) -> None:
        self._minus_one = torch.tensor(-1.0)

    def apply(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return x.mul_(0.5).tanh_()
        if self._minus_one.dtype != x.dtype:
            self._minus_one = self._minus_one.to(x.dtype)
        return torch.add(self._minus_one, x.sigmoid_(), alpha=2, out=x)

    def backward(self, grad: Tensor, output: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward.grad_input(grad, output, grad_input=output)  # type: ignore[no-any-return]


class _ReLU(_Identity):
    name = "relu"

    def apply(self, x: Tensor) -> Tensor:
        return x.relu_()

    def backward(self, grad: Tensor, output: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=output)  # type: ignore[no-any-return]


class _Linear:
    def __init__(self, module: nn.Linear, activation: _Identity, is_output: bool, passing: _Passing) -> None:
        self.module, self._activation = module, activation
        self._is_output = is_output  # it leaves the network, so it gets memory of its own
        self._passing, self._kept = passing, _Matrix()
        self._parts, self._turned, self._has_onednn = _Matrix(), _Matrix(), onednn.is_faster()

    def infer(self, x: Tensor) -> Tensor:
        return self._apply(x, self._passing)

    def forward(self, x: Tensor) -> Tensor:
        self._input, self._output = x, self._apply(x, self._kept)
        return self._output

    def _apply(self, x: Tensor, memory: _Matrix | _Passing) -> Tensor:
        weight, bias, activation = self.module.weight, self.module.bias, self._activation
        if self._has_onednn and onednn.multiplies(x, len(bias)):
            return onednn.linear(x, weight, bias, activation.name)
        out = None if self._is_output else memory(x.shape[0], len(bias), x)
        return activation.apply(
            torch.addmm(bias, x, weight.t(), beta=activation.factor, alpha=activation.factor, out=out)
        )

    def backward(self, grad: Tensor, to_input: bool) -> Tensor:
        grad = self._activation.backward(grad, self._output)
        self._learn(grad)
        if not to_input:
            return grad
        weight = self.module.weight
        if self._has_onednn and onednn.multiplies(grad, weight.shape[1]):
            return onednn.linear(grad, weight.t())
        return torch.mm(grad, weight, out=self._passing(grad.shape[0], weight.shape[1], grad))

    def _learn(self, grad: Tensor) -> None:
        weight, bias = self.module.weight, self.module.bias
        learns = weight.requires_grad and bias.requires_grad
        if self._has_onednn and learns and onednn.sums(grad, self._input):
            for parameter, found in zip((weight, bias), onednn.gradients(grad, self._input, weight), strict=True):
                gradient_of(parameter).copy_(found)
            return
        outputs, inputs = weight.shape
        if weight.requires_grad and outputs <= inputs:
            self._sum_of_products(grad, self._input, gradient_of(weight))
        elif weight.requires_grad:
            turned = self._turned(inputs, outputs, weight)
            self._sum_of_products(self._input, grad, turned)
            gradient_of(weight).copy_(turned.t())
        if bias.requires_grad:
            torch.sum(grad, 0, out=gradient_of(bias))

    def _sum_of_products(self, a: Tensor, b: Tensor, out: Tensor) -> None:
        """Σ a_i b_iᵀ over rows i."""
        rows = len(a)
        if a.device.type != "cpu" or rows < _ROWS_TO_SPLIT or rows % _PARTS:
            torch.mm(a.t(), b, out=out)
            return
        left, right = a.view(_PARTS, -1, a.shape[1]).transpose(1, 2), b.view(_PARTS, -1, b.shape[1])
        parts = self._parts(_PARTS * a.shape[1], b.shape[1], out).view(_PARTS, *out.shape)
        torch.sum(torch.bmm(left, right, out=parts), 0, out=out)


class _LayerNorm:
    def __init__(self, module: nn.LayerNorm, activation: _Identity) -> None:
        self.module, self._activation = module, activation

    def infer(self, x: Tensor) -> Tensor:
        return self._activation.apply(self.module(x))

    def forward(self, x: Tensor) -> Tensor:
        m = self.module
        output, *self._moments = torch.native_layer_norm(x, m.normalized_shape, m.weight, m.bias, m.eps)
        self._input, self._output = x, self._activation.apply(output)
        return self._output

    def backward(self, grad: Tensor, to_input: bool) -> Tensor:
        m = self.module
        grad = self._activation.backward(grad, self._output)
        wanted = [to_input, m.weight.requires_grad, m.bias.requires_grad]
        grad_input, *learned = torch.ops.aten.native_layer_norm_backward(
            grad, self._input, m.normalized_shape, *self._moments, m.weight, m.bias, wanted
        )
        for parameter, gradient in zip((m.weight, m.bias), learned, strict=True):
            if parameter.requires_grad:
                gradient_of(parameter).copy_(gradient)
        return grad_input  # type: ignore[no-any-return]


_ACTIVATIONS: dict[type[nn.Module], type[_Identity]] = {nn.Tanh: _Tanh, nn.ReLU: _ReLU}


class Chain:
    """Layers one after the other. The fixed modules in front of them see the input as it is."""

    def __init__(self, fixed: Sequence[nn.Module], layers: Sequence[Layer]) -> None:
        self._fixed, self.layers = fixed, layers

    def infer(self, x: Tensor) -> Tensor:
        for module in self._fixed:
            x = module(x)
        for layer in self.layers:
            x = layer.infer(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        for module in self._fixed:
            x = module(x)
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, grad: Tensor, to_input: bool) -> Tensor:
        for place, layer in reversed([*enumerate(self.layers)]):
            grad = layer.backward(grad, to_input or place > 0)
        return grad


class DenseNetwork:
    """A trunk and branches; see the module.

    Args:
        prepare: preprocesses observations for the first layer.
        trunk, branches: each branch ends in one of the outputs.
    """

    def __init__(self, prepare: Callable[[Any], Tensor], trunk: Chain, branches: Sequence[Chain]) -> None:
        self._prepare, self._trunk, self._branches = prepare, trunk, branches
        self._total = _Matrix()

    @torch.no_grad()
    def infer(self, obs: Any, outputs: slice = slice(None)) -> list[Tensor]:
        """The outputs [B, …], or some of them, for observations [B, …]."""
        latent = self._trunk.infer(self._prepare(obs))
        return [branch.infer(latent) for branch in self._branches[outputs]]

    @torch.no_grad()
    def forward(self, obs: Any) -> list[Tensor]:
        """The outputs [B, …]; remembers what one :meth:`backward` needs."""
        latent = self._trunk.forward(self._prepare(obs))
        return [branch.forward(latent) for branch in self._branches]

    @torch.no_grad()
    def backward(self, grads: Sequence[Tensor]) -> None:
        """Set ``grad`` of all parameters from the outputs' gradients; what was there before is forgotten."""
        learns, total = bool(self._trunk.layers), None
        for branch, grad in zip(self._branches, grads, strict=True):
            grad_latent = branch.backward(grad, learns)
            if not learns or len(grads) == 1:
                total = grad_latent if learns else None
            elif total is None:  # a copy, since the next branch may work in the same memory
                total = self._total(len(grad_latent), grad_latent.shape[1], grad_latent).copy_(grad_latent)
            else:
                total.add_(grad_latent)
        if total is not None:
            self._trunk.backward(total, False)


def dense_network(
    model: BaseModel, trunk: Iterable[nn.Module], branches: Sequence[Iterable[nn.Module]]
) -> DenseNetwork | None:
    """The hand-made twin of a network of SB3's; None if a module has no twin here, and autograd must do.

    A branch may be the last layers only, or all of them after an empty trunk.
    """
    prepare: Any = functools.partial(
        preprocess_obs, observation_space=model.observation_space, normalize_images=model.normalize_images
    )
    stem = _chain(trunk, _Passing(), is_output=False)
    passing = _Passing()  # one after the other, the branches share it
    limbs = [_chain(branch, passing, is_output=True) for branch in branches]
    found = [limb for limb in limbs if limb is not None and limb.layers]
    if stem is None or len(found) < len(limbs) or (stem.layers and any(limb._fixed for limb in found)):
        return None
    return DenseNetwork(prepare, stem, found)


def _chain(modules: Iterable[nn.Module], passing: _Passing, is_output: bool) -> Chain | None:
    flat = [*_flattened(modules)]
    if any(has_hooks(module) for module in flat):
        return None
    fixed = 0
    while fixed < len(flat) and type(flat[fixed]) in _FIXED:
        fixed += 1
    learned, layers = flat[fixed:], []
    if is_output and learned and type(learned[-1]) is not nn.Linear:
        return None
    while learned:
        module, learned = learned[0], learned[1:]
        activation = _Identity()
        if learned and type(learned[0]) in _ACTIVATIONS:
            activation, learned = _ACTIVATIONS[type(learned[0])](), learned[1:]
        layer = _layer(module, activation, is_output and not learned, passing)
        if layer is None:
            return None
        layers.append(layer)
    return Chain(flat[:fixed], layers)


def _flattened(modules: Iterable[nn.Module]) -> Iterable[nn.Module]:
    """The layers in their order, out of containers and extractors whose inside is known."""
    for module in modules:
        if type(module) is nn.Sequential and not has_hooks(module):
            yield from _flattened(module)
        elif type(module) is FlattenExtractor:
            yield module.flatten
        elif type(module) is SharedMlp:
            yield from _flattened(module.layers)
        elif type(module) is Normalized and module.keys == [""]:
            yield from module.norms
            yield from _flattened([module.extractor])
        else:
            yield module


def has_hooks(module: nn.Module) -> bool:
    """True if a hook on the module's calls is registered."""
    names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return any(getattr(module, name, None) for name in names)


def _layer(module: nn.Module, activation: _Identity, is_output: bool, passing: _Passing) -> Layer | None:
    if type(module) is nn.Linear and module.bias is not None:
        return _Linear(module, activation, is_output, passing)
    if type(module) is nn.LayerNorm and module.bias is not None and activation.factor == 1:
        return _LayerNorm(module, activation)
    return None
