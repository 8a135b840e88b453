"""Playing the reaching tasks step by step, and a task with another chain than the Panda."""

from __future__ import annotations

from typing import Any

import torch
from mujoco_arm import random_arm, random_chain
from torch import Tensor

from palaestra.envs import Rng, TensorEnv
from palaestra.envs.arm import Placement, SerialChain
from palaestra.envs.core.rng import child_key, env_keys

OTHER: dict[str, Any] = {  # a chain of 4 joints, a start and a box around its tool
    "robot": random_chain(2, 4),
    "start": (0.3, -0.4, 0.5, -0.6),
    "targets": ((0.1, 0.2), (0.35, 0.45), (0.77, 0.87)),
}
ALL_KINDS: dict[str, Any] = {  # a continuous, a revolute, a prismatic and one more continuous joint
    "robot": random_arm(24, 4),
    "start": (0.3, -0.4, 0.5, -0.3),
    "targets": ((-0.18, -0.08), (0.04, 0.14), (0.47, 0.57)),
}
GANTRY = SerialChain(  # three slides along x, y and z
    name="gantry",
    placements=(Placement(),) * 3,
    axes=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    kinds=("prismatic",) * 3,
    mass=(1.0,) * 3,
    centre_of_mass=((0.0, 0.0, 0.0),) * 3,
    inertia=((0.01, 0.01, 0.01, 0.0, 0.0, 0.0),) * 3,
    q_min=(-1.0, -1.0, 0.0),
    q_max=(1.0, 1.0, 2.0),
    velocity=(0.5, 1.0, 0.25),
    acceleration=(2.0, 0.5, 1.0),
    torque=(100.0,) * 3,
)


class Play:
    """Environments without the auto-reset; every step's state is kept."""

    def __init__(self, env: TensorEnv[Any], n: int, seed: int = 0) -> None:
        self.env, self.keys = env, child_key(env_keys(seed, torch.arange(n)), 0)
        self.states = [env.reset(Rng(self.keys, 0))]

    def step(self, action: Tensor) -> tuple[Any, Tensor, Tensor]:
        result = self.env.step(self.states[-1], action, Rng(self.keys, len(self.states)))
        self.states.append(result[0])
        return result

    def path(self, name: str) -> Tensor:
        """A field of all states, [T + 1, N, …]."""
        return torch.stack([getattr(state, name) for state in self.states])


def commands(seed: int, steps: int, n: int, dof: int) -> Tensor:
    """Actions [T, N, dof]; rows are in turn uniform, ±1 for random times, alternating, far outside, and always ±1."""
    generator = torch.Generator().manual_seed(seed)
    uniform, switch = torch.rand(2, steps, n, dof, generator=generator)
    sign = (torch.rand(n, dof, generator=generator) - 0.5).sign()
    held = sign * (1.0 - 2.0 * ((switch < 0.1).cumsum(0) % 2))
    flip = (sign * (-1.0) ** torch.arange(steps).view(-1, 1, 1)).expand(steps, -1, -1)
    styles = torch.stack((2 * uniform - 1, held, flip, 1e4 * (uniform - 0.5), sign.expand(steps, -1, -1)))
    return styles[torch.arange(n) % 5, :, torch.arange(n)].transpose(0, 1).contiguous()
