"""Throughput on this machine: environments alone, and an agent beside other libraries on the same work, in one run.

1. A step is one transition of one environment. N environments that take k vector steps in t seconds make N · k / t
   steps/s.
2. Contenders take turns (:mod:`palaestra.train.bench.interleaved`), each learner in a process of its own
   (:mod:`palaestra.train.bench.libraries`). All measurements are kept; the table shows medians, extremes, and ratios
   with the extremes of the rounds.
3. Stepping: :mod:`palaestra.train.bench.stepping`.
4. Learning: whole iterations, and the parts of them spent in collection and update. PPO on CartPole has the reference
   work (``REFERENCE``), and the same again with one epoch; all else is the preset's, with schedules held at their first
   value and without options that Stable-Baselines3 lacks. A library that makes another
   number of gradient steps per step than palaestra, counted, is left out.
5. Stable-Baselines3 gets an equal batch through its own interface (``SB3VecEnv``), the same hyper-parameters, device
   and threads; beside CartPole it also runs as people use it. Other libraries (extra ``bench``) do the reference work.
6. What bounds each stage: :mod:`palaestra.train.bench.roofline`. Memory: peaks of the processes, and a plan for
   ``PLANNED_ENVS`` (:mod:`palaestra.train.bench.memory_plan`).
7. A library that is missing or fails is named with the reason. After ``TIME_LIMIT`` no further round begins.
"""

from __future__ import annotations

import inspect
import os
import platform
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import torch

from palaestra.envs.core.host import keep_freed_memory, use_available_cores
from palaestra.envs.registry import make
from palaestra.train.bench import roofline
from palaestra.train.bench.interleaved import COLLECTION, OURS, UPDATE, WorkloadError, measure_interleaved, rates
from palaestra.train.bench.libraries import GYMNAX, LEARNERS, OURS_AND_SB3, PGX, installed
from palaestra.train.bench.libraries.process import LibraryProcess
from palaestra.train.bench.libraries.sb3 import agent, learning, names
from palaestra.train.bench.memory_plan import plan
from palaestra.train.bench.stepping import measure_stepping, random_actions
from palaestra.train.config import AGENTS, DEFAULT_AGENT
from palaestra.train.config.run_config import RunConfig, build_arguments, resolve_config
from palaestra.train.formatting import tell

CARTPOLE = "palaestra/CartPole-v1"
REFERENCE_ENVS = 1024
REFERENCE = (
    *("n_steps=128", "n_epochs=4", "batch_size=8192", "learning_rate=3e-4"),
    *("policy=MlpPolicy", "policy_kwargs.net_arch=[64, 64]", "policy_kwargs.activation_fn=Tanh"),
)
LEARNING_SECONDS = 2.0  # at least, per measurement
ONE_EPOCH_SECONDS = 1.0
TIME_LIMIT = 240.0  # s after which no further round begins
PLANNED_ENVS = 65_536


def measure(env: str, agent: str = DEFAULT_AGENT, repeats: int = 3, device: str = "auto") -> dict[str, Any]:
    """Run the whole benchmark, a few minutes on two cores; what it does next goes to standard error.

    Args:
        env: any name that ``palaestra.envs.resolve`` knows.
        agent: its name.
        repeats: counted measurements of each workload.
        device: of environments and agents.

    Returns:
        Plain data for JSON: the machine, ``stepping`` (number of environments → workload → samples), ``physics`` (the
        same for physics steps, and what they are; None without any), ``learning`` (the configuration, workload →
        samples, and peaks of memory), ``one_epoch`` (the same with one pass over each rollout; None where there is no
        such number), ``roofline``, ``memory_plan`` and ``left_out`` (who, and why).
        :func:`palaestra.train.bench.bench_tables.throughput_table` shows it.

    Raises:
        UnknownEnvError: no such environment.
        ConfigError: the agent cannot act in it.
    """
    use_available_cores()
    until = time.perf_counter() + TIME_LIMIT
    config = bench_config(env, agent, device)
    failures: dict[str, str] = {}
    say("environments alone")
    stepping, physics = measure_stepping(config, repeats, failures, until)
    reference, one_epoch, memory = measure_learning(config, repeats, failures, until)
    say("what bounds each stage")
    bounds = measure_roofline(config, stepping, reference[OURS])
    return {
        "env": config.env,
        "agent": config.agent,
        **machine(torch.device(bounds.pop("device"))),
        "stepping": stepping,
        "physics": physics,
        "learning": {"config": config.as_dict(), "samples": reference, "memory": memory},
        "one_epoch": one_epoch,
        "roofline": bounds,
        "memory_plan": {"num_envs": PLANNED_ENVS, **asdict(plan(config, PLANNED_ENVS))}
        if config.resolved_env.in_tensors
        else None,
        "left_out": failures,
    }


def bench_config(env: str, agent: str = DEFAULT_AGENT, device: str = "auto") -> RunConfig:
    """The work of the learning section, plain data; schedules become constants, for the run has no end here.

    Where the agent has a twin in Stable-Baselines3, what that lacks is left out: normalisation, and DQN's options.
    Replays per step become gradient steps after each collection, which both understand.
    """
    config = resolve_config(env, agent, device=device)
    if config.env == CARTPOLE and agent == "ppo":
        config = resolve_config(env, agent, device=device, num_envs=REFERENCE_ENVS, settings=REFERENCE)
    built = build_arguments(config)
    kwargs = {k: built[k](1.0) if callable(built[k]) else value for k, value in config.agent_kwargs.items()}
    twin = AGENTS[agent].sb3_twin
    if twin is not None:
        if "samples_per_insert" in kwargs:
            replayed = kwargs["samples_per_insert"] * kwargs["train_freq"] * config.num_envs
            kwargs["gradient_steps"] = max(1, round(replayed / kwargs["batch_size"]))
        of_sb3 = inspect.signature(twin).parameters
        kwargs = {k: v for k, v in kwargs.items() if k in of_sb3}
        if kwargs.get("policy") == "DuelingPolicy":
            kwargs["policy"] = "MlpPolicy"
    return replace(config, agent_kwargs=kwargs)


def measure_learning(
    config: RunConfig, repeats: int, failures: dict[str, str], until: float
) -> tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]:
    """Samples of the work, of the same with one epoch, and peaks of memory (MiB), by workload."""
    say(f"{config.agent} beside others; they start")
    processes = start(config, failures)
    try:
        say(f"{config.agent}: {', '.join(processes)}, in turns")
        epochs: int | None = config.agent_kwargs.get("n_epochs")
        settings = {} if epochs is None else {"epochs": epochs}
        workloads = {name: process.workload(**settings) for name, process in processes.items()}
        samples = measure_interleaved(workloads, repeats, LEARNING_SECONDS, failures, until)
        samples = equal_work(samples, failures)
        memory = {
            name: {"host_mib": processes[name].memory_mib, "device_mib": processes[name].device_memory_mib}
            for name in samples
        }
        one_epoch = None
        if epochs is not None and epochs != 1:
            say("the same with one epoch")
            workloads = {name: processes[name].workload(epochs=1) for name in samples}
            one_epoch = equal_work(
                measure_interleaved(workloads, repeats, ONE_EPOCH_SECONDS, failures, until), failures
            )
        return samples, one_epoch, memory
    finally:
        for process in processes.values():
            process.close()


def start(config: RunConfig, failures: dict[str, str]) -> dict[str, LibraryProcess]:
    """A process for each library that can do that work here; all but SB3 know the reference work only."""
    spec = {"config": config.as_dict(), "threads": torch.get_num_threads(), "device": config.device}
    wanted = dict.fromkeys(names(config), OURS_AND_SB3)
    if config.env == CARTPOLE and config.agent == "ppo":
        wanted |= {peer.name: peer.module for peer in installed(LEARNERS, failures)}
    if AGENTS[config.agent].sb3_twin is None:
        failures["SB3"] = f"it has no {config.agent}"
    processes = {name: LibraryProcess({**spec, "name": name, "module": module}) for name, module in wanted.items()}
    for name, process in list(processes.items()):
        try:
            process.ready()
        except WorkloadError as error:
            process.close()
            if name == OURS:
                raise
            failures[name] = str(error)
            del processes[name]
    return processes


def equal_work(samples: dict[str, Any], failures: dict[str, str]) -> dict[str, Any]:
    """Only those who made as many gradient steps for as many steps as we did."""
    steps, updates = samples[OURS][0]["steps"], samples[OURS][0]["gradient_steps"]
    kept = {}
    for name, own in samples.items():
        if all(s["gradient_steps"] * steps == updates * s["steps"] for s in own):
            kept[name] = own
        else:
            other = own[0]["gradient_steps"] / own[0]["steps"]
            failures[name] = f"other work: {other:.3g} gradient steps per step, palaestra makes {updates / steps:.3g}"
    return kept


def measure_roofline(config: RunConfig, stepping: dict[str, Any], samples: list[dict[str, Any]]) -> dict[str, Any]:
    """The bounds of stepping (at the largest size), collection and update, and the device they were measured on."""
    num_envs = max(map(int, stepping))
    ours = agent(config, OURS)
    layer = roofline.widest_layer(ours.policy, config.agent_kwargs["batch_size"])
    ceilings = roofline.measure_ceilings(torch.device(ours.device), layer)
    work = roofline.count_learning(ours, learning(ours), ceilings)
    batch = make(config.env, num_envs, config.device, **config.env_kwargs)
    work_of_stepping = roofline.count_stepping(batch, random_actions(batch), ceilings)
    speed = {part: rates(samples, part) for part in (COLLECTION, UPDATE)}
    stages = {
        f"stepping {num_envs:,}": roofline.stage(work_of_stepping, rates(stepping[str(num_envs)][OURS]), ceilings)
    }
    stages |= {part: roofline.stage(work[part], speed[part], ceilings) for part in speed}
    return {"device": str(ours.device), "ceilings": roofline.plain(ceilings), "stages": stages}


def machine(device: torch.device) -> dict[str, Any]:
    """The device, the threads, the machine and the versions."""
    packages = ("palaestra", "torch", "stable-baselines3", "gymnasium", "numpy")
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    peers = {peer.package: version(peer.package) for peer in (*LEARNERS, GYMNAX, PGX) if peer.missing() is None}
    return {
        "device": str(device) if gpu is None else f"{device} ({gpu})",
        "threads": torch.get_num_threads(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {**{name: version(name) for name in packages}, **peers, "python": platform.python_version()},
        "keeps_freed_memory": keep_freed_memory(),
    }


def say(text: str) -> None:
    """Announce the next measurement on standard error."""
    tell(f"measuring {text} …")
