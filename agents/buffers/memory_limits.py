"""Checks that large memories fit before they are made: systems promise more memory than they have, and kill later."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

_CGROUP = Path("/sys/fs/cgroup")


def nbytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of their elements."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def require(size: int, device: torch.device, what: str) -> None:
    """Raise a MemoryError unless ``size`` bytes are free on the device; ``what`` needs them."""
    free = _free(device)
    if free is not None and size > free:
        raise MemoryError(f"{what} needs {size / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")


def available(device: torch.device) -> float:
    """Bytes that can still be allocated; infinity if unknown."""
    free = _free(device)
    return math.inf if free is None else free


@contextmanager
def at_most(count: float, error: Exception) -> Iterator[None]:
    """Raise ``error`` instead of building networks with more weights, before their memory is touched."""
    built = 0

    def add(module: nn.Module, name: str, parameter: nn.Parameter) -> None:
        nonlocal built
        built += 0 if parameter is None else parameter.numel()
        if built > count:
            raise error

    hook = register_module_parameter_registration_hook(add)
    try:
        yield
    finally:
        hook.remove()


def _free(device: torch.device) -> int | None:
    """Bytes that can still be had, those that the process holds unused included; None if unknown."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    if device.type != "cpu":
        return None
    found = [amount for amount in (_of_machine(), _of_container()) if amount is not None]
    return min(found, default=None)


def _of_machine(path: Path = Path("/proc/meminfo")) -> int | None:
    """Linux's estimate of what programs can still have without swapping."""
    lines = path.read_text().splitlines() if path.is_file() else []
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kilobytes is None else 1024 * int(kilobytes)


def _of_container(folder: Path = _CGROUP) -> int | None:
    """Bytes below the limit of a container (cgroup 2); None without a limit. Caches of files count as free."""
    limit, current, statistics = (folder / f"memory.{name}" for name in ("max", "current", "stat"))
    if not all(path.is_file() for path in (limit, current, statistics)) or limit.read_text().strip() == "max":
        return None
    caches = sum(
        int(line.split()[1])
        for line in statistics.read_text().splitlines()
        if line.startswith(("inactive_file ", "active_file "))
    )
    return int(limit.read_text()) - int(current.read_text()) + caches
