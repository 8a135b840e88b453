"""The overview: what each topic measures, in this process and small; who fails; and how it is shown."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from palaestra.train.bench import throughput
from palaestra.train.bench.interleaved import COLLECTION, OURS, UPDATE, WorkloadError
from palaestra.train.bench.libraries import GYMNAX, INSTALL, LEARNERS, env_stepping, require_jax_on, worker
from palaestra.train.bench.libraries.sb3 import SB3, SB3_ALONE
from palaestra.train.bench.overview import all_figures
from palaestra.train.bench.overview.all_figures import Job, measure_overview
from palaestra.train.bench.overview.measured import PERCENT, Measured
from palaestra.train.bench.overview.overview_table import cells, overview_table, source
from palaestra.train.bench.overview.time_budget import Span
from palaestra.train.bench.stepping import GYMNASIUM
from palaestra.train.commands import bench as command
from palaestra.train.config.schema import ConfigError


class InThisProcess:
    """Stands for a process, in this one."""

    memory_mib: float | None = 7.0
    device_memory_mib = None

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec

    def ready(self, patience: float) -> None:
        self.work = import_module(f"palaestra.train.bench.libraries.{self.spec['module']}").build(self.spec)

    def ask(self, seconds: float, **settings: Any) -> None:
        self.request = {"seconds": 0.0, **settings}

    def answer(self, patience: float) -> dict[str, Any]:
        return dict(worker._measure(self.work, self.request)["sample"])

    def close(self) -> None:
        pass


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few environments, in this process; nobody else is installed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(throughput, "REFERENCE_ENVS", 4)
    monkeypatch.setattr(throughput, "REFERENCE", ("n_steps=8", "n_epochs=2", "batch_size=16"))
    monkeypatch.setattr(throughput.roofline, "CEILING_SECONDS", 1e-4)
    monkeypatch.setattr(throughput.roofline, "SQUARES", (8,))
    monkeypatch.setattr(throughput.roofline, "COPIES", (8, 64))
    monkeypatch.setattr(all_figures, "STEPPING_SIZES", (3, 5))
    monkeypatch.setattr(all_figures, "STEPPED", ("snake-small", "pricing"))
    monkeypatch.setattr(all_figures, "LibraryProcess", InThisProcess)
    monkeypatch.setattr(type(GYMNAX), "missing", lambda peer: INSTALL)


def an_hour() -> Span:
    now = time.perf_counter()
    return Span(now, now + 3600.0, now + 3600.0)


def test_the_same_work_has_both_numbers_of_epochs_its_memory_and_its_share_of_the_limit() -> None:
    job = Job("cpu", 2)
    job.figures += all_figures.same_work(job, an_hour())
    figures = [*job.figures, *all_figures.share_of_products(job, an_hour())]
    title = "PPO on CartPole"
    assert job.work == "4 × 8 steps, minibatch 16"
    names = [OURS, SB3, SB3_ALONE, f"{OURS}, {COLLECTION} alone", f"{OURS}, {UPDATE} alone"]
    wanted = [(f"{title}, {epochs}", name) for epochs in ("2 epochs", "1 epoch") for name in names]
    wanted.append(("update, share of the limit of matrix products", OURS))
    assert [(f.topic, f.name) for f in figures] == wanted
    assert {len(f.values) for f in figures} == {2}
    assert [f.host_mib for f in figures[:5]] == [7.0, 7.0, 7.0, None, None]
    assert figures[0].times is None
    assert figures[1].times == pytest.approx(figures[0].median / figures[1].median)
    assert (figures[-1].unit, figures[-1].note[-8:]) == (PERCENT, " GFLOP/s")
    assert job.left_out == {peer.name: INSTALL for peer in LEARNERS}


def test_environments_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made, make = list[Any](), env_stepping.make

    def spy(*args: Any, **kwargs: Any) -> Any:
        made.append(kwargs.pop("compile", None))
        return make(*args, **kwargs)

    monkeypatch.setattr(env_stepping, "make", spy)
    monkeypatch.setattr(all_figures.RunConfig, "compile", False, raising=False)
    there = SimpleNamespace(name="palaestra --compile", module="env_stepping", missing=lambda: None)
    monkeypatch.setattr(all_figures, "COMPILED", there)
    job, ours = Job("cpu", 1), (OURS, "palaestra --compile")
    figures = [*all_figures.stepping_cartpole(job, an_hour()), *all_figures.stepping_others(job, an_hour())]
    wanted = [(f"stepping {n} × cartpole", name) for n in (3, 5) for name in (*ours, GYMNASIUM)]
    wanted += [(f"stepping 3 × {env}", name) for env in ("snake-small", "pricing") for name in ours]
    assert [(f.topic, f.name) for f in figures] == wanted
    assert job.left_out == {GYMNAX.name: INSTALL}
    assert made == [None, True, None] * 2 + [None, True] * 2  # Gymnasium's takes its actions from one of ours


def test_a_gpu_steps_many_more_and_all_warm_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "on_gpu", True)
    monkeypatch.setattr(all_figures, "MANY_ENVS", 7)
    warm_up, seen = all_figures.warm_up, list[bool]()

    def spy(processes: Any, span: Span, left_out: Any, at_once: bool, **more: Any) -> Any:
        seen.append(at_once)
        return warm_up(processes, span, left_out, at_once, **more)

    monkeypatch.setattr(all_figures, "warm_up", spy)
    figures = list(all_figures.stepping_others(Job("cpu", 1), an_hour()))
    assert [f.topic for f in figures] == [f"stepping {n} × {env}" for env in ("snake-small", "pricing") for n in (3, 7)]
    assert seen == [True] * 4


@pytest.mark.parametrize(
    ("device", "backend", "fine"), [("cpu", "cpu", True), ("cuda", "gpu", True), ("cuda", "cpu", False)]
)
def test_jax_without_a_gpu_is_not_compared_with_one(
    device: str, backend: str, fine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(default_backend=lambda: backend))
    with contextlib.nullcontext() if fine else pytest.raises(RuntimeError, match="JAX has no GPU here: pip install"):
        require_jax_on(device)


def test_the_rollout_of_snake_s_boards_is_the_planned_one() -> None:
    (figure,) = all_figures.memory_of_boards(Job("cpu", 1), an_hour())
    results = Path(__file__, "../../../../../train/RESULTS.md").resolve().read_text(encoding="utf-8")
    assert f"269 B × 32 = {figure.median:.0f} MiB" in results
    assert figure.note == "it keeps states"


def test_presets_are_trained_as_they_are_with_schedules_held() -> None:
    config = all_figures.held(all_figures.resolve_config("reach", "ppo"))
    preset = all_figures.resolve_config("reach", "ppo").agent_kwargs
    changed = {k for k, v in config.agent_kwargs.items() if v != preset[k]}
    assert changed == {k for k, v in preset.items() if isinstance(v, str) and "linear" in v}
    assert changed


@pytest.mark.parametrize(("on_gpu", "steps", "growth"), [(False, 2, 1), (True, 32, 16)])
def test_many_boards_are_many_minibatches_on_a_cpu_and_large_ones_on_a_gpu(
    on_gpu: bool, steps: int, growth: int
) -> None:
    preset = all_figures.resolve_config("snake", "ppo")
    assert (preset.num_envs, preset.agent_kwargs["n_steps"]) == (1024, 32)
    many = all_figures.with_many_boards(preset, on_gpu)
    assert (many.num_envs, many.agent_kwargs["n_steps"]) == (16_384, steps)
    assert many.agent_kwargs["batch_size"] == growth * preset.agent_kwargs["batch_size"]


# ------------------------------------------------------------------------------------------- the whole


def topics(monkeypatch: pytest.MonkeyPatch, **measures: Any) -> None:
    monkeypatch.setattr(all_figures, "TOPICS", {name: (1.0, measure) for name, measure in measures.items()})


def fine(job: Job, span: Span) -> Iterator[Measured]:
    job.left_out |= {"skrl": INSTALL, "sbx": "no answer after 9 s"}
    yield Measured("PPO", OURS, [400e3, 500e3, 450e3], host_mib=323.4)
    yield Measured("PPO", "rsl_rl", [200e3], times=2.25, host_mib=600.0, device_mib=70.2)


def breaks(job: Job, span: Span) -> Iterator[Measured]:
    yield Measured("stepping", OURS, [1e6])
    raise RuntimeError("CUDA error:\n out of luck")


def late(job: Job, span: Span) -> Iterator[Measured]:
    job.left_out["skrl"] = INSTALL
    raise WorkloadError("no time was left for it")
    yield


def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    topics(monkeypatch, fine=fine, breaks=breaks, late=late, again=fine)
    return measure_overview(3, "cpu", 9.0)


def test_a_topic_that_fails_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = made(monkeypatch)
    assert json.loads(json.dumps(result)) == result
    assert [f["topic"] for f in result["figures"]] == ["PPO", "PPO", "stepping", "PPO", "PPO"]
    assert result["left_out"] == {
        "skrl": INSTALL,  # once
        "fine: sbx": "no answer after 9 s",
        "breaks": "RuntimeError: CUDA error: out of luck",
        "late": "no time was left for it",
        "again: sbx": "no answer after 9 s",
    }
    assert len(capsys.readouterr().err.splitlines()) == 4  # one line each, so that nobody waits in silence


def test_the_table_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = overview_table(made(monkeypatch)).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [" ".join(line.split()) for line in lines]
    assert "palaestra 450 k 400 k 500 k" in rows
    assert "rsl_rl 200 k 200 k 200 k 2.25 × 70" in rows  # MiB on the GPU, which are not known of the row above
    assert f"left out: skrl: {INSTALL}" in rows
    assert "left out: breaks: RuntimeError: CUDA error: out of luck" in rows
    assert rows[0].startswith(all_figures.where("cpu")["processor"])


def test_cells_and_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    result = made(monkeypatch)
    assert cells(result) == {
        "PPO: palaestra": "450 k (400–500 k), 323 MiB",
        "PPO: rsl_rl": "200 k, 2.25 ×, 70 MiB on the GPU",
        "stepping: palaestra": "1.00 M",
    }
    told = source(result, "palaestra bench")
    assert told.startswith("`palaestra bench`, 1 thread, commit ")
    assert f"skrl: {INSTALL}" in told


def test_the_command_writes_its_column_and_refuses_before_it_measures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    topics(monkeypatch, fine=fine)
    page = tmp_path / "page.md"
    page.write_text("<!-- bench:begin -->\n<!-- bench:end -->\n")
    result, _ = command._overview(3, "cpu", None, page)
    text = page.read_text(encoding="utf-8")
    assert f"| {result['processor']} |" in text
    assert "| PPO: palaestra | 450 k (400–500 k), 323 MiB |" in text
    assert "`palaestra bench --repeats 3 --device cpu`" in text
    monkeypatch.setattr(all_figures, "measure_overview", lambda *args: pytest.fail("it measures"))
    page.write_text("nothing")
    with pytest.raises(ConfigError, match="bench:begin"):
        command._overview(3, "cpu", None, page)


def test_a_device_that_is_not_there_is_named_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(all_figures.torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="there is no such device here"):
        measure_overview(3, "cuda", 9.0)
