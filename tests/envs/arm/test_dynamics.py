"""Dynamics of serial chains against known answers, MuJoCo, conservation laws and the equations they must satisfy.

Chains beside the Panda are random: no right angles, offsets everywhere, gravity in any direction.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mujoco_arm import accelerations, energy, loaded, random_arm, random_chain, random_states, reference, simulate
from torch import Tensor

from palaestra.envs.arm import (
    PANDA,
    PANDA_READY,
    SerialChain,
    forward_dynamics,
    inverse_dynamics,
    joint_friction,
    mass_matrix,
)
from palaestra.envs.arm.friction import drag_slope

FLOAT = {"float32": torch.float32, "float64": torch.float64}
ON_ITS_SIDE = dataclasses.replace(PANDA, name="Panda on a wall", gravity=(-6.0, 3.0, 7.0))
CHAINS = [
    PANDA,
    ON_ITS_SIDE,
    random_chain(0, 4),
    random_chain(1, 1),
    random_chain(2, 7),
    random_arm(0),
    random_arm(3, 7),
]
chains = st.builds(random_chain, st.integers(0, 2**32 - 1), st.integers(1, 6))
seeds = st.integers(0, 2**32 - 1)
each_chain = pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: chain.name)
each_dtype = pytest.mark.parametrize("dtype", FLOAT.values(), ids=FLOAT)


def vector(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def near(ours: Tensor, expected: Tensor, relative: float = 1e-9) -> None:
    """Equal to a part of each state's largest value, or of 1 where all are smaller."""
    scale = expected.abs().flatten(1).amax(1).clamp(min=1.0)
    assert ((ours - expected).abs().flatten(1).amax(1) / scale).max() < relative


# ---------------------------------------------------------------------------------------------------- known answers

READY, ZERO = vector(*PANDA_READY), vector(*(0.0,) * 7)
SPEED, RATE = vector(0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7), vector(1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0)
EIGENVALUES = torch.linalg.eigvalsh(mass_matrix(PANDA, READY))
KNOWN = {
    "gravity": (inverse_dynamics(PANDA, READY, ZERO, ZERO), (0, -1.771376, -0.644, 18.57359, 0.633846, 1.693685, 0)),
    "gravity at 0": (inverse_dynamics(PANDA, ZERO, ZERO, ZERO), (0, -3.434432, 0, -3.257224, 0, 1.694217, 0)),
    "inverse": (
        inverse_dynamics(PANDA, READY, SPEED, RATE),
        (0.837887, -2.745225, 0.568676, 18.264678, 0.663210, 1.596720, -0.005877),
    ),
    "forward": (
        forward_dynamics(PANDA, READY, SPEED, ZERO),
        (-0.950925, -13.373921, 0.308726, -38.516299, 3.807123, 40.258651, 3.058401),
    ),
    "kinetic energy": (0.5 * torch.einsum("ni,nij,nj->n", SPEED, mass_matrix(PANDA, READY), SPEED), (0.126286,)),
    "eigenvalues": (EIGENVALUES[:, [0, -1]], (0.004659, 1.804926)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_answers_of_the_panda(name: str) -> None:
    """To all printed digits; computed with NumPy, Pinocchio and MuJoCo, which agree."""
    ours, printed = KNOWN[name]
    torch.testing.assert_close(ours.flatten(), vector(*printed)[0], rtol=0, atol=0.5e-6)


def test_the_pandas_mass_matrix_is_badly_conditioned_as_known() -> None:
    assert round((EIGENVALUES[0, -1] / EIGENVALUES[0, 0]).item()) == 387


@pytest.mark.parametrize("speed", [-2.0, -0.1, 0.0, 0.01, 1.5])
def test_friction_is_the_identified_formula(speed: float) -> None:
    f1 = (0.54615, 0.87224, 0.64068, 1.2794, 0.83904, 0.30301, 0.56489)
    f2 = (5.1181, 9.0657, 10.136, 5.5903, 8.3469, 17.133, 10.336)
    f3 = (0.039533, 0.025882, -0.04607, 0.036194, 0.026226, -0.021047, 0.0035526)
    expected = [
        a / (1 + math.exp(-b * (speed + c))) - a / (1 + math.exp(-b * c)) for a, b, c in zip(f1, f2, f3, strict=True)
    ]
    ours = joint_friction(PANDA, torch.full((1, 7), speed, dtype=torch.float64))
    torch.testing.assert_close(ours[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)


@pytest.mark.parametrize(("kind", "width"), [("revolute", 0.1), ("prismatic", 0.01)])
def test_damping_and_coulomb_friction_add_up_and_their_slope_is_the_derivative(kind: Any, width: float) -> None:
    chain = dataclasses.replace(random_chain(0, 1), friction=(), kinds=(kind,), damping=(0.3,), coulomb=(2.0,))
    speed = torch.tensor([-3.0, -0.05, 0.0, 0.002, 0.1, 7.0], dtype=torch.float64).unsqueeze(1).requires_grad_()
    torque = joint_friction(chain, speed)
    expected = [0.3 * v + 2.0 * math.tanh(v / width) for v in speed.flatten().tolist()]
    torch.testing.assert_close(torque.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-14)
    (slope,) = torch.autograd.grad(torque.sum(), speed)
    torch.testing.assert_close(drag_slope(chain, speed.detach().T).T, slope, rtol=1e-12, atol=1e-12)


@each_dtype
def test_friction_is_nothing_at_rest_and_opposes_motion_of_any_speed(dtype: torch.dtype) -> None:
    speed = torch.linspace(-1000, 1000, 41, dtype=dtype).unsqueeze(1).expand(-1, 7).clone().requires_grad_()
    torque = joint_friction(PANDA, speed)
    assert torch.equal(torque.sign(), speed.sign())
    torque.sum().backward()
    assert speed.grad is not None
    assert (speed.grad >= 0).all()  # false for NaN


# ---------------------------------------------------------------------------------------------------- MuJoCo


@each_chain
@each_dtype
def test_200_states_against_mujoco(chain: SerialChain, dtype: torch.dtype) -> None:
    """1e-9 kg m², N m and rad/s² in float64 (accelerations reach 4,000); 1e-4 of each state's norm in float32."""
    q, dq, ddq, tau = random_states(chain, 200, dtype=dtype)
    theirs, damping = reference(chain, q, dq, ddq, tau), torch.tensor(chain.damping, dtype=dtype)
    computed = {
        "mass_matrix": mass_matrix(chain, q),
        "inverse_dynamics": inverse_dynamics(chain, q, dq, ddq) + damping * dq,
        "forward_dynamics": forward_dynamics(chain, q, dq, tau - damping * dq),
    }
    for name, ours in computed.items():
        assert ours.dtype == dtype
        assert ours.shape == theirs[name].shape
        error = (ours.double() - theirs[name]).flatten(1)
        if dtype == torch.float64:
            assert error.abs().max() < 1e-9
        else:
            assert (error.norm(dim=1) / theirs[name].flatten(1).norm(dim=1)).max() < 1e-4


def test_links_without_mass_and_rods_are_mujocos_too() -> None:
    """The same arm with a link's mass taken away and a moment of inertia of another one; MuJoCo gets 1e-14 for them."""
    full = random_chain(0, 4)
    xx = full.inertia[3][0]
    chain = dataclasses.replace(
        full,
        mass=(full.mass[0], 0.0, *full.mass[2:]),
        inertia=(full.inertia[0], (0.0,) * 6, full.inertia[2], (xx, xx, 0.0, 0.0, 0.0, 0.0)),
    )
    q, dq, ddq, tau = random_states(chain, 50)
    theirs = reference(chain, q, dq, ddq, tau)
    assert (inverse_dynamics(chain, q, dq, ddq) - theirs["inverse_dynamics"]).abs().max() < 1e-9
    assert (mass_matrix(chain, q) - theirs["mass_matrix"]).abs().max() < 1e-9
    near(forward_dynamics(chain, q, dq, tau), theirs["forward_dynamics"])


@pytest.mark.parametrize("chain", [PANDA, random_chain(0, 4)], ids=lambda chain: chain.name)
def test_a_second_of_motion_is_mujocos(chain: SerialChain) -> None:
    """Semi-implicit Euler at 1 ms under torques that swing about those that carry the arm, from rest."""
    q, dq, *_ = random_states(chain, 4, seed=5)
    dq = 0.2 * dq
    time = torch.arange(1000, dtype=torch.float64) * 0.001
    swing = torch.sin(2 * math.pi * time.unsqueeze(1) * torch.linspace(0.5, 2.0, chain.dof, dtype=torch.float64))
    hold = inverse_dynamics(chain, q, torch.zeros_like(q), torch.zeros_like(q))
    tau = hold.unsqueeze(1) + 0.02 * torch.tensor(chain.torque, dtype=torch.float64) * swing  # [N, T, dof]
    path = simulate(chain, q, dq, tau, 0.001)
    start = q
    for step in range(1000):
        dq = dq + 0.001 * forward_dynamics(chain, q, dq, tau[:, step])
        q = q + 0.001 * dq
        assert (q - path[0][:, step]).abs().max() < 1e-9
        assert (dq - path[1][:, step]).abs().max() < 1e-8
    assert ((q - start).abs().amax(1) > 0.1).all()  # it moved


# ---------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("chain", [PANDA, random_chain(0, 4)], ids=lambda chain: chain.name)
def test_energy_is_conserved_without_torque(chain: SerialChain) -> None:
    """Half a second of free motion by Runge-Kutta at 1 ms; the drift is relative to the largest kinetic energy."""
    q, dq, *_ = random_states(chain, 3, seed=1)
    rest, h = torch.zeros_like(q), 0.001

    def slope(q: Tensor, dq: Tensor) -> Tensor:
        return torch.stack((dq, forward_dynamics(chain, q, dq, rest)))

    state, kinetic, drift = torch.stack((q, dq)), [], []
    for step in range(500):
        k1 = slope(*state)
        k2 = slope(*(state + h / 2 * k1))
        k3 = slope(*(state + h / 2 * k2))
        k4 = slope(*(state + h * k3))
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        if step % 10 == 9:
            kinetic.append(energy(chain, *state) - energy(chain, state[0], rest))
            drift.append(energy(chain, *state) - energy(chain, q, dq))
    largest = torch.stack(kinetic).amax(0)
    assert (largest > 1.0).all()
    assert (torch.stack(drift).abs() < 1e-6 * largest).all()


@given(chains, seeds)
def test_the_power_of_the_torques_is_the_rate_of_energy(chain: SerialChain, seed: int) -> None:
    q, dq, _, tau = random_states(chain, 3, seed)
    q.requires_grad_()
    dq.requires_grad_()
    by_q, by_dq = torch.autograd.grad(energy(chain, q, dq).sum(), (q, dq))
    rate = (by_q * dq + by_dq * forward_dynamics(chain, q, dq, tau)).sum(1, keepdim=True)
    near(rate, (tau * dq).sum(1, keepdim=True))


@given(chains, seeds)
def test_the_mass_matrix_is_symmetric_positive_definite(chain: SerialChain, seed: int) -> None:
    for dtype in FLOAT.values():
        mass = mass_matrix(chain, random_states(chain, 5, seed, dtype)[0])
        assert torch.equal(mass, mass.mT)
        assert (torch.linalg.eigvalsh(mass) > 0).all()


@given(chains, seeds)
def test_inverse_dynamics_is_affine_in_acceleration_and_undoes_forward_dynamics(chain: SerialChain, seed: int) -> None:
    q, dq, ddq, tau = random_states(chain, 3, seed)
    torque, bias = (inverse_dynamics(chain, q, dq, a) for a in (ddq, torch.zeros_like(ddq)))
    near(torque, bias + torch.einsum("nij,nj->ni", mass_matrix(chain, q), ddq))
    near(inverse_dynamics(chain, q, dq, forward_dynamics(chain, q, dq, tau)), tau)


@given(seeds, st.floats(-6.0, 6.0))
def test_turning_a_vertical_first_joint_changes_no_torque(seed: int, angle: float) -> None:
    q, dq, ddq, _ = random_states(PANDA, 3, seed)
    turned = q.clone()
    turned[:, 0] += angle
    near(inverse_dynamics(PANDA, turned, dq, ddq), inverse_dynamics(PANDA, q, dq, ddq), 1e-12)
    near(mass_matrix(PANDA, turned), mass_matrix(PANDA, q), 1e-12)


@given(st.one_of(st.just(PANDA), chains), seeds)
def test_a_payload_is_a_point_mass_in_the_last_link(chain: SerialChain, seed: int) -> None:
    q, dq, _, tau = random_states(chain, 3, seed)
    payload = torch.tensor([0.0, 0.7, 3.0], dtype=torch.float64)
    ours = accelerations(chain, q, dq, tau, payload)
    expected = [
        forward_dynamics(loaded(chain, load), q[i : i + 1], dq[i : i + 1], tau[i : i + 1])
        for i, load in enumerate(payload.tolist())
    ]
    near(ours, torch.cat(expected))
