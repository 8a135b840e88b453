"""A gated recurrent unit over sequences in which episodes end and begin.

1. r = σ(W_ir x + b_ir + W_hr h + b_hr), z = σ(W_iz x + b_iz + W_hz h + b_hz),
   n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = n + z (h − n): PyTorch's ``nn.GRUCell``, with its parameters.
2. Where an episode begins the memory h before it is 0, in the middle of a sequence too, and no derivative passes there.
3. A sequence's share of x is one product of matrices for all steps; the derivatives are worked out by hand, step by
   step backwards, and those of the weights are one product for all steps again.

Source: Cho et al., "Learning phrase representations using RNN encoder–decoder for statistical machine translation",
EMNLP 2014; back-propagation through time, Werbos, Proceedings of the IEEE 1990.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class EpisodeGru(nn.GRUCell):
    """The unit; ``weight_ih`` [3H, I], ``weight_hh`` [3H, H], ``bias_ih`` and ``bias_hh`` [3H]."""

    def make_orthogonal(self) -> None:
        """Set each gate's weights orthogonal and all biases 0."""
        for weight in (self.weight_ih, self.weight_hh):
            for gate in weight.data.chunk(3):
                nn.init.orthogonal_(gate)
        for bias in (self.bias_ih, self.bias_hh):
            nn.init.zeros_(bias)

    def step(self, x: Tensor, memory: Tensor) -> Tensor:
        """The memories [B, H] after one step, from inputs [B, I] and the memories before it."""
        width = self.hidden_size
        inputs = torch.addmm(self.bias_ih, x, self.weight_ih.t())
        own = torch.addmm(self.bias_hh, memory, self.weight_hh.t())
        gates = (inputs[:, : 2 * width] + own[:, : 2 * width]).sigmoid_()
        n = torch.addcmul(inputs[:, 2 * width :], gates[:, :width], own[:, 2 * width :]).tanh_()
        return torch.addcmul(n, gates[:, width:], memory - n)

    def sequences(self, x: Tensor, memory: Tensor, starts: Tensor) -> Tensor:
        """The memories after each step, [L, B, H].

        Args:
            x: inputs, [L, B, I].
            memory: before the first step, [B, H].
            starts: true where an episode begins with a step, bool [L, B].
        """
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        return _Sequences.apply(x, memory, starts, *weights)  # type: ignore[no-any-return, no-untyped-call]


class _Sequences(torch.autograd.Function):
    """Number 3 of the module."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, memory: Tensor, starts: Tensor, w_in: Tensor, w_own: Tensor, b_in: Tensor, b_own: Tensor
    ) -> Tensor:
        length, rows, width = *x.shape[:2], memory.shape[1]
        inputs = torch.addmm(b_in, x.flatten(0, 1), w_in.t()).view(length, rows, -1)
        keep = (~starts).to(x.dtype).unsqueeze(2)  # [L, B, 1]
        before, n, after = (x.new_empty(length, rows, width) for _ in range(3))
        own, gates = (x.new_empty(length, rows, size * width) for size in (3, 2))  # the memory's share; r and z
        w_own_t, both = w_own.t(), 2 * width
        shares = (inputs[..., :both], own[..., :both], gates[..., :width], gates[..., width:])
        rest = (own, own[..., both:], inputs[..., both:], gates, keep, before, n, after)
        for x_gates, h_gates, r, z, h_all, h_n, x_n, both_gates, kept, old, new, out in zip(
            *map(torch.unbind, (*shares, *rest)), strict=True
        ):
            torch.mul(memory, kept, out=old)
            torch.addmm(b_own, old, w_own_t, out=h_all)
            torch.add(x_gates, h_gates, out=both_gates).sigmoid_()
            torch.addcmul(x_n, r, h_n, out=new).tanh_()
            memory = torch.addcmul(new, z, old - new, out=out)
        ctx.save_for_backward(x, keep, before, gates, n, own[..., both:], w_in, w_own)
        return after

    @staticmethod
    def backward(ctx: Any, grad_after: Tensor) -> tuple[Tensor | None, ...]:
        """All derivatives of a step are multiples of those by its memory, by factors that are known beforehand."""
        x, keep, before, gates, n, share, w_in, w_own = ctx.saved_tensors
        length, rows, width = before.shape
        r, z = gates.split(width, 2)
        by_n = (1.0 - z) * (1.0 - n.square())  # before its tanh
        by_r, by_z = by_n * share * r * (1.0 - r), (before - n) * z * (1.0 - z)
        factors = torch.stack((by_r, by_z, by_n * r), 2)  # [L, B, 3, H] by the memory's share
        total = torch.empty_like(before)  # by the memory after each step
        grad_own = torch.empty_like(factors)
        carried = torch.zeros_like(before[0])
        steps = zip(*map(torch.unbind, (grad_after, keep, z, factors, total, grad_own)), strict=True)
        for later, kept, stays, factor, grad, by_share in reversed([*steps]):
            torch.add(later, carried, out=grad)
            torch.mul(grad.unsqueeze(1), factor, out=by_share)
            carried = torch.addmm(grad * stays, by_share.flatten(1), w_own).mul_(kept)
        grad_in = torch.cat((grad_own[:, :, :2].flatten(2), total * by_n), 2).flatten(0, 1)
        flat_own = grad_own.view(length * rows, 3 * width)
        grad_x = (grad_in @ w_in).view_as(x) if ctx.needs_input_grad[0] else None
        grad_w_in, grad_w_own = grad_in.t() @ x.flatten(0, 1), flat_own.t() @ before.flatten(0, 1)
        return grad_x, carried, None, grad_w_in, grad_w_own, grad_in.sum(0), flat_own.sum(0)
