"""MuJoCo as an independent reference for serial chains, by ``palaestra.envs.arm.mjcf``; random chains and states."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from palaestra.envs.arm import Placement, SerialChain, dynamics, forward_kinematics, mass_matrix, mjcf
from palaestra.envs.arm.chain import KINDS


def model(chain: SerialChain, timestep: float = 0.001) -> mujoco.MjModel:
    """The compiled model."""
    return mujoco.MjModel.from_xml_string(mjcf(chain, timestep))


def reference(chain: SerialChain, q: Tensor, dq: Tensor, ddq: Tensor, tau: Tensor) -> dict[str, Tensor]:
    """What MuJoCo computes in each state [N, dof], float64; the names are those of the functions compared.

    Its dynamics are with damping: accelerations under ``tau``, and torques with what damping needs.
    """
    compiled = model(chain)
    data = mujoco.MjData(compiled)
    rows = [
        _one(compiled, data, *state) for state in zip(*(v.double().numpy() for v in (q, dq, ddq, tau)), strict=True)
    ]
    return {name: torch.tensor(np.stack([row[name] for row in rows])) for name in rows[0]}


def simulate(chain: SerialChain, q: Tensor, dq: Tensor, tau: Tensor, timestep: float) -> tuple[Tensor, Tensor]:
    """Angles and velocities [N, T, dof] after each step, from [N, dof] under the torques [N, T, dof]."""
    compiled = model(chain, timestep)
    data = mujoco.MjData(compiled)
    path = np.empty((2, *tau.shape))
    for i, torques in enumerate(tau.numpy()):
        mujoco.mj_resetData(compiled, data)
        data.qpos[:], data.qvel[:] = q[i].numpy(), dq[i].numpy()
        for step, torque in enumerate(torques):
            data.ctrl[:] = torque
            mujoco.mj_step(compiled, data)
            path[:, i, step] = data.qpos, data.qvel
    return torch.tensor(path[0]), torch.tensor(path[1])


def accelerations(chain: SerialChain, q: Tensor, dq: Tensor, tau: Tensor, payload: Tensor) -> Tensor:
    """Ours, from the parts that the torque task puts together: all [N, dof], with a ``payload`` [N] kg each."""
    angle, velocity, torque = (value.T.contiguous() for value in (q, dq, tau))
    frames = dynamics.link_frames(chain, angle)
    axes, body = dynamics.screws(chain, frames), dynamics.bodies(chain, frames, payload)
    load = dynamics.joint_torque(chain, axes, body, velocity)
    return dynamics.solve_positive(dynamics.upper_mass_matrix(chain, axes, body), torque - load).T


def random_chain(seed: int, dof: int = 4) -> SerialChain:
    """A chain without right angles or zero offsets, mounted in any direction; each link is six point masses."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.2, 0.2, (dof, 6, 3))
    weights = rng.uniform(0.1, 1.0, (dof, 6, 1))
    centre = (weights * points).sum(1) / weights.sum(1)
    offset = points - centre[:, None]
    second = np.einsum("lpi,lpj,lp->lij", offset, offset, weights[..., 0])
    tensor = np.trace(second, axis1=1, axis2=2)[:, None, None] * np.eye(3) - second
    geometry = rng.uniform(-1, 1, (dof, 3)) * [0.4, math.pi, 0.4]
    gravity = rng.normal(size=3)
    return SerialChain.from_dh(
        name=f"random chain {seed}",
        dh=tuple(geometry),
        flange=tuple(rng.uniform(-0.5, 0.5, 4)),
        tool=tuple(rng.uniform(-0.5, 0.5, 4)),
        q_min=(-3.0,) * dof,
        q_max=(3.0,) * dof,
        velocity=(2.0,) * dof,
        acceleration=(10.0,) * dof,
        torque=(20.0,) * dof,
        mass=tuple(weights.sum((1, 2))),
        centre_of_mass=tuple(centre),
        inertia=tuple(tensor[:, [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]),
        friction=tuple(rng.uniform(0.1, 1.0, (dof, 3)) * [1.0, 10.0, 0.05]),
        gravity=tuple(9.81 * gravity / np.linalg.norm(gravity)),
    )


def random_arm(seed: int, dof: int = 5) -> SerialChain:
    """A chain of all kinds of joint about axes in any direction, on a base anywhere, with armature and damping.

    Its links are those of :func:`random_chain`.
    """
    rng, bodies = np.random.default_rng(seed), random_chain(seed, dof)
    kinds = tuple(KINDS[kind] for kind in rng.integers(0, 3, dof))
    return dataclasses.replace(
        bodies,
        name=f"random arm {seed}",
        placements=tuple(random_placement(rng) for _ in range(dof)),
        axes=tuple(rng.normal(size=(dof, 3))),
        kinds=kinds,
        q_min=tuple(None if kind == "continuous" else -1.5 for kind in kinds),
        q_max=tuple(None if kind == "continuous" else 1.5 for kind in kinds),
        damping=tuple(rng.uniform(0.0, 2.0, dof)),
        armature=tuple(rng.uniform(0.0, 0.2, dof)),
        friction=(),
        flange=random_placement(rng),
        tool=random_placement(rng),
        base=random_placement(rng),
    )


def random_placement(rng: np.random.Generator) -> Placement:
    """Anywhere within 0.4 m, turned in any way."""
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    return Placement(tuple(rng.uniform(-0.4, 0.4, 3)), tuple(rotation * np.linalg.det(rotation)))


def random_states(chain: SerialChain, n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Angles, velocities, accelerations and torques [n, dof], uniform within the chain's limits."""
    rng = np.random.default_rng(seed)
    high: list[Any] = [chain.span[1], chain.velocity, chain.acceleration, chain.torque]
    low: list[Any] = [chain.span[0], *(-np.array(limit) for limit in high[1:])]
    return [torch.tensor(rng.uniform(a, b, (n, chain.dof)), dtype=dtype) for a, b in zip(low, high, strict=True)]


def _one(compiled: mujoco.MjModel, data: mujoco.MjData, q: Any, dq: Any, ddq: Any, tau: Any) -> dict[str, Any]:
    """One state's quantities. The mass matrix is M times unit vectors: mj_fullM's arguments differ between versions."""
    dof = compiled.nv
    data.qpos[:], data.qvel[:], data.ctrl[:] = q, dq, tau
    mujoco.mj_forward(compiled, data)
    forward, jacobian, mass, column = data.qacc.copy(), np.zeros((2, 3, dof)), np.zeros((dof, dof)), np.zeros(dof)
    tool = data.site("tool")
    mujoco.mj_jacSite(compiled, data, jacobian[0], jacobian[1], tool.id)
    for j in range(dof):
        mujoco.mj_mulM(compiled, data, column, np.eye(dof)[j])
        mass[:, j] = column
    sites = [data.site("flange"), tool]
    placed = {
        "position": np.stack([*data.xpos[1 : dof + 1], *(s.xpos for s in sites)]),
        "rotation": np.stack([*data.xmat[1 : dof + 1], *(s.xmat for s in sites)]).reshape(dof + 2, 3, 3),
    }
    data.qacc[:] = ddq
    mujoco.mj_inverse(compiled, data)
    dynamics = {"mass_matrix": mass, "forward_dynamics": forward, "inverse_dynamics": data.qfrc_inverse.copy()}
    return placed | dynamics | {"jacobian": jacobian.reshape(6, dof)}


def energy(chain: SerialChain, q: Tensor, dq: Tensor) -> Tensor:
    """Kinetic and potential energy [N], the latter from the centres of mass."""
    pose = forward_kinematics(chain, q)
    mass, centre, gravity = (torch.tensor(v, dtype=q.dtype) for v in (chain.mass, chain.centre_of_mass, chain.gravity))
    centre = pose.position[:, : chain.dof] + torch.einsum("nlij,lj->nli", pose.rotation[:, : chain.dof], centre)
    kinetic = 0.5 * torch.einsum("ni,nij,nj->n", dq, mass_matrix(chain, q), dq)
    return kinetic - torch.einsum("l,nli,i->n", mass, centre, gravity)


def loaded(chain: SerialChain, payload: float) -> SerialChain:
    """The chain whose last link has a point mass at the tool centre merged in, by the parallel-axis theorem."""
    pose = forward_kinematics(chain, torch.zeros(1, chain.dof, dtype=torch.float64))
    rotation, position = pose.rotation[0, chain.dof - 1].numpy(), pose.position[0].numpy()
    tool, mass, centre = rotation.T @ (position[-1] - position[chain.dof - 1]), chain.mass[-1], chain.centre_of_mass[-1]
    merged = (mass * np.array(centre) + payload * tool) / (mass + payload)
    xx, yy, zz, xy, xz, yz = chain.inertia[-1]
    inertia = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    for weight, offset in ((mass, centre - merged), (payload, tool - merged)):
        inertia += weight * (offset @ offset * np.eye(3) - np.outer(offset, offset))
    return dataclasses.replace(
        chain,
        mass=(*chain.mass[:-1], mass + payload),
        centre_of_mass=(*chain.centre_of_mass[:-1], tuple(merged)),
        inertia=(*chain.inertia[:-1], tuple(inertia[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]])),
    )
