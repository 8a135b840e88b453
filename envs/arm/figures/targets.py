"""Figures of an arm's targets: how long each took beside a time that is known, and where targets were missed."""

from __future__ import annotations

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.core.reference import MapFigure, ReportFigure, counts_between

_IN_A_CELL = 25  # targets, of a map
_FEWEST, _MOST = 3, 8  # cells along an axis


def time_over(ratio: Array, title: str, other: str, note: str) -> list[ReportFigure]:
    """How many times as long as ``other``, like a bound, each arrival took; nothing without arrivals."""
    if not len(ratio):
        return []
    levels = [("median", float(np.median(ratio)))]
    return [counts_between(ratio, title, f"time / {other}", "episodes", levels=levels, note=note)]


def reached_maps(targets: Array, arrived: Array, note: str) -> list[ReportFigure]:
    """The share of targets that were reached, by their place as seen from above and from the side; nothing where all
    were.

    Args:
        targets: float64 [N, 3] m.
        arrived: bool [N].
    """
    if arrived.all():
        return []
    cells = int(np.clip(np.sqrt(len(arrived) / _IN_A_CELL), _FEWEST, _MOST))
    views = (("from above", 0, 1), ("from the side", 0, 2))
    found: list[ReportFigure] = []
    for view, across, up in views:
        places = targets[:, (up, across)]
        low, high = places.min(0), places.max(0)
        if (low == high).any():
            continue  # all in a plane, seen from its edge
        edges = np.linspace(low, high, cells + 1).T
        every, there = (np.histogramdd(chosen, list(edges))[0] for chosen in (places, places[arrived]))
        rows = [
            [round(float(100.0 * r / n), 1) if n else None for r, n in zip(*both, strict=True)]
            for both in zip(there, every, strict=True)
        ]
        deep, wide = ((high - low) / cells).tolist()
        figure = MapFigure(
            f"Targets reached, {view}",
            f"{'xyz'[across]}, m",
            f"{'xyz'[up]}, m",
            "reached, %",
            {"": rows},
            (float(low[1]) + wide / 2, float(low[0]) + deep / 2),
            (wide, deep),
            note,
        )
        found.append(figure)
    return found
