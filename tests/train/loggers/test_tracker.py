"""Trackers beside W&B: what they show is what progress.csv holds, and none of them stops or delays a run."""

from __future__ import annotations

import csv
import math
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

from palaestra.train.config.schema import ConfigError
from palaestra.train.loggers import tracker as trackers
from palaestra.train.loggers.background import BackgroundLogger
from palaestra.train.loggers.csv_logger import CsvOutput, ScalarRow
from palaestra.train.loggers.tracker import Tracker, trackers_of
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.runs.trainer import check_track


@pytest.fixture(scope="module", autouse=True)
def trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trackio's database is in a folder of ours, whose place it reads as it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        yield


CONFIG = {"env": "cartpole", "seed": 3, "agent_kwargs": {"n_steps": 64, "policy_kwargs": {"net_arch": [16]}}}


def start(folder: Path, track: str, resume_step: int | None = None, warnings: list[str] | None = None) -> Tracker:
    run, told = RunFolder(folder), [] if warnings is None else warnings
    files = {"progress_file": run.progress_file, "id_file": run.wandb_id_file}
    return Tracker.start(folder, CONFIG, track, resume_step=resume_step, warn=told.append, **files)


def log(tracker: Tracker, *steps: int) -> None:
    for step in steps:
        values: dict[str, Any] = {"time/total_timesteps": step, "train/loss": math.sqrt(step), "note": "text"}
        values["train/grad_norm"] = torch.tensor(step / 3)
        for output in tracker.outputs:
            output.write(dict(values), {}, step)


def rows_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and numbers of each column of progress.csv."""
    with RunFolder(folder).progress_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: [(int(row["global_step"]), float(row[name])) for row in rows if row[name]]
        for name in rows[0]
        if name != "global_step"
    }


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds that end white, as an MP4."""
    frames = np.zeros((40, 96, 64, 3), np.uint8)
    frames[-8:] = 255
    iio.imwrite(tmp_path / "film.mp4", frames, fps=20)
    return tmp_path / "film.mp4"


@pytest.mark.parametrize("name", trackers.OTHERS)
def test_packages_have_the_names_of_their_trackers(name: str) -> None:
    assert pytest.importorskip(name).__name__ == name


@pytest.mark.parametrize(
    ("track", "names"),
    [
        ("auto", ("auto", [])),
        ("offline, tensorboard", ("offline", ["tensorboard"])),
        ("tensorboard", ("disabled", ["tensorboard"])),
        ("tensorboard,tensorboard,disabled", ("disabled", ["tensorboard"])),
    ],
)
def test_names(track: str, names: tuple[str, list[str]]) -> None:
    assert trackers_of(track) == names


@pytest.mark.parametrize("track", ["", "wandb", "auto,online", "tensorboard,", "Auto", "mlflow"])
def test_unknown_names_are_refused_before_anything_starts(track: str) -> None:
    with pytest.raises(ConfigError, match=r"^--track .*: expected auto, online, offline or disabled \(Weights"):
        check_track(track)


@pytest.mark.parametrize("name", trackers.OTHERS)
def test_a_tracker_that_is_not_installed_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=f"--track {name} needs a package that is not installed: pip install {name}"):
        check_track(name)


class Failing(BackgroundLogger):
    """A tracker that cannot be opened, or fails at every row, or never answers."""

    service = "Failing"

    def __init__(self, warn: Any, kind: str) -> None:
        super().__init__(warn)
        self.kind, self.seen, self.ended = kind, 0, threading.Event()

    def open(self) -> Any:
        if self.kind == "closed":
            raise RuntimeError("no\nway")
        return self

    def log_row(self, row: ScalarRow, run: Any) -> None:
        if self.kind == "slow":
            self.ended.wait(30)
        self.seen += 1
        raise RuntimeError(f"row {self.seen}")

    def close(self, run: Any) -> None:
        raise RuntimeError("end")


@pytest.mark.parametrize(
    ("kind", "what"), [("closed", "starting failed (RuntimeError: no way)"), ("rows", "logging fail")]
)
def test_what_a_tracker_raises_is_told_once(kind: str, what: str, tmp_path: Path) -> None:
    told: list[str] = []
    failing = Failing(told.append, kind)
    tracker = Tracker(CsvOutput(tmp_path / "progress.csv"), [failing])
    failing.start()
    log(tracker, 1, 2, 3)
    tracker.finish()
    tracker.finish()
    assert [text.startswith(f"Failing: {what}") for text in told] == [True]
    assert told[0].endswith("training goes on, progress.csv has every number")
    assert len(rows_of(tmp_path)["train/loss"]) == 3
    assert failing.seen == (3 if kind == "rows" else 0)


def test_nobody_waits_for_a_tracker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palaestra.train.loggers.background.LONGEST_WAIT", 0.1)
    told: list[str] = []
    slow = Failing(told.append, "slow")
    tracker = Tracker(CsvOutput(tmp_path / "progress.csv"), [slow])
    slow.start()
    began = time.perf_counter()
    log(tracker, 1, 2)
    tracker.finish()
    assert time.perf_counter() - began < 10
    assert told == [
        "Failing: finishing failed (TimeoutError: no answer); training goes on, progress.csv has every number"
    ]
    slow.ended.set()


# ------------------------------------------------------------------------------------------------------- TensorBoard


def events(folder: Path) -> Any:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "tensors": 0, "images": 0})
    return found.Reload()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    found = events(folder)
    return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def same(first: dict[str, list[tuple[int, float]]], second: dict[str, list[tuple[int, float]]]) -> bool:
    """Equal, to the 24 bits that TensorBoard keeps of a number."""
    plain = [{name: [(s, pytest.approx(v, rel=1e-6)) for s, v in rows] for name, rows in second.items()}]
    return [first] == plain


def test_tensorboard_shows_the_rows_of_the_csv(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    tracker = start(tmp_path, "tensorboard")
    log(tracker, 64, 128, 192)
    tracker.log_table("eval/final", ("figure", "value"), [("mean", 4.5), ("a|b", "c")], 192)
    assert tracker.places == [f"tensorboard --logdir {tmp_path / 'tensorboard'}"]
    tracker.finish()
    assert same(scalars(tmp_path), rows_of(tmp_path))
    assert rows_of(tmp_path)["train/loss"] == [(64, 8.0), (128, math.sqrt(128)), (192, math.sqrt(192))]
    (text,) = (one.tensor_proto.string_val[0] for one in events(tmp_path).Tensors("eval/final/text_summary"))
    assert b"| mean | 4.5 |" in text
    assert rb"| a\|b | c |" in text
    (text,) = (one.tensor_proto.string_val[0] for one in events(tmp_path).Tensors("settings/text_summary"))
    assert b"| agent_kwargs.policy_kwargs.net_arch | [16] |" in text


def test_tensorboard_shows_the_film_and_its_last_picture(tmp_path: Path, film: Path) -> None:
    """As pictures, of which a GIF is one; files it has no place for."""
    pytest.importorskip("tensorboard")
    warnings: list[str] = []
    tracker = start(tmp_path, "tensorboard", warnings=warnings)
    tracker.log_video(film, 192)
    tracker.log_page(film, "no page")
    tracker.finish()
    assert warnings == []
    found = events(tmp_path)
    assert sorted(found.Tags()["images"]) == ["eval/picture", "eval/video"]
    (moving,), (still,) = found.Images("eval/video"), found.Images("eval/picture")
    assert [(one.step, one.height, one.width) for one in (moving, still)] == [(192, 96, 64)] * 2
    pictures = iio.imread(moving.encoded_image_string, extension=".gif")
    assert len(pictures) == 20  # ten a second
    assert pictures[0].max() < 20
    assert pictures[-1].min() > 235
    assert iio.imread(still.encoded_image_string).min() > 235


def test_a_film_that_is_none_is_told_and_costs_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "film.mp4").write_bytes(b"no film")
    warnings: list[str] = []
    tracker = start(tmp_path, "tensorboard", warnings=warnings)
    tracker.log_video(tmp_path / "film.mp4", 64)
    log(tracker, 64)
    tracker.finish()
    assert [text.startswith("TensorBoard: writing a video failed") for text in warnings] == [True]
    assert same(scalars(tmp_path), rows_of(tmp_path))


def test_tensorboard_goes_on_where_the_run_does(tmp_path: Path) -> None:
    """What a killed run has logged after its checkpoint is purged, and nothing is there twice."""
    pytest.importorskip("tensorboard")
    tracker = start(tmp_path, "tensorboard")
    log(tracker, 64, 128, 192)
    tracker.finish()
    time.sleep(1.1)  # TensorBoard sorts files by the second in their names
    tracker = start(tmp_path, "tensorboard", resume_step=128)
    log(tracker, 256, 320)
    tracker.finish()
    assert [step for step, _ in rows_of(tmp_path)["train/loss"]] == [64, 128, 256, 320]
    assert same(scalars(tmp_path), rows_of(tmp_path))


# ----------------------------------------------------------------------------------------------------------- Trackio


@pytest.fixture
def trackio() -> Any:
    return pytest.importorskip("trackio", reason="Trackio is not installed (pip install trackio)")


def trackio_rows(trackio: Any, folder: Path) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    name = "/".join(folder.resolve().parts[-3:])
    for row in trackio.SQLiteStorage.get_logs("palaestra", name):
        for key, value in row.items():
            if key not in ("timestamp", "step", "global_step") and isinstance(value, int | float):
                found.setdefault(key, []).append((row["global_step"], float(value)))
    return found


def test_trackio_holds_the_rows_of_the_csv_and_a_run_stays_one(
    trackio: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    warnings: list[str] = []
    tracker = start(folder, "trackio", warnings=warnings)
    log(tracker, 64, 128, 192)
    tracker.log_table("eval/final", ("figure", "value"), [("mean", 4.5)], 192)
    tracker.finish()
    assert trackio_rows(trackio, folder) == rows_of(folder)
    tracker = start(folder, "trackio", resume_step=128, warnings=warnings)
    log(tracker, 192, 256)  # the first of them it has
    tracker.finish()
    assert [step for step, _ in rows_of(folder)["train/loss"]] == [64, 128, 192, 256]
    assert trackio_rows(trackio, folder) == rows_of(folder)
    assert trackio.SQLiteStorage.get_runs("palaestra").count("/".join(folder.resolve().parts[-3:])) == 1
    assert warnings == []
    assert capfd.readouterr() == ("", "")
    assert tracker.places == ["trackio show --project palaestra"]


def test_trackio_keeps_film_picture_table_model_and_page(trackio: Any, tmp_path: Path, film: Path) -> None:
    """Read back as Trackio gives them."""
    folder = tmp_path / "run"
    folder.mkdir()
    page, warnings = tmp_path / "report.html", list[str]()
    page.write_text("<!doctype html><title>a run</title>")
    tracker = start(folder, "trackio", warnings=warnings)
    log(tracker, 192)
    tracker.log_video(film, 192)
    tracker.log_model(film, "palaestra/CartPole-v1-ppo")
    tracker.log_table("eval/final", ("figure", "value"), [("mean", 4.5)], 192)
    tracker.log_page(page, "palaestra/CartPole-v1-ppo-report")
    tracker.finish()
    assert warnings == []
    name = "/".join(folder.resolve().parts[-3:])
    rows = [row for row in trackio.SQLiteStorage.get_logs("palaestra", name) if row["step"] == 192]
    shown = {key: value for row in rows for key, value in row.items() if key.startswith("eval/")}
    assert shown["eval/final"]["_value"] == [{"figure": "mean", "value": 4.5}]
    media = sys.modules["trackio.utils"].MEDIA_DIR
    files = {key: media / shown[key]["file_path"] for key in ("eval/video", "eval/picture")}
    assert files["eval/video"].read_bytes() == film.read_bytes()
    assert iio.imread(files["eval/picture"])[..., :3].min() > 235
    reader = trackio.init(project="palaestra", name="reader", embed=False, auto_log_gpu=False, auto_log_cpu=False)
    for kind, file in {"": film, "-report": page}.items():
        kept = reader.use_artifact(f"palaestra-CartPole-v1-ppo{kind}:latest")
        assert kept.type == (kind.removeprefix("-") or "model")
        assert [one.read_bytes() for one in Path(kept.download(tmp_path / f"got{kind}")).iterdir()] == [
            file.read_bytes()
        ]
    reader.finish()


def test_only_one_file_imports_trackio() -> None:
    root = Path(trackers.__file__).parents[1]
    importers = [p.name for p in root.rglob("*.py") if "import trackio" in p.read_text(encoding="utf-8")]
    assert importers == ["trackio_logger.py"]
