"""Choices of some rows in NumPy are the choices of all rows in PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from palaestra.envs.core.draws.host_choice import chosen, mixed
from palaestra.envs.core.draws.splitmix import mix
from palaestra.envs.core.rng import Rng, env_keys


def test_the_same_mixing() -> None:
    numbers = torch.cat((torch.tensor([0, 1, -1, 2**63 - 1, -(2**63)]), torch.arange(-500, 500) * 987654321987))
    assert np.array_equal(mixed(numbers.numpy().view(np.uint64).copy()).view(np.int64), mix(numbers).numpy())


@pytest.mark.parametrize("step", [0, 5, torch.arange(300) % 7])
def test_the_same_choices(step: Tensor | int) -> None:
    keys = env_keys(5, torch.arange(300))
    mask = torch.rand(300, 40, generator=torch.Generator().manual_seed(0)) < 0.2
    mask[3] = False
    where = torch.arange(300) % 3 == 0
    for draw in range(3):
        everywhere, some = Rng(keys, step), Rng(keys, step)
        for _ in range(draw):
            everywhere.bits()
            some.bits()
        expected, found = everywhere.choice(mask), some.choice(mask, where)
        assert torch.equal(found[where], expected[where])
        assert (found[~where] == 0).all()
        rows = np.flatnonzero(where.numpy())
        direct = chosen(mask.numpy()[rows], rows, keys, step, draw)
        assert np.array_equal(direct, expected.numpy()[rows])
        assert torch.equal(everywhere.bits(), some.bits())  # the next draw
