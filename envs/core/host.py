"""The host: its cores, and memory that glibc keeps instead of handing it back to the kernel.

An eager tensor program on the CPU makes and frees megabyte tensors thousands of times a second. By default glibc maps
such blocks afresh each time, so every step pays a page fault per 4 KiB, up to ten times the cost of the arithmetic.
Three thresholds of ``mallopt`` keep the blocks in the heap instead. Memory in use at the peak is unchanged; it is not
returned between peaks.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep large freed blocks, once per process; False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # musl has no mallopt
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 1 << 26))
    return all(mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in settings)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_available_cores(at_most: int | None = None) -> None:
    """Compute with one thread per available core at most: with more, OpenMP's threads wait for each other."""
    if "OMP_NUM_THREADS" not in os.environ:
        import torch  # late: a command that only starts others asks for the cores

        cores = available_cores()
        torch.set_num_threads(min(torch.get_num_threads(), cores, at_most or cores))
