"""Days without sales that a file does not have: whether they are missing, and what follows.

1. A Poisson fit says how many rows should have 0 units. Where significantly fewer have (1 %, one-sided), days without
   sales are missing: a till writes no receipt for them.
2. Then the rows with sales are fitted zero-truncated, which needs nothing of the missing days. Where most missing
   dates lie between two rows of the same price and regressors, and are about as many as the truncated fit expects, they
   are filled with 0 units instead, which tells more.
3. Where a file has its zeros, dates that are missing are taken as dates without the product: they say nothing.

``--gaps zero`` fills all missing dates, at the price before; ``--gaps unknown`` neither fills nor truncates.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from palaestra.envs.core import Array
from palaestra.envs.pricing.demand.counts.regression import Counts, LogMean, poisson_regression
from palaestra.envs.pricing.demand.estimation import Estimate, EstimationError

Gaps = Literal["auto", "zero", "unknown"]
_TOO_FEW = -2.326348  # 1 % point of a standard normal
_LEAST_EXPECTED = 3.0  # zeros, below which their absence says nothing
_BETWEEN_TWINS = 0.8  # share of the missing dates between rows of one price
_MOST_FILLED = 50  # times the rows that are there


class Filled(NamedTuple):
    """Rows for the fit, and what was done to them."""

    columns: dict[str, Array]
    truncated: bool
    note: str | None
    unsold: Mapping[str, Array] = MappingProxyType({})  # rows of the file that the truncated fit leaves out


def settle_gaps(
    columns: Mapping[str, Array], mean: LogMean, counts: Counts, base: Estimate, step: int | None, gaps: Gaps
) -> Filled:
    """The rows of one product and what to do about days without sales.

    Args:
        columns: of the product, with ``day`` [n] where dates are calendar dates.
        mean: the model with the price alone.
        counts: of the same rows.
        base: the Poisson estimate of them.
        step: days between dates; None where dates are no calendar dates.
        gaps: the option.
    """
    same = Filled(dict(columns), False, None)
    if gaps == "unknown":
        return same
    if gaps == "zero":
        if step is None:
            return same
        rows, missing, _ = _fill(columns, step)
        return Filled(
            rows, False, f"{missing:,} missing dates are filled with 0 units (--gaps zero)" if missing else None
        )
    fitted = np.exp(mean(base.coefficients)[0])
    chance = np.exp(-fitted)
    expected, zeros = float(chance.sum()), int((counts.units == 0.0).sum())
    spread = np.sqrt(float((chance * (1.0 - chance)).sum()))
    if expected < _LEAST_EXPECTED or zeros - expected > _TOO_FEW * spread:
        return same
    if step is not None and zeros == 0:
        rows, missing, twins = _fill(columns, step)
        if missing and twins >= _BETWEEN_TWINS * missing and _agrees(mean, counts, missing):
            note = f"{missing:,} missing dates are filled with 0 units: about as many days without sales are expected"
            return Filled(rows, False, note)
    note = (
        f"{zeros or 'no'} rows with 0 units where a mean of {fitted.mean():.3g} expects more: days without sales are "
        "missing, so the rows with sales are fitted zero-truncated"
    )
    sold, unsold = (
        {name: column[which] for name, column in columns.items()} for which in (counts.units > 0.0, counts.units == 0.0)
    )
    return Filled(sold, True, note, unsold)


def _agrees(mean: LogMean, counts: Counts, missing: int) -> bool:
    """Whether as many dates are missing as days without sales belong to the days with sales."""
    try:
        found = poisson_regression(mean, Counts(counts.units, counts.censored, True))
    except EstimationError:
        return True  # one unit a day: the truncated fit cannot tell, the missing dates can
    zero = np.exp(-np.exp(mean(found.coefficients)[0]))
    expected = float((zero / (1.0 - zero)).sum())
    spread = np.sqrt(float((zero / (1.0 - zero) ** 2).sum())) + 0.05 * expected
    return bool(abs(missing - expected) < 3.0 * spread)


def _fill(columns: Mapping[str, Array], step: int) -> tuple[dict[str, Array], int, int]:
    """Rows with all dates from first to last (of each store), their number that is new, and how many of the new ones
    lie between two rows that are the same but for date and units."""
    key = np.lexsort((columns["day"], columns["store"])) if "store" in columns else np.argsort(columns["day"])
    ordered = {name: column[key] for name, column in columns.items()}
    gap = np.diff(ordered["day"]) // step
    if "store" in columns:
        gap = np.where(np.diff(ordered["store"]) == 0, gap, 1)
    more = np.maximum(gap - 1, 0).astype(np.int64)
    missing = int(more.sum())
    if not missing or missing > _MOST_FILLED * len(key):
        return dict(columns), 0, 0
    twin = np.ones(len(gap), bool)
    for name, column in ordered.items():
        if name not in ("day", "date", "units", "stock", "sold_out", "unit_cost"):
            twin &= column[1:] == column[:-1]
    before = np.repeat(np.arange(len(gap)), more)
    place = np.arange(missing) - np.repeat(np.cumsum(more) - more, more)
    filled = {name: np.concatenate((column, column[before])) for name, column in ordered.items()}
    filled["day"][len(key) :] += step * (place + 1)
    filled["units"][len(key) :] = 0.0
    if "sold_out" in filled:
        filled["sold_out"][len(key) :] = 0.0
    return filled, missing, int(more[twin].sum())
