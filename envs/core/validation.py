"""Errors for values of the wrong form that go into an environment's rules or come out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from gymnasium.spaces import Discrete, Space
from torch import Tensor

from palaestra.envs.core.errors import EnvError


def check_state(env: Any, fields: Mapping[str, Any], num_envs: int) -> None:
    """Raise an EnvError unless every field of a state has one row per environment."""
    for name, field in fields.items():
        if not isinstance(field, Tensor) or field.dim() == 0 or field.shape[0] != num_envs:
            got = tuple(field.shape) if isinstance(field, Tensor) else type(field).__name__
            raise _error(env, f"state.{name}", f"must be a tensor whose first dimension is {num_envs}, got {got}")


def refuse_actions(actions: Any, space: Space[Any], num_envs: int, device: torch.device) -> NoReturn:
    """Raise a ValueError: the actions [N, …] are not in the space of one environment."""
    shape = (num_envs, *(space.shape or ()))
    if not isinstance(actions, Tensor) or tuple(actions.shape) != shape:
        got = tuple(actions.shape) if hasattr(actions, "shape") else type(actions).__name__
        raise ValueError(f"actions must be a tensor of shape {shape}, got {got}")
    if actions.device.type != device.type:
        raise ValueError(f"actions are on {actions.device}, the environment is on {device}")
    assert isinstance(space, Discrete)
    first, last = int(space.start), int(space.start + space.n - 1)
    low, high = (value.item() for value in actions.aminmax())
    raise ValueError(f"actions must be {first} … {last}, got {low} … {high}")


def refuse_returned(env: Any, name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> NoReturn:
    """Raise an EnvError: ``value``, which the rules ``env`` returned, has another form."""
    if not isinstance(value, Tensor):
        raise _error(env, name, f"must be a tensor, got {type(value).__name__}")
    if tuple(value.shape) != shape:
        raise _error(env, name, f"must have shape {shape}, got {tuple(value.shape)}")
    if value.dtype != dtype:
        raise _error(env, name, f"must be {dtype}, got {value.dtype}")
    raise _error(env, name, f"must be on {env.device}, got {value.device}")


def _error(env: Any, name: str, problem: str) -> EnvError:
    return EnvError(f"{type(env).__name__}: {name} {problem}")
