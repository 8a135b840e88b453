"""Shape, dtype and device of what goes into an environment's rules and comes out of them.

Metadata only, so nothing synchronises; the values of discrete actions are looked at on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from gymnasium.spaces import Discrete, Space
from torch import Tensor

from palaestra.envs.core.errors import EnvError


def check_actions(actions: Any, space: Space[Any], num_envs: int, device: torch.device) -> None:
    """Raise a ValueError unless the actions [N, …] are in the space of one environment."""
    shape = (num_envs, *(space.shape or ()))
    if not isinstance(actions, Tensor) or tuple(actions.shape) != shape:
        got = tuple(actions.shape) if hasattr(actions, "shape") else type(actions).__name__
        raise ValueError(f"actions must be a tensor of shape {shape}, got {got}")
    if actions.device.type != device.type:
        raise ValueError(f"actions are on {actions.device}, the environment is on {device}")
    if isinstance(space, Discrete) and device.type == "cpu":
        first, count = int(space.start), int(space.n)
        low, high = actions.aminmax()
        if low < first or high >= first + count:
            raise ValueError(f"actions must be {first} … {first + count - 1}, got {int(low)} … {int(high)}")


def check_state(env: Any, fields: Mapping[str, Any], num_envs: int) -> None:
    """Raise an EnvError unless every field of a state has one row per environment."""
    for name, field in fields.items():
        if not isinstance(field, Tensor) or field.dim() == 0 or field.shape[0] != num_envs:
            got = tuple(field.shape) if isinstance(field, Tensor) else type(field).__name__
            raise _error(env, f"state.{name}", f"must be a tensor whose first dimension is {num_envs}, got {got}")


def check_returned(env: Any, name: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise an EnvError unless ``value``, which the rules ``env`` returned, has that form."""
    if not isinstance(value, Tensor):
        raise _error(env, name, f"must be a tensor, got {type(value).__name__}")
    if tuple(value.shape) != shape:
        raise _error(env, name, f"must have shape {shape}, got {tuple(value.shape)}")
    if value.dtype != dtype:
        raise _error(env, name, f"must be {dtype}, got {value.dtype}")
    if value.device.type != env.device.type:
        raise _error(env, name, f"must be on {env.device}, got {value.device}")


def _error(env: Any, name: str, problem: str) -> EnvError:
    return EnvError(f"{type(env).__name__}: {name} {problem}")
