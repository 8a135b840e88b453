"""Every command and every program in the pages is run as written, only with fewer steps.

A page is followed from top to bottom in a folder of its own. The section "Add an environment" of envs/README.md is
followed in test_readme_environment.py, the way to a server in test_readme_walk.py, torchrun's commands in
test_process_group.py.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pages import PAGES, ROOT, blocks, command_lines, read
from use_logs import shop_lines, write_log

from palaestra.agents import PPO
from palaestra.envs.arm import reach, reach_torque
from palaestra.envs.checker import conformance, optional_rules
from palaestra.envs.pricing import Pricing
from palaestra.envs.pricing.demand import uplift
from palaestra.envs.pricing.demand.counts import intervals
from palaestra.envs.pricing.inventory import SeasonState
from palaestra.envs.specs import GymnasiumSpec, TensorEnvSpec
from palaestra.train import cli
from palaestra.train.bench import bench_tables, scaling, throughput, time_to_solve
from palaestra.train.bench.overview import all_figures, overview_table, processor
from palaestra.train.commands import train as train_command
from palaestra.train.evaluation.games import elo, judged_play
from palaestra.train.export import confirm
from palaestra.train.export.held_out import held_out_reference
from palaestra.train.export.observation_reader import ObservationReader
from palaestra.train.recording import show
from palaestra.train.results import grid, table
from palaestra.train.runs import callbacks, trainer
from palaestra.train.serve import outcomes
from palaestra.train.sweep import search

ELSEWHERE = re.compile(r"^## Add an environment\n.*?(?=^## )", re.DOTALL | re.MULTILINE)  # test_readme_environment.py
FEWER = ["--track", "disabled", "--no-report", "--num-envs", "32", "--total-timesteps", "512", "--set", "batch_size=64"]
FEWER_STEPS = {  # by agent
    "ppo": [*FEWER, "--set", "n_steps=16"],
    "dqn": [*FEWER, "--set", "learning_starts=64"],
    "sac": [*FEWER, "--set", "learning_starts=64"],
    "recurrent-ppo": [*FEWER, "--set", "n_steps=16", "--set", "sequence_length=16"],
}
FINDS_DRIFT = ["monitor", "prices.onnx", "shop.jsonl"]  # in a market that has changed
OF_MINARI = {"--minari", "--dataset"}
PRICE_LIST = "palaestra prices latest --out prices.xlsx"  # of sales that a till has exported
# for which these tests have no display
_PLAYED = ["play", "connect-four", "--versus"]
NEED_A_WINDOW = (
    *(["watch", "latest"], ["play", "snake-small"]),
    *([*_PLAYED, "two-ply"], [*_PLAYED, "latest", "--search", "64"]),
)
GATE = (ROOT / ".ci/run").read_text(encoding="utf-8")


def _followed(name: str) -> str:
    """The part of a page that is followed here."""
    return ELSEWHERE.sub("", read(name)) if name == "envs/README.md" else read(name)


def _programs(name: str) -> list[str]:
    return [block for kind, block in blocks(_followed(name)) if kind == "python"]


def _commands(name: str) -> tuple[list[str], list[str]]:
    """The ``palaestra …`` commands that are followed here, and the other ones."""
    lines = command_lines(_followed(name))
    ours = [line for line in lines if line.startswith("palaestra ")]
    return ours, [line for line in lines if line not in ours]


WITH_COMMANDS = [name for name in PAGES if _commands(name)[0]]
TRAINS = re.compile(r"\b(learn|train)\(")
LEARNING = [(name, program) for name in PAGES for program in _programs(name) if TRAINS.search(program)]


# ------------------------------------------------------------------------------------------------ other commands


def _is_in_the_gate(command: str) -> None:
    """The gate runs it on every change."""
    assert command in GATE


def _extras_exist(command: str) -> None:
    """The gate installs the package itself."""
    extra = re.fullmatch(r'pip install -e (?:\.|"\.\[(\w+)\]")(?: --config-settings editable_mode=strict)?', command)
    assert extra is not None
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra[1] is None or extra[1] in project["optional-dependencies"]


def _finds_tests(command: str) -> None:
    file, _, word = command.removeprefix("pytest ").partition(" -k ")
    assert re.search(rf"^def test_\w*{word}", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)


def _has_hooks(command: str) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [hook["id"] for repository in hooks["repos"] for hook in repository["hooks"]]


def _wandb_knows(command: str) -> None:
    from wandb.cli.cli import cli as wandb_cli

    assert command.split()[1] in wandb_cli.commands


def _is_followed_elsewhere(command: str) -> None:
    assert command in command_lines(read("train/README.md"))  # test_process_group.py reads that page


def _limits_all_libraries(command: str) -> None:
    assert command == " ".join([*processor.LIMITS.values(), "palaestra bench"])


CHECKS: dict[str, Callable[[str], None]] = {  # by a pattern of the whole command
    r"python3 -m venv \.venv|\. \.venv/bin/activate|pytest -n 2": lambda command: None,  # the gate does so, or could
    r"ruff .*|mypy|codespell|pytest": _is_in_the_gate,
    r"bash \.ci/run": lambda command: None,
    r"pip install -e .*": _extras_exist,
    r"pytest tests/.*": _finds_tests,
    r"(pip install )?pre-commit( install)?": _has_hooks,
    r"wandb (leet|sync) RUN/wandb/offline-run-\*": _wandb_knows,
    r"torchrun .*": _is_followed_elsewhere,
    r"\w+=avx2 .* palaestra bench": _limits_all_libraries,
    r"curl \"localhost.*": lambda command: None,  # test_readme_walk.py
    r"curl -X POST localhost:8000/outcome .*": lambda command: _is_an_outcome(command),
    r"curl -X POST .*": lambda command: _is_what_the_server_takes(command),
}


def _is_what_the_server_takes(command: str) -> None:
    """The request for a policy with that many inputs, see tests/train/serve/test_app.py."""
    words = shlex.split(command)
    assert (words[:3], words[4]) == (["curl", "-X", "POST"], "-d")
    assert words[3].endswith(":8000/act")
    end = {"name": "observation", "dtype": "float32", "shape": [4], "low": 0.0, "high": 1.0}
    assert ObservationReader([end])(json.loads(words[5]))[1] is False


def _is_an_outcome(command: str) -> None:
    assert outcomes._read(json.loads(shlex.split(command)[5])) == ({}, False)


OTHERS = sorted({command for name in PAGES for command in _commands(name)[1]})


@pytest.mark.parametrize("command", OTHERS)
def test_every_other_command_is_run_or_checked(command: str) -> None:
    checks = [check for pattern, check in CHECKS.items() if re.fullmatch(pattern, command)]
    assert checks, "no test runs this command: write a check for its kind"
    checks[0](command)


# ------------------------------------------------------------------------------------------------ palaestra


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, without display or account; what takes minutes is tested elsewhere and left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(throughput, "measure", lambda *args, **kwargs: {})  # measured in test_throughput.py
    monkeypatch.setattr(bench_tables, "throughput_table", lambda result: "")
    monkeypatch.setattr(all_figures, "measure_overview", lambda *args: {"processor": "Abacus"})  # test_all_figures.py
    monkeypatch.setattr(overview_table, "overview_table", lambda result: "")
    monkeypatch.setattr(overview_table, "cells", lambda result: {"adding": "1 k"})
    monkeypatch.setattr(overview_table, "source", lambda result, command: command)
    for module, measure, text in (
        (scaling, "measure_scaling", "scaling_table"),
        (time_to_solve, "measure_solving", "solving_table"),
    ):
        monkeypatch.setattr(module, measure, lambda *args, **kwargs: {})
        monkeypatch.setattr(module, text, lambda result: "")
    monkeypatch.setattr(train_command, "number_of_processes", lambda *args, **kwargs: 1)  # test_launcher.py
    monkeypatch.setattr(grid, "run_grid", lambda *args, **kwargs: {})  # trained in test_results.py
    monkeypatch.setattr(table, "collect", lambda *args, **kwargs: [])
    monkeypatch.setattr(table, "results_table", lambda rows: "")
    monkeypatch.setattr(search, "sweep", lambda *args, **kwargs: True)  # searched in test_search.py
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)  # recorded in test_cli.py
    monkeypatch.setattr(show, "most_steps", lambda batch: 30)  # of a recording; whole ones are in test_watch.py
    monkeypatch.setattr(conformance, "examine", partial(conformance.examine, num_envs=16, steps=8))
    monkeypatch.setattr(conformance, "SPEED_SECONDS", 0.05)
    monkeypatch.setattr(optional_rules, "EPISODES", 32)  # of a reference; test_conformance.py
    monkeypatch.setattr(elo, "SCRIPTED_GAMES", 20)  # test_elo.py
    monkeypatch.setattr(judged_play, "BEGUN", 8)  # test_judged_play.py
    monkeypatch.setattr(judged_play, "require_small", partial(judged_play.require_small, most=1000))
    monkeypatch.setattr(callbacks, "EVALUATIONS", 1)
    monkeypatch.setattr(confirm, "STATES", 200)  # of an exported agent; test_export.py
    monkeypatch.setattr(held_out_reference, "STATES", 2000)
    monkeypatch.setattr(intervals, "DRAWS", 40)  # of sales; test_intervals.py
    monkeypatch.setattr(uplift, "DRAWS", 40)
    monkeypatch.setattr(reach, "held_out_bound", lambda *task: {})  # of other arms; robots/test_time_bound.py
    monkeypatch.setattr(reach_torque, "MEASURED", 10)
    for kind in (TensorEnvSpec, GymnasiumSpec):
        monkeypatch.setattr(kind, "validation_episodes", 8)
        monkeypatch.setattr(kind, "evaluation_episodes", 8)
    return tmp_path


def _fewer(command: list[str]) -> list[str]:
    """What is added to a command so that it takes seconds."""
    if command[0] == "train" and "--resume" not in command:
        short = ["--set", "env.max_episode_steps=20"] if "reach-torque" in command else []  # 30 ms each
        lesson = ["--pretrain-steps", "256"] if "--pretrain" in command and "bc" not in command else []
        return [*FEWER_STEPS[next((agent for agent in FEWER_STEPS if agent in command), "ppo")], *short, *lesson]
    if command[0] == "train" and "--total-timesteps" in command:
        return ["--total-timesteps", "1024", "--no-report"]
    if command[0] == "collusion" and "--agents" in command:
        return ["--total-timesteps", "21k", "--num-envs", "128", "--rounds", "2"]
    if command[0] == "collusion" and not {"latest", "undercut"} & {*command}:  # rules and runs meet at once
        return ["--sessions", "3", "--beta", "2e-3", "--stable", "500"]
    if command[0] == "record":
        return ["--episodes", "4"]
    search = ["--search", "8"] if "--search" in command else []
    if "--positions" in command:
        return [*search, "--positions", "16"]
    if command[0] == "evaluate" and command[1:]:  # alone it lists the runs
        return [*search, "--episodes", "4" if "--stress" in command else "16"]
    return search


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_every_command_runs(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "train").mkdir()
    (here / "train/RESULTS.md").write_text(read("train/RESULTS.md"), encoding="utf-8")  # which some commands write
    for kind, text in blocks(_followed(name)):
        if kind == "yaml":
            Path(text.split()[1]).write_text(text, encoding="utf-8")
    for kind, text in blocks(_followed(name)):  # a program may read what a command has written, and the other way round
        if kind == "python" and not TRAINS.search(text):
            exec(compile(text, name, "exec"), {"__name__": "readme"})
        for line in command_lines(f"```{kind}\n{text}```\n"):
            if line.startswith("palaestra ") and line.split()[1] != "serve":  # which goes on: test_readme_walk.py
                _run(shlex.split(line)[1:], monkeypatch, capsys)
                if line.partition("#")[0].strip() == PRICE_LIST:
                    _prices_are_those_of_the_trained_agent(here)


def _run(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if OF_MINARI & {*command} and find_spec("minari") is None:
        return  # test_minari_files.py says so
    if command[:3] == FINDS_DRIFT:
        write_log(Path("shop.jsonl"), shop_lines(2.0))
    monkeypatch.setattr(sys, "argv", ["palaestra", *command, *_fewer(command)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    captured = capsys.readouterr()
    if command in NEED_A_WINDOW:
        assert "--record" in captured.err
    elif command[:3] == FINDS_DRIFT:
        assert exit_.value.code == 1
        assert "fit demand anew" in captured.out
    else:
        assert not exit_.value.code, (command, captured.err)


def _prices_are_those_of_the_trained_agent(folder: Path) -> None:
    """An export with semicolons and decimal commas has become prices.xlsx, where each price is the model's."""
    import polars

    model_file = max(folder.glob("runs/pricing/ppo/*/model.zip"))
    model, market = PPO.load(model_file), Pricing(demand="kasse.json")
    assert json.loads(Path("kasse.json").read_text())["products"]["Tee"]["price_range"] == [3.0, 7.5]
    seen = polars.read_excel("prices.xlsx")
    grid = np.indices((market.stages, market.stock)).reshape(2, -1) + np.array([[0], [1]])
    state = SeasonState(*torch.tensor(grid), *torch.zeros(3, grid.shape[1], dtype=torch.int64))
    actions, _ = model.predict(market.observe(state).numpy(), deterministic=True)
    assert seen["price"].to_list() == pytest.approx(market.prices[actions].tolist(), abs=1e-9)
    assert seen["stock"].to_list() == grid[1].tolist()
    policy = np.zeros((market.stages, market.stock + 1), np.int64)
    policy[:, 1:] = actions.reshape(market.stages, market.stock)
    start = seen.filter((polars.col("period") == 1) & (polars.col("stock") == market.stock))
    assert start["expected_margin"].item() == pytest.approx(market.policy_value(policy), abs=0.006)


def test_an_export_becomes_the_price_list_of_the_trained_agent() -> None:
    """:func:`test_every_command_runs` follows that way, and compares the list."""
    ours = [line.partition("#")[0].strip() for line in _commands("envs/README.md")[0]]
    first = next(i for i, line in enumerate(ours) if "fit-demand kasse.csv" in line)
    assert [line.split()[1] for line in ours[first : first + 3]] == ["fit-demand", "train", "prices"]
    assert ours[first + 2] == PRICE_LIST


def test_every_command_of_the_command_line_is_shown() -> None:
    shown = {line.split()[1] for name in PAGES for line in command_lines(read(name)) if line.startswith("palaestra ")}
    assert shown == set(cli.COMMANDS)


@pytest.mark.parametrize(("name", "program"), LEARNING, ids=[name for name, _ in LEARNING])
def test_every_program_runs(name: str, program: str, here: Path) -> None:
    short = re.sub(r"(learn\((?:total_timesteps=)?|total_timesteps=)[\d_]+", r"\g<1>2048", program)
    short = short.replace("num_envs=1024", "num_envs=64")
    assert short != program
    exec(compile(short, name, "exec"), {"__name__": "readme"})


def test_the_prices_that_the_page_quotes() -> None:
    program = next(block for block in _programs("envs/README.md") if "best_fixed_price" in block)
    names: dict[str, Any] = {}
    exec(compile(program, "envs/README.md", "exec"), names)
    quoted = dict(re.findall(r"^(market\.\S+)\s+# (.+)$", program, re.MULTILINE))
    assert eval("market.optimal_value()", names) == pytest.approx(float(quoted["market.optimal_value()"]), abs=0.005)
    assert eval("market.best_fixed_price()", names) == pytest.approx(
        eval(quoted["market.best_fixed_price()"]), abs=0.005
    )
    myopic = "market.policy_value(market.myopic_policy())"
    assert eval(myopic, names) == pytest.approx(float(quoted[myopic]), abs=0.005)
