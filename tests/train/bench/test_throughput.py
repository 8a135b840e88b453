"""The benchmark: its arithmetic with a clock that the tests wind, equal work for all agents, and the table."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from palaestra.agents import DQN, PPO, PQN
from palaestra.envs import SB3VecEnv, UnknownEnvError
from palaestra.train.bench import bench_tables, stepping, throughput
from palaestra.train.bench.interleaved import (
    COLLECTION,
    OURS,
    UPDATE,
    WHOLE,
    Sample,
    Workload,
    WorkloadError,
    measure_interleaved,
    rates,
    ratio,
)
from palaestra.train.bench.libraries import GYMNAX, INSTALL, LEARNERS, sb3
from palaestra.train.bench.libraries.sb3 import SB3, SB3_ALONE
from palaestra.train.bench.stepping import GYMNASIUM
from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import three_digits
from palaestra.train.runs import machine
from palaestra.train.runs.machine import peak_memory_mib


class Watch:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def spend(self, seconds: float) -> None:
        self.now += seconds


def fake_batch(watch: Watch, num_envs: int, cost: float) -> Any:
    """Counts its steps; each takes ``cost`` seconds."""
    batch = SimpleNamespace(num_envs=num_envs, taken=[], resets=0)

    def step(action: int) -> None:
        batch.taken.append(action)
        watch.spend(cost)

    def reset() -> None:
        batch.resets += 1

    batch.step, batch.reset = step, reset
    return batch


@pytest.mark.parametrize(("seconds", "passes"), [(0.0, 1), (8.0, 1), (8.1, 2), (20.0, 3)])
def test_stepping_counts_environments_times_vector_steps(seconds: float, passes: int) -> None:
    watch = Watch()
    batch = fake_batch(watch, num_envs=7, cost=0.5)
    work = stepping.stepping(batch, [10, 11, 12], watch)  # type: ignore[list-item]
    assert stepping.PASS == 16
    assert work(seconds) == Sample(7 * 16 * passes, {WHOLE: 8.0 * passes})
    assert work(0.0) == Sample(7 * 16, {WHOLE: 8.0})
    assert batch.taken == ([10, 11, 12] * 22)[: 16 * (passes + 1)]  # goes on where it was
    assert batch.resets == 1
    assert rates([{"steps": 7 * 16 * passes, "seconds": {WHOLE: 8.0 * passes}}]) == [14.0]  # 7 / 0.5


def test_resets_of_gymnasium_s_batch_are_not_steps() -> None:
    """Gymnasium gives reward 1 for each transition and 0 for a row that it resets, which counts them independently."""
    actions = [np.ones(5, dtype=np.int64)]  # always to the right: episodes of about 9 steps
    work = stepping.numpy_stepping("CartPole-v1", 5, actions, Watch())  # a clock that stands still: work(0) is one pass
    twin = gymnasium.make_vec("CartPole-v1", 5, vectorization_mode="vector_entry_point")
    twin.reset(seed=0)
    for _ in range(3):
        rewards = sum(float(twin.step(actions[0])[1].sum()) for _ in range(stepping.PASS))
        assert work(0.0).steps == rewards
        assert stepping.PASS * 5 * 0.8 < rewards < stepping.PASS * 5


def working(name: str, calls: list[tuple[str, float]], fails_at: int = 0) -> Workload:
    """Notes its calls; each is one step more in a second. It fails at its call of that number."""

    def work(seconds: float) -> Sample:
        calls.append((name, seconds))
        if sum(who == name for who, _ in calls) == fails_at:
            raise WorkloadError("out of breath")
        return Sample(len(calls), {WHOLE: 1.0})

    return work


def test_contenders_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[tuple[str, float]] = []
    samples = measure_interleaved({name: working(name, calls) for name in "ab"}, repeats=2, seconds=3.0)
    assert calls == [("a", 0.0), ("b", 0.0), ("a", 3.0), ("b", 3.0), ("a", 3.0), ("b", 3.0)]
    assert [sample["steps"] for sample in samples["a"]] == [3, 5]
    assert [sample["steps"] for sample in samples["b"]] == [4, 6]


@pytest.mark.parametrize("fails_at", [1, 2, 3])
def test_who_fails_leaves_the_round_and_is_named(fails_at: int) -> None:
    calls: list[tuple[str, float]] = []
    failures: dict[str, str] = {}
    workloads = {
        OURS: working(OURS, calls),
        "other": working("other", calls, fails_at),
        "last": working("last", calls),
    }
    samples = measure_interleaved(workloads, 3, 1.0, failures)
    assert failures == {"other": "out of breath"}
    assert list(samples) == [OURS, "last"]
    assert [len(own) for own in samples.values()] == [3, 3]
    assert Counter(name for name, _ in calls) == {OURS: 4, "other": fails_at, "last": 4}


def test_our_own_failure_is_raised() -> None:
    with pytest.raises(WorkloadError, match="out of breath"):
        measure_interleaved({OURS: working(OURS, [], 2)}, 3, 1.0, {})


def test_when_time_is_up_all_have_been_measured_equally_often() -> None:
    calls: list[tuple[str, float]] = []
    samples = measure_interleaved({name: working(name, calls) for name in "ab"}, 5, 0.0, until=0.0)
    assert [len(own) for own in samples.values()] == [1, 1]


def test_a_ratio_has_the_spread_of_the_rounds() -> None:
    """Medians 4 and 2; the rounds 8/2, 4/1, 2/4."""
    ours, theirs = ([{"steps": r, "seconds": {WHOLE: 1.0}} for r in own] for own in ([8, 4, 2], [2, 1, 4]))
    assert ratio(ours, theirs) == (2.0, 0.5, 4.0)


class FakeAgent:
    """4 steps in 3 environments take 2 s to collect, 5 s and 2 gradient steps an epoch to learn from, 1 s the rest."""

    n_steps, n_envs, env, device, n_epochs = 4, 3, None, "cpu", 1

    def __init__(self, watch: Watch) -> None:
        self.watch, self.num_timesteps = watch, 0
        self.policy = SimpleNamespace(optimizer=SimpleNamespace(step=lambda: None))

    def set_logger(self, logger: object) -> None:
        self.logger = logger

    def train(self) -> None:
        for _ in range(self.n_epochs):
            self.watch.spend(5.0)
            for _ in range(2):
                self.policy.optimizer.step()

    def learn(self, total_timesteps: int, reset_num_timesteps: bool) -> None:
        assert not reset_num_timesteps
        self.watch.spend(2.0)
        self.num_timesteps += total_timesteps
        self.watch.spend(1.0)
        self.train()


def test_learning_is_split_in_collection_and_update() -> None:
    watch = Watch()
    work = sb3.learning(FakeAgent(watch), watch)
    assert work(0.0) == Sample(12, {WHOLE: 8.0, COLLECTION: 3.0, UPDATE: 5.0}, 2)
    assert work(9.0) == Sample(24, {WHOLE: 16.0, COLLECTION: 6.0, UPDATE: 10.0}, 4)  # from zero again
    assert work.set_epochs is not None
    work.set_epochs(3)
    assert work(0.0) == Sample(12, {WHOLE: 18.0, COLLECTION: 3.0, UPDATE: 15.0}, 6)


# ---------------------------------------------------------------------------------------------------- equal work


def hyper_parameters(agent: stable_baselines3.PPO) -> dict[str, Any]:
    """Every number that the work depends on, as the constructed agent holds it."""
    names = ("n_envs", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "normalize_advantage", "ent_coef")
    names += ("vf_coef", "max_grad_norm", "target_kl", "use_sde", "seed", "device", "clip_range_vf")
    optimizer = agent.policy.optimizer
    kind = next(cls for cls in type(optimizer).__mro__ if cls.__module__.startswith("torch."))  # PyTorch's own
    how = ("params", "fused", "foreach")  # it is computed, not what
    groups = [{k: v for k, v in group.items() if k not in how} for group in optimizer.param_groups]
    return {
        **{name: getattr(agent, name) for name in names},
        "learning_rate": [agent.lr_schedule(progress) for progress in (1.0, 0.5, 0.0)],
        "clip_range": [agent.clip_range(progress) for progress in (1.0, 0.5, 0.0)],  # type: ignore[operator]
        "policy": type(agent.policy),
        "network": str(agent.policy),
        "optimizer": (kind, groups),
    }


def agents_of(config: Any) -> dict[str, Any]:
    return {name: sb3.agent(config, name) for name in sb3.names(config)}


@pytest.mark.parametrize("env", ["cartpole", "snake-small", "CartPole-v1"])
def test_both_agents_do_the_same_work(env: str) -> None:
    config = throughput.bench_config(env)
    agents = agents_of(config)
    ours, theirs = agents[OURS], agents[SB3]
    assert type(ours) is PPO
    assert type(theirs) is stable_baselines3.PPO
    assert hyper_parameters(ours) == hyper_parameters(theirs)
    for name, weight in theirs.policy.state_dict().items():
        assert torch.equal(ours.policy.state_dict()[name], weight)
    assert isinstance(ours.env, SB3VecEnv)
    assert isinstance(theirs.env, SB3VecEnv)
    a, b = ours.env.batch, theirs.env.batch
    assert a is not b
    assert (type(a), a.num_envs, a.seed, str(a.spec)) == (type(b), b.num_envs, b.seed, str(b.spec))
    assert np.array_equal(ours.env.reset(), theirs.env.reset())


def test_stable_baselines3_alone_does_it_on_gymnasium_s_environments() -> None:
    agents = agents_of(throughput.bench_config("cartpole"))
    alone = agents[SB3_ALONE]
    assert hyper_parameters(alone) == hyper_parameters(agents[SB3])
    assert type(alone.env) is DummyVecEnv
    assert {type(env.unwrapped) for env in alone.env.envs} == {CartPoleEnv}


def test_the_reference_work_on_cartpole() -> None:
    agent = sb3.agent(throughput.bench_config("cartpole"), SB3)
    got = hyper_parameters(agent)
    wanted = {"n_envs": 1024, "n_steps": 128, "n_epochs": 4, "batch_size": 8192, "learning_rate": [3e-4] * 3}
    assert {key: got[key] for key in wanted} == wanted
    weights = [tuple(p.shape) for name, p in agent.policy.named_parameters() if name.endswith("weight")]
    assert sorted(weights) == sorted([(64, 4), (64, 64)] * 2 + [(2, 64), (1, 64)])
    assert got["network"].count("Tanh()") == 4


def test_schedules_are_held_at_their_first_value() -> None:
    config = throughput.bench_config("snake-small")
    assert config.agent_kwargs["learning_rate"] == 1e-3  # the preset: linear(1e-3, 1e-5)
    assert hyper_parameters(sb3.agent(config, OURS))["learning_rate"] == [1e-3] * 3


@pytest.mark.parametrize(("env", "updates"), [("cartpole", 4), ("snake-small", 2), ("pricing", 1)])
def test_dqn_replays_as_its_preset_says_in_both(env: str, updates: int) -> None:
    """samples_per_insert × train_freq × num_envs / batch_size, 2 × 4 × 256 / 512 on CartPole."""
    config = throughput.bench_config(env, "dqn")
    ours, theirs = (sb3.agent(config, name) for name in (OURS, SB3))
    assert (type(ours), type(theirs)) == (DQN, stable_baselines3.DQN)
    assert ours.gradient_steps == theirs.gradient_steps == updates
    names = (
        "batch_size",
        "buffer_size",
        "learning_starts",
        "gamma",
        "tau",
        "target_update_interval",
        "n_steps",
        "n_envs",
    )
    assert [getattr(ours, name) for name in names] == [getattr(theirs, name) for name in names]
    assert str(ours.q_net) == str(theirs.q_net)
    assert not any((ours.double_q, ours.prioritized_replay, ours.weight_average, ours.exploration_spread))
    assert ours.huber_delta == 1.0


def test_pqn_is_alone_with_all_its_options() -> None:
    config = throughput.bench_config("cartpole", "pqn")
    assert sb3.names(config) == [OURS]
    agent = sb3.agent(config, OURS)
    assert type(agent) is PQN
    assert (agent.normalize_reward, agent.weight_average, agent.exploration_spread) == (True, 0.02, 3.0)


@pytest.mark.parametrize("name", [OURS, SB3, SB3_ALONE])
def test_counted_work_of_ppo(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """4 environments × 8 steps, minibatches of 16: 2 gradient steps an epoch."""
    monkeypatch.setattr(throughput, "REFERENCE_ENVS", 4)
    monkeypatch.setattr(throughput, "REFERENCE", ("n_steps=8", "n_epochs=3", "batch_size=16"))
    work = sb3.build({"name": name, "config": throughput.bench_config("cartpole").as_dict()})
    sample = work(0.0)
    assert (sample.steps, sample.gradient_steps) == (32, 6)
    assert work.set_epochs is not None
    work.set_epochs(1)
    assert work(0.0).gradient_steps == 2


def test_counted_work_of_dqn_has_begun_to_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 steps of the batch, a gradient step after every second one."""
    config = throughput.bench_config("cartpole", "dqn")
    small = {"train_freq": 2, "gradient_steps": 1, "learning_starts": 300, "batch_size": 32, "buffer_size": 1000}
    config = throughput.replace(config, num_envs=3, agent_kwargs={**config.agent_kwargs, **small})
    for name in (OURS, SB3):
        sample = sb3.build({"name": name, "config": config.as_dict()})(0.0)
        assert (sample.steps, sample.gradient_steps) == (3 * 64, 32)


def test_who_does_other_work_is_left_out() -> None:
    def own(steps: int, updates: int) -> list[dict[str, Any]]:
        return [{"steps": steps, "gradient_steps": updates}, {"steps": 2 * steps, "gradient_steps": 2 * updates}]

    failures: dict[str, str] = {}
    samples = {OURS: own(100, 4), "longer": own(300, 12), "lazy": own(100, 2), "late": [*own(100, 4), *own(100, 3)]}
    assert list(throughput.equal_work(samples, failures)) == [OURS, "longer"]
    assert failures["lazy"] == "other work: 0.02 gradient steps per step, palaestra makes 0.04"
    assert "late" in failures


# ---------------------------------------------------------------------------------------------------- the whole


class HereAndNow:
    """Stands for a process, in this one; ``broken`` names those that cannot be built."""

    broken: tuple[str, ...] = ()

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec, self.memory_mib, self.device_memory_mib = spec, 1.0, None

    def ready(self) -> None:
        if self.spec["name"] in self.broken:
            raise WorkloadError("ImportError: no such thing")
        self.work = sb3.build(self.spec)

    def workload(self, epochs: int | None = None) -> Workload:
        def work(seconds: float) -> Sample:
            if epochs is not None:
                assert self.work.set_epochs is not None
                self.work.set_epochs(epochs)
            return self.work(seconds)

        return work

    def close(self) -> None:
        pass


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become moments; the test session keeps its one thread; nobody else is installed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(stepping, "STEPPING_SIZES", (3, 5))
    monkeypatch.setattr(stepping, "STEPPING_SECONDS", 0.0)
    monkeypatch.setattr(throughput, "LEARNING_SECONDS", 0.0)
    monkeypatch.setattr(throughput, "ONE_EPOCH_SECONDS", 0.0)
    monkeypatch.setattr(throughput.roofline, "CEILING_SECONDS", 1e-4)
    monkeypatch.setattr(throughput.roofline, "SQUARES", (8,))
    monkeypatch.setattr(throughput.roofline, "COPIES", (8, 64))
    monkeypatch.setattr(throughput, "REFERENCE_ENVS", 4)
    monkeypatch.setattr(throughput, "REFERENCE", ("n_steps=8", "n_epochs=2", "batch_size=16"))
    monkeypatch.setattr(throughput, "LibraryProcess", HereAndNow)
    monkeypatch.setattr(type(GYMNAX), "missing", lambda peer: INSTALL)


def shrink(monkeypatch: pytest.MonkeyPatch, num_envs: int | None = None, **small: int) -> None:
    """The same work with smaller numbers."""
    whole = throughput.bench_config

    def shrunk(*args: Any) -> Any:
        config = whole(*args)
        kwargs = {key: small.get(key, value) for key, value in config.agent_kwargs.items()}
        return throughput.replace(config, num_envs=num_envs or config.num_envs, agent_kwargs=kwargs)

    monkeypatch.setattr(throughput, "bench_config", shrunk)


@pytest.mark.usefixtures("tiny")
def test_a_whole_run_on_cartpole(capsys: pytest.CaptureFixture[str]) -> None:
    result = throughput.measure("cartpole", repeats=2)
    assert json.loads(json.dumps(result)) == result
    assert (result["env"], result["agent"]) == ("palaestra/CartPole-v1", "ppo")
    assert list(result["stepping"]) == ["3", "5"]
    for num_envs, samples in result["stepping"].items():
        assert list(samples) == [OURS, GYMNASIUM]
        assert [sample["steps"] for sample in samples[OURS]] == [int(num_envs) * stepping.PASS] * 2
    assert result["physics"] is None
    for section, updates in ((result["learning"]["samples"], 4), (result["one_epoch"], 2)):
        assert list(section) == [OURS, SB3, SB3_ALONE]
        for sample in (sample for samples in section.values() for sample in samples):
            assert (sample["steps"], sample["gradient_steps"]) == (4 * 8, updates)
            parts = sample["seconds"]
            assert parts[COLLECTION] + parts[UPDATE] == pytest.approx(parts[WHOLE])
            assert min(parts.values()) > 0
    assert result["left_out"] == {peer.name: INSTALL for peer in (GYMNAX, *LEARNERS)}
    assert list(result["roofline"]["stages"]) == ["stepping 5", COLLECTION, UPDATE]
    assert len(capsys.readouterr().err.splitlines()) == 5  # one line per section, so that nobody waits in silence
    lines = check_table(result)
    for peer in (GYMNAX, *LEARNERS):
        assert f"left out: {peer.name}: {INSTALL}" in lines


@pytest.mark.usefixtures("tiny")
def test_a_peer_that_fails_is_named_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HereAndNow, "broken", (SB3,))
    result = throughput.measure("cartpole", repeats=1)
    assert list(result["learning"]["samples"]) == [OURS, SB3_ALONE]
    assert "left out: SB3: ImportError: no such thing" in check_table(result)
    monkeypatch.setattr(HereAndNow, "broken", (OURS,))
    with pytest.raises(WorkloadError, match="no such thing"):
        throughput.measure("cartpole", repeats=1)


@pytest.mark.usefixtures("tiny")
def test_other_people_s_environments_run_as_many_as_their_preset_has(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, n_steps=8, batch_size=32)
    result = throughput.measure("CartPole-v1", repeats=1)
    assert list(result["stepping"]) == [str(result["learning"]["config"]["num_envs"])] == ["16"]
    assert list(result["stepping"]["16"]) == [OURS]
    assert result["memory_plan"] is None
    check_table(result)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize(("agent", "who"), [("dqn", [OURS, SB3, SB3_ALONE]), ("pqn", [OURS])])
def test_a_whole_run_of_the_other_agents(agent: str, who: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, num_envs=4, learning_starts=64, batch_size=32, buffer_size=1000, n_steps=8)
    result = throughput.measure("cartpole", agent, repeats=1)
    assert list(result["learning"]["samples"]) == who
    assert (result["one_epoch"] is None) == (agent == "dqn")
    text = " ".join(check_table(result))
    assert ("left out: SB3: it has no pqn" in text) == (agent == "pqn")


def test_an_agent_that_cannot_act_there_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(ConfigError, match="dqn needs a Discrete action space"):
        throughput.measure("reach-torque", "dqn")


def test_an_unknown_environment_is_named_before_anything_is_measured() -> None:
    with pytest.raises(UnknownEnvError, match="did you mean 'cartpole'"):
        throughput.measure("cartpol")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at Linux's /proc")
def test_peak_memory_is_this_process_s_own_and_not_its_parent_s() -> None:
    """A process of some 10 MiB, started by one that has held 300 more, and then holds 64 MiB for a moment."""
    program = "from palaestra.train.runs.machine import peak_memory_mib as p; a = p(); b = b'x' * 2**26; print(a, p())"
    parent = f"import subprocess, sys; held = b'x' * (300 * 2**20); subprocess.run([sys.executable, '-c', {program!r}])"
    answer = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    before, after = map(float, answer.stdout.split())
    assert 5 < before < 200
    assert after - before == pytest.approx(64, abs=8)


@pytest.mark.skipif(sys.platform != "linux", reason="compares with Linux's getrusage")
def test_peak_memory_is_the_kernel_s_own_figure_elsewhere_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = peak_memory_mib()
    monkeypatch.setattr(machine, "_STATUS", tmp_path / "none")
    other = peak_memory_mib()
    assert own is not None
    assert other is not None
    assert other > 0.9 * own  # or more, if the parent held more


# ---------------------------------------------------------------------------------------------------- the table


def check_table(result: dict[str, Any]) -> list[str]:
    lines = bench_tables.throughput_table(result).splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def samples(whole: list[float], scale: float = 1.0) -> list[dict[str, Any]]:
    """Samples with these rates; collection is 4 · scale times, the update 2 times as fast as the whole."""
    return [{"steps": 1000, "seconds": {WHOLE: 1000 / r, COLLECTION: 250 / r / scale, UPDATE: 500 / r}} for r in whole]


def made_up_result(**changes: Any) -> dict[str, Any]:
    agent = {"n_steps": 128, "n_epochs": 4, "batch_size": 8192}
    stage = {
        "per_second": {"flops": 62e9, "functions": 1e8, "bytes": 8e9, "operations": 1e5},
        "shares": {"products": 0.33, "functions": 0.1, "memory": 0.05, "operations": 0.02},
        "bound": "elsewhere",
    }
    ceilings = {"flops": 190e9, "functions": 1e9, "copies": {"1024": 2e11, "9999": 4e10}, "operation": 1e-6}
    return {
        "env": "palaestra/CartPole-v1",
        "agent": "ppo",
        "device": "cpu",
        "threads": 2,
        "machine": "Linux x86_64, 2 cores",
        "versions": {"palaestra": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
        "keeps_freed_memory": True,
        "stepping": {"4096": {OURS: samples([4e6, 2e6, 9e6]), GYMNASIUM: samples([7e6, 8e6, 9e6])}},
        "physics": None,
        "learning": {
            "config": {"num_envs": 1024, "agent_kwargs": agent},
            "samples": {
                OURS: samples([150e3, 140e3, 190e3]),
                SB3: samples([50e3, 40e3, 60e3], scale=0.5),
                SB3_ALONE: samples([75e3, 75e3, 75e3]),
            },
            "memory": {OURS: {"host_mib": 512.3, "device_mib": None}, SB3: {"host_mib": 600.0, "device_mib": None}},
        },
        "one_epoch": None,
        "roofline": {"ceilings": ceilings, "stages": {"stepping 16,384": stage, COLLECTION: stage, UPDATE: stage}},
        "memory_plan": {
            "num_envs": 65536,
            "environments": 2**20 * 7,
            "rollout": 2**30 * 3,
            "replay": 0,
            "stored": "states",
        },
        "left_out": {"skrl": INSTALL},
        **changes,
    }


def test_the_table_shows_medians_spreads_and_ratios() -> None:
    rows = {" ".join(line.split()) for line in check_table(made_up_result())}
    assert "palaestra 4.00 M 2.00 M 9.00 M" in rows
    assert "gymnasium 8.00 M 7.00 M 9.00 M 0.50× (0.25–1.00)" in rows
    assert "palaestra 150 k 140 k 190 k" in rows
    assert "SB3 50.0 k 40.0 k 60.0 k 3.00× (3.00–3.50)" in rows
    assert "SB3, DummyVecEnv 75.0 k 75.0 k 75.0 k 2.00× (1.87–2.53)" in rows
    assert "collection 600 k 560 k 760 k" in rows
    assert "collection 100 k 80.0 k 120 k 6.00× (6.00–7.00)" in rows
    assert "update 100 k 80.0 k 120 k 3.00× (3.00–3.50)" in rows
    assert "update 62.0 33 % 10 % 8.0 5 % 2 % elsewhere" in rows


@pytest.mark.parametrize(
    ("number", "text"),
    [(3.14159, "3.14"), (999.4, "999"), (999.7, "1.00 k"), (12_345, "12.3 k"), (99_960, "100 k"), (2.5e6, "2.50 M")],
)
def test_short_numbers(number: float, text: str) -> None:
    assert three_digits(number) == text


def test_columns_line_up() -> None:
    lines = check_table(made_up_result())
    ends = [line.index("9.00 M") + 6 for line in lines if "9.00 M" in line]
    assert ends == [lines[3].index("max") + 3] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"env": "some.module:Namespace/" + "LongName" * 9 + "-v0"},
        {"device": "cuda:0 (NVIDIA H100 80GB HBM3 with a rather long marketing name)", "threads": 128},
        {"stepping": {"16384": {OURS: samples([123_456_789_012.0])}}, "memory_plan": None},
        {"keeps_freed_memory": False, "versions": dict.fromkeys("abcdefgh", "1.0.0.dev20260101+local")},
        {"left_out": {"rsl_rl, compiled": "RuntimeError: " + "a very long reason " * 12}},
    ],
)
def test_no_line_is_wider_than_80_columns(changes: dict[str, Any]) -> None:
    check_table(made_up_result(**changes))


def test_notes_follow_the_result() -> None:
    def text(result: dict[str, Any]) -> str:
        return " ".join(bench_tables.throughput_table(result).split())

    assert "2 threads" in text(made_up_result())
    assert "1 thread;" in text(made_up_result(threads=1))
    assert "allocator" in text(made_up_result())
    assert "allocator" not in text(made_up_result(keeps_freed_memory=False))
    assert "Peak memory of a process, MiB: palaestra 512, SB3 600." in text(made_up_result())
    assert "65,536 environments would take 7 MiB, their rollout 3.00 GiB (it keeps states)." in text(made_up_result())
    assert "would take" not in text(made_up_result(memory_plan=None))
