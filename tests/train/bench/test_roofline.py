"""What bounds a stage: counted work with known answers, and shares of ceilings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from palaestra.agents.networks import onednn
from palaestra.envs import make
from palaestra.train.bench import roofline, throughput
from palaestra.train.bench.interleaved import COLLECTION, OURS, UPDATE
from palaestra.train.bench.libraries import sb3
from palaestra.train.bench.roofline import Ceilings, Work, metered
from palaestra.train.bench.stepping import random_actions

TOP = Ceilings(100e9, 80e9, [1, 2, 3], 2e9, {1000: 50e9, 1_000_000: 10e9}, 1e-6)


def test_bytes_functions_and_operations_of_a_few_lines() -> None:
    a, b = torch.ones(250), torch.ones(250)
    with metered(TOP) as done:
        c = a + b  # reads 2000 bytes, writes 1000
        c.tanh_()  # reads and writes 1000
        c.view(10, 25).t()  # only looks
        c.exp()  # reads and writes 1000
        a.expand(4, 250).sum()  # reads 1000 that are there once, writes 4
    assert done() == Work(0, 500, 3000 + 2000 + 2000 + 1004, pytest.approx(8004 / 50e9), 4)


def test_rows_are_read_and_written_once() -> None:
    store, rows = torch.zeros(1000, 5), torch.tensor([3, 7])
    with metered(TOP) as done:
        store.index_select(0, rows)  # 40 bytes read and written, 16 of the index
        store.index_copy_(0, rows, torch.ones(2, 5))  # of which torch.ones writes 40
    assert done().bytes == 2 * 40 + 16 + 40 + 2 * (40 + 16)


def test_bytes_cost_what_copies_of_their_size_do() -> None:
    large = torch.ones(200_000)
    with metered(TOP) as done:
        large + large  # 2.4 MB: nearer to 1 MB than to 1 kB
    assert done().copying == pytest.approx(2_400_000 / 10e9)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_products_are_counted_as_torch_s_own_counter_does(mode: Any) -> None:
    """Forward 2 · 32 · (4·64 + 64·64 + 64·2), and backward twice that but for the gradient of the input."""
    net = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    x = torch.randn(32, 4)

    def work() -> None:
        with mode():
            y = net(x).sum()
        if y.requires_grad:
            y.backward()

    with metered(TOP) as done:
        work()
    with FlopCounterMode(display=False) as counter:
        work()
    forward, first = 2 * 32 * (4 * 64 + 64 * 64 + 64 * 2), 2 * 32 * 4 * 64
    assert done().flops == counter.get_total_flops() == (3 * forward - first if mode is torch.enable_grad else forward)


def test_products_of_onednn_are_counted_too() -> None:
    x, weight, grad = torch.ones(128, 40), torch.ones(24, 40), torch.ones(128, 24)
    with metered(TOP) as done:
        onednn.linear(x, weight, torch.ones(24), "tanh")
    assert done().flops == 2 * 128 * 40 * 24
    with metered(TOP) as done:
        onednn.gradients(grad, x, weight)
    assert done().flops == 2 * 128 * 40 * 24


@pytest.mark.parametrize("faster", [True, False])
def test_work_of_ppo_does_not_depend_on_the_library(faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "is_faster", lambda: faster)
    monkeypatch.setattr(onednn, "least_width", lambda: 0)
    config = throughput.bench_config("cartpole")
    small = {"n_steps": 64, "n_epochs": 1, "batch_size": 4096}
    config = throughput.replace(config, num_envs=64, agent_kwargs={**config.agent_kwargs, **small})
    agent = sb3.agent(config, OURS)
    assert roofline.count_learning(agent, sb3.learning(agent), TOP)[UPDATE].flops == 52_352


def test_work_of_ppo_on_cartpole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actor and critic 2 × 64: 17,792 FLOP forward and 52,352 with backward, per step and epoch.

    tanh is made of sigmoids, so the functions are those of the loss: log-softmax of two logits, and a few exponentials.
    """
    monkeypatch.setattr(onednn, "has_fast_tanh", lambda: False)
    config = throughput.bench_config("cartpole")
    small = {"n_steps": 16, "n_epochs": 3, "batch_size": 64}
    config = throughput.replace(config, num_envs=16, agent_kwargs={**config.agent_kwargs, **small})
    agent = sb3.agent(config, OURS)
    work = roofline.count_learning(agent, sb3.learning(agent), TOP)
    assert work[UPDATE].flops == 3 * 52_352
    assert 17_792 <= work[COLLECTION].flops <= 17_792 * (1 + 1 / 16) + 8832  # values of cut episodes and at the end
    roots = sum(p.numel() for p in agent.policy.parameters()) / 64  # Adam's, per sample of a minibatch
    assert 3 * 3 <= work[UPDATE].functions <= 3 * (10 + roots)
    assert work[UPDATE].operations > 0
    assert roofline.widest_layer(agent.policy, 64) == (64, 64, 64)


def test_stepping_has_no_products_and_two_functions_a_step() -> None:
    batch = make("cartpole", 64, "cpu")
    work = roofline.count_stepping(batch, random_actions(batch), TOP)
    assert work.flops == 0
    assert work.functions == 4.0  # sine and cosine of the angle, and two squares
    more = make("cartpole", 640, "cpu")
    tenth = roofline.count_stepping(more, random_actions(more), TOP).operations
    assert tenth == pytest.approx(work.operations / 10, rel=0.1)  # as many operations for 640 as for 64


def test_shares_and_what_bounds() -> None:
    work = Work(flops=1000.0, functions=10.0, bytes=500.0, copying=1e-8, operations=0.1)
    found = roofline.stage(work, [9e6, 1e7, 4e7], TOP)  # at 10 M steps/s
    assert found["shares"] == pytest.approx({"products": 0.1, "functions": 0.05, "memory": 0.1, "operations": 1.0})
    assert found["bound"] == "operations"
    assert found["per_second"]["flops"] == 1e10
    assert roofline.stage(work, [1e6], TOP)["bound"] == "elsewhere"  # 12.5 % in all


def test_ceilings_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "CEILING_SECONDS", 1e-3)
    monkeypatch.setattr(roofline, "SQUARES", (64, 128))
    top = roofline.measure_ceilings(torch.device("cpu"), (256, 16, 16))
    assert top.flops >= top.flops_of_layer > 1e7
    assert 1e-8 < top.operation < 1e-4
    assert min(top.copies.values()) > 1e7
    assert sorted(top.copies) == [8 * numbers for numbers in roofline.COPIES]
    assert top.functions > 1e6
