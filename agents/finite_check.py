"""The search for NaN and infinity in rollouts and updates, and the error that names the episode and step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.agents.episode_stats import EpisodeLog


class DivergedError(RuntimeError):
    """Losses, gradients or weights are not finite: nothing can be learned any more."""


def raise_non_finite(fields: dict[str, Any], env_indices: Tensor, first_step: int, episodes: EpisodeLog) -> None:
    """Name the first non-finite number of a rollout. Synchronises.

    Args:
        fields: tensors [T, N, …] by name (or dictionaries of them); integer fields pass.
        env_indices: int64 [N].
        first_step: environment steps taken per environment before this rollout.
        episodes: in which it was collected.

    Raises:
        EnvError: naming the field, the environment, its episode and the step.
    """
    for name, field in fields.items():
        parts = {f"{name}[{key!r}]": part for key, part in field.items()} if isinstance(field, dict) else {name: field}
        for label, values in parts.items():
            bad = ~(values.flatten(2).isfinite().all(2) if values.dim() > 2 else values.isfinite())
            if bad.any():
                step, row = bad.nonzero()[0].tolist()
                raise episodes.error(label, first_step + step, row, env_indices, values[step, row])


class FiniteCheck:
    """Remembers, on the device, where the first number that is not finite turned up."""

    def __init__(self, num_envs: int, device: torch.device) -> None:
        # step of the run at which it was seen, −1 for never
        names = ("observation", "last observation", "reward")
        self.first = {name: torch.full((num_envs,), -1, device=device) for name in names}

    def add(self, name: str, step: int, field: Any, rows: Tensor | None = None) -> None:
        """Look at observations, last observations of episodes, or rewards [N, …] of a step of the run.

        Only at ``rows`` bool [N], if given.
        """
        for part in field.values() if isinstance(field, dict) else (field,):
            if part.is_floating_point():
                # 0 · x is 0 for every finite x, however large, and NaN else
                good = (part * 0.0).flatten(1).sum(1) == 0.0 if part.dim() > 1 else part * 0.0 == 0.0
                first = self.first[name]
                seen = good | (first >= 0) if rows is None else good | (first >= 0) | ~rows
                self.first[name] = torch.where(seen, first, step)

    def result(self) -> Tensor:
        """float32 [1], finite if everything added was finite."""
        worst = torch.stack(tuple(self.first.values())).amax()
        return torch.where(worst < 0, 0.0, torch.nan).unsqueeze(0)

    def raise_error(self, env_indices: Tensor, episodes: EpisodeLog) -> None:
        """Name the first place. Synchronises.

        Raises:
            EnvError: naming the field, the environment, its episode and the step.
        """
        found = [
            (int(first[row]), name, row)
            for name, first in self.first.items()
            for row in (first >= 0).nonzero().flatten().tolist()
        ]
        step, name, row = min(found)
        raise episodes.error(name, step, row, env_indices)
