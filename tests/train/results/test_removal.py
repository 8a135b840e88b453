"""Deleting runs: what is asked, what goes, and what stays."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest

from palaestra.train import cli
from palaestra.train.config.schema import ConfigError
from palaestra.train.results.removal import contents, removable, remove
from palaestra.train.runs.run_folder import RunFolder, only_process

RUN = Path(__file__).parents[2] / "data/runs-885ce09/ppo-cartpole"
FIRST, SECOND = (f"runs/cartpole/ppo/20260101-00000{i}-s0" for i in (1, 2))


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in (FIRST, SECOND):
        shutil.copytree(RUN, name)


def rm(monkeypatch: pytest.MonkeyPatch, text: str, answer: str | None = None) -> int:
    typed = io.StringIO(answer or "")
    monkeypatch.setattr(typed, "isatty", lambda: answer is not None)
    monkeypatch.setattr(sys, "stdin", typed)
    monkeypatch.setattr(sys, "argv", ["palaestra", "rm", *text.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_it_asks_and_takes_an_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    files = [path for path in Path(SECOND).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    assert rm(monkeypatch, "latest", "n\n") == 0
    out = capsys.readouterr().out
    assert f"Delete {SECOND} ({len(files)} files, {size / 1000:.0f} kB)? [y/N]" in out
    assert out.endswith(f"{SECOND}: kept\n")
    assert Path(SECOND).is_dir()
    assert rm(monkeypatch, "latest", "y\n") == 0
    assert not Path(SECOND).exists()
    assert Path(FIRST).is_dir()
    assert rm(monkeypatch, "latest", "") == 130  # the end of the input is no answer
    assert Path(FIRST).is_dir()


def test_nobody_to_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert rm(monkeypatch, "latest") == 2
    assert "--yes deletes without a question" in capsys.readouterr().err
    assert rm(monkeypatch, "20260101-000001 20260101-000002 latest --yes") == 0
    assert sorted(Path("runs/cartpole/ppo").iterdir()) == []


def test_a_running_one_is_left_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path(FIRST).rglob("*"))
    with only_process(Path(FIRST)):
        assert rm(monkeypatch, f"{FIRST} --yes") == 2
        assert capsys.readouterr().err == f"palaestra: error: {FIRST} is in use by another process\n"
    assert sorted({*Path(FIRST).rglob("*")} - {Path(FIRST, ".lock")}) == before
    assert rm(monkeypatch, f"{FIRST} --yes") == 0


def test_what_is_no_run_is_refused_and_nothing_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("runs/link").symlink_to(Path(FIRST).resolve())
    shutil.copytree(RUN, "runs/outer")
    shutil.copytree(RUN, "runs/outer/inner")
    Path("plain").mkdir()
    before = sorted(tmp_path.rglob("*"))
    for name, message in {
        "runs": "has no config.yaml",
        "plain": "is no run's folder",
        ".": "is no run's folder",
        f"{FIRST}/model.zip": "is a file: name a run's folder",
        "runs/link": "is a link to ",
        "runs/outer": "holds another run, runs/outer/inner",
        "nowhere": "nowhere is not there; palaestra runs lists the runs",
        "20260101": "is the start of 2 runs' names",
        f"{FIRST} nowhere": "nowhere is not there",
    }.items():
        assert rm(monkeypatch, f"{name} --yes") == 2
        assert message in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_links_inside_are_not_followed_and_what_was_set_aside_goes(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    Path(FIRST, "link").symlink_to(kept)
    Path(FIRST, "checkpoints").symlink_to(kept)
    shutil.copytree(RUN, Path(FIRST, "abandoned-512"))
    Path(FIRST, "wandb/run-1/files").mkdir(parents=True)
    Path(FIRST, "wandb/run-1/files/config.yaml").touch()
    remove(removable(FIRST))
    assert not Path(FIRST).exists()
    assert [path.name for path in kept.iterdir()] == ["file"]


def test_a_deletion_that_is_cut_short_can_be_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(FIRST, "videos").mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: (_ for _ in ()).throw(OSError(5, "Input/output error", path)))
        with pytest.raises(OSError, match="Input/output"):
            remove(removable(FIRST))
    assert Path(FIRST, "config.yaml").is_file()
    remove(removable(FIRST))
    assert not Path(FIRST).exists()


def test_sizes_to_the_letter() -> None:
    for path in Path(FIRST).iterdir():
        path.unlink() if path.is_file() else shutil.rmtree(path)
    Path(FIRST, "config.yaml").write_text("x" * 12)
    assert contents(RunFolder(Path(FIRST))) == "1 file, 12 B"


def test_names_begin_so() -> None:
    shutil.copytree(RUN, "runs/cartpole/dqn/20260101-000001-s0")
    shutil.copytree(RUN, f"{FIRST}0")
    for name, path in {
        "20260101-000002": SECOND,
        "ppo/20260101-000001-s0": FIRST,  # a whole name, though another begins with it
        "20260101-000001-s00": f"{FIRST}0",
        "runs/cartpole/dqn/2026": "runs/cartpole/dqn/20260101-000001-s0",
        "dqn/2026": "runs/cartpole/dqn/20260101-000001-s0",
    }.items():
        assert str(removable(name).path) == path
    for name in ("20260101-000001-s0", "2026", "ppo/2026"):
        with pytest.raises(ConfigError, match=r"is the start of \d runs' names"):
            removable(name)
    for name in ("202", "qn/2026", "art", "cartpole", "/2026"):
        with pytest.raises(ConfigError, match="not there"):
            removable(name)
