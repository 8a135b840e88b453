"""Errors of a step: the way from the tool to its target, which reward, observation and success are made of.

What a step has found of the state that it returns is kept, so that the observation and the success of that state need
not compute it again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.arm.dynamics import dot

_latest = threading.local()  # ``state`` of this thread's latest step, and its ``errors``


def as_rows(parts: Iterable[Tensor]) -> Tensor:
    """Parts [k, N] of an observation as [N, all k]."""
    return torch.cat([part.T for part in parts], 1)


def length(vector: Tensor) -> Tensor:
    """Euclidean length of [3, …, N], [… , N]."""
    return dot(vector, vector).sqrt_()


def gained(distances: Tensor, tolerance: float | Tensor) -> Tensor:
    """By how much a distance [2, …] (now, and before) has become smaller; within the tolerance all are alike."""
    left = (distances - tolerance).clamp_(min=0.0)
    return left[1] - left[0]


def keep_errors(state: Any, *errors: Tensor) -> None:
    """Keep what a step has found of the state that it returns, until the next step of any environment."""
    _latest.state, _latest.errors = state, errors


def kept_errors(state: Any) -> tuple[Tensor, ...] | None:
    """What was kept of this very state, if it is the latest."""
    found: tuple[Tensor, ...] | None = _latest.errors if getattr(_latest, "state", None) is state else None
    return found
