"""Scaling: which work each cell does, and the table."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from palaestra.train.bench import scaling, throughput
from palaestra.train.bench.interleaved import OURS
from palaestra.train.bench.libraries.sb3 import agent
from palaestra.train.config.schema import ConfigError


@pytest.mark.parametrize(
    ("num_envs", "steps", "batch"),
    [(1, 128, 128), (64, 128, 8192), (1024, 128, 8192), (4096, 32, 8192), (65536, 2, 8192)],
)
def test_rollouts_keep_their_size_where_they_can(num_envs: int, steps: int, batch: int) -> None:
    config = scaling.sized_config(throughput.bench_config("cartpole"), num_envs)
    assert (config.num_envs, config.agent_kwargs["n_steps"], config.agent_kwargs["batch_size"]) == (
        num_envs,
        steps,
        batch,
    )
    assert steps * num_envs % batch == 0


def test_dqn_makes_as_many_gradient_steps_per_step() -> None:
    config = throughput.bench_config("cartpole", "dqn")
    assert (config.num_envs, config.agent_kwargs["gradient_steps"]) == (256, 4)
    found = {n: scaling.sized_config(config, n).agent_kwargs["gradient_steps"] for n in (1, 64, 1024, 4096)}
    assert found == {1: 1, 64: 1, 1024: 16, 4096: 64}
    assert not scaling._fits(scaling.sized_config(config, 65_536))  # 3 rows of 200,000, and n_steps = 10


@pytest.mark.parametrize(("env", "layers"), [("cartpole", [(4, 32), (32, 32)] * 2), ("pricing", [(9, 32), (32, 32)])])
def test_the_width_is_that_of_every_hidden_layer(env: str, layers: list[tuple[int, int]]) -> None:
    made = agent(scaling.with_width(throughput.bench_config(env), 32), OURS)
    found = [(m.in_features, m.out_features) for m in made.policy.modules() if isinstance(m, torch.nn.Linear)]
    hidden = [(i, o) for i, o in found if o == 32]
    assert [o for _, o in hidden] == [o for _, o in layers]
    assert hidden.count((32, 32)) == layers.count((32, 32))


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(scaling, "NUM_ENVS", (1, 4))
    monkeypatch.setattr(scaling, "WIDTHS", (8, 16))
    monkeypatch.setattr(scaling, "SCALING_SECONDS", 0.0)
    monkeypatch.setattr(throughput, "REFERENCE_ENVS", 4)
    monkeypatch.setattr(throughput, "REFERENCE", ("n_steps=8", "n_epochs=1", "batch_size=8"))


@pytest.mark.usefixtures("tiny")
def test_a_whole_run() -> None:
    result = scaling.measure_scaling("cartpole", repeats=2)
    assert json.loads(json.dumps(result)) == result
    assert [list(result[part]) for part in ("stepping", "learning", "width")] == [["1", "4"], ["1", "4"], ["8", "16"]]
    assert [[s["steps"] for s in own] for own in result["learning"].values()] == [[32, 32]] * 2
    assert result["threads_used"] == {}  # the tests have one
    lines = scaling.scaling_table(result).splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line.startswith("  ")] == ["1", "4", "8", "16"]


def test_one_thread_and_all_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    now = [4]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[0])
    monkeypatch.setattr(torch, "set_num_threads", lambda n: now.__setitem__(0, n))
    monkeypatch.setattr(scaling, "_learning", lambda config: lambda seconds: threads.append(now[0]))
    workloads = scaling._threads(throughput.bench_config("cartpole", device="cpu"))
    assert list(workloads) == ["1", "4"]
    for _ in range(2):
        for workload in workloads.values():
            workload(0.0)
    assert (threads, now) == ([1, 4, 1, 4], [4])


def test_other_people_s_environments_do_not_scale() -> None:
    with pytest.raises(ConfigError, match="only tensor environments scale"):
        scaling.measure_scaling("CartPole-v1")


def test_a_cell_without_measurements_is_a_dash() -> None:
    own: list[dict[str, Any]] = [{"steps": 3_000, "seconds": {"whole": 2.0}}]
    assert scaling._median(own) == "1.50 k"
    assert scaling._median(None) == "–"
