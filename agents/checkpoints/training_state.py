"""Checks that the training state in a file has the types and forms that the agent continues with.

The environments' state and the replay memory are checked where they are loaded. There every stored state is observed
once, so that none points beyond a table in the middle of training.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from gymnasium import spaces

from palaestra.envs.core.state_dict import check_form


def check_training_state(model: Any, saved: Any) -> None:
    """Raise a ValueError unless ``saved`` fits the agent and its environments."""
    if not isinstance(saved, dict):
        raise ValueError("the training state is no dictionary")
    if saved["losses"] is not None:
        check_form("training state", {"losses": torch.zeros(len(model._summaries))}, {"losses": saved["losses"]})
    if saved["batch"] is not None:
        own = {"sums": model._statistics.sums, "starts": torch.zeros(model.n_envs, dtype=torch.bool)}
        check_form("training state", own, {name: saved[name] for name in own})
        if not 0 <= float(saved["sums"][0]) < math.inf:
            raise ValueError(f"the training state counts {float(saved['sums'][0])} ended episodes")
        _check_observations(model, saved["obs"])
    if saved["returns"] is not None:
        check_form("training state", {"returns": torch.zeros(model.n_envs)}, {"returns": saved["returns"]})
        if not saved["returns"].isfinite().all():
            raise ValueError("the training state's returns hold NaN or infinity")
    window, logged = saved["window"], saved["logged"]
    if not isinstance(window, list) or not all(isinstance(e, dict) and {"n", "r", "l", "t"} <= {*e} for e in window):
        raise ValueError("the training state's window does not hold reports of episodes")
    if not all(_is_number(value) for report in window for value in report.values()):
        raise ValueError("the training state's window holds something else than numbers")
    if not all(1 <= report["n"] < math.inf for report in window):
        raise ValueError("the training state's window holds reports of no episodes")
    if not isinstance(logged, dict) or not all(_is_entry(name, entry) for name, entry in logged.items()):
        raise ValueError("the training state's logged values are not numbers with names")
    for name, weight in (saved.get("online") or {}).items():
        if not weight.isfinite().all():
            raise ValueError(f"training state.online holds NaN or infinity in {name}")


def _check_observations(model: Any, obs: Any) -> None:
    """Check the observations' shapes; not their types, in which environments may differ from their space."""
    space = model.observation_space
    parts = space.spaces if isinstance(space, spaces.Dict) else {"obs": space}
    found = obs if isinstance(space, spaces.Dict) else {"obs": obs}
    if not isinstance(found, dict) or found.keys() != parts.keys():
        raise ValueError("the training state's observations have other names than the environments'")
    for name, part in parts.items():
        expected = (model.n_envs, *(part.shape or ()))
        if not isinstance(found[name], torch.Tensor) or tuple(found[name].shape) != expected:
            raise ValueError(f"the training state's observations do not have the form {expected}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_entry(name: Any, entry: Any) -> bool:
    return (
        isinstance(name, str)
        and isinstance(entry, tuple | list)
        and len(entry) == 2
        and _is_number(entry[0])
        and isinstance(entry[1], list)
        and all(isinstance(kind, str) for kind in entry[1])
    )
