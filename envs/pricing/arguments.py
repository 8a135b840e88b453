"""Checks of the arguments that the markets share; each raises a ValueError that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import numpy as np

from palaestra.envs.core import Array

_DEAREST = 1e12  # unit cost


def checked_prices(prices: Any) -> Array:
    """A menu, float64 [A]: at least two positive prices, ascending."""
    try:
        menu = np.asarray(prices, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"prices must be numbers, got {prices!r}") from None
    if menu.ndim != 1 or len(menu) < 2:
        raise ValueError(f"prices must be a list of at least two, got {prices!r}")
    if not np.isfinite(menu).all() or menu[0] <= 0.0 or (np.diff(menu) <= 0.0).any():
        raise ValueError(f"prices must be positive and ascending, got {menu.tolist()}")
    return menu


def checked_count(name: str, value: Any) -> int:
    """A whole number of at least 1."""
    whole = isinstance(value, int | float | np.integer) and np.isfinite(value) and int(value) == value
    if not whole or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def checked_number(name: str, value: Any, least: float, most: float, *, above: bool = True) -> float:
    """A number between ``least`` (which it may not be where ``above``) and ``most``."""
    fits = isinstance(value, int | float | np.number) and least <= value <= most and not (above and value == least)
    if not fits:
        raise ValueError(
            f"{name} must be {'above' if above else 'at least'} {least:g} and at most {most:g}, got {value!r}"
        )
    return float(value)


def per_period(name: str, values: Any, periods: int) -> Array:
    """One number per period, float64 [T], from a number or a list."""
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number or a list of {periods}, got {values!r}") from None
    if array.shape not in ((), (periods,)) or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a number or a list of {periods}, got {values!r}")
    return np.broadcast_to(array, periods)


def checked_costs(unit_cost: Any, periods: int) -> Array:
    """The cost of a sold unit in each period, float64 [T], from a number or a list."""
    costs = per_period("unit_cost", unit_cost, periods)
    if costs.min() < 0.0 or costs.max() > _DEAREST:
        raise ValueError(f"unit_cost must be at least 0 and at most {_DEAREST:g}, got {unit_cost!r}")
    return costs


def checked_distribution(wanted: Array, actions: int) -> Array:
    """Probabilities of 0 … K wanted units, float64 [T, A, K + 1]."""
    wanted = np.asarray(wanted, np.float64)
    if wanted.ndim != 3 or wanted.shape[1] != actions or wanted.shape[2] < 2:
        raise ValueError(f"wanted must have shape [periods, {actions} prices, units + 1], got {wanted.shape}")
    if not (wanted >= 0.0).all() or not np.allclose(wanted.sum(2), 1.0, atol=1e-9):
        raise ValueError("wanted must hold probabilities that sum to 1")
    return wanted


def checked_date(name: str, value: Any) -> date | None:
    """A date such as 2025-01-06, or None."""
    if value is None or isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError:
        raise ValueError(f"{name} must be a date such as 2025-01-06, got {value!r}") from None


def checked_plan(plan: Any, periods: int) -> dict[str, Array]:
    """Values of columns in each period, float64 [T] each."""
    if plan is None:
        return {}
    if not isinstance(plan, Mapping):
        raise ValueError(f"plan must give columns their values, as in {{promotion: 0}}, got {plan!r}")
    return {str(column): per_period(f"plan.{column}", values, periods) for column, values in plan.items()}
