"""Batches stepped alone, of several sizes, one at a time: ours, and Gymnasium's own in NumPy where there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from palaestra.envs.registry import make
from palaestra.train.bench.interleaved import OURS, Sample, Workload, device_clock
from palaestra.train.bench.libraries.sb3 import GYMNASIUM_TWINS
from palaestra.train.bench.stepping import numpy_stepping, random_actions, stepping
from palaestra.train.config.run_config import RunConfig


class SeveralSizes:
    """A workload for each number of environments, made when it is selected for the first time."""

    def __init__(self, build: Callable[[int], Workload]) -> None:
        self._build, self._made = build, dict[int, Workload]()

    def select(self, num_envs: int) -> None:
        """Work on so many environments from now on."""
        if num_envs not in self._made:
            self._made[num_envs] = self._build(num_envs)
        self._selected = self._made[num_envs]

    def __call__(self, seconds: float) -> Sample:
        return self._selected(seconds)


def build(spec: dict[str, Any]) -> SeveralSizes:
    """``spec["name"]``, a way of ours or Gymnasium's batch, on the environment of ``spec["config"]``.

    ``spec["options"]`` are further arguments of our batch.
    """
    config = RunConfig(**spec["config"])

    def workload(num_envs: int) -> Workload:
        batch = make(config.env, num_envs, config.device, **config.env_kwargs, **spec.get("options", {}))
        actions = random_actions(batch)
        if spec["name"].startswith(OURS):
            return stepping(batch, actions, device_clock(batch.device))
        return numpy_stepping(GYMNASIUM_TWINS[config.env], num_envs, [action.cpu().numpy() for action in actions])

    return SeveralSizes(workload)
