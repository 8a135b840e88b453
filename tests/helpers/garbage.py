"""Python's collector of garbage in processes that have imported much."""

from __future__ import annotations

import gc


def leave_imports_alone() -> None:
    """The collector need not look through what is there now, nor look so often; a fork would copy it, page by page.

    With Python's own threshold, 700 objects, it takes 7 % of the tests' time, and Hypothesis, which it calls, 2 % more.
    """
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)
