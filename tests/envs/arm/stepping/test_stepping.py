"""The recorded time steps: MuJoCo's motion, and the bits of the functions with a derivative, whatever the block."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

import pytest
import torch
from arm_play import ALL_KINDS, OTHER
from mujoco_arm import random_arm, random_chain, random_states, simulate
from torch import Tensor

from palaestra.envs import TensorVectorEnv
from palaestra.envs.arm import PANDA, SerialChain, inverse_dynamics
from palaestra.envs.arm.dynamics import tool_frame
from palaestra.envs.arm.reach_torque import SUBSTEPS, TIME_STEP, ReachTorque, ReachTorqueState
from palaestra.envs.arm.stepping import Motion, integrate, integrator
from palaestra.envs.arm.stepping.functions import integrate_functions
from palaestra.envs.arm.stepping.recorded_tool import tool_frame_of

LOADED: dict[str, Any] = {"payload": (0.0, 3.0), "friction": (0.5, 2.0)}
TASKS = {
    "Panda": {},
    "Panda with payloads": LOADED,
    "another chain": OTHER,
    "all kinds of joint": ALL_KINDS,
    "all kinds with payloads": ALL_KINDS | LOADED,
    "strong motors": {"gain": 1.2},
    "weak motors": {"gain": 0.8},
    "drawn motors": {"gain": (0.5, 1.5), "damping": (0.0, 0.3)},
    "drawn motors of all kinds": ALL_KINDS | LOADED | {"gain": (0.5, 1.5), "damping": 0.2},
}
each_task = pytest.mark.parametrize("kwargs", TASKS.values(), ids=TASKS)
each_control = pytest.mark.parametrize("control", ["torque", "pd"])


def started(env: ReachTorque, n: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> ReachTorqueState:
    """States anywhere within the limits."""
    batch = TensorVectorEnv(env, n, device="cpu", seed=seed)
    batch.reset()
    q, dq = random_states(env.chain, n, seed, dtype)[:2]
    assert batch.state is not None
    floats = {name: getattr(batch.state, name).to(dtype) for name in ("payload", "friction", "drawn")}
    return dataclasses.replace(batch.state, q=q, dq=dq, **floats)


def actions(env: ReachTorque, n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    draws = torch.rand(n, env.chain.dof, generator=torch.Generator().manual_seed(n), dtype=dtype)
    return (2 * draws - 1).T


def by_functions(env: ReachTorque, state: ReachTorqueState, action: Tensor) -> tuple[Tensor, Tensor]:
    return integrate_functions(env.chain, env._motion(state, action), TIME_STEP, SUBSTEPS)


def assert_same_bits(ours: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    whole = {torch.float32: torch.int32, torch.float64: torch.int64}
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a.contiguous().view(whole[a.dtype]), b.contiguous().view(whole[b.dtype]))


@each_task
@each_control
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_have_the_bits_of_the_functions(kwargs: dict[str, Any], control: Any, dtype: torch.dtype) -> None:
    env = ReachTorque(control=control, **kwargs)
    for n in (1, 3, 40):
        state, action = started(env, n, dtype, seed=n), actions(env, n, dtype)
        for _ in range(3):  # the second and third in memory that has been used
            after = env._integrate(state, action)
            assert_same_bits(after, by_functions(env, state, action))
            assert all(value.isfinite().all() for value in after)
            state = dataclasses.replace(state, q=after[0].T.contiguous(), dq=after[1].T.contiguous())


@each_task
@each_control
def test_fewer_operations_for_other_devices_give_the_same(
    kwargs: dict[str, Any], control: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is recorded for a GPU, on the CPU: in float64, in which a CPU's running sums round as those of a GPU do."""
    monkeypatch.setattr(integrator, "fewest_count", lambda device: True)
    monkeypatch.setattr(integrator, "_kept", lambda thread, *settings: integrator.Integrator(*settings))
    env = ReachTorque(control=control, **kwargs)
    for n in (1, 40):
        state, action = started(env, n, torch.float64, seed=n), actions(env, n, torch.float64)
        for ours, expected in zip(env._integrate(state, action), by_functions(env, state, action), strict=True):
            assert torch.equal(ours, expected)  # but for the sign of a zero, to which a sum of one term adds 0


@each_control
@pytest.mark.parametrize("more", [{}, {"gain": (0.5, 1.5), "damping": (0.1, 0.2)}], ids=["", "drawn motors"])
def test_blocks_of_any_size_give_the_same_bits(control: Any, more: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven environments in a block of up to 7, 3, 2 or 1, and 5,000 in three blocks of the standard size."""
    env = ReachTorque(control=control, **LOADED, **more)
    state, action = started(env, 7), actions(env, 7)
    expected = env._integrate(state, action)
    for block in (3, 2, 1):
        monkeypatch.setattr(integrator, "BLOCK", block)
        assert_same_bits(env._integrate(state, action), expected)
    monkeypatch.undo()
    state, action = started(env, 5000), actions(env, 5000)
    whole = env._integrate(state, action)
    for first in (0, 1666, 1667, 3333, 3334, 4990):
        rows = slice(first, first + 10)
        part = type(state)(**{name: value[rows] for name, value in vars(state).items()})
        alone = env._integrate(part, action[:, rows])
        assert_same_bits((whole[0][:, rows], whole[1][:, rows]), alone)


@pytest.mark.parametrize("chain", [PANDA, random_chain(0, 4), random_arm(3, 7)], ids=lambda chain: chain.name)
def test_half_a_second_of_motion_is_mujocos(chain: SerialChain) -> None:
    """Semi-implicit Euler at 1 ms under torques that swing about those that carry the arm, from rest, in float64."""
    nothing, most = (0.0,) * chain.dof, (1e6,) * chain.dof
    chain = dataclasses.replace(
        chain, friction=(), damping=nothing, velocity=most, torque=most, q_min=(), q_max=(), kinds=chain.kinds
    )
    q, dq, *_ = random_states(chain, 4, seed=5)
    dq = torch.zeros_like(dq)
    time = torch.arange(500, dtype=torch.float64) * 0.001
    swing = torch.sin(2 * math.pi * time.unsqueeze(1) * torch.linspace(0.5, 2.0, chain.dof, dtype=torch.float64))
    tau = inverse_dynamics(chain, q, dq, dq).unsqueeze(1) + 0.4 * swing  # [N, T, dof]
    path = simulate(chain, q, dq, tau, 0.001)
    ours, rate, factor = q.T, dq.T, torch.ones(4, dtype=torch.float64)
    for step in range(500):
        ours, rate = integrate(chain, Motion(ours, rate, tau[:, step].T, factor), 0.001, 1)
        assert (ours.T - path[0][:, step]).abs().max() < 1e-9
        assert (rate.T - path[1][:, step]).abs().max() < 1e-8
    assert ((ours - q.T).abs().amax(0) > 0.01).all()  # it moved


def test_what_is_kept_between_steps_carries_nothing_from_one_batch_to_another() -> None:
    """Steps of batches of several tasks and sizes in turn, and of a copy, as each of them alone."""
    envs = [ReachTorque(), ReachTorque(**LOADED), ReachTorque(control="pd"), ReachTorque(**OTHER)]
    envs.append(copy.deepcopy(envs[1]))
    cases = [(env, started(env, n, seed=n), actions(env, n)) for env in envs for n in (2, 9)]
    alone = [by_functions(env, state, action) for env, state, action in cases]
    for _ in range(2):
        for (env, state, action), expected in zip(cases, alone, strict=True):
            before = {name: value.clone() for name, value in vars(state).items()}
            assert_same_bits(env._integrate(state, action), expected)
            assert all(torch.equal(value, before[name]) for name, value in vars(state).items())


def test_results_stay_when_the_next_step_is_made() -> None:
    env = ReachTorque()
    state, action = started(env, 4), actions(env, 4)
    first = env._integrate(state, action)
    kept = tuple(value.clone() for value in first)
    env._integrate(state, -action)
    assert_same_bits(first, kept)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_are_as_before_and_change_no_bit(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    env = ReachTorque()
    state, action = started(env, 30), actions(env, 30)
    expected, before = env._integrate(state, action), torch.get_num_threads()
    monkeypatch.setattr(integrator, "BLOCK", 8)
    try:
        torch.set_num_threads(threads)
        assert_same_bits(env._integrate(state, action), expected)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_a_first_step_in_inference_mode_leaves_later_ones_possible() -> None:
    env = ReachTorque()
    state, action = started(env, 6), actions(env, 6)
    with torch.inference_mode():
        first = tuple(value.clone() for value in env._integrate(state, action))
    assert_same_bits(env._integrate(state, action), first)


def test_a_step_passes_derivatives_on_where_they_are_wanted() -> None:
    """How the reward rises with the action, against differences, in float64."""
    env = ReachTorque(control="torque")
    state = started(env, 2, torch.float64)
    state = dataclasses.replace(state, q=0.5 * state.q, dq=0.1 * state.dq)  # away from the limits
    action = (0.02 * actions(env, 2, torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: env._integrate(state, a), (action,), atol=1e-6)
    assert not env._integrate(state, action.detach())[0].requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_tools_frame_has_the_bits_of_the_function(dtype: torch.dtype) -> None:
    for chain in (PANDA, random_chain(2, 7), random_arm(3, 7), random_arm(24, 4), OTHER["robot"]):
        for n in (1, 5, 200):
            for seed in (0, 1):  # the second in memory that has been used
                q = random_states(chain, n, seed, dtype)[0].T
                ours, expected = tool_frame_of(chain, q), tool_frame(chain, q)
                assert_same_bits(tuple(ours), tuple(expected))
    q = random_states(PANDA, 2)[0].T.requires_grad_()
    assert torch.autograd.gradcheck(lambda angles: tuple(tool_frame_of(PANDA, angles)), (q,))


def test_no_environments_at_all() -> None:
    env = ReachTorque()
    state = started(env, 1)
    state = type(state)(**{name: value[:0] for name, value in vars(state).items()})
    q, dq = env._integrate(state, actions(env, 1)[:, :0])
    assert q.shape == dq.shape == (7, 0)
