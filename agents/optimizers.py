"""The default optimizers of policies, as PyTorch's are but for their first second.

PyTorch keeps some methods of its optimizers from being compiled, by decorators that import its compiler (and sympy) as
they are first called, even where nothing is ever compiled: three of the ten seconds of a short training. Here those
methods are what the decorators wrap. Optimizers that a user names are PyTorch's own.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy

_OPTIMIZER = torch.optim.Optimizer


class _Uncompiled:
    """Comes before the optimizer's class."""

    add_param_group: Any = inspect.unwrap(_OPTIMIZER.add_param_group)
    load_state_dict: Any = inspect.unwrap(_OPTIMIZER.load_state_dict)
    state_dict: Any = inspect.unwrap(_OPTIMIZER.state_dict)
    zero_grad: Any = inspect.unwrap(_OPTIMIZER.zero_grad)


_ADAM_STEP, _RADAM_STEP = inspect.unwrap(torch.optim.Adam.step), inspect.unwrap(torch.optim.RAdam.step)


class UncompiledAdam(_Uncompiled, torch.optim.Adam):
    def step(self, closure: Any = None) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return _ADAM_STEP(self, closure)


class UncompiledRAdam(_Uncompiled, torch.optim.RAdam):
    def step(self, closure: Any = None) -> Any:
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return _RADAM_STEP(self, closure)


_INSTEAD_OF: dict[Any, Any] = {torch.optim.Adam: UncompiledAdam, torch.optim.RAdam: UncompiledRAdam}


def with_uncompiled_optimizer(policy_class: Any, policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """The policy's arguments with an optimizer of these, where its default is PyTorch's and no other is named."""
    parameter = inspect.signature(policy_class).parameters.get("optimizer_class")
    own = None if parameter is None else _INSTEAD_OF.get(parameter.default)
    if own is None or "optimizer_class" in policy_kwargs:
        return policy_kwargs
    kwargs = policy_kwargs.get("optimizer_kwargs")
    if kwargs is None and own is UncompiledAdam and issubclass(policy_class, ActorCriticPolicy):
        kwargs = {"eps": 1e-5}  # which it sets for PyTorch's own Adam
    return {**policy_kwargs, "optimizer_class": own, "optimizer_kwargs": kwargs}


def with_weight_decay(policy_class: Any, policy_kwargs: dict[str, Any], weight_decay: float) -> dict[str, Any]:
    """The policy's arguments with an optimizer that takes ``learning_rate · weight_decay`` of each weight in each step.

    That is apart from the gradient (decoupled) where the optimizer can do so, as Adam and RAdam can.

    Raises:
        ValueError: if the optimizer knows no weight decay, or has another one already.
    """
    if not weight_decay:
        return policy_kwargs
    default = inspect.signature(policy_class).parameters.get("optimizer_class")
    chosen: Any = policy_kwargs.get("optimizer_class") or (None if default is None else default.default)
    known = () if chosen is None else inspect.signature(chosen).parameters
    own = dict(policy_kwargs.get("optimizer_kwargs") or {})
    if "weight_decay" not in known:
        raise ValueError(f"weight_decay={weight_decay}: the policy's optimizer has none")
    if own.get("weight_decay"):
        raise ValueError(
            f"weight_decay={weight_decay}: optimizer_kwargs say {own['weight_decay']}; leave one of them out"
        )
    apart = {"decoupled_weight_decay": True} if "decoupled_weight_decay" in known else {}
    return {**policy_kwargs, "optimizer_kwargs": {**own, **apart, "weight_decay": weight_decay}}


def with_own_optimizer(policy_class: Any, policy_kwargs: dict[str, Any], weight_decay: float) -> dict[str, Any]:
    """:func:`with_uncompiled_optimizer` and :func:`with_weight_decay`."""
    return with_weight_decay(policy_class, with_uncompiled_optimizer(policy_class, policy_kwargs), weight_decay)


@contextmanager
def own_optimizer(model: Any) -> Iterator[None]:
    """While SB3 makes the model's policy; files of models do not tell of it, since vanilla SB3 opens them."""
    given = model.policy_kwargs
    model.policy_kwargs = with_own_optimizer(model.policy_class, given, model.weight_decay)
    try:
        yield
    finally:
        model.policy_kwargs = given
