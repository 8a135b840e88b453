"""Contenders in processes of their own, and other people's libraries, where they are installed, on the same work."""

from __future__ import annotations

import io
import json
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from palaestra.envs import make
from palaestra.train.bench import libraries, throughput
from palaestra.train.bench.interleaved import COLLECTION, OURS, UPDATE, WHOLE, Sample, WorkloadError
from palaestra.train.bench.libraries import GYMNAX, LEARNERS, PGX, Peer, worker
from palaestra.train.bench.libraries import process as process_module
from palaestra.train.bench.libraries.process import LibraryProcess

SMALL = ("n_steps=8", "n_epochs=3", "batch_size=16")


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """4 environments × 8 steps, minibatches of 16, 3 epochs: 32 steps and 6 gradient steps an iteration."""
    monkeypatch.setattr(throughput, "REFERENCE_ENVS", 4)
    monkeypatch.setattr(throughput, "REFERENCE", SMALL + throughput.REFERENCE[3:])
    return {"config": throughput.bench_config("cartpole", device="cpu").as_dict(), "threads": 1, "device": "cpu"}


# ---------------------------------------------------------------------------------------------------- processes


def test_a_process_works_when_it_is_told_to(work: dict[str, Any]) -> None:
    process = LibraryProcess({**work, "name": OURS, "module": "sb3"})
    try:
        process.ready()
        assert process.memory_mib is None
        sample = process.workload(epochs=1)(0.0)
        assert (sample.steps, sample.gradient_steps) == (32, 2)
        assert process.workload(epochs=3)(0.0).gradient_steps == 6
        assert sample.seconds[COLLECTION] + sample.seconds[UPDATE] == pytest.approx(sample.seconds[WHOLE])
        if sys.platform == "linux":
            assert process.memory_mib is not None
            assert 100 < process.memory_mib < 4000
    finally:
        process.close()
    with pytest.raises((WorkloadError, ValueError)):  # it has gone
        process.workload()(0.0)


def test_a_process_that_ends_says_how(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho first >&2\necho 'out of luck' >&2\nexit 3\n")
    script.chmod(0o755)
    monkeypatch.setattr(process_module.sys, "executable", str(script))
    process = LibraryProcess({"module": "sb3"})
    with pytest.raises(WorkloadError, match=r"its process ended \(3\) out of luck"):
        process.ready()
    process.close()


def test_nobody_waits_for_ever(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(process_module.sys, "executable", str(script))
    monkeypatch.setattr(process_module, "START_SECONDS", 0.05)
    process = LibraryProcess({"module": "sb3"})
    with pytest.raises(WorkloadError, match="no answer after 0 s"):
        process.ready()
    process.close()


# ---------------------------------------------------------------------------------------------------- the worker


def answers(monkeypatch: pytest.MonkeyPatch, *requests: dict[str, Any]) -> list[dict[str, Any]]:
    """What the worker writes, in this process."""
    monkeypatch.setattr(worker, "prepare", lambda threads, device: None)
    written = io.StringIO()
    worker.serve(io.StringIO("".join(json.dumps(request) + "\n" for request in requests)), written)
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_the_worker_answers_line_by_line(work: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {**work, "name": OURS, "module": "sb3"}
    built, first, second = answers(monkeypatch, spec, {"seconds": 0.0}, {"seconds": 0.0, "epochs": 2})
    assert built == {}
    assert Sample(**first["sample"]).gradient_steps == 6
    assert second["sample"]["gradient_steps"] == 4
    assert second["device_memory_mib"] is None or torch.cuda.is_available()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"module": "nobody"}, "ModuleNotFoundError: No module named 'palaestra.train.bench.libraries.nobody'"),
        ({"name": "nobody", "config": {"env": "cartpole"}}, "TypeError: "),
    ],
)
def test_the_worker_names_what_fails(
    changes: dict[str, Any], reason: str, work: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = {**work, "name": OURS, "module": "sb3", **changes}
    (answer,) = answers(monkeypatch, spec, {"seconds": 0.0})
    assert answer["error"].startswith(reason)
    assert "\n" not in answer["error"]


@pytest.mark.parametrize("module", [libraries.OURS_AND_SB3, *(peer.module for peer in (*LEARNERS, GYMNAX))])
def test_the_modules_are_there_whether_the_libraries_are_or_not(module: str) -> None:
    assert find_spec(f"palaestra.train.bench.libraries.{module}") is not None


def test_who_is_missing_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Peer("nobody", "nobody", "no-such-distribution").missing() == libraries.INSTALL
    assert "palaestra[bench]" in libraries.INSTALL
    here = Peer("torch", "torch", "torch", compiles=True)
    monkeypatch.setattr(libraries.shutil, "which", lambda name: None)
    assert here.missing() == "no C++ compiler here"
    monkeypatch.setattr(libraries.shutil, "which", lambda name: "/usr/bin/" + name)
    assert here.missing() is None


# ---------------------------------------------------------------------------------------------------- the libraries


def built(peer: Peer, spec: dict[str, Any]) -> Any:
    """Its workload, in this process; skipped where it is not installed."""
    if peer.missing():
        pytest.skip(f"{peer.name}: {peer.missing()}")
    return import_module(f"palaestra.train.bench.libraries.{peer.module}").build({**spec, "name": peer.name})


@pytest.mark.parametrize("peer", LEARNERS, ids=lambda peer: peer.name)
def test_peers_do_as_much_work_as_we_do(peer: Peer, work: dict[str, Any]) -> None:
    """Steps and gradient steps by their own hooks, and steps of the batch by ours."""
    workload = built(peer, work)
    for _ in range(2):
        sample = workload(0.0)
        assert (sample.steps, sample.gradient_steps) == (32, 6)
        assert 0 < sample.seconds[UPDATE] < sample.seconds[WHOLE]
    workload.set_epochs(1)
    assert workload(0.0).gradient_steps == 2


@pytest.mark.parametrize("peer", LEARNERS, ids=lambda peer: peer.name)
def test_peers_have_networks_of_our_size(peer: Peer, work: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Actor and critic 2 × 64 tanh: 9,155 parameters (the products of their layers' sizes, with biases)."""
    if "compiled" in peer.name:
        pytest.skip("the same network")
    found: list[int] = []
    if peer.name == "sbx":
        sbx, jax = pytest.importorskip("sbx"), pytest.importorskip("jax")
        make_ppo = sbx.PPO

        def noted(*args: Any, **kwargs: Any) -> Any:
            agent = make_ppo(*args, **kwargs)
            for state in (agent.policy.actor_state, agent.policy.vf_state):
                found.extend(leaf.size for leaf in jax.tree.leaves(state.params))
            return agent

        monkeypatch.setattr(sbx, "PPO", noted)
    else:
        plain_step = torch.optim.Adam.__init__

        def adam(self: Any, params: Any, *args: Any, **kwargs: Any) -> None:
            params = list(params)
            found.extend(p.numel() for p in params)
            assert kwargs["lr"] == 3e-4
            plain_step(self, params, *args, **kwargs)

        monkeypatch.setattr(torch.optim.Adam, "__init__", adam)
    built(peer, work)
    layers = [(4, 64), (64, 64), (64, 2), (4, 64), (64, 64), (64, 1)]
    assert sum(found) == sum(i * o + o for i, o in layers) == 9155


@pytest.mark.parametrize(("peer", "env"), [(GYMNAX, "CartPole-v1"), (PGX, "connect_four")])
def test_batches_of_others_count_environments_times_steps(peer: Peer, env: str) -> None:
    work = built(peer, {"device": "cpu", "env": env})
    work.select(3)
    assert work(0.0).steps == 3 * 16
    sample = work(0.05)
    assert sample.steps % 48 == 0
    assert sample.seconds[WHOLE] >= 0.05


def ended_lengths(workload: Any, batch: Any, iterations: int) -> float:
    """Mean length of the episodes that end in so many iterations."""
    step, seen = batch.step, [0.0, 0.0]

    def look(actions: Any) -> Any:
        result = step(actions)
        ended = result[4]["_episode"]
        seen[0] += float((result[4]["episode"]["l"] * ended).sum())
        seen[1] += float(ended.sum())
        return result

    batch.step = look
    for _ in range(iterations):
        workload(0.0)
    batch.step = step
    return seen[0] / seen[1]


@pytest.mark.parametrize("peer", LEARNERS, ids=lambda peer: peer.name)
def test_peers_learn(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of CartPole become five times as long; slow, and only where the library is installed."""
    if "compiled" in peer.name:
        pytest.skip("the same algorithm")
    monkeypatch.setattr(throughput, "REFERENCE_ENVS", 64)
    settings = ("n_steps=64", "n_epochs=10", "batch_size=512", "learning_rate=2e-3")
    monkeypatch.setattr(throughput, "REFERENCE", settings + throughput.REFERENCE[4:])
    batches: list[Any] = []
    if not peer.missing():
        module = import_module(f"palaestra.train.bench.libraries.{peer.module}")
        monkeypatch.setattr(module, "make", lambda *args: batches.append(make(*args)) or batches[-1])
    spec = {"config": throughput.bench_config("cartpole", device="cpu").as_dict()}
    workload = built(peer, spec)
    before = ended_lengths(workload, batches[0], 1)
    for _ in range(25):
        workload(0.0)
    after = ended_lengths(workload, batches[0], 4)
    assert before < 40
    assert after > 5 * before
