"""Gradient steps on whole vectors, beside the same optimizer on the parameters one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor, nn

from palaestra.agents import PPO
from palaestra.agents.flat_optimizer import FlatOptimizer, clone_tensors
from palaestra.envs import make

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {}),
    "adam with decay": (torch.optim.Adam, {"weight_decay": 0.1, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1}),
    "radam": (torch.optim.RAdam, {}),
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "rmsprop": (torch.optim.RMSprop, {"centered": True, "momentum": 0.5}),
    "rmsprop of tensorflow": (RMSpropTFLike, {}),
    "adamax": (torch.optim.Adamax, {}),
}
BY_PARTS = ("rmsprop of tensorflow", "adamax")  # not among those that are known to treat every number alike


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))


def pair(name: str) -> tuple[nn.Sequential, Any, nn.Sequential, Any]:
    kind, settings = OPTIMIZERS[name]
    ours, theirs = network(), network()
    return ours, kind(ours.parameters(), lr=0.01, **settings), theirs, kind(theirs.parameters(), lr=0.01, **settings)


def loss(net: nn.Sequential, seed: int, scale: float = 1.0) -> Tensor:
    x = torch.randn(32, 5, generator=torch.Generator().manual_seed(seed), dtype=next(net.parameters()).dtype)
    return scale * (net(x) - x.sum(1, keepdim=True)).square().mean()


def our_step(descent: FlatOptimizer, net: nn.Sequential, seed: int, max_norm: float = 0.5, scale: float = 1.0) -> float:
    descent.zero_grad()
    loss(net, seed, scale).backward()  # type: ignore[no-untyped-call]
    norm = float(descent.clip(max_norm))
    descent.step()
    return norm


def their_step(optimizer: Any, net: nn.Sequential, seed: int, max_norm: float = 0.5, scale: float = 1.0) -> float:
    optimizer.zero_grad()
    loss(net, seed, scale).backward()  # type: ignore[no-untyped-call]
    norm = float(nn.utils.clip_grad_norm_(net.parameters(), max_norm))
    optimizer.step()
    return norm


def assert_same(ours: Any, theirs: Any) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_and_states_equal_the_optimizers_own(name: str) -> None:
    """With norms above and below the limit, other learning rates, and the state that others read."""
    ours, mine, theirs, other = pair(name)
    descent = FlatOptimizer(mine)
    for step in range(12):
        for optimizer in (mine, other):
            optimizer.param_groups[0]["lr"] = 0.01 / (1 + step)
        scale = 10.0 if step % 2 else 0.01
        norms = our_step(descent, ours, step, scale=scale), their_step(other, theirs, step, scale=scale)
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)
        assert_same(ours.state_dict(), theirs.state_dict())
        assert_same(mine.state_dict()["state"], other.state_dict()["state"])
    assert (descent._whole is None) == (name in BY_PARTS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_what_is_loaded_is_taken_up(name: str) -> None:
    """Weights, the optimizer's state, another type of numbers: all of it at once, in the middle of a run."""
    ours, mine, theirs, other = pair(name)
    descent = FlatOptimizer(mine)
    for step in range(3):
        our_step(descent, ours, step)
        their_step(other, theirs, step + 10)
    ours.load_state_dict(theirs.state_dict())
    mine.load_state_dict(copy.deepcopy(other.state_dict()))
    for step in range(3):
        our_step(descent, ours, step)
        their_step(other, theirs, step)
    assert_same(ours.state_dict(), theirs.state_dict())
    for net in (ours, theirs):
        net.double()
    for optimizer in (mine, other):
        optimizer.load_state_dict(copy.deepcopy(other.state_dict()))
    ours.load_state_dict(theirs.state_dict())
    for step in range(3):
        our_step(descent, ours, step)
        their_step(other, theirs, step)
    assert_same(ours.state_dict(), theirs.state_dict())
    assert ours[0].weight.dtype == torch.float64


@pytest.mark.parametrize("name", ["adam", "radam", "momentum", "adamax"])
def test_a_parameter_that_is_frozen_stays_and_goes_on_later(name: str) -> None:
    """Its momentum does not move it, and each parameter counts its own steps."""
    ours, mine, theirs, other = pair(name)
    descent = FlatOptimizer(mine)
    for step in range(9):
        for net in (ours, theirs):
            net[0].requires_grad_(not 3 <= step < 6)
        before = ours[0].weight.clone()
        our_step(descent, ours, step)
        their_step(other, theirs, step)
        assert torch.equal(before, ours[0].weight) == (3 <= step < 6)
        assert_same(ours.state_dict(), theirs.state_dict())
    assert_same(mine.state_dict()["state"], other.state_dict()["state"])


def test_somebody_who_watches_the_optimizer_sees_every_step() -> None:
    ours, mine, theirs, other = pair("adam")
    descent, seen = FlatOptimizer(mine), []
    for step in range(9):
        if step == 3:
            handle = mine.register_step_post_hook(lambda *_: seen.append("hook"))
        if step == 6:
            handle.remove()
            mine.step = lambda real=mine.step: (real(), seen.append("step"))
        our_step(descent, ours, step)
        their_step(other, theirs, step)
        assert_same(ours.state_dict(), theirs.state_dict())
    assert seen == ["hook"] * 3 + ["step"] * 3
    assert_same(mine.state_dict()["state"], other.state_dict()["state"])


def test_groups_and_types_of_their_own() -> None:
    """Two learning rates, float32 beside float64: the norm is that of all of them."""
    nets = []
    for whole in (True, False):
        net = network()
        net[2].double()
        groups = [{"params": net[0].parameters(), "lr": 0.1}, {"params": net[2].parameters()}]
        optimizer = torch.optim.Adam(groups, lr=0.01) if whole else torch.optim.SGD(net.parameters(), lr=0.1)
        descent = FlatOptimizer(optimizer)
        twin = copy.deepcopy(net)
        if whole:
            groups = [{"params": twin[0].parameters(), "lr": 0.1}, {"params": twin[2].parameters()}]
            other: Any = torch.optim.Adam(groups, lr=0.01)
        else:
            other = torch.optim.SGD(twin.parameters(), lr=0.1)
        for _ in range(3):
            descent.zero_grad()
            other.zero_grad()
            for n in (net, twin):
                x = torch.ones(3, 5)
                n[2](n[1](n[0](x)).double()).square().sum().backward()
            norm = descent.clip(0.5)
            descent.step()
            expected = nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
            other.step()
            assert float(norm) == pytest.approx(float(expected), rel=1e-6)
            assert_same(net.state_dict(), twin.state_dict())
        nets.append(net)
    assert nets[0][0].weight.dtype == torch.float32


def test_gradients_are_forgotten_and_there_for_everybody() -> None:
    ours, mine, *_ = pair("sgd")
    descent = FlatOptimizer(mine)
    our_step(descent, ours, 0, max_norm=1e9)
    first = ours[0].weight.grad.clone()  # type: ignore[union-attr]
    mine.zero_grad()  # sets them to None
    mine.param_groups[0]["lr"] = 0.0
    our_step(descent, ours, 1, max_norm=1e9)
    our_step(descent, ours, 1, max_norm=1e9)
    (expected,) = torch.autograd.grad(loss(ours, 1), ours[0].weight)
    torch.testing.assert_close(ours[0].weight.grad, expected)
    assert not torch.equal(first, expected)


def test_an_agent_takes_another_optimizer() -> None:
    model = PPO("MlpPolicy", make("cartpole", 16, "cpu"), n_steps=8, batch_size=128, n_epochs=1, seed=0)
    model.learn(128)
    model.policy.optimizer = torch.optim.SGD(model.policy.parameters(), lr=1.0)
    model.learning_rate = 0.0
    model._setup_lr_schedule()
    before = [p.clone() for p in model.policy.parameters()]
    model.learn(128, reset_num_timesteps=False)
    assert all(torch.equal(p, q) for p, q in zip(model.policy.parameters(), before, strict=True))
    assert model._flat_optimizer.optimizer is model.policy.optimizer


def test_copies_share_no_memory() -> None:
    ours, mine, *_ = pair("adam")
    our_step(FlatOptimizer(mine), ours, 0)
    for value in clone_tensors({"a": [ours[0].weight, mine.state[ours[0].weight]]})["a"][1].values():
        assert value.untyped_storage().nbytes() == value.nbytes
    twin = copy.deepcopy(ours)
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in twin.parameters())
