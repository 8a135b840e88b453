"""The benchmark: its arithmetic with a clock that the tests wind, equal work for both agents, and the table."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import stable_baselines3
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from palaestra.agents import PPO
from palaestra.envs import TensorVecEnv, UnknownEnvError
from palaestra.train import bench
from palaestra.train.bench import COLLECTION, GYMNASIUM, OURS, SB3, SB3_ALONE, UPDATE, WHOLE, Sample


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
    work = bench.stepping(batch, [10, 11, 12], watch)  # type: ignore[list-item]
    assert bench.PASS == 16
    assert work(seconds) == Sample(7 * 16 * passes, {WHOLE: 8.0 * passes})
    assert work(0.0) == Sample(7 * 16, {WHOLE: 8.0})
    assert batch.taken == ([10, 11, 12] * 22)[: 16 * (passes + 1)]  # goes on where it was
    assert batch.resets == 1
    assert bench.rates([{"steps": 7 * 16 * passes, "seconds": {WHOLE: 8.0 * passes}}]) == [14.0]  # 7 / 0.5


def test_resets_of_gymnasium_s_batch_are_not_steps() -> None:
    """Gymnasium gives reward 1 for each transition and 0 for a row that it resets, which counts them independently."""
    actions = [np.ones(5, dtype=np.int64)]  # always to the right: episodes of about 9 steps
    work = bench.numpy_stepping("CartPole-v1", 5, actions, Watch())  # a clock that stands still: work(0) is one pass
    twin = gymnasium.make_vec("CartPole-v1", 5, vectorization_mode="vector_entry_point")
    twin.reset(seed=0)
    for _ in range(3):
        rewards = sum(float(twin.step(actions[0])[1].sum()) for _ in range(bench.PASS))
        assert work(0.0).steps == rewards
        assert bench.PASS * 5 * 0.8 < rewards < bench.PASS * 5


def test_contenders_take_turns_after_a_round_that_does_not_count() -> None:
    calls: list[tuple[str, float]] = []

    def contender(name: str) -> bench.Contender:
        def work(seconds: float) -> Sample:
            calls.append((name, seconds))
            return Sample(len(calls), {WHOLE: 1.0})

        return work

    samples = bench.take_turns({"a": contender("a"), "b": contender("b")}, repeats=2, seconds=3.0)
    assert calls == [("a", 0.0), ("b", 0.0), ("a", 3.0), ("b", 3.0), ("a", 3.0), ("b", 3.0)]
    assert [sample["steps"] for sample in samples["a"]] == [3, 5]
    assert [sample["steps"] for sample in samples["b"]] == [4, 6]


class FakeAgent:
    """4 steps in 3 environments take 2 s to collect, 5 s to learn from, and 1 s for the rest of ``learn``."""

    n_steps, n_envs = 4, 3

    def __init__(self, watch: Watch) -> None:
        self.watch, self.num_timesteps = watch, 0

    def set_logger(self, logger: object) -> None:
        self.logger = logger

    def collect_rollouts(self, steps: int) -> bool:
        self.watch.spend(2.0)
        self.num_timesteps += steps
        return True

    def train(self) -> None:
        self.watch.spend(5.0)

    def learn(self, total_timesteps: int, reset_num_timesteps: bool) -> None:
        assert not reset_num_timesteps
        assert self.collect_rollouts(total_timesteps)
        self.watch.spend(1.0)
        self.train()


def test_learning_is_split_in_collection_and_update() -> None:
    watch = Watch()
    work = bench.learning(FakeAgent(watch), watch)  # type: ignore[arg-type]
    assert work(0.0) == Sample(12, {WHOLE: 8.0, COLLECTION: 2.0, UPDATE: 5.0})
    assert work(9.0) == Sample(24, {WHOLE: 16.0, COLLECTION: 4.0, UPDATE: 10.0})  # from zero again


# ---------------------------------------------------------------------------------------------------- equal work


def hyper_parameters(agent: stable_baselines3.PPO) -> dict[str, Any]:
    """Every number that the work depends on, as the constructed agent holds it."""
    names = ("n_envs", "n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "normalize_advantage", "ent_coef")
    names += ("vf_coef", "max_grad_norm", "target_kl", "use_sde", "seed", "device", "clip_range_vf")
    optimizer = agent.policy.optimizer
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return {
        **{name: getattr(agent, name) for name in names},
        "learning_rate": [agent.lr_schedule(progress) for progress in (1.0, 0.5, 0.0)],
        "clip_range": [agent.clip_range(progress) for progress in (1.0, 0.5, 0.0)],  # type: ignore[operator]
        "policy": type(agent.policy),
        "network": str(agent.policy),
        "optimizer": (type(optimizer), groups),
    }


@pytest.mark.parametrize("env", ["cartpole", "snake-small", "CartPole-v1"])
def test_both_agents_do_the_same_work(env: str) -> None:
    config = bench.bench_config(env)
    agents = bench.build_agents(config)
    ours, theirs = agents[OURS], agents[SB3]
    assert type(ours) is PPO
    assert type(theirs) is stable_baselines3.PPO
    assert hyper_parameters(ours) == hyper_parameters(theirs)
    for name, weight in theirs.policy.state_dict().items():
        assert torch.equal(ours.policy.state_dict()[name], weight)
    assert isinstance(ours.env, TensorVecEnv)
    assert isinstance(theirs.env, TensorVecEnv)
    a, b = ours.env.batch, theirs.env.batch
    assert a is not b
    assert (type(a), a.num_envs, a.seed, str(a.spec)) == (type(b), b.num_envs, b.seed, str(b.spec))
    assert np.array_equal(ours.env.reset(), theirs.env.reset())


def test_stable_baselines3_alone_does_it_on_gymnasium_s_environments() -> None:
    agents = bench.build_agents(bench.bench_config("cartpole"))
    alone = agents[SB3_ALONE]
    assert hyper_parameters(alone) == hyper_parameters(agents[SB3])
    assert type(alone.env) is DummyVecEnv
    assert {type(env.unwrapped) for env in alone.env.envs} == {CartPoleEnv}


def test_the_reference_work_on_cartpole() -> None:
    agent = bench.build_agents(bench.bench_config("cartpole"))[SB3]
    got = hyper_parameters(agent)
    wanted = {"n_envs": 1024, "n_steps": 128, "n_epochs": 4, "batch_size": 8192, "learning_rate": [3e-4] * 3}
    assert {key: got[key] for key in wanted} == wanted
    weights = [tuple(p.shape) for name, p in agent.policy.named_parameters() if name.endswith("weight")]
    assert sorted(weights) == sorted([(64, 4), (64, 64)] * 2 + [(2, 64), (1, 64)])
    assert got["network"].count("Tanh()") == 4


def test_schedules_are_held_at_their_first_value() -> None:
    config = bench.bench_config("snake-small")
    assert config.agent_kwargs["learning_rate"] == 1e-3  # the preset: linear(1e-3, 1e-5)
    assert hyper_parameters(bench.build_agents(config)[OURS])["learning_rate"] == [1e-3] * 3


# ---------------------------------------------------------------------------------------------------- the whole


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become moments; the test session keeps its one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(bench, "STEPPING_SIZES", (3, 5))
    monkeypatch.setattr(bench, "STEPPING_SECONDS", 0.0)
    monkeypatch.setattr(bench, "PPO_SECONDS", 0.0)
    monkeypatch.setattr(bench, "REFERENCE_ENVS", 4)
    monkeypatch.setattr(bench, "REFERENCE", ("n_steps=8", "n_epochs=2", "batch_size=16"))


@pytest.mark.usefixtures("tiny")
def test_a_whole_run_on_cartpole(capsys: pytest.CaptureFixture[str]) -> None:
    result = bench.measure("cartpole", repeats=2)
    assert json.loads(json.dumps(result)) == result
    assert result["env"] == "palaestra/CartPole-v1"
    assert list(result["stepping"]) == ["3", "5"]
    for num_envs, samples in result["stepping"].items():
        assert list(samples) == [OURS, GYMNASIUM]
        assert [sample["steps"] for sample in samples[OURS]] == [int(num_envs) * bench.PASS] * 2
    assert result["physics"] is None
    assert list(result["ppo"]["samples"]) == [OURS, SB3, SB3_ALONE]
    for samples in result["ppo"]["samples"].values():
        for sample in samples:
            assert sample["steps"] == 4 * 8
            parts = sample["seconds"]
            assert 0 < parts[COLLECTION] + parts[UPDATE] <= parts[WHOLE]
    assert len(capsys.readouterr().err.splitlines()) == 3  # one line per section, so that nobody waits in silence
    check_table(result)


@pytest.mark.usefixtures("tiny")
def test_other_people_s_environments_run_as_many_as_their_preset_has() -> None:
    result = bench.measure("CartPole-v1", repeats=1)
    assert list(result["stepping"]) == [str(result["ppo"]["config"]["num_envs"])] == ["16"]
    assert list(result["stepping"]["16"]) == [OURS]
    check_table(result)


def test_an_unknown_environment_is_named_before_anything_is_measured() -> None:
    with pytest.raises(UnknownEnvError, match="did you mean 'cartpole'"):
        bench.measure("cartpol")


@pytest.mark.skipif(sys.platform != "linux", reason="compares with Linux's /proc")
def test_peak_memory_is_the_kernel_s_own_figure() -> None:
    with open("/proc/self/status", encoding="ascii") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    assert bench.peak_memory_mib() == pytest.approx(peak, rel=0.02)


# ---------------------------------------------------------------------------------------------------- the table


def check_table(result: dict[str, Any]) -> list[str]:
    lines = bench.table(result).splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def samples(whole: list[float], scale: float = 1.0) -> list[dict[str, Any]]:
    """Samples with these rates; collection is 4 · scale times, the update 2 times as fast as the whole."""
    return [{"steps": 1000, "seconds": {WHOLE: 1000 / r, COLLECTION: 250 / r / scale, UPDATE: 500 / r}} for r in whole]


def made_up_result(**changes: Any) -> dict[str, Any]:
    agent = {"n_steps": 128, "n_epochs": 4, "batch_size": 8192}
    return {
        "env": "palaestra/CartPole-v1",
        "device": "cpu",
        "threads": 2,
        "machine": "Linux x86_64, 2 cores",
        "versions": {"palaestra": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.7"},
        "keeps_freed_memory": True,
        "repeats": 3,
        "stepping": {"4096": {OURS: samples([4e6, 2e6, 9e6]), GYMNASIUM: samples([7e6, 8e6, 9e6])}},
        "physics": None,
        "ppo": {
            "config": {"num_envs": 1024, "agent_kwargs": agent},
            "samples": {
                OURS: samples([150e3, 140e3, 190e3]),
                SB3: samples([50e3, 40e3, 60e3], scale=0.5),
                SB3_ALONE: samples([75e3]),
            },
        },
        "peak_memory_mib": 512.3,
        **changes,
    }


def test_the_table_shows_medians_spreads_and_ratios() -> None:
    rows = [line.split() for line in check_table(made_up_result())]
    assert ["palaestra", "4,000,000", "2,000,000", "9,000,000"] in rows
    assert ["gymnasium", "8,000,000", "7,000,000", "9,000,000", "0.50×"] in rows
    assert ["palaestra", "150,000", "140,000", "190,000"] in rows
    assert ["stable-baselines3", "50,000", "40,000", "60,000", "3.00×"] in rows
    assert ["stable-baselines3,", "DummyVecEnv", "75,000", "75,000", "75,000", "2.00×"] in rows
    assert ["collection", "600,000", "560,000", "760,000"] in rows
    assert ["collection", "100,000", "80,000", "120,000", "6.00×"] in rows
    assert ["update", "100,000", "80,000", "120,000", "3.00×"] in rows


def test_columns_line_up() -> None:
    lines = check_table(made_up_result())
    ends = [line.rindex(word) + len(word) for line, word in ((row, "9,000,000") for row in lines) if word in line]
    assert ends == [lines[3].index("max") + 3] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"env": "some.module:Namespace/" + "LongName" * 9 + "-v0"},
        {"device": "cuda:0 (NVIDIA H100 80GB HBM3 with a rather long marketing name)", "threads": 128},
        {"stepping": {"16384": {OURS: samples([123_456_789_012.0])}}, "peak_memory_mib": None},
        {"keeps_freed_memory": False, "versions": dict.fromkeys("abcdefgh", "1.0.0.dev20260101+local")},
    ],
)
def test_no_line_is_wider_than_80_columns(changes: dict[str, Any]) -> None:
    check_table(made_up_result(**changes))


def test_notes_follow_the_result() -> None:
    def text(result: dict[str, Any]) -> str:
        return " ".join(bench.table(result).split())

    assert "2 threads" in text(made_up_result())
    assert "1 thread;" in text(made_up_result(threads=1))
    assert "keeps freed" not in text(made_up_result(keeps_freed_memory=False))
    assert "Peak memory 512 MiB" in text(made_up_result())
    assert "Peak memory" not in text(made_up_result(peak_memory_mib=None))
