"""The tool's frame by recorded operations, to the bit that of :func:`palaestra.envs.arm.dynamics.tool_frame`."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.dynamics import Frames, tool_frame
from palaestra.envs.arm.stepping.moving_frames import MovingFrames
from palaestra.envs.arm.stepping.operations import Operations

_KEPT = 6  # recordings, of batches of different sizes


def tool_frame_of(chain: SerialChain, q: Tensor) -> Frames:
    """The tool's frame [3, 1, N] from q [dof, N]; it has a derivative only where q requires one.

    For batches whose size stays: recording takes longer than the operations.
    """
    if type(q) is not Tensor or (torch.is_grad_enabled() and q.requires_grad):
        return tool_frame(chain, q)
    with torch.no_grad():
        vectors = _kept(threading.get_ident(), chain, q.shape[1], q.dtype, q.device, True).run(q)
    return Frames(*vectors.unsqueeze(2))


def tool_place_of(chain: SerialChain, q: Tensor) -> Tensor:
    """The tool centre [3, N] alone, in the same way."""
    if type(q) is not Tensor or (torch.is_grad_enabled() and q.requires_grad):
        return tool_frame(chain, q).position[:, -1]
    with torch.no_grad():
        return _kept(threading.get_ident(), chain, q.shape[1], q.dtype, q.device, False).run(q)[0]


class RecordedTool:
    """The operations for N configurations of a chain."""

    def __init__(self, chain: SerialChain, n: int, dtype: torch.dtype, device: torch.device, whole: bool) -> None:
        """Record them; ``whole`` with the axes, and else for the tool centre only."""
        self._operations = Operations()
        with torch.inference_mode(False), torch.no_grad():  # memory that is written to in any mode
            self._q = torch.empty(chain.dof, n, dtype=dtype, device=device)
            frames = MovingFrames(chain, self._operations, self._q)
            if not whole:
                self._frame = frames.tool_centre()[:3].unsqueeze(0)
                return
            self._frame = self._q.new_empty(4, 3, n)
            axes, centre = frames.tool()
            for axis, out in zip(axes, self._frame, strict=False):
                self._operations.multiply(axis.memory[:3], self._q.new_tensor([axis.sign]), out)
            self._operations.copy(centre[:3], self._frame[3])

    def run(self, q: Tensor) -> Tensor:
        """Vectors [4, 3, N] of these configurations: x, y, z and the tool centre; or that alone [1, 3, N]."""
        self._q.copy_(q)
        self._operations.run()
        return self._frame.clone()


@lru_cache(_KEPT)
def _kept(thread: int, *settings: Any) -> RecordedTool:
    """A recording of this thread: another one could be amid its operations."""
    return RecordedTool(*settings)
