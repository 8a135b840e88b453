"""Runs that are stopped and go on: the final weights are, to the last bit, those of the run that was left alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from forked_command import ForkedCommand
from kills import curves, same_weights, weights

from palaestra.agents import PPO, CheckpointError
from palaestra.envs.specs import GymnasiumSpec, TensorEnvSpec
from palaestra.train import interruptions
from palaestra.train.commands.train import resume_run as resume
from palaestra.train.commands.train import start_run as train_command
from palaestra.train.config import AGENTS
from palaestra.train.config.schema import ConfigError
from palaestra.train.evaluation import episodes as evaluation
from palaestra.train.interruptions import StopSignal
from palaestra.train.runs import callbacks, checkpoints, trainer
from palaestra.train.runs.run_folder import RunFolder, only_process

TINY = ["n_steps=8", "batch_size=256", "env.max_episode_steps=40"]  # so that evaluations are short
PPO_RUN = ("cartpole", "ppo", 64 * 8 * 40, TINY, 64)
DQN_RUN = ("snake-small", "dqn", 64 * 300, ["learning_starts=1000", "batch_size=128", "buffer_size=5000", TINY[-1]], 64)
PQN_RUN = ("snake-small", "pqn", 64 * 8 * 40, TINY, 64)


@pytest.fixture(autouse=True)
def short_endings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Final evaluations of this process are short and leave no video."""
    monkeypatch.setattr(TensorEnvSpec, "evaluation_episodes", 10)
    monkeypatch.setattr(GymnasiumSpec, "evaluation_episodes", 2)
    monkeypatch.setattr(GymnasiumSpec, "validation_episodes", 2)
    monkeypatch.setattr(trainer, "_record_episode", lambda *args: None)


def command(kind: tuple[Any, ...], folder: Path) -> list[str]:
    env, agent, steps, settings, num_envs = kind
    sets = [part for setting in settings for part in ("--set", setting)]
    size = ["--total-timesteps", str(steps), "--num-envs", str(num_envs), "--checkpoint-every", str(steps // 10)]
    return ["train", env, "--agent", agent, *size, *sets, "--run-dir", str(folder), "--track", "disabled"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_between_iterations_and_nothing_is_lost(number: int, tmp_path: Path) -> None:
    endless = (*PPO_RUN[:2], 100 * PPO_RUN[2], *PPO_RUN[3:])
    process = ForkedCommand(command(endless, tmp_path / "a run"), tmp_path / "log")
    progress = tmp_path / "a run" / "progress.csv"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (progress.exists() and progress.read_text().count("\n") > 2):
        time.sleep(0.01)
    process.send_signal(number)
    status, out = process.wait(60), process.said()
    assert status == 130, out
    assert "stopping after this iteration" in out
    assert f"go on with: palaestra train --resume '{tmp_path / 'a run'}'" in out
    steps = int(curves(tmp_path / "a run")[-1]["global_step"])
    (newest, *_) = RunFolder(tmp_path / "a run").checkpoints()
    assert int(newest.stem) == steps
    assert (tmp_path / "a run" / "model.zip").is_file()


def tiny(folder: Path) -> None:
    sizes = {"num_envs": 64, "total_timesteps": 8 * 64 * 10, "checkpoint_every": 8 * 64}
    train_command("cartpole", "ppo", folder, "disabled", settings=TINY, **sizes)


class Killed(BaseException):
    """As a SIGKILL: nobody catches it."""


@pytest.fixture
def killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that ended without a word after six of its ten evaluations."""
    count = 0
    save = checkpoints.save

    def save_and_die(model: Any, folder: RunFolder) -> None:
        nonlocal count
        save(model, folder)
        count += 1
        if count == 6:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save_and_die)
        with pytest.raises(Killed):
            tiny(tmp_path / "run")
    return tmp_path / "run"


def test_two_checkpoints_are_kept(killed_run: Path) -> None:
    assert [int(path.stem) for path in RunFolder(killed_run).checkpoints()] == [6 * 512, 5 * 512]


def test_a_damaged_checkpoint_is_left_for_the_one_before(killed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest, _ = RunFolder(killed_run).checkpoints()
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content[: len(content) - 100])
    resume(str(killed_run), "disabled")
    out = capsys.readouterr().out
    assert f"{newest.name} is not used: " in out
    tiny(killed_run.parent / "whole")
    theirs = weights(killed_run.parent / "whole")
    assert all(torch.equal(value, theirs[name]) for name, value in weights(killed_run).items())
    assert curves(killed_run) == curves(killed_run.parent / "whole")


def test_without_a_whole_checkpoint_the_weights_are_taken(killed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in RunFolder(killed_run).checkpoints():
        path.write_bytes(b"")
    resume(str(killed_run), "disabled")
    assert "going on from the weights in model.zip: episodes and replay memory begin anew" in capsys.readouterr().out
    assert PPO.load(killed_run / "model.zip", device="cpu").num_timesteps == 8 * 64 * 10


def test_nothing_to_go_on_from(tmp_path: Path, killed_run: Path) -> None:
    for path in (*RunFolder(killed_run).checkpoints(), killed_run / "model.zip"):
        path.unlink()
    with pytest.raises(CheckpointError, match="holds neither a whole checkpoint nor a model"):
        resume(str(killed_run), "disabled")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"has no config.yaml to go on with"):
        resume(str(tmp_path / "empty"), "disabled")
    with pytest.raises(ConfigError, match="no run 'nowhere'"):
        resume("nowhere", "disabled")


def test_best_is_not_forgotten(killed_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations after the resumption that are worse than one before it do not replace best.zip."""
    before, best = (killed_run / "best.zip").read_bytes(), RunFolder(killed_run).curves.best_score()
    assert best > 0
    real = callbacks.evaluate_run

    def worse(*args: Any, **kwargs: Any) -> Any:
        return replace(real(*args, **kwargs), mean=best - 1.0)

    monkeypatch.setattr(callbacks, "evaluate_run", worse)
    resume(str(killed_run), "disabled")
    assert (killed_run / "best.zip").read_bytes() == before


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with (
        only_process(tmp_path / "run"),
        pytest.raises(ConfigError, match="is in use by another process"),
        only_process(tmp_path / "run"),
    ):
        pass
    with only_process(tmp_path / "run"):
        pass


def test_settings_that_do_not_fit_take_the_weights(killed_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load((killed_run / "config.yaml").read_text())
    (killed_run / "config.yaml").write_text(yaml.safe_dump({**config, "num_envs": 32}))
    resume(str(killed_run), "disabled")
    out = capsys.readouterr().out
    assert "is not used" in out
    assert "going on from the weights" in out


def test_the_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(interruptions, "TOGETHER", 0.0)
    before = signal.getsignal(signal.SIGTERM)
    with StopSignal(said.append) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert said == ["stopping; again: at once"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_two_signals_together_are_one() -> None:
    """``timeout`` sends SIGTERM twice, torchrun SIGTERM after SIGINT, a closing terminal SIGHUP twice."""
    said: list[str] = []
    with StopSignal(said.append) as stop:
        for number in interruptions.SIGNALS:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        assert stop.requested
    assert len(said) == 1


def test_what_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal(print) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_process_ends_when_it_is_told_to() -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()

    def work() -> None:
        ready.set()
        time.sleep(60)

    with StopSignal(print):
        process = context.Process(target=work)
        process.start()
        ready.wait(20)
        process.terminate()
        process.join(20)
    assert process.exitcode == -signal.SIGTERM


ENV = """
import gymnasium, numpy as np

class Plain(gymnasium.Env):
    observation_space, action_space = gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.zeros(2, np.float32), float(action), False, self.time == 20, {}
"""


def signal_all(number: int) -> None:
    """As to a group of processes, whose parent hears of it last."""
    for process in multiprocessing.active_children():
        os.kill(process.pid or 0, number)
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("when", "number"),
    [
        ("start", signal.SIGTERM),
        ("training", signal.SIGINT),
        ("training", signal.SIGTERM),
        ("training", signal.SIGHUP),
        ("last iteration", signal.SIGTERM),
        ("evaluation", signal.SIGTERM),
    ],
)
def test_a_signal_to_all_processes_loses_nothing(
    when: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environments' processes get it too; the iteration is finished all the same."""
    (tmp_path / "plain.py").write_text(ENV)
    learn, agent, episodes = PPO.train, trainer._agent, evaluation.run_episodes
    at = {"training": 2 * 32, "last iteration": 4 * 32}.get(when)

    def signalled_learn(self: PPO) -> None:
        if self.num_timesteps == at:
            signal_all(number)
        learn(self)

    def signalled_agent(*args: Any) -> Any:
        signal_all(number)
        return agent(*args)

    def signalled_episodes(*args: Any) -> Any:
        if not (tmp_path / "run" / "eval.json").exists() and args[1].name != "agent":  # the final evaluation
            signal_all(number)
        return episodes(*args)

    with monkeypatch.context() as patch:
        patch.setattr(PPO, "train", signalled_learn)
        if when == "start":
            patch.setattr(trainer, "_agent", signalled_agent)
        if when == "evaluation":
            patch.setattr(evaluation, "run_episodes", signalled_episodes)
        sizes = {"num_envs": 4, "total_timesteps": 128, "device": "cpu"}
        settings = ["n_steps=8", "batch_size=32", "env.vectorization_mode=async"]
        with pytest.raises(KeyboardInterrupt):
            train_command(f"{tmp_path}/plain.py:Plain", "ppo", tmp_path / "run", "disabled", settings=settings, **sizes)
    assert not multiprocessing.active_children()
    out = capsys.readouterr().out
    kept = [int(path.stem) for path in RunFolder(tmp_path / "run").checkpoints()]
    if when == "start":
        assert "interrupted before the first checkpoint" in out
        assert kept == []
        return
    steps = at or 128
    assert f"interrupted after {steps} steps; go on with: palaestra train --resume {tmp_path / 'run'}\n" in out
    assert kept[0] == steps
    resume(str(tmp_path / "run"), "disabled")
    assert RunFolder(tmp_path / "run").is_evaluated()


def test_a_recording_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the last episode; the weights are saved, and going on evaluates them again."""

    def record(policy: Any, config: Any, *rest: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        batch = config.resolved_env.make(1, "cpu")
        policy(batch, batch.reset()[0])

    monkeypatch.setattr(trainer, "_record_episode", record)
    with pytest.raises(KeyboardInterrupt):
        tiny(tmp_path / "run")
    assert "interrupted after 5,120 steps; go on with" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------- checkpoints and files


def saved_at(monkeypatch: pytest.MonkeyPatch, folder: Path, cost: float, **options: Any) -> list[int]:
    """Steps of the checkpoints of a run of 40 iterations of 512 steps, which take a second each by the clock."""
    steps: list[int] = []
    now = 0.0

    def save(model: Any, run_dir: Path) -> None:
        nonlocal now
        steps.append(model.num_timesteps)
        now += cost

    def train(self: PPO) -> None:
        nonlocal now
        now += 1.0

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", save)
        patch.setattr(callbacks.time, "perf_counter", lambda: now)
        patch.setattr(PPO, "train", train)
        sizes = {"num_envs": 64, "total_timesteps": 512 * 40}
        train_command("cartpole", "ppo", folder, "disabled", settings=TINY, **sizes, **options)
    return [count // 512 for count in steps]


@pytest.mark.parametrize(
    ("every", "cost", "expected"),
    [
        (5 * 512, 0.0, [5, 10, 15, 20, 25, 30, 35, 40]),
        (5 * 512 - 1, 0.0, [5, 10, 15, 20, 25, 30, 35, 40]),
        (5 * 512 + 1, 0.0, [6, 11, 16, 21, 26, 31, 36, 40]),
        (100, 9.0, [*range(1, 40), 40]),  # every iteration, as was asked
        ("0.1m", 0.0, [6, 12, 18, 24, 30, 36, 40]),
        ("0.1m", 0.25, [6, 19, 32, 40]),  # a quarter of a second is 2 % of 12.5 s
        ("1m", 0.0, [40]),
    ],
)
def test_when_checkpoints_are_written(
    every: Any, cost: float, expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last is that of the end, before the final evaluation."""
    assert saved_at(monkeypatch, tmp_path / "run", cost, checkpoint_every=every) == expected


def test_a_finished_run_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny(tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")}
    capsys.readouterr()
    resume(str(tmp_path / "run"), "disabled")
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'run'} is finished")
    assert {path: path.read_bytes() for path in (tmp_path / "run").glob("*.*")} == before


@pytest.mark.parametrize("place", ["final_evaluation", "write_facts"])
def test_a_kill_after_training_loses_nothing_of_the_last_row(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trainer, place, die)
        with pytest.raises(Killed):
            tiny(tmp_path / "killed")
    resume(str(tmp_path / "killed"), "disabled")
    tiny(tmp_path / "whole")
    assert curves(tmp_path / "killed") == curves(tmp_path / "whole")
    assert same_weights(tmp_path / "killed", tmp_path / "whole")


REPEATED = {
    "ppo": PPO_RUN,
    "ppo with noise": ("reach", "ppo", 64 * 8 * 10, ["n_steps=8", "batch_size=256", "use_sde=true"], 64),
    "dqn": DQN_RUN,
    "dqn with priorities": ("cartpole", "dqn", 64 * 100, [*DQN_RUN[3], "prioritized_replay=0.6"], 64),
    "pqn": PQN_RUN,
}


@pytest.mark.parametrize("kind", REPEATED.values(), ids=REPEATED)
def test_a_run_is_repeated_from_its_configuration(kind: tuple[Any, ...], tmp_path: Path) -> None:
    """The same seed gives the same weights and curves, another seed gives others."""
    env, agent, steps, settings, num_envs = kind
    sizes = {"num_envs": num_envs, "total_timesteps": min(steps, 64 * 40)}
    train_command(env, agent, tmp_path / "run", "disabled", settings=settings, **sizes)
    torch.manual_seed(123)
    train_command(None, None, tmp_path / "again", "disabled", tmp_path / "run" / "config.yaml")
    assert (tmp_path / "again" / "config.yaml").read_text() == (tmp_path / "run" / "config.yaml").read_text()
    assert same_weights(tmp_path / "run", tmp_path / "again")
    assert curves(tmp_path / "run") == curves(tmp_path / "again")
    train_command(None, None, tmp_path / "other", "disabled", tmp_path / "run" / "config.yaml", seed=1)
    assert not same_weights(tmp_path / "run", tmp_path / "other")


@pytest.mark.parametrize("agent", ["ppo", "dqn", "pqn"])
def test_init_from_begins_with_the_weights(agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"dqn": ["learning_starts=64", "weight_average=0.1"]}.get(agent, ["n_steps=8", "batch_size=256"])
    settings = [*settings, "normalize_observation=true", "symmetry=none"]
    sizes = {"num_envs": 64, "total_timesteps": 8 * 64 * 2, "settings": settings}
    train_command("cartpole", agent, tmp_path / "first", "disabled", **sizes)
    kind = AGENTS[agent]
    began: dict[str, torch.Tensor] = {}

    def learn(self: Any, *args: Any, **kwargs: Any) -> Any:
        began.update({name: value.clone() for name, value in self.policy.state_dict().items()})
        assert self.num_timesteps == 0
        assert not self.policy.optimizer.state
        raise Killed

    monkeypatch.setattr(kind, "learn", learn)
    with pytest.raises(Killed):
        train_command("cartpole", agent, tmp_path / "next", "disabled", init_from=str(tmp_path / "first"), **sizes)
    ours = weights(tmp_path / "first")
    assert began.keys() == ours.keys()
    assert all(torch.equal(value, ours[name]) for name, value in began.items())
    stored = yaml.safe_load((tmp_path / "next" / "config.yaml").read_text())
    assert stored["init_from"] == str(tmp_path / "first" / "model.zip")
    with pytest.raises(CheckpointError, match="policy weights"):
        train_command("snake-small", agent, tmp_path / "x", "disabled", init_from=str(tmp_path / "first"), **sizes)
    with pytest.raises(ConfigError, match="no run 'nowhere'"):
        train_command("cartpole", agent, tmp_path / "y", "disabled", init_from="nowhere", **sizes)
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("kind", [PPO_RUN, DQN_RUN, PQN_RUN], ids=["ppo", "dqn", "pqn"])
def test_deterministic_operations_do_not_change_the_cpus_bits(kind: tuple[Any, ...], tmp_path: Path) -> None:
    env, agent, steps, settings, num_envs = kind
    sizes = {"num_envs": num_envs, "total_timesteps": steps // 5, "settings": settings}
    train_command(env, agent, tmp_path / "a", "disabled", deterministic=True, **sizes)
    assert not torch.are_deterministic_algorithms_enabled()
    train_command(env, agent, tmp_path / "b", "disabled", **sizes)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())["deterministic"] is True
