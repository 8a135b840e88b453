"""What shells complete: known answers from the command itself and from real shells, none of which imports PyTorch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from palaestra.train import cli
from palaestra.train.completion import MOST_RUNS, join_words

VARIABLE = "_PALAESTRA_COMPLETE"
RUNS = (
    "cartpole/ppo/20261129-150338-s0",
    "cartpole/ppo/20261129-150650-s1.3",
    "snake-small/dqn/20261128-090000-s0",
    "mine",
    "by-hand/second",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for run in RUNS:
        path = tmp_path / "runs" / run
        path.mkdir(parents=True)
        (path / "config.yaml").touch()
    (tmp_path / "runs" / "empty" / "notes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """The answers for the last of the words, which are as bash cuts them."""
    monkeypatch.setattr(sys, "argv", ["palaestra"])
    for name, value in ((VARIABLE, "complete_bash"), ("COMP_WORDS", "\n".join(["palaestra", *words]))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    monkeypatch.setenv("_PALAESTRA_TYPED", "")
    with pytest.raises(SystemExit) as end:
        cli.main()
    captured = capsys.readouterr()
    assert not end.value.code
    assert captured.err == ""
    return captured.out.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["train"]),
        (["train", "--tot"], ["--total-timesteps"]),
        (["train", "snake-"], ["snake-small", "snake-large"]),
        (["train", "CartPole-"], ["CartPole-v0", "CartPole-v1"]),
        (["envs", "reach"], ["reach", "reach-torque"]),
        (["bench", "cartp"], ["cartpole"]),
        (["evaluate", "expert", "--env", "snake-s"], ["snake-small"]),
        (["train", "snake", "--agent", ""], ["ppo", "dqn", "pqn", "sac", "td3", "bc", "recurrent-ppo"]),
        (["train", "snake", "--agent", "=", "p"], ["ppo", "pqn"]),
        (["results", "snake", "--agents", "d"], ["dqn"]),
        (["train", "--agent", "dqn", "snake", "--set", "learning"], ["learning_rate=", "learning_starts="]),
        (["train", "snake", "--set", "learning"], ["learning_rate="]),
        (["train", "snake", "--set", "env.s"], ["env.size="]),
        (["sweep", "reach", "--vary", "env.ro"], ["env.robot="]),
        (["evaluate", "latest", "--set", "learning"], []),  # it takes settings of environments only
        (["train", "nonsense", "--set", "env."], []),
        (["train", "snake", "--stop-at", "s"], ["solved"]),
        (["train", "snake", "--track", "o"], ["online", "offline"]),
        (["nonsense", "--set", "env."], []),
        (["train", "snake", "--total-timesteps", "nonsense", "--agent", "d"], ["dqn"]),
    ],
)
def test_known_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], expected: list[str]
) -> None:
    assert completed(monkeypatch, capsys, *words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluate", "lat"], ["latest", "latest:cartpole", "latest:snake-small"]),
        (["watch", "latest", ":", "ca"], ["cartpole"]),  # behind the colon, which bash keeps
        (["watch", "latest", ":"], ["cartpole", "snake-small", "best"]),
        (["watch", "latest", ":", "cartpole", ":", ""], []),  # a new word, not the end of that
        (["watch", "latest", ":", "cartpole", ":"], ["best"]),
        (["export", "runs/mi"], ["runs/mine"]),
        (["evaluate", "latest", "runs/b"], ["runs/by-hand/second"]),
        (["play", "snake", "--versus", "e"], ["expert"]),
        (["train", "--resume", "e"], []),
        (["train", "--init-from", "runs/cart"], [f"runs/{run}" for run in reversed(RUNS[:2])]),
        (["watch", "runs/empty"], []),
    ],
)
def test_runs(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    expected: list[str],
) -> None:
    assert completed(monkeypatch, capsys, *words) == expected


def test_of_many_runs_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(2 * MOST_RUNS):
        path = tmp_path / "runs" / "snake" / ("ppo" if k % 2 else "dqn") / f"20261129-1000{k % 60:02d}-s{k}"
        path.mkdir(parents=True)
        (path / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    found = completed(monkeypatch, capsys, "watch", "runs/")
    seconds = [int(path.rpartition("-s")[0][-2:]) for path in found]
    assert seconds == sorted((k % 60 for k in range(2 * MOST_RUNS)), reverse=True)[:MOST_RUNS]


@pytest.mark.parametrize(
    ("words", "joined", "before"),
    [
        ("palaestra train --tot", ["palaestra", "train", "--tot"], ""),
        ("palaestra\nwatch\nlatest\n:\nca", ["palaestra", "watch", "ca"], "latest:"),
        ("palaestra\nwatch\nlatest\n:\ncartpole\n", ["palaestra", "watch", "latest:cartpole", ""], ""),
        ("palaestra\ntrain\n--set\nlr\n=\n3\n--agent\n=\nd", ["palaestra", "train", "--set", "lr=3", "--agent=d"], ""),
    ],
)
def test_words_of_bash_are_joined(words: str, joined: list[str], before: str) -> None:
    place = str(len(words.split("\n" if "\n" in words else " ")) - 1)
    environ = {VARIABLE: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    join_words(environ)
    assert environ["COMP_WORDS"].split("\n") == joined
    assert environ["COMP_CWORD"] == str(len(joined) - 1)
    assert environ["_PALAESTRA_TYPED"] == before


def test_no_pytorch(folder: Path) -> None:
    script = (
        "import sys\nfrom palaestra.train import cli\ntry:\n    cli.main()\n"
        "finally:\n    print(sorted({'torch', 'stable_baselines3', 'pygame'} & set(sys.modules)))"
    )
    for words in ("palaestra train sn", "palaestra train snake --set env.", "palaestra evaluate l", "palaestra "):
        environ = {**os.environ, VARIABLE: "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "[]"


def shell_script(shell: str) -> str:
    environ = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    command = [sys.executable, "-m", "palaestra.train", "--show-completion", shell]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "bin" / "palaestra"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m palaestra.train "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.usefixtures("on_path")
def test_bash(folder: Path) -> None:
    asked = (
        "COMP_WORDS=(palaestra watch latest : ca) COMP_CWORD=4; _palaestra_completion palaestra; echo ${COMPREPLY[@]}"
    )
    asked += (
        "; COMP_WORDS=(palaestra train snake- '') COMP_CWORD=2; _palaestra_completion palaestra; echo ${COMPREPLY[@]}"
    )
    script = f"{shell_script('bash')}\n{asked}"
    done = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["cartpole", "snake-small snake-large"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
@pytest.mark.usefixtures("on_path")
def test_fish(folder: Path) -> None:
    asked = "complete -C 'palaestra watch latest:ca'; complete -C 'palaestra train snake-s'"
    script = f"{shell_script('fish')}\n{asked}"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
    assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["latest:cartpole", "snake-small"]
