"""The list of runs: states, filters, orders, and the index, which must never tell what the files do not."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palaestra.train import cli
from palaestra.train.results import run_index
from palaestra.train.results.run_list import ORDERS, STATES, chosen, list_runs
from palaestra.train.runs.run_folder import RunFolder, only_process

RUNS = Path(__file__).parents[2] / "data/runs-885ce09"
HOUR_AGO = -3600


def make_run(name: str, source: str = "ppo-cartpole", **settings: Any) -> RunFolder:
    folder = RunFolder(Path(shutil.copytree(RUNS / source, Path("runs", name))))
    text = folder.config_file.read_text(encoding="utf-8")
    for key, value in settings.items():
        text = re.sub(f"^{key}: .*$", f"{key}: {value}", text, flags=re.MULTILINE)
    folder.config_file.write_text(text, encoding="utf-8")
    return folder


def age(*paths: Path, by: int = HOUR_AGO) -> None:
    for path in paths:
        time = path.stat().st_mtime + by
        os.utime(path, (time, time))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state(name: str) -> str:
    (row,) = (row for row in list_runs() if row["path"] == f"runs/{name}")
    return str(row["state"])


def test_states_to_the_letter(here: Path) -> None:
    run = make_run("a")
    assert state("a") == "finished"
    with only_process(run.path):
        assert state("a") == "finished"  # nothing is left to do in it
    run.evaluation_file.unlink()
    assert state("a") == "interrupted"
    with only_process(run.path):
        assert state("a") == "running"
    assert state("a") == "interrupted"


@pytest.mark.parametrize(
    "damage",
    [
        lambda run: run.facts_file.write_text("{"),
        lambda run: run.evaluation_file.write_text("[1]"),
        lambda run: run.config_file.write_text("env: ["),
        lambda run: run.config_file.write_text("seed: 1\n"),
        lambda run: run.model_file.unlink(),
    ],
)
def test_a_run_whose_files_are_damaged_is_broken(damage: Callable[[RunFolder], Any], here: Path) -> None:
    damage(make_run("a"))
    assert state("a") == "broken"


def test_looking_keeps_nobody_out(here: Path) -> None:
    """A process that begins to work in a folder waits for one that looks whether it is in use."""
    run = make_run("a")
    hold = (
        "import fcntl, sys, time\n"
        "with open(sys.argv[1]) as lock:\n"
        "    fcntl.flock(lock, fcntl.LOCK_SH); print('held', flush=True); time.sleep(0.2)\n"
    )
    run.lock_file.touch()
    with subprocess.Popen([sys.executable, "-c", hold, str(run.lock_file)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with only_process(run.path):
            pass


def test_chosen_and_sorted(here: Path) -> None:
    make_run("one", seed=1)
    make_run("two", agent="dqn", seed=2)
    make_run("three", source="dqn-pricing")  # without an evaluation
    for number, name in enumerate(("one", "two", "three")):
        os.utime(f"runs/{name}/config.yaml", (1000 + number, 1000 + number))
    evaluation = json.loads(Path("runs/two/eval.json").read_text())
    Path("runs/two/eval.json").write_text(json.dumps({**evaluation, "mean": 99.5, "percent_of_optimal": -7.0}))
    rows = list_runs()

    def names(sort: str = "began", last: bool = False, **wanted: Any) -> str:
        keys = {"env": None, "agent": None, "seed": None, "state": None, **wanted}
        return " ".join(row["path"].removeprefix("runs/") for row in chosen(rows, **keys, sort=sort, last=last))

    assert names() == "three two one"
    assert names(last=True) == "one two three"
    assert names("score") == "two one three"
    assert names("score", last=True) == "one two three"
    assert names("percent_of_optimal") == "one two three"
    assert names("env") == "two one three"
    assert names("agent") == "three two one"
    assert names(env="cartpole") == names(env="palaestra/CartPole-v1") == "two one"
    assert names(env="pricing", state="interrupted") == names(state="interrupted") == "three"
    assert names(agent="dqn", seed=2) == "two"
    with pytest.raises(ValueError, match="did you mean 'cartpole'"):
        names(env="cartpol")
    assert {*ORDERS} <= {*rows[0], "began"}
    assert {row["state"] for row in rows} <= {*STATES}


def test_many_runs_are_read_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "MANY", 2)
    folders = [make_run(name) for name in "abc"]
    for folder in folders:
        age(folder.path, folder.evaluation_file)
    read: list[str] = []

    def listed() -> list[dict[str, Any]]:
        read.clear()
        rows = list_runs()
        return rows

    from palaestra.train.results import run_list

    real = run_list.run_row
    monkeypatch.setattr(run_list, "run_row", lambda path: read.append(path) or real(path))
    before = listed()
    assert len(read) == 3
    assert listed() == before
    assert read == []
    # a change of each kind is seen, and only that run is read anew
    folders[0].evaluation_file.write_text("{}")  # in place
    assert [row["score"] for row in listed() if row["path"] == "runs/a"] == [None]
    assert read == ["runs/a"]
    folders[1].checkpoints_folder.mkdir()
    folders[1].checkpoint_file(512).touch()
    assert [row["state"] for row in listed() if row["path"] == "runs/b"] == ["interrupted"]
    folders[2].model_file.unlink()
    assert [row["state"] for row in listed() if row["path"] == "runs/c"] == ["broken"]
    shutil.rmtree("runs/c")
    assert {row["path"] for row in listed()} == {"runs/a", "runs/b"}


def test_checkpoints_that_come_and_go_are_seen(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "MANY", 0)
    run = make_run("a")
    run.checkpoints_folder.mkdir()
    (run.checkpoints_folder / "000000000000512.zip").touch()
    age(run.path, run.evaluation_file, run.checkpoints_folder)
    assert [row["steps"] for row in list_runs()] == [512]
    (run.checkpoints_folder / "000000000001024.zip").touch()
    assert [row["steps"] for row in list_runs()] == [1024]


def test_what_has_just_changed_is_not_noted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that changes twice within a step of the clock has the same time after both."""
    monkeypatch.setattr(run_index, "MANY", 0)
    run = make_run("a")
    age(run.path)
    run.evaluation_file.touch()
    list_runs()
    assert run_index._load()[1] == {}
    age(run.evaluation_file)
    list_runs()
    assert [*run_index._load()[1]] == ["runs/a"]


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"palaestra runs 1 0\n{}", b"palaestra runs 0 1\n", b"x" * 1000],
)
def test_a_damaged_index_is_left_aside(content: bytes, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_index, "MANY", 0)
    run = make_run("a")
    age(run.path, run.evaluation_file)
    before = list_runs()
    whole = run_index.INDEX.read_bytes()
    run_index.INDEX.write_bytes(content)
    assert list_runs() == before
    assert run_index.INDEX.read_bytes() == whole
    head, _, rows = whole.partition(b"\n")
    assert head.decode() == f"palaestra runs 1 {zlib.crc32(rows)}"


def test_few_runs_leave_no_index(here: Path) -> None:
    run = make_run("a")
    age(run.path, run.evaluation_file)
    list_runs()
    assert not run_index.INDEX.exists()


def command(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", *text.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, "runs") == 0
    assert capsys.readouterr().out == "there are no runs below runs/ yet; palaestra train snake-small makes one\n"
    make_run("a/b/20260101-000000-s7", seed=7)
    make_run("a/b/20260101-000001-s8", seed=8)
    assert command(monkeypatch, "runs --json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["seed"] for row in rows] == [8, 7]
    assert command(monkeypatch, "evaluate --json") == 0
    assert json.loads(capsys.readouterr().out) == rows  # one list, not two
    assert command(monkeypatch, "runs --sort percent --limit 1 --seed 7") == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:4] == ["cartpole", "ppo", "7", "8,192"]
    assert command(monkeypatch, "runs --agent dqn") == 0
    assert capsys.readouterr().out == "none of the 2 runs below runs/ is like that\n"
    assert command(monkeypatch, "runs --agent dqn --json") == 0
    assert capsys.readouterr().out == "[]\n"
    for wrong, message in {
        "runs --sort age": "--sort age: expected one of began, env, agent, seed, steps, score, percent, state",
        "runs --state done": "--state done: expected one of finished, running, interrupted, broken",
        "runs --env cartpol": "did you mean 'cartpole'",
        "runs --limit 0": "must be at least 1",
    }.items():
        assert command(monkeypatch, wrong) == 2
        told = capsys.readouterr()
        assert (told.out, told.err.count("\n")) == ("", 1)
        assert message in told.err


def test_the_list_imports_no_pytorch(here: Path) -> None:
    make_run("a")
    code = (
        "import sys\nfrom palaestra.train import cli\nsys.argv = ['palaestra', 'runs']\n"
        "try: cli.main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
