"""The arm's functions as tensor code: derivatives, rows of a batch, dtypes and devices, and wrong arguments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from mujoco_arm import accelerations, random_arm, random_chain, random_states
from torch import Tensor

from palaestra.envs.arm import (
    PANDA,
    SerialChain,
    forward_dynamics,
    forward_kinematics,
    inverse_dynamics,
    jacobian,
    joint_friction,
    mass_matrix,
)

FLOAT = {"float32": torch.float32, "float64": torch.float64}
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "forward_kinematics": (forward_kinematics, ("q",)),
    "jacobian": (jacobian, ("q",)),
    "mass_matrix": (mass_matrix, ("q",)),
    "inverse_dynamics": (inverse_dynamics, ("q", "dq", "ddq")),
    "forward_dynamics": (forward_dynamics, ("q", "dq", "tau")),
    "joint_friction": (joint_friction, ("dq",)),
}
SEVERAL = [name for name, (_, needs) in FUNCTIONS.items() if len(needs) > 1]
each_dtype = pytest.mark.parametrize("dtype", FLOAT.values(), ids=FLOAT)


def inputs(name: str, chain: SerialChain, n: int, **kwargs: Any) -> tuple[Tensor, ...]:
    """Random arguments of a public function, after the chain."""
    states = dict(zip(("q", "dq", "ddq", "tau"), random_states(chain, n, **kwargs), strict=True))
    return tuple(states[need] for need in FUNCTIONS[name][1])


def outputs(name: str, chain: SerialChain, *args: Tensor) -> tuple[Tensor, ...]:
    result = FUNCTIONS[name][0](chain, *args)
    return (result,) if isinstance(result, Tensor) else tuple(result)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    for chain in (PANDA, random_chain(0, 4), random_arm(24, 4)):
        args = [value.requires_grad_() for value in inputs(name, chain, 2)]
        # derivatives reach 10,000, and differences of accelerations are uncertain by 1e-5
        assert torch.autograd.gradcheck(lambda *a, c=chain: outputs(name, c, *a), args, atol=1e-4)


@each_dtype
@pytest.mark.parametrize("name", [*FUNCTIONS, "accelerations"])
def test_a_row_of_a_batch_is_the_row_alone_bit_for_bit(name: str, dtype: torch.dtype) -> None:
    """The first 64 and last 10 of up to 1,000 rows; ``accelerations`` has a payload in each row."""

    def compute(args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if name != "accelerations":
            return outputs(name, chain, *args)
        q, dq, tau = args
        return (accelerations(chain, q, dq, tau, tau[:, 0].abs()),)

    for chain in (PANDA, random_chain(0, 4), random_arm(24, 4)):
        full = inputs(name if name in FUNCTIONS else "forward_dynamics", chain, 1000, dtype=dtype)
        before = [value.clone() for value in full]
        alone = {i: compute(tuple(v[i : i + 1] for v in full)) for i in (*range(64), *range(990, 1000))}
        for n in (1, 2, 5, 7, 64, 1000):
            batch = compute(tuple(value[:n] for value in full))
            for i in filter(range(n).__contains__, alone):
                assert all(torch.equal(ours[i], one[0]) for ours, one in zip(batch, alone[i], strict=True))
        assert all(map(torch.equal, full, before))  # arguments are left as they were


@each_dtype
@pytest.mark.parametrize("name", FUNCTIONS)
def test_shapes_follow_without_looking_at_a_value(name: str, dtype: torch.dtype) -> None:
    """On the meta device, where a synchronisation raises; no environments at all are as good as five."""
    for n in (0, 5):
        args = inputs(name, PANDA, n, dtype=dtype)
        for ours, real in zip(
            outputs(name, PANDA, *(v.to("meta") for v in args)), outputs(name, PANDA, *args), strict=True
        ):
            assert ours.is_meta
            assert (ours.shape, ours.dtype) == (real.shape, real.dtype)


def test_a_first_use_in_inference_mode_leaves_derivatives_possible() -> None:
    chain = random_chain(3)
    q = random_states(chain, 2)[0]
    with torch.inference_mode():
        expected = mass_matrix(chain, q)
    mass_matrix(chain, q.requires_grad_()).sum().backward()
    assert torch.equal(mass_matrix(chain, q), expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_of_another_shape_or_kind_are_refused(name: str) -> None:
    args = inputs(name, PANDA, 2)
    first = FUNCTIONS[name][1][0]
    for wrong, got in ((args[0][0], r"\(7,\)"), (args[0][:, :6], r"\(2, 6\)"), (args[0].tolist(), "list")):
        with pytest.raises(ValueError, match=rf"^{first} must be a tensor of shape \[N, 7\], got {got}"):
            FUNCTIONS[name][0](PANDA, wrong, *args[1:])
    with pytest.raises(ValueError, match=rf"must have one floating-point dtype, {first} is torch.int64"):
        FUNCTIONS[name][0](PANDA, *(value.long() for value in args))


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("number", [1, 2])
def test_arguments_that_do_not_go_together_are_refused(name: str, number: int) -> None:
    args, argument = inputs(name, PANDA, 2), FUNCTIONS[name][1][number]
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        f"one floating-point dtype, {argument} is torch.float32": Tensor.float,
        "on one device, got cpu and meta": lambda value: value.to("meta"),
        f"equally many rows, {argument} has 1": lambda value: value[:1],
    }
    for message, change in changes.items():
        mixed = [change(value) if i == number else value for i, value in enumerate(args)]
        with pytest.raises(ValueError, match=f"{', '.join(FUNCTIONS[name][1])} must .*{message}"):
            FUNCTIONS[name][0](PANDA, *mixed)
