"""The search for the shortest plans of seven moves, against all plans there are."""

from __future__ import annotations

from dataclasses import replace

import torch
from seven_moves import fewest_steps, first_states

from palaestra.envs.arm.reach import Reach
from palaestra.envs.core.rng import Rng, env_keys


def every_plan(env: Reach, target: torch.Tensor, most: int) -> int:
    """The fewest steps to a target [3] of all 7^most plans from the start; 0 if none arrives."""
    plans, count = torch.cartesian_prod(*[torch.arange(7)] * most), 7**most
    start = first_states(env, 1)
    state = type(start)(**{name: field.expand(count, *field.shape[1:]) for name, field in vars(start).items()})
    state = replace(state, target=target.expand(count, 3))
    keys = env_keys(0, torch.arange(count))
    for step in range(1, most + 1):
        state, _, reached = env.step(state, plans[:, step - 1], Rng(keys, step))
        if reached.any():
            return step
    return 0


def test_near_targets_are_reached_in_the_fewest_steps() -> None:
    env = Reach(control="cartesian")
    start = first_states(env, 5)
    ways = torch.tensor(
        [[0.05, 0.0, 0.0], [0.028, 0.0, 0.0], [0.0, -0.08, 0.02], [0.03, 0.02, -0.03], [0.0, 0.0, 0.01]]
    )
    targets = start.tool[:1] + ways
    found = torch.stack([fewest_steps(env, replace(start, target=targets), 60, ahead) for ahead in (0.0, 1.0)]).amin(0)
    assert found.tolist() == [every_plan(env, target, 4) for target in targets]
    assert len(set(found.tolist())) >= 3
