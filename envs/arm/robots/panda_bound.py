"""The stored time-optimal bound of the Panda's held-out targets."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

BOUNDS = Path(__file__).parent.with_name("reach_bound.json")  # of the held-out targets


@cache
def held_out() -> dict[str, Any]:
    """The stored bounds: ``target`` [1000][3] m, ``seconds`` [1000] and ``seconds_within_tolerance`` [1000]."""
    content: dict[str, Any] = json.loads(BOUNDS.read_text())
    return content


def pandas_bound(start_tool: Tensor, tolerance: float, period: float) -> dict[str, float]:
    """Means over them, as :func:`palaestra.envs.arm.robots.scores.held_out_bound` gives them of other arms.

    Args:
        start_tool: [3] where the tool is as an episode starts, m.
    """
    stored = held_out()
    distance = np.linalg.norm(np.array(stored["target"]) - start_tool.cpu().numpy(), axis=1)
    steps = float(np.ceil(np.array(stored["seconds_within_tolerance"]) / period).mean())
    seconds = float(np.mean(stored["seconds"]))
    return {"seconds": seconds, "steps": steps, "approach": float((distance - tolerance).mean())}
