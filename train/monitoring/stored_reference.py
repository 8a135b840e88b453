"""The reference that a contract brings, checked part by part: a contract is somebody's text."""

from __future__ import annotations

from typing import Any

from palaestra.envs.core.reference import is_finite_number
from palaestra.train.export.held_out.monitored import PROBABILITIES, Distribution, watched_of
from palaestra.train.export.policy_file import PolicyFile
from palaestra.train.monitoring.log_entries import LARGEST_RETURN
from palaestra.train.monitoring.log_files import MonitorError


def read_reference(policy: PolicyFile) -> tuple[dict[str, Any], list[Distribution]]:
    """The reference of a contract, checked, and its distributions.

    Raises:
        MonitorError: if there is none, or it is damaged.
    """
    found = policy.contract.get("reference")
    if found is None:
        raise MonitorError(
            f"{policy.path} has no reference to compare with: palaestra export writes one, export it anew"
        )
    try:
        numbers = [Distribution(**{key: _tuple(part) for key, part in row.items()}) for row in found["numbers"]]
        returns = found["returns"]
        well = _is_positive(found["states"]) and _is_positive(found["episodes"]) and _is_positive(found["mean_length"])
        well = well and (found["cut_after"] is None or _is_positive(found["cut_after"]))
        well = well and (returns is None or _are_returns(returns)) and all(map(_is_distribution, numbers))
        well = well and [number.name for number in numbers] == [one.name for one in watched_of(policy.contract)]
    except (KeyError, TypeError, AttributeError):
        well = False
    if not well:
        raise MonitorError(f"{policy.path}: the reference in its contract is damaged: export it anew")
    return found, numbers


def _is_positive(value: Any) -> bool:
    return is_finite_number(value) and 1e-6 <= value <= 1e15


def _are_returns(returns: dict[str, Any]) -> bool:
    known = ("mean", "std", "ci_low", "ci_high", "episodes")
    numbers = all(is_finite_number(returns[key]) and abs(returns[key]) <= LARGEST_RETURN for key in known)
    return numbers and returns["std"] >= 0 and returns["episodes"] >= 2


def _is_distribution(number: Distribution) -> bool:
    rows = (number.cuts, number.below, number.quantiles)
    well = all(isinstance(row, tuple) and all(map(is_finite_number, row)) for row in rows)
    well = well and 0 < len(number.cuts) == len(number.below) and len(number.quantiles) == len(PROBABILITIES)
    well = well and [*number.cuts] == sorted({*number.cuts}) and [*number.below] == sorted(number.below)
    well = well and is_finite_number(number.mean) and is_finite_number(number.deviation)
    well = well and 0.0 <= number.below[0] <= number.below[-1] <= 1.0
    return well and all(map(_is_positive, (number.scale, number.degrees, number.inflation)))


def _tuple(part: Any) -> Any:
    return tuple(part) if isinstance(part, list) else part
