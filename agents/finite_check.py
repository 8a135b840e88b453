"""The search for NaN and infinity in rollouts and updates, and the error that names the episode and step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from palaestra.agents.buffers.rollout import map_obs
from palaestra.agents.episode_stats import EpisodeLog


class DivergedError(RuntimeError):
    """Losses, gradients or weights are not finite: nothing can be learned any more."""


Field = tuple[str, int, Any, Tensor | None]
"""(name, first step of the run, tensors [T, N, …] or a dictionary of them, rows int64 [N] of the batch or None)."""


def one_step(name: str, step: int, field: Any, rows: Tensor | None = None) -> Field:
    """A field with tensors [N, …] of one step."""
    return name, step, map_obs(lambda o: o.unsqueeze(0), field), rows


def raise_non_finite(fields: Iterable[Field], env_indices: Tensor, episodes: EpisodeLog) -> None:
    """Name the earliest number that is not finite; of the same step the first in the order of ``fields``. Synchronises.

    Args:
        fields: where to look.
        env_indices: int64 [N].
        episodes: in which it was collected.

    Raises:
        EnvError: naming the field, the environment, its episode and the step, and the value.
    """
    found: list[tuple[int, int, str, int, Tensor]] = []
    for name, first_step, field, rows in fields:
        for label, values in _parts(name, field):
            bad = ~(values.flatten(2).isfinite().all(2) if values.dim() > 2 else values.isfinite())
            if bad.any():
                step, place = bad.nonzero()[0].tolist()
                row = place if rows is None else int(rows[place])
                found.append((first_step + step, len(found), label, row, values[step, place]))
    if found:
        step, _, label, row, value = min(found, key=lambda each: each[:2])
        raise episodes.error(label, step, row, env_indices, value)


def raise_rollout_error(agent: Any, first_step: int) -> None:
    """Name what is not finite in an agent's rollout, which began with that step of the run. Synchronises.

    Raises:
        EnvError: naming an observation or reward, as :func:`raise_non_finite`.
        DivergedError: if it is the network's values.
    """
    buffer, log, env_indices = agent.rollout_buffer, agent._episode_log, agent.batch.env_indices
    given: list[Field] = [
        ("observation", first_step, buffer.observations, None),
        one_step("observation", agent._steps_collected, agent._last_obs),  # its value is in the advantages
        *(one_step("last observation", step + 1, final, rows) for step, rows, final in log.cut),
        ("reward", first_step, torch.stack(log.rewards), None),
    ]
    raise_non_finite(given, env_indices, log)
    if not buffer.values.isfinite().all():
        raise DivergedError(f"the values of observations are not finite at step {agent.num_timesteps:,}")
    bootstrapped: Field = ("value of the last observation", first_step + 1, buffer.rewards, None)
    raise_non_finite([bootstrapped], env_indices, log)


def _parts(name: str, field: Any) -> list[tuple[str, Tensor]]:
    """The tensors of a field with their names, one for each key of a dictionary."""
    if isinstance(field, dict):
        return [(f"{name}[{key!r}]", part) for key, part in field.items()]
    return [(name, field)]


class FiniteCheck:
    """Remembers, on the device, where the first number that is not finite turned up."""

    def __init__(self, num_envs: int, device: torch.device, looks: bool | None = None) -> None:
        """``looks`` waits for the values of every step, as it does on a CPU if nothing is said."""
        self._looks = device.type == "cpu" if looks is None else looks
        # step of the run at which it was seen, −1 for never
        names = ("observation", "last observation", "reward")
        self.first = {name: torch.full((num_envs,), -1, device=device) for name in names}
        self._seen: dict[tuple[str, int], tuple[str, Tensor]] = {}  # where it looks: which part, and its values

    def add(self, name: str, step: int | Tensor, field: Any, rows: Tensor | None = None) -> None:
        """Look at observations, last observations of episodes, or rewards [N, …] of a step of the run.

        Only at ``rows`` bool [N], if given.
        """
        for label, part in _parts(name, field):
            if part.is_floating_point():
                # 0 · x is 0 for every finite x, however large, and NaN else
                good = (part * 0.0).flatten(1).sum(1) == 0.0 if part.dim() > 1 else part * 0.0 == 0.0
                first = self.first[name]
                known = good | (first >= 0) if rows is None else good | (first >= 0) | ~rows
                if self._looks:
                    if known.all():
                        continue
                    for row in (~known).nonzero().flatten().tolist():
                        self._seen[name, row] = label, part[row]
                self.first[name] = torch.where(known, first, step)

    def result(self) -> Tensor:
        """float32 [1], finite if everything added was finite."""
        worst = torch.stack(tuple(self.first.values())).amax()
        return torch.where(worst < 0, 0.0, torch.nan).unsqueeze(0)

    def raise_error(self, env_indices: Tensor, episodes: EpisodeLog) -> None:
        """Name the first place. Synchronises.

        Raises:
            EnvError: naming the field, the environment, its episode and the step, and on the CPU the value.
        """
        found = [
            (int(first[row]), name, row)
            for name, first in self.first.items()
            for row in (first >= 0).nonzero().flatten().tolist()
        ]
        step, name, row = min(found)
        label, values = self._seen.get((name, row), (name, None))
        raise episodes.error(label, step, row, env_indices, values)
