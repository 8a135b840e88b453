"""Constructor arguments and spaces as plain JSON, and back.

Classes are stored by name and looked up only in torch, Stable-Baselines3 and palaestra, and only subclasses of
``nn.Module`` and ``Optimizer`` are accepted.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn

from palaestra.agents.checkpoints.zip_archive import CheckpointError
from palaestra.agents.training.score_schedule import ScoreSchedule

_SAFE_PACKAGES = ("torch", "stable_baselines3", "palaestra")
CUSTOM_SCHEDULE = {"schedule": "custom"}  # in place of a function
_MAX_SPACE = 1 << 24  # numbers in an observation or action


def encode(name: str, value: Any) -> Any:
    """A constructor argument as JSON: numbers, text, containers, classes by name, schedules by their numbers."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {str(key): encode(f"{name}.{key}", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encode(name, item) for item in value]
    if isinstance(value, type):
        return {"class": f"{value.__module__}:{value.__qualname__}"}
    if isinstance(value, FloatSchedule):
        return encode(name, value.value_schedule)
    if isinstance(value, ConstantSchedule):
        return value.val
    if isinstance(value, ScoreSchedule):
        return {"schedule": "score", "start": value.start, "end": value.end}
    if isinstance(value, LinearSchedule):
        return {"schedule": "linear", "start": value.start, "end": value.end, "end_fraction": value.end_fraction}
    if callable(value):
        return CUSTOM_SCHEDULE
    raise CheckpointError(f"cannot store {name}={value!r} as plain data; pass it again when loading")


def decode(name: str, value: Any) -> Any:
    """The inverse of :func:`encode`."""
    if isinstance(value, list):
        return [decode(name, item) for item in value]
    if not isinstance(value, dict):
        return value
    if "class" in value:
        return _safe_class(name, value["class"])
    if value.get("schedule") == "linear":
        return LinearSchedule(float(value["start"]), float(value["end"]), float(value["end_fraction"]))
    if value.get("schedule") == "score":
        return ScoreSchedule(float(value["start"]), float(value["end"]))
    if value == CUSTOM_SCHEDULE:
        raise CheckpointError(f"{name} was a function, which a safe file cannot hold: pass {name}=… to load()")
    return {key: decode(f"{name}.{key}", item) for key, item in value.items()}


def _safe_class(name: str, path: Any) -> type:
    module_name, _, class_name = str(path).partition(":")
    if module_name.split(".")[0] in _SAFE_PACKAGES:
        try:
            found: Any = importlib.import_module(module_name)
            for part in class_name.split("."):
                found = getattr(found, part)
        except Exception as error:  # a module that does not fit this installation raises anything
            raise CheckpointError(f"{name}: there is no class {path}") from error
        if isinstance(found, type) and issubclass(found, nn.Module | torch.optim.Optimizer):
            return found
    argument, _, key = name.partition(".")
    own = str(path).rpartition(":")[2]
    way_out = f"{argument}={{{key!r}: {own}}}" if key else f"{argument}={own}"
    raise CheckpointError(
        f"{name}: {path} is not a network class of torch, stable_baselines3 or palaestra; pass {way_out} to load()"
    )


def encode_space(space: gymnasium.Space[Any]) -> dict[str, Any]:
    """A Gymnasium space as JSON."""
    if isinstance(space, spaces.Box):
        bounds = {}
        for key, bound in (("low", space.low), ("high", space.high)):
            bounds[key] = bound.flat[0].item() if bound.size and (bound == bound.flat[0]).all() else bound.tolist()
        return {"type": "Box", **bounds, "shape": list(space.shape), "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": np.asarray(space.n).tolist()}
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: encode_space(sub) for key, sub in space.spaces.items()}}
    raise CheckpointError(f"cannot store a space of type {type(space).__name__}")


def decode_space(data: dict[str, Any]) -> gymnasium.Space[Any]:
    """The inverse of :func:`encode_space`."""
    kind = data["type"]
    if kind == "Box":
        shape, dtype = tuple(data["shape"]), np.dtype(data["dtype"])
        _check_size(math.prod(shape))
        bounds = [np.broadcast_to(np.asarray(data[key], dtype=dtype), shape) for key in ("low", "high")]
        return spaces.Box(bounds[0], bounds[1], shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(data["n"], start=data["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(data["nvec"], start=data.get("start"))  # older files do not say it
    if kind == "MultiBinary":
        _check_size(int(np.prod(data["n"], dtype=float)))
        return spaces.MultiBinary(data["n"])
    if kind == "Dict":
        return spaces.Dict({key: decode_space(sub) for key, sub in data["spaces"].items()})
    raise CheckpointError(f"unknown space type {kind!r}")


def _check_size(count: int) -> None:
    if not 0 <= count <= _MAX_SPACE:
        raise CheckpointError(f"a space of {count} numbers; at most {_MAX_SPACE} are allowed")
