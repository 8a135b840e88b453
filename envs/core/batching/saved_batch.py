"""A batch's running episodes as a dictionary of tensors: what a checkpoint holds of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.envs.core.batching.records import state_fields
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.state_dict import check_form

COUNTERS = ("episode", "episode_length", "episode_return")


def saved(batch: Any) -> dict[str, Any]:
    """The running episodes of a batch that has begun: states, which episodes they are, and their statistics so far."""
    counters = {name: getattr(batch, name) for name in COUNTERS}
    fields = state_fields(batch.state).items()
    state = {name: field.clone(memory_format=torch.contiguous_format) for name, field in fields}
    return {"state": state, **counters, "seed": batch.seed, "first_env_index": int(batch.env_indices[0])}


def checked(batch: Any, content: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """State and counters of :func:`saved`, for this batch.

    Raises:
        ValueError: if they are of another environment or another number of them.
    """
    form = batch.env.reset(Rng(batch.env_keys, 0))
    counters = {name: content[name] for name in COUNTERS}
    own = {"episode": batch.episode, "episode_length": batch.episode, "episode_return": batch.episode.float()}
    check_form("state", state_fields(form), content["state"])
    check_form("batch", own, counters)
    for name, value in counters.items():
        if not value.isfinite().all() or (name != "episode_return" and bool((value < 0).any())):
            raise ValueError(f"batch.{name} holds numbers that no episode has")
    state = type(form)(**{name: value.to(batch.device) for name, value in content["state"].items()})
    try:
        batch.env.observe(state)
    except Exception as error:  # rules that look something up raise anything on what they never made
        raise ValueError(f"this environment is never in such a state ({type(error).__name__}: {error})") from error
    return state, {name: value.to(batch.device) for name, value in counters.items()}
