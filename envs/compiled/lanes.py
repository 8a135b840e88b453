"""Draws of several numbers, each number by itself: operations on [N] only, which a compiler makes one loop of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from palaestra.envs.core.draws.splitmix import GAMMA, child_key, mix, multiple, signed
from palaestra.envs.core.rng import Request, Rng

_MOST = 16  # numbers of a draw


class LaneDraws:
    """Draws of one step or reset as :class:`~palaestra.envs.core.rng.Rng` makes them, bit for bit."""

    def __init__(self, episode_key: Tensor, step: Tensor | int) -> None:
        self._episode_key, self._key = episode_key, child_key(episode_key, step)

    def get(self, draw: int, request: Request) -> Tensor | None:
        name, shape, *arguments = request
        if not shape or math.prod(shape) > _MOST:
            return None
        mixed = mix(self._key + multiple(draw + 1))
        lanes = [mix(mixed + signed(lane * GAMMA)) for lane in range(1, math.prod(shape) + 1)]
        numbers = [Rng(self._episode_key, 0, _OneLane(bits)).repeat((name, (), *arguments)) for bits in lanes]
        drawn = torch.stack(numbers, 1)
        return drawn if len(shape) == 1 else drawn.view(-1, *shape)


class _OneLane:
    """The bits of one number."""

    def __init__(self, bits: Tensor) -> None:
        self._bits = bits

    def get(self, draw: int, request: Request) -> Tensor | None:
        return self._bits if request == ("bits", ()) else None


def lane_rng(episode_key: Tensor, step: Tensor | int) -> Rng:
    """The random numbers of one call to ``reset`` or ``step``."""
    return Rng(episode_key, step, LaneDraws(episode_key, step))
