"""Fully connected networks with forward and backward passes by hand, in memory that is reused.

1. The parameters are those of the policy's own modules, and the numbers are autograd's, but for rounding. What autograd
   spends its time on beside the arithmetic is left out: fresh memory for every intermediate result, which has left the
   caches when it is needed again, and a node of a graph per operation.
2. The gradient of a weight matrix, a product over all rows of a batch, is computed in the orientation that puts the
   thinner factor first, and in parts. On a CPU this is 4 to 10 times as fast for the few inputs or outputs of a first
   or last layer.
3. On a CPU that is not Intel's, tanh x is computed as 2 σ(2x) − 1, to within 2.5e-7: on an AMD processor PyTorch's
   sigmoid is ten times as fast as its tanh, while on an Intel one tanh is three times as fast as these two steps. Large
   products are oneDNN's, activation included, where that is faster (:mod:`palaestra.agents.networks.onednn`).
4. Memory is touched as little as possible, for what does not fit into the caches is slow: activations work in place,
   and what flows backward takes the place of what flowed forward.
5. Layers: Linear, LayerNorm, Tanh, ReLU; before the first of them anything without parameters to learn, or
   convolutions (:mod:`palaestra.agents.networks.manual_conv`). Networks with others (a user's own) are left to
   autograd; see :mod:`palaestra.agents.networks.manual_network`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

from palaestra.agents.distributed.side_by_side import side_by_side
from palaestra.agents.networks import onednn

_P = ParamSpec("_P")
_R = TypeVar("_R")
_PARTS, _ROWS_TO_SPLIT = 4, 1024  # a product over rows on a CPU is split; fewer rows gain nothing
_WORTH_A_THREAD = 2**22  # multiplications of a branch forward: 0.5 ms there and back, ten times the hand-over


def without_gradients(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """``torch.no_grad`` for functions that run a hundred times a second: within one another, they cost 1 µs, not 10."""

    @functools.wraps(function)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if not torch.is_grad_enabled():
            return function(*args, **kwargs)
        with torch.no_grad():
            return function(*args, **kwargs)

    return called


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


class Passing(threading.local):
    """Memory for the outputs of layers that the next layer consumes: two matrices of each width, in turns.

    Each thread has its own.
    """

    def __init__(self) -> None:
        self._pairs: dict[int, tuple[_Matrix, _Matrix]] = {}

    def __call__(self, rows: int, columns: int, beside: Tensor) -> Tensor:
        """One of the two matrices, not the one that is ``beside``."""
        pair = self._pairs.get(columns)
        if pair is None:
            pair = self._pairs[columns] = _Matrix(), _Matrix()
        first = pair[0](rows, columns, beside)
        return pair[1](rows, columns, beside) if first is beside else first


class Activation:
    """An activation, which works in place on ``factor`` times its input."""

    name, factor = "none", 1

    def apply(self, x: Tensor) -> Tensor:
        return x

    def backward(self, grad: Tensor, output: Tensor) -> Tensor:
        """The input's gradient, where the output was."""
        return grad


class Tanh(Activation):
    name = "tanh"

    def apply(self, x: Tensor) -> Tensor:
        return x.tanh_()

    def backward(self, grad: Tensor, output: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward.grad_input(grad, output, grad_input=output)  # type: ignore[no-any-return]


class TanhBySigmoid(Tanh):
    factor = 2  # a layer before it can double its output at no cost

    def __init__(self) -> None:
        self._minus_one = torch.tensor(-1.0)

    def apply(self, x: Tensor) -> Tensor:
        if self._minus_one.dtype != x.dtype:
            self._minus_one = self._minus_one.to(x.dtype)
        return torch.add(self._minus_one, x.sigmoid_(), alpha=2, out=x)


class ReLU(Activation):
    name = "relu"

    def apply(self, x: Tensor) -> Tensor:
        return x.relu_()

    def backward(self, grad: Tensor, output: Tensor) -> Tensor:
        return torch.ops.aten.threshold_backward.grad_input(grad, output, 0, grad_input=output)  # type: ignore[no-any-return]


class DenseLayer:
    def __init__(self, module: nn.Linear, activation: Activation, is_output: bool, passing: Passing) -> None:
        self.module, self._activation = module, activation
        self._learned = module._parameters  # nn.Module finds them slowly
        self._weight_is_at, self._turned_weight = -1, module.weight  # where it was when it was transposed
        self._is_output = is_output  # it leaves the network, so it gets memory of its own
        self._outputs = module.out_features
        self._passing, self._kept = passing, _Matrix()
        self._parts, self._turned, self._has_onednn = _Matrix(), _Matrix(), onednn.is_faster()

    def _weight_and_bias(self) -> tuple[Tensor, Tensor]:
        weight, bias = self._learned["weight"], self._learned["bias"]
        assert weight is not None
        assert bias is not None
        return weight, bias

    def infer(self, x: Tensor) -> Tensor:
        return self._apply(x, self._passing)

    def forward(self, x: Tensor) -> Tensor:
        self._input, self._output = x, self._apply(x, self._kept)
        return self._output

    def _apply(self, x: Tensor, memory: _Matrix | Passing) -> Tensor:
        weight, bias = self._weight_and_bias()
        activation = self._activation
        if self._has_onednn and onednn.multiplies(x, self._outputs):
            return onednn.linear(x, weight, bias, activation.name)
        if weight.data_ptr() != self._weight_is_at:
            self._weight_is_at, self._turned_weight = weight.data_ptr(), weight.detach().t()
        out = None if self._is_output else memory(x.shape[0], self._outputs, x)
        factor = activation.factor
        return activation.apply(torch.addmm(bias, x, self._turned_weight, beta=factor, alpha=factor, out=out))

    def backward(self, grad: Tensor, to_input: bool) -> Tensor:
        grad = self._activation.backward(grad, self._output)
        self._learn(grad)
        if not to_input:
            return grad
        weight, _ = self._weight_and_bias()
        if self._has_onednn and onednn.multiplies(grad, weight.shape[1]):
            return onednn.linear(grad, weight.t())
        return torch.mm(grad, weight, out=self._passing(grad.shape[0], weight.shape[1], grad))

    def _learn(self, grad: Tensor) -> None:
        weight, bias = self._weight_and_bias()
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
        rows = a.shape[0]
        if a.device.type != "cpu" or rows < _ROWS_TO_SPLIT or rows % _PARTS:
            torch.mm(a.t(), b, out=out)
            return
        left, right = a.view(_PARTS, -1, a.shape[1]).transpose(1, 2), b.view(_PARTS, -1, b.shape[1])
        parts = self._parts(_PARTS * a.shape[1], b.shape[1], out).view(_PARTS, *out.shape)
        torch.sum(torch.bmm(left, right, out=parts), 0, out=out)


class NormLayer:
    def __init__(self, module: nn.LayerNorm, activation: Activation) -> None:
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


class Chain:
    """Layers one after the other. The fixed modules in front of them see the input as it is."""

    def __init__(self, fixed: Sequence[nn.Module], layers: Sequence[Layer]) -> None:
        self._fixed, self.layers = fixed, layers
        self.sees_images = bool(layers) and not isinstance(layers[0], DenseLayer | NormLayer)
        self.products = sum(layer.module.weight.numel() for layer in layers if isinstance(layer, DenseLayer))  # a row's

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


class ManualNetwork:
    """A trunk and branches; see the module.

    Args:
        prepare: preprocesses observations for the first layer.
        trunk, branches: each branch ends in one of the outputs.
    """

    def __init__(self, prepare: Callable[[Any], Tensor], trunk: Chain, branches: Sequence[Chain]) -> None:
        self.prepare, self._trunk, self._branches = prepare, trunk, branches
        self._total = _Matrix()
        self.sees_images = any(chain.sees_images for chain in (trunk, *branches))
        self._products = [branch.products for branch in branches]

    @without_gradients
    def infer(self, obs: Any, outputs: slice = slice(None)) -> list[Tensor]:
        """The outputs [B, …], or some of them, for observations [B, …]."""
        latent = self._trunk.infer(self.prepare(obs))
        return [branch.infer(latent) for branch in self._branches[outputs]]

    @without_gradients
    def forward(self, obs: Any, outputs: slice = slice(None)) -> list[Tensor]:
        """The outputs [B, …], or some of them; remembers what one :meth:`backward` needs."""
        latent = self._trunk.forward(self.prepare(obs))
        return [branch.forward(latent) for branch in self._branches[outputs]]

    def input_gradient(self, grads: Sequence[Tensor]) -> Tensor:
        """The prepared input's gradient [B, in] from those of the first outputs, of a network without a trunk."""
        return sum(b.backward(g, True).clone() for b, g in zip(self._branches, grads, strict=False))  # type: ignore

    @without_gradients
    def backward(self, grads: Sequence[Tensor]) -> None:
        """Set ``grad`` of all parameters from the outputs' gradients; what was there before is forgotten."""
        learns = bool(self._trunk.layers)
        self._add_up(b.backward(grad, learns) for b, grad in zip(self._branches, grads, strict=True))

    @without_gradients
    def learn(self, obs: Any, derivatives: Sequence[Callable[[Tensor], Tensor]], halves: bool = False) -> None:
        """:meth:`forward` and :meth:`backward`, of one branch after the other.

        Args:
            obs: observations [B, …].
            derivatives: of each branch, from its output [B, …] to the loss's derivative by it, of the same shape.
            halves: two branches at once, in two threads; see :meth:`has_halves`.
        """
        latent, learns = self._trunk.forward(self.prepare(obs)), bool(self._trunk.layers)

        @without_gradients
        def learn(branch: Chain, derivative: Callable[[Tensor], Tensor]) -> Tensor:
            return branch.backward(derivative(branch.forward(latent)), learns)

        parts = [functools.partial(learn, b, d) for b, d in zip(self._branches, derivatives, strict=True)]
        self._add_up(side_by_side(*parts) if halves else (part() for part in parts))

    def has_halves(self, rows: int) -> bool:
        """True if two branches are alike, and are most of the network, and worth a thread each for so many rows."""
        trunk, low, high = self._trunk.products, min(self._products), max(self._products)
        alike = len(self._branches) == 2 and high <= 2 * low and 4 * trunk <= low
        return alike and low * rows >= _WORTH_A_THREAD and not self.sees_images

    def _add_up(self, grads: Iterable[Tensor]) -> None:
        """Go backward through the trunk from the branches' gradients; each is consumed before the next is made."""
        if not self._trunk.layers:
            for _ in grads:
                pass
            return
        total = None
        for grad in grads:
            if len(self._branches) == 1:
                total = grad
            elif total is None:  # a copy, since the next branch may work in the same memory
                total = self._total(len(grad), grad.shape[1], grad).copy_(grad)
            else:
                total.add_(grad)
        assert total is not None
        self._trunk.backward(total, False)
