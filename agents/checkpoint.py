"""One model file that is safe to read and that vanilla Stable-Baselines3 opens too.

1. The file is SB3's zip (``data``, ``policy.pth``, ``policy.optimizer.pth``, …) with one more member,
   ``palaestra.json``: constructor arguments, spaces and counters as plain JSON.
2. :func:`read` takes the settings from ``palaestra.json`` and the weights through ``torch.load(weights_only=True)``.
   SB3's ``data`` member holds pickles; it is never opened here. Classes are stored by name and looked up only in torch,
   Stable-Baselines3 and palaestra, and only subclasses of ``nn.Module`` and ``Optimizer`` are accepted.
3. A file is written beside its target, flushed to the disk and renamed, so a reader sees the old file or the new one.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any, TypeVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule, check_for_correct_spaces
from torch import nn

FORMAT = 1
_MEMBER = "palaestra.json"
_STATE_MEMBER = "training.pth"
_MAX_JSON_BYTES = 64 << 20
_MAX_BYTES = 8 << 30
_SAFE_PACKAGES = ("torch", "stable_baselines3", "palaestra")
_COUNTERS = ("num_timesteps", "_total_timesteps", "_n_updates", "_current_progress_remaining", "_episode_num")

ModelT = TypeVar("ModelT")


class CheckpointError(ValueError):
    """A model file cannot be used; the message says which and why."""


# ---------------------------------------------------------------------------------------------------- values as JSON


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
    if isinstance(value, LinearSchedule):
        return {"schedule": "linear", "start": value.start, "end": value.end, "end_fraction": value.end_fraction}
    if callable(value):
        return {"schedule": "custom"}
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
    if value.get("schedule") == "custom":
        raise CheckpointError(f"{name} was a function, which a safe file cannot hold: pass {name}=… to load()")
    return {key: decode(f"{name}.{key}", item) for key, item in value.items()}


def _safe_class(name: str, path: Any) -> type:
    module_name, _, class_name = str(path).partition(":")
    if module_name.split(".")[0] in _SAFE_PACKAGES:
        try:
            found: Any = importlib.import_module(module_name)
            for part in class_name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            raise CheckpointError(f"{name}: there is no class {path}") from error
        if isinstance(found, type) and issubclass(found, nn.Module | torch.optim.Optimizer):
            return found
    raise CheckpointError(
        f"{name}: {path} is not a network class of torch, stable_baselines3 or palaestra; pass it to load()"
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
        return {"type": "MultiDiscrete", "nvec": space.nvec.tolist()}
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
        bounds = [np.broadcast_to(np.asarray(data[key], dtype=dtype), shape) for key in ("low", "high")]
        return spaces.Box(bounds[0], bounds[1], shape, dtype.type)
    if kind == "Discrete":
        return spaces.Discrete(data["n"], start=data["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(data["nvec"])
    if kind == "MultiBinary":
        return spaces.MultiBinary(data["n"])
    if kind == "Dict":
        return spaces.Dict({key: decode_space(sub) for key, sub in data["spaces"].items()})
    raise CheckpointError(f"unknown space type {kind!r}")


# ---------------------------------------------------------------------------------------------------- writing


def write(
    model: Any, arguments: dict[str, Any], sb3_zip: io.BytesIO, path: Any, training_state: dict[str, Any] | None = None
) -> None:
    """Add ``palaestra.json`` to SB3's zip, and the training state if there is one, and put the whole at ``path``.

    ``path`` is a path or a writable binary file.
    """
    aliases = {cls: alias for alias, cls in model.policy_aliases.items()}
    content = {
        "format": FORMAT,
        "agent": type(model).__name__,
        "policy": aliases.get(model.policy_class) or encode("policy", model.policy_class),
        "arguments": {name: encode(name, value) for name, value in arguments.items()},
        "observation_space": encode_space(model.observation_space),
        "action_space": encode_space(model.action_space),
        "num_envs": model.n_envs,
        "counters": {name: getattr(model, name) for name in (*_COUNTERS, *model._counters)},
    }
    if model._reward_scale is not None:
        content["reward_scale"] = model._reward_scale.state()
    with zipfile.ZipFile(sb3_zip, "a") as archive:
        archive.writestr(_MEMBER, json.dumps(content, indent=1))
        if training_state is not None:
            with archive.open(_STATE_MEMBER, "w", force_zip64=True) as member:
                torch.save(training_state, member)
    if isinstance(path, str | os.PathLike):
        write_whole(with_suffix(pathlib.Path(path)), sb3_zip.getvalue())
    else:
        path.write(sb3_zip.getvalue())


def with_suffix(path: pathlib.Path) -> pathlib.Path:
    """SB3's rule for model names: ``.zip`` is added to a name without a suffix."""
    return path if path.suffix else path.with_suffix(".zip")


def write_whole(path: pathlib.Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, whenever the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# ---------------------------------------------------------------------------------------------------- reading


def agent_of(path: str | os.PathLike[str]) -> str:
    """The name of the class of the agent in a model file, such as "PPO"; nothing else of it is read."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(_read_settings(archive, str(path))["agent"])
    except CheckpointError:
        raise
    except Exception as error:  # see read
        raise _unreadable(str(path), error) from error


def _unreadable(label: str, error: Exception) -> CheckpointError:
    first_line = str(error).strip().split("\n")[0]
    return CheckpointError(f"cannot load {label}: {type(error).__name__}: {first_line}")


def read(
    model_class: type[ModelT], path: Any, env: Any, device: torch.device | str, overrides: dict[str, Any]
) -> ModelT:
    """A model from a file that :func:`write` made; see ``PPO.load``."""
    label = str(path) if isinstance(path, str | os.PathLike) else "the file"
    source = path
    if isinstance(path, str | os.PathLike):
        source = pathlib.Path(path)
        source = source if source.exists() else with_suffix(source)
        if not source.is_file():
            raise FileNotFoundError(f"no model file at {path}")
    try:
        with zipfile.ZipFile(source) as archive:
            content = _read_settings(archive, label)
            states = {name: _read_weights(archive, name) for name in ("policy", "policy.optimizer")}
        if content["agent"] != model_class.__name__:
            raise CheckpointError(f"{label} holds a {content['agent']} agent, not {model_class.__name__}")
        model = _build(model_class, content, env, device, overrides)
        model.set_parameters(states, exact_match=True, device=model.device)
    except CheckpointError:
        raise
    except Exception as error:  # on damaged input zipfile, zlib, json, torch.load and constructors raise anything
        raise _unreadable(label, error) from error
    return model  # type: ignore[no-any-return]


def read_training_state(path: Any, device: torch.device, use: Callable[[dict[str, Any]], None]) -> None:
    """Give the training state that :func:`write` added to ``use``, which may raise what it likes of a wrong one."""
    try:
        with zipfile.ZipFile(path) as archive:
            _read_settings(archive, str(path))  # whether it is ours, and not too large
            if _STATE_MEMBER not in archive.namelist():
                raise CheckpointError(f"{path} is a model without its training state; load() takes its weights")
            with archive.open(_STATE_MEMBER) as member:
                state = torch.load(io.BytesIO(member.read()), map_location="cpu", weights_only=True)
        use(_moved(state, device))
    except CheckpointError:
        raise
    except Exception as error:  # see read
        raise _unreadable(str(path), error) from error


def _moved(value: Any, device: torch.device) -> Any:
    """Nested containers with their tensors on ``device``, but for the bytes of generators, which are the host's."""
    if isinstance(value, dict):
        return {key: item if key == "generator" else _moved(item, device) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _read_settings(archive: zipfile.ZipFile, label: str) -> dict[str, Any]:
    if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
        raise CheckpointError(f"{label} would unpack to more than {_MAX_BYTES >> 30} GiB")
    if _MEMBER not in archive.namelist():
        raise CheckpointError(f"{label} was not saved by palaestra (there is no {_MEMBER} in it)")
    if archive.getinfo(_MEMBER).file_size > _MAX_JSON_BYTES:
        raise CheckpointError(f"{label}: its settings are larger than {_MAX_JSON_BYTES >> 20} MiB")
    content: dict[str, Any] = json.loads(archive.read(_MEMBER))
    if content.get("format") != FORMAT:
        raise CheckpointError(f"{label} has format {content.get('format')}, this version reads format {FORMAT}")
    return content


def _read_weights(archive: zipfile.ZipFile, name: str) -> Any:
    return torch.load(io.BytesIO(archive.read(f"{name}.pth")), map_location="cpu", weights_only=True)


def _build(
    model_class: Any, content: dict[str, Any], env: Any, device: torch.device | str, overrides: dict[str, Any]
) -> Any:
    """The model without its weights: constructor, spaces and counters."""
    stored = {name: value for name, value in content["arguments"].items() if name not in overrides}
    arguments = {name: decode(name, value) for name, value in stored.items()} | overrides
    policy = arguments.pop("policy", content["policy"])
    policy = policy if isinstance(policy, str | type) else decode("policy", policy)
    if not isinstance(policy, str) and not issubclass(policy, BasePolicy):
        raise CheckpointError(f"{policy.__name__} is not a policy")
    observation_space, action_space = (decode_space(content[k]) for k in ("observation_space", "action_space"))
    model = model_class(policy, env, device=device, _init_setup_model=False, **arguments)
    if env is None:
        model.observation_space, model.action_space, model.n_envs = observation_space, action_space, content["num_envs"]
    else:
        check_for_correct_spaces(model.env, observation_space, action_space)
    model._setup_model()
    for name, value in content["counters"].items():
        if name not in (*_COUNTERS, *model._counters) or isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckpointError(f"bad counter {name}={value!r}")
        setattr(model, name, value)
    if model._reward_scale is not None and "reward_scale" in content:
        model._reward_scale.set_state(content["reward_scale"])
    return model
