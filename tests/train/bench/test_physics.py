"""Physics steps beside MuJoCo: both count the same steps of the same physics, and nothing needs MuJoCo."""

from __future__ import annotations

import dataclasses
import json
import sys
from importlib.metadata import PackageNotFoundError
from itertools import count
from typing import Any
from xml.etree import ElementTree

import mujoco
import numpy as np
import pytest
import torch
from arm_play import ALL_KINDS
from mujoco_arm import random_chain

from palaestra.envs import Rng, resolve
from palaestra.envs.arm import PANDA, PANDA_READY, SerialChain, mjcf
from palaestra.envs.arm.panda import PANDA_TARGETS
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.core.rng import env_keys
from palaestra.train.bench import bench_tables, throughput
from palaestra.train.bench import physics as physics_bench
from palaestra.train.bench import stepping as stepping_bench
from palaestra.train.bench.interleaved import COLLECTION, OURS, UPDATE, WHOLE, Sample
from palaestra.train.bench.physics import MUJOCO, Rollouts, arm_of, mujoco_workloads, physics_notes, physics_section


@pytest.fixture
def without_mujoco(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco.rollout", None)  # importing it raises ImportError


def states(chain: SerialChain, n: int) -> tuple[Any, Any]:
    """Angles within half of their limits, and speeds within a tenth."""
    rng = np.random.default_rng(1)
    low, high = np.array(chain.span)
    middle, half = (high + low) / 2, (high - low) / 2
    return middle + 0.5 * half * rng.uniform(-1, 1, (n, chain.dof)), 0.1 * rng.uniform(-1, 1, (n, chain.dof))


# ---------------------------------------------------------------------------------------------------- the same physics


SMOOTH: dict[str, Any] = {
    "robot": dataclasses.replace(PANDA, name="smooth Panda", friction=((0.0, 0.0, 0.0),) * 7),
    "start": PANDA_READY,
    "targets": PANDA_TARGETS,
}


@pytest.mark.parametrize("kwargs", [SMOOTH, ALL_KINDS], ids=["smooth Panda", "all kinds of joint"])
def test_a_step_of_the_environment_is_ten_steps_of_mujoco(kwargs: dict[str, Any]) -> None:
    """Without Coulomb friction, and MuJoCo's batch under the same torques, which move the arms. MuJoCo too damps
    implicitly."""
    chain, env = kwargs["robot"], ReachTorque(**kwargs)
    q, dq = states(chain, 6)
    action = np.random.default_rng(2).uniform(-0.02, 0.02, (6, chain.dof))  # slow enough to meet no limit of speed
    rng = Rng(env_keys(0, torch.arange(6)), 0)
    state = dataclasses.replace(env.reset(rng), q=torch.tensor(q).float(), dq=torch.tensor(dq).float())
    ours, *_ = env.step(state, torch.tensor(action).float(), rng)
    torque = np.repeat((action * chain.torque)[:, None], ReachTorque.physics_steps, 1)
    theirs = Rollouts(env, q, dq, torque, threads=2)
    theirs(0.0)
    last = theirs.state[:, -1]
    assert last[:, 0] == pytest.approx(1 / env.frames_per_second)
    assert (np.abs(ours.dq.numpy()) < 0.99 * np.array(chain.velocity)).all()
    assert np.abs(last[:, 1 + chain.dof :] - dq).max(1).min() > 0.1  # rad/s by which the arms sped up
    assert np.abs(ours.q.numpy() - last[:, 1 : 1 + chain.dof]).max() < 2e-6
    assert np.abs(ours.dq.numpy() - last[:, 1 + chain.dof :]).max() < 1e-4


def test_every_thread_takes_part_and_every_arm_moves() -> None:
    q, dq = states(PANDA, 512)
    work = Rollouts(ReachTorque(), q, dq, np.zeros((512, 20, 7)), threads=2)
    for _ in range(20):  # a short call may be over before the second thread wakes up
        work(0.0)
        if all(data.time > 0.0 for data in work.data):
            break
    assert [data.time for data in work.data] == [pytest.approx(0.04)] * 2
    assert len(np.unique(work.state[:, -1, 1])) == 512


# ---------------------------------------------------------------------------------------------------- counting


@pytest.mark.parametrize(("seconds", "calls"), [(0.0, 1), (1.0, 1), (1.5, 2), (3.0, 3)])
def test_mujoco_s_steps_are_arms_times_steps(seconds: float, calls: int) -> None:
    """The clock goes on by a second each time that it is read: once before the first call, and after every call."""
    ticks = count(100)
    q, dq = states(PANDA, 5)
    work = Rollouts(ReachTorque(), q, dq, np.zeros((5, 3, 7)), threads=1, clock=lambda: float(next(ticks)))
    assert work(seconds) == Sample(5 * 3 * calls, {WHOLE: float(calls)})


def test_mujoco_gets_as_many_arms_in_calls_of_a_decent_length() -> None:
    for num_arms, steps in ((1024, 98), (4096, 25), (16384, 10)):
        work = mujoco_workloads(ReachTorque(), num_arms)[MUJOCO]
        assert isinstance(work, Rollouts)
        assert work.torque.shape == (num_arms, steps, 7)
        assert len(work.data) == torch.get_num_threads()
        assert (np.abs(work.torque).max((0, 1)) <= PANDA.torque).all()
        assert (np.abs(work.torque).max((0, 1)) > 0.99 * np.array(PANDA.torque)).all()


def test_ours_are_steps_of_the_environment_times_ten() -> None:
    ours = [{"steps": 300, "seconds": {WHOLE: 2.0}}, {"steps": 500, "seconds": {WHOLE: 4.0}}]
    theirs = [{"steps": 4000, "seconds": {WHOLE: 2.0}}]
    stepping = {"3": {OURS: ours, MUJOCO: theirs}}
    section = physics_section(ReachTorque(), stepping)
    assert section["samples"]["3"][OURS] == [{**ours[0], "steps": 3000}, {**ours[1], "steps": 5000}]
    assert section["samples"]["3"][MUJOCO] == theirs
    assert stepping == {"3": {OURS: ours}}
    assert (section["time_step"], section["steps_per_env_step"], section["mujoco"]) == (0.002, 10, mujoco.__version__)


@pytest.mark.parametrize("name", ["cartpole", "reach", "snake-small", "CartPole-v1"])
def test_only_environments_with_dynamics_have_physics_steps(name: str) -> None:
    assert arm_of(resolve(name)) is None


# ---------------------------------------------------------------------------------------------------- the whole


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few arms, one unit of work, and no PPO."""
    monkeypatch.setattr(stepping_bench, "STEPPING_SIZES", (3, 5))
    monkeypatch.setattr(stepping_bench, "STEPPING_SECONDS", 0.0)
    monkeypatch.setattr(stepping_bench, "PASS", 2)
    monkeypatch.setattr(physics_bench, "CALL", 100)


def whole_result() -> tuple[dict[str, Any], list[str]]:
    """What ``measure`` and ``table`` make of the torque task, with made-up figures for PPO."""
    config = throughput.bench_config("reach-torque")
    stepping, physics = stepping_bench.measure_stepping(config, 1, {})
    ppo = {OURS: [{"steps": 1, "seconds": {WHOLE: 1.0, COLLECTION: 0.5, UPDATE: 0.5}}]}
    ceilings = {"flops": 1e9, "functions": 1e9, "copies": {"8": 1e9}, "operation": 1e-6}
    result = {
        **{"env": config.env, "agent": "ppo", "device": "cpu", "threads": 1, "machine": "", "versions": {}},
        **{"keeps_freed_memory": False, "stepping": stepping, "physics": physics, "one_epoch": None},
        "learning": {"config": config.as_dict(), "samples": ppo, "memory": {}},
        **{"roofline": {"ceilings": ceilings, "stages": {}}, "memory_plan": None, "left_out": {}},
    }
    assert json.loads(json.dumps(result)) == result
    lines = bench_tables.throughput_table(result).splitlines()
    assert max(map(len, lines)) <= 80
    return result, lines


@pytest.mark.usefixtures("tiny")
def test_both_take_turns_in_one_run() -> None:
    result, lines = whole_result()
    assert result["stepping"].keys() == result["physics"]["samples"].keys() == {"3", "5"}
    for num_arms, samples in result["physics"]["samples"].items():
        (steps,) = result["stepping"][num_arms].values()
        assert [sample["steps"] for sample in steps] == [int(num_arms) * 2]
        assert [sample["steps"] for sample in samples[OURS]] == [int(num_arms) * 2 * 10]
        assert [sample["steps"] for sample in samples[MUJOCO]] == [int(num_arms) * -(-100 // int(num_arms))]
    assert [line.split()[0] for line in lines if line.startswith(f"  {MUJOCO}")] == [MUJOCO] * 2
    assert "pip install" not in "".join(lines)


@pytest.mark.usefixtures("tiny", "without_mujoco")
def test_without_mujoco_a_line_says_how_to_install_it() -> None:
    result, lines = whole_result()
    assert result["physics"]["mujoco"] is None
    assert [list(samples) for samples in result["physics"]["samples"].values()] == [[OURS]] * 2
    assert [line for line in lines if "mujoco" in line] == [physics_bench.INSTALL]
    assert "pip install 'palaestra[bench]'" in physics_bench.INSTALL


@pytest.mark.usefixtures("tiny", "without_mujoco")
def test_a_broken_mujoco_is_to_be_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``pip install -U`` from 3 to 4 leaves it: its packages are there, and importing it raises an ImportError."""
    monkeypatch.setitem(sys.modules, "mujoco", None)
    _, lines = whole_result()
    assert [line for line in lines if "mujoco" in line] == physics_bench.REPAIR.splitlines()
    assert "    pip uninstall -y mujoco mujoco-core mujoco-studio; pip install mujoco" in lines

    def nothing(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(physics_bench, "version", nothing)
    assert physics_bench.mujoco_advice() == physics_bench.INSTALL


def test_notes_say_what_mujoco_does_not_do() -> None:
    section = {"time_step": 0.002, "steps_per_env_step": 10, "mujoco": "4.0.0", "threads": 2}
    text = physics_notes(section)
    for part in (
        "2 ms",
        "makes 10",
        "friction, limits, reward, observation",
        "4.0.0, 2 threads, float64",
        "without any",
    ):
        assert part in text
    assert "1 thread," in physics_notes({**section, "threads": 1})


# ---------------------------------------------------------------------------------------------------- the model file


@pytest.mark.parametrize("chain", [PANDA, random_chain(3, 5)], ids=lambda chain: chain.name)
def test_a_saved_model_file_holds_the_chain(chain: SerialChain, tmp_path: Any) -> None:
    path = tmp_path / "arm.xml"
    path.write_text(mjcf(dataclasses.replace(chain, name='A <bold> "name" & more'), 0.004), encoding="utf-8")
    assert ElementTree.parse(path).getroot().get("model") == 'A <bold> "name" & more'
    model = mujoco.MjModel.from_xml_path(str(path))
    assert model.opt.timestep == 0.004
    assert [model.joint(i).name for i in range(chain.dof)] == [f"joint{i + 1}" for i in range(chain.dof)]
    assert (model.nq, model.nv, model.nu, model.njnt) == (chain.dof,) * 4
    assert model.body_mass[1 : chain.dof + 1] == pytest.approx(chain.mass)
    assert model.opt.gravity == pytest.approx(chain.gravity)
