"""Uniform random actions from counter-based random numbers."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from palaestra.envs.core.rng import Rng


def sample_actions(space: gymnasium.Space[Any], rng: Rng) -> Tensor:
    """Uniform actions of one environment's action space for each key of ``rng``, [N, …].

    A Box side without a bound counts as −1 or 1.

    Raises:
        ValueError: for a space that no agent here can act in.
    """
    if isinstance(space, spaces.Discrete):
        return rng.integers(int(space.start), int(space.start + space.n))
    if isinstance(space, spaces.MultiBinary):
        return rng.integers(0, 2, space.shape).to(torch.int8)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        counts, start = (torch.as_tensor(a, dtype=torch.int64, device=rng.device) for a in (space.nvec, space.start))
        return rng.integers(0, counts, space.shape) + start
    if isinstance(space, spaces.Box):
        low = np.where(np.isfinite(space.low), space.low, -1.0).astype(np.float32)
        high = np.where(np.isfinite(space.high), space.high, 1.0).astype(np.float32)
        return rng.uniform(
            torch.as_tensor(low, device=rng.device), torch.as_tensor(high, device=rng.device), space.shape
        )
    raise ValueError(f"cannot act in a space of type {type(space).__name__}")
