"""Every command and every program in the README is run as written, only with fewer steps.

The section "Add an environment" is followed in test_readme_environment.py.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from palaestra.envs.specs import GymnasiumSpec, TensorEnvSpec
from palaestra.train import cli
from palaestra.train.bench import report, scaling, throughput, time_to_solve
from palaestra.train.results import grid
from palaestra.train.runs import callbacks
from palaestra.train.sweep import search

README = Path(__file__).parents[2] / "README.md"
ELSEWHERE = re.compile(r"^## Add an environment\n.*?(?=^## )", re.DOTALL | re.MULTILINE)  # test_readme_environment.py
FEWER_STEPS = ["--num-envs", "32", "--total-timesteps", "512", "--set", "n_steps=16", "--set", "batch_size=64"]
FEWER_STEPS_DQN = [*FEWER_STEPS[:4], "--set", "learning_starts=64", "--set", "batch_size=64"]


def _blocks(language: str) -> list[str]:
    text = ELSEWHERE.sub("", README.read_text(encoding="utf-8"))
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def _commands() -> list[list[str]]:
    """All ``palaestra …`` commands, also behind && and before comments."""
    lines = [part.strip() for block in _blocks("bash") for line in block.splitlines() for part in line.split("&&")]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("palaestra ")]


def test_the_readme_has_the_commands_of_every_part() -> None:
    first_words = {command[0] for command in _commands()}
    assert {"train", "evaluate", "watch", "envs", "bench"} <= first_words


def _short_programs() -> list[str]:
    """Python blocks that need no training."""
    return [block for block in _blocks("python") if "learn(" not in block]


def test_every_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(throughput, "measure", lambda *args, **kwargs: {})  # measured in test_throughput.py
    monkeypatch.setattr(report, "table", lambda result: "")
    for module, measure, table in (
        (scaling, "measure_scaling", "scaling_table"),
        (time_to_solve, "measure_solving", "solving_table"),
    ):
        monkeypatch.setattr(module, measure, lambda *args, **kwargs: {})
        monkeypatch.setattr(module, table, lambda result: "")
    monkeypatch.setattr(grid, "run_grid", lambda *args, **kwargs: {})  # trained in test_results.py
    monkeypatch.setattr(grid, "collect", lambda *args, **kwargs: [])
    monkeypatch.setattr(grid, "table", lambda rows: "")
    monkeypatch.setattr(search, "sweep", lambda *args, **kwargs: True)  # searched in test_search.py
    monkeypatch.setattr(callbacks, "EVALUATIONS", 1)
    for kind in (TensorEnvSpec, GymnasiumSpec):
        monkeypatch.setattr(kind, "validation_episodes", 8)
        monkeypatch.setattr(kind, "evaluation_episodes", 8)
    for text in _blocks("yaml"):
        Path(text.split()[1]).write_text(text)
    for program in _short_programs():  # one of them writes the sales that a command reads
        exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    for command in _commands():
        fewer = FEWER_STEPS if command[0] == "train" and "--resume" not in command else []
        fewer = FEWER_STEPS_DQN if fewer and "dqn" in command else fewer
        fewer = ["--episodes", "64"] if command[0] == "evaluate" else fewer
        monkeypatch.setattr(sys, "argv", ["palaestra", *command, *fewer])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        if command in (["watch", "latest"], ["play", "snake-small"]):  # a window, which this test has no display for
            assert "--record" in captured.err
        else:
            assert not exit_.value.code, (command, captured.err)


def test_the_prices_that_the_readme_quotes() -> None:
    program = next(block for block in _short_programs() if "best_fixed_price" in block)
    names: dict[str, Any] = {}
    exec(compile(program, "README.md", "exec"), names)
    quoted = dict(re.findall(r"^(market\.\S+)\s+# (.+)$", program, re.MULTILINE))
    assert eval("market.optimal_value()", names) == pytest.approx(float(quoted["market.optimal_value()"]), abs=0.005)
    assert eval("market.best_fixed_price()", names) == pytest.approx(
        eval(quoted["market.best_fixed_price()"]), abs=0.005
    )
    myopic = "market.policy_value(market.myopic_policy())"
    assert eval(myopic, names) == pytest.approx(float(quoted[myopic]), abs=0.005)


def test_every_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    programs = [block for block in _blocks("python") if "learn(" in block]
    assert len(programs) == 3
    for program in programs:
        short = re.sub(r"learn\((total_timesteps=)?[\d_]+\)", "learn(2048)", program)
        short = short.replace("num_envs=1024", "num_envs=64")
        assert short != program
        exec(compile(short, "README.md", "exec"), {"__name__": "readme"})
