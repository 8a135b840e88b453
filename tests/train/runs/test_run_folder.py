"""The folder of a run: names, reading, finding, and its lock, held by processes that live, are killed or share it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.loggers.metric_names import ITERATION, STEP
from palaestra.train.runs import checkpoints
from palaestra.train.runs.finding import find_model, find_run, find_unfinished, runs_by_age
from palaestra.train.runs.parallel.torchrun import Plan, interrupted_plan
from palaestra.train.runs.run_folder import RunFolder, only_process

OLD_RUN = Path(__file__).parents[2] / "data/runs-885ce09/ppo-cartpole"
HOLD = """
import sys, time
from pathlib import Path
from palaestra.train.runs.run_folder import only_process
with only_process(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A copy of a finished run."""
    return RunFolder(Path(shutil.copytree(OLD_RUN, tmp_path / "run")))


def test_a_finished_run_is_read(run: RunFolder) -> None:
    config = run.config()
    assert config is not None
    assert (config.env, config.agent) == ("palaestra/CartPole-v1", "ppo")
    assert run.facts()["num_timesteps"] == config.total_timesteps
    assert run.evaluation()["episodes"] == 1000
    assert run.model() == run.path / "model.zip"
    assert run.checkpoints() == []
    assert run.is_finished(config)


def test_a_run_is_finished_when_evaluated_without_checkpoints_after_all_steps(run: RunFolder) -> None:
    config = run.config()
    assert config is not None
    facts = run.facts()
    run.facts_file.write_text(json.dumps({**facts, "num_timesteps": config.total_timesteps - 1}))
    assert not run.is_finished(config)
    run.facts_file.write_text(json.dumps(facts))
    run.checkpoints_folder.mkdir()
    (run.checkpoints_folder / "000000000000512.zip").touch()
    assert not run.is_finished(config)
    shutil.rmtree(run.checkpoints_folder)
    run.evaluation_file.unlink()
    assert not run.is_finished(config)


def test_checkpoints_are_files_that_training_has_named(run: RunFolder, tmp_path: Path) -> None:
    run.checkpoints_folder.mkdir()
    for name in ("000000000000512.zip", "000000000001024.zip", "000000000001024.rank1of2"):
        (run.checkpoints_folder / name).touch()
    foreign = ["keep-1.zip", "512.zip", "000000000000512 (copy).zip", "0000000000005120.zip", "notes.txt", "a.rank1of2"]
    for name in foreign:
        (run.checkpoints_folder / name).touch()
    (tmp_path / "000000000009999.zip").touch()
    (run.checkpoints_folder / "000000000009999.zip").symlink_to(tmp_path / "000000000009999.zip")
    assert [path.name for path in run.checkpoints()] == ["000000000001024.zip", "000000000000512.zip"]
    checkpoints.discard(run)
    assert {path.name for path in run.checkpoints_folder.iterdir()} == {*foreign, "000000000009999.zip"}
    assert (tmp_path / "000000000009999.zip").exists()


def test_a_folder_of_checkpoints_goes_with_them(run: RunFolder) -> None:
    run.checkpoints_folder.mkdir()
    for name in ("000000000000512.zip", "000000000000512.rank1of2", ".000000000000512.zip.abc.unfinished"):
        (run.checkpoints_folder / name).touch()
    checkpoints.discard(run)
    assert not run.checkpoints_folder.exists()


def test_a_link_to_checkpoints_is_not_followed(run: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "000000000000512.zip").touch()
    run.checkpoints_folder.symlink_to(elsewhere)
    assert run.checkpoints() == []
    with pytest.raises(ConfigError, match="checkpoints is a link, which is not followed"), run.lock():
        pass
    with pytest.raises(OSError, match="a link is not followed"):
        checkpoints.check_there(run)
    checkpoints.discard(run)
    assert (elsewhere / "000000000000512.zip").exists()


def test_a_restarted_process_begins_anew_only_where_nothing_but_its_own_is(run: RunFolder, tmp_path: Path) -> None:
    """Own files of a run that was killed before its first checkpoint go, whatever else is there stays."""
    config = run.config()
    assert config is not None
    for path in (run.model_file, run.evaluation_file, run.facts_file):
        path.unlink(missing_ok=True)
    (run.path / "notes.txt").touch()
    assert interrupted_plan(config, run) == Plan(config, run)
    assert run.config_file.exists()
    assert (run.path / "notes.txt").exists()
    assert not run.progress_file.exists()
    with pytest.raises(ConfigError, match="with another configuration; a run is never overwritten"):
        interrupted_plan(dataclasses.replace(config, seed=config.seed + 1), run)
    foreign = RunFolder(tmp_path / "project")
    foreign.checkpoints_folder.mkdir(parents=True)
    foreign.wandb_folder.mkdir()
    with pytest.raises(ConfigError, match="without configuration; a run is never overwritten"):
        interrupted_plan(config, foreign)
    assert foreign.checkpoints_folder.is_dir()
    assert foreign.wandb_folder.is_dir()
    empty = RunFolder(tmp_path / "empty")
    empty.path.mkdir()
    (empty.path / ".lock").touch()
    assert interrupted_plan(config, empty) == Plan(config, empty)


def test_evaluations_leave_out_half_a_line_and_the_final_evaluation(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.curves.evaluations() == []
    assert run.curves.best_score() == -float("inf")
    lines = [f"{STEP},{ITERATION},eval/mean_reward", "512,512,", "1024,1024,7.5", "2048,2048,-1", "2048,,99"]
    run.progress_file.write_text("\n".join([*lines, ""]) + "4096,4096,12")
    assert run.curves.evaluations() == [(1024, 7.5, None, None), (2048, -1.0, None, None)]
    assert run.curves.best_score() == 7.5


def test_a_damaged_file_is_named(run: RunFolder) -> None:
    run.facts_file.write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        run.facts()
    run.facts_file.write_text("[]")
    with pytest.raises(ConfigError, match="holds no object"):
        run.facts()
    run.facts_file.unlink()
    assert run.facts() == {}


def test_latest_is_the_newest_with_a_model_and_to_resume_with_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for find, wanted in ((find_model, "model"), (find_unfinished, "checkpoint")):
        with pytest.raises(ConfigError, match=f"no run with a {wanted} below runs/"):
            find("latest")
    runs = [RunFolder(Path("runs/cartpole/ppo") / name) for name in ("b", "c", "a")]
    for age, run in enumerate(runs):
        run.checkpoints_folder.mkdir(parents=True)
        run.config_file.touch()
        os.utime(run.config_file, (1e9 + age, 1e9 + age))
    runs[0].model_file.touch()
    (runs[1].checkpoints_folder / "000000000000512.zip").touch()
    assert find_model("latest") == runs[0].model_file
    assert find_unfinished("latest") == runs[1].path
    assert find_model(str(runs[0].path)) == find_model(str(runs[0].model_file)) == runs[0].model_file
    with pytest.raises(ConfigError, match=r"c holds no model\.zip"):
        find_model(str(runs[1].path))


def test_latest_looks_into_no_more_folders_than_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand runs took seconds: each was asked for its model."""
    monkeypatch.chdir(tmp_path)
    runs = [RunFolder(Path(f"runs/env{i % 3}/ppo/{i:02d}")) for i in range(30)]
    for age, run in enumerate(runs):
        run.path.mkdir(parents=True)
        run.config_file.touch()
        os.utime(run.config_file, (1e9 + age, 1e9 + age))
        if run is not runs[-1]:
            run.model_file.touch()
    Path("runs/env0/notes.txt").touch()
    asked = []
    real = RunFolder.can_go_on
    monkeypatch.setattr(RunFolder, "can_go_on", lambda run, *resume: asked.append(run) or real(run, *resume))
    assert find_run("latest") == runs[-2]
    assert asked == [runs[-1], runs[-2]]


def test_latest_reads_the_disk_in_its_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations are looked at in the order of inodes, since a folder lists its entries in a random one."""
    monkeypatch.chdir(tmp_path)
    for i in range(40):
        run = RunFolder(Path(f"runs/env/ppo/{i * 77 % 40}"))
        run.path.mkdir(parents=True)
        run.config_file.touch()
    Path("runs/env/ppo/notes.txt").touch()
    looked: list[Path] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked.append(Path(path)) or real(path, **options))
    with pytest.raises(ConfigError, match="no run with a model"):
        find_run("latest")
    runs = [path.parent for path in looked if path.name == "config.yaml" and path.parent.parent == Path("runs/env/ppo")]
    assert len(runs) == 41
    inodes = [real(run).st_ino for run in runs]
    assert inodes == sorted(inodes)


def test_latest_takes_a_run_s_start_from_its_name_and_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever later changed their files: among ten thousand that are not in memory one look each took seconds."""
    monkeypatch.chdir(tmp_path)
    named = [RunFolder(Path(f"runs/env{i % 2}/ppo/20260301-1200{i:02d}-s{99 - i}")) for i in range(50)]
    for age, run in enumerate(named):
        run.path.mkdir(parents=True)
        run.model_file.touch()
        run.config_file.touch()
        os.utime(run.config_file, (2e9 - age, 2e9 - age))  # as after a resume with other settings
    looked: list[str] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **options: looked.append(str(path)) or real(path, **options))
    assert find_run("latest") == named[-1]
    assert [path for path in looked if "ppo/2026" in path and "config" in path] == [str(named[-1].config_file)]
    assert [*runs_by_age()] == [str(run.path) for run in named[::-1]]


def test_latest_among_names_that_tell_no_start_or_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of --run-dir began when its configuration was written, which decides within one second too."""
    monkeypatch.chdir(tmp_path)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    at = {
        "any": noon + 5,
        "env/any": noon - 1,
        "env/ppo/20260301-120000-s1": noon + 9.5,  # three of one second
        "env/dqn/20260301-120000-s0": noon + 9.25,
        "env/dqn/20260301-120000-s0.2": noon + 9.75,
        "env/ppo/20260301-115959-s0": noon + 99,
        "env/ppo/20261399-115959-s0": noon + 3,  # no date
        "20260301-130000-s0": noon + 1,  # the others lie at the third level
    }
    for name, when in at.items():
        run = RunFolder(Path("runs", name))
        run.path.mkdir(parents=True)
        run.config_file.touch()
        os.utime(run.config_file, ns=(int(when * 1e9),) * 2)
    Path("runs/env/ppo/20260301-180000-s0/checkpoints").mkdir(parents=True)  # not yet configured
    Path("runs/env/ppo/20260301-190000-s0").touch()
    newest = ["any", "env/ppo/20261399-115959-s0", "20260301-130000-s0", "env/dqn/20260301-120000-s0.2"]
    newest += ["env/ppo/20260301-120000-s1", "env/dqn/20260301-120000-s0", "env/ppo/20260301-115959-s0", "env/any"]
    assert [*runs_by_age()] == [f"runs/{name}" for name in newest]


def test_the_newest_of_an_environment_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the configuration says: folders of --run-dir are called anything, and classes have paths for names."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text("from palaestra.envs.cartpole import CartPole\nclass Mine(CartPole): 'Mine.'\n")
    Path("theirs.py").write_text("raise RuntimeError('a module of another run is imported')\n")
    names = ["palaestra/CartPole-v1", "CartPole-v1", f"'{tmp_path}/mine.py:Mine'", "palaestra/Snake-v0", "theirs:Yours"]
    runs = [RunFolder(Path(f"runs/{'any/' * (i % 3)}{i}")) for i in range(10)]
    for age, run in enumerate(runs):
        run.path.mkdir(parents=True)
        run.config_file.write_text(f"env: {names[age % 5]}\nagent: ppo\n")
        os.utime(run.config_file, (1e9 + age, 1e9 + age))
        if age != 8:
            run.model_file.touch()
    runs[9].config_file.write_text("env: [")  # damaged
    runs[5].best_file.touch()
    same = {"cartpole": 5, "palaestra/CartPole-v1": 5, "CartPole-v1": 6, "gymnasium:CartPole-v1": 6, "mine.py:Mine": 7}
    for name, number in {**same, "snake": 3}.items():
        assert (
            find_model(f"latest:{name}") == find_unfinished(f"latest:{name}") / "model.zip" == runs[number].model_file
        )
    assert find_model("latest:cartpole:best") == find_unfinished("latest:cartpole:best") == runs[5].best_file
    wrong = {
        "latest:cartpol": "unknown environment 'cartpol'; did you mean 'cartpole'",
        "latest:": "name an environment, as in latest:cartpole",
        "latest:pricing": "no run of pricing with a .* below runs/ yet; palaestra train pricing makes one",
        "latest:cartpole:bset": "a run is named latest, latest:ENV or latest:ENV:best",
        "latest:snake:best": r"no runs/.*best\.zip: give a run folder in which evaluations",
    }
    for name, error in wrong.items():
        for find in (find_model, find_unfinished):
            with pytest.raises(ValueError, match=error):
                find(name)


def test_the_newest_of_an_environment_with_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YAML breaks long values at blanks; the first line of such a path looked like all of it."""
    folder = tmp_path / ("long" * 20) / "with blanks in its name"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    Path("mine.py").write_text("from palaestra.envs.cartpole import CartPole\nclass Mine(CartPole): 'Mine.'\n")
    config = resolve_config("mine.py:Mine", "ppo")
    text = config.as_yaml()
    assert text.startswith(f"env: {folder}/mine.py:Mine\nagent: ppo\n")
    broken = yaml.safe_dump(config.as_dict(), sort_keys=False)  # as configurations were written before
    assert broken.startswith(f"env: {folder.parent}/with\n  blanks in its name/mine.py:Mine\n")
    for name, content in {"broken": broken, "whole": text}.items():
        run = RunFolder(Path("runs", name))
        run.path.mkdir(parents=True)
        run.model_file.touch()
        run.config_file.write_text(content)
        assert find_model("latest:mine.py:Mine") == run.model_file
        assert run.config() == config
        run.model_file.unlink()


def test_new_folders_of_one_second_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = resolve_config("cartpole", "ppo")
    paths = [RunFolder.new(config).path for _ in range(3)]
    assert len({*paths}) == 3
    assert {path.parent for path in paths} == {Path("runs/cartpole/ppo")}
    with pytest.raises(ConfigError, match="exists already; a run is never overwritten"):
        RunFolder.new(config, paths[0])


# ------------------------------------------------------------------------------------------- the lock


def held_by_a_process(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_another_process_is_refused_until_it_is_killed(tmp_path: Path) -> None:
    process = held_by_a_process(tmp_path)
    try:
        with pytest.raises(ConfigError, match="is in use by another process"), only_process(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()
    for _ in range(2):
        with RunFolder(tmp_path).lock():
            pass


def test_a_folder_that_is_gone_is_not_made_again(tmp_path: Path) -> None:
    """filelock alone would make it."""
    with pytest.raises(ConfigError, match=r"cannot work in .*gone: No such file"), only_process(tmp_path / "gone"):
        pass
    assert not (tmp_path / "gone").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows had no lock before")
def test_the_lock_is_the_one_of_runs_that_use_flock(tmp_path: Path) -> None:
    """So that two versions of palaestra keep each other out of a folder."""
    import fcntl

    with (tmp_path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(ConfigError, match="is in use"), only_process(tmp_path):
            pass
    with only_process(tmp_path), (tmp_path / ".lock").open("w") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
