"""How long this process has run: what a person has waited since typing the command, imports included.

Linux tells when a process started (``/proc``, to a hundredth of a second). Elsewhere the count starts when this module
is imported, which the command does first.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_IMPORTED = time.monotonic()
_STAT = Path("/proc/self/stat")
_START_TIME = 22  # number of the field in /proc/self/stat: clock ticks after boot, see proc(5)


def process_seconds() -> float:
    """Seconds since the process started."""
    since_import = time.monotonic() - _IMPORTED
    if not (_STAT.is_file() and hasattr(time, "CLOCK_BOOTTIME")):
        return since_import
    after_name = _STAT.read_text().rpartition(")")[2].split()  # the second field, a name in brackets, may hold spaces
    started = int(after_name[_START_TIME - 3]) / os.sysconf("SC_CLK_TCK")
    return max(since_import, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
