"""The fewest steps in which seven moves (``reach``, ``control="cartesian"``) are found to reach held-out targets.

1. The moves and the drives are the environment's own, and nothing in it is random: a plan that is found can be played.
2. All moves of all plans that are kept are tried at once; of each target the ``width`` plans go on that come nearest to
   it in a while, where the tool would be if it kept its velocity for so many steps (:data:`_AHEAD`). Each while has a
   search of its own, and the best of them counts.
3. A search that keeps but some of the plans may miss the best one: the score is what seven moves allow at least.

Of the first 200 held-out targets, with the scores of agents on the same ones:

    python tests/helpers/seven_moves.py 512 200 RUN/model.zip …
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from palaestra.agents import DQN, PQN
from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.robots.scores import HELD_OUT_SEED
from palaestra.envs.core import state_fields
from palaestra.envs.core.rng import Rng, child_key, env_keys

_AHEAD = (0.0, 0.5, 1.0, 2.0, 3.0)  # steps
_MOST = 40  # steps
_ALIKE = 1e-5  # m and shares of 0.05 s: plans that differ by less at the tool are one


def first_states(env: Reach, count: int) -> Any:
    """The states in which the first held-out episodes begin."""
    return env.reset(Rng(child_key(env_keys(HELD_OUT_SEED, torch.arange(count)), 0), 0))


def fewest_steps(env: Reach, state: Any, width: int, ahead: float) -> Tensor:
    """Steps int64 [M] of the shortest plans that are found from states [M]; 0 where none is."""
    count, moves = len(state.q), 7
    steps, target = torch.zeros(count, dtype=torch.int64), torch.arange(count)  # which one a plan is for
    for step in range(1, _MOST + 1):
        actions = torch.arange(moves).repeat(len(target))
        before = _rows(state, torch.arange(len(target)).repeat_interleave(moves))
        target = target.repeat_interleave(moves)
        state, _, reached = env.step(before, actions, Rng(env_keys(0, torch.arange(len(target))), step))
        steps[target[reached]] = step
        velocity = state.tool - before.tool
        place = state.tool + ahead * velocity
        left = (place - state.target).square().sum(1).sqrt()
        order = torch.argsort(target.double() + left.double().clamp(max=9.0) / 10.0)
        order = order[steps[target[order]] == 0]
        order = order[_others(state.tool[order], velocity[order])]
        rank = torch.arange(len(order)) - torch.searchsorted(target[order].contiguous(), target[order].contiguous())
        order = order[rank < width]
        if not len(order):
            break
        state, target = _rows(state, order), target[order]
    return steps


def _others(tool: Tensor, velocity: Tensor) -> Tensor:
    """bool [M]: whether a plan is another one than the plan before it in a list that is sorted."""
    both = torch.cat((tool, velocity), 1)
    new = torch.ones(len(both), dtype=torch.bool)
    new[1:] = (both[1:] - both[:-1]).abs().amax(1) > _ALIKE
    return new


def _rows(state: Any, rows: Tensor) -> Any:
    return type(state)(**{name: field.index_select(0, rows) for name, field in state_fields(state).items()})


def agents_steps(env: Reach, state: Any, path: str) -> Tensor:
    """Steps int64 [M] of a stored agent from states [M]; 0 where it does not arrive."""
    agent: Any = (DQN if "dqn" in path else PQN).load(path)
    steps, every = torch.zeros(len(state.q), dtype=torch.int64), torch.arange(len(state.q))
    for step in range(1, 101):
        action = agent.act(env.observe(state))
        state, _, reached = env.step(state, action, Rng(env_keys(0, every), step))
        steps = torch.where((steps == 0) & reached, step, steps)
    return steps


def main() -> None:
    """Print the mean return of the plans, and of agents: a return is that of 100 steps where none arrives."""
    width, count = int(sys.argv[1]), int(sys.argv[2])
    env = Reach(control="cartesian")
    state = first_states(env, count)
    way = 10.0 * ((state.tool - state.target).square().sum(1).sqrt() - 0.02).clamp(min=0.0)
    searches = torch.stack([fewest_steps(env, state, width, ahead) for ahead in _AHEAD])
    searches = torch.where(searches == 0, 100, searches)
    best = searches.amin(0)
    for ahead, found in zip(_AHEAD, searches, strict=True):
        print(f"{ahead:g} steps ahead: {float(found.double().mean()):.3f} steps")
    score = float((way + 1.0 - 0.1 * best).double().mean())
    print(f"best of all: {float(best.double().mean()):.3f} steps, mean return {score:.4f}")
    for path in sys.argv[3:]:
        steps = agents_steps(env, state, path)
        arrived = steps > 0
        own = float((way + arrived - 0.1 * torch.where(arrived, steps, 100)).double().mean())
        print(f"{path}: {float(steps[arrived].double().mean()):.3f} steps, {own:.4f}, {100 * own / score:.2f} %")


if __name__ == "__main__":
    main()
