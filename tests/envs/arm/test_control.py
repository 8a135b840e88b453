"""Damped least squares, rotation vectors, inverse kinematics and the time-optimal bound, against closed forms."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mujoco_arm import random_arm, random_chain, random_states
from time_bound import held_out_targets, minimum_time
from torch import Tensor

from palaestra.envs import make
from palaestra.envs.arm import PANDA, PANDA_READY, Placement, SerialChain, forward_kinematics
from palaestra.envs.arm.control import damped_least_squares, inverse_kinematics, rotation_error, speed_towards
from palaestra.envs.arm.reach import PERIOD, Reach
from palaestra.envs.arm.robots.panda_bound import held_out
from palaestra.envs.core import TensorVectorEnv
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, run_episodes
from palaestra.train.evaluation.policies import ExpertPolicy

CHAINS = [PANDA, random_chain(2, 4), random_chain(5, 3), random_arm(24, 4)]
each_chain = pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)


# ---------------------------------------------------------------------------------------------------- least squares


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 8), st.floats(1e-3, 1.0))
def test_damped_least_squares_solves_its_equations(seed: int, tasks: int, dof: int, damping: float) -> None:
    """Jᵀ (J Jᵀ + λ² 1)⁻¹ Δx by torch's pivoted solver, with one λ and with one for each column."""
    generator = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(tasks, dof, 5, generator=generator, dtype=torch.float64)
    change = torch.randn(tasks, 5, generator=generator, dtype=torch.float64)
    for weight in (torch.full((5,), damping, dtype=torch.float64), damping * torch.arange(1.0, 6.0).double()):
        j = jacobian.permute(2, 0, 1)
        inner = j @ j.mT + torch.diag_embed(weight.square().unsqueeze(1).expand(-1, tasks))
        expected = (j.mT @ torch.linalg.solve(inner, change.T.unsqueeze(2)))[..., 0]
        ours = damped_least_squares(jacobian, change, weight).T
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9 / damping)
    one = damped_least_squares(jacobian, change, damping)
    torch.testing.assert_close(one[:, :1], damped_least_squares(jacobian, change, weight)[:, :1])


def test_a_joint_at_its_end_is_left_out_and_the_others_do_its_part() -> None:
    """The least squares of the columns that are left; away from the ends all of them, with the same bits."""
    generator = torch.Generator().manual_seed(0)
    jacobian = torch.randn(3, 7, 200, generator=generator, dtype=torch.float64)
    error = torch.randn(3, 200, generator=generator, dtype=torch.float64)
    ready = torch.tensor(PANDA_READY, dtype=torch.float64).unsqueeze(1).expand(-1, 200)
    plain = 8.0 * damped_least_squares(jacobian, error, 0.05)
    plain = plain / plain.abs().amax(0).clamp(min=1.0)

    def speed(q: Tensor, rounds: int) -> Tensor:
        return speed_towards(PANDA, q, jacobian, error, damping=0.05, gain=8.0, rounds=rounds)

    assert torch.equal(speed(ready, 3), plain)
    low, high = PANDA.q_min[3], PANDA.q_max[3]
    for end, out in ((low, plain[3] < 0), (high, plain[3] > 0)):
        q = ready.clone()
        q[3] = end
        assert torch.equal(speed(q, 0), plain)
        found = speed(q, 1)
        left = jacobian[:, [0, 1, 2, 4, 5, 6]].permute(2, 0, 1)
        inner = left @ left.mT + 0.05**2 * torch.eye(3, dtype=torch.float64)
        rest = 8.0 * (left.mT @ torch.linalg.solve(inner, error.T.unsqueeze(2)))[..., 0].T
        rest = rest / rest.abs().amax(0).clamp(min=1.0)
        assert 50 < int(out.sum()) < 150
        assert (found[3, out] == 0.0).all()
        torch.testing.assert_close(found[[0, 1, 2, 4, 5, 6]][:, out], rest[:, out], rtol=1e-8, atol=1e-10)
        assert torch.equal(found[:, ~out], plain[:, ~out])


# ---------------------------------------------------------------------------------------------------- rotations


def rotation(vector: Tensor) -> Tensor:
    """Rotation matrices [3, 3, N] of rotation vectors [3, N], by the matrix exponential."""
    x, y, z = vector.double()
    zero = torch.zeros_like(x)
    skew = torch.stack([torch.stack(row) for row in ((zero, -z, y), (z, zero, -x), (-y, x, zero))])
    return torch.linalg.matrix_exp(skew.permute(2, 0, 1)).permute(1, 2, 0)


def turned_frames(angles: Tensor, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation vectors [3, N] of those angles about random axes, random frames, and the frames turned by them."""
    generator = torch.Generator().manual_seed(seed)
    axis, start = torch.randn(2, 3, len(angles), generator=generator, dtype=torch.float64)
    vector, current = angles * axis / axis.norm(dim=0), rotation(3.0 * start)
    return vector, current, torch.einsum("ijn,jkn->ikn", rotation(vector), current)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-4), (torch.float64, 1e-8)])
def test_rotation_error_is_the_rotation_vector(dtype: torch.dtype, tolerance: float) -> None:
    """From nothing to half a turn less 0.01 rad; near nothing the error is relative."""
    angles = torch.cat((torch.linspace(0.0, math.pi - 0.01, 500), torch.tensor([1e-3, 1e-2, 2.0]))).double()
    vector, current, target = turned_frames(angles)
    error = (rotation_error(current.to(dtype), target.to(dtype)).double() - vector).norm(dim=0)
    assert error.max() < tolerance
    assert error[angles < 0.02].max() < 1e-6


def test_the_angle_is_right_up_to_half_a_turn_and_finite_there() -> None:
    """The axis becomes uncertain there; half a turn itself is symmetric, and its axis is left open."""
    below = math.pi - torch.logspace(-9, -2, 200, dtype=torch.float64)
    for dtype, nearest in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        angles = below[math.pi - below >= nearest]
        _, current, target = turned_frames(angles)
        measured = rotation_error(current.to(dtype), target.to(dtype)).double().norm(dim=0)
        assert (measured - angles).abs().max() < 1e-5
        half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=dtype)).unsqueeze(2)
        assert rotation_error(torch.eye(3, dtype=dtype).unsqueeze(2), half_turn).isfinite().all()
        assert (rotation_error(half_turn, half_turn) == 0).all()


def test_a_rotation_error_has_the_same_bits_alone_and_in_a_batch() -> None:
    _, current, target = (
        value.float() for value in turned_frames(torch.linspace(0, math.pi, 1000, dtype=torch.float64))
    )
    alone = torch.cat([rotation_error(current[..., i : i + 1], target[..., i : i + 1]) for i in range(0, 1000, 7)], 1)
    for n in (2, 5, 64, 1000):
        batch = rotation_error(current[..., :n].contiguous(), target[..., :n].contiguous())[:, ::7]
        assert torch.equal(batch, alone[:, : batch.shape[1]])


# -------------------------------------------------------------------------------------------------- inverse kinematics


@each_chain
def test_inverse_kinematics_puts_the_tool_on_the_target(chain: SerialChain) -> None:
    """Targets that some configuration reaches, within 0.9 of the limits' range."""
    middle = torch.tensor(chain.span).mean(0)
    reachable = 0.9 * random_states(chain, 40, seed=1)[0] + 0.1 * middle
    targets = forward_kinematics(chain, reachable).position[:, -1].contiguous()
    q = inverse_kinematics(chain, targets, tuple(middle.tolist()))
    assert (forward_kinematics(chain, q).position[:, -1] - targets).norm(dim=1).max() < 1e-6
    assert (q >= torch.tensor(chain.q_min, dtype=torch.float64)).all()
    assert (q <= torch.tensor(chain.q_max, dtype=torch.float64)).all()


def test_a_point_out_of_reach_is_named() -> None:
    """With an arm that turns in a plane: 0.5 m from its axis, 0.1 m above the base."""
    chain = turntable()
    targets = torch.tensor([[0.5, 0.0, 0.1], [0.0, 0.7, 0.1]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"turntable: the tool cannot reach \(0, 0.7, 0.1\) m .* within 0.2 m"):
        inverse_kinematics(chain, targets, (0.0,))
    with pytest.raises(ValueError, match=r"cannot reach \(2, 0, 0.3\) m within the joints' limits"):
        inverse_kinematics(PANDA, torch.tensor([[2.0, 0.0, 0.3]], dtype=torch.float64), PANDA_READY)


# ---------------------------------------------------------------------------------------------------- the bound


def turntable() -> SerialChain:
    """One joint about the vertical, 2 rad/s and 10 rad/s², whose tool goes round at 0.5 m."""
    return dataclasses.replace(
        random_chain(0, 1),
        name="turntable",
        placements=(Placement((0.0, 0.0, 0.1)),),
        flange=Placement((0.5, 0.0, 0.0)),
        tool=Placement(),
    )


def on_the_circle(angles: Tensor) -> Tensor:
    return torch.stack((0.5 * angles.cos(), 0.5 * angles.sin(), torch.full_like(angles, 0.1)), 1)


def seconds(angle: Tensor) -> Tensor:
    """From rest at 10 rad/s² up to 2 rad/s, which takes 0.2 s and 0.2 rad."""
    return torch.where(angle <= 0.2, (angle / 5).sqrt(), 0.2 + (angle - 0.2) / 2)


def test_one_joint_takes_the_time_of_its_closed_form() -> None:
    """10 µm of slack in the target and a resolution of 8 µs; within a tolerance, its chord is left out."""
    angles = torch.tensor([0.05, 0.1, 0.2, 0.4, 1.0, -2.5, 3.0], dtype=torch.float64)
    targets = on_the_circle(angles)
    exact = minimum_time(turntable(), (0.0,), targets)
    torch.testing.assert_close(exact, seconds(angles.abs()), rtol=0, atol=4e-5)
    chord = 2 * math.asin(0.02 / 2 / 0.5)
    near = minimum_time(turntable(), (0.0,), targets, tolerance=0.02)
    torch.testing.assert_close(near, seconds(angles.abs() - chord), rtol=0, atol=4e-5)
    assert (near < exact).all()
    turned = minimum_time(turntable(), (-1.0,), on_the_circle(angles[:5] - 1.0))
    torch.testing.assert_close(turned, exact[:5], rtol=0, atol=2e-5)


def test_the_slowest_joint_decides() -> None:
    """Two joints about one axis share the way: it takes as long as half of it takes one."""
    one = turntable()
    two = {name: getattr(one, name) * 2 for name in ("q_min", "q_max", "velocity", "acceleration", "torque", "mass")}
    two |= {name: getattr(one, name) * 2 for name in ("centre_of_mass", "inertia", "friction", "axes", "kinds")}
    none: dict[str, Any] = dict.fromkeys(("damping", "coulomb", "armature", "joint_names", "link_names"), ())
    chain = dataclasses.replace(one, placements=(*one.placements, Placement()), **none, **two)
    angles = torch.tensor([0.1, 0.3, 1.0, 2.5], dtype=torch.float64)
    both = minimum_time(chain, (0.0, 0.0), on_the_circle(angles))
    torch.testing.assert_close(both, seconds(angles / 2), rtol=0, atol=4e-5)


def test_the_stored_bounds_are_those_of_the_held_out_targets() -> None:
    """The first episodes of ``palaestra evaluate``; 20 of the bounds are computed again."""
    env = make("reach", 1000, "cpu", seed=EVALUATION_SEEDS)
    assert isinstance(env, TensorVectorEnv)
    env.reset()
    assert env.state is not None
    targets = held_out_targets()
    assert torch.equal(targets.float(), env.state.target)
    stored = held_out()
    torch.testing.assert_close(torch.tensor(stored["target"], dtype=torch.float64), targets, rtol=0, atol=1e-7)
    rows = torch.arange(0, 1000, 50)
    for name, tolerance in (("seconds", 0.0), ("seconds_within_tolerance", 0.02)):
        again = minimum_time(PANDA, PANDA_READY, targets[rows], tolerance)
        expected = torch.tensor(stored[name], dtype=torch.float64)
        assert len(expected) == 1000
        torch.testing.assert_close(again, expected[rows], rtol=0, atol=1e-4)
    assert (np.array(stored["seconds_within_tolerance"]) < np.array(stored["seconds"])).all()


def test_where_the_tool_is_already_takes_no_time() -> None:
    start = forward_kinematics(PANDA, torch.tensor([PANDA_READY], dtype=torch.float64)).position[:, -1]
    assert minimum_time(PANDA, PANDA_READY, start.contiguous()).item() < 1e-5


def test_a_target_out_of_reach_has_no_bound() -> None:
    targets = torch.tensor([[0.4, 0.0, 0.3], [1.5, 0.0, 0.3]], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"Panda: the tool does not reach \(1.5, 0, 0.3\) m within 2 s"):
        minimum_time(PANDA, PANDA_READY, targets)
    with pytest.raises(ValueError, match="q of joint 4 must lie within"):
        minimum_time(PANDA, (0.0,) * 7, targets[:1])


def test_no_expert_is_faster_than_the_bound_or_earns_more() -> None:
    """Arrival time and return of every held-out episode."""
    stored, env = held_out(), Reach()
    bound = np.array(stored["seconds_within_tolerance"])
    distance = np.linalg.norm(np.array(stored["target"]) - env.start_tool.numpy(), axis=1)
    best = 10.0 * (distance - 0.02) + 1.0 - 0.1 * np.ceil(bound / PERIOD)
    result = run_episodes(make("reach", 1000, "cpu", seed=EVALUATION_SEEDS), ExpertPolicy())
    assert result.successes is not None
    assert result.successes.all()
    assert (result.lengths * PERIOD >= bound - 1e-6).all()
    assert (result.returns <= best + 1e-4).all()
    assert env.reference.optimum == pytest.approx(best.mean(), abs=1e-6)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from(CHAINS))
def test_no_commands_turn_a_joint_further_than_the_bound_assumes(seed: int, chain: SerialChain) -> None:
    """a t² / 2 until the speed limit, v t − v² / 2a after that, under ±1 for random times and anything between."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.tensor(chain.span).mean(0)
    start = (0.5 * (random_states(chain, 32, seed, torch.float32)[0] + middle)).T.contiguous()
    v, a = (torch.tensor(limit).unsqueeze(1) for limit in (chain.velocity, chain.acceleration))
    env = object.__new__(Reach)
    env.chain = chain
    q, dq = start, torch.zeros_like(start)
    for step in range(1, 21):
        command = v * (4 * torch.rand(start.shape, generator=generator) - 2).clamp(-1, 1)
        q, dq = env._drive(q, dq, command)
        t = step * PERIOD
        most = torch.where(a * t <= v, a * t * t / 2, v * t - v * v / (2 * a))
        assert ((q - start).abs() <= most * (1 + 1e-5) + 1e-6).all()
