"""Tracking: what W&B's file holds equals ``progress.csv``, and nothing that wandb does stops a run."""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
import wandb
import wandb_log
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.logger import Logger

from palaestra.train.commands.looking.report import report_after_training
from palaestra.train.config.run_config import resolve_config
from palaestra.train.loggers import wandb_logger
from palaestra.train.loggers.csv_logger import CsvOutput, scalar_row
from palaestra.train.loggers.tracker import Tracker
from palaestra.train.loggers.wandb_logger import resolve_mode
from palaestra.train.runs import trainer
from palaestra.train.runs.run_folder import RunFolder

NO_EXCLUSIONS: dict[str, tuple[str, ...]] = {}


@pytest.fixture(autouse=True)
def own_wandb_settings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No credentials, no settings of the person who runs the tests, and wandb's caches in a folder of ours."""
    for name in list(os.environ):
        if name.startswith("WANDB_") or name == "NETRC":
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    for name, value in clean_environ(home).items():
        monkeypatch.setenv(name, value)
    yield
    wandb.teardown()


def clean_environ(home: Path) -> dict[str, str]:
    folders = {name: str(home) for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR")}
    return {**folders, "OMP_NUM_THREADS": "1"}


def read_csv(path: Path) -> list[dict[str, float]]:
    """The rows, without empty cells."""
    with path.open(newline="") as file:
        return [{key: float(cell) for key, cell in row.items() if cell} for row in csv.DictReader(file)]


def start(run_dir: Path, *args: Any, **options: Any) -> Tracker:
    """Tracking in a run folder."""
    folder = RunFolder(run_dir)
    return Tracker.start(run_dir, *args, progress_file=folder.progress_file, id_file=folder.wandb_id_file, **options)


def wandb_file(tracker: Tracker) -> Path:
    """The run's file, once wandb's process has closed it, which it does some milliseconds after the run is finished."""
    wandb.teardown()
    assert tracker.offline_dir is not None
    return next(tracker.offline_dir.glob("*.wandb"))


def same(a: dict[str, float], b: dict[str, float]) -> bool:
    """Equal keys and values to the last bit, where NaN equals NaN."""
    return a.keys() == b.keys() and all(x == b[key] or (math.isnan(x) and math.isnan(b[key])) for key, x in a.items())


# ------------------------------------------------------------------------------------------------------- csv


def test_csv_known_file(tmp_path: Path) -> None:
    path = tmp_path / "progress.csv"
    output = CsvOutput(path)
    logger = Logger(None, [output])
    logger.record("rollout/ep_rew_mean", 0.1 + 0.2)
    logger.record("time/fps", 1200)
    logger.dump(2048)
    logger.record("train/loss", np.float32(0.1))
    logger.record("time/fps", torch.tensor(7))
    logger.record("note", "no number")
    logger.record("hidden", 1.0, exclude="csv")
    logger.record("only/tensorboard", 2.0, exclude="stdout")
    logger.dump(4096)
    logger.close()
    assert path.read_text() == (
        "global_step,rollout/ep_rew_mean,time/fps,train/loss,only/tensorboard\n"
        "2048,0.30000000000000004,1200,,\n"
        "4096,,7,0.10000000149011612,2.0\n"
    )


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["a/b", "c,d", 'e"f', "g"]), st.floats() | st.integers(-(2**60), 2**60).map(float)
        ),
        max_size=8,
    ),
    cut=st.integers(0, 9),
)
def test_csv_reads_back_to_the_bit_and_resumes(
    rows: list[dict[str, float]], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever keys come when, all values survive; resuming at a step leaves the rows up to it."""
    path = tmp_path_factory.mktemp("csv") / "progress.csv"
    output = CsvOutput(path)
    for step, row in enumerate(rows):
        output.write(row, NO_EXCLUSIONS, step)
    output.close()
    assert all(same(a, {"global_step": i, **b}) for i, (a, b) in enumerate(zip(read_csv(path), rows, strict=True)))
    with path.open("a") as file:
        file.write("3,1.2")  # killed in the middle of a line
    output = CsvOutput(path, resume_step=cut)
    output.write({"new": 1.5}, NO_EXCLUSIONS, 99)
    output.close()
    expected = [{"global_step": float(i), **row} for i, row in enumerate(rows) if i <= cut]
    expected.append({"global_step": 99.0, "new": 1.5})
    assert all(same(a, b) for a, b in zip(read_csv(path), expected, strict=True))


def test_a_resumed_run_makes_the_final_evaluation_again(tmp_path: Path) -> None:
    output = CsvOutput(tmp_path / "progress.csv")
    for step in (10, 20):
        output.write({"time/total_timesteps": step, "train/loss": 0.5}, NO_EXCLUSIONS, step)
    output.write({"eval/mean_reward": 3.0}, NO_EXCLUSIONS, 20)
    output.close()
    CsvOutput(tmp_path / "progress.csv", resume_step=20).close()
    assert [row["time/total_timesteps"] for row in read_csv(tmp_path / "progress.csv")] == [10.0, 20.0]


def test_csv_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "progress.csv").write_text("global_step\n7\n")
    with pytest.raises(FileExistsError):
        CsvOutput(tmp_path / "progress.csv")
    assert (tmp_path / "progress.csv").read_text() == "global_step\n7\n"


def test_csv_survives_a_kill(tmp_path: Path) -> None:
    """Every row that was written before SIGKILL is there, though nothing was closed and columns kept coming."""
    code = f"""
from pathlib import Path
from palaestra.train.loggers.csv_logger import CsvOutput
output = CsvOutput(Path({str(tmp_path)!r}) / "progress.csv")
for step in range(10**9):
    output.write({{"a": step / 3, f"b{{step // 50}}": 1.0}}, {{}}, step)
    print(step, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [int(line) for line in itertools.islice(child.stdout, 230)]
        child.send_signal(signal.SIGKILL)
        seen += [int(line) for line in child.stdout if line.endswith("\n")]
    lines = (tmp_path / "progress.csv").read_text().splitlines()[1:]
    assert [int(line.split(",")[0]) for line in lines[: len(seen)]] == seen
    assert all(float(line.split(",")[1]) == step / 3 for step, line in zip(seen, lines, strict=False))


def test_scalar_row_takes_numbers_only() -> None:
    values = {"a": np.float64(1.5), "b": np.arange(3), "c": torch.tensor(2.0), "d": "x", "e": None, "f": np.array(4)}
    assert scalar_row(values, {"c": ("csv",)}, 8) == {"global_step": 8, "a": 1.5, "f": 4}


# ----------------------------------------------------------------------------------------------------- wandb


def test_offline_file_equals_progress_csv(tmp_path: Path) -> None:
    """Row for row and bit for bit, over many 32 KiB blocks; config, summary, film, picture, table, model and page."""
    config = {"env": {"id": "palaestra/SnakeSmall-v0", "size": 6}, "learning_rate": 3e-4, "layers": [64, 64]}
    tracker = start(tmp_path, config, "offline")
    logger = Logger(None, tracker.outputs)
    rng = np.random.default_rng(0)
    for i in range(400):
        logger.record("rollout/ep_rew_mean", float("nan") if i < 3 else float(rng.normal()))
        logger.record("train/loss", np.float32(rng.normal()))
        logger.record("time/fps", int(rng.integers(10**6)))
        logger.record("note", "x" * 9)
        if i % 50 == 49:
            logger.record("eval/percent_of_optimal", float(rng.uniform()))
        logger.dump(1024 * i)
        if i % 100 == 0:
            tracker.log({"eval/mean_reward": i / 7}, 1024 * i)
    video = tmp_path / "episode.mp4"
    iio.imwrite(video, np.zeros((4, 64, 64, 3), np.uint8), fps=5)
    tracker.log_video(video, 1024 * 400)
    tracker.log_model(video, "palaestra/SnakeSmall-v0 ppo")
    tracker.log_table("eval/final", ("figure", "value"), [("mean", 33.25), ("seed", 0)], 1024 * 400)
    page = tmp_path / "report.html"
    page.write_text("<!doctype html><title>a run</title>")
    tracker.log_page(page, "palaestra/SnakeSmall-v0-ppo-report")
    tracker.finish({"final/mean": 33.25})

    path = wandb_file(tracker)
    assert path.stat().st_size > 2 * wandb_log.BLOCK
    assert {wandb_log.FIRST, wandb_log.LAST} <= {kind for kind, _ in wandb_log.pieces(path.read_bytes())}
    *history, shown, table_row = wandb_log.history(path)
    table = read_csv(tmp_path / "progress.csv")
    assert len(table) == 404
    assert all(same(a, b) for a, b in zip(table, history, strict=True))

    assert shown["global_step"] == 1024 * 400
    files = path.parent / "files"
    assert (files / shown["eval/video/path"]).read_bytes() == video.read_bytes()
    assert iio.imread(files / shown["eval/picture/path"]).shape == (64, 64, 3)
    assert table_row["global_step"] == 1024 * 400
    kept = json.loads((files / table_row["eval/final/path"]).read_text())
    assert (kept["columns"], kept["data"]) == (["figure", "value"], [["mean", 33.25], ["seed", 0]])
    written = wandb_log.config(path)
    assert {key: written[key] for key in config} == config
    assert wandb_log.summary(path)["final/mean"] == 33.25
    records = list(wandb_log.records(path))
    model, report = (wandb_log.artifact(path, kind) for kind in ("model", "report"))
    assert model == ("palaestra-SnakeSmall-v0-ppo", {"episode.mp4": video.read_bytes()})
    assert report == ("palaestra-SnakeSmall-v0-ppo-report", {"report.html": page.read_bytes()})
    axes = {r.metric.name or r.metric.glob_name: r.metric.step_metric for r in records if r.HasField("metric")}
    assert axes["*"] == "global_step"


def test_a_resumed_offline_run_is_whole_in_its_newest_folder(tmp_path: Path) -> None:
    """Killed at step 30 with a checkpoint of step 20, then interrupted at 40 and sent, then finished."""
    first = start(tmp_path, {}, "offline")
    for step in (10, 20, 30):
        first.log({"time/total_timesteps": step, "rollout/ep_rew_mean": float("nan") if step == 10 else step / 7}, step)
    first.finish()
    killed = wandb_file(first)
    second = start(tmp_path, {}, "offline", resume_step=20)
    for step in (30, 40):
        second.log({"time/total_timesteps": step, "train/loss": step / 3}, step)
    second.finish()
    sent = wandb_file(second)
    sent.with_name(f"{sent.name}.synced").touch()  # as `wandb sync` does
    third = start(tmp_path, {}, "offline", resume_step=40)
    third.log({"eval/mean_reward": 1.0}, 40)
    third.finish()

    table = read_csv(tmp_path / "progress.csv")
    assert [row["global_step"] for row in table] == [10, 20, 30, 40, 40]
    for file, count in ((sent, 4), (wandb_file(third), 5)):
        history = wandb_log.history(file)
        assert len(history) == count
        assert all(same(a, b) for a, b in zip(table, history, strict=False))
    folders = {path.relative_to(tmp_path / "wandb") for path in (tmp_path / "wandb").rglob("offline-run-*")}
    assert folders == {Path("earlier", killed.parent.name), Path(sent.parent.name), Path(wandb_file(third).parent.name)}


def test_each_run_has_its_file_where_a_program_changes_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb's process stays in the first run's working directory; run folders are relative by default."""
    for name in ("first", "second"):
        (tmp_path / name / "runs").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / name)
        tracker = start(Path("runs"), {}, "offline")
        tracker.log({"score": 1.0}, 0)
        tracker.finish()
        assert tracker.offline_dir is not None
        assert not tracker.offline_dir.is_absolute()  # as the run folder was given
        assert tracker.offline_dir.is_dir()
    wandb.teardown()
    assert [len(list((tmp_path / name).rglob("*.wandb"))) for name in ("first", "second")] == [1, 1]


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    """The reader checks each piece's checksum, so what it reads is what wandb wrote."""
    tracker = start(tmp_path, {}, "offline")
    tracker.log({"a": 1.0}, 1)
    tracker.finish()
    data = bytearray(wandb_file(tracker).read_bytes())
    data[40] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        list(wandb_log.pieces(bytes(data)))


class Trap:
    """A proxy that answers nobody and counts who calls: what wandb and its Go process send anywhere comes by here."""

    def __init__(self) -> None:
        self.calls = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            connection, _ = self._server.accept()
            connection.close()
            self.calls += 1

    @property
    def environ(self) -> dict[str, str]:
        return {"HTTPS_PROXY": self.url, "HTTP_PROXY": self.url, "https_proxy": self.url, "http_proxy": self.url}


TRACK_THREE_ROWS = """
import json, sys
from pathlib import Path
from palaestra.train.loggers import tracker as trackers, wandb_logger
wandb_logger.INIT_TIMEOUT = 2.0
warnings = []
tracker = trackers.Tracker.start(
    Path("run"), {}, sys.argv[1], progress_file=Path("run/progress.csv"), id_file=Path("run/id"), warn=warnings.append
)
for step in (1, 2, 3):
    tracker.log({"a": step / 3}, step)
tracker.finish()
result = {"warnings": warnings, "dir": str(tracker.offline_dir), "wandb": "wandb" in sys.modules}
Path("result.json").write_text(json.dumps(result))
"""


def track_on_a_terminal(folder: Path, mode: str, trap: Trap, **environ: str) -> tuple[dict[str, Any], str]:
    """Track three rows in a process on a terminal of its own, where wandb could ask; its result and its output."""
    (folder / "run").mkdir()
    master, slave = os.openpty()
    base = {key: value for key, value in os.environ.items() if not key.startswith("WANDB_")}
    child = subprocess.Popen(
        [sys.executable, "-c", TRACK_THREE_ROWS, mode],
        env={**base, **clean_environ(folder / "home"), **trap.environ, **environ},
        cwd=folder,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    try:
        assert child.wait(60) == 0
        os.set_blocking(master, False)
        try:
            output = os.read(master, 65536).decode()
        except (BlockingIOError, OSError):  # nothing was printed
            output = ""
    finally:
        child.kill()
        os.close(master)
    return json.loads((folder / "result.json").read_text()), output


def test_auto_without_login_asks_nobody_and_opens_no_connection(tmp_path: Path) -> None:
    trap = Trap()
    result, output = track_on_a_terminal(tmp_path, "auto", trap)
    assert output == ""
    assert result["warnings"] == []
    assert trap.calls == 0
    history = wandb_log.history(next((tmp_path / result["dir"]).glob("*.wandb")))
    assert history == [{"global_step": step, "a": step / 3} for step in (1, 2, 3)]


def test_auto_with_a_key_and_no_network_goes_offline_in_bounded_time(tmp_path: Path) -> None:
    """The control of the test above: here the trap is called. One warning, and no row is lost."""
    trap = Trap()
    start = time.monotonic()
    result, output = track_on_a_terminal(tmp_path, "auto", trap, WANDB_API_KEY="0" * 40)
    assert time.monotonic() - start < 25
    assert trap.calls > 0
    assert output == ""
    assert len(result["warnings"]) == 1
    assert "no connection" in result["warnings"][0]
    history = wandb_log.history(next((tmp_path / result["dir"]).glob("*.wandb")))
    assert [row["a"] for row in history] == [1 / 3, 2 / 3, 1.0]


def test_disabled_never_imports_wandb(tmp_path: Path) -> None:
    result, output = track_on_a_terminal(tmp_path, "disabled", Trap())
    assert result == {"warnings": [], "dir": "None", "wandb": False}
    assert output == ""
    assert [row["a"] for row in read_csv(tmp_path / "run" / "progress.csv")] == [1 / 3, 2 / 3, 1.0]


class BrokenRun:
    """A run that raises at the methods named."""

    url, id, dir = "https://example.test/run", "abc", "/nowhere/files"

    def __init__(self, *broken: str) -> None:
        self.broken = broken
        self.done: list[str] = []
        self.summary: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> None:
            self.done.append(name)
            if name in self.broken:
                raise wandb.Error(f"{name} is\nbroken")

        return call


@pytest.mark.parametrize("where", ["init", "define_metric", "log", "finish", "log_artifact", "everything"])
def test_wandb_may_raise_anywhere(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ["define_metric", "log", "finish", "log_artifact"] if where == "everything" else [where]

    def init(**kwargs: Any) -> BrokenRun:
        if where == "init":
            raise OSError("disk full")
        return BrokenRun(*broken)

    monkeypatch.setattr(wandb, "init", init)
    warnings: list[str] = []
    tracker = start(tmp_path, {}, "offline", warn=warnings.append)
    for step in range(5):
        tracker.log({"a": 1.0}, step)
    (tmp_path / "model.zip").write_bytes(b"model")
    tracker.log_model(tmp_path / "model.zip", "model")
    tracker.log_video(tmp_path / "missing.mp4", 5)
    tracker.finish({"b": 2.0})
    tracker.finish()
    assert len(warnings) == 1, warnings
    assert "\n" not in warnings[0]
    assert len(read_csv(tmp_path / "progress.csv")) == 5


def test_a_missing_video_costs_no_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One warning; and wandb itself prints nothing."""
    warnings: list[str] = []
    tracker = start(tmp_path, {}, "offline", warn=warnings.append)
    tracker.log({"a": 1.0}, 1)
    tracker.log_video(tmp_path / "missing.mp4", 1)
    tracker.log({"a": 2.0}, 2)
    tracker.finish()
    assert [row["a"] for row in wandb_log.history(wandb_file(tracker))] == [1, 2]
    assert len(warnings) == 1
    assert "video" in warnings[0]
    assert capfd.readouterr() == ("", "")


def test_training_does_not_wait_for_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows logged while the run is still being opened reach it in order."""
    opened, run = threading.Event(), BrokenRun()
    rows: list[dict[str, float]] = []

    def slow_init(**kwargs: Any) -> BrokenRun:
        opened.wait(30)
        run.log = rows.append  # type: ignore[attr-defined]
        return run

    monkeypatch.setattr(wandb, "init", slow_init)
    tracker = start(tmp_path, {}, "offline")
    for step in range(3):
        tracker.log({"a": 0.5}, step)
    assert len(read_csv(tmp_path / "progress.csv")) == 3
    assert rows == []
    opened.set()
    tracker.finish()
    assert rows == [{"global_step": step, "a": 0.5} for step in range(3)]
    assert run.done[-1] == "finish"


def test_a_finished_run_sends_its_page_and_an_interrupted_one_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the trainer's own way: the page is whole when it is sent, so it tells the run's wall time."""
    monkeypatch.setattr(trainer, "RECORDED_STEPS", 20)
    small = ["n_steps=16", "batch_size=64"]
    config = resolve_config("cartpole", "ppo", settings=small, num_envs=8, total_timesteps=512, threads=1)
    result = trainer.train(config, RunFolder.new(config, tmp_path / "run"), "offline", None, report_after_training)
    assert result.report == tmp_path / "run/report.html"
    (place,) = result.curves
    wandb.teardown()
    (file,) = Path(place).glob("*.wandb")
    name, files = wandb_log.artifact(file, "report")
    assert name == "palaestra-CartPole-v1-ppo-report"
    assert files == {"report.html": result.report.read_bytes()}
    assert b'"run_seconds":' in files["report.html"]
    assert {"eval/video/path", "eval/picture/path"} <= {key for row in wandb_log.history(file) for key in row}

    def stopped(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "final_evaluation", stopped)
    result = trainer.train(config, RunFolder.new(config, tmp_path / "cut"), "offline", None, report_after_training)
    assert result.interrupted
    assert result.report is None
    wandb.teardown()
    (file,) = Path(result.curves[0]).glob("*.wandb")
    assert wandb_log.history(file)
    with pytest.raises(LookupError):
        wandb_log.artifact(file, "report")


@pytest.mark.parametrize("source", ["environment", "netrc", "older netrc", "settings"])
def test_auto_is_online_where_a_key_lies_ready(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, home = "1" * 40, Path(os.environ["HOME"])
    if source == "environment":
        monkeypatch.setenv("WANDB_API_KEY", key)
    elif "netrc" in source:
        host = "api.wandb.ai" if "older" in source else wandb.setup().settings.base_url.removeprefix("https://")
        (home / ".netrc").write_text(f"machine {host}\n  login user\n  password {key}\n")
    else:
        (home / "settings").write_text(f"[default]\napi_key = {key}\n")
    wandb.teardown()
    calls: list[dict[str, Any]] = []

    def init(**kwargs: Any) -> BrokenRun:
        calls.append(kwargs)
        return BrokenRun()

    monkeypatch.setattr(wandb, "init", init)
    tracker = start(tmp_path, {"a": 1}, "auto")
    tracker.finish()
    (call,) = calls
    assert call["settings"].api_key == key
    assert (call["mode"], call["resume"], call["config"]) == ("online", None, {"a": 1})
    assert (tracker.url, tracker.offline_dir) == (BrokenRun.url, None)


def test_a_resumed_run_goes_on_with_its_page_and_doubles_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page shows rows up to step 30; the checkpoint is of step 20. The final row has no iteration and step 40."""
    monkeypatch.setenv("WANDB_API_KEY", "1" * 40)
    calls: list[dict[str, Any]] = []
    sent: list[dict[str, Any]] = []

    def init(**kwargs: Any) -> BrokenRun:
        run = BrokenRun()
        run.log = sent.append  # type: ignore[attr-defined]
        run.summary = {"global_step": max(row["global_step"] for row in sent)} if sent else {}
        calls.append(kwargs)
        return run

    monkeypatch.setattr(wandb, "init", init)
    first = start(tmp_path, {}, "online")
    for step in (10, 20, 30):
        first.log({"time/total_timesteps": step}, step)
    first.finish()
    second = start(tmp_path, {}, "online", resume_step=20)
    for step in (30, 40):
        second.log({"time/total_timesteps": step}, step)
    second.log({"eval/mean_reward": 1.0}, 40)
    second.finish()
    assert [row["global_step"] for row in sent] == [10, 20, 30, 40, 40]
    assert [row["global_step"] for row in read_csv(tmp_path / "progress.csv")] == [10, 20, 30, 40, 40]
    assert calls[0]["id"] == calls[1]["id"]
    assert (calls[0]["resume"], calls[1]["resume"]) == (None, "allow")


def offline_part(run_dir: Path, name: str, sent: bool = False) -> None:
    """What an offline part of a run leaves, and `wandb sync` beside it."""
    folder = run_dir / "wandb" / name
    folder.mkdir(parents=True)
    (folder / f"run-{name[-4:]}.wandb").touch()
    if sent:
        (folder / f"run-{name[-4:]}.wandb.synced").touch()


@pytest.fixture
def ids(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pages that are opened online, in order."""
    monkeypatch.setenv("WANDB_API_KEY", "1" * 40)
    found: list[str] = []
    monkeypatch.setattr(wandb, "init", lambda **kwargs: (found.append(kwargs["id"]), BrokenRun("finish"))[1])
    return found


def test_offline_parts_that_a_page_has_got_are_put_away(tmp_path: Path, ids: list[str]) -> None:
    """Else `wandb sync RUN/wandb/offline-run-*` makes a second page of them."""
    offline_part(tmp_path, "offline-run-20260101_100000-aaaa")
    offline_part(tmp_path, "offline-run-20260101_110000-bbbb")
    (tmp_path / "wandb-id.txt").write_text("page")
    start(tmp_path, {}, "online", resume_step=20, warn=lambda text: None).finish()
    assert [path.name[-4:] for path in sorted((tmp_path / "wandb").glob("*/offline-run-*"))] == ["aaaa", "bbbb"]
    assert not list((tmp_path / "wandb").glob("offline-run-*"))
    assert ids == ["page"]


@pytest.mark.parametrize(
    ("parts", "page"),
    [
        ({"offline-run-20260101_100000-aaaa": True, "offline-run-20260101_110000-bbbb": False}, "aaaa"),
        ({"offline-run-20260101_100000-aaaa": True, "offline-run-20260101_110000-bbbb": True}, "bbbb"),
        ({"offline-run-20260101_100000-aaaa": True, "run-20260101_110000-page": False}, "page"),
        ({"run-20260101_100000-page": False, "offline-run-20260101_110000-bbbb": True}, "bbbb"),
        ({"offline-run-today-aaaa": True, "latest-run": False}, "page"),
    ],
)
def test_a_page_that_was_sent_by_hand_goes_on(
    parts: dict[str, bool], page: str, tmp_path: Path, ids: list[str]
) -> None:
    (tmp_path / "wandb-id.txt").write_text("page")
    for name, sent in parts.items():
        offline_part(tmp_path, name, sent)
    start(tmp_path, {}, "online", resume_step=20, warn=lambda text: None).finish()
    assert (ids, (tmp_path / "wandb-id.txt").read_text()) == ([page], page)


def test_parts_that_cannot_be_put_away_are_told_and_hide_no_other_warning(tmp_path: Path, ids: list[str]) -> None:
    offline_part(tmp_path, "offline-run-20260101_100000-aaaa")
    (tmp_path / "wandb/earlier").touch()
    warnings: list[str] = []
    start(tmp_path, {}, "online", resume_step=20, warn=warnings.append).finish()
    assert "earlier (File exists); send the newest only" in warnings[0]
    assert "finishing failed" in warnings[1]
    assert len(warnings) == 2


@pytest.mark.parametrize(
    ("asked", "variable", "meant"),
    [
        ("auto", None, "auto"),
        ("auto", "offline", "offline"),
        ("auto", "dryrun", "offline"),
        ("auto", "online", "online"),
        ("auto", "disabled", "disabled"),
        ("auto", "shared", "auto"),
        ("offline", "online", "offline"),
        ("disabled", "online", "disabled"),
    ],
)
def test_wandb_mode_decides_in_auto(
    asked: str, variable: str | None, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if variable is not None:
        monkeypatch.setenv("WANDB_MODE", variable)
    assert resolve_mode(asked) == meant


def test_an_unknown_mode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="auto, online, offline or disabled"):
        start(tmp_path, {}, "of")
    assert not (tmp_path / "progress.csv").exists()


def test_only_tracking_imports_wandb() -> None:
    root = Path(wandb_logger.__file__).parents[2]
    importers = [
        path.relative_to(root).as_posix()
        for folder in ("envs", "agents", "train")
        for path in (root / folder).rglob("*.py")
        if any(line.split()[:2] in (["import", "wandb"], ["from", "wandb"]) for line in path.read_text().splitlines())
    ]
    assert importers == ["train/loggers/wandb_logger.py"]
