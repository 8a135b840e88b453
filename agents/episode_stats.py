"""Statistics of episodes, and the episode of each step, both on the device until the host needs them.

Each iteration makes one copy to the host, in one tensor.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palaestra.envs.core import BatchedEnv, EnvError, TensorVectorEnv


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


class StepInfos(Sequence[dict[str, Any]]):
    """Stable-Baselines3's ``infos`` of a step, which are put together when a callback looks, before the next step.

    Raises:
        RuntimeError: if a callback looks for the first time after the next step of environments that keep only their
            latest ones.
    """

    def __init__(self, env: Any, done: Tensor, truncated: Tensor, info: dict[str, Any]) -> None:
        """``env`` is the agent's ``VecEnv``, of which the rest are a step's tensors."""
        self._infos: list[dict[str, Any]] | None = info.get("infos")
        self._env, self._ends, self._info, self._step = env, (done, truncated), info, info.get("step")

    def _looked_at(self) -> list[dict[str, Any]]:
        if self._infos is None:
            if getattr(self._env.batch, "steps", None) != self._step:
                raise RuntimeError("infos of an earlier step are gone: look at them in _on_step, keep list(infos)")
            self._infos = self._env.infos(*self._ends, self._info.get("given", self._info))
        return self._infos

    def __len__(self) -> int:
        return len(self._ends[0])

    def __getitem__(self, index: Any) -> Any:
        return self._looked_at()[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._looked_at())

    def __repr__(self) -> str:
        return repr(self._looked_at())


class EpisodeStatistics:
    """Sums over the episodes that ended since the last :meth:`clear`, as tensors.

    Attributes:
        sums: [4] episodes, returns, lengths, successes; in place of returns, where one agent moves for both players of
            a game, the episodes that one side has won: the sum of what both earn is 0, and no score.
        has_ended: bool [N], the environments of which an episode has ended since all were reset.
        has_success: True if the environments define success.
    """

    def __init__(self, device: torch.device, batch: Any) -> None:
        self.sums = torch.zeros(4, device=device)
        self.has_ended = torch.zeros(batch.num_envs, dtype=torch.bool, device=device)
        self.has_success = False
        self._of_both = batch.alternates

    def report(self) -> Tensor:
        """What :func:`append_report` takes, float32 [5]: the sums, and how many environments have ended an episode."""
        return torch.cat((self.sums, self.has_ended.sum(0, keepdim=True, dtype=self.sums.dtype)))

    def clear(self) -> None:
        self.sums = torch.zeros_like(self.sums)

    def add(self, info: dict[str, Any]) -> None:
        """Take in the ``info`` of one environment step."""
        if "_episode" not in info or not info.get("ended", True):
            return
        self.has_ended = self.has_ended | info["_episode"]
        ended = info["_episode"].float()
        episode = info["episode"]
        returns = (episode["r"] != 0.0).float() if self._of_both else episode["r"]
        rows = [ended, ended * returns, ended * episode["l"]]
        if "is_success" in info:
            self.has_success = True
            rows.append(ended * info["is_success"])
        else:
            rows.append(torch.zeros_like(ended))
        self.sums = self.sums + torch.stack(rows).sum(1)


class EpisodeLog:
    """The episode of each environment before each step, and how cut ones ended, since the last :meth:`clear`.

    It keeps the batch's own tensors, which are never changed in place: nothing is computed until an error is raised.

    Attributes:
        copies: True keeps copies, for recorded steps do change them.
        rewards: [N] of each step, as the environments gave them.
        cut: the last observations of episodes that were cut: (step of the run, rows [B], observations [B, …]).
    """

    def __init__(self) -> None:
        self.copies = False
        self._before: dict[int, tuple[Tensor, ...]] = {}
        self.rewards: list[Tensor] = []
        self.cut: list[tuple[int, Tensor, Any]] = []

    def clear(self) -> None:
        self._before.clear()
        self.rewards.clear()
        self.cut.clear()

    def note(self, step: int, batch: BatchedEnv) -> None:
        """Note the episodes before that step of the run."""
        if isinstance(batch, TensorVectorEnv):  # episodes of adapted environments cannot be repeated
            both = batch.episode, batch.episode_length
            self._before[step] = torch.stack(both).unbind(0) if self.copies else both

    def note_rewards(self, rewards: Tensor) -> None:
        """Keep the rewards [N] of a step."""
        self.rewards.append(rewards.clone() if self.copies else rewards)

    def place(self, step: int, row: int) -> tuple[int | None, int | None]:
        """(episode, steps taken in it) of an environment before that step of the run; None if unknown."""
        if step not in self._before:
            return None, None
        episode, length = self._before[step]
        return int(episode[row]), int(length[row])

    def error(self, name: str, step: int, row: int, env_indices: Tensor, values: Tensor | None = None) -> EnvError:
        """The error for an observation, action, reward or last observation of that step that is not finite."""
        if name.startswith("observation"):
            episode, within = self.place(step, row)
        else:  # it belongs to the episode that was running before
            episode, taken = self.place(step if name in ("action", "reward") else step - 1, row)
            within = None if taken is None else taken + 1
        env_index = int(env_indices[row])
        where = f"in environment {env_index} at step {step:,} of the run"
        where += "" if episode is None else f" (step {within:,} of its episode {episode:,})"
        shown = "" if values is None else f": {_first_not_finite(values)}"
        return EnvError(f"{name} is not finite {where}{shown}", env_index=env_index, episode=episode, step=within)


def _first_not_finite(values: Tensor) -> str:
    """The value, and its place where there are several."""
    place = (~values.isfinite()).nonzero()[0].tolist()
    return f"{values[tuple(place)].item()}" + (f" at {place}" if values.numel() > 1 else "")


def append_report(window: deque[dict[str, float]], sums: list[float], has_success: bool, size: int) -> None:
    """Add a rollout's episodes to the window, and drop the oldest rollouts that its last ``size`` episodes can spare.

    Args:
        window: entries {"n", "r", "l", "e", "t"[, "s"]}: number of episodes, mean return, mean length, number of
            environments of which an episode has ended by then, time, success rate.
        sums: over the rollout: episodes, returns, lengths, successes; and the environments as above.
        has_success: whether the environment defines success.
        size: how many episodes the window should hold at least.
    """
    episodes, returns, lengths, successes, environments = sums
    if not episodes:
        return
    entry = {"n": episodes, "r": returns / episodes, "l": lengths / episodes, "e": environments, "t": time.time()}
    window.append(entry | ({"s": successes / episodes} if has_success else {}))
    held = sum(e["n"] for e in window)
    while held - window[0]["n"] >= size:
        held -= window.popleft()["n"]


def episode_means(window: Iterable[dict[str, float]], least: int) -> dict[str, float]:
    """Means over the episodes of a window, under Stable-Baselines3's metric names.

    Empty until an episode has ended in each of ``least`` environments, the number that there are: before that only
    short episodes can have ended, and where success ends an episode and failure takes until the time limit, only
    successes, of quick environments several each.
    """
    entries = list(window)
    if not entries or max(e.get("e", 0.0) for e in entries) < least:
        return {}
    episodes = sum(e["n"] for e in entries)
    names = {"r": "rollout/ep_rew_mean", "l": "rollout/ep_len_mean", "s": "rollout/success_rate"}
    return {
        name: sum(e["n"] * e[key] for e in entries) / episodes
        for key, name in names.items()
        if all(key in e for e in entries)
    }
