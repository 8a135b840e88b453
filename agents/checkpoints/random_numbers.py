"""The global random numbers of PyTorch, NumPy and Python, which whoever builds an agent seeds."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_numbers_kept() -> Iterator[None]:
    """A block after which all of them go on as if it had not been there, on GPUs that are in use too."""
    of_numpy, of_python = np.random.get_state(), random.getstate()
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    try:
        with torch.random.fork_rng(gpus):
            yield
    finally:
        np.random.set_state(of_numpy)
        random.setstate(of_python)
