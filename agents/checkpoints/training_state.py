"""The training state of an agent: taken from it, checked, and restored.

It is checked for the types and forms that the agent continues with. The environments' state and the replay memory are
checked where they are loaded. There every stored state is observed once, so that none points beyond a table in the
middle of training.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import torch
from gymnasium import spaces

from palaestra.agents.training.score_schedule import follow_score
from palaestra.agents.training.self_play import pool_state, restore_pool
from palaestra.agents.training.stages import restore_stage, stage_of
from palaestra.envs.core.state_dict import check_form


def training_state(model: Any) -> dict[str, Any]:
    """Everything that a continued run depends on beside the model: tensors, numbers and text only."""
    # recorded by the last update, for the next iteration's row
    values = model.logger.name_to_value.items() if hasattr(model, "_logger") else ()
    logged = {name: value if isinstance(value, int) else float(value) for name, value in values}
    cuda = model.device.type == "cuda"
    return {
        "batch": model.batch.state_dict(),
        "obs": model._last_obs,
        "starts": model._last_episode_starts,
        "sums": model._statistics.sums,
        "has_ended": model._statistics.has_ended,
        "has_success": model._statistics.has_success,
        "losses": model._losses,
        "window": list(model.ep_info_buffer or ()),
        "logged": {name: (v, list(model.logger.name_to_excluded.get(name) or ())) for name, v in logged.items()},
        "generator": torch.cuda.get_rng_state(model.device) if cuda else torch.get_rng_state(),
        "returns": None if model._reward_scale is None else model._reward_scale.returns,
        **stage_of(model),
        **pool_state(model),
        **model._extra_training_state(),
    }


def restore_training_state(model: Any, saved: Any) -> None:
    """Continue with a training state, in a model just loaded.

    Raises:
        ValueError: if it does not fit the agent or its environments.
    """
    if not isinstance(saved, dict):
        raise ValueError("the training state is no dictionary")
    restore_stage(model, saved)
    _check(model, saved)
    restore_pool(model, saved)
    if saved["batch"] is not None:
        model.batch.load_state_dict(saved["batch"])
        model._last_obs, model._last_episode_starts = saved["obs"], saved["starts"]
        model._statistics.sums, model._statistics.has_success = saved["sums"], bool(saved["has_success"])
        if model._reward_scale is not None:
            model._reward_scale.returns = saved["returns"]
    if "has_ended" in saved:  # files of earlier versions lack it
        model._statistics.has_ended = saved["has_ended"]
    model._losses = saved["losses"]
    model.ep_info_buffer = deque(saved["window"])
    follow_score(model)
    model._to_log = dict(saved["logged"])
    if model.device.type == "cuda":
        torch.cuda.set_rng_state(saved["generator"].cpu(), model.device)
    else:
        torch.set_rng_state(saved["generator"])
    model._set_extra_training_state(saved)


def _check(model: Any, saved: Any) -> None:
    """Raise a ValueError unless ``saved`` fits the agent and its environments."""
    if saved["losses"] is not None:
        check_form("training state", {"losses": torch.zeros(len(model._summaries))}, {"losses": saved["losses"]})
    if saved["batch"] is not None:
        own = {"sums": model._statistics.sums, "starts": torch.zeros(model.n_envs, dtype=torch.bool)}
        check_form("training state", own, {name: saved[name] for name in own})
        if not 0 <= float(saved["sums"][0]) < math.inf:
            raise ValueError(f"the training state counts {float(saved['sums'][0])} ended episodes")
        _check_observations(model, saved["obs"])
    if "has_ended" in saved:
        own = {"has_ended": model._statistics.has_ended}
        check_form("training state", own, {"has_ended": saved["has_ended"]})
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
