"""What a Gymnasium environment returns, brought into one form.

What has another form than the environment's spaces promise is an :class:`EnvError` that says so; what can be converted
without loss (a list, a whole number in a float, a tensor) is.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space, spaces
from gymnasium.wrappers import FilterObservation
from torch import Tensor

from palaestra.envs.core import Array, EnvError


def fitting(space: Space[Any], obs: Any, name: str = "observation") -> Any:
    """The observation as arrays of the shapes and dtypes of its space; itself where it has them already.

    Raises:
        EnvError: if it is of another shape, or has numbers that the space's dtype cannot hold.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, Mapping) or not space.spaces.keys() <= obs.keys():
            raise EnvError(f"{name} must be a dict of {', '.join(map(str, space.spaces))}, got {shown(obs)}")
        return {key: fitting(inner, obs[key], f"{name}[{key!r}]") for key, inner in space.spaces.items()}
    if type(obs) is np.ndarray and obs.dtype == space.dtype and obs.shape == space.shape:
        return obs
    return _converted(space, obs, name) if isinstance(space, NUMERIC) else obs


NUMERIC = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def _converted(space: Space[Any], obs: Any, name: str) -> Array:
    array = np.asarray(obs.detach().cpu() if isinstance(obs, Tensor) else obs)
    if array.dtype.kind not in "biuf":
        raise EnvError(f"{name} must be numbers of shape {space.shape}, got {shown(obs)}")
    if array.shape != space.shape:
        raise EnvError(f"{name} must have shape {space.shape}, got {array.shape}")
    with np.errstate(all="ignore"):
        converted = array.astype(space.dtype)
    if not np.can_cast(array.dtype, converted.dtype, "same_kind") and (lost := converted != array).any():
        raise EnvError(f"{name} must be {space.dtype}, got {array[lost].flat[0]} in an array of {array.dtype}")
    return converted


def without_texts(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    """The environment without the texts in its Dict observations, which no agent reads; said once."""
    space = env.observation_space
    if not isinstance(space, spaces.Dict):
        return env
    texts = [key for key, part in space.spaces.items() if part.dtype is not None and part.dtype.kind == "U"]
    if not texts or len(texts) == len(space.spaces):
        return env
    warnings.warn(f"observation {', '.join(texts)} is left out: agents read no texts", stacklevel=2)
    return FilterObservation(env, [key for key in space.spaces if key not in texts])


def copied(obs: Any) -> Any:
    """The observation in memory of its own, since the environment may change its arrays in the next call."""
    return {key: copied(part) for key, part in obs.items()} if isinstance(obs, dict) else np.array(obs)


def number(name: str, value: Any) -> float:
    """A reward or a flag as a number; arrays of one element are taken for it.

    Raises:
        EnvError: if it is none.
    """
    array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    if array.size != 1 or array.dtype.kind not in "biuf":
        what = "must be a number" if name == "reward" else "must be a truth value or a number"
        got = f"an array of shape {array.shape}" if array.dtype.kind in "biuf" else shown(value)
        raise EnvError(f"{name} {what}, got {got}")
    return float(array.item())


def mask_size(space: Space[Any]) -> int | None:
    """How many entries an action mask has: one for every choice; None where the actions are no choices."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    return int(space.nvec.sum()) if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 else None


def action_mask(value: Any, size: int) -> Array:
    """A mask of legal actions as bool [size]; those of several choices, one after the other, may be apart.

    Raises:
        EnvError: if it has another number of entries.
    """
    parts = value if isinstance(value, tuple | list) and np.ndim(value[0]) else [value]
    mask = np.concatenate([np.asarray(part).ravel() for part in parts])
    if mask.shape != (size,) or mask.dtype.kind not in "biuf":
        raise EnvError(f"an action mask must have {size} truth values, one for each action, got {shown(value)}")
    return mask.astype(bool)


def shown(value: Any) -> str:
    """A value in a few words, for messages."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:79] + "…"
