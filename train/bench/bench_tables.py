"""The benchmark's results for people to read, at most ``WIDTH`` columns wide."""

from __future__ import annotations

import statistics
import textwrap
from typing import Any

from palaestra.envs.core import resolve_device
from palaestra.train.bench import roofline
from palaestra.train.bench.interleaved import COLLECTION, OURS, UPDATE, WHOLE, rates, ratio
from palaestra.train.bench.libraries.sb3 import SB3_ALONE
from palaestra.train.bench.memory_plan import gib
from palaestra.train.bench.physics import physics_notes
from palaestra.train.config import AGENTS
from palaestra.train.formatting import three_digits

WIDTH = 80


def throughput_table(result: dict[str, Any]) -> str:
    """The result of :func:`palaestra.train.bench.throughput.measure`."""
    lines = [*heading(result), "", f"{'steps/s':<28}{'median':>9}{'min':>9}{'max':>9}{'palaestra is':>22}"]
    for num_envs, samples in result["stepping"].items():
        lines += [f"stepping {int(num_envs):,} environments", *_rows(samples, (WHOLE,))]
    lines += _physics_rows(result["physics"])
    learning = result["learning"]
    parts = (WHOLE, COLLECTION, UPDATE)
    lines += [*wrapped(_work(result["agent"], learning["config"])), *_rows(learning["samples"], parts)]
    if result["one_epoch"]:
        lines += ["the same with one epoch", *_rows(result["one_epoch"], parts)]
    lines += ["", *roofline.rows(result["roofline"]), "", *wrapped(_memory(result))]
    lines += [line for name, reason in result["left_out"].items() for line in wrapped(f"left out: {name}: {reason}")]
    return "\n".join([*lines, "", *wrapped(_notes(result))])


def heading(result: dict[str, Any]) -> list[str]:
    """The environment, the machine and the versions."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    threads = f"{result['threads']} thread{'s' if result['threads'] != 1 else ''}"
    head = f"{result['env']} on {result['device']}; {threads}; {result['machine']}"
    return [*wrapped(head), *wrapped(versions)]


def _physics_rows(physics: dict[str, Any] | None) -> list[str]:
    if physics is None:
        return []
    lines = []
    for num_arms, samples in physics["samples"].items():
        lines += [f"physics steps/s, {int(num_arms):,} arms", *_rows(samples, (WHOLE,))]
    return lines if physics["mujoco"] else [*lines, *physics["advice"].splitlines()]


def _work(agent: str, config: dict[str, Any]) -> str:
    """The learning work in a line."""
    kwargs = config["agent_kwargs"]
    replays = AGENTS[agent].keeps_replay
    steps = kwargs["train_freq"] if replays else kwargs["n_steps"]
    text = f"{agent.upper()} on {config['num_envs']:,} environments × {steps} steps, "
    how = f"{kwargs['gradient_steps']} gradient steps" if replays else f"{kwargs['n_epochs']} epochs"
    return f"{text}{how}, minibatch {kwargs['batch_size']:,}"


def _rows(samples: dict[str, list[dict[str, Any]]], parts: tuple[str, ...]) -> list[str]:
    """One row per workload and part; the ratio is our median over the row's, and in brackets those of the rounds."""
    rows = []
    for name, own in samples.items():
        for part in parts:
            speed = rates(own, part)
            label = f"  {name}" if part == WHOLE else f"    {part}"
            figures = "".join(
                f"{three_digits(value):>9}" for value in (statistics.median(speed), min(speed), max(speed))
            )
            middle, low, high = ratio(samples[OURS], own, part)
            times = "" if name == OURS else f"{middle:.2f}× ({low:.2f}–{high:.2f})"
            rows.append(f"{label:<28}{figures}{times:>22}".rstrip())
    return rows


def _memory(result: dict[str, Any]) -> str:
    peaks = {name: peak["host_mib"] for name, peak in result["learning"]["memory"].items() if peak["host_mib"]}
    devices = {name: peak["device_mib"] for name, peak in result["learning"]["memory"].items() if peak["device_mib"]}
    text = ""
    if peaks:
        text += "Peak memory of a process, MiB: " + ", ".join(f"{n} {mib:,.0f}" for n, mib in peaks.items()) + ". "
    if devices:
        text += "On the GPU: " + ", ".join(f"{name} {mib:,.0f}" for name, mib in devices.items()) + ". "
    planned = result["memory_plan"]
    if planned:
        kept = f"rollout {gib(planned['rollout'])}" if planned["rollout"] else f"replay {gib(planned['replay'])}"
        kept += f" (it keeps {planned['stored']})"
        text += f"{planned['num_envs']:,} environments would take {gib(planned['environments'])}, their {kept}."
    return text


def _notes(result: dict[str, Any]) -> str:
    samples = result["learning"]["samples"]
    allocator = ", whose allocator setting comes with it (palaestra.envs.core.host)"
    alone = " DummyVecEnv: Gymnasium's own environments." if SB3_ALONE in samples else ""
    physics = f" {physics_notes(result['physics'])}" if result["physics"] else ""
    return (
        f"A step is a transition of one environment. Measured in turns, learners {len(samples[OURS])} times; palaestra "
        "is so many times as fast by the medians (in brackets by the rounds). Collection and update: all steps over "
        "the time of that part alone. All learners in processes of their own with as many threads, on palaestra's "
        f"batch{allocator if result['keeps_freed_memory'] else ''}; equal gradient steps, counted.{alone}{physics}"
    )


def section_name(env: str, agent: str, device: str, kind: str = "") -> str:
    """The name of a benchmark's section in a document: ``bench-cartpole-ppo``, ``bench-scaling-reach-ppo-cuda``."""
    used = resolve_device(device).type
    return "-".join(["bench", *([kind] if kind else []), env, agent, *([used] if used != "cpu" else [])])


def section_text(command: str, table: str) -> str:
    """The section: the command and what it printed, as they are."""
    return f"```text\n$ {command}\n{table}\n```"


def wrapped(text: str) -> list[str]:
    """Lines of at most ``WIDTH`` columns."""
    return textwrap.wrap(text, WIDTH, break_long_words=True, break_on_hyphens=False)
