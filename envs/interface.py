"""An environment's interface as plain data: the order, name, unit, scale and range of all that goes in and out.

A program that calls a trained policy needs it: which numbers an observation is made of, in which order, and what an
action's numbers mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from palaestra.envs.core import Quantity, TensorEnv

MOST_NAMES = 10_000  # of discrete actions


def interface_of(env: TensorEnv[Any]) -> dict[str, Any]:
    """The interface, as JSON holds it.

    Returns:
        ``steps_per_second`` (None where no clock runs), ``observations`` and ``actions``: for each kind of number the
        first place, counted from 0, ``count``, ``name``, ``unit``, ``scale``, ``offset``, ``meaning``, and ``low`` and
        ``high`` (of the number itself; None where there is no bound). Empty where the environment does not say.
        ``discrete_actions`` has the name of each in place of ``actions`` if they are discrete.
    """
    seconds = env.step_seconds
    found: dict[str, Any] = {
        "steps_per_second": None if seconds is None else round(1.0 / seconds, 9),
        "observations": _rows(env.observation_names, env.observation_space),
    }
    space = env.action_space
    if isinstance(space, Discrete):
        named = env.has("action_name") and space.n <= MOST_NAMES
        found["discrete_actions"] = [env.action_name(action) for action in range(int(space.n))] if named else []
    else:
        found["actions"] = _rows(env.action_names, space)
    return found


def names_problem(quantities: Any, space: Space[Any]) -> str | None:
    """The reason why ``quantities`` do not describe the numbers of a space; None if they do."""
    if not isinstance(quantities, tuple) or not all(isinstance(one, Quantity) for one in quantities):
        return f"must be a tuple of Quantity, got {quantities!r}"
    names = [one.name for one in quantities]
    if twice := [name for name in names if names.count(name) > 1]:
        return f"has two of the name {twice[0]!r}"
    for one in quantities:
        if not one.name.isidentifier():
            return f"has the name {one.name!r}: use letters, digits and underscores"
        if one.count < 1:
            return f"{one.name}: count must be at least 1, got {one.count}"
        if not (math.isfinite(one.scale) and math.isfinite(one.offset)) or one.scale == 0.0:
            return (
                f"{one.name}: scale and offset must be numbers, and the scale not 0, got {one.scale} and {one.offset}"
            )
    wanted, told = int(np.prod(space.shape or ())), sum(one.count for one in quantities)
    return None if told == wanted else f"tells of {told} numbers, and {space} has {wanted}"


def _rows(quantities: Sequence[Quantity], space: Space[Any]) -> list[dict[str, Any]]:
    rows, first = [], 0
    for one in quantities:
        row: dict[str, Any] = {"first": first, "count": one.count, "name": one.name, "unit": one.unit}
        row |= {"scale": one.scale, "offset": one.offset, "meaning": one.meaning}
        if isinstance(space, Box):
            place = slice(first, first + one.count)
            row["low"], row["high"] = _bound(space.low.ravel()[place].min()), _bound(space.high.ravel()[place].max())
        if isinstance(space, MultiDiscrete):
            starts, counts = (part.ravel()[first : first + one.count] for part in (space.start, space.nvec))
            row["low"], row["high"] = int(starts.min()), int((starts + counts).max()) - 1
        rows.append(row)
        first += one.count
    return rows


def _bound(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
