"""Conversions between tensors and NumPy arrays, for the views and the adapters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core import BatchedEnv


def to_numpy(value: Any) -> Any:
    """Tensors, and tensors inside dictionaries, as NumPy arrays."""
    if isinstance(value, Tensor):
        return value.detach().cpu().numpy()
    return {key: to_numpy(item) for key, item in value.items()} if isinstance(value, dict) else value


def to_actions(actions: Any, env: BatchedEnv) -> Tensor:
    """NumPy actions [N, …] as a tensor on the env's device."""
    return torch.as_tensor(np.asarray(actions, dtype=env.single_action_space.dtype)).to(env.device)
