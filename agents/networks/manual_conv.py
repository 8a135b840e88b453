"""Convolutional layers with forward and backward passes by hand, beside :mod:`palaestra.agents.networks.manual_mlp`.

The arithmetic is oneDNN's, as PyTorch's own modules have it on a CPU. What is saved is what surrounds it:

1. Images lie channels last, so that no result is put into another order; the next layer reads what this one wrote.
2. oneDNN wants weights in an order of its own. They are brought into it once for all steps of a rollout, and anew when
   they differ from a copy, which takes a twentieth of that time to find out.
3. An activation is part of the convolution, and its derivative takes the place of its output.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from palaestra.agents.networks.manual_mlp import Activation, ReLU, gradient_of


def has_convolutions(device: torch.device) -> bool:
    """True where these layers are faster than PyTorch's modules, and its oneDNN has what they need."""
    mkldnn: Any = torch.backends.mkldnn
    operations = hasattr(torch.ops.mkldnn, "_convolution_pointwise") and hasattr(
        torch._C._nn, "mkldnn_reorder_conv2d_weight"
    )
    return device.type == "cpu" and operations and mkldnn.is_available()


class ConvLayer:
    """A convolution without padding, [B, C, H, W] → [B, C', H', W'], both channels last."""

    def __init__(self, module: nn.Conv2d, activation: Activation) -> None:
        self.module, self._activation = module, activation
        self._learned = module._parameters  # nn.Module finds them slowly
        self._settings = (module.padding, module.stride, module.dilation, module.groups)
        self._copy, self._packed, self._packed_for = torch.empty(0), torch.empty(0), torch.Size()

    @staticmethod
    def twin_of(module: nn.Module, activation: Activation) -> ConvLayer | None:
        """The layer of a module; None for what has none here."""
        if type(module) is not nn.Conv2d or module.bias is None or type(activation) not in (Activation, ReLU):
            return None
        plain = module.padding == (0, 0) and module.padding_mode == "zeros" and module.groups == 1
        float32 = module.weight.dtype == torch.float32
        return ConvLayer(module, activation) if plain and float32 and has_convolutions(module.weight.device) else None

    def infer(self, x: Tensor) -> Tensor:
        weight, bias = self._learned["weight"], self._learned["bias"]
        assert weight is not None
        if self._packed_for != x.shape or not torch.equal(weight, self._copy):
            self._pack(weight, x)
        name = self._activation.name
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self._packed, bias, *self._settings, name, [], "")
        return out

    def _pack(self, weight: Tensor, x: Tensor) -> None:
        """``weight`` in the order that oneDNN wants for inputs of the shape of ``x``."""
        self._copy, self._packed_for = weight.detach().clone(), x.shape
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self._packed = reorder(self._copy.to_mkldnn(), *self._settings, list(x.shape))

    def forward(self, x: Tensor) -> Tensor:
        self._input, self._output = x, self.infer(x)
        return self._output

    def backward(self, grad: Tensor, to_input: bool) -> Tensor:
        weight, bias = self._learned["weight"], self._learned["bias"]
        assert weight is not None
        assert bias is not None
        grad = self._activation.backward(grad, self._output)
        padding, stride, dilation, groups = self._settings
        wanted = [to_input, weight.requires_grad, bias.requires_grad]
        grad_input, *learned = torch.ops.aten.convolution_backward(
            grad, self._input, weight, [len(bias)], stride, padding, dilation, False, [0, 0], groups, wanted
        )
        for parameter, gradient in zip((weight, bias), learned, strict=True):
            if parameter.requires_grad:
                gradient_of(parameter).copy_(gradient)
        return grad_input  # type: ignore[no-any-return]


class FlattenLayer:
    """Images [B, C, H, W], channels last, → [B, C H W] in the order of ``nn.Flatten``."""

    @staticmethod
    def twin_of(module: nn.Module) -> FlattenLayer | None:
        """The layer of a module; None for what has none here."""
        return FlattenLayer() if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1) else None

    def infer(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        self._shape = x.shape
        return x.flatten(1)

    def backward(self, grad: Tensor, to_input: bool) -> Tensor:
        return grad.view(self._shape).contiguous(memory_format=torch.channels_last)


def images(obs: Any, scaled: bool) -> Tensor:
    """Observations [B, C, H, W] as float32, channels last; ``scaled`` from 0 … 255 to 0 … 1 as SB3 does."""
    turned: Tensor = obs.to(memory_format=torch.channels_last)
    return turned.float().div_(255.0) if scaled else turned.float()
