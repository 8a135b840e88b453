"""One model file that is safe to read and that vanilla Stable-Baselines3 opens too.

1. The file is SB3's zip (``data``, ``policy.pth``, ``policy.optimizer.pth``, …), for SB3 to read, with our own members:
   ``palaestra.json`` (constructor arguments, spaces and counters as plain JSON), ``weights`` and ``optimizer``; in a
   checkpoint ``training``, the state of the training (each a member ``.safetensors`` and one ``.json``); and last
   ``checksums.json``.
2. :func:`read` compares all checksums and reads our own members (:mod:`palaestra.agents.checkpoints.tensor_members`).
   SB3's ``data`` member holds pickles; nothing here looks into it.
3. Weights must have the names and shapes of the agent that the settings describe and be finite, and so must the
   optimizer's state; counters have their ranges. Networks larger than the weights in the file are not built. Where logs
   are written (``tensorboard_log``) is for the caller to say.
4. A file of format 2 has SB3's members and ``training.tensors``, a file of ``torch.save``, in place of our own ones.
5. Of a file of vanilla SB3 the weights are taken; spaces come from ``env``, settings from the caller.
"""

from __future__ import annotations

import io
import json
import os
import pathlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, TypeVar

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import check_for_correct_spaces

from palaestra.agents.buffers.memory_limits import at_most
from palaestra.agents.checkpoints.json_values import CUSTOM_SCHEDULE, decode, decode_space, encode, encode_space
from palaestra.agents.checkpoints.load_arguments import load_arguments, saved_as
from palaestra.agents.checkpoints.optimizer_states import check_finite, checked_states, in_file
from palaestra.agents.checkpoints.random_numbers import random_numbers_kept
from palaestra.agents.checkpoints.tensor_members import (
    map_tensors,
    read_torch_file,
    read_tree,
    write_tree,
)
from palaestra.agents.checkpoints.zip_archive import SUMS, Members, read_json, seal
from palaestra.agents.checkpoints.zip_archive import CheckpointError as CheckpointError
from palaestra.agents.networks.numbering import counted_from_zero
from palaestra.envs.core.atomic_write import write_whole
from palaestra.envs.core.state_dict import check_form

FORMAT, _TORCH_FORMAT = 3, 2
_MEMBER, _WEIGHTS, _OPTIMIZER, _STATE = "palaestra.json", "weights", "optimizer", "training"
_OURS = tuple(f"{name}.{kind}" for name in (_WEIGHTS, _OPTIMIZER, _STATE) for kind in ("json", "safetensors"))
_TORCH_STATE = "training.tensors"
_SB3_MEMBERS: tuple[str, ...] = (
    *("data", "policy.pth", "policy.optimizer.pth", "pytorch_variables.pth", "_stable_baselines3_version"),
    *("actor.optimizer.pth", "critic.optimizer.pth", "ent_coef_optimizer.pth"),
)
_MEMBERS = (*_SB3_MEMBERS, "system_info.txt", _MEMBER, *_OURS, _TORCH_STATE, SUMS)
_COUNTERS = ("num_timesteps", "_total_timesteps", "_n_updates", "_current_progress_remaining", "_episode_num")
_SPACES = ("observation_space", "action_space")
_SPARE_WEIGHTS = 1 << 16  # networks may be built with so many weights more than the file holds
_MAX_ENVS = 1 << 24
_MAX_COUNT = 1 << 62

ModelT = TypeVar("ModelT")


class _NoOptimizer:
    """The optimizer of a policy that only acts. PyTorch's own import its compiler, which takes seconds."""

    def __init__(self, parameters: Any, **settings: Any) -> None:
        self.param_groups: list[dict[str, Any]] = []


def write(
    model: Any, arguments: dict[str, Any], sb3_zip: io.BytesIO, path: Any, training_state: dict[str, Any] | None = None
) -> None:
    """Add ``palaestra.json`` to SB3's zip, and the training state if there is one, and put the whole at ``path``.

    ``path`` is a path or a writable binary file.
    """
    aliases = {cls: alias for alias, cls in model.policy_aliases.items()}
    content = {
        "format": FORMAT,
        "agent": saved_as(type(model)),
        "policy": aliases.get(model.policy_class) or encode("policy", model.policy_class),
        "arguments": {name: encode(name, value) for name, value in arguments.items()},
        "observation_space": encode_space(model.observation_space),
        "action_space": encode_space(model.action_space),
        "num_envs": model.n_envs,
        "counters": {name: getattr(model, name) for name in (*_COUNTERS, *model._counters)},
    }
    if model._reward_scale is not None:
        content["reward_scale"] = model._reward_scale.state()
    parameters = model.get_parameters()
    with zipfile.ZipFile(sb3_zip, "a") as archive:
        archive.writestr(_MEMBER, json.dumps(content, indent=1))
        write_tree(archive, _WEIGHTS, parameters["policy"])
        write_tree(archive, _OPTIMIZER, in_file(parameters))
        if training_state is not None:
            write_tree(archive, _STATE, training_state)
    seal(sb3_zip)
    write_to(with_suffix(pathlib.Path(path)) if isinstance(path, str | os.PathLike) else path, sb3_zip)


def write_to(path: Any, content: io.BytesIO) -> None:
    """Write a file, whole or not at all, or to a binary file that is open."""
    if isinstance(path, pathlib.Path):
        write_whole(path, content.getbuffer())
    else:
        path.write(content.getbuffer())


def with_suffix(path: pathlib.Path, suffix: str = ".zip") -> pathlib.Path:
    """SB3's rule for names of files: the suffix is added to a name without one."""
    return path if path.suffix else path.with_suffix(suffix)


def agent_of(path: str | os.PathLike[str]) -> str:
    """The name of the class of the agent in a model file, such as "PPO"; nothing else of it is read."""
    with opened(path) as members:
        return str(_settings(members)["agent"])


@contextmanager
def opened(source: Any, expected: tuple[str, ...] = _MEMBERS, kind: str = "a model file") -> Iterator[Members]:
    """The members of a model file; whatever goes wrong with them is a CheckpointError."""
    named = isinstance(source, str | os.PathLike)
    label = str(source) if named else "the file"
    if named:
        path = pathlib.Path(source)
        path = path if path.exists() else with_suffix(path)
        if not path.is_file():
            raise FileNotFoundError(f"no model file at {source}")
        source = path.open("rb")
    try:
        members = Members(source, label)
        for name in members.names():
            if name not in expected:
                raise CheckpointError(f"{label} holds {name!r}, which does not belong into {kind}")
        yield members
    except CheckpointError as error:
        if label in str(error):
            raise
        raise CheckpointError(f"{label}: {error}") from error
    except Exception as error:  # on damaged input zipfile, JSON values, SB3 and constructors raise anything
        first_line = str(error).strip().split("\n")[0]
        raise CheckpointError(f"cannot load {label}: {type(error).__name__}: {first_line}") from error
    finally:
        if named:
            source.close()


def _settings(members: Members) -> dict[str, Any]:
    if _MEMBER not in members.names():
        raise CheckpointError(f"{members.label} was not saved by palaestra (there is no {_MEMBER} in it)")
    members.verify(_MEMBER)
    content = read_json(members, _MEMBER)
    if content.get("format") not in (FORMAT, _TORCH_FORMAT):
        raise CheckpointError(f"{members.label} has format {content.get('format')}, this version reads format {FORMAT}")
    return content


def read(
    model_class: type[ModelT],
    path: Any,
    env: Any = None,
    device: torch.device | str = "auto",
    overrides: dict[str, Any] | None = None,
    to_act: bool = False,
) -> ModelT:
    """A model from a file that :func:`write` or vanilla SB3 made; see ``PPO.load``.

    With ``to_act`` it acts and predicts but cannot learn: it has no optimizer, and schedules that were functions, which
    a file cannot hold, are not asked for. Random numbers go on as if it had not been read; else they begin anew from
    its seed.
    """
    overrides = load_arguments(model_class, overrides or {})
    with opened(path) as members:
        if not {_MEMBER, SUMS} & {*members.names()} and "_stable_baselines3_version" in members.names():
            return _from_sb3(model_class, members, env, device, overrides)  # type: ignore[no-any-return]
        content = _settings(members)
        members.verify()
        if content["agent"] != saved_as(model_class):
            raise CheckpointError(f"{members.label} holds a {content['agent']} agent, not {saved_as(model_class)}")
        weights = _finite_weights(members, content["format"])
        ours = content["format"] == FORMAT
        if to_act:
            overrides = {**overrides, "policy_kwargs": {"optimizer_class": _NoOptimizer}}
            content["arguments"] = {k: v for k, v in content["arguments"].items() if v != CUSTOM_SCHEDULE}
        too_many = CheckpointError("the settings describe networks larger than the weights in the file")
        largest = at_most(_SPARE_WEIGHTS + 2 * sum(value.numel() for value in weights.values()), too_many)
        with largest, random_numbers_kept() if to_act else nullcontext():
            model = _build(model_class, content, env, device, overrides)
        check_form("policy weights", model.policy.state_dict(), weights)
        if to_act:
            model.policy.load_state_dict(weights)
            return model  # type: ignore[no-any-return]
        optimizer = read_tree(members, _OPTIMIZER) if ours else read_torch_file(members, "policy.optimizer.pth")
        states = checked_states(model, optimizer)
        model.set_parameters({"policy": weights, **states}, exact_match=True, device=model.device)
        return model  # type: ignore[no-any-return]


def _from_sb3(
    model_class: Any, members: Members, env: Any, device: torch.device | str, overrides: dict[str, Any]
) -> Any:
    """The weights in a file of vanilla SB3 in a new model."""
    if env is None:
        raise CheckpointError(
            f"{members.label} was not saved by palaestra but by stable_baselines3: its spaces and settings are "
            "pickles, which are never opened; pass env=…, and policy=… and policy_kwargs=… unless they are the defaults"
        )
    members.verify_crc()
    weights = _finite_weights(members, _TORCH_FORMAT)
    space = getattr(env, "single_observation_space", None) or getattr(env, "observation_space", None)
    usual = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    arguments = dict(overrides)
    model = model_class(arguments.pop("policy", None) or usual, env, device=device, **arguments)
    check_form("policy weights", model.policy.state_dict(), weights)
    model.policy.load_state_dict(weights)
    return model


def read_weights(path: Any, model: Any) -> dict[str, torch.Tensor]:
    """The weights in a model file of any agent, ours or vanilla SB3's, for a model with a policy of the same form."""
    with opened(path) as members:
        found, scaled = _TORCH_FORMAT, False
        if {_MEMBER, SUMS} & {*members.names()}:
            content = _settings(members)
            found, scaled = content["format"], bool(content["arguments"].get("scale_actions", False))
            members.verify()
        else:
            members.verify_crc()
        weights = _finite_weights(members, found)
        check_form("policy weights", model.policy.state_dict(), weights)
        if isinstance(model.action_space, spaces.Box) and scaled != getattr(model, "scale_actions", scaled):
            raise CheckpointError(f"{members.label} was trained with scale_actions={scaled}: set that here too")
        return weights


def _finite_weights(members: Members, file_format: int) -> dict[str, torch.Tensor]:
    weights = read_tree(members, _WEIGHTS) if file_format == FORMAT else read_torch_file(members, "policy.pth")
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(f"{members.label}: the weights are something else than named tensors")
    for name, value in weights.items():
        check_finite(f"{members.label}: policy weights", name, value)
    return weights


def _build(
    model_class: Any, content: dict[str, Any], env: Any, device: torch.device | str, overrides: dict[str, Any]
) -> Any:
    """The model without its weights: constructor, spaces and counters."""
    stored = {name: value for name, value in content["arguments"].items() if name not in overrides}
    if overrides.get("policy_kwargs"):  # those that are given replace the file's one by one
        kept = content["arguments"].get("policy_kwargs") or {}
        kept = {name: value for name, value in kept.items() if name not in overrides["policy_kwargs"]}
        kwargs = {**decode("policy_kwargs", kept), **overrides["policy_kwargs"]}
        overrides = {**overrides, "policy_kwargs": kwargs}
    arguments = {name: decode(name, value) for name, value in stored.items()} | overrides
    policy = arguments.pop("policy", content["policy"])
    policy = policy if isinstance(policy, str | type) else decode("policy", policy)
    if not isinstance(policy, str) and not issubclass(policy, BasePolicy):
        raise CheckpointError(f"{policy.__name__} is not a policy")
    observation_space, action_space = (decode_space(content[k]) for k in _SPACES)
    model = model_class(policy, env, device=device, _init_setup_model=False, **arguments)
    if env is None:
        if type(content["num_envs"]) is not int or not 1 <= content["num_envs"] <= _MAX_ENVS:
            raise CheckpointError(f"bad number of environments {content['num_envs']!r}")
        model.observation_space, model.action_space, model.n_envs = observation_space, action_space, content["num_envs"]
    else:
        # older files count actions from 0; the model has the spaces of ``env``
        theirs = SimpleNamespace(**{k: counted_from_zero(getattr(model.env, k)) for k in _SPACES})
        check_for_correct_spaces(theirs, *map(counted_from_zero, (observation_space, action_space)))  # type: ignore[arg-type]
    model._setup_model()
    if unknown := {*stored} - {*model._saved_arguments()}:
        raise CheckpointError(f"the settings hold {min(unknown)!r}, which no saved {model_class.__name__} has")
    for name, value in content["counters"].items():
        if name not in (*_COUNTERS, *model._counters) or not _is_counter(getattr(model, name), value):
            raise CheckpointError(f"bad counter {name}={value!r}")
        setattr(model, name, value)
    if model._reward_scale is not None and "reward_scale" in content:
        model._reward_scale.set_state(content["reward_scale"])
    return model


def _is_counter(own: Any, value: Any) -> bool:
    """True if it can replace ``own``: a count for a count, a share for a share."""
    if isinstance(own, int):
        return type(value) is int and 0 <= value < _MAX_COUNT
    return type(value) in (int, float) and abs(value) < _MAX_COUNT


def read_training_state(path: Any, device: torch.device, use: Callable[[dict[str, Any]], None]) -> None:
    """Pass the training state that :func:`write` added to ``use``, which may raise any error if it is wrong."""
    with opened(path) as members:
        ours = _settings(members)["format"] == FORMAT
        names = (f"{_STATE}.json", f"{_STATE}.safetensors") if ours else (_TORCH_STATE,)
        if names[0] not in members.names():
            raise CheckpointError(f"{members.label} is a model without its training state; load() takes its weights")
        members.verify(*names)
        saved = read_tree(members, _STATE) if ours else read_torch_file(members, _TORCH_STATE)
        use(map_tensors(lambda tensor: tensor.to(device), saved))
