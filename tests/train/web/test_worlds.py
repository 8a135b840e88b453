"""The rules in JavaScript against the tensor code: whole episodes where numbers are whole, single steps elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from player_node import run_player

from palaestra.agents.export.policy_network import ExportError
from palaestra.envs.arm.reach import Reach
from palaestra.envs.cartpole import CartPole
from palaestra.envs.core.reference import Array
from palaestra.envs.core.rng import Rng, env_keys, sample_actions
from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.envs.pricing.pricing import Pricing
from palaestra.envs.snake import Snake
from palaestra.envs.wrappers import wrapped
from palaestra.train.web.worlds import world_of

SEED = 2**32 + 5


def _episodes(env: Any, count: int, random_share: float, longest: int) -> tuple[list[dict[str, Any]], Array]:
    """First episodes of ``count`` environments, and for each of their steps observation, reward, over, success."""
    batch = TensorVectorEnv(env, count, device="cpu", seed=SEED)
    obs, _ = batch.reset()
    running, rows, actions = np.ones(count, bool), [[] for _ in range(count)], [[] for _ in range(count)]
    choice = np.random.default_rng(0)
    for step in range(longest):
        drawn = sample_actions(env.action_space, Rng(env_keys(99, batch.env_indices), step))
        action = torch.where(
            torch.as_tensor(choice.random(count) < random_share), drawn, env.expert(batch.state).to(drawn.dtype)
        )
        before = obs.flatten(1).numpy().copy()
        obs, reward, terminated, truncated, info = batch.step(action)
        over = terminated | truncated
        success = info.get("is_success", torch.zeros_like(over))
        ends = np.column_stack((reward, over, over & success))
        for i in np.flatnonzero(running):
            rows[i].append(np.concatenate((before[i], ends[i])))
            actions[i].append(int(action[i]))
        running &= ~over.numpy()
        if not running.any():
            break
    cases = [{"seed": SEED, "index": i, "episode": 0, "actions": actions[i]} for i in range(count)]
    return cases, np.concatenate([np.concatenate(row) for row in rows]).astype(np.float32)


@pytest.mark.parametrize(
    ("env", "random_share", "count"),
    [
        (Snake(6), 0.1, 600),
        (Snake(4, actions="absolute"), 0.02, 200),
        (Snake(4, observation="grid"), 0.0, 200),  # full boards
        (Pricing(), 0.5, 700),
        (Pricing(periods=20, stock=7, arrival_rate=0.5, willingness=50.0, prices=[20, 50, 90, 150]), 1.0, 300),
    ],
    ids=["snake", "snake, absolute", "snake, grid, full boards", "pricing", "pricing of few prices"],
)
def test_episodes_of_whole_numbers_are_the_same_to_the_bit(
    env: Any, random_share: float, count: int, tmp_path: Path
) -> None:
    """2,000 episodes in all; a rule, a draw or an observation that differs in one bit fails."""
    cases, expected = _episodes(env, count, random_share, 600)
    found = run_player(tmp_path, world=world_of(env), episodes=cases)
    assert len(found) == len(expected)
    assert (found == expected).all()


def test_full_boards_are_among_them(tmp_path: Path) -> None:
    cases, expected = _episodes(Snake(4, observation="grid"), 20, 0.0, 600)
    assert expected.reshape(-1, 5 * 16 + 3)[:, -1].sum() == len(cases)


@pytest.mark.parametrize(
    "env",
    [CartPole(), CartPole(gravity=3.0, pole_mass=0.4, half_length=1.2, force=4.0, cart_mass=2.0)],
    ids=["usual", "others"],
)
def test_steps_of_cartpole(env: CartPole, tmp_path: Path) -> None:
    """1,000 episodes of random pushes, step by step: float32 differs in the last place."""
    batch = TensorVectorEnv(env, 1000, device="cpu", seed=SEED)
    batch.reset()
    names = {"position": "position", "velocity": "velocity", "angle": "angle", "spin": "angular_velocity"}
    cases, expected = [], []
    for step in range(12):
        action = Rng(env_keys(7, batch.env_indices), step).integers(0, 2)
        before, state = env.observe(batch.state), batch.state
        after, reward, over = env.step(state, action, Rng(env_keys(7, batch.env_indices), step))
        rows = (before, reward.unsqueeze(1), over.unsqueeze(1), torch.zeros(1000, 1), env.observe(after))
        expected.append(torch.cat(rows, 1))
        for i in range(1000):
            told = {js: float(getattr(state, name)[i]) for js, name in names.items()}
            cases.append(({**told, "steps": 0}, int(action[i])))
        batch.step(action)
    found = run_player(tmp_path, world=world_of(env), steps=cases).reshape(-1, 11)
    assert np.abs(found - torch.cat(expected).numpy()).max() <= 1e-6


@pytest.mark.parametrize("seed", [SEED, 3])
def test_starts_of_cartpole_and_targets_of_reach_are_the_same_to_the_bit(seed: int, tmp_path: Path) -> None:
    for env in (CartPole(), Reach(), Reach("so101")):
        batch = TensorVectorEnv(env, 1000, device="cpu", seed=seed)
        obs, _ = batch.reset()
        idle = [0.0] * env.action_space.shape[0] if isinstance(env, Reach) else 0
        cases = [{"seed": seed, "index": i, "episode": 0, "actions": [idle]} for i in range(1000)]
        found = run_player(tmp_path, world=world_of(env), episodes=cases).reshape(1000, -1)[:, :-3]
        if isinstance(env, CartPole):
            assert (found == obs.numpy()).all()
        else:
            assert np.abs(found - obs.numpy()).max() <= 1e-6


@pytest.mark.parametrize("control", ["velocity", "cartesian"])
@pytest.mark.parametrize("robot", ["panda", "ur5e", "so101"])
def test_steps_of_reach(robot: str, control: Any, tmp_path: Path) -> None:
    """250 episodes of each: angles, velocities, tool and way to the target to 1e-6.

    Reward and direction are 10 and up to 20 times a difference of positions, whose float32 in the tensor code is off by
    up to 1.2e-7 m.
    """
    env = Reach(robot, control)
    batch = TensorVectorEnv(env, 250, device="cpu", seed=SEED)
    batch.reset()
    cases, expected = [], []
    for step in range(12):
        rng = Rng(env_keys(7, batch.env_indices), step)
        action = sample_actions(env.action_space, rng)
        if step % 3 == 2:
            action = env.expert(batch.state).to(action.dtype)
        state, before = batch.state, env.observe(batch.state)
        after, reward, over = env.step(state, action, rng)
        rows = (before, reward.unsqueeze(1), over.unsqueeze(1), over.unsqueeze(1), env.observe(after))
        expected.append(torch.cat([row.to(torch.float32) for row in rows], 1))
        for i in range(250):
            told = {name: getattr(state, name)[i].tolist() for name in ("q", "dq", "tool", "target")}
            cases.append(({**told, "steps": 0, "trail": []}, action[i].tolist()))
        batch.step(action)
    found = run_player(tmp_path, world=world_of(env), steps=cases).reshape(len(cases), -1)
    differences = np.abs(found - torch.cat(expected).numpy()).max(0)
    n = 2 * env.chain.dof + 6  # of an observation, before the direction
    seen, ends, seen_after = differences[: n + 3], differences[n + 3 : n + 6], differences[n + 6 :]
    assert max(seen[:n].max(), seen_after[:n].max()) <= 1e-6
    assert max(seen.max(), ends.max(), seen_after.max()) <= 3e-6


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (wrapped(Snake(), {"sticky_actions": 0.2}), "cannot play"),
        (Pricing(max_change=50.0), "a shop's rules"),
        (Reach(action_delay=1), "action_delay"),
    ],
    ids=["wrapped", "rules", "delay"],
)
def test_what_a_page_cannot_play_is_refused(env: Any, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        world_of(env)
