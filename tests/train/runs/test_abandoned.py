"""Going on from an earlier file of a run: one line of training is the run's, the other is whole beside it."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from kills import curves, same_weights

from palaestra.agents import PPO
from palaestra.envs.specs import TensorEnvSpec
from palaestra.train.commands.train import resume_run, start_run
from palaestra.train.runs import checkpoints, trainer
from palaestra.train.runs.run_folder import RunFolder

ITERATION = 8 * 64
STEPS = 10 * ITERATION


class Killed(BaseException):
    """As a SIGKILL: nobody catches it."""


@pytest.fixture(autouse=True)
def _short_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorEnvSpec, "evaluation_episodes", 10)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)


def train(folder: Path) -> None:
    sizes = {"num_envs": 64, "total_timesteps": STEPS, "checkpoint_every": ITERATION}
    settings = ["n_steps=8", "batch_size=256", "env.max_episode_steps=40"]
    start_run("cartpole", "ppo", folder, "disabled", settings=settings, **sizes)


def killed_after(monkeypatch: pytest.MonkeyPatch, saves: int, run: Any, *args: Any) -> None:
    """Until that checkpoint is written."""
    save, count = checkpoints.save, 0

    def save_and_die(model: Any, folder: RunFolder) -> None:
        nonlocal count
        save(model, folder)
        count += 1
        if count == saves:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            run(*args)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, one killed after seven of ten iterations, and a copy of its third checkpoint."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TensorEnvSpec, "evaluation_episodes", 10)
        patch.setattr(trainer, "_record_episode", lambda *args: None)
        train(folder / "whole")
        killed_after(patch, 3, train, folder / "killed")
        third = folder / "killed" / "checkpoints" / f"{3 * ITERATION:015d}.zip"
        shutil.copy(third, folder / "third.zip")
        killed_after(patch, 4, resume_run, str(folder / "killed"), "disabled")
    return folder


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(runs / "killed", tmp_path / "run"))


def contents(folder: Path) -> set[str]:
    """Of all files but the curves, which are cut, by digest."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.zip")}


def steps_kept(folder: Path) -> list[int]:
    return [int(path.stem) // ITERATION for path in RunFolder(folder).checkpoints()]


def test_an_older_checkpoint(runs: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends as the run that was left alone; and so does the line that was left, when it is gone on with."""
    source = run / "checkpoints" / f"{6 * ITERATION:015d}.zip"
    assert steps_kept(run) == [7, 6]
    resume_run(str(source), "disabled")
    aside = run / f"abandoned-{7 * ITERATION}"
    assert f"going on from step 3,072; what was trained after it is in {aside}\n" in capsys.readouterr().out
    assert same_weights(run, runs / "whole")
    assert curves(run) == curves(runs / "whole")
    assert steps_kept(aside) == [7]
    resume_run(str(aside), "disabled")
    assert same_weights(aside, runs / "whole")
    assert curves(aside) == curves(runs / "whole")


@pytest.mark.parametrize("place", ["best.zip", "third.zip", "checkpoints/copy.zip"])
def test_the_next_resumption_stays_on_the_line(
    place: str, runs: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints of the new line are kept, though their steps are below those of the other."""
    shutil.copy(runs / "third.zip", run / place)
    before = contents(run)
    killed_after(monkeypatch, 2, resume_run, str(run / place), "disabled")
    assert steps_kept(run)[:2] == [5, 4]
    assert [int(row["global_step"]) // ITERATION for row in curves(run)] == [1, 2, 3, 4, 5]
    capsys.readouterr()
    resume_run(str(run), "disabled")
    assert "going on" not in capsys.readouterr().out
    assert same_weights(run, runs / "whole")
    assert curves(run) == curves(runs / "whole")
    assert steps_kept(run / f"abandoned-{7 * ITERATION}") == [7, 6]
    assert before <= contents(run) | {hashlib.sha256((runs / "third.zip").read_bytes()).hexdigest()}


def test_a_finished_run(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(runs / "whole", tmp_path / "run"))
    shutil.copy(runs / "third.zip", run / "third.zip")
    before = (run / "eval.json").read_bytes(), (run / "model.zip").read_bytes()
    resume_run(str(run / "third.zip"), "disabled")
    aside = run / f"abandoned-{STEPS}"
    assert ((aside / "eval.json").read_bytes(), (aside / "model.zip").read_bytes()) == before
    assert same_weights(run, runs / "whole")
    assert curves(run) == curves(runs / "whole")


@pytest.mark.parametrize("finished", [False, True])
def test_a_kill_between_any_two_files_leaves_a_run_to_go_on_with(
    finished: bool, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file again, which then sets aside the rest; or from the folder."""
    for number in range(20):
        run = Path(shutil.copytree(runs / ("whole" if finished else "killed"), tmp_path / f"run{number}"))
        shutil.copy(runs / "third.zip", run / "third.zip")
        before, left = contents(run), number

        def rename(self: Path, target: Path, real: Any = Path.rename) -> Path:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return real(self, target)

        def learn(self: PPO, *args: Any, **kwargs: Any) -> Any:
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", rename)
            patch.setattr(PPO, "learn", learn)
            with pytest.raises(Killed):
                resume_run(str(run / "third.zip"), "disabled")
        assert before <= contents(run)
        again = Path(shutil.copytree(run, tmp_path / f"again{number}"))
        with monkeypatch.context() as patch:
            patch.setattr(PPO, "learn", learn)
            with contextlib.suppress(Killed):  # it begins, unless it is finished still
                resume_run(str(again), "disabled")
            with pytest.raises(Killed):
                resume_run(str(run / "third.zip"), "disabled")
        assert steps_kept(run) == []
        assert PPO.load(run / "model.zip", device="cpu").num_timesteps == 3 * ITERATION
        assert before <= contents(run)
        if left >= 0:
            return
    raise AssertionError("it moves more and more files")


def test_only_what_the_run_has_written(runs: Path, run: Path, tmp_path: Path) -> None:
    """Copies, other files and links stay where they are."""
    (tmp_path / "mine.json").write_text("{}")
    (run / "eval.json").symlink_to(tmp_path / "mine.json")
    for name in ("checkpoints/keep.zip", "notes.txt", "third.zip"):
        shutil.copy(runs / "third.zip", run / name)
    with pytest.MonkeyPatch.context() as patch:
        killed_after(patch, 1, resume_run, str(run / "third.zip"), "disabled")
    assert all((run / name).is_file() for name in ("checkpoints/keep.zip", "notes.txt", "third.zip"))
    assert (run / "eval.json").is_symlink()


@pytest.mark.parametrize("place", ["model.zip", "newest"])
def test_the_newest_file_sets_nothing_aside(place: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = RunFolder(run).checkpoints()[0]
    if place == "model.zip":  # which is of the iteration before: the kill came between the two
        source.unlink()
        source = run / place
    killed_after(monkeypatch, 1, resume_run, str(source), "disabled")
    assert not list(run.glob("abandoned*"))
    assert steps_kept(run) == ([7, 6] if place == "model.zip" else [8, 7])
