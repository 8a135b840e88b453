"""Runs that are stopped and go on: the final weights are, to the last bit, those of the run that was left alone."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from faults.kills import curves, weights

from palaestra.agents import PPO, CheckpointError
from palaestra.train import checkpoints, run
from palaestra.train.commands import resume, train
from palaestra.train.settings import ConfigError
from palaestra.train.stopping import StopSignal

ENVIRON = {**os.environ, "OMP_NUM_THREADS": "1"}
PPO_RUN = ("cartpole", "ppo", 64 * 8 * 40, ["n_steps=8", "batch_size=256"], 64)
DQN_RUN = ("snake-small", "dqn", 64 * 300, ["learning_starts=1000", "batch_size=128", "buffer_size=5000"], 64)
PQN_RUN = ("snake-small", "pqn", 64 * 8 * 40, ["n_steps=8", "batch_size=256"], 64)


def command(kind: tuple[Any, ...], folder: Path) -> list[str]:
    env, agent, steps, settings, num_envs = kind
    sets = [part for setting in settings for part in ("--set", setting)]
    size = ["--total-timesteps", str(steps), "--num-envs", str(num_envs)]
    return ["train", env, "--agent", agent, *size, *sets, "--run-dir", str(folder), "--track", "disabled"]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    program = [sys.executable, "-m", "palaestra.train.cli", *arguments]
    return subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRON)


@pytest.mark.parametrize("kind", [PPO_RUN, DQN_RUN, PQN_RUN], ids=["ppo", "dqn", "pqn"])
def test_a_run_killed_again_and_again_ends_with_the_same_weights(kind: tuple[Any, ...], tmp_path: Path) -> None:
    """SIGKILL at random moments once the first checkpoint is there; the run goes on from the newest whole one."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = start(command(kind, whole))
    assert done.wait(120) == 0, done.communicate()[0]
    moments = random.Random(0)
    process, kills = start(command(kind, killed)), 0
    deadline = time.monotonic() + 150
    while kills < 2 and time.monotonic() < deadline:
        before = checkpoints.checkpoints(killed)
        while checkpoints.checkpoints(killed) == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0.0, 0.15))
        if process.poll() is not None:
            break
        process.kill()
        process.communicate()
        kills += 1
        process = start(["train", "--resume", str(killed), "--track", "disabled"])
    out = process.communicate(timeout=120)[0]
    assert process.returncode == 0, out
    assert kills > 0
    ours, theirs = weights(killed), weights(whole)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    assert curves(killed) == curves(whole)
    assert not (killed / "checkpoints").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_iterations_and_nothing_is_lost(number: int, tmp_path: Path) -> None:
    process = start(command(PPO_RUN, tmp_path / "a run"))
    progress = tmp_path / "a run" / "progress.csv"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (progress.exists() and progress.read_text().count("\n") > 2):
        time.sleep(0.01)
    process.send_signal(number)
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 130, out
    assert "stopping after this iteration" in out
    assert f"go on with: palaestra train --resume '{tmp_path / 'a run'}'" in out
    steps = int(curves(tmp_path / "a run")[-1]["global_step"])
    (newest, *_) = checkpoints.checkpoints(tmp_path / "a run")
    assert int(newest.stem) == steps
    assert (tmp_path / "a run" / "model.zip").is_file()


def tiny(folder: Path) -> None:
    settings = ["n_steps=8", "batch_size=256"]
    train("cartpole", "ppo", folder, "disabled", num_envs=64, total_timesteps=8 * 64 * 10, settings=settings)


class Killed(BaseException):
    """As a SIGKILL: nobody catches it."""


@pytest.fixture
def killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that ended without a word after six of its ten evaluations."""
    count = 0
    save = checkpoints.save

    def save_and_die(model: Any, run_dir: Path) -> None:
        nonlocal count
        save(model, run_dir)
        count += 1
        if count == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            tiny(tmp_path / "run")
    return tmp_path / "run"


def test_two_checkpoints_are_kept(killed_run: Path) -> None:
    assert [int(path.stem) for path in checkpoints.checkpoints(killed_run)] == [6 * 512, 5 * 512]


def test_a_damaged_checkpoint_is_left_for_the_one_before(killed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest, _ = checkpoints.checkpoints(killed_run)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content[: len(content) - 100])
    resume(str(killed_run), "disabled")
    out = capsys.readouterr().out
    assert f"{newest.name} is not used: " in out
    tiny(killed_run.parent / "whole")
    theirs = weights(killed_run.parent / "whole")
    assert all(torch.equal(value, theirs[name]) for name, value in weights(killed_run).items())
    assert curves(killed_run) == curves(killed_run.parent / "whole")


def test_without_a_whole_checkpoint_the_weights_are_taken(killed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in checkpoints.checkpoints(killed_run):
        path.write_bytes(b"")
    resume(str(killed_run), "disabled")
    assert "going on from the weights in model.zip: episodes and replay memory begin anew" in capsys.readouterr().out
    assert PPO.load(killed_run / "model.zip", device="cpu").num_timesteps == 8 * 64 * 10


def test_nothing_to_go_on_from(tmp_path: Path, killed_run: Path) -> None:
    for path in (*checkpoints.checkpoints(killed_run), killed_run / "model.zip"):
        path.unlink()
    with pytest.raises(CheckpointError, match="holds neither a whole checkpoint nor a model"):
        resume(str(killed_run), "disabled")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"has no config.yaml to go on with"):
        resume(str(tmp_path / "empty"), "disabled")
    with pytest.raises(ConfigError, match="no run 'nowhere'"):
        resume("nowhere", "disabled")


def test_best_is_not_forgotten(killed_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations after the resumption that are worse than one before it do not replace best.zip."""
    before, best = (killed_run / "best.zip").read_bytes(), run.best_score(killed_run)
    assert best > 0
    real = run.evaluate_run

    def worse(*args: Any, **kwargs: Any) -> Any:
        return replace(real(*args, **kwargs), mean=best - 1.0)

    monkeypatch.setattr(run, "evaluate_run", worse)
    resume(str(killed_run), "disabled")
    assert (killed_run / "best.zip").read_bytes() == before


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (
        checkpoints.only_process(tmp_path / "run"),
        pytest.raises(ConfigError, match="is in use by another process"),
        checkpoints.only_process(tmp_path / "run"),
    ):
        pass
    with checkpoints.only_process(tmp_path / "run"):
        pass


def test_settings_that_do_not_fit_take_the_weights(killed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load((killed_run / "config.yaml").read_text())
    (killed_run / "config.yaml").write_text(yaml.safe_dump({**config, "num_envs": 32}))
    resume(str(killed_run), "disabled")
    out = capsys.readouterr().out
    assert "is not used" in out
    assert "going on from the weights" in out


def test_the_second_signal_ends_at_once() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal(said.append) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert said == ["stopping after this iteration; again: at once"]
    assert signal.getsignal(signal.SIGTERM) is before
