"""An optimizer over flat vectors: all parameters of a policy, their gradients and the optimizer's state as one each.

A policy has a dozen parameters. Zeroing their gradients, averaging them over processes, clipping their norm and
changing the weights takes one operation instead of a dozen where all of them lie in one vector.

1. The policy's parameters, their ``grad`` and their entries in the optimizer's ``state`` are views of the vectors, so
   code that reads, saves or copies them works as before. Code that loads new ones does too, since
   :meth:`FlatOptimizer.zero_grad` checks that the views are still in their places, and gathers them again if not.
2. A step is the optimizer's own, taken by a copy of it that has the vector as its only parameter. Optimizers that do
   not treat every number alike, and those with several groups of parameters, step parameter by parameter.
3. A parameter without a gradient counts as one whose gradient is zero.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from palaestra.agents.distributed.process_group import process_group
from palaestra.agents.networks.manual_mlp import without_gradients
from palaestra.agents.optimizers import UncompiledAdam, UncompiledRAdam

_ADAMS = (torch.optim.Adam, torch.optim.AdamW, UncompiledAdam)
_ELEMENTWISE = (*_ADAMS, torch.optim.RAdam, UncompiledRAdam, torch.optim.SGD, torch.optim.RMSprop)

_FUSED = hasattr(torch, "_fused_adam_") and hasattr(torch, "_fused_adamw_")
_ALIGNED = 16  # numbers; 64 bytes of float32, as PyTorch's own allocator on a CPU


def clone_tensors(value: Any) -> Any:
    """A copy of tensors in dictionaries and lists, such as a ``state_dict()``, that is a view of nothing."""
    if isinstance(value, dict):
        return {name: clone_tensors(part) for name, part in value.items()}
    if isinstance(value, list):
        return [clone_tensors(part) for part in value]
    return value.clone() if isinstance(value, Tensor) else value


def clone_weights(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A copy of a module's weights; names of one tensor, as in layers that parts of a policy share, get one copy."""
    copies = {(value.data_ptr(), value.shape): value.clone() for value in weights.values()}
    return {name: copies[value.data_ptr(), value.shape] for name, value in weights.items()}


class _FlatVector:
    """The parameters of one type and device, and their gradients, moved into one vector."""

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        self.whole = nn.Parameter(self.joined([p.detach() for p in parameters]))
        self.grad = self.whole.grad = torch.zeros_like(self.whole)
        self._views, self._grads = self.parts(self.whole.detach()), self.parts(self.grad)
        for parameter, view, grad in zip(parameters, self._views, self._grads, strict=True):
            parameter.data, parameter.grad = view, grad
        self._places = [view.data_ptr() for view in self._views]

    def joined(self, values: list[Tensor]) -> Tensor:
        """A vector of tensors in the parameters' shapes."""
        vector = values[0].new_zeros(sum(_room(p) for p in self.parameters))
        for part, value in zip(self.parts(vector), values, strict=True):
            part.copy_(value)
        return vector

    def parts(self, vector: Tensor) -> list[Tensor]:
        """Views of a vector in the parameters' shapes."""
        pieces = torch.split(vector, [_room(p) for p in self.parameters])
        return [piece[: p.numel()].view(p.shape) for piece, p in zip(pieces, self.parameters, strict=True)]

    def holds(self) -> bool:
        """True if the parameters and their gradients are still views of these vectors, and are trained."""
        return all(
            p.data_ptr() == place and p.grad is grad and p.requires_grad
            for p, place, grad in zip(self.parameters, self._places, self._grads, strict=True)
        )


def _room(parameter: Tensor) -> int:
    """Numbers from its start to the next parameter's: aligned as separate memory is, on which products' bits depend."""
    return -(-parameter.numel() // _ALIGNED) * _ALIGNED


class FlatOptimizer:
    """Steps of an optimizer; see the module."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        _prefer_fused(optimizer)
        self._vectors: list[_FlatVector] = []
        self._frozen: list[Tensor] = []
        self._state: Any = None  # the optimizer's state that was gathered
        self._alike = False
        self._whole: torch.optim.Optimizer | None = None  # the optimizer's copy for the vectors
        self._linked: dict[Tensor, dict[str, Any]] = {}  # the optimizer's state when it was made of views

    def gather(self) -> None:
        """Move the parameters and all that belongs to them to their places, where somebody has exchanged them."""
        if not self._holds():
            self._gather()

    def zero_grad(self, check: bool = True) -> None:
        """Set the gradients to zero: those that are computed next are added to it, or written over it.

        Args:
            check: call :meth:`gather` first; needless since the last step if nobody else had the parameters.
        """
        if check:
            self.gather()
        for vector in self._vectors:
            vector.grad.zero_()

    @without_gradients
    def average(self, weight: Tensor | None = None) -> None:
        """Average the gradients over all processes; ``weight`` as for :meth:`clip`."""
        for vector in self._vectors:
            process_group().average(vector.grad, weight)

    @without_gradients
    def clip(self, max_norm: float, weight: Tensor | None = None) -> Tensor:
        """Average the gradients over all processes, clip their norm as ``clip_grad_norm_`` does.

        Args:
            max_norm: the largest norm.
            weight: [], how many samples this process's gradients are the mean of, where the processes' numbers differ.

        Returns:
            The norm before it was clipped, [].
        """
        self.average(weight)
        norms: list[Tensor] = [torch.linalg.vector_norm(vector.grad) for vector in self._vectors]
        norm = norms[0] if len(norms) == 1 else torch.stack([n.float() for n in norms]).norm()
        for vector in self._vectors:
            vector.grad.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm

    @without_gradients
    def step(self) -> None:
        """Change the weights."""
        if self._whole is None:
            self.optimizer.step()
            return
        (settings,) = self.optimizer.param_groups
        if self._linked and settings.get("fused") and _FUSED:
            for vector in self._vectors:
                _fused_step(self.optimizer, vector, self._whole.state[vector.whole])
            return
        self._whole.param_groups[0].update({name: value for name, value in settings.items() if name != "params"})
        self._whole.step()
        if not self._linked:
            self._link()

    def _holds(self) -> bool:
        return (
            self._state is self.optimizer.state  # loading makes a new dictionary
            and all(vector.holds() for vector in self._vectors)
            and not any(parameter.requires_grad for parameter in self._frozen)
            and self._alike == _treats_all_alike(self.optimizer)
        )

    def _gather(self) -> None:
        """Move the parameters, and the optimizer's state of them, into vectors."""
        kinds: dict[Any, list[Tensor]] = defaultdict(list)
        self._frozen.clear()
        for parameter in (p for group in self.optimizer.param_groups for p in group["params"]):
            if parameter.requires_grad:
                kinds[parameter.dtype, parameter.device].append(parameter)
            else:
                self._frozen.append(parameter)
                parameter.grad = None
        self._vectors = [_FlatVector(parameters) for parameters in kinds.values()]
        for parameter, kept in self._linked.items():
            if self.optimizer.state.get(parameter) is kept:
                self.optimizer.state[parameter] = clone_tensors(kept)  # the optimizer counts steps in place
        self._linked, self._whole, self._alike = {}, None, _treats_all_alike(self.optimizer)
        self._state = self.optimizer.state
        states = [_gathered(self.optimizer, vector) for vector in self._vectors]
        found = [state for state in states if state is not None]
        if self._alike and len(found) == len(states):
            self._whole = copy.copy(self.optimizer)
            wholes = [vector.whole for vector in self._vectors]
            self._whole.param_groups = [{**self.optimizer.param_groups[0], "params": wholes}]
            self._whole.state = defaultdict(dict, {w: state for w, state in zip(wholes, found, strict=True) if state})
            self._link()

    def _link(self) -> None:
        """Make the optimizer's state of views of the vectors'."""
        assert self._whole is not None
        for vector in self._vectors:
            if vector.whole not in self._whole.state:
                continue
            parts: list[dict[str, Any]] = [{} for _ in vector.parameters]
            for name, value in self._whole.state[vector.whole].items():
                is_vector = isinstance(value, Tensor) and value.shape == vector.whole.shape
                for part, piece in zip(parts, vector.parts(value) if is_vector else [value] * len(parts), strict=True):
                    part[name] = piece
            for parameter, part in zip(vector.parameters, parts, strict=True):
                self.optimizer.state[parameter] = self._linked[parameter] = part


def _prefer_fused(optimizer: torch.optim.Optimizer) -> None:
    """Let Adam take its step in one operation, a quarter of the time on a CPU; call it before the first step."""
    for group in optimizer.param_groups:
        on_host_or_gpu = all(parameter.device.type in ("cpu", "cuda") for parameter in group["params"])
        if type(optimizer) in _ADAMS and on_host_or_gpu and group["foreach"] is None:
            group["fused"] = True


def _fused_step(optimizer: torch.optim.Optimizer, vector: _FlatVector, state: dict[str, Any]) -> None:
    """The kernel of Adam's or AdamW's ``step()``, without the 0.1 ms of checks before it."""
    (settings,) = optimizer.param_groups
    decoupled = settings.get("decoupled_weight_decay", isinstance(optimizer, torch.optim.AdamW))
    state["step"] += 1
    (torch._fused_adamw_ if decoupled else torch._fused_adam_)(
        [vector.whole],
        [vector.grad],
        [state["exp_avg"]],
        [state["exp_avg_sq"]],
        [state["max_exp_avg_sq"]] if settings["amsgrad"] else [],
        [state["step"]],
        lr=settings["lr"],
        beta1=settings["betas"][0],
        beta2=settings["betas"][1],
        weight_decay=settings["weight_decay"],
        eps=settings["eps"],
        amsgrad=settings["amsgrad"],
        maximize=settings["maximize"],
    )


def _treats_all_alike(optimizer: torch.optim.Optimizer) -> bool:
    """True if stepping the flat vector equals stepping each parameter, and no step hook is registered."""
    hooks = (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks)
    watched = any(hooks) or "step" in vars(optimizer)
    return type(optimizer) in _ELEMENTWISE and len(optimizer.param_groups) == 1 and not watched


def _gathered(optimizer: torch.optim.Optimizer, vector: _FlatVector) -> dict[str, Any] | None:
    """The optimizer's state of the parameters as vectors; None if it has not treated them alike so far."""
    states = [optimizer.state.get(parameter, {}) for parameter in vector.parameters]
    whole: dict[str, Any] = {}
    if any(state.keys() != states[0].keys() for state in states):
        return None
    for name, first in states[0].items():
        values = [state[name] for state in states]
        if isinstance(first, Tensor) and first.shape == vector.parameters[0].shape and name != "step":
            whole[name] = vector.joined(values)
        elif all(bool(value == first) for value in values):
            whole[name] = first.clone() if isinstance(first, Tensor) else first
        else:
            return None
    return whole
