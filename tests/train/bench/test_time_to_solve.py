"""Time to a solved environment: what counts, what is taken off, who is left out, and the table."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from palaestra.train.bench import throughput as bench
from palaestra.train.bench import time_to_solve
from palaestra.train.bench.interleaved import OURS, WorkloadError
from palaestra.train.bench.libraries import INSTALL, LEARNERS, Peer, solving
from palaestra.train.commands.bench import bench as command
from palaestra.train.config.schema import ConfigError
from palaestra.train.runs.parallel.child_process import ChildProcess
from palaestra.train.runs.run_folder import RunFolder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Nobody trains: seconds are looked up, others are installed or not."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    table: dict[str, Any] = {OURS: [5.0, 4.0, 9.0], "SB3": [14.0, None, 16.0], "sbx": [8.0, 8.0, 8.0]}
    monkeypatch.setattr(time_to_solve, "_ours", lambda config, seed, score: table[OURS][seed])
    monkeypatch.setattr(time_to_solve, "_peer", lambda name, seed, score: table[name][seed])
    monkeypatch.setattr(Peer, "missing", lambda peer: None if peer.name in table else INSTALL)
    monkeypatch.setattr(bench, "version", lambda package: "1.0")
    return table


@pytest.mark.usefixtures("quick")
def test_seeds_in_turns_and_medians() -> None:
    result = time_to_solve.measure_solving("cartpole")
    assert json.loads(json.dumps(result)) == result
    assert result["seconds"] == {OURS: [5.0, 4.0, 9.0], "SB3": [14.0, None, 16.0], "sbx": [8.0, 8.0, 8.0]}
    assert result["left_out"] == {"rsl_rl": INSTALL}
    assert result["solved_at"] == 475.0
    lines = time_to_solve.solving_table(result).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines]
    assert ["palaestra", "5.0", "4.0", "9.0"] in rows
    assert ["SB3", "16.0", "14.0", "–", "3.2×"] in rows  # not reached is worse than all
    assert ["sbx", "8.0", "8.0", "8.0", "1.6×"] in rows


def test_a_peer_that_fails_is_left_out_and_we_are_not(quick: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: Any) -> None:
        raise WorkloadError("ImportError: no wheels")

    monkeypatch.setattr(time_to_solve, "_peer", failing)
    result = time_to_solve.measure_solving("cartpole")
    assert list(result["seconds"]) == [OURS]
    assert result["left_out"]["SB3"] == "ImportError: no wheels"
    monkeypatch.setattr(time_to_solve, "_ours", failing)
    with pytest.raises(WorkloadError):
        time_to_solve.measure_solving("cartpole")


@pytest.mark.usefixtures("quick")
def test_others_have_settings_for_ppo_on_cartpole_only() -> None:
    assert list(time_to_solve.measure_solving("cartpole", "dqn")["seconds"]) == [OURS]
    assert list(time_to_solve.measure_solving("snake-small")["left_out"]) == ["others"]


def test_an_environment_must_say_when_it_is_solved() -> None:
    with pytest.raises(ConfigError, match="counts as solved"):
        time_to_solve.measure_solving("Pendulum-v1")


def test_ours_is_stopped_when_it_has_reached_the_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that never ends by itself, and writes its curves as ours do."""
    curves = tmp_path / "progress.csv"
    told: list[str] = []
    process: Any = SimpleNamespace(status=lambda: None, stop=lambda: told.append("stop"))
    scores = iter(["", "12.0", "480.5"])

    def later(seconds: float) -> None:
        with curves.open("a") as file:
            file.write(f"1,1,{next(scores)}\n")

    curves.write_text("global_step,time/total_timesteps,eval/mean_reward\n")
    monkeypatch.setattr(time_to_solve.time, "sleep", later)
    time_to_solve._wait_for(process, RunFolder(tmp_path), 475.0)
    assert told == ["stop"]
    assert next(scores, None) is None
    assert RunFolder(tmp_path).curves.best_score() == 480.5
    assert RunFolder(tmp_path / "nothing").curves.best_score() == -math.inf


def test_a_whole_run_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real command, on an environment that counts as solved from its first evaluation on, here from −1 on."""
    config = time_to_solve.resolve_config("cartpole")

    def shorter(command: list[str], log: Path) -> ChildProcess:
        extra = ["--num-envs", "16", "--total-timesteps", "20000", "--set", "n_steps=64", "--set", "batch_size=64"]
        return ChildProcess([*command, *extra], log)

    monkeypatch.setattr(time_to_solve, "ChildProcess", shorter)
    found = time_to_solve._ours(config, 0, -1.0)
    assert found is None  # stopped after its first evaluation, which did not solve CartPole
    fails = [sys.executable, "-c", "import sys; sys.exit('the disk is full')"]
    monkeypatch.setattr(time_to_solve, "ChildProcess", lambda command, log: ChildProcess(fails, log))
    with pytest.raises(WorkloadError, match="palaestra train ended with the disk is full"):
        time_to_solve._ours(config, 0, 475.0)


def test_a_peer_s_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(status: int, out: str, errors: str = "", seconds: float = 0.0) -> None:
        script = f"import sys, time; time.sleep({seconds}); print({errors!r}, file=sys.stderr); print({out!r})"
        command = [sys.executable, "-c", f"{script}; sys.exit({status})"]
        start = lambda _, log, **pipes: ChildProcess(command, log, **pipes)  # noqa: E731
        monkeypatch.setattr(time_to_solve, "ChildProcess", start)

    answer(0, "12.5\n")
    assert time_to_solve._peer("SB3", 0, 475.0) == 12.5
    answer(0, "null\n")
    assert time_to_solve._peer("SB3", 0, 475.0) is None
    answer(1, "", "Traceback …\nImportError: no sbx\n")
    with pytest.raises(WorkloadError, match=r"^ImportError: no sbx$"):
        time_to_solve._peer("sbx", 0, 475.0)
    answer(0, "12.5\n", seconds=60.0)
    monkeypatch.setattr(time_to_solve, "LONGEST", 0.1)
    assert time_to_solve._peer("SB3", 0, 475.0) is None


def test_evaluations_of_others_are_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is 100 s old, and 7 s older after each evaluation."""
    age = [100.0]
    scores = iter([20.0, 474.9, 475.0])

    def evaluate(env: str, policy: Any, **kwargs: Any) -> Any:
        assert (env, kwargs["episodes"]) == ("cartpole", 100)
        age[0] += 7.0
        return SimpleNamespace(score=next(scores))

    monkeypatch.setattr(solving, "evaluate", evaluate)
    monkeypatch.setattr(solving, "process_seconds", lambda: age[0])
    monkeypatch.setattr(solving.time, "perf_counter", lambda: age[0])
    examiner = solving.Examiner(lambda obs: obs, 475.0, total=1000)
    assert not examiner.solved(99)
    assert age == [100.0]
    for steps in (100, 150, 200):
        assert not examiner.solved(steps)
    assert age == [114.0]
    age[0] += 30.0
    assert examiner.solved(300)
    assert examiner.solved_after == 130.0
    assert examiner.solved(400)


def test_greedy_actions_reach_the_evaluation() -> None:
    policy = solving.Greedy(lambda obs: (obs[:, 2] > 0).long())
    assert policy.deterministic
    env: Any = None
    assert policy(env, torch.tensor([[0, 0, 1.0, 0], [0, 0, -1.0, 0]])).tolist() == [1, 0]


@pytest.mark.parametrize("what", ["throughput", "scaling", "solve"])
def test_the_command_chooses(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from palaestra.train.bench import bench_tables, scaling
    from palaestra.train.bench import throughput as bench

    monkeypatch.setattr(bench, "measure", lambda *args: {"is": "throughput", "args": args})
    monkeypatch.setattr(scaling, "measure_scaling", lambda *args: {"is": "scaling", "args": args})
    monkeypatch.setattr(time_to_solve, "measure_solving", lambda *args: {"is": "solve", "args": args})
    for module, name in (
        (bench_tables, "throughput_table"),
        (scaling, "scaling_table"),
        (time_to_solve, "solving_table"),
    ):
        monkeypatch.setattr(module, name, lambda result: f"a table of {result['is']}")
    flags = {"scaling": what == "scaling", "solve": what == "solve"}
    command("cartpole", "ppo", 3, "cpu", **flags)
    assert capsys.readouterr().out == f"a table of {what}\n"
    command("cartpole", "ppo", 3, "cpu", **flags, as_json=True)
    assert json.loads(capsys.readouterr().out)["args"][:2] == ["cartpole", "ppo"]
    for bad in ({"agent": "nobody"}, {"device": "tpu"}):
        given = {"agent": "ppo", "device": "cpu", **bad}
        with pytest.raises(ConfigError):
            command("cartpole", given["agent"], 3, given["device"], **flags)

    section, options = {
        "throughput": ("bench-cartpole-ppo", ""),
        "scaling": ("bench-scaling-cartpole-ppo", " --scaling"),
        "solve": ("bench-solve-cartpole-ppo", " --solve"),
    }[what]
    readme = tmp_path / "R.md"
    readme.write_text(f"before\n<!-- {section}:begin -->\nold\n<!-- {section}:end -->\n")
    command("cartpole", "ppo", 3, "cpu", **flags, readme=readme)
    assert capsys.readouterr().out == ""
    assert readme.read_text() == (
        f"before\n<!-- {section}:begin -->\n```text\n"
        f"$ palaestra bench cartpole --agent ppo --repeats 3 --device cpu{options}\na table of {what}\n"
        f"```\n<!-- {section}:end -->\n"
    )
    with pytest.raises(ConfigError, match=r"R\.md must have one line <!-- bench-.*cartpole-dqn:begin -->"):
        command("cartpole", "dqn", 3, "cpu", **flags, readme=readme)


def test_a_section_says_on_which_device() -> None:
    from palaestra.train.bench import bench_tables

    assert bench_tables.section_name("reach", "ppo", "cuda:1", "scaling") == "bench-scaling-reach-ppo-cuda"


@pytest.mark.parametrize("name", time_to_solve.SOLVERS)
def test_solvers_are_learners(name: str) -> None:
    assert name in {peer.name for peer in LEARNERS}
