"""JSON of plain data for files and pages: without numbers that JSON lacks, and safe within a page's script element."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


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
