"""``palaestra results``: the grid, what is kept and what is run again, the table to the letter, the README."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from palaestra.envs.core.host import available_cores
from palaestra.train import cli
from palaestra.train.config import AGENTS
from palaestra.train.config.presets import Preset, load_presets
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.markdown import with_section, write_section
from palaestra.train.results import grid as results
from palaestra.train.results.grid import Processes, grid, run_grid
from palaestra.train.results.table import collect, results_table

CARTPOLE, SNAKE, PRICING = "palaestra/CartPole-v1", "palaestra/SnakeSmall-v0", "palaestra/Pricing-v0"
TINY: dict[tuple[str, str], Preset] = {
    (SNAKE, "ppo"): Preset(32, 512, {"n_steps": 8, "batch_size": 64}),
    (CARTPOLE, "ppo"): Preset(32, 512, {"n_steps": 8, "batch_size": 64}),
    (CARTPOLE, "pqn"): Preset(32, 512, {"n_steps": 8, "batch_size": 64}),
}


@pytest.fixture(autouse=True)
def _tiny_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    for agent in AGENTS:
        for env in list(load_presets(agent)):
            monkeypatch.delitem(load_presets(agent), env)
    for (env, agent), preset in TINY.items():
        monkeypatch.setitem(load_presets(agent), env, preset)


FACTS = {
    "torch": "2.13.0",
    "machine": "x86_64, 2 cores, Linux",
    "device": "cpu",
    "threads": 2,
    "git_commit": "0123456789abcdef",
    "num_timesteps": 5_013_504,
    "steps_per_second": 61_234,
    "solved_after_seconds": None,
}
EVALUATION: dict[str, Any] = {
    "mean": 34.725,
    "seed": 0,  # of the evaluation, which is not the run's
    "percent_of_optimal": 99.214,
    "success_rate": 0.987,
    "reference": {"random": 0.1465, "heuristic": 14.98, "optimum": 35.0},
}


class FakeTrain:
    """Stands for the process: leaves the files of a run, and fails for the seeds in ``fails``."""

    def __init__(self, *fails: int, **change: Any) -> None:
        self.fails, self.change = fails, change
        self.trained: list[str] = []
        self.threads: set[int | None] = set()

    def __call__(self, command: list[str], log: Path, threads: int | None) -> int:
        assert command[:4] == [sys.executable, "-m", "palaestra.train.cli", "train"]
        given = command[5:]
        given.remove("--no-report")
        name, options = command[4], dict(zip(given[::2], given[1::2], strict=True))
        assert options.keys() == {"--agent", "--seed", "--track", "--run-dir"}
        assert options["--track"] == "disabled"
        agent, seed, folder = options["--agent"], int(options["--seed"]), Path(options["--run-dir"])
        self.trained.append(f"{name} {agent} {seed}")
        self.threads.add(threads)
        log.write_text("first line\npalaestra: error: out of luck\n\n")
        folder.mkdir(parents=True)  # raises if something is there
        config = {**resolve_config(name, agent, seed=seed).as_dict(), **self.change}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        if seed in self.fails:
            return 3
        (folder / "run.json").write_text(json.dumps(FACTS))
        (folder / "eval.json").write_text(json.dumps(EVALUATION))
        time.sleep(0.05)
        return 0


# ------------------------------------------------------------------------------------------- the grid


def commands(*names: str, agents: str = "ppo,dqn,pqn", seeds: int = 1) -> list[str]:
    return [run.command.removeprefix("palaestra train ") for run in grid(names, agents.split(","), seeds, Path("x"))]


def test_the_grid_is_what_has_presets() -> None:
    everything = ["snake-small --agent ppo", "cartpole --agent ppo", "cartpole --agent pqn"]
    assert commands(seeds=2) == [f"{pair} --seed {seed}" for pair in everything for seed in (0, 1)]
    assert commands(CARTPOLE) == ["cartpole --agent ppo --seed 0", "cartpole --agent pqn --seed 0"]
    assert commands("cartpole", CARTPOLE, agents="pqn,pqn") == ["cartpole --agent pqn --seed 0"]
    assert commands(agents="pqn,ppo") == [  # environments in their order, agents as they were named
        *("snake-small --agent ppo --seed 0", "cartpole --agent pqn --seed 0", "cartpole --agent ppo --seed 0"),
    ]
    (run,) = grid(["snake-small"], ["ppo"], 1, Path("x"))
    assert run.folder == Path("x/snake-small/ppo/s0")
    assert run.config == resolve_config("snake-small")


@pytest.mark.parametrize(
    ("names", "agents", "message"),
    [
        (["cartpol"], ["ppo"], "did you mean 'cartpole'"),
        (["cartpole"], ["poo"], "unknown agent 'poo'; did you mean 'ppo'"),
        (["cartpole", "snake-small"], ["pqn"], "palaestra/SnakeSmall-v0 has no preset for pqn"),
        (["Acrobot-v1"], ["ppo", "dqn"], "Acrobot-v1 has no preset for ppo or dqn"),
        ([], ["dqn"], "no environment has a preset for dqn"),
    ],
)
def test_a_grid_with_nothing_to_do_is_refused(names: list[str], agents: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grid(names, agents, 1, Path("x"))


# ------------------------------------------------------------------------------------------- what is run


def test_finished_runs_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, runs = FakeTrain(), grid(["cartpole"], ["ppo", "pqn"], 2, tmp_path)
    assert run_grid(runs[:3], False, launch=train) == {}
    assert train.trained == ["cartpole ppo 0", "cartpole ppo 1", "cartpole pqn 0"]
    assert train.threads == {None}  # a run that is alone takes what it finds
    kept = json.loads((tmp_path / "cartpole/ppo/s1/results.json").read_text())
    assert kept["command"] == "palaestra train cartpole --agent ppo --seed 1"
    assert 0.05 <= kept["wall_seconds"] < 5.0
    train.trained.clear()
    assert run_grid(runs, False, launch=train) == {}  # an interrupted grid goes on
    assert train.trained == ["cartpole pqn 1"]
    assert "[1/4] palaestra train cartpole --agent ppo --seed 0: kept" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "cartpole/ppo").iterdir()) == ["s0", "s0.log", "s1", "s1.log"]


@pytest.mark.parametrize("damage", ["setting", "results.json", "run.json", "eval.json", "config.yaml", "unreadable"])
def test_other_and_unfinished_runs_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    run_grid(grid(["cartpole"], ["ppo"], 2, tmp_path), False, launch=FakeTrain())
    folder = tmp_path / "cartpole/ppo/s1"
    (folder / "mark").touch()
    if damage == "setting":
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(yaml.safe_dump({**config, "num_envs": 33}))
    elif damage == "unreadable":
        (folder / "config.yaml").write_text("a: [")
    else:
        (folder / damage).unlink()
    train = FakeTrain()
    run_grid(grid(["cartpole"], ["ppo"], 2, tmp_path), False, launch=train)
    assert train.trained == ["cartpole ppo 1"]
    assert (folder.with_name("s1.old1") / "mark").exists()
    assert not (folder / "mark").exists()


def test_fresh_and_changed_presets_run_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(fresh: bool = False) -> int:
        train = FakeTrain()
        assert run_grid(grid(["cartpole"], ["ppo"], 2, tmp_path), fresh, launch=train) == {}
        return len(train.trained)

    assert [trained(), trained(), trained(fresh=True)] == [2, 0, 2]
    preset = TINY[CARTPOLE, "ppo"]
    monkeypatch.setitem(load_presets("ppo"), CARTPOLE, Preset(32, 512, {**preset.agent_kwargs, "gamma": 0.9}))
    assert [trained(), trained()] == [2, 0]
    assert sorted(p.name for p in tmp_path.glob("cartpole/ppo/s0*")) == ["s0", "s0.log", "s0.old1", "s0.old2"]


def test_a_failure_is_told_and_the_rest_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, runs = FakeTrain(1), grid(["cartpole"], ["ppo"], 3, tmp_path)
    failures = run_grid(runs, False, launch=train)
    assert failures == {runs[1].folder: "exit status 3: palaestra: error: out of luck"}
    assert len(train.trained) == 3
    assert "failed: palaestra train cartpole --agent ppo --seed 1: exit status 3: palae" in capsys.readouterr().err
    (row,) = collect(runs, failures)
    assert [run["seed"] for run in row["runs"]] == [0, 1, 2]
    assert row["runs"][1]["error"] == failures[runs[1].folder]
    assert row["solved_at"] == 475.0
    assert row["runs"][2]["evaluation"] == EVALUATION
    assert row["runs"][2]["num_timesteps"] == 5_013_504
    train = FakeTrain()
    assert run_grid(runs, False, launch=train) == {}
    assert train.trained == ["cartpole ppo 1"]


def test_a_process_that_trained_something_else_is_a_failure(tmp_path: Path) -> None:
    runs = grid(["cartpole"], ["ppo"], 1, tmp_path)
    (error,) = run_grid(runs, False, launch=FakeTrain(num_envs=64)).values()
    assert "not hold the configuration" in error
    assert not results.is_finished(runs[0])


# ------------------------------------------------------------------------------------------- several at a time


class Pairs(FakeTrain):
    """Each run waits for a second one beside it; the first of a pair ends after the second."""

    def __init__(self, *fails: int) -> None:
        super().__init__(*fails)
        self.together, self.later = threading.Barrier(2, timeout=20), threading.Event()
        self.lock, self.running, self.most = threading.Lock(), 0, 0

    def __call__(self, command: list[str], log: Path, threads: int | None) -> int:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        first = self.together.wait() == 0
        time.sleep(0.05)  # a third one would be noticed
        if first:
            assert self.later.wait(20)
        status = super().__call__(command, log, threads)
        with self.lock:
            self.running -= 1
        if not first:
            self.later.set()
        return status


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (5, 2), (8, 4)])
def test_two_jobs_run_two_at_a_time_and_share_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cores: int, threads: int
) -> None:
    monkeypatch.setattr(results, "available_cores", lambda: cores)
    train, runs = Pairs(1, 2), grid(["cartpole"], ["ppo"], 4, tmp_path)
    failures = run_grid(runs, False, 2, train)
    assert list(failures) == [runs[1].folder, runs[2].folder]
    assert set(failures.values()) == {"exit status 3: palaestra: error: out of luck"}
    assert (train.most, train.threads, len(train.trained)) == (2, {threads}, 4)
    assert [results.is_finished(run) for run in runs] == [True, False, False, True]
    (row,) = collect(runs, failures)
    assert [run["seed"] for run in row["runs"] if "error" in run] == [1, 2]
    train = FakeTrain()
    assert run_grid(runs, False, 3, train) == {}  # the two that failed
    assert sorted(train.trained) == ["cartpole ppo 1", "cartpole ppo 2"]


@pytest.mark.parametrize(("threads", "told"), [(3, "3"), (None, "7")])
def test_a_process_is_told_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None, told: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert Processes().launch(["sh", "-c", "echo $OMP_NUM_THREADS; exit 4"], tmp_path / "log", threads) == 4
    assert (tmp_path / "log").read_text() == f"{told}\n"


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Processes that leave their id in this file and sleep take the place of Python; Ctrl-C is as in a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho $$ >> {tmp_path}/ids\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(results.sys, "executable", str(script))
    (tmp_path / "ids").touch()
    yield tmp_path / "ids"
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_all_processes_and_starts_no_more(tmp_path: Path, sleepers: Path, jobs: int) -> None:
    """The signal goes to this process alone, so that the others do not end by themselves."""

    def interrupt() -> None:
        while sleepers.read_text().count("\n") < jobs:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    runs, started = grid(["cartpole"], ["ppo"], 4, tmp_path), time.perf_counter()
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_grid(runs, False, jobs)
    assert time.perf_counter() - started < 20
    ids = [int(line) for line in sleepers.read_text().split()]
    assert len(ids) == jobs
    for process in ids:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
    assert sum(run.log.exists() for run in runs) <= 2 * jobs  # a thread may have been about to start its next
    assert not any(results.is_finished(run) for run in runs)


def test_a_fault_of_ours_ends_the_others_too(tmp_path: Path, sleepers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run finds the disk full while the second one sleeps."""

    def fail(folder: Path) -> None:
        if folder.name == "s0":
            while sleepers.read_text().count("\n") < 1:
                time.sleep(0.01)
            raise OSError("disk full")

    monkeypatch.setattr(results, "_move_aside", fail)
    with pytest.raises(OSError, match="disk full"):
        run_grid(grid(["cartpole"], ["ppo"], 4, tmp_path), False, 2)
    for line in sleepers.read_text().split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(line), 0)


# ------------------------------------------------------------------------------------------- the table


def made(seed: int, wall: float, evaluation: dict[str, Any] | None = None, **facts: Any) -> dict[str, Any]:
    told = {"wall_seconds": wall, **FACTS, **facts, "evaluation": {**EVALUATION, **(evaluation or {})}}
    return {"seed": seed, "folder": "x", **told}


def test_the_table_to_the_letter() -> None:
    market = {
        "mean": 1430.0,
        "exact_mean": 1432.14,
        "percent_of_optimal": 99.344,
        "captured_percent": 94.96,
        "success_rate": None,
        "reference": {"optimum": 1441.593109},
    }
    arm = {"mean": 2.8, "seconds_per_bound": 1.0649, "success_rate": 1.0, "percent_of_optimal": None}
    rows = [
        {
            "command": "palaestra train snake-small --agent ppo",
            "solved_at": 33.95,
            "runs": [
                made(0, 89.6, solved_after_seconds=61.25),
                made(1, 82.4, {"mean": 34.0, "success_rate": 0.95}, steps_per_second=9_400, git_commit="fedcba9876"),
                made(2, 85.0, {"percent_of_optimal": 99.96}, num_timesteps=999_424),
            ],
        },
        {
            "command": "palaestra train pricing --agent dqn",
            "solved_at": 1412.76,
            "runs": [made(0, 45.0, market), {"seed": 1, "folder": "x", "error": "boom"}, made(2, 3725.0, market)],
        },
        {
            "command": "palaestra train reach --agent pqn",
            "solved_at": None,
            "runs": [made(s, 50.0, {**arm, "reference": {"optimum": None}}, git_commit=None) for s in range(3)],
        },
        {
            "command": "palaestra train cartpole --agent dqn",
            "solved_at": 475.0,
            "runs": [{"seed": seed, "folder": "x", "error": "boom"} for seed in range(3)],
        },
    ]
    heads = (
        "| command | steps | wall time | steps/s | score (best known) | normalised score, % | also | solved after "
        "| commit |"
    )
    lines = results_table(rows).split("\n")
    assert lines[:6] == [
        heads,
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        "| `palaestra train snake-small --agent ppo` | 999 k–5.0 M | 1:22–1:30 | 9,400–61 k | 34.73, 34, 34.73 (35) "
        "| 99.2, 99.2, 100.0 | success 98.7%, 95.0%, 98.7% | 33.95: 61.2, –, – s | 0123456, fedcba9 |",
        "| `palaestra train pricing --agent dqn` | 5.0 M | 0:45–62:05 | 61 k | 1,432, –, 1,432 (1,442) "
        "| 99.3, –, 99.3 | captured 95.0%, –, 95.0% | – | 0123456 |",
        "| `palaestra train reach --agent pqn` | 5.0 M | 0:50 | 61 k | 2.8, 2.8, 2.8 | –, –, – "
        "| success 100.0%, 100.0%, 100.0%; time / bound 1.06, 1.06, 1.06 | – | – |",
        "| `palaestra train cartpole --agent dqn` | – | – | – | –, –, – | –, –, – | – | – | – |",
    ]
    assert lines[6] == ""
    assert lines[7].startswith("Lists are in the order of the seeds: `--seed` 0, 1, 2. Wall time is that of the whole ")
    assert lines[-1] == ("Measured on x86_64, 2 cores, Linux (cpu, 2 threads a run, torch 2.13.0).")
    assert max(map(len, lines[7:])) <= 120


def test_runs_of_two_machines_are_both_named() -> None:
    runs = [made(0, 1.0), made(1, 1.0, threads=1), made(2, 1.0)]
    text = results_table([{"command": "c", "solved_at": None, "runs": runs}])
    assert text.count("x86_64") == 2
    assert "2 threads a run, torch 2.13.0); x86_64, 2 cores, Linux (cpu, 1 thread a run, torch" in text


# ------------------------------------------------------------------------------------------- the README

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def test_the_readme_changes_between_its_markers_only(tmp_path: Path) -> None:
    path = tmp_path / "R.md"
    path.write_text(f"# é\n\n{BEGIN}\nold\n| table |\n{END}\nafter \\1\n")
    write_section(path, "results", "| \\1 \\g<0> |")
    assert path.read_text() == f"# é\n\n{BEGIN}\n| \\1 \\g<0> |\n{END}\nafter \\1\n"
    write_section(path, "results", "new")
    assert path.read_text() == f"# é\n\n{BEGIN}\nnew\n{END}\nafter \\1\n"


@pytest.mark.parametrize(
    "text",
    [
        *("", f"{BEGIN}\n", f"{END}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{BEGIN}\n{END}\n"),
        *(f"{BEGIN}\n{END}\n{END}\n", f"{BEGIN}\n{END}\n{BEGIN}\n", f"{END}{BEGIN}\n{END}\n"),
    ],
)
def test_a_readme_without_its_markers_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "R.md").write_text(text)
    with pytest.raises(ConfigError, match=r"R\.md must have one line <!-- results:begin -->"):
        with_section(tmp_path / "R.md", "results", "x")


# ------------------------------------------------------------------------------------------- the command


def run_cli(monkeypatch: pytest.MonkeyPatch, arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", "results", *arguments.split()])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("cartpol", "did you mean 'cartpole'"),
        ("--agents ppo,dqm", "did you mean 'dqn'"),
        ("--seeds 0", "--seeds"),
        ("--jobs 0", "--jobs"),
        ("cartpole --readme R.md", "R.md must have one line"),
        ("cartpole --readme no.md", "no.md"),
    ],
)
def test_bad_usage_starts_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("R.md").write_text("no markers")
    assert run_cli(monkeypatch, arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert [path.name for path in tmp_path.iterdir()] == ["R.md"]


SITE = """
from palaestra.train.config import AGENTS
from palaestra.train.config.presets import Preset, load_presets
for agent in ("ppo", "dqn", "pqn"):
    load_presets(agent).clear()
for (env, agent), (envs, steps, kwargs) in {tiny!r}.items():
    load_presets(agent)[env] = Preset(envs, steps, kwargs)
load_presets("ppo")["palaestra/SnakeSmall-v0"].agent_kwargs["batch_size"] = 100
"""


def test_the_command_trains_in_processes_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A small grid for good; the processes find the same presets, but that of Snake, which they refuse."""
    monkeypatch.chdir(tmp_path)
    tiny = {key: (preset.num_envs, preset.total_timesteps, preset.agent_kwargs) for key, preset in TINY.items()}
    (tmp_path / "sitecustomize.py").write_text(SITE.format(tiny=tiny))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    readme = f"{BEGIN}\nold\n{END}\n"
    Path("R.md").write_text(readme)

    assert run_cli(monkeypatch, "snake-small cartpole --agents pqn --seeds 1 --runs g --readme R.md") == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    arguments = "snake-small cartpole --agents ppo --seeds 1 --jobs 2 --runs g --readme R.md --json"
    assert run_cli(monkeypatch, arguments) == 1
    captured = capsys.readouterr()
    assert Path("R.md").read_text() == readme  # no table with holes
    snake, pole = json.loads(captured.out)
    assert "batch_size=100 does not divide num_envs × n_steps = 256" in snake["runs"][0]["error"]
    assert "failed: palaestra train snake-small --agent ppo --seed 0: exit status 2" in captured.err
    (run,) = pole["runs"]
    assert run["num_timesteps"] == 512
    assert run["threads"] == max(1, available_cores() // 2)
    assert run["training_seconds"] < run["wall_seconds"] < 60
    assert run["evaluation"] == json.loads(Path(run["folder"], "eval.json").read_text())
    assert run["evaluation"]["episodes"] == 100  # after 512 steps

    assert run_cli(monkeypatch, "cartpole --agents ppo --seeds 1 --runs g --readme R.md") == 0
    captured = capsys.readouterr()
    assert captured.err == "[1/1] palaestra train cartpole --agent ppo --seed 0: kept\n"
    assert captured.out == ""
    assert "| `palaestra train cartpole --agent ppo` | 512 | 0:" in Path("R.md").read_text()
    assert run_cli(monkeypatch, "cartpole --agents ppo --seeds 1 --runs g") == 0
    assert f"{BEGIN}\n{capsys.readouterr().out.rstrip()}\n{END}\n" == Path("R.md").read_text()
