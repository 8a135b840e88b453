"""Output that cannot be written: training goes on, other commands end with a status and without a traceback."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from palaestra.envs.specs import TensorEnvSpec
from palaestra.train import cli
from palaestra.train.interruptions import LastingOutput
from palaestra.train.runs import trainer
from palaestra.train.runs.run_folder import RunFolder

TRAIN = "train cartpole --num-envs 64 --total-timesteps 4096 --track disabled --run-dir run --device cpu"
TRAIN += " --set n_steps=16 --set batch_size=256 --set env.max_episode_steps=40"
REASONS = {"pipe": "Broken pipe", "disk": "No space left on device", "none": None}


@pytest.fixture(autouse=True)
def _short_endings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TensorEnvSpec, "evaluation_episodes", 10)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)


@contextlib.contextmanager
def ended(kind: str) -> Iterator[TextIO | None]:
    """A stream that cannot be written: a pipe whose reader has gone, a full disk, or none."""
    if kind == "none":
        yield None
        return
    reader, writer = os.pipe()
    os.close(reader)
    if kind == "disk":
        os.dup2(full := os.open("/dev/full", os.O_WRONLY), writer)
        os.close(full)
    stream = os.fdopen(writer, "w")
    yield stream
    with contextlib.suppress(OSError):
        stream.close()


def status(monkeypatch: pytest.MonkeyPatch, words: str, **streams: TextIO | None) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", ["palaestra", *words.split()])
        for name in ("stdout", "stderr"):  # which the command wraps
            patch.setattr(sys, name, streams.get(name, getattr(sys, name)))
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    return exit_.value.code


@pytest.mark.parametrize("kind", REASONS)
def test_training_goes_on(kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with ended(kind) as stdout:
        assert status(monkeypatch, TRAIN, stdout=stdout) == 0
    told = f"palaestra: standard output: {REASONS[kind]}; going on without it\n" if REASONS[kind] else ""
    assert capsys.readouterr().err == told
    assert RunFolder(Path("run")).is_evaluated()
    assert Path("run/model.zip").is_file()


@pytest.mark.parametrize("kind", REASONS)
@pytest.mark.parametrize("words", ["envs", "envs --json", "evaluate random --env cartpole --episodes 4", "--help"])
def test_other_commands_end_with_a_status(
    kind: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk is told; a reader that has gone has seen enough."""
    with ended(kind) as stdout:
        assert status(monkeypatch, words, stdout=stdout) == (1 if REASONS[kind] else 0)
    told = f"palaestra: error: standard output: {REASONS[kind]}\n" if kind == "disk" else ""
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("kind", REASONS)
def test_an_error_that_cannot_be_told_keeps_its_status(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with ended(kind) as stderr:
        assert status(monkeypatch, "evaluate nowhere", stderr=stderr) == 2


def test_what_comes_after_a_fault_is_written(tmp_path: Path) -> None:
    """As when there is room on the disk again."""
    told: list[str] = []
    with (tmp_path / "log").open("w") as file:
        output = LastingOutput(file, told.append)
        real = file.buffer.raw.fileno()
        kept = os.dup(real)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, real)
        for _ in range(3):
            output.write("lost\n")
            output.flush()
        os.dup2(kept, real)
        output.write("found\n")
        output.flush()
        os.close(kept)
        os.close(full)
    assert told == ["No space left on device"]
    assert (tmp_path / "log").read_text().endswith("found\n")


def test_a_terminal_that_closes(tmp_path: Path) -> None:
    """SIGHUP comes, and nothing can be displayed any more; the iteration is saved."""
    words = TRAIN.replace("4096", "100000000").split()
    main, side = pty.openpty()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\nfrom palaestra.train.cli import main; main()",
            *words,
        ],
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    os.close(side)
    progress, deadline = Path("run/progress.csv"), time.monotonic() + 120
    os.set_blocking(main, False)
    while time.monotonic() < deadline and not (progress.exists() and progress.read_text().count("\n") > 2):
        time.sleep(0.05)
        try:
            os.read(main, 1 << 16)
        except BlockingIOError:
            continue
    os.close(main)
    assert process.wait(120) == 130
    newest = RunFolder(Path("run")).checkpoints()[0]
    assert int(newest.stem) > 0
