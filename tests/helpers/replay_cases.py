"""Environments and wrappings whose steps can be replayed, and the comparison of steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.agents.graphs.slots import tensors_of
from palaestra.envs.core.rng import Rng, sample_actions
from palaestra.envs.registry import entries

NAMES = [entry.short_name for entry in entries() if entry.id.startswith("palaestra/")]
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in NAMES}
CASES |= {
    "snake grid": ("snake-small", {"observation": "grid"}),
    "snake absolute": ("snake-small", {"actions": "absolute"}),
    "reach cartesian": ("reach", {"control": "cartesian"}),
    "reach-torque payload": ("reach-torque", {"payload": (0.0, 1.0), "action_delay": 1}),
    "pricing rules": ("pricing", {"max_change": 60, "hold": 3, "replenish": {20: 5}}),
    "cartpole wrapped": ("cartpole", {"sticky_actions": 0.25, "frame_stack": 3, "observation_noise": 0.1}),
    "cartpole drawn": ("cartpole", {"randomized": {"pole_mass": (0.05, 0.5)}}),
}


def actions_of(batch: Any, step: int) -> Tensor:
    return sample_actions(batch.single_action_space, Rng(batch.env_indices, step), batch.action_masks())


def assert_same(one: Any, other: Any, what: str = "") -> None:
    ours, theirs = tensors_of(one), tensors_of(other)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), what
        assert torch.equal(a, b), what


def result_of(batch: Any, actions: Tensor) -> Any:
    """A step, with the information in one order."""
    *values, info = batch.step(actions)
    return values, [info[key] for key in sorted(info) if key != "ended"]
