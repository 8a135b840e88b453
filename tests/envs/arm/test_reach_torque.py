"""ReachTorque: its steps against forward dynamics by hand, its limits, its drives, and what its arguments change."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from arm_play import ALL_KINDS, OTHER, Play, commands
from hypothesis import given, settings
from hypothesis import strategies as st
from mujoco_arm import energy, random_states
from torch import Tensor

from palaestra.envs import TensorVectorEnv
from palaestra.envs.arm import (
    PANDA,
    PANDA_READY,
    forward_dynamics,
    forward_kinematics,
    inverse_dynamics,
    joint_friction,
    mass_matrix,
)
from palaestra.envs.arm.drawn.motors import PD_RANGE
from palaestra.envs.arm.dynamics import bodies, joint_torque, link_frames, screws, upper_mass_matrix
from palaestra.envs.arm.friction import friction
from palaestra.envs.arm.reach_torque import ReachTorque, ReachTorqueState
from palaestra.envs.arm.stepping import Drives
from palaestra.envs.arm.stepping.functions import drive_torque
from palaestra.envs.arm.tables import tables

DOUBLE = tables(PANDA, torch.float64, torch.device("cpu"))
READY = torch.tensor([PANDA_READY], dtype=torch.float64)


def placed(env: ReachTorque, q: Tensor, dq: Tensor) -> Play:
    """A play that starts in these states [N, dof]."""
    play = Play(env, len(q))
    play.states = [dataclasses.replace(play.states[0], q=q.float(), dq=dq.float())]
    return play


# ---------------------------------------------------------------------------------------------------- motion


@pytest.mark.parametrize("control", ["torque", "pd"])
@pytest.mark.parametrize("kwargs", [{}, OTHER, ALL_KINDS], ids=["Panda", "another chain", "all kinds of joint"])
@settings(max_examples=3)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_command_exceeds_a_limit(kwargs: dict[str, Any], control: Any, seed: int) -> None:
    """From anywhere within the limits. Ends are met and left; a joint that stays at its end has no speed.

    One that has just come there may have any, if its flight ended on the very number of the limit.
    """
    env = ReachTorque(control=control, **kwargs)
    play = placed(env, *random_states(env.chain, 40, seed)[:2])
    for action in commands(seed, 15, 40, env.chain.dof):
        play.step(action)
    q, dq, limit = play.path("q"), play.path("dq"), tables(env.chain, torch.float32, torch.device("cpu"))
    assert (q >= limit.q_min.T).all()
    assert (q <= limit.q_max.T).all()
    assert (dq.abs() <= limit.velocity.T).all()
    at_end = ((q == limit.q_min.T) | (q == limit.q_max.T))[1:]
    if not kwargs:  # others may have no end, or meet none
        assert at_end.any()
        assert (at_end[:-1] & ~at_end[1:]).any()
    moves = at_end & (dq[1:].abs() >= 2e-4)  # 2 ms of which an angle near its end cannot resolve
    outwards = torch.where(q == limit.q_max.T, dq > 0, dq < 0)[1:]
    assert (~moves | outwards).all()
    assert not (moves[1:] & at_end[:-1]).any()


@pytest.mark.parametrize("control", ["torque", "pd"])
def test_damping_and_coulomb_friction_brake_a_light_joint_and_never_drive_it(control: Any) -> None:
    """Beside 0.01 kg m² a damping of 50 N m s/rad would turn the speed round ten times in 2 ms by explicit steps."""
    one = dataclasses.replace(
        OTHER["robot"], gravity=(0.0, 0.0, 0.0), friction=(), damping=(50.0,) * 4, coulomb=(5.0,) * 4
    )
    env = ReachTorque(one, control=control, start=OTHER["start"], targets=OTHER["targets"])
    q, dq, *_ = random_states(one, 40, 3)
    play = placed(env, 0.5 * q, dq)
    for _ in range(5):
        play.step(torch.zeros(40, 4))
    path = zip(play.path("q"), play.path("dq"), strict=True)
    motion = [torch.einsum("ni,nij,nj->n", dq, mass_matrix(one, q), dq) for q, dq in path]
    assert all((after < before).all() for before, after in pairwise(motion))
    assert (motion[-1] < 0.2 * motion[0]).all()


@given(st.integers(0, 2**32 - 1))
def test_the_drives_keep_to_their_torque(seed: int) -> None:
    """Offsets far beyond those that actions ask for included; within, it is the spring and the damper of one step."""
    env = ReachTorque(control="pd")
    q, dq, *_ = (v.T.contiguous() for v in random_states(PANDA, 64, seed, torch.float32))
    frames = link_frames(PANDA, q)
    axes, body = screws(PANDA, frames), bodies(PANDA, frames)
    matrix, load = upper_mass_matrix(PANDA, axes, body), joint_torque(PANDA, axes, body, dq) + friction(PANDA, dq)
    offset = dq.flip(1) * torch.logspace(-3, 1, 64)
    drives = Drives(env.motors.stiffness, env.motors.damping)
    torque = drive_torque(PANDA, drives, matrix, load, offset, dq, 0.002)
    limit = torch.tensor(PANDA.torque).unsqueeze(1)
    assert (torque.abs() <= limit).all()
    assert (torque.abs() == limit).any()
    free = (torque.abs() < limit).all(0)
    state = (value.T.double() for value in (q, dq, torque - friction(PANDA, dq)))
    after = dq.T.double() + 0.002 * forward_dynamics(PANDA, *state)
    expected = env.motors.stiffness.double() * offset.double() - env.motors.damping.double() * after.T
    assert free.any()
    torch.testing.assert_close(torque[:, free].double(), expected[:, free], rtol=2e-3, atol=0.02)


def by_hand(q: Tensor, dq: Tensor, torque: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the environment in float64: ten of 2 ms, velocity first, then the limits."""
    for _ in range(10):
        dq = dq + 0.002 * forward_dynamics(PANDA, q, dq, torque - joint_friction(PANDA, dq))
        dq = dq.clamp(-DOUBLE.velocity.T, DOUBLE.velocity.T)
        q = q + 0.002 * dq
        beyond = (q < DOUBLE.q_min.T) | (q > DOUBLE.q_max.T)
        q, dq = q.clamp(DOUBLE.q_min.T, DOUBLE.q_max.T), dq * ~beyond
    return q, dq


def test_a_step_is_ten_semi_implicit_steps() -> None:
    q, dq, _, tau = random_states(PANDA, 500, seed=4)
    torque = 0.3 * tau
    after = placed(ReachTorque(), q, dq).step((torque / DOUBLE.torque.T).float())[0]
    expected_q, expected_dq = by_hand(q.float().double(), dq.float().double(), torque)
    near = ((after.q - expected_q).abs() < 2e-4).all(1) & ((after.dq - expected_dq).abs() < 5e-3).all(1)
    assert near.double().mean() > 0.99  # a joint may meet its end in the step before or after
    assert (expected_dq.abs() == DOUBLE.velocity.T).any()
    assert (expected_q == DOUBLE.q_min.T).any()
    pose = forward_kinematics(PANDA, after.q.double())
    torch.testing.assert_close(after.tool.double(), pose.position[:, -1], rtol=0, atol=2e-6)
    torch.testing.assert_close(after.tool_rotation.double(), pose.rotation[:, -1], rtol=0, atol=2e-6)


def test_torque_that_carries_the_weight_holds_the_arm_and_none_drops_it() -> None:
    rest = torch.zeros_like(READY)
    hold = inverse_dynamics(PANDA, READY, rest, rest) / DOUBLE.torque.T
    held = placed(ReachTorque(), READY.expand(2, -1), rest.expand(2, -1))
    for _ in range(50):
        held.step(torch.cat((hold, rest)).float())
    q, dq, tool = held.path("q").double(), held.path("dq").double(), held.path("tool")
    assert (q[:, 0] - READY).abs().max() < 1e-4
    assert (tool[:, 1, 2].diff()[:10] < 0).all()
    content = energy(PANDA, q[:, 1], dq[:, 1])
    assert content.diff().max() < 0.02  # semi-implicit steps keep energy to about that
    assert content[-1] < content[0] - 15.0  # J, to friction and the joints' ends


def test_the_drives_reach_a_far_configuration_without_swinging() -> None:
    """Every joint 0.5 rad away, the weight added to the command: each comes to rest there from one side."""
    away = 0.5 * torch.tensor([1.0, 1, -1, 1, -1, 1, -1], dtype=torch.float64)
    env, goal = ReachTorque(control="pd"), READY + torch.stack((away, -away))
    play, rest = Play(env, 2), torch.zeros_like(goal)
    for _ in range(75):
        q = play.states[-1].q.double()
        weight = inverse_dynamics(PANDA, q, rest, rest) / env.motors.stiffness.T
        play.step(((goal - q + weight) / PD_RANGE).clamp(-1, 1).float())
    miss = (play.path("q") - goal) * (READY - goal).sign()
    assert miss[-1].abs().max() < 0.01
    assert miss.min() > -0.03  # the furthest that one goes beyond
    assert play.states[-1].dq.abs().max() < 0.01


def test_the_drives_are_calm_where_joints_have_hardly_any_inertia() -> None:
    """Four seconds from stretched and folded poses near q₂ = 0, told to stay (the weight makes them sag)."""
    q, still = torch.zeros(16, 7, dtype=torch.float64), torch.zeros(16, 7)
    q[:, 1], q[:, 5] = torch.linspace(-0.01, 0.01, 16), torch.linspace(0.0, 3.0, 16)
    q[:, 3] = torch.where(torch.arange(16) % 2 == 0, -0.08, -3.0)
    play = placed(ReachTorque(control="pd"), q, still)
    for _ in range(200):
        play.step(still)
    assert play.path("q").isfinite().all()
    assert play.path("dq").abs().max() < 1.0
    assert play.path("dq")[..., [0, 2]].abs().max() < 0.05  # in line with each other, where q₂ is 0


# ---------------------------------------------------------------------------------------------------- episodes


def angle_between(a: Any, b: Any) -> Any:
    """Angle of the rotation from a to b [N, 3, 3]."""
    return np.arccos(np.clip((np.einsum("nij,nij->n", a, b) - 1) / 2, -1, 1))


def test_target_poses_are_uniform_in_position_roll_pitch_and_yaw() -> None:
    """The angles are read off Rz(yaw) Ry(pitch) Rx(roll) · diag(1, −1, −1); the start is the hand straight down."""
    state = Play(ReachTorque(), 4096, seed=2).states[0]
    down = np.diag([1.0, -1.0, -1.0])
    np.testing.assert_allclose(state.tool_rotation.numpy(), np.broadcast_to(down, (4096, 3, 3)), atol=1e-6)
    matrix = state.target_rotation.double().numpy()
    np.testing.assert_allclose(matrix @ matrix.transpose(0, 2, 1), np.broadcast_to(np.eye(3), matrix.shape), atol=1e-6)
    r = matrix @ down
    np.testing.assert_allclose(np.linalg.det(matrix), 1.0, atol=1e-6)
    angles = np.arctan2(r[:, 2, 1], r[:, 2, 2]), -np.arcsin(r[:, 2, 0]), np.arctan2(r[:, 1, 0], r[:, 0, 0])
    unit = (np.stack(angles, 1) / [0.3, 0.3, 0.6] + 1) / 2
    unit = np.concatenate((unit, (state.target.double().numpy() - [0.35, -0.2, 0.15]) / [0.3, 0.4, 0.35]), 1)
    assert -1e-5 < unit.min() < 0.001
    assert 0.999 < unit.max() < 1 + 1e-5
    assert (np.ptp(unit, 0) > 0.99).all()
    assert np.abs(unit.mean(0) - 0.5).max() < 4.5 / math.sqrt(12 * 4096)
    assert np.abs((unit**2).mean(0) - 1 / 3).max() < 4.5 * math.sqrt(4 / 45 / 4096)
    assert np.abs(np.triu(np.corrcoef(unit.T), 1)).max() < 4.5 / 64


def test_rewards_add_up_to_progress_arrival_and_time() -> None:
    """Rows 0 … 31 follow the expert, the others fall and are truncated, here at 60 steps."""
    batch = TensorVectorEnv(ReachTorque(), 40, device="cpu", seed=7, max_episode_steps=60)
    batch.reset()

    def left() -> tuple[Tensor, Tensor]:
        state = batch.state
        assert state is not None
        angle = angle_between(*(r.double().numpy() for r in (state.tool_rotation, state.target_rotation)))
        return (state.target - state.tool).norm(dim=1), torch.tensor(angle)

    first, open_rows, total, arrived = left(), torch.ones(40, dtype=torch.bool), torch.zeros(40), 0
    for step in range(1, 61):
        action = batch.env.expert(batch.state)  # type: ignore[arg-type]
        action[32:] = 0.0
        _, reward, terminated, truncated = batch.advance(action)
        total += reward
        metres, radians = left()
        clear = ((metres - 0.02).abs() > 1e-6) & ((radians - 0.1).abs() > 1e-5)
        assert torch.equal(terminated[clear], ((metres <= 0.02) & (radians <= 0.1))[clear])
        assert torch.equal(batch.env.success(batch.state), terminated)  # type: ignore[arg-type]
        assert torch.equal(truncated, torch.full_like(truncated, step == 60) & ~terminated)
        ends = open_rows & (terminated | truncated)
        progress = 10 * ((first[0] - 0.02).clamp(min=0) - (metres - 0.02).clamp(min=0)).double()
        progress += 2 * ((first[1] - 0.1).clamp(min=0) - (radians - 0.1).clamp(min=0))
        expected = progress + terminated.double() - 0.04 * step
        torch.testing.assert_close(total[ends].double(), expected[ends], rtol=0, atol=3e-4)
        arrived += int((ends & terminated).sum())
        open_rows &= ~ends
    assert arrived == 32
    assert not open_rows.any()


def test_observation_part_by_part() -> None:
    env = ReachTorque()
    play = Play(env, 50)
    for action in commands(1, 15, 50, 7):
        play.step(action)
    state: ReachTorqueState = play.states[-1]
    q, dq, target, wanted, obs = (
        v.double().numpy() for v in (state.q, state.dq, state.target, state.target_rotation, env.observe(state))
    )
    low, high = np.array(PANDA.q_min), np.array(PANDA.q_max)
    pose = forward_kinematics(PANDA, torch.tensor(q))
    tool, rotation = pose.position[:, -1].numpy(), pose.rotation[:, -1].numpy()
    error, relative = target - tool, wanted @ rotation.transpose(0, 2, 1)
    angle = angle_between(rotation, wanted)[:, None]
    skew = np.stack([relative[:, i, j] - relative[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], 1)
    turn = angle * skew / (2 * np.sin(angle))
    parts = {
        "angles": (obs[:, :7], 2 * (q - low) / (high - low) - 1),
        "velocities": (obs[:, 7:14], dq / np.array(PANDA.velocity)),
        "tool": (obs[:, 14:17], tool),
        "error": (obs[:, 17:20], error),
        "direction": (obs[:, 20:23], error / (np.linalg.norm(error, axis=1, keepdims=True) + 0.05)),
        "turn": (obs[:, 23:26], turn),
        "direction of the turn": (obs[:, 26:29], turn / (angle + 0.25)),
    }
    assert obs.shape == (50, 29)
    assert angle.max() < 3.1
    for name, (ours, expected) in parts.items():
        np.testing.assert_allclose(ours, expected, rtol=0, atol=3e-5, err_msg=name)
