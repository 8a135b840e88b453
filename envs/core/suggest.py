"""The closest match of a misspelt name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name most like ``name``, None where the similarity (0 … 1) of all is below ``cutoff``."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff)), None)
