"""How many threads compute actions while environments on the host are stepped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from palaestra.envs.core import BatchedEnv
from palaestra.envs.interop.host_batch import HostEnv


@contextmanager
def collection_threads(batch: BatchedEnv, is_dense: bool) -> Iterator[None]:
    """One thread within this block for fully connected networks and environments on the host.

    Of those there are few, so that one thread computes their actions as fast as several, which for a while after each
    product keep cores busy that the environments' processes need.
    """
    threads = torch.get_num_threads()
    if is_dense and isinstance(batch, HostEnv):
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
