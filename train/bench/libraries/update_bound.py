"""The work of an update and the most matrix products that this machine makes, in a process without anything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from palaestra.train.bench import roofline
from palaestra.train.bench.interleaved import OURS, UPDATE
from palaestra.train.bench.libraries.sb3 import agent, learning
from palaestra.train.config.run_config import RunConfig


@dataclass(frozen=True)
class UpdateBound:
    """What :mod:`palaestra.train.bench.roofline` finds of it.

    Attributes:
        flops_per_step: of matrix products, forward and backward, for each step of an environment.
        flops: the most of them per second.
    """

    flops_per_step: float
    flops: float


def build(spec: dict[str, Any]) -> Callable[[float], UpdateBound]:
    """For our agent on ``spec["config"]``; about three seconds."""
    config = RunConfig(**spec["config"])

    def find(seconds: float) -> UpdateBound:
        ours = agent(config, OURS)
        layer = roofline.widest_layer(ours.policy, config.agent_kwargs["batch_size"])
        ceilings = roofline.measure_ceilings(torch.device(ours.device), layer)
        work = roofline.count_learning(ours, learning(ours), ceilings)[UPDATE]
        return UpdateBound(work.flops, ceilings.flops)

    return find
