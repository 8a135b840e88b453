"""``palaestra sweep``: the space, the study with fake and real trials, several workers, the outcome to the letter."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("optuna", reason="the extra sweep is not installed")
pytest.importorskip("matplotlib", reason="the extra sweep is not installed")
pytest.importorskip("scipy", reason="the extra sweep is not installed")

import fake_trials
import optuna
import team
from fake_trials import BASE, Launcher, rates, write_run
from forked_command import FORKS
from optuna.trial import TrialState

from palaestra.envs.specs import GymnasiumSpec
from palaestra.train import cli
from palaestra.train.config import AGENTS
from palaestra.train.config.presets import load_presets
from palaestra.train.config.run_config import read_file, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.interruptions import Shown
from palaestra.train.runs.run_folder import RunFolder
from palaestra.train.sweep import reruns, search, study, summary, trial
from palaestra.train.sweep.custom_space import user_space
from palaestra.train.sweep.search_space import Choice, Range, default_space
from palaestra.train.sweep.trial import Evaluated, evaluations, score


def never_waits(patch: pytest.MonkeyPatch) -> None:
    for part in (study, reruns):
        patch.setattr(part, "POLL", 0.0)


def draws_nothing(patch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time of a sweep of few trials."""
    patch.setattr(summary, "draw", lambda *args: [])


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    never_waits(monkeypatch)


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    draws_nothing(monkeypatch)


def trials_of(folder: Path, name: str | None = None) -> list[optuna.trial.FrozenTrial]:
    url = f"sqlite:///{folder / 'sweep.db'}"
    return optuna.load_study(storage=url, study_name=name or f"cartpole/{folder.name}").get_trials()


# ---------------------------------------------------------------------------------------------------- the space


PRESETS = [(env, agent) for agent in AGENTS for env in load_presets(agent) if "/" in env]


@pytest.mark.parametrize(("env", "agent"), PRESETS, ids=str)
def test_the_default_space_holds_the_preset_and_nothing_invalid(env: str, agent: str) -> None:
    base = resolve_config(env, agent)
    space = default_space(base)
    assert space.start is not None
    assert space.config(space.start) == base
    width = () if AGENTS[agent].remembers else ("width",)
    assert {d.name for d in space.dimensions} >= {"learning_rate", "n_steps", *width}
    assert all(d.holds(space.start[d.name]) for d in space.dimensions)
    for number in range(8):  # random points; a wrong one raises
        sampler = optuna.samplers.RandomSampler(seed=number)
        point = space.suggest(optuna.create_study(sampler=sampler).ask())
        config = space.config(point)
        assert config.agent_kwargs["batch_size"] >= 2
        assert set(space.shown(point)) >= {"learning_rate", "batch_size"}


def test_points_become_settings() -> None:
    space = default_space(BASE)  # 1024 × 32 steps in batches of 4096, learning rate linear(2e-3, 0)
    point = {**(space.start or {}), "n_steps": 64, "minibatches": 16, "width": 128, "one_minus_gamma": 0.012344}
    point |= {"learning_rate": 0.00123456}
    kwargs = space.config(point).agent_kwargs
    assert kwargs["batch_size"] == 1024 * 64 // 16
    assert kwargs["policy_kwargs"] == {"net_arch": [128, 128]}
    assert (kwargs["gamma"], kwargs["learning_rate"]) == (0.98766, "linear(0.001235, 0.0)")
    assert space.shown(point)["gamma"] == 0.98766
    schedule = default_space(resolve_config("snake"))
    assert schedule.config({**(schedule.start or {}), "learning_rate": 0.002}).agent_kwargs["learning_rate"] == (
        "linear(0.002, 2e-05)"  # from linear(1e-3, 1e-5): in proportion
    )


def test_what_is_set_does_not_vary() -> None:
    settings = ["learning_rate=1e-3", "batch_size=512", "policy_kwargs.net_arch=[32]", "gamma=0.9"]
    space = search.plan("cartpole", None, settings, ())
    assert {d.name for d in space.dimensions} == {
        *("ent_coef", "clip_range", "n_epochs", "n_steps"),
        "one_minus_gae_lambda",
    }
    assert space.config(space.start or {}).agent_kwargs["gamma"] == 0.9
    assert "one_minus_gamma" not in (default_space(resolve_config("pricing")).start or {})  # γ = 1 stays


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("learning_rate=1e-4..1e-2", Range("learning_rate", 1e-4, 1e-2, log=True)),
        ("clip_range=0.1..0.3", Range("clip_range", 0.1, 0.3, log=False)),
        ("n_epochs=2..8", Range("n_epochs", 2, 8, log=False, whole=True)),
        ("gamma=0.9..0.999", Range("one_minus_gamma", 0.001, 0.1, log=True)),
        ("gamma=0.9..1", Range("gamma", 0.9, 1.0, log=False)),
        ("n_steps=16..64", Choice("n_steps", (16, 32, 64))),
        ("batch_size=8000..40000", Choice("batch_size", (8192, 16384, 32768))),
        ("batch_size=512,1024", Choice("batch_size", (512, 1024))),
        ("learning_rate=linear(1e-3, 0),3e-4", Choice("learning_rate", ("linear(1e-3, 0)", 3e-4))),
        (
            "policy_kwargs.net_arch=[64],{pi: [64, 32], vf: [64]}",
            Choice("policy_kwargs.net_arch", ("[64]", '{"pi": [64, 32], "vf": [64]}')),
        ),
        ("normalize_reward=true,false", Choice("normalize_reward", (True, False))),
    ],
    ids=str,
)
def test_vary(text: str, dimension: Range | Choice) -> None:
    assert user_space(BASE, [text]).dimensions == (dimension,)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["learning_rate"], "--vary learning_rate: expected KEY=LOW..HIGH or KEY=A,B,C"),
        (["learnin_rate=1,2"], "unknown ppo setting 'learnin_rate'; did you mean 'learning_rate'?"),
        (["env.size=6,8"], "--vary env.size=6,8: scores of different tasks do not compare; only agent"),
        (["learning_rate=1e-2..1e-4"], "--vary learning_rate=1e-2..1e-4: expected a number below the second one"),
        (["gamma=0.5..1.5"], "gamma=1.5: must be at least 0 and at most 1"),
        (["policy=a..b"], "--vary policy=a..b: policy is no number; give values with commas"),
        (["gamma=0.9"], "--vary gamma=0.9: expected at least two values, all different"),
        (["gamma=0.9,0.9"], "--vary gamma=0.9,0.9: expected at least two values, all different"),
        (["gamma=0.9,0.8", "gamma=0.9..0.99"], None),
        (["gamma=0.9..0.99", "gamma=0.8..0.9"], "--vary gamma is given twice"),
        (["batch_size=1000,2048"], "--vary with batch_size=1000: batch_size=1000 does not divide num_envs × n_steps"),
        (["n_steps=1,32", "batch_size=512,2048"], "--vary with n_steps=1, batch_size=2048: batch_size=2048 does not"),
        (["batch_size=3..3000", "n_steps=32,64"], None),
        (["policy_kwargs.net_arc=[1],[2]"], "unknown setting 'policy_kwargs.net_arc'; did you mean"),
    ],
)
def test_what_vary_refuses(texts: list[str], message: str | None) -> None:
    if message is None:
        user_space(BASE, texts)
        return
    with pytest.raises(ConfigError) as caught:
        user_space(BASE, texts)
    assert message in str(caught.value)


def test_the_same_key_set_and_varied() -> None:
    with pytest.raises(ConfigError, match="gamma is both set and varied"):
        search.plan("cartpole", None, ["gamma=0.9"], ["gamma=0.9,0.99"])


@given(st.text(alphabet="abgm_=.,-0123456789e[]{}() :", max_size=20))
def test_any_vary_is_understood_or_refused_in_one_line(text: str) -> None:
    for whole in (text, f"gamma={text}", f"n_steps={text}"):
        try:
            space = user_space(BASE, [whole])
        except ConfigError as error:
            lines = str(error).splitlines()
        else:
            lines = space.describe()
        assert len(lines) == 1


@given(st.floats(1e-6, 1.0), st.floats(1e-6, 1.0))
def test_any_range_of_rates(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    if low < high:
        found = user_space(BASE, [f"learning_rate={low!r}..{high!r}"]).dimensions[0]
        assert found == Range("learning_rate", low, high, log=high >= 10 * low)


# ---------------------------------------------------------------------------------------------------- a trial's score


def test_the_score_is_that_of_the_last_evaluations_and_never_the_final_one(tmp_path: Path) -> None:
    write_run(tmp_path, 1000, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], held_out=1e9)
    found = evaluations(tmp_path, 1000)
    assert found == [Evaluated((i + 1) / 10, float(i + 1)) for i in range(10)]
    assert score(found) == 9.0  # of 8, 9, 10
    assert score(found[:3]) == 3.0
    assert score([]) is None
    with (tmp_path / "progress.csv").open("a") as file:
        file.write("1000,1000,7")  # cut off
    assert evaluations(tmp_path, 1000) == found
    assert evaluations(tmp_path / "none", 1000) == []


# ---------------------------------------------------------------------------------------------------- the study


def test_a_sweep_goes_on_and_finds_the_known_best(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, launcher = tmp_path / "s", Launcher(failing=("trial-0002",))
    assert search.sweep(rates(), 6, 1, folder, None, False, launcher)
    first = [fake.folder.name for fake in launcher.made if fake.folder.parent == folder]
    assert first == [f"trial-{i:04d}" for i in range(6)]
    assert launcher.made[0].config.agent_kwargs == BASE.agent_kwargs  # the preset comes first
    assert "\n\nFailed:\n\n* trial 2: it broke\n\n" in capsys.readouterr().out
    seeds = [fake.config.seed for fake in launcher.made if fake.folder.parent == folder]
    assert seeds == list(range(6))
    again = [fake for fake in launcher.made if fake.folder.parent.name == "again"]
    assert {fake.config.seed for fake in again} == {2**31, 2**31 + 1, 2**31 + 2}
    launcher = Launcher()
    assert search.sweep(rates(), 24, 3, folder, None, True, launcher)
    assert sum(fake.folder.parent == folder for fake in launcher.made) == 24 - 6
    found = json.loads((folder / "results.json").read_text())
    assert len(found["trials"]) == 24
    assert [t["trial"] for t in found["trials"] if t["state"] == "failed"] == [2]
    assert found["trials"][-1]["error"] == "it broke"
    finished = [t for t in found["trials"] if t["state"] == "finished"]
    assert finished[0]["score"] == max(t["score"] for t in finished) > 80 * 0.9
    best = resolve_config(file=read_file(folder / "best.yaml"))
    rate = float(best.agent_kwargs["learning_rate"].removeprefix("linear(").partition(",")[0])
    assert abs(math.log10(rate) + 3) <= abs(math.log10(2e-3) + 3)  # at least as near to 1e-3 as the preset
    launcher = Launcher()
    assert search.sweep(rates(), 24, 1, folder, None, False, launcher)
    assert launcher.made == []  # all is there


@pytest.mark.usefixtures("without_pictures")
def test_bad_trials_are_stopped_and_the_first_ones_never(tmp_path: Path) -> None:
    launcher = Launcher()
    search.sweep(rates(), 16, 1, tmp_path / "s", None, False, launcher)
    trials = trials_of(tmp_path / "s")
    assert all(t.state == TrialState.COMPLETE for t in trials[: study.WHOLE])
    stopped = [t for t in trials if t.state == TrialState.PRUNED]
    assert stopped
    for t in stopped:
        assert t.last_step in (2, 4, 8)
        before = [o.intermediate_values[t.last_step] for o in trials if t.last_step in o.intermediate_values]
        assert sum(value > t.intermediate_values[t.last_step] for value in before) >= 1  # never the best of its rung
        assert launcher.made[t.number].stops == 1
    best = max(trials, key=lambda t: t.intermediate_values.get(2, -math.inf))
    assert best.state == TrialState.COMPLETE


def test_an_interrupted_trial_is_put_back_with_its_values_seed_and_folder(tmp_path: Path) -> None:
    storage = study.open_storage(f"sqlite:///{tmp_path / 'sweep.db'}")
    opened = study.open_study(storage, "x", rates(), "here")
    launcher = Launcher()
    worker = study.Worker(opened, storage, rates(), tmp_path, launcher)
    looks = iter([False] * 15 + [True] * 100)
    assert not worker.run(4, 1, lambda: next(looks))
    assert launcher.folders() == ["trial-0000", "trial-0001"]
    assert launcher.made[1].stops == 1
    assert len(study.counted(opened)) == 1
    assert worker.run(4, 1, lambda: False)
    assert launcher.folders()[2:] == ["trial-0001", "trial-0003", "trial-0004"]  # the study's second try has number 2
    assert launcher.made[2].config == launcher.made[1].config
    assert len(study.counted(opened)) == 4


def test_the_trial_of_a_dead_worker_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "GRACE", 1)
    storage = study.open_storage(f"sqlite:///{tmp_path / 'sweep.db'}")
    opened = study.open_study(storage, "x", rates(), "here")
    dead = study.Worker(opened, storage, rates(), tmp_path, Launcher())
    assert dead._start(2)  # and is never heard of again
    launcher, told = Launcher(), []
    monkeypatch.setattr(study, "tell", told.append)
    worker = study.Worker(opened, storage, rates(), tmp_path, launcher)
    assert worker.run(2, 1, lambda: False)
    assert launcher.folders() == ["trial-0001", "trial-0000"]
    assert any("waiting for 1 trial of other workers" in line for line in told)
    dead._look(2)  # it comes back: the trial is another's now
    dead._look(2)
    assert len(study.counted(opened)) == 2


def test_two_workers_on_one_file_make_exactly_as_many_trials_as_wanted(tmp_path: Path) -> None:
    made = FORKS.SimpleQueue()
    file = tmp_path / "sweep.db"
    workers = [FORKS.Process(target=fake_trials.work_on, args=(file, tmp_path, made.put)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert team.wait(workers, 120.0) == [0, 0]
    made_by = [made.get() for _ in workers]
    assert sum(made_by) == 12
    assert min(made_by) > 0
    trials = [t for t in trials_of(tmp_path, "shared") if t.state != TrialState.FAIL]
    assert len(trials) == 12
    assert {t.user_attrs["origin"] for t in trials} == {int(p.name[-4:]) for p in tmp_path.glob("trial-*")}
    assert sum(t.params == rates().start for t in trials) == 1


def test_a_trial_beyond_the_last_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = study.open_study(study.open_storage(f"sqlite:///{tmp_path / 'x.db'}"), "x", rates(), "here")
    real, answers = study.counted, iter([[]])
    monkeypatch.setattr(study, "counted", lambda s: next(answers, None) or real(s))  # as if nobody had begun yet
    for _ in range(3):
        opened.ask()
    assert study.claim(opened, 3, 0) is None
    assert len(real(opened)) == 3


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep over learning rates."""
    folder = tmp_path_factory.mktemp("begun") / "s"
    with pytest.MonkeyPatch.context() as patch:
        never_waits(patch)
        draws_nothing(patch)
        search.sweep(rates(), 1, 1, folder, None, False, Launcher())
    return folder


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            ["learning_rate=1e-5..1e-2"],
            "whose space is learning_rate 1e-05 … 0.1 (log), not learning_rate 1e-05 … 0.01",
        ),
        (["learning_rate=1e-5..1e-1", "gamma=0.9,0.99"], "whose space is less, not gamma 0.9, 0.99"),
    ],
)
def test_a_folder_of_another_sweep(begun: Path, other: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        search.sweep(user_space(BASE, other), 1, 1, begun, None, False, Launcher())
    assert message in str(caught.value)
    changed = replace(BASE, agent_kwargs={**BASE.agent_kwargs, "gamma": 0.5})
    with pytest.raises(ConfigError, match=r"whose agent_kwargs.gamma is 0.98, not 0.5; use"):
        search.sweep(user_space(changed, ["learning_rate=1e-5..1e-1"]), 1, 1, begun, None, False, Launcher())


ARM = """<robot name="a"><link name="base"/>{}<link name="hand"/><joint name="weld" type="fixed"><parent link="c"/>
<child link="hand"/><origin xyz="0 0 0.3"/></joint></robot>"""
LINK = """<link name="{0}"><inertial><origin xyz="0 0 0.2"/><mass value="1"/><inertia ixx="0.01" iyy="0.01" izz="0.01"
ixy="0" ixz="0" iyz="0"/></inertial></link><joint name="to_{0}" type="revolute"><parent link="{1}"/><child link="{0}"/>
<origin xyz="0 0 0.4"/><axis xyz="{2}"/><limit lower="-1.5" upper="1.2" velocity="{3}" effort="40"/></joint>"""


def write_arm(path: Path, velocity: float = 2.0) -> None:
    rows = (("a", "base", "0 0 1"), ("b", "a", "0 1 0"), ("c", "b", "0 1 0"))
    path.write_text(ARM.format("".join(LINK.format(*row, velocity) for row in rows)))


@pytest.mark.usefixtures("few_targets", "without_pictures")
def test_a_sweep_over_a_robot_goes_on_without_its_file_and_tells_another_one_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, away = tmp_path / "home", tmp_path / "away"
    home.mkdir()
    away.mkdir()
    write_arm(home / "arm.urdf")
    launcher = Launcher()
    monkeypatch.setattr(search, "TrialProcess", lambda config, folder, threads: launcher(config, folder))

    def command(trials: int, *more: str) -> int:
        fixed = ["--dir", str(home / "s"), "--total-timesteps", "16384", "--num-envs", "64", *more]
        fixed += ["--set", "batch_size=1024", "--vary", "learning_rate=1e-4..1e-3", "--trials", str(trials)]
        monkeypatch.setattr(sys, "argv", ["palaestra", "sweep", "reach", "--set", "env.robot=arm.urdf", *fixed])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    monkeypatch.chdir(home)
    command(1)
    assert len(trials_of(home / "s", "reach/s")) == 1
    monkeypatch.chdir(away)
    capsys.readouterr()
    command(2)
    assert "error" not in capsys.readouterr().err
    assert len(trials_of(home / "s", "reach/s")) == 2
    assert len(launcher.made) >= 2
    assert all(fake.config.env_kwargs == launcher.made[0].config.env_kwargs for fake in launcher.made)
    assert launcher.made[-1].config.env_kwargs["robot"]["velocity"] == [2.0, 2.0, 2.0]
    for more in (["--agent", "dqn"], ["--set", "gamma=0.9"]):  # another command
        assert command(2, *more) == 2
        assert "arm.urdf: No such file" in capsys.readouterr().err
    write_arm(away / "arm.urdf", 3.0)
    assert command(2) == 2
    error = capsys.readouterr().err
    assert "holds another sweep, whose env_kwargs.robot.assumed.acceleration.to_a is 8.0, not 12.0; use" in error
    assert error.count("\n") == 1
    assert len(error) < 300


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/x.db", "nodb://x", "postgresql+nodriver://h/d"])
def test_a_storage_out_of_reach(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        search.sweep(rates(), 1, 1, tmp_path / "s", url, False, Launcher())
    assert str(caught.value).startswith("the storage cannot be reached: ")
    assert "\n" not in str(caught.value)


def test_without_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"palaestra sweep needs optuna: pip install 'palaestra\[sweep\]'"):
        search.sweep(rates(), 1, 1, tmp_path / "s", None, False, Launcher())


# ---------------------------------------------------------------------------------------------------- the outcome


def test_welch() -> None:
    # means 3 and 1, variances 1 and 1, three each: t = 2 / √(2/3), four degrees of freedom
    assert reruns.chance([2, 3, 4], [0, 1, 2]) == pytest.approx(0.5 - 0.6 * math.sqrt(0.6), rel=1e-6)  # exact
    assert reruns.chance([1, 1], [1, 1]) == 1.0
    assert reruns.chance([2, 2], [1, 1]) == 0.0
    assert reruns.chance([1, 1], [2, 2]) == 1.0
    assert reruns.chance([2], [1, 1]) is None


@pytest.mark.filterwarnings("error")
def test_welch_where_one_side_has_no_spread() -> None:
    # t = 2 with one degree of freedom, which is Cauchy's distribution
    assert reruns.chance([1, 3], [0, 0]) == pytest.approx(0.5 - math.atan(2) / math.pi)
    assert reruns.chance([0, 0], [1, 3]) == pytest.approx(0.5 + math.atan(2) / math.pi)
    assert reruns.chance([0.1] * 3, [0.1] * 3) == 1.0


def candidate(name: str, numbers: list[float]) -> reruns.Candidate:
    return reruns.Candidate(name, {}, BASE, Path("x"), validation=numbers, held_out=numbers)


def test_verdicts() -> None:
    preset = candidate("preset", [10.0, 11.0, 12.0])
    assert reruns.verdict([preset]).startswith("No trial other than the preset was finished")
    worse, clear, close = (
        candidate("w", [1.0, 2.0, 3.0]),
        candidate("c", [20.0, 21.0, 22.0]),
        candidate("n", [11, 12, 13]),
    )
    assert reruns.verdict([preset, worse]).startswith("The preset is not beaten")
    assert reruns.verdict([preset, clear]).startswith("c beats the preset outside noise: held-out mean return 21 ± 1")
    assert reruns.verdict([preset, close]).startswith("n has the best score, but its lead over the preset is within")
    assert reruns.best_of([preset, worse]) is preset
    assert reruns.best_of([preset, worse, clear]) is clear
    edge = candidate("e", [12.0, 13.0, 14.0])  # p = 0.035: enough alone, not as the best of two
    assert "outside noise" in reruns.verdict([preset, edge])
    assert "within noise" in reruns.verdict([preset, edge, worse])


def test_the_files_to_the_letter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "s"
    search.sweep(user_space(BASE, ["learning_rate=1e-5,1e-3"]), 2, 1, folder, None, False, Launcher())
    out = capsys.readouterr().out
    assert out.startswith("# palaestra/CartPole-v1, ppo: 2 trials (2 finished)\n\n| trial")
    assert [cell.strip() for cell in out.splitlines()[2].split("|")[1:-1]] == [
        *("trial", "score", "trained", "learning_rate"),
    ]
    lines = (folder / "trials.csv").read_text().splitlines()
    assert lines[0] == "trial,state,score,trained,preset,error,folder,learning_rate"
    assert len(lines) == 3
    assert out.rstrip() in (folder / "results.md").read_text()
    assert (folder / "history.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "slices.png").is_file()
    assert not (folder / "importance.png").exists()  # two trials say nothing of it
    assert yaml.safe_load((folder / "best.yaml").read_text())["total_timesteps"] == 1000


# ---------------------------------------------------------------------------------------------------- for real

TINY = ["--total-timesteps", "4096", "--num-envs", "32", "--set", "n_steps=8", "--set", "env.max_episode_steps=40"]


def test_real_trials_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reruns, "RUNS", 1)
    for part in (study, reruns):
        monkeypatch.setattr(part, "POLL", 0.1)  # s; who looks all the time takes the processor from the trials
    monkeypatch.chdir(tmp_path)
    vary = ["--vary", "batch_size=64,128", "--set", "n_epochs=1"]
    monkeypatch.setattr(
        sys, "argv", ["palaestra", "sweep", "cartpole", "--trials", "3", "--jobs", "2", *TINY, *vary, "--json"]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    result = json.loads(capsys.readouterr().out)
    assert [t["state"] for t in result["trials"]] == ["finished"] * 3
    for t in result["trials"]:
        run = Path(t["folder"])
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert (config["seed"], config["agent_kwargs"]["batch_size"]) == (t["trial"], t["settings"]["batch_size"])
        assert t["score"] == pytest.approx(score(evaluations(run, 4096)))
        assert (run / "model.zip").is_file()
    assert Path("runs/cartpole/sweeps/ppo/best.yaml").is_file()
    assert [*Path("runs").rglob("*.log")] == []  # nothing went wrong


def test_a_process_that_fails_is_told_and_one_without_worker_stops(tmp_path: Path) -> None:
    config = resolve_config("cartpole", num_envs=32, total_timesteps=10**9, settings=["n_steps=8", "batch_size=64"])
    (tmp_path / "taken").write_text("a file in the way")
    failing = trial.TrialProcess(config, tmp_path / "taken", 1)
    orphan = trial.TrialProcess(config, tmp_path / "orphan", 1)
    killed = trial.TrialProcess(config, tmp_path / "killed", 1)
    os.kill(killed.child.pid, signal.SIGKILL)
    killed.wait()
    assert killed.error() == "killed by SIGKILL (out of memory?)"
    assert not (tmp_path / "killed.log").exists()  # it said nothing
    failing.wait()
    error, log = failing.error() or "", tmp_path / "taken.log"
    assert "taken" in error.removesuffix(f" (log: {log})") != error
    assert log.read_text().startswith("Traceback")
    for _ in range(300):
        if (tmp_path / "orphan" / "progress.csv").is_file():
            break
        time.sleep(0.1)
    assert not orphan.ended()
    pipe = orphan.child._process.stdin
    assert pipe is not None
    pipe.close()  # as when the worker is killed
    assert orphan.child.wait(30) == 0
    assert list((tmp_path / "orphan" / "checkpoints").glob("*.zip"))  # it saved first


NOISY = """
import os
import gymnasium
class Noisy(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)
    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        os.write(1, b"natively\\n")
        return self.observation_space.sample() * 0, {}
    def step(self, action):
        return self.observation_space.sample() * 0, 1.0, True, False, {}
"""


def test_what_environments_print_in_a_trial_is_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    settings = ["n_steps=32", "batch_size=32"]
    config = resolve_config(f"{tmp_path}/noisy.py:Noisy", num_envs=2, total_timesteps=64, settings=settings)
    monkeypatch.setattr(GymnasiumSpec, "evaluation_episodes", 3)
    monkeypatch.setattr(trial, "_stop_without_worker", lambda: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(config.as_dict()) + "\n"))
    monkeypatch.setattr(Shown, "environments", True)
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    trial.main(tmp_path / "run")
    assert RunFolder(tmp_path / "run").is_evaluated()
    assert (tmp_path / "run/env.log").read_text() == "natively\n"
    assert capfd.readouterr().out.splitlines()[0].startswith("ppo on ")  # what the trial's log holds
