"""``palaestra train --processes K``: the bits of torchrun, one end for all however it comes, and what is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import team
from forked_children import fork_children
from forked_command import ForkedCommand
from kills import curves, same_weights

from palaestra.train.cli import main
from palaestra.train.config.schema import ConfigError
from palaestra.train.runs.parallel import launcher
from palaestra.train.runs.parallel.launcher import LOST, ProcessDiedError, number_of_processes
from palaestra.train.runs.run_folder import RunFolder

ENV = ["--set", "env.max_episode_steps=20"]  # whose evaluations are short
SIZES = ["--num-envs", "32", "--seed", "1", "--checkpoint-every", "1024", "--track", "disabled", "--no-report"]
SETTINGS = [part for setting in ("n_steps=16", "batch_size=256", "n_epochs=2") for part in ("--set", setting)]
STEPS = 16 * 32 * 30


def arguments(run: Path) -> list[str]:
    return ["train", "cartpole", *ENV, *SIZES, *SETTINGS, "--total-timesteps", str(STEPS), "--run-dir", str(run)]


class Command:
    """``palaestra ARGUMENTS`` with forked processes, or as a shell would start it, in a process group of its own."""

    def __init__(self, words: list[str], log: Path, by_shell: bool = False) -> None:
        self.log = log
        self.process: subprocess.Popen[bytes] | ForkedCommand
        if not by_shell:
            self.process = ForkedCommand(words, log, fork_children, evaluations=None)
            return
        program = [sys.executable, "-m", "palaestra.train", *words]
        with log.open("w") as out:
            self.process = subprocess.Popen(program, stdout=out, stderr=subprocess.STDOUT, process_group=0)

    def children(self) -> list[int]:
        """The processes that it has started, in the order of their ranks."""
        pid = self.process.pid
        return sorted(int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def wait_for_checkpoints(self, run: Path) -> list[int]:
        """The :meth:`children`, once there are two checkpoints."""
        deadline = time.monotonic() + 120
        while len(RunFolder(run).checkpoints()) < 2:
            assert time.monotonic() < deadline, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.002)
        return self.children()

    def ends(self) -> int:
        """Its exit status."""
        try:
            return self.process.wait(120)
        finally:
            self.process.kill()

    def said(self) -> str:
        return self.log.read_text()


def are_gone(processes: list[int]) -> bool:
    """True as soon as none of them runs any more; False after a while."""
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not any(Path(f"/proc/{pid}").exists() for pid in processes)


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc tells which processes there are")


@pytest.fixture(scope="module")
def of_torchrun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchrun")
    codes, output = team.command(2, arguments(folder / "run"), folder, evaluations=None)
    assert codes == [0, 0], output
    return folder / "run"


@needs_linux
def test_ctrl_c_saves_once_and_the_run_goes_on_to_the_bits_of_torchrun(of_torchrun: Path, tmp_path: Path) -> None:
    """It reaches every process of the terminal's group."""
    run = tmp_path / "run"
    command = Command([*arguments(run), "--processes", "2"], tmp_path / "log", by_shell=True)
    children = command.wait_for_checkpoints(run)
    os.killpg(command.process.pid, signal.SIGINT)
    assert command.ends() == 130, command.said()
    assert are_gone(children)
    steps = int(RunFolder(run).checkpoints()[0].stem)
    assert f"interrupted after {steps:,} steps; go on with: palaestra train --resume {run}" in command.said()
    assert command.said().count("stopping after this iteration") == 1
    assert "error" not in command.said()
    assert "32 environments in 2 processes on cpu, 1 thread" in command.said()
    again = Command(["train", "--resume", str(run), "--track", "disabled", "--no-report"], tmp_path / "again")
    assert again.ends() == 0, again.said()
    assert "32 environments in 2 processes on cpu, 1 thread" in again.said()
    assert same_weights(run, of_torchrun)
    assert curves(run) == curves(of_torchrun)


@needs_linux
@pytest.mark.parametrize("rank", [0, 1])
def test_a_death_ends_all_with_one_line(rank: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = Command([*arguments(run), "--processes", "2", "-q"], tmp_path / "log")
    children = command.wait_for_checkpoints(run)
    os.kill(children[rank], signal.SIGKILL)
    assert command.ends() == 1
    assert are_gone(children)
    steps = int(RunFolder(run).checkpoints()[0].stem)
    assert command.said().splitlines() == [
        f"palaestra: error: process {rank} of 2 was killed by SIGKILL (out of memory?); go on from step {steps:,} "
        f"with: palaestra train --resume {run}"
    ]


@needs_linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_is_ended_leaves_no_process_and_a_checkpoint(number: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = Command([*arguments(run), "--processes", "2"], tmp_path / "log")
    children = command.wait_for_checkpoints(run)
    os.kill(command.process.pid, number)
    assert command.ends() == (130 if number == signal.SIGTERM else -9)
    assert are_gone(children)
    assert "error" not in command.said()
    newest = RunFolder(run).checkpoints()[0]
    assert f"interrupted after {int(newest.stem):,} steps; go on with" in command.said()
    assert newest.with_suffix(".rank1of2").is_file()


def test_what_one_process_refuses_is_told_once(tmp_path: Path) -> None:
    words = ["--num-envs", "33", "--set", "batch_size=33", "--processes", "2"]
    command = Command([*arguments(tmp_path / "run"), *words], tmp_path / "log")
    assert command.ends() == 2
    assert command.said().startswith("palaestra: error: num_envs=33: 2 processes cannot share them equally")
    assert command.said().count("\n") == 1
    assert not (tmp_path / "run").exists()


# ------------------------------------------------------------------------------------------- without processes


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run that two processes have begun."""
    made = RunFolder(tmp_path / "run")
    made.checkpoints_folder.mkdir(parents=True)
    made.checkpoint_file(1024).touch()
    made.checkpoint_file(1024).with_suffix(".rank1of2").touch()
    return made


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_a_run_goes_on_with_as_many_as_it_began_with(folder: RunFolder) -> None:
    run = str(folder.path)
    assert number_of_processes(None, run, goes_further=False) == 2
    assert number_of_processes(2, run, goes_further=False) == 2
    assert number_of_processes(None, str(folder.checkpoint_file(1024)), goes_further=False) == 2
    with pytest.raises(ConfigError, match=r"--processes 3: .*run was trained by 2 processes; leave --processes out"):
        number_of_processes(3, run, goes_further=False)
    folder.checkpoint_file(1024).with_suffix(".rank1of2").unlink()
    assert number_of_processes(None, run, goes_further=False) == 1
    with pytest.raises(ConfigError, match=r"--processes 2: .*run was trained by 1 process; leave"):
        number_of_processes(2, run, goes_further=False)


def test_a_finished_run_goes_further_as_it_was_trained_or_as_one_says(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"processes": 2}')
    assert number_of_processes(None, str(tmp_path), goes_further=True) == 2
    assert number_of_processes(None, str(tmp_path), goes_further=False) == 1  # it only tells that it is finished
    (tmp_path / "run.json").write_text("{}")
    assert number_of_processes(None, str(tmp_path), goes_further=True) == 1


def test_processes_that_are_too_many_or_torchruns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palaestra.envs.core.host.available_cores", lambda: 2)
    assert number_of_processes(8, None, goes_further=False) == 8
    with pytest.raises(ConfigError, match="--processes 9: at most 8, 4 for each core that this machine lets you use"):
        number_of_processes(9, None, goes_further=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert number_of_processes(None, None, goes_further=False) == 1
    with pytest.raises(ConfigError, match="--processes 2: torchrun has started this process"):
        number_of_processes(2, None, goes_further=False)
    monkeypatch.setenv("PALAESTRA_MEETING", "file")
    assert number_of_processes(2, None, goes_further=False) == 1


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_no_number_of_processes(
    value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["palaestra", "train", "cartpole", f"--processes={value}"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"palaestra: error: --processes {value}: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("statuses", "order", "expected"),
    [
        ([0, 0], [1, 0], 0),
        ([2, 1], [0, 1], 2),  # process 0 refuses, and has told
        ([1, 1, 1], [2, 0, 1], 1),  # one has told, to the others it was told
        ([130, 130], [1, 0], 130),
        ([130, LOST], [0, 1], 130),  # a second Ctrl-C ends process 0 at once
        ([-signal.SIGTERM, LOST], [0, 1], 130),
        ([0, -9], [0], 0),  # a straggler, ended by force
        ([LOST, -9], [1, 0], "process 1 of 2 was killed by SIGKILL (out of memory?); there was no checkpoint yet"),
        ([LOST, 1, -11], [2, 0, 1], "process 2 of 3 was killed by SIGSEGV; there was no checkpoint yet"),
        ([130, -6], [1, 0], "process 1 of 2 was killed by SIGABRT; there was no checkpoint yet"),
        ([LOST, 3], [1, 0], "process 1 of 2 ended without a word, status 3; there was no checkpoint yet"),
        ([-9, LOST], [1], "the 2 processes have lost contact with each other; there was no checkpoint yet"),
    ],
)
def test_one_status_for_all(statuses: list[int], order: list[int], expected: int | str, tmp_path: Path) -> None:
    if isinstance(expected, int):
        assert launcher._status(statuses, order, tmp_path / "none") == expected
        return
    with pytest.raises(ProcessDiedError) as caught:
        launcher._status(statuses, order, tmp_path / "none")
    assert str(caught.value) == expected


@needs_linux
def test_processes_that_do_not_end_are_ended_by_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """One has died; the first hears no SIGTERM, the last nothing at all."""
    monkeypatch.setattr(launcher, "PATIENCE", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        for code in (deaf, "raise SystemExit(3)", deaf)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    started = time.monotonic()
    assert launcher._ended(processes) == ([-9, 3, -9], [1])
    assert time.monotonic() - started < 5.0
    for process in processes:
        assert process.stdout is not None
        process.stdout.close()
