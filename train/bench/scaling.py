"""Scaling of a tensor environment and an agent with the number of environments, the network's width and the threads.

1. ``NUM_ENVS``: stepping with random actions, and whole iterations of learning. Rollouts keep their size (steps times
   environments, at most ``LONGEST`` steps) and minibatches theirs, so that the learning per step stays the same where
   that is possible.
2. ``WIDTHS`` of every hidden layer, with rollouts of ``WIDTH_STEPS`` steps.
3. One thread and all of them, on the CPU.
4. All cells take turns; after ``SCALING_LIMIT`` no further round begins, so that a cell may have been measured less
   often than it should.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from palaestra.envs.core import resolve_device
from palaestra.envs.core.host import use_available_cores
from palaestra.envs.registry import make
from palaestra.train.bench.bench_tables import heading, wrapped
from palaestra.train.bench.interleaved import OURS, Sample, Workload, device_clock, measure_interleaved, rates
from palaestra.train.bench.libraries.sb3 import agent, learning
from palaestra.train.bench.stepping import random_actions, stepping
from palaestra.train.bench.throughput import bench_config, machine, say
from palaestra.train.config import AGENTS, DEFAULT_AGENT
from palaestra.train.config.run_config import RunConfig
from palaestra.train.config.schema import ConfigError
from palaestra.train.formatting import three_digits

NUM_ENVS = tuple(4**k for k in range(9))  # 1 … 65,536
WIDTHS = (64, 256, 1024)
LONGEST, WIDTH_STEPS = 128, 16
SCALING_SECONDS = 0.3
SCALING_LIMIT = 200.0  # s after which no further round begins


def measure_scaling(env: str, agent: str = DEFAULT_AGENT, repeats: int = 3, device: str = "auto") -> dict[str, Any]:
    """The three tables, a few minutes on two cores; arguments and errors are those of ``throughput.measure``.

    Returns:
        Plain data: the machine; ``stepping`` and ``learning`` (number of environments → samples), ``width`` (width →
        samples) and ``threads`` (number → samples of learning); and the ``configs`` of learning.

    Raises:
        ConfigError: the environment is not one of ours.
    """
    use_available_cores()
    measured = partial(
        measure_interleaved, repeats=repeats, seconds=SCALING_SECONDS, until=time.perf_counter() + SCALING_LIMIT
    )
    config = bench_config(env, agent, device)
    if not config.resolved_env.in_tensors:
        raise ConfigError(f"{config.env} steps its copies one after another: only tensor environments scale")
    say("stepping, 1 to 65,536 environments")
    steps = measured({str(n): _stepping(config, n) for n in NUM_ENVS})
    sized = {str(n): sized_config(config, n) for n in NUM_ENVS}
    sized = {name: made for name, made in sized.items() if _fits(made)}
    say(f"{agent}, 1 to 65,536 environments")
    learned = measured({name: _learning(made) for name, made in sized.items()})
    say(f"{agent}, networks of width {', '.join(map(str, WIDTHS))}")
    wide = {str(width): with_width(config, width) for width in WIDTHS}
    by_width = measured({name: _learning(made) for name, made in wide.items()})
    say(f"{agent}, one thread and all")
    by_threads = measured(_threads(config))
    return {
        "env": config.env,
        "agent": config.agent,
        **machine(resolve_device(config.device)),
        "stepping": steps,
        "learning": learned,
        "width": by_width,
        "threads_used": by_threads,
        "configs": {name: made.as_dict() for name, made in sized.items()},
    }


def sized_config(config: RunConfig, num_envs: int) -> RunConfig:
    """The same work on another number of environments."""
    kwargs = dict(config.agent_kwargs)
    if AGENTS[config.agent].keeps_replay:
        share = kwargs.get("gradient_steps", 1) * num_envs / config.num_envs
        kwargs |= {"gradient_steps": max(1, round(share)), "learning_starts": 0}
        return replace(config, num_envs=num_envs, agent_kwargs=kwargs)
    steps = min(LONGEST, max(2, config.num_envs * kwargs["n_steps"] // num_envs))
    kwargs |= {"n_steps": steps, "batch_size": min(kwargs["batch_size"], steps * num_envs)}
    return replace(config, num_envs=num_envs, agent_kwargs=kwargs)


def _fits(config: RunConfig) -> bool:
    """True if the replay memory, if there is one, holds enough of each environment."""
    kwargs = config.agent_kwargs
    return not AGENTS[config.agent].keeps_replay or kwargs["buffer_size"] // config.num_envs > 2 * kwargs.get(
        "n_steps", 1
    )


def with_width(config: RunConfig, width: int) -> RunConfig:
    """The same work with another network, and short rollouts, since wide ones take long."""
    kwargs = dict(config.agent_kwargs)
    policy: dict[str, Any] = dict(kwargs.get("policy_kwargs", {}))
    extractor = policy.get("features_extractor_kwargs", {})
    if "hidden" in extractor:
        policy["features_extractor_kwargs"] = {**extractor, "hidden": [width] * len(extractor["hidden"])}
    else:
        policy["net_arch"] = [width] * max(1, len(policy.get("net_arch", [width] * 2)))
    kwargs["policy_kwargs"] = policy
    if not AGENTS[config.agent].keeps_replay:
        kwargs["n_steps"] = min(kwargs["n_steps"], WIDTH_STEPS)
        kwargs["batch_size"] = min(kwargs["batch_size"], kwargs["n_steps"] * config.num_envs)
    return replace(config, agent_kwargs=kwargs)


def _stepping(config: RunConfig, num_envs: int) -> Workload:
    batch = make(config.env, num_envs, config.device, **config.env_kwargs)
    return stepping(batch, random_actions(batch), device_clock(batch.device))


def _learning(config: RunConfig) -> Workload:
    return learning(agent(config, OURS))


def _threads(config: RunConfig) -> dict[str, Workload]:
    """Learning with one thread and with all; nothing on a GPU, or where there is one thread."""
    most = torch.get_num_threads()
    if most == 1 or resolve_device(config.device).type != "cpu":
        return {}
    return {str(threads): _with_threads(_learning(config), threads, most) for threads in (1, most)}


def _with_threads(workload: Workload, threads: int, most: int) -> Callable[[float], Sample]:
    def work(seconds: float) -> Sample:
        torch.set_num_threads(threads)
        try:
            return workload(seconds)
        finally:
            torch.set_num_threads(most)

    return work


def scaling_table(result: dict[str, Any]) -> str:
    """For people to read."""
    agent = result["agent"].upper()
    lines = [*heading(result), "", f"{'steps/s':<20}{'stepping':>12}{agent:>12}", "environments"]
    for num_envs, own in result["stepping"].items():
        learned = result["learning"].get(num_envs)
        lines.append(f"  {int(num_envs):<18,}{_median(own):>12}{_median(learned):>12}")
    lines += [f"width of {agent}'s layers", *(f"  {w:<30}{_median(own):>12}" for w, own in result["width"].items())]
    if result["threads_used"]:
        lines += ["threads", *(f"  {n:<30}{_median(own):>12}" for n, own in result["threads_used"].items())]
    rounds = min(len(own) for part in ("stepping", "learning", "width") for own in result[part].values())
    notes = (
        f"Medians of {rounds} or more measurements in turns. {agent} is end to end, collection and update, with equal "
        "rollouts (fewer steps of more environments, and at most 128)."
    )
    return "\n".join([*lines, "", *wrapped(notes)])


def _median(samples: list[dict[str, Any]] | None) -> str:
    return "–" if not samples else three_digits(statistics.median(rates(samples)))
