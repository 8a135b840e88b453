"""Plain data of files and pages: numbers to reckon with, JSON without those that it lacks, safe within a script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from palaestra.envs.core.reference import is_finite_number

LARGEST = 1e100  # of numbers that are compared or drawn: differences and squares of larger ones may be infinite


def is_moderate_number(value: Any) -> bool:
    """True for a number that JSON, YAML or CSV gave and that can be compared and drawn."""
    return is_finite_number(value) and abs(value) <= LARGEST


def finite(value: Any) -> Any:
    """Plain data with None in the place of numbers that are infinite or NaN."""
    if isinstance(value, Mapping):
        return {key: finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def in_script(data: Any) -> str:
    """JSON that can stand within a script element, whatever texts are in it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
