"""The states of a model's optimizers in its file, and what they must be to be gone on with.

A model with one optimizer, ``policy.optimizer`` to SB3, has that one's state in its file; one with several has a
dictionary of them by SB3's names, such as ``critic.optimizer``.
"""

from __future__ import annotations

import collections
import copy
from typing import Any

import torch

from palaestra.agents.checkpoints.zip_archive import CheckpointError

_ONLY = "policy.optimizer"
_MAX_SETTING = 1e30  # largest number in an optimizer's settings; float32 holds it


def in_file(parameters: dict[str, Any]) -> Any:
    """What the file holds of a model's ``get_parameters()`` beside its weights."""
    states = {name: state for name, state in parameters.items() if name != "policy"}
    return states[_ONLY] if [*states] == [_ONLY] else states


def checked_states(model: Any, saved: Any) -> dict[str, Any]:
    """The states in a file by SB3's names; raises a CheckpointError unless they are of this model's optimizers."""
    names = [name for name in model._get_torch_save_params()[0] if name != "policy"]
    states = {_ONLY: saved} if names == [_ONLY] else saved
    if not isinstance(states, dict) or {*states} != {*names}:
        raise CheckpointError(f"the file does not hold the states of {', '.join(names)}")
    for name in names:
        owner, _, attribute = name.rpartition(".")
        _check_optimizer(getattr(getattr(model, owner) if owner else model, attribute), states[name])
    return states


def check_finite(what: str, name: str, value: torch.Tensor) -> None:
    if not value.isfinite().all():
        raise CheckpointError(f"{what} hold {'NaN' if value.isnan().any() else 'infinity'} in {name}")


def _check_optimizer(optimizer: torch.optim.Optimizer, saved: Any) -> None:
    """Check an optimizer's state: torch loads any, and a wrong one would fail in the middle of the next update."""
    own = optimizer.state_dict()["param_groups"]
    if not isinstance(saved, dict) or not isinstance(saved.get("state"), dict) or "param_groups" not in saved:
        raise CheckpointError("the file does not hold the state of an optimizer")
    if not _alike(own, saved["param_groups"]):
        raise CheckpointError("the optimizer's settings in the file are not those of this agent's optimizer")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    names = _state_names(optimizer)
    for index, state in saved["state"].items():
        if index not in range(len(parameters)) or not isinstance(state, dict):
            raise CheckpointError(f"the optimizer's state is of a weight {index!r}, which this agent does not have")
        if {*state} != names:
            raise CheckpointError(f"the optimizer's state of weight {index} does not hold {', '.join(sorted(names))}")
        for name, value in state.items():
            expected = () if name == "step" else parameters[index].shape
            floats = isinstance(value, torch.Tensor) and value.is_floating_point()
            if not floats or tuple(value.shape) != tuple(expected):
                raise CheckpointError(f"the optimizer's {name} of weight {index} has another form than the weight")
            check_finite("the optimizer's numbers", f"{name} of weight {index}", value)


def _state_names(optimizer: torch.optim.Optimizer) -> set[str]:
    """Names of the state of each weight in such an optimizer, found by a step on a weight made for this."""
    group = optimizer.param_groups[0]
    weight = torch.zeros(1, device=group["params"][0].device, requires_grad=True)
    weight.grad = torch.zeros_like(weight)
    probe = copy.copy(optimizer)  # classes differ in what their constructors take
    probe.state, probe.param_groups = collections.defaultdict(dict), [{**group, "params": [weight]}]
    probe.step()
    return set(probe.state[weight])


def _alike(own: Any, saved: Any) -> bool:
    """True if settings have the form of the optimizer's own; numbers may differ, but not those of weights."""
    if isinstance(own, dict):
        same_keys = isinstance(saved, dict) and own.keys() == saved.keys() and own.get("params") == saved.get("params")
        return same_keys and all(_alike(own[k], saved[k]) for k in own)
    if isinstance(own, list | tuple):
        return type(own) is type(saved) and len(own) == len(saved) and all(map(_alike, own, saved))
    if own is None or isinstance(own, bool):
        return saved is own
    return type(saved) in (int, float) and abs(saved) < _MAX_SETTING
