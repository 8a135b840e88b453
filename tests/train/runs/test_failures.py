"""What goes wrong around a run, with the disk, the user, the clock, the language: one clear line, and nothing is lost.

Faults of the environment and of the numbers are in envs/core/test_errors.py and test_divergence.py.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kills import curves, same_weights

from palaestra.agents import DQN, PPO
from palaestra.agents.buffers import memory_limits
from palaestra.envs import make
from palaestra.envs.specs import TensorEnvSpec
from palaestra.train import cli
from palaestra.train.commands.evaluate import evaluate
from palaestra.train.commands.train import resume_run, start_run
from palaestra.train.config.schema import ConfigError
from palaestra.train.loggers import csv_logger
from palaestra.train.recording import video
from palaestra.train.runs import checkpoints, trainer
from palaestra.train.runs.failures import RunFailed
from palaestra.train.runs.run_folder import RunFolder, only_process

ITERATION = 8 * 64
SIZES = {"num_envs": 64, "total_timesteps": 10 * ITERATION, "checkpoint_every": ITERATION}
SETTINGS = ["n_steps=8", "batch_size=256", "env.max_episode_steps=40"]  # so that evaluations are short


@pytest.fixture(autouse=True)
def short_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Final evaluations of this process are short and leave no video."""
    monkeypatch.setattr(TensorEnvSpec, "evaluation_episodes", 10)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)


def train(folder: Path, **options: Any) -> None:
    start_run("cartpole", "ppo", folder, "disabled", settings=SETTINGS, **(SIZES | options))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happens to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TensorEnvSpec, "evaluation_episodes", 10)
        patch.setattr(trainer, "_record_episode", lambda *args: None)
        folder = tmp_path_factory.mktemp("runs") / "whole"
        train(folder)
    return folder


def check_same(folder: Path, whole: Path) -> None:
    assert same_weights(folder, whole)
    assert curves(folder) == curves(whole)


def steps_kept(folder: Path) -> list[int]:
    return [int(path.stem) // ITERATION for path in RunFolder(folder).checkpoints()]


def test_copies_of_checkpoints_do_not_push_out_new_ones(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's copies, whose names are after ours in the alphabet, are there to the end."""
    kept: list[list[int]] = []
    save = checkpoints.save

    def save_beside_copies(model: Any, folder: RunFolder) -> None:
        save(model, folder)
        for name in ("keep-1.zip", "keep-2.zip", "keep-3.zip"):
            (folder.checkpoints_folder / name).write_text("a copy")
        kept.append(steps_kept(folder.path))

    monkeypatch.setattr(checkpoints, "save", save_beside_copies)
    train(tmp_path / "run")
    assert kept == [[1], *([n + 1, n] for n in range(1, 10))]
    check_same(tmp_path / "run", whole)
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"keep-1.zip", "keep-2.zip", "keep-3.zip"}


# ------------------------------------------------------------------------------------------- the disk


@contextmanager
def no_space(monkeypatch: pytest.MonkeyPatch, name: str, writes: int) -> Iterator[None]:
    """Files whose names end so can be written so many times; then the disk is full in the middle of one."""
    fdopen, left = os.fdopen, writes

    def open_or_fail(handle: int, *mode: Any) -> Any:
        nonlocal left
        if name in os.path.basename(os.readlink(f"/proc/self/fd/{handle}")):
            left -= 1
            if left < 0:
                os.dup2(os.open("/dev/full", os.O_WRONLY), handle)
        return fdopen(handle, *mode)

    with monkeypatch.context() as patch:
        patch.setattr("os.fdopen", open_or_fail)
        yield


@pytest.mark.parametrize(
    ("name", "writes", "kept"),
    [
        ("0512.zip", 0, []),
        ("model.zip", 4, [5, 4]),
        ("best.zip", 0, [4, 3]),
        ("5120.zip", 0, [9, 8]),
        ("eval.json", 0, [10, 9]),
    ],
)
def test_a_disk_that_fills_up_loses_no_checkpoint(
    name: str, writes: int, kept: list[int], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a checkpoint, the model, the best one, the last files; then there is room, and it goes on."""
    with (
        no_space(monkeypatch, name, writes),
        pytest.raises(RunFailed, match=r"cannot write the file \(No space left on device\)\.") as failure,
    ):
        train(tmp_path / "run", checkpoint_every=ITERATION)
    there = steps_kept(tmp_path / "run")
    assert there == kept
    assert not list((tmp_path / "run").rglob("*.unfinished"))
    if not there:
        assert "There was no checkpoint yet" in str(failure.value)
        return
    assert f"The checkpoint of step {there[0] * ITERATION:,} is kept" in str(failure.value)
    assert f"palaestra train --resume {tmp_path / 'run'}" in str(failure.value)
    resume_run(str(tmp_path / "run"), "disabled")
    check_same(tmp_path / "run", whole)


def test_curves_that_cannot_be_written_stop_the_run_and_lose_no_row(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = csv_logger._csv_writer, 0

    def writer(file: Any) -> Any:
        nonlocal count
        count += 1
        if count == 12:
            file.write("3584,0.5,")
            file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file)

    with monkeypatch.context() as patch:
        patch.setattr(csv_logger, "_csv_writer", writer)
        with pytest.raises(RunFailed, match=r"progress.csv: No space left on device\. The checkpoint of step"):
            train(tmp_path / "run")
    resume_run(str(tmp_path / "run"), "disabled")
    check_same(tmp_path / "run", whole)


def test_a_run_folder_that_vanishes_is_not_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learn = PPO.train

    def vanish_and_learn(self: PPO) -> None:
        if self.num_timesteps == 5 * ITERATION:
            shutil.rmtree(tmp_path / "run")
        learn(self)

    monkeypatch.setattr(PPO, "train", vanish_and_learn)
    with pytest.raises(RunFailed, match=r"run: the run folder has vanished\.$"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_film_that_is_not_whole_is_no_film(
    suffix: str, share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ffmpeg's exit status is lost on the way here; so what it wrote is looked at."""
    frames = [video.np.full((64, 64, 3), 2 * i, dtype=video.np.uint8) for i in range(100)]
    target = tmp_path / f"x{suffix}"
    assert video.write_video(target, frames, 25.0) == 100
    whole = target.read_bytes()
    check = video._check_film

    def cut_and_check(part: Path, count: int, path: Path) -> None:
        part.write_bytes(part.read_bytes()[: int(share * len(whole))])
        check(part, count, path)

    monkeypatch.setattr(video, "_check_film", cut_and_check)
    with pytest.raises(OSError, match="of 100 frames could be written; is the disk full"):
        video.write_video(target, frames, 25.0)
    assert target.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


# ------------------------------------------------------------------------------------------- users


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who may not write where root may; this process imports nothing new meanwhile."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that anybody can reach."""
    folder = Path("/tmp") / f"palaestra-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    yield folder
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    shutil.rmtree(folder)


def test_a_user_who_may_only_read(
    open_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Can evaluate a run; can neither start nor go on with one, and is told so."""
    train(open_folder / "run")
    before = {path: path.read_bytes() for path in (open_folder / "run").rglob("*") if path.is_file()}
    for path in (open_folder, *open_folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    monkeypatch.chdir(open_folder)
    assert _status(monkeypatch, ["watch", "run", "--record", str(tmp_path / "x.png")]) == 0  # imports what it needs
    capsys.readouterr()
    with without_rights():
        evaluate(["run"], episodes=8)
        assert "(8 " in " ".join(capsys.readouterr().out.split())
        with pytest.raises(ConfigError, match=r"cannot make run folder runs/cartpole/ppo/.*: Permission denied"):
            start_run("cartpole", "ppo", None, "disabled", settings=SETTINGS, **SIZES)
        monkeypatch.setattr(RunFolder, "is_finished", lambda *args: False)
        status = _status(monkeypatch, ["train", "--resume", "run", "--track", "disabled"])
        assert status == 2
        assert capsys.readouterr().err == "palaestra: error: cannot work in run: Permission denied\n"
        status = _status(monkeypatch, ["watch", "run", "--record", "run/x.png"])
        assert status == 1
        assert "Permission denied" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (open_folder / "run").rglob("*") if path.is_file()} == before


def _status(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> Any:
    monkeypatch.setattr(sys, "argv", ["palaestra", *words])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code


def test_rights_that_are_lost_in_the_middle(whole: Path, open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a network folder becomes read-only."""
    save = checkpoints.save

    def save_and_lock(model: PPO, run: RunFolder) -> None:
        save(model, run)
        if model.num_timesteps == 5 * ITERATION:
            for folder in (run.path, run.checkpoints_folder):
                folder.chmod(0o555)

    open_folder.chmod(0o777)
    with without_rights(), monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_lock)
        with pytest.raises(
            RunFailed, match=r"cannot write the file \(Permission denied\)\. The checkpoint of step 2,560"
        ):
            train(open_folder / "run")
    for folder in (open_folder / "run", open_folder / "run" / "checkpoints"):
        folder.chmod(0o755)
    resume_run(str(open_folder / "run"), "disabled")
    check_same(open_folder / "run", whole)


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    """The second one leaves everything as it is."""
    train(tmp_path / "run", checkpoint_every="1m")
    (tmp_path / "run" / "eval.json").unlink()  # so that there is something to go on with
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with only_process(tmp_path / "run"):
        second = palaestra(["train", "--resume", str(tmp_path / "run"), "--track", "disabled"])
    assert second.returncode == 2
    assert second.stderr == f"palaestra: error: {tmp_path / 'run'} is in use by another process\n".encode()
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def _laughs() -> bytes:
    """Ten lists of nine times the list before: 2 · 9⁹ values in some lines of YAML."""
    lines = ["a: &a [x, x]"]
    lines += [f"{new}: &{new} [{', '.join(9 * ['*' + old])}]" for old, new in itertools.pairwise("abcdefghij")]
    return "\n".join(lines).encode()


LAUGHS = _laughs()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b"{"),
        ("run.json", b"[]"),
        ("run.json", b"\xff\xfe"),
        ("progress.csv", b"global_step,x\n1,2,3\n"),
        ("progress.csv", b"global_step,x\nabc,2\n"),
        ("progress.csv", b"global_step,x\n1,two\n"),
        ("progress.csv", b"step,x\n1,2\n"),
        ("progress.csv", b"global_step,x\n\n"),
        ("progress.csv", b"\xff\xfe\n"),
        ("config.yaml", b"env: [" * 3000),
        ("config.yaml", LAUGHS),
        ("config.yaml", b"env: " + b"x" * (2 << 20)),
    ],
)
def test_files_of_a_run_that_somebody_has_been_at(
    name: str,
    content: bytes,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A run from a stranger: what is damaged is named, in one line; nothing grows beyond all bounds."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    if name == "progress.csv":
        (folder / "eval.json").unlink()  # so that there is something to go on with
    (folder / name).write_bytes(content)
    started = time.monotonic()
    assert _status(monkeypatch, ["train", "--resume", str(folder), "--track", "disabled"]) == 2
    assert time.monotonic() - started < 10.0
    found = capsys.readouterr().err
    assert found.startswith("palaestra: error: ")
    assert found.count("\n") == 1
    assert name in found
    assert len(found) < 500


# ------------------------------------------------------------------------------------------- clocks and languages


def palaestra(words: list[str], **environ: str | None) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own; None takes a variable away."""
    merged = {**os.environ, "OMP_NUM_THREADS": "1", **environ}
    kept = {name: value for name, value in merged.items() if value is not None}
    return subprocess.run(
        [sys.executable, "-m", "palaestra.train.cli", *words], capture_output=True, env=kept, check=False
    )


def test_a_clock_that_is_set_back_changes_nothing(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour with every look at it, and then by years."""
    now = time.time()

    def earlier() -> float:
        nonlocal now
        now -= 3600.0
        return now

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", earlier)
        patch.setattr(time, "time_ns", lambda: int(earlier() * 1e9))
        train(tmp_path / "run")
    check_same(tmp_path / "run", whole)
    rows = (tmp_path / "run" / "progress.csv").read_text().splitlines()
    column = rows[0].split(",").index("time/fps")
    speeds = [float(row.split(",")[column]) for row in rows[1:-1]]
    assert all(0 < speed < 1e8 for speed in speeds), speeds


WORST = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "HOME": None, "XDG_CACHE_HOME": None}


def test_without_home_and_unicode_in_a_folder_with_spaces_and_umlauts(tmp_path: Path) -> None:
    """Signs that the locale lacks are question marks; paths keep their bytes."""
    folder = tmp_path / "zwei Läufe" / "ø 1"
    folder.parent.mkdir()
    sizes = ["--num-envs", "16", "--total-timesteps", "256", "--set", "n_steps=8", "--set", "batch_size=64"]
    done = palaestra(["train", "snake-small", *sizes, "--run-dir", str(folder), "--track", "offline"], **WORST)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(b"W&B: starting failed (UnicodeEncodeError")  # it takes no such paths
    assert done.stderr.count(b"\n") == 1
    assert f"run folder: {folder}\n".encode() in done.stdout
    assert (folder / "videos" / "final.mp4").is_file()
    listed = palaestra(["envs"], **WORST)
    assert listed.returncode == 0
    assert b"Snake on a 6?6 board" in listed.stdout
    wrong = palaestra(["train", "sn×ke"], **WORST)
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(b"palaestra: error: unknown environment 'sn")
    assert wrong.stderr.count(b"\n") == 1


# ------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("agent", "options", "settings", "message"),
    [
        (
            "ppo",
            {"num_envs": 10**9},
            ["n_steps=1", "batch_size=1000"],
            r"1,000,000,000 environments \(num_envs\) needs",
        ),
        (
            "ppo",
            {"num_envs": 10**4},
            ["n_steps=10000000", "batch_size=1000"],
            r"a rollout of 10,000,000 steps .* \(n_steps\)",
        ),
        ("dqn", {}, ["buffer_size=1000000000000"], r"a replay memory of .* transitions \(buffer_size\) needs"),
    ],
)
def test_what_does_not_fit_into_memory_is_named(
    agent: str, options: dict[str, int], settings: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(RunFailed, match=f"out of memory: {message}.*Lower num_envs"):
        start_run("cartpole", agent, tmp_path / "run", "disabled", settings=settings, **options)
    assert not RunFolder(tmp_path / "run").checkpoints()


def test_a_checkpoint_that_does_not_fit_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the weights alone, with which a run would not go on as it was."""
    (tmp_path / "checkpoints").mkdir()
    model = DQN("MlpPolicy", make("cartpole", 8, "cpu"), buffer_size=100_000, learning_starts=16).learn(64)
    model.save(tmp_path / "model.zip")
    model.save_checkpoint(RunFolder(tmp_path).checkpoint_file(64))
    said: list[str] = []
    monkeypatch.setattr(memory_limits, "_free", lambda device: 2**20)
    with pytest.raises(MemoryError, match=r"a replay memory of 100,008 transitions \(buffer_size\) needs"):
        checkpoints.resumed(DQN, tmp_path, make("cartpole", 8, "cpu"), said.append)
    monkeypatch.undo()
    assert checkpoints.resumed(DQN, tmp_path, make("cartpole", 8, "cpu"), said.append).num_timesteps == 64
    assert said == []
