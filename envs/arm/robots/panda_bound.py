"""The stored time-optimal bound of the Panda's held-out targets, and how an agent's times compare with it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from palaestra.envs.core import Array
from palaestra.envs.core.report_figures import ReportFigure, counts_between

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


def time_over_bound(lengths: Array, successes: Array, period: float) -> list[ReportFigure]:
    """How many times as long as the bound each arrival took, of the held-out episodes in their order.

    Args:
        lengths, successes: steps and arrivals, of at least as many episodes as are shown.
        period: of a step, s.
    """
    bound = np.array(held_out()["seconds_within_tolerance"])
    count = min(len(bound), len(lengths))
    ratio = (lengths[:count] * period / bound[:count])[successes[:count].astype(bool)]
    if not len(ratio):
        return []
    note = (
        f"{len(ratio):,} of {count:,} targets were reached. At 1 an arm would be as fast as no control can beat; steps "
        f"of {period:g} s alone take the bound to {float(np.mean(np.ceil(bound / period) * period / bound)):.2f}."
    )
    levels, title = [("median", float(np.median(ratio)))], "Time over the bound"
    return [counts_between(ratio, title, "time / time-optimal bound", "episodes", levels=levels, note=note)]
