"""Statistics of episodes that stay on the device until the one copy to the host per iteration."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_host(values: Tensor) -> list[float]:
    """The one copy from the device per iteration, in one tensor."""
    numbers: list[float] = values.tolist()
    return numbers


class LazyNumpy:
    """A tensor that callbacks written for SB3 use as a NumPy array; it is copied to the host only if they look."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.asarray(self._values.cpu().numpy(), dtype)

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]


class EpisodeStatistics:
    """Sums over the episodes that ended since the last :meth:`clear`, as tensors."""

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(4, device=device)  # episodes, returns, lengths, successes
        self.has_success = False

    def clear(self) -> None:
        self.sums = torch.zeros_like(self.sums)

    def add(self, info: dict[str, Any]) -> None:
        """Take in the ``info`` of one environment step."""
        if "_episode" not in info:
            return
        ended = info["_episode"].float()
        episode = info["episode"]
        rows = [ended, ended * episode["r"], ended * episode["l"]]
        if "is_success" in info:
            self.has_success = True
            rows.append(ended * info["is_success"])
        else:
            rows.append(torch.zeros_like(ended))
        self.sums = self.sums + torch.stack(rows).sum(1)


def append_report(window: deque[dict[str, float]], sums: list[float], has_success: bool, size: int) -> None:
    """Add a rollout's episodes to the window, and drop the oldest rollouts that its last ``size`` episodes can spare.

    Args:
        window: entries {"n", "r", "l", "t"[, "s"]}: number of episodes, mean return, mean length, time, success rate.
        sums: over the rollout: episodes, returns, lengths, successes.
        has_success: whether the environment defines success.
        size: how many episodes the window should hold at least.
    """
    episodes, returns, lengths, successes = sums
    if not episodes:
        return
    entry = {"n": episodes, "r": returns / episodes, "l": lengths / episodes, "t": time.time()}
    window.append(entry | ({"s": successes / episodes} if has_success else {}))
    held = sum(e["n"] for e in window)
    while held - window[0]["n"] >= size:
        held -= window.popleft()["n"]


def episode_means(window: Iterable[dict[str, float]]) -> dict[str, float]:
    """Means over the episodes of a window, under Stable-Baselines3's metric names; empty without episodes."""
    entries = list(window)
    episodes = sum(e["n"] for e in entries)
    names = {"r": "rollout/ep_rew_mean", "l": "rollout/ep_len_mean", "s": "rollout/success_rate"}
    return {
        name: sum(e["n"] * e[key] for e in entries) / episodes
        for key, name in names.items()
        if entries and all(key in e for e in entries)
    }
