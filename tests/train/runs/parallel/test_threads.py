"""Threads of a run: tried out, decided, recorded, the same when it goes on; stalls are told."""

from __future__ import annotations

import itertools
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from gymnasium import spaces

from palaestra.agents import PPO
from palaestra.train.commands.train import resume_run as resume
from palaestra.train.commands.train import start_run as train
from palaestra.train.config import AGENTS
from palaestra.train.config.run_config import RunConfig, resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.interruptions import Stopped
from palaestra.train.players import find_player
from palaestra.train.results.grid import GridRun, is_finished
from palaestra.train.runs import trainer
from palaestra.train.runs.parallel import threads
from palaestra.train.runs.parallel.threads import StandIn, Trial, chosen_threads
from palaestra.train.runs.run_folder import RunFolder

TINY = {"num_envs": 32, "total_timesteps": 768, "settings": ["n_steps=8", "batch_size=64"]}  # three rollouts
STEPS = {"n_steps": 8, "batch_size": 64}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Four cores, where nobody has decided for a number of threads."""
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    torch.set_num_threads(4)
    yield monkeypatch
    torch.set_num_threads(before)


@pytest.fixture
def tried(machine: pytest.MonkeyPatch) -> dict[tuple[int, int], float]:
    """Ratios of speeds that trials find, to be filled in; nothing is really trained."""
    ratios: dict[tuple[int, int], float] = {}

    class Made:
        seconds = 0.0

        def __init__(self, *args: Any) -> None: ...

        def seconds_for(self, steps: int) -> float:
            return steps / 1000.0

        def ratio(self, fewer: int, more: int) -> float:
            return ratios[fewer, more]

    machine.setattr(threads, "Trial", Made)
    return ratios


def config(**changes: Any) -> RunConfig:
    return replace(resolve_config("cartpole", device="cpu"), **changes)


def chosen(of: RunConfig, resumed: bool = False) -> tuple[int, str]:
    with chosen_threads(of, resumed, lambda: None) as (found, choice):
        assert found.threads == torch.get_num_threads()
        assert found == replace(of, threads=found.threads)
    assert torch.get_num_threads() == 4
    return found.threads, choice.remark


@pytest.mark.parametrize(
    ("ratios", "best"),
    [
        ({(1, 2): 0.2}, 1),
        ({(1, 2): 1.04}, 1),
        ({(1, 2): 1.06, (2, 4): 1.0}, 2),
        ({(1, 2): 1.9, (2, 4): 1.7}, 4),
    ],
)
def test_threads_are_doubled_while_that_pays(
    tried: dict[tuple[int, int], float], ratios: dict[tuple[int, int], float], best: int
) -> None:
    tried.update(ratios)
    found, remark = chosen(config())
    assert found == best
    fewer, more = list(ratios)[-1]
    told = f"{more} threads are {ratios[fewer, more]:.2g} times as fast as {fewer}"
    assert ("1 thread is 5 times as fast as 2" if ratios[fewer, more] < 1.0 else told) in remark


def test_three_cores_are_two_and_three_threads(
    tried: dict[tuple[int, int], float], machine: pytest.MonkeyPatch
) -> None:
    machine.setattr(threads, "available_cores", lambda: 3)
    tried.update({(1, 2): 1.9, (2, 3): 1.4})
    assert chosen(config())[0] == 3


def test_a_short_run_takes_one_thread(tried: dict[tuple[int, int], float]) -> None:
    tried.update({(1, 2): 1.9, (2, 4): 1.9})
    assert chosen(config(total_timesteps=9_000)) == (1, "")
    assert chosen(config(total_timesteps=11_000))[0] == 4


def test_others_decide(tried: dict[tuple[int, int], float], machine: pytest.MonkeyPatch) -> None:
    assert chosen(config(threads=3)) == (3, "")
    assert chosen(config(threads=5)) == (5, "5 threads wait for each other on 4 cores: --threads 4 is faster")
    assert chosen(config(), resumed=True) == (4, "")
    assert chosen(config(threads=2), resumed=True) == (2, "")
    machine.setenv("OMP_NUM_THREADS", "4")
    assert chosen(config()) == (4, "")
    assert chosen(config(threads=2)) == (2, "")
    machine.delenv("OMP_NUM_THREADS")
    machine.setattr(threads, "resolve_device", lambda name: torch.device("cuda"))
    assert chosen(config()) == (4, "")
    machine.setattr(threads, "process_group", lambda: SimpleNamespace(size=2))
    machine.setattr(threads, "resolve_device", lambda name: torch.device("cpu"))
    assert chosen(config()) == (4, "")
    machine.setenv("LOCAL_WORLD_SIZE", "3")
    assert chosen(config(threads=1)) == (1, "")
    said = "3 processes of 2 threads wait for each other on 4 cores: fewer are faster"
    assert chosen(config(threads=2)) == (2, said)


def test_turns_are_measured_one_after_the_other(machine: pytest.MonkeyPatch) -> None:
    """An agent that learns 1,000 steps a second per thread, but none faster than 2,000."""
    clock = [0.0]
    used: list[int] = []

    def learn(steps: int, reset_num_timesteps: bool) -> None:
        steps = max(steps, 10)
        used.append(torch.get_num_threads())
        agent.num_timesteps += steps
        agent._n_updates += 1
        clock[0] += steps / min(2000.0, 1000.0 * torch.get_num_threads())

    agent: Any = SimpleNamespace(num_timesteps=0, _n_updates=0, learn=learn)
    machine.setattr(threads.time, "perf_counter", lambda: clock[0])
    asked: list[None] = []
    trial = Trial(agent, lambda: asked.append(None))
    assert trial.ratio(1, 2) == pytest.approx(2.0)
    assert trial.ratio(2, 4) == pytest.approx(1.0)
    assert trial.seconds_for(500) == pytest.approx(0.25)
    changes = [count for place, count in enumerate(used) if place == 0 or used[place - 1] != count]
    assert changes == [1, 2, 1, 2, 1, 2, 1, 2, 4, 2, 4, 2, 4, 2, 4]
    assert len(asked) == len(used)
    assert trial.seconds == pytest.approx(clock[0])


def test_slow_iterations_are_compared_once(machine: pytest.MonkeyPatch) -> None:
    """A CNN whose iterations take 20 s with one thread and 11 s with two; nobody waits for a third comparison."""
    clock, used = [0.0], []

    def learn(steps: int, reset_num_timesteps: bool) -> None:
        used.append(torch.get_num_threads())
        agent.num_timesteps, agent._n_updates = agent.num_timesteps + 100, 1
        clock[0] += {1: 20.0, 2: 11.0, 4: 6.0}[used[-1]]

    agent: Any = SimpleNamespace(num_timesteps=0, _n_updates=0, learn=learn)
    machine.setattr(threads.time, "perf_counter", lambda: clock[0])
    machine.setattr(threads, "_throw_away_agent", lambda *args: agent)
    found, remark = chosen(config())
    assert found == 2
    assert used == [1, 2, 1, 2]
    assert "2 threads are 1.8 times as fast as 1 (" in remark


@pytest.mark.parametrize("agent", list(AGENTS))
def test_nothing_but_the_number_is_left_of_a_trial(machine: pytest.MonkeyPatch, agent: str) -> None:
    machine.setattr(threads, "SHORT", 0.0)
    machine.setattr(threads, "TURN", 0.01)
    machine.setattr(threads, "available_cores", lambda: 2)
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1]
    name = "cartpole" if AGENTS[agent].can_act(spaces.Discrete(2)) else "reach"
    assert chosen(resolve_config(name, agent, device="cpu"))[0] in (1, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert (np.random.get_state()[1] == before[2]).all()


def test_a_run_after_a_trial_has_the_bits_of_a_run_without(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SHORT", "TURN"):
        machine.setattr(threads, name, 0.0)
    machine.setattr(threads, "WORTH_IT", 100.0)  # one thread wins
    train("cartpole", "ppo", tmp_path / "tried", "disabled", **TINY)
    train("cartpole", "ppo", tmp_path / "told", "disabled", threads=1, **TINY)
    first, second = (PPO.load(tmp_path / name / "model.zip").policy.state_dict() for name in ("tried", "told"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert RunFolder(tmp_path / "tried").config() == RunFolder(tmp_path / "told").config()


@pytest.mark.parametrize(
    ("agent", "num_envs", "given", "expected"),
    [
        ("ppo", 32, {"n_steps": 8, "batch_size": 64}, {"n_steps": 2}),
        ("ppo", 32, {"n_steps": 9, "batch_size": 96}, {"n_steps": 3}),
        ("ppo", 1, {"n_steps": 64, "batch_size": 64}, {"n_steps": 64}),
        ("pqn", 128, {"n_steps": 8, "batch_size": 64}, {"n_steps": 1}),
        (
            "dqn",
            32,
            {"n_steps": 3, "buffer_size": 1000, "learning_starts": 999},
            {"learning_starts": 128, "buffer_size": 1000},
        ),
        ("dqn", 4, {"learning_starts": 5}, {"learning_starts": 5, "buffer_size": 16384}),
    ],
)
def test_iterations_of_a_trial(agent: str, num_envs: int, given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert threads._shortened(AGENTS[agent], given, num_envs) == expected


class Mixed(gymnasium.Env[Any, Any]):
    """A dictionary with an image and a choice; every action costs something."""

    observation_space = spaces.Dict(
        {"image": spaces.Box(0, 255, (36, 36, 3), np.uint8), "where": spaces.Discrete(3, start=2)}
    )
    action_space = spaces.Discrete(2, start=1)
    opened: ClassVar[int] = 0

    def __init__(self) -> None:
        type(self).opened += 1

    def reset(self, **kwargs: Any) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        return self.observation_space.sample(), -1.0, False, True, {}


CHOICES = [agent for agent, kind in AGENTS.items() if kind.can_act(spaces.Discrete(2))]
STOOD_IN_FOR = [  # every agent, and every kind of space with an agent that keeps rollouts and one that keeps a memory
    *(("CartPole-v1", agent) for agent in CHOICES),
    *(("Pendulum-v1", agent) for agent in AGENTS if agent == "ppo" or agent not in CHOICES),
    *((env, agent) for env in ("Taxi-v4", f"{__name__}:Mixed") for agent in ("ppo", "dqn")),
]


@pytest.mark.parametrize(("env", "agent"), STOOD_IN_FOR)
def test_other_environments_are_stood_in_for(machine: pytest.MonkeyPatch, env: str, agent: str) -> None:
    machine.setattr(threads, "SHORT", 0.0)
    machine.setattr(threads, "TURN", 0.0)
    of = resolve_config(env, agent, device="cpu", num_envs=4)
    assert threads.spaces_of(of.resolved_env, of.env_kwargs)
    opened = Mixed.opened
    assert "times as fast" in chosen(of)[1]
    assert Mixed.opened == opened


def test_what_stands_in_gives_what_the_environment_gives() -> None:
    of = resolve_config(f"{__name__}:Mixed", "ppo", device="cpu", num_envs=3)
    real, batch = of.resolved_env.open(3, "cpu", 0), StandIn(*threads.spaces_of(of.resolved_env, {}), 3)
    theirs, ours = real.reset()[0], batch.reset()[0]
    form = {key: (part.shape, part.dtype) for key, part in theirs.items()}
    assert form == {key: (part.shape, part.dtype) for key, part in ours.items()}
    actions = torch.ones(3, dtype=torch.int64)
    for their, our in zip(real.step(actions)[1:4], batch.step(actions)[1:4], strict=True):
        assert (their.shape, their.dtype) == (our.shape, our.dtype)
    real.close()


def test_a_trial_that_fails_is_told_and_the_run_goes_on(machine: pytest.MonkeyPatch) -> None:
    def breaks(*args: Any) -> None:
        raise RuntimeError("no such luck")

    machine.setattr(threads, "_throw_away_agent", breaks)
    count, remark = chosen(config())
    assert count == 4
    assert remark.startswith("threads could not be tried out: RuntimeError: no such luck")


@pytest.mark.parametrize(
    ("ratios", "fastest"),
    [
        ({(2, 4): 0.95}, 4),  # not worth other bits
        ({(2, 4): 0.5, (1, 2): 1.2}, 2),
        ({(2, 4): 0.5, (1, 2): 0.3}, 1),
    ],
)
def test_later_on_threads_are_halved_while_that_is_clearly_faster(
    tried: dict[tuple[int, int], float], ratios: dict[tuple[int, int], float], fastest: int
) -> None:
    tried.update({(1, 2): 1.9, (2, 4): 1.9})
    with chosen_threads(config(), False, lambda: None) as (_, choice):
        tried.update(ratios)
        before = torch.get_rng_state()
        assert choice.fastest_now is not None
        assert choice.fastest_now() == fastest
        assert torch.get_num_threads() == 4  # it only tells
        assert torch.equal(torch.get_rng_state(), before)


def test_a_number_that_was_decided_or_must_not_change_stays(tried: dict[tuple[int, int], float]) -> None:
    tried.update({(1, 2): 1.9, (2, 4): 1.9})
    for of, resumed in ((config(threads=4), False), (config(), True), (config(deterministic=True), False)):
        with chosen_threads(of, resumed, lambda: None) as (found, choice):
            assert (found.threads, choice.fastest_now) == (4, None)
    tried[1, 2] = 1.0
    with chosen_threads(config(), False, lambda: None) as (found, choice):
        assert (found.threads, choice.fastest_now) == (1, None)


def test_ctrl_c_ends_a_trial(machine: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise Stopped

    with pytest.raises(Stopped), chosen_threads(config(), False, stop):
        pass
    assert torch.get_num_threads() == 4


# ------------------------------------------------------------------------------------------- the run folder


def test_the_number_is_recorded_and_kept(
    machine: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train("cartpole", "ppo", run, "disabled", threads=2, **TINY)
    assert "cpu, 2 threads" in capsys.readouterr().out
    assert yaml.safe_load((run / "config.yaml").read_text())["threads"] == 2
    assert RunFolder(run).facts()["threads"] == 2
    resume(str(run), "disabled", 1536)
    out = capsys.readouterr().out
    assert "cpu, 2 threads" in out
    assert "training began with threads" not in out
    resume(str(run), "disabled", 2304, threads=1)
    out = " ".join(capsys.readouterr().out.split())
    assert "cpu, 1 thread," in out
    assert "training began with threads 2 and goes on with threads 1: the result is not the same to the last" in out
    assert yaml.safe_load((run / "config.yaml").read_text())["threads"] == 1
    assert torch.get_num_threads() == 4
    machine.setattr("palaestra.envs.core.host.available_cores", lambda: 4)
    find_player(str(run), None, False, ())
    assert torch.get_num_threads() == 1


def test_a_run_of_before_goes_on_with_all_cores(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    train("cartpole", "ppo", run.path, "disabled", threads=4, **TINY)
    content = yaml.safe_load(run.config_file.read_text())
    del content["threads"]
    run.config_file.write_text(yaml.safe_dump(content))
    machine.setattr(threads, "_tried", lambda *args: pytest.fail("it has begun already"))
    resume(str(run.path), "disabled", 1536)
    assert yaml.safe_load(run.config_file.read_text())["threads"] == 4


@pytest.mark.parametrize("value", [0, -1, 1025, True, "two", 1.5])
def test_no_number_of_threads(value: Any) -> None:
    with pytest.raises(ConfigError, match="threads="):
        resolve_config("cartpole", threads=value)


def test_it_is_an_option_not_a_setting() -> None:
    with pytest.raises(ConfigError, match="use --threads 2"):
        resolve_config("cartpole", settings=["threads=2"])


def test_runs_with_other_threads_are_the_same_run(tmp_path: Path) -> None:
    planned = resolve_config("cartpole", "ppo", device="cpu", **TINY)
    assert planned.trains_as(replace(planned, threads=7))
    assert not planned.trains_as(replace(planned, seed=7))
    assert not planned.trains_as(None)
    run = GridRun("cartpole", planned, tmp_path / "s0")
    trainer.train_new(replace(planned, threads=1), run.folder)
    RunFolder(run.folder).wall_time_file.write_text("{}")
    assert is_finished(run)


# ------------------------------------------------------------------------------------------- waiting


@pytest.mark.skipif(not list(Path(torch.__file__).parent.glob("lib/libgomp*")), reason="PyTorch without GNU's OpenMP")
@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
)
def test_openmp_hears_how_long_threads_wait_busily(given: dict[str, str], expected: str) -> None:
    """It says itself what it has read from the environment, when PyTorch loads it."""
    environ = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    run = subprocess.Popen(
        [sys.executable, "-m", "palaestra.train", "train", "cartpole", "--dry-run"],
        env={**environ, "OMP_DISPLAY_ENV": "verbose", **given},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stderr is not None
    with run:
        said = "".join(itertools.takewhile(lambda line: "DISPLAY ENVIRONMENT END" not in line, run.stderr))
        run.kill()
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", said) == [expected]
