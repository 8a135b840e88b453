"""Throughput on this machine: environments alone, and PPO beside Stable-Baselines3 on the same work, in one run.

1. A step is one transition of one environment. N environments that take k vector steps in t seconds make N · k / t
   steps/s; a vector step that only resets an environment (Gymnasium's NEXT_STEP) makes no step of it.
2. Contenders take turns (A B A B …) after one uncounted round each, so that whatever else the machine does falls on
   both. All measurements are kept; the table shows their median, minimum and maximum, and ratios of medians.
3. Stepping: random actions drawn beforehand, resets as they fall due. CartPole runs beside Gymnasium's own NumPy
   batch, with the same actions (one thread, as NumPy has it).
4. PPO: whole calls of ``learn``, and the parts of them spent in ``collect_rollouts`` and ``train``. CartPole has the
   reference work (``REFERENCE``), other environments their preset, with schedules held at their first value.
5. Stable-Baselines3 gets an equal batch through its own interface (``TensorVecEnv``), the same hyper-parameters, device
   and threads, so that the agents alone make the difference. Beside CartPole it also runs as people use it, with a
   ``DummyVecEnv`` of as many of Gymnasium's environments. Both run in this process, where they profit from
   :mod:`palaestra.envs.allocator` too.
6. Environments with rigid-body dynamics also show physics steps, beside MuJoCo: :mod:`palaestra.train.physics_bench`.
7. The peak of memory is that of the whole process, all contenders together.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import textwrap
import time
from dataclasses import replace
from importlib.metadata import version
from itertools import cycle, islice
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from torch import Tensor

from palaestra.agents import PPO
from palaestra.envs.allocator import keep_freed_memory
from palaestra.envs.core import BatchedEnv
from palaestra.envs.registry import EnvEntry, make, resolve
from palaestra.envs.rng import Rng, env_keys
from palaestra.envs.sampling import sample_actions
from palaestra.envs.views import TensorVecEnv
from palaestra.train.config import RunConfig, build_arguments, resolve_config
from palaestra.train.physics_bench import INSTALL, arm_of, mujoco_contenders, physics_notes, physics_section
from palaestra.train.run import use_available_cores
from palaestra.train.turns import OURS, WHOLE, Clock, Contender, Sample, device_clock, rates, take_turns

CARTPOLE = "palaestra/CartPole-v1"
REFERENCE_ENVS = 1024
REFERENCE = (
    *("n_steps=128", "n_epochs=4", "batch_size=8192", "learning_rate=3e-4"),
    *("policy=MlpPolicy", "policy_kwargs.net_arch=[64, 64]", "policy_kwargs.activation_fn=Tanh"),
)
GYMNASIUM_TWINS = {CARTPOLE: "CartPole-v1"}  # the same rules in Gymnasium, which also has them as a NumPy batch
NORMALIZATION = ("normalize_observation", "normalize_reward")
STEPPING_SIZES = (1024, 4096, 16384)  # of our environments; other people's run as many as their preset has
STEPPING_SECONDS, PPO_SECONDS = 0.5, 2.0  # at least, per measurement
ACTIONS = 64  # vectors of actions drawn beforehand, used over and over
PASS = 16  # vector steps between two looks at the clock

GYMNASIUM, SB3, SB3_ALONE = "gymnasium", "stable-baselines3", "stable-baselines3, DummyVecEnv"
COLLECTION, UPDATE = "collection", "update"
WIDTH = 80  # of the table


def measure(env: str, repeats: int = 3) -> dict[str, Any]:
    """Run the whole benchmark, about a minute on two cores; what it does next goes to standard error.

    Args:
        env: any name that ``palaestra.envs.resolve`` knows.
        repeats: counted measurements of each contender.

    Returns:
        Plain data for JSON: the machine, ``stepping`` (number of environments → contender → samples), ``physics`` (the
        same for physics steps, and what they are; None without any), ``ppo`` (the configuration, and contender →
        samples) and ``peak_memory_mib``. :func:`table` shows it.

    Raises:
        UnknownEnvError: no such environment.
    """
    use_available_cores()
    config = bench_config(env)
    stepping, physics = measure_stepping(config, repeats)
    _say("PPO of palaestra and of stable-baselines3 in turns")
    agents = build_agents(config)
    ppo = take_turns({name: learning(agent) for name, agent in agents.items()}, repeats, PPO_SECONDS)
    return {
        "env": config.env,
        **_machine(next(iter(agents.values())).device),
        "repeats": repeats,
        "stepping": stepping,
        "physics": physics,
        "ppo": {"config": config.as_dict(), "samples": ppo},
        "peak_memory_mib": peak_memory_mib(),
    }


def bench_config(env: str) -> RunConfig:
    """The work of the PPO section, plain data; schedules become constants, for the run has no end here.

    Observations and rewards are as they come: Stable-Baselines3 normalises in a wrapper, not in its agent.
    """
    config = resolve_config(env)
    if config.env == CARTPOLE:
        config = resolve_config(env, num_envs=REFERENCE_ENVS, settings=REFERENCE)
    built = build_arguments(config)
    constant = {k: built[k](1.0) if callable(built[k]) else value for k, value in config.agent_kwargs.items()}
    return replace(config, agent_kwargs={k: v for k, v in constant.items() if k not in NORMALIZATION})


# ---------------------------------------------------------------------------------------------------- stepping


def measure_stepping(config: RunConfig, repeats: int) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Number of environments → contender → samples; and the physics section of environments that have one."""
    sizes = STEPPING_SIZES if isinstance(resolve(config.env), EnvEntry) else (config.num_envs,)
    arm, stepping = arm_of(config.env), {}
    for num_envs in sizes:
        _say(f"stepping {num_envs:,} environments")
        contenders = stepping_contenders(config.env, num_envs)
        if arm is not None:
            contenders |= mujoco_contenders(arm, num_envs)
        stepping[str(num_envs)] = take_turns(contenders, repeats, STEPPING_SECONDS)
    return stepping, None if arm is None else physics_section(arm, stepping)


def stepping_contenders(env: str, num_envs: int) -> dict[str, Contender]:
    """Our batch, and Gymnasium's own where there is one, with the same actions."""
    batch = make(env, num_envs)
    keys = env_keys(batch.seed, batch.env_indices)
    actions = [sample_actions(batch.single_action_space, Rng(keys, t)) for t in range(ACTIONS)]
    contenders = {OURS: stepping(batch, actions, device_clock(batch.device))}
    if env in GYMNASIUM_TWINS:
        arrays = [action.cpu().numpy() for action in actions]
        contenders[GYMNASIUM] = numpy_stepping(GYMNASIUM_TWINS[env], num_envs, arrays)
    return contenders


def stepping(batch: BatchedEnv, actions: list[Tensor], clock: Clock) -> Contender:
    """Plays the list of actions over and over."""
    batch.reset()
    ring = cycle(actions)

    def work(seconds: float) -> Sample:
        start = now = clock()
        steps = 0
        while not steps or now - start < seconds:
            for action in islice(ring, PASS):
                batch.step(action)
            steps += batch.num_envs * PASS
            now = clock()
        return Sample(steps, {WHOLE: now - start})

    return work


def numpy_stepping(id: str, num_envs: int, actions: list[Any], clock: Clock = time.perf_counter) -> Contender:
    """The same on Gymnasium's batch, where a row spends the vector step after an episode's end on its reset."""
    env = gymnasium.make_vec(id, num_envs, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    ring, resets = cycle(actions), 0

    def work(seconds: float) -> Sample:
        nonlocal resets
        start = now = clock()
        steps = 0
        while not steps or now - start < seconds:
            for action in islice(ring, PASS):
                _, _, terminated, truncated, _ = env.step(action)
                steps += num_envs - resets
                resets = int(np.count_nonzero(terminated | truncated))
            now = clock()
        return Sample(steps, {WHOLE: now - start})

    return work


# ---------------------------------------------------------------------------------------------------- PPO


def build_agents(config: RunConfig) -> dict[str, stable_baselines3.PPO]:
    """The agents with the same arguments, each on environments of its own with the same seed."""
    arguments = {**build_arguments(config), "seed": config.seed}

    def batch() -> BatchedEnv:
        return make(config.env, config.num_envs, config.device, config.seed, **config.env_kwargs)

    ours = PPO(env=batch(), **arguments)
    arguments["device"] = ours.device
    agents = {OURS: ours, SB3: stable_baselines3.PPO(env=TensorVecEnv(batch()), **arguments)}
    if config.env in GYMNASIUM_TWINS:
        alone = make_vec_env(GYMNASIUM_TWINS[config.env], config.num_envs, config.seed)
        agents[SB3_ALONE] = stable_baselines3.PPO(env=alone, **arguments)
    return agents


def learning(agent: stable_baselines3.PPO, clock: Clock | None = None) -> Contender:
    """Learns from one rollout after the other; logs go nowhere."""
    read = clock or device_clock(agent.device)
    agent.set_logger(Logger(None, []))
    parts = {COLLECTION: 0.0, UPDATE: 0.0}
    _time_method(agent, "collect_rollouts", parts, COLLECTION, read)
    _time_method(agent, "train", parts, UPDATE, read)

    def work(seconds: float) -> Sample:
        parts.update({COLLECTION: 0.0, UPDATE: 0.0})
        first = agent.num_timesteps
        start = now = read()
        while agent.num_timesteps == first or now - start < seconds:
            agent.learn(agent.n_steps * agent.n_envs, reset_num_timesteps=False)
            now = read()
        return Sample(agent.num_timesteps - first, {WHOLE: now - start, **parts})

    return work


def _time_method(owner: Any, name: str, seconds: dict[str, float], part: str, clock: Clock) -> None:
    """Replace a method of one object by itself with a stop-watch, whose time is added to ``seconds[part]``."""
    method = getattr(owner, name)

    def timed(*args: Any, **kwargs: Any) -> Any:
        start = clock()
        result = method(*args, **kwargs)
        seconds[part] += clock() - start
        return result

    setattr(owner, name, timed)


# ---------------------------------------------------------------------------------------------------- the machine


def _machine(device: torch.device) -> dict[str, Any]:
    names = ("palaestra", "torch", "stable-baselines3", "gymnasium", "numpy")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": str(device) if gpu is None else f"{device} ({gpu})",
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {**{name: version(name) for name in names}, "python": platform.python_version()},
        "keeps_freed_memory": keep_freed_memory(),
    }


def peak_memory_mib() -> float | None:
    """Most memory that this process ever held; None on Windows."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # bytes there, KiB elsewhere


def _say(text: str) -> None:
    print(f"measuring {text} …", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------- text


def table(result: dict[str, Any]) -> str:
    """The result for people to read, at most ``WIDTH`` columns wide."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    threads = f"{result['threads']} thread{'s' if result['threads'] != 1 else ''}"
    head = f"{result['env']} on {result['device']}; {threads}; {result['machine']}"
    lines = [*_wrapped(head), *_wrapped(versions), ""]
    lines.append(f"{'steps/s':<32}{'median':>13}{'min':>13}{'max':>13}{'ratio':>9}")
    for num_envs, samples in result["stepping"].items():
        lines += [f"stepping {int(num_envs):,} environments", *_rows(samples, (WHOLE,))]
    lines += _physics_rows(result["physics"])
    config = result["ppo"]["config"]
    lines += [*_wrapped(f"PPO on {_work(config)}"), *_rows(result["ppo"]["samples"], (WHOLE, COLLECTION, UPDATE))]
    peak = result["peak_memory_mib"]
    memory = "" if peak is None else f"Peak memory {peak:,.0f} MiB, all together. "
    lines += ["", *_wrapped(memory + _notes(result))]
    return "\n".join(lines)


def _physics_rows(physics: dict[str, Any] | None) -> list[str]:
    if physics is None:
        return []
    lines = []
    for num_arms, samples in physics["samples"].items():
        lines += [f"physics steps/s, {int(num_arms):,} arms", *_rows(samples, (WHOLE,))]
    return lines if physics["mujoco"] else [*lines, INSTALL]


def _work(config: dict[str, Any]) -> str:
    """The PPO work in a line."""
    agent = config["agent_kwargs"]
    return (
        f"{config['num_envs']:,} environments × {agent['n_steps']} steps, "
        f"{agent['n_epochs']} epochs, minibatch {agent['batch_size']:,}"
    )


def _rows(samples: dict[str, list[dict[str, Any]]], parts: tuple[str, ...]) -> list[str]:
    """One row per contender and part; the ratio is our median over the row's."""
    rows = []
    for name, own in samples.items():
        for part in parts:
            speed = rates(own, part)
            label = f"  {name}" if part == WHOLE else f"    {part}"
            figures = "".join(f"{value:>13,.0f}" for value in (statistics.median(speed), min(speed), max(speed)))
            ratio = statistics.median(rates(samples[OURS], part)) / statistics.median(speed)
            rows.append(f"{label:<32}{figures}{'' if name == OURS else f'{ratio:>8.2f}×'}")
    return rows


def _notes(result: dict[str, Any]) -> str:
    allocator = ", where it keeps freed memory too (palaestra.envs.allocator)" if result["keeps_freed_memory"] else ""
    alone = " DummyVecEnv: on Gymnasium's own environments." if SB3_ALONE in result["ppo"]["samples"] else ""
    physics = f" {physics_notes(result['physics'])}" if result["physics"] else ""
    return (
        f"A step is one transition of one environment. {result['repeats']} measurements of each, in turns; ratio is "
        "palaestra's median over this row's. Collection and update: all steps over the time of that part alone. "
        f"stable-baselines3 runs on the same batched environments, in the same process{allocator}.{alone}{physics}"
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_long_words=True, break_on_hyphens=False)
