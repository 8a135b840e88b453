"""The command line as a user meets it: exit statuses, one-line errors, run folders, interruption."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
import yaml
from forked_command import ForkedCommand
from wandb_log import history as read_history

from palaestra.envs import entries, make
from palaestra.train import cli
from palaestra.train.config.presets import Preset, load_presets

TINY = ["--num-envs", "64", "--total-timesteps", "4096", "--set", "n_steps=16", "--set", "batch_size=256"]


def run_cli(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command in this process; its exit status."""
    monkeypatch.setattr(sys, "argv", ["palaestra", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    code = exit_.value.code
    return 0 if code is None else int(code)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, without display, account or W&B settings."""
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_help_and_version_do_not_import_torch() -> None:
    code = (
        "import sys; sys.argv = ['palaestra', sys.argv[1]]\n"
        "from palaestra.train import cli\n"
        "try: cli.main()\n"
        "except SystemExit as e: assert e.code == 0, e.code\n"
        "assert not {'torch', 'wandb', 'pygame', 'stable_baselines3'} & set(sys.modules)\n"
        "assert sys.argv[1] == '--version' or 'importlib.metadata' not in sys.modules"
    )
    for flag in ("--help", "--version"):
        done = subprocess.run([sys.executable, "-c", code, flag], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "palaestra" in done.stdout


QUICK = """
import sys
from palaestra.train import cli
for line in sys.stdin:
    sys.argv = ["palaestra", *line.split()]
    try: cli.main()
    except SystemExit as end: assert end.code == 2, line
    assert not {"torch", "stable_baselines3", "wandb"} & {*sys.modules}, line
"""


def test_what_is_told_without_pytorch_is_told_before_its_import(here: Path) -> None:
    lines = {
        "trian snake": "unknown command 'trian'; did you mean 'train'?",
        "train snak": "unknown environment 'snak'; did you mean 'snake'?",
        "train CartPol-v1 --set gamma=1": "unknown environment 'CartPol-v1'; did you mean 'CartPole-v1'?",
        "train snake --agent pp": "unknown agent 'pp'; did you mean 'ppo'?",
        "train snake-small --set n_step=64": "unknown ppo setting 'n_step'; did you mean 'n_steps'?",
        "train snake --agent dqn --set buffer_sise=1": "unknown dqn setting 'buffer_sise'; did you mean 'buffer_size'?",
        "train --resume nothing": "no run 'nothing': give a run folder, a checkpoint or latest",
        "envs snak": "unknown environment 'snak'; did you mean 'snake'?",
        "play snak": "unknown environment 'snak'; did you mean 'snake'?",
        "evaluate nothing": "no run 'nothing': give a run folder, a model file, latest, random or expert",
        "evaluate latest:snak:best": "unknown environment 'snak'; did you mean 'snake'?",
        "watch random --env snak": "unknown environment 'snak'; did you mean 'snake'?",
        "prices nothing": "no run 'nothing': give a run folder, a model file, latest, random or expert",
    }
    done = subprocess.run([sys.executable, "-c", QUICK], input="\n".join(lines), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [f"palaestra: error: {text}" for text in lines.values()]
    assert done.stdout == ""


def test_without_a_command_there_is_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(monkeypatch) == 0
    alone = capsys.readouterr()
    assert run_cli(monkeypatch, "--help") == 0
    assert alone == capsys.readouterr()
    assert alone.out.count("\n") > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("trian snake", "did you mean 'train'"),
        ("train snak", "did you mean 'snake'"),
        ("train snake-small --agent pp", "did you mean 'ppo'"),
        ("train snake-small --set lerning_rate=1", "did you mean 'learning_rate'"),
        ("train snake-small --agent dqn --set ent_coef=0", "unknown dqn setting 'ent_coef'"),
        ("train reach-torque --agent dqn", "dqn needs a Discrete action space"),
        ("train Pendulum-v1 --agent pqn", "Pendulum-v1 has Box(-2.0, 2.0, (1,), float32): use --agent ppo"),
        ("train snake-small --set env.sise=8", "did you mean 'size'"),
        ("train snake-small --set env.size=7", "size must be an even number"),
        ("train snake-small --set batch_size=100", "does not divide"),
        ("train snake-small --set learning_rate=-1", "must be at least 0"),
        ("train snake-small --num-envs 0", "--num-envs 0: must be at least 1"),
        ("train snake-small --track sometimes", "expected auto, online, offline or disabled"),
        ("train snake-small --sed 3", "did you mean --seed"),
        ("train snake-small --seed x", "--seed"),
        ("train", "give an environment"),
        ("train nosuchmodule:Env-v0", "cannot import nosuchmodule"),
        ("train --resume latest", "no run with a checkpoint"),
        ("train --resume latest --set gamma=1", "--resume goes on with the run's own settings"),
        ("train --resume latest --seed 1", "only --track, --threads, --total-timesteps and --no-report may be given"),
        ("evaluate latest", "no run with a model"),
        ("evaluate nowhere", "no run 'nowhere'"),
        ("evaluate expert", "--env"),
        ("evaluate expert --env cartpole", "no expert"),
        ("evaluate random --env CartPol-v1", "did you mean 'CartPole-v1'"),
        ("evaluate random --env snake --set size=8", "env.KEY=VALUE"),
        ("watch random --env snake", "--record"),
        ("watch random --env snake --record snake.avi", ".mp4"),
        ("watch random --env snake --grid 4y4 --record x.png", "like 4x4"),
        ("bench nosuchenv", "unknown environment"),
        ("bench cartpole --agent pq", "did you mean 'pqn'"),
        ("bench reach-torque --agent dqn", "dqn needs a Discrete action space"),
        ("bench cartpole --device tpu", "device"),
        ("bench cartpole --device mps", "Apple's GPUs have no 64-bit floats, which agents compute with: use cpu"),
        ("train cartpole --device mps", "device=mps: Apple's GPUs have no 64-bit floats"),
        ("bench cartpole --scaling --solve", "give one of them"),
        ("bench snake --seconds 100", "--seconds is for the overview"),
        ("bench --seconds 59", "the overview needs 60 at least"),
        ("bench CartPole-v1 --scaling", "only tensor environments scale"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert run_cli(monkeypatch, *arguments.split()) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("palaestra: error: ")
    assert message in captured.err
    assert captured.out == ""
    assert not (here / "runs").exists()


def test_envs_prints_the_reference_table(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(monkeypatch, "envs") == 0
    table = capsys.readouterr().out
    assert run_cli(monkeypatch, "envs", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    for entry in entries():
        assert entry.short_name in table
        reference = make(entry.id, 1, "cpu").env.reference  # type: ignore[attr-defined]
        assert rows[entry.short_name]["optimum"] == reference.optimum
        assert rows[entry.short_name]["random"] == reference.random
    assert rows["snake"]["agents"] == ["ppo", "dqn", "pqn", "bc", "recurrent-ppo"]
    continuous = ["ppo", "sac", "td3", "bc", "recurrent-ppo"]
    assert rows["reach-torque"]["agents"] == continuous  # torques are no choice among a few
    told = table.partition("\nreach-torque")[2].partition("\npricing-easy")[0]
    assert " ".join(continuous) in told
    assert "-13.6" in told


def test_a_run_leaves_its_folder_and_can_be_evaluated_and_recorded(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli(monkeypatch, "train", "snake-small", *TINY, "--track", "offline", "--run-dir", "my run") == 0
    out = capsys.readouterr().out
    assert "run folder: my run" in out
    run = here / "my run"
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert (config["env"], config["num_envs"], config["agent_kwargs"]["n_steps"]) == ("palaestra/SnakeSmall-v0", 64, 16)
    facts = json.loads((run / "run.json").read_text())
    assert facts["num_timesteps"] == 4096
    assert (run / "videos" / "final.mp4").stat().st_size > 1000
    rows = list(csv.DictReader((run / "progress.csv").open()))
    assert [int(row["global_step"]) for row in rows] == [1024, 2048, 3072, 4096, 4096]
    _history_equals_csv(run, rows)

    capsys.readouterr()
    assert run_cli(monkeypatch, "evaluate", "my run", "--json") == 0
    again, stored = json.loads(capsys.readouterr().out), json.loads((run / "eval.json").read_text())
    assert {**again, "run": ""} == {**stored, "run": ""}  # the same held-out episodes, the same actions
    assert float(rows[-1]["eval/mean_reward"]) == stored["mean"]

    assert run_cli(monkeypatch, "watch", "my run", "--grid", "2x2", "--record", "grid.png") == 0
    assert (here / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert run_cli(monkeypatch, "train", "snake-small", *TINY, "--run-dir", "my run") == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize("agent", ["dqn", "pqn"])
def test_agents_with_discrete_actions_leave_the_same_kind_of_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], agent: str
) -> None:
    """The model file alone says which agent it holds; its preset says how it plays."""
    preset = Preset(16, 1024, {"batch_size": 64}, {"control": "cartesian", "action_delay": 1})
    monkeypatch.setitem(load_presets(agent), "palaestra/PandaReach-v0", preset)
    arguments = ["--agent", agent, "--track", "disabled", "--set", "env.max_episode_steps=20"]
    assert run_cli(monkeypatch, "train", "reach", *arguments, "--set", "n_steps=4", "--run-dir", "run") == 0
    config = yaml.safe_load((here / "run/config.yaml").read_text())
    assert (config["agent"], config["agent_kwargs"]["batch_size"]) == (agent, 64)
    assert config["env_kwargs"] == {"control": "cartesian", "action_delay": 1, "max_episode_steps": 20}
    stored = json.loads((here / "run/eval.json").read_text())
    assert stored["mean_length"] <= 20

    def evaluated(*arguments: str) -> dict[str, object]:
        capsys.readouterr()
        assert run_cli(monkeypatch, "evaluate", *arguments, "--json") == 0
        return {**json.loads(capsys.readouterr().out), "run": stored["run"]}

    assert evaluated("run") == stored
    (here / "run/model.zip").rename(here / "alone.zip")
    named = ["--env", "reach", "--set", "env.max_episode_steps=20", "--episodes", "100"]  # as many as the short run had
    assert evaluated("alone.zip", *named) == stored
    assert evaluated("alone.zip", *named, "--stochastic") != stored


def test_settings_of_the_environment_go_over_those_of_the_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*TINY, "--run-dir", "run", "--track", "disabled", "--set", "env.size=4"]
    assert run_cli(monkeypatch, "train", "snake-small", *arguments) == 0
    lengths = []
    for setting, best in (("env.size=4", 15), ("env.max_episode_steps=3", None)):  # of a shorter game nothing is known
        capsys.readouterr()
        assert run_cli(monkeypatch, "evaluate", "run", "--json", "--set", setting) == 0
        result = json.loads(capsys.readouterr().out)
        assert result["reference"]["optimum"] == best  # a board of 4 × 4 in either case, which the agent can read
        lengths.append(result["mean_length"])
    assert lengths[1] <= 3 < lengths[0]
    assert run_cli(monkeypatch, "evaluate", "run", "--set", "env.sise=4") == 2
    assert "did you mean 'size'" in capsys.readouterr().err


def _history_equals_csv(run: Path, rows: list[dict[str, str]]) -> None:
    """The offline W&B file holds progress.csv's rows, number for number (video and table have rows of their own)."""
    (log,) = run.glob("wandb/offline-run-*/*.wandb")
    wandb.teardown()  # its service closes the file a moment after the run has finished
    others = ("eval/video", "eval/final")
    whole = read_history(log)
    history = [row for row in whole if not any(key.startswith(others) for key in row)]
    (table,) = (row for row in whole if any(key.startswith("eval/final") for key in row))
    assert table["eval/final/ncols"] == 2
    assert len(history) == len(rows)
    for ours, theirs in zip(rows, history, strict=True):
        logged = {key: value for key, value in theirs.items() if not key.startswith("_")}
        assert {key: float(value) for key, value in ours.items() if value} == {k: float(v) for k, v in logged.items()}


def test_a_corrupt_model_is_a_clear_error(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "model.zip").write_bytes(b"PK not really")
    assert run_cli(monkeypatch, "evaluate", "model.zip", "--env", "snake") == 2
    assert "cannot load model.zip" in capsys.readouterr().err


def test_ctrl_c_saves_and_says_how_to_go_on(here: Path) -> None:
    train = ["-m", "palaestra.train.cli", "train", "--track", "disabled", "--no-report"]
    command = [sys.executable, *train, "cartpole", "--set", "env.max_episode_steps=40", "--run-dir", "run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    progress = here / "run" / "progress.csv"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (progress.exists() and progress.read_text().count("\n") > 3):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "palaestra train --resume run" in out
    rows = list(csv.DictReader(progress.open()))
    last = int(rows[-1]["global_step"])
    assert 0 < last < 1_000_000

    config = yaml.safe_load((here / "run" / "config.yaml").read_text())
    config["total_timesteps"] = last + 2 * 32_768  # a short remainder
    (here / "run" / "config.yaml").write_text(yaml.safe_dump(config))
    again = ForkedCommand(["train", "--track", "disabled", "--resume", "run"], here / "log")
    assert again.wait() == 0, again.said()
    steps = [int(row["global_step"]) for row in csv.DictReader(progress.open())]
    assert steps == sorted(steps)
    assert steps[-1] >= config["total_timesteps"]
    assert steps[: len(rows)] == [int(row["global_step"]) for row in rows]


BROKEN = """
import torch
from palaestra.envs import register
from palaestra.envs.cartpole import CartPole

class Broken(CartPole):
    def observe(self, state):
        obs = super().observe(state)
        return torch.where((state.position > 0.06).unsqueeze(1), torch.nan, obs)

register("mine/Broken-v0", f"{__name__}:Broken", "broken", "turns to NaN")
"""


def test_a_broken_environment_stops_the_run_and_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "broken.py").write_text(BROKEN)
    arguments = [*TINY, "--run-dir", "run", "--track", "disabled"]
    assert run_cli(monkeypatch, "train", "broken:mine/Broken-v0", *arguments) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "observation is not finite in environment" in error
    assert "at step" in error
