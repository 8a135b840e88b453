"""Reach: limits under any commands, closed forms of its motion and reward, and what its arguments change."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from arm_play import OTHER, Play, commands
from gymnasium.spaces import Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from palaestra.envs import TensorVectorEnv
from palaestra.envs.arm import PANDA, PANDA_READY, Placement, forward_kinematics
from palaestra.envs.arm.drawing.scene import view
from palaestra.envs.arm.reach import MOVES, PERIOD, Reach
from palaestra.envs.arm.tables import tables
from palaestra.envs.arm.task import ArmState
from palaestra.train.evaluation.policies import ExpertPolicy, RandomPolicy

LOW, HIGH = np.array([[0.35, 0.65], [-0.2, 0.2], [0.15, 0.5]]).T  # m
# ---------------------------------------------------------------------------------------------------- motion


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from([{}, OTHER]))
def test_no_command_exceeds_a_limit(seed: int, kwargs: dict[str, Any]) -> None:
    env = Reach(**kwargs)
    play = Play(env, 40, seed)
    for action in commands(seed, 80, 40, env.chain.dof):
        play.step(action)
    q, dq = play.path("q"), play.path("dq")
    limit = tables(env.chain, torch.float32, q.device)
    assert (q >= limit.q_min.T).all()
    assert (q <= limit.q_max.T).all()
    assert (dq.abs() <= limit.velocity.T).all()
    assert (dq.diff(dim=0).abs() <= limit.acceleration.T * PERIOD * (1 + 1e-5)).all()
    mean = (dq[1:].double() + dq[:-1]) / 2
    torch.testing.assert_close(q.double().diff(dim=0), PERIOD * mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_joint_stops_at_its_end_and_leaves_it_at_once(sign: float) -> None:
    for kwargs in ({}, OTHER):
        env = Reach(**kwargs)
        play, limit = Play(env, 1), tables(env.chain, torch.float32, torch.device("cpu"))
        end = (limit.q_max if sign > 0 else limit.q_min).T
        for _ in range(100):
            play.step(torch.full((1, env.chain.dof), sign))
        assert (play.states[-1].q - end).abs().max() < 1e-3
        assert play.states[-1].dq.abs().max() < 1e-3
        assert ((end - play.path("q")) * sign >= 0).all()
        away = play.states[-1].q - sign * limit.acceleration.T * PERIOD**2 / 2
        play.step(torch.full((1, env.chain.dof), -sign))
        torch.testing.assert_close(play.states[-1].q, away, rtol=0, atol=1e-4)


@pytest.mark.parametrize("joint", range(7))
def test_full_command_on_one_joint_is_constant_acceleration_to_the_limit(joint: int) -> None:
    """a t² / 2 until v; the step in which v is met has a smaller, constant acceleration."""
    play, a, v = Play(Reach(), 1), PANDA.acceleration[joint], PANDA.velocity[joint]
    expected, speed = PANDA_READY[joint], 0.0
    for step in range(1, 13):
        play.step(torch.eye(7)[joint : joint + 1])
        expected += (speed + min(v, a * step * PERIOD)) * PERIOD / 2
        speed = min(v, a * step * PERIOD)
        q, t = play.states[-1].q[0, joint].item(), step * PERIOD
        assert q == pytest.approx(expected, abs=2e-6)
        if a * t <= v:
            assert q == pytest.approx(PANDA_READY[joint] + a * t * t / 2, abs=2e-6)
    others = torch.arange(7) != joint
    assert torch.equal(play.states[-1].q[:, others], play.states[0].q[:, others])


def test_moves_go_along_their_axes_and_nought_stays() -> None:
    """Ten steps for each move from the ready pose, side by side in one batch."""
    env = Reach(control="cartesian")
    assert env.action_space == Discrete(7)
    play = Play(env, 7)
    for _ in range(10):
        play.step(torch.arange(7))
    tool = play.path("tool")
    axes = torch.tensor([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    assert torch.equal(tool[-1, 0], tool[0, 0])
    for steps, along, aside in ((1, 0.008, 0.8), (4, 0.1, 0.5), (8, 0.27, 0.25)):
        way = tool[steps, 1:] - tool[0, 1:]
        forward = (way * axes[1:]).sum(1)
        assert (forward > along).all()
        assert (forward < 0.05 * steps).all()
        assert ((way - forward.unsqueeze(1) * axes[1:]).norm(dim=1) < aside * forward).all()  # not all joints keep up


# ---------------------------------------------------------------------------------------------------- episodes


def test_targets_are_uniform_in_the_box_and_new_in_each_episode() -> None:
    batch = TensorVectorEnv(Reach(), 4096, device="cpu", seed=3)
    draws = []
    for _ in range(2):
        batch.reset()
        assert batch.state is not None
        draws.append(batch.state.target)
        assert (batch.state.q == torch.tensor(PANDA_READY)).all()
        assert (batch.state.dq == 0).all()
    assert ((draws[0] != draws[1]).any(1)).all()
    unit = (draws[0].double() - torch.tensor(LOW)) / torch.tensor(HIGH - LOW)
    assert (unit.amin(0) > -1e-6).all()
    assert (unit.amax(0) < 1 + 1e-6).all()
    assert (unit.amin(0) < 0.005).all()
    assert (unit.amax(0) > 0.995).all()
    assert (unit.mean(0) - 0.5).abs().max() < 4.5 / math.sqrt(12 * 4096)
    assert (unit.square().mean(0) - 1 / 3).abs().max() < 4.5 * math.sqrt(4 / 45 / 4096)
    assert torch.corrcoef(unit.T).triu(1).abs().max() < 4.5 / 64


@pytest.mark.parametrize("control", ["velocity", "cartesian"])
def test_rewards_add_up_to_progress_arrival_and_time(control: Any) -> None:
    """Rows 0 … 31 follow the expert, the others act at random; an end at the limit is truncation."""
    batch = TensorVectorEnv(Reach(control=control), 64, device="cpu", seed=7)
    batch.reset()
    assert batch.state is not None
    first = (batch.state.target - batch.state.tool).norm(dim=1)
    open_rows, total, arrived = torch.ones(64, dtype=torch.bool), torch.zeros(64), 0
    random, expert = RandomPolicy(), ExpertPolicy()
    for step in range(1, 101):
        action = random(batch, None)
        action[:32] = expert(batch, None)[:32]
        _, reward, terminated, truncated = batch.advance(action)
        total += reward
        distance = (batch.state.target - batch.state.tool).norm(dim=1)
        clear = (distance - 0.02).abs() > 1e-6
        assert torch.equal(terminated[clear], (distance <= 0.02)[clear])
        assert torch.equal(batch.env.success(batch.state), terminated)
        assert torch.equal(truncated, torch.full_like(truncated, step == 100) & ~terminated)
        ends = open_rows & (terminated | truncated)
        progress = 10 * ((first - 0.02) - (distance - 0.02).clamp(min=0))
        torch.testing.assert_close(total[ends], (progress + terminated.float() - 0.1 * step)[ends], rtol=0, atol=1e-4)
        arrived += int((ends & terminated).sum())
        open_rows &= ~ends
    assert not open_rows.any()
    assert 31 <= arrived < 40


def test_success_is_told_in_info() -> None:
    batch = TensorVectorEnv(Reach(), 16, device="cpu")
    obs, _ = batch.reset()
    for _ in range(20):
        obs, _, terminated, _, info = batch.step(ExpertPolicy()(batch, obs))
        assert torch.equal(info["is_success"], terminated)
    assert (batch.episode > 0).all()


def test_observation_part_by_part() -> None:
    env = Reach()
    play = Play(env, 50)
    for action in commands(1, 15, 50, 7):
        play.step(action)
    state: ArmState = play.states[-1]
    q, dq, target, obs = (v.double().numpy() for v in (state.q, state.dq, state.target, env.observe(state)))
    low, high = np.array(PANDA.q_min), np.array(PANDA.q_max)
    tool = forward_kinematics(PANDA, torch.tensor(q)).position[:, -1].numpy()
    error = target - tool
    distance = np.linalg.norm(error, axis=1, keepdims=True)
    parts = {
        "angles": (obs[:, :7], 2 * (q - low) / (high - low) - 1),
        "velocities": (obs[:, 7:14], dq / np.array(PANDA.velocity)),
        "tool": (obs[:, 14:17], tool),
        "error": (obs[:, 17:20], error),
        "direction": (obs[:, 20:23], error / (distance + 0.05)),
    }
    assert obs.shape == (50, 23)
    for name, (ours, expected) in parts.items():
        np.testing.assert_allclose(ours, expected, rtol=0, atol=5e-6, err_msg=name)


@pytest.mark.parametrize("kwargs", [{}, OTHER], ids=["panda", "another chain"])
def test_the_expert_s_move_is_the_one_after_which_a_step_is_closest(kwargs: dict[str, Any]) -> None:
    env = Reach(control="cartesian", **kwargs)
    play = Play(env, 13)
    for step in range(12):
        state = play.states[-1]
        after = []
        for move in range(len(MOVES)):
            trial = Play(env, 13)
            trial.states.append(state)
            trial.step(torch.full((13,), move))
            after.append((trial.states[-1].tool - state.target).norm(dim=1))
        distances = torch.stack(after, 1)
        chosen = env.expert(state)
        torch.testing.assert_close(distances.gather(1, chosen.unsqueeze(1)).squeeze(1), distances.amin(1))
        play.step(chosen if step % 3 else torch.arange(13) % len(MOVES))


@pytest.mark.parametrize("azimuth", np.linspace(-math.pi, math.pi, 17))
def test_keys_move_the_tool_as_the_picture_shows_it(azimuth: float) -> None:
    """For an arm that is turned about its base, and looked at from its side: within 45° of what the key says."""
    c, s = math.cos(azimuth), math.sin(azimuth)
    base = Placement((1.0, 2.0, 0.0), ((c, -s, 0.0), (s, c, 0.0), (0.0, 0.0, 1.0)))
    chain = dataclasses.replace(PANDA, base=base)
    middle = 1.0 + 0.5 * c, 2.0 + 0.5 * s, 0.3
    env = Reach(chain, control="cartesian", targets=[(m - 0.05, m + 0.05) for m in middle])
    right, _, forward = view(chain, env.targets, 640, 560).axes
    ahead = forward * (1.0, 1.0, 0.0) / np.linalg.norm(forward[:2])
    for key, way in {"right": right, "left": -right, "w": ahead, "s": -ahead, "up": np.array((0.0, 0.0, 1.0))}.items():
        move = env.keys_to_action[key]
        assert np.array(MOVES[move]) @ way > 0.7
    assert sorted(env.keys_to_action.values()) == list(range(7))


def test_moves_are_named_by_the_picture_and_by_the_axis() -> None:
    names = [Reach(control="cartesian").action_name(action) for action in range(7)]
    assert names == [
        *("stay", "move right (+x)", "move left (-x)", "move away (+y)", "move nearer (-y)"),
        *("move up (+z)", "move down (-z)"),
    ]
    assert list(Reach(control="cartesian").keys_to_action) == ["", "right", "left", "w", "s", "up", "down"]
    assert Reach().keys_to_action == {}
