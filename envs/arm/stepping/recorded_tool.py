"""The tool's frame by recorded operations, to the bit that of :func:`palaestra.envs.arm.dynamics.tool_frame`."""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.arm.chain import SerialChain
from palaestra.envs.arm.control import tool_rotation
from palaestra.envs.arm.dynamics import Frames, tool_frame
from palaestra.envs.arm.stepping.moving_frames import MovingFrames
from palaestra.envs.arm.stepping.operations import Operations

_KEPT = 6  # recordings, of batches of different sizes


def tool_frame_of(chain: SerialChain, q: Tensor) -> Frames:
    """The tool's frame [3, 1, N] from q [dof, N]; it has a derivative only where q requires one.

    For batches whose size stays: recording takes longer than the operations.
    """
    if _is_recorded(q):
        return Frames(*_vectors(chain, q, whole=True).unsqueeze(2))
    return tool_frame(chain, q)


def tool_pose_of(chain: SerialChain, q: Tensor) -> tuple[Tensor, Tensor]:
    """The tool's axes as columns [3 rows, 3 columns, N], and its centre [3, N], in the same way."""
    if _is_recorded(q):
        vectors = _vectors(chain, q, whole=True)
        return vectors[:3].transpose(0, 1), vectors[3]
    frames = tool_frame(chain, q)
    return tool_rotation(frames), frames.position[:, -1]


def tool_place_of(chain: SerialChain, q: Tensor) -> Tensor:
    """The tool centre [3, N] alone, in the same way."""
    return _vectors(chain, q, whole=False)[0] if _is_recorded(q) else tool_frame(chain, q).position[:, -1]


def _is_recorded(q: Tensor) -> bool:
    return type(q) is Tensor and not (torch.is_grad_enabled() and q.requires_grad)


def _vectors(chain: SerialChain, q: Tensor, whole: bool) -> Tensor:
    with torch.no_grad():
        return _kept(threading.get_ident(), chain, q.shape[1], q.dtype, q.device, whole).run(q)


class RecordedTool:
    """The operations for N configurations of a chain."""

    def __init__(self, chain: SerialChain, n: int, dtype: torch.dtype, device: torch.device, whole: bool) -> None:
        """Record them; ``whole`` with the axes, and else for the tool centre only."""
        self._operations = Operations()
        with torch.inference_mode(False), torch.no_grad():  # memory that is written to in any mode
            self._q = torch.empty(chain.dof, n, dtype=dtype, device=device)
            frames = MovingFrames(chain, self._operations, self._q)
            axes, centre = frames.tool() if whole else ([], frames.tool_centre())
            self._vectors = [*(axis.memory for axis in axes), centre[:3]]
            self._signs = self._q.new_tensor([*(axis.sign for axis in axes), 1.0]).view(-1, 1, 1)

    def run(self, q: Tensor) -> Tensor:
        """Vectors [4, 3, N] of these configurations: x, y, z and the tool centre; or that alone [1, 3, N]."""
        self._q.copy_(q)
        self._operations.run()
        vectors = torch.stack(self._vectors)
        return vectors.mul_(self._signs) if len(vectors) > 1 else vectors


@lru_cache(_KEPT)
def _kept(thread: int, *settings: Any) -> RecordedTool:
    """A recording of this thread: another one could be amid its operations."""
    return RecordedTool(*settings)
