"""Sweeps whose storage is a real PostgreSQL: workers share it, one is killed, and the server goes away."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optuna", reason="the extra sweep is not installed")
pytest.importorskip("psycopg", reason="the extra sweep is not installed")

import fake_trials
import optuna
from fake_trials import Fake, Launcher, rates
from forked_command import FORKS

from palaestra.train.config.run_config import RunConfig
from palaestra.train.config.schema import ConfigError
from palaestra.train.sweep import reruns, search, study

DEBIAN = sorted(str(path.parent) for path in Path("/usr/lib/postgresql").glob("*/bin/initdb"))
INITDB = shutil.which("initdb", path=os.pathsep.join([os.environ["PATH"], *DEBIAN[-1:]]))


class Server:
    """A PostgreSQL of its own, which only this machine reaches, through a file."""

    def __init__(self, folder: Path) -> None:
        assert INITDB is not None
        self.url = f"postgresql://sweeper@/postgres?host={folder}"
        self.binaries, self.folder, self.data = Path(INITDB).resolve().parent, folder, folder / "data"
        # it refuses to run as root, and Debian's package makes a user for it
        self.user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(folder, "postgres", "postgres")
        self._do("initdb", "-D", self.data, "-U", "sweeper", "-A", "trust", "--no-sync", "--no-locale", "-E", "UTF8")

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        self._do("pg_ctl", "start", "-w", "-D", self.data, "-l", self.folder / "log", "-o", options)

    def stop(self) -> None:
        """At once, in the middle of what it does."""
        self._do("pg_ctl", "stop", "-w", "-D", self.data, "-m", "immediate")

    def _do(self, program: str, *arguments: object) -> None:
        command = [str(self.binaries / program), *map(str, arguments)]
        subprocess.run(command, check=True, cwd=self.folder, stdout=subprocess.DEVNULL, timeout=60, **self.user)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if INITDB is None:
        pytest.skip("no PostgreSQL is installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp())  # pytest's own is closed to other users
    try:
        found = Server(folder)
        found.start()
        yield found
        found.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "POLL", 0.01)
    monkeypatch.setattr(reruns, "POLL", 0.0)


def trials_of(server: Server, folder: Path) -> list[optuna.trial.FrozenTrial]:
    storage = study.open_storage(server.url)
    return study.counted(optuna.load_study(storage=storage, study_name=f"cartpole/{folder.name}"))


def trials_made(launcher: Launcher, folder: Path) -> list[str]:
    """Without those of the end, which train the best again."""
    return [fake.folder.name for fake in launcher.made if fake.folder.parent == folder]


# ---------------------------------------------------------------------------------------------------- workers


def test_two_workers_share_the_trials_and_one_is_killed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one makes the rest, and the lost trial again, with its values in its folder."""
    monkeypatch.setattr(study, "GRACE", 8)
    monkeypatch.setattr(study, "HEARTBEAT", 1)
    monkeypatch.setattr(study, "POLL", 0.1)  # s; for the seconds of grace both ask the server again and again
    folder = tmp_path / "shared"
    looks, end = FORKS.Pipe(duplex=False)
    other = FORKS.Process(target=fake_trials.begin_and_never_end, args=(server.url, folder, end.send))
    other.start()
    end.close()
    assert looks.recv() == "trial-0000"
    launcher = Launcher()

    def launch(config: RunConfig, place: Path) -> Fake:
        if len(launcher.made) == 2:
            other.kill()
        return launcher(config, place)

    assert search.sweep(rates(), 6, 1, folder, server.url, False, launch)
    other.join()
    made = trials_made(launcher, folder)
    assert made[:2] == ["trial-0001", "trial-0002"]
    assert sorted(made) == [f"trial-{number:04d}" for number in range(6)]
    trials = trials_of(server, folder)
    assert sorted(study.number_of(trial) for trial in trials) == list(range(6))
    assert [t.params["learning_rate"] for t in trials if study.number_of(t) == 0] == [2e-3]
    assert (folder / "results.md").is_file()


# ---------------------------------------------------------------------------------------------------- the server


def test_a_server_that_is_restarted_is_not_noticed(server: Server, tmp_path: Path) -> None:
    class Interrupted(Fake):
        def ended(self) -> bool:
            if self.folder.name == "trial-0001" and self.looks == 4:
                server.stop()
                server.start()
            return super().ended()

    assert search.sweep(rates(), 3, 1, tmp_path / "restarted", server.url, False, Interrupted)
    assert len(trials_of(server, tmp_path / "restarted")) == 3


def test_a_server_that_goes_away_and_comes_back(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line; then the same command goes on with the sweep, the trial that ran included."""
    monkeypatch.setattr(study, "GRACE", 2)
    made: list[Fake] = []

    class Interrupted(Fake):
        def ended(self) -> bool:
            if self.folder.name == "trial-0001" and self.looks == 4:
                server.stop()
            made.append(self)
            return super().ended()

    with pytest.raises(ConfigError) as caught:
        search.sweep(rates(), 3, 1, tmp_path / "away", server.url, False, Interrupted)
    text = str(caught.value)
    assert text.startswith("the storage failed (")
    assert text.endswith("); the same command goes on with the sweep")
    assert "\n" not in text
    assert made[-1].stops > 0  # it has saved
    with pytest.raises(ConfigError, match=r"^the storage cannot be reached: .*$"):
        search.sweep(rates(), 3, 1, tmp_path / "away", server.url, False, Launcher())
    server.start()
    launcher = Launcher()
    assert search.sweep(rates(), 3, 1, tmp_path / "away", server.url, False, launcher)
    assert sorted(trials_made(launcher, tmp_path / "away")) == ["trial-0001", "trial-0002"]
    assert len(trials_of(server, tmp_path / "away")) == 3


def test_a_missing_driver_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = search.importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "psycopg" else found(name))
    for scheme in ("postgresql", "postgres"):
        with pytest.raises(ConfigError) as caught:
            search.sweep(rates(), 3, 1, tmp_path / "x", f"{scheme}://me:secret@host/db", False, Launcher())
        assert str(caught.value) == f"--storage {scheme}://… needs psycopg: pip install 'palaestra[sweep]'"
