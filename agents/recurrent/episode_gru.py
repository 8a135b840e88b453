"""A gated recurrent unit over sequences in which episodes end and begin.

1. r = σ(W_ir x + b_ir + W_hr h + b_hr), z = σ(W_iz x + b_iz + W_hz h + b_hz),
   n = tanh(W_in x + b_in + r (W_hn h + b_hn)), h' = n + z (h − n): PyTorch's ``nn.GRUCell``, with its parameters.
2. Where an episode begins the memory h before it is 0, in the middle of a sequence too, and no derivative passes there.
3. A sequence's share of x is one product of matrices for all steps; the derivatives are worked out by hand, step by
   step backwards, and those of the weights are one product for all steps again.
4. σ is computed as a tanh: PyTorch's sigmoid gives other bits to a row alone than to the same row in a batch.

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
        inputs = torch.addmm(self.bias_ih, x, self.weight_ih.t())
        return _step(inputs, memory, self.weight_hh, self.bias_hh)[0]

    def sequences(self, x: Tensor, memory: Tensor, starts: Tensor) -> Tensor:
        """The memories after each step, [L, B, H].

        Args:
            x: inputs, [L, B, I].
            memory: before the first step, [B, H].
            starts: true where an episode begins with a step, bool [L, B].
        """
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        return _Sequences.apply(x, memory, starts, *weights)  # type: ignore[no-any-return, no-untyped-call]


def _sigmoid(x: Tensor) -> Tensor:
    return (x * 0.5).tanh_().mul_(0.5).add_(0.5)


def _step(inputs: Tensor, memory: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The memories after a step [B, H], both gates [B, 2H], n [B, H] and the memory's share in it [B, H].

    ``inputs`` [B, 3H] are the inputs' share.
    """
    width = memory.shape[1]
    own = torch.addmm(bias, memory, weight.t())
    gates = _sigmoid(inputs[:, : 2 * width] + own[:, : 2 * width])
    share = own[:, 2 * width :]
    n = torch.addcmul(inputs[:, 2 * width :], gates[:, :width], share).tanh_()
    return torch.addcmul(n, gates[:, width:], memory - n), gates, n, share


class _Sequences(torch.autograd.Function):
    """Number 3 of the module."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, memory: Tensor, starts: Tensor, w_in: Tensor, w_own: Tensor, b_in: Tensor, b_own: Tensor
    ) -> Tensor:
        length, rows, width = *x.shape[:2], memory.shape[1]
        inputs = torch.addmm(b_in, x.flatten(0, 1), w_in.t()).view(length, rows, -1)
        keep = (~starts).to(x.dtype).unsqueeze(2)  # [L, B, 1]
        before, after = (x.new_empty(length, rows, width) for _ in range(2))
        gates, n, share = (x.new_empty(length, rows, size * width) for size in (2, 1, 1))
        for t in range(length):
            torch.mul(memory, keep[t], out=before[t])
            memory, gates[t], n[t], share[t] = _step(inputs[t], before[t], w_own, b_own)
            after[t] = memory
        ctx.save_for_backward(x, keep, before, gates, n, share, w_in, w_own)
        return after

    @staticmethod
    def backward(ctx: Any, grad_after: Tensor) -> tuple[Tensor | None, ...]:
        x, keep, before, gates, n, share, w_in, w_own = ctx.saved_tensors
        length, rows, width = before.shape
        grad_in = x.new_empty(length, rows, 3 * width)  # by the inputs' shares
        grad_own = x.new_empty(length, rows, 3 * width)  # by the memory's
        carried = torch.zeros_like(before[0])
        for t in reversed(range(length)):
            r, z = gates[t, :, :width], gates[t, :, width:]
            grad = grad_after[t] + carried
            grad_n = grad * (1.0 - z)
            grad_n.addcmul_(grad_n, n[t].square(), value=-1.0)  # through the tanh
            grad_gates = torch.cat((grad_n * share[t], grad * (before[t] - n[t])), 1)
            grad_gates.mul_(gates[t] - gates[t].square())
            grad_in[t, :, : 2 * width] = grad_own[t, :, : 2 * width] = grad_gates
            grad_in[t, :, 2 * width :] = grad_n
            torch.mul(grad_n, r, out=grad_own[t, :, 2 * width :])
            carried = torch.addmm(grad * z, grad_own[t], w_own).mul_(keep[t])
        flat_in, flat_own = grad_in.flatten(0, 1), grad_own.flatten(0, 1)
        grad_x = (flat_in @ w_in).view_as(x) if ctx.needs_input_grad[0] else None
        grad_w_in, grad_w_own = flat_in.t() @ x.flatten(0, 1), flat_own.t() @ before.flatten(0, 1)
        return grad_x, carried, None, grad_w_in, grad_w_own, flat_in.sum(0), flat_own.sum(0)
