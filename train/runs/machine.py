"""How much memory this process has used at most, on the host and on a GPU."""

from __future__ import annotations

import sys


def peak_memory_mib() -> float | None:
    """Most memory that this process ever held; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere


def peak_device_mib() -> float | None:
    """Most memory that PyTorch ever had allocated on the current GPU; None without one."""
    import torch

    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return None
    return torch.cuda.max_memory_allocated() / 2**20
