"""The overview: everything that ``palaestra bench`` without an environment measures, in one run of a few minutes.

1. PPO on CartPole, the same work as other libraries (4 epochs, then 1), with the peak memory of each; and which share
   of the machine's matrix products the update reaches.
2. Stepping alone: CartPole, eager and compiled, beside Gymnasium's NumPy batch and gymnax; Snake, reach and pricing.
3. Training with presets, and on 16,384 Snake boards.
4. Runs beside a busy program, and two side by side. The rollout of 65,536 Snake boards, planned.

Each topic has its share of the time (:mod:`palaestra.train.bench.overview.time_budget`), and works in processes of its
own, so that what fails or crashes there is told, and the others go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from palaestra.envs.core import resolve_device
from palaestra.envs.core.host import use_available_cores
from palaestra.train.bench.interleaved import COLLECTION, OURS, UPDATE, WorkloadError, rates
from palaestra.train.bench.libraries import GYMNAX, INSTALL, LEARNERS, OURS_AND_SB3, Peer, installed
from palaestra.train.bench.libraries.process import LibraryProcess
from palaestra.train.bench.libraries.sb3 import names
from palaestra.train.bench.memory_plan import plan
from palaestra.train.bench.overview.measured import MIB, PERCENT, Measured, speeds
from palaestra.train.bench.overview.processor import where
from palaestra.train.bench.overview.shared_machine import ALONE, beside_a_neighbour, side_by_side
from palaestra.train.bench.overview.time_budget import Span, TimeBudget
from palaestra.train.bench.overview.timed_rounds import measure_rounds, started, warm_up
from palaestra.train.bench.scaling import sized_config
from palaestra.train.bench.stepping import GYMNASIUM, STEPPING_SIZES, peer_spec
from palaestra.train.bench.throughput import PLANNED_ENVS, bench_config, equal_work, machine, say
from palaestra.train.config.run_config import RunConfig, build_arguments, resolve_config
from palaestra.train.formatting import minutes

SECONDS = 220.0  # of the whole, when nobody says otherwise: under four minutes with the start of Python
STEPPED = ("snake", "reach", "pricing")
COMPILED = Peer(f"{OURS} --compile", "env_stepping", "palaestra", compiles=True)
TRAINED = ("snake-small", "snake", "pricing", "reach")
NEIGHBOURS = ("pricing", "snake-small")
WARM_UP = 0.65  # share of a topic's time by which its processes must be warm; what they leave over is measured in
MANY_BOARDS, MANY_ENVS = 16_384, 65_536


@dataclass
class Job:
    """What topics need to know, and what they find.

    Attributes:
        device: of environments and agents.
        repeats: measurements of each, where there is time.
        left_out: who was not measured in this topic, and why; "" is the topic itself.
        figures: what was found so far.
        work: the rollouts and minibatches of what is compared.
    """

    device: str
    repeats: int
    left_out: dict[str, str] = field(default_factory=dict)
    figures: list[Measured] = field(default_factory=list)
    work: str = ""

    @property
    def on_gpu(self) -> bool:
        return resolve_device(self.device).type == "cuda"

    def spec(self, config: RunConfig, name: str, module: str = OURS_AND_SB3, **more: Any) -> dict[str, Any]:
        """What a process builds."""
        threads = torch.get_num_threads()
        spec = {"config": config.as_dict(), "threads": threads, "device": self.device, "name": name, "module": module}
        return {**spec, **more}

    def alone(self, env: str) -> float | None:
        """The speed of a run that had the machine for itself, if that was measured."""
        wanted = (f"palaestra train {env}", ALONE)
        return next((figure.median for figure in self.figures if (figure.topic, figure.name) == wanted), None)


Measure = Callable[[Job, Span], Iterator[Measured]]


def same_work(job: Job, span: Span) -> Iterator[Measured]:
    """PPO beside other libraries."""
    config = bench_config("cartpole", "ppo", job.device)
    specs = {name: job.spec(config, name) for name in names(config)}
    peers = sorted(installed(LEARNERS, job.left_out), key=lambda peer: peer.compiles)  # who takes long to warm up last
    specs |= {peer.name: job.spec(config, peer.name, peer.module) for peer in peers}
    kwargs = config.agent_kwargs
    job.work = f"{config.num_envs:,} × {kwargs['n_steps']} steps, minibatch {kwargs['batch_size']:,}"
    with started(specs, LibraryProcess) as processes:
        units = warm_up(processes, span.part(WARM_UP), job.left_out, job.on_gpu, epochs=kwargs["n_epochs"])
        for share, epochs in ((0.65, kwargs["n_epochs"]), (1.0, 1)):
            part = replace(span.part(share), end=span.end)
            samples = measure_rounds(processes, units, job.repeats, part, job.left_out, epochs=epochs)
            if OURS in samples:
                samples = equal_work(samples, job.left_out)
            title = f"PPO on CartPole, {epochs} epoch{'s' if epochs > 1 else ''}"
            yield from speeds(title, samples, processes)
            for stage in (COLLECTION, UPDATE) if OURS in samples else ():
                yield Measured(title, f"{OURS}, {stage} alone", rates(samples[OURS], stage))


def share_of_products(job: Job, span: Span) -> Iterator[Measured]:
    """The update of that work, beside the most matrix products that the machine makes."""
    updates = next((figure.values for figure in job.figures if figure.name == f"{OURS}, {UPDATE} alone"), None)
    if updates is None:
        raise WorkloadError("no update was measured")
    config = bench_config("cartpole", "ppo", job.device)
    with started({OURS: job.spec(config, OURS, "update_bound")}, LibraryProcess) as processes:
        processes[OURS].ready(span.patience)
        processes[OURS].ask(0.0)
        bound = processes[OURS].answer(span.patience)
    shares = [100.0 * bound["flops_per_step"] * speed / bound["flops"] for speed in updates]
    note = f"of {bound['flops'] / 1e9:,.0f} GFLOP/s"
    yield Measured("update, share of the limit of matrix products", OURS, shares, PERCENT, note=note)


def stepping_cartpole(job: Job, span: Span) -> Iterator[Measured]:
    """CartPole beside others' batches."""
    config = resolve_config("cartpole", "ppo", device=job.device)
    specs = {OURS: job.spec(config, OURS, "env_stepping"), GYMNASIUM: job.spec(config, GYMNASIUM, "env_stepping")}
    if installed((GYMNAX,), job.left_out):
        specs[GYMNAX.name] = peer_spec(config, GYMNAX)
    if installed((COMPILED,), job.left_out):  # last, for it takes long to warm up
        specs[COMPILED.name] = job.spec(config, COMPILED.name, COMPILED.module, options={"compile": True})
    yield from _stepped(job, span, "cartpole", specs, STEPPING_SIZES)


def stepping_others(job: Job, span: Span) -> Iterator[Measured]:
    """Environments that nobody else has as a batch."""
    for number, env in enumerate(STEPPED):
        config = resolve_config(env, "ppo", device=job.device)
        part = replace(span.part(1.0 / (len(STEPPED) - number)), end=span.end)
        yield from _stepped(job, part, env, {OURS: job.spec(config, OURS, "env_stepping")}, STEPPING_SIZES[:1])


def _stepped(
    job: Job, span: Span, env: str, specs: dict[str, dict[str, Any]], sizes: tuple[int, ...]
) -> Iterator[Measured]:
    if job.on_gpu:
        sizes = (*sizes, MANY_ENVS)
    with started(specs, LibraryProcess) as processes:
        for number, num_envs in enumerate(sizes):
            new = number == 0  # then the processes start, which takes as long again
            share = 2.0 / (len(sizes) + 1) if new else 1.0 / (len(sizes) - number)
            part = replace(span.part(share), end=span.end)
            units = warm_up(processes, part.part(WARM_UP), job.left_out, job.on_gpu, new=new, select=num_envs)
            samples = measure_rounds(processes, units, job.repeats, part, job.left_out, select=num_envs)
            yield from speeds(f"stepping {num_envs:,} × {env}", samples)


def presets(job: Job, span: Span) -> Iterator[Measured]:
    """Iterations of PPO as its presets have them, and with many boards."""
    configs = {env: held(resolve_config(env, "ppo", device=job.device)) for env in TRAINED}
    many = with_many_boards(configs["snake"], job.on_gpu)
    kwargs = many.agent_kwargs
    configs[f"snake, {MANY_BOARDS:,} × {kwargs['n_steps']} steps, minibatch {kwargs['batch_size']:,}"] = many
    with started({name: job.spec(config, OURS) for name, config in configs.items()}, LibraryProcess) as processes:
        units = warm_up(processes, span.part(WARM_UP), job.left_out, job.on_gpu)
        samples = measure_rounds(processes, units, job.repeats, span, job.left_out)
        for figure in speeds("training with the preset (PPO)", samples, processes):
            total = configs[figure.name].total_timesteps
            taken = "" if configs[figure.name] is many else f"{total / 1e6:g} M steps: {minutes(total / figure.median)}"
            yield replace(figure, note=taken)


def with_many_boards(config: RunConfig, on_gpu: bool) -> RunConfig:
    """The preset on ``MANY_BOARDS``: on a GPU as many steps of each and as many minibatches, which are larger.

    On a CPU as many steps of all together, and minibatches of the same size.
    """
    if not on_gpu:
        return sized_config(config, MANY_BOARDS)
    kwargs = config.agent_kwargs
    larger = kwargs["batch_size"] * MANY_BOARDS // config.num_envs
    return replace(config, num_envs=MANY_BOARDS, agent_kwargs={**kwargs, "batch_size": larger})


def held(config: RunConfig) -> RunConfig:
    """The configuration with schedules held at their first value, for the run has no end here."""
    built = build_arguments(config)
    kwargs = {k: built[k](1.0) if callable(built[k]) else value for k, value in config.agent_kwargs.items()}
    return replace(config, agent_kwargs=kwargs)


def neighbours(job: Job, span: Span) -> Iterator[Measured]:
    """Runs beside a busy program."""
    for number, env in enumerate(NEIGHBOURS):
        part = replace(span.part(1.0 / (len(NEIGHBOURS) - number)), end=span.end)
        yield from beside_a_neighbour(env, job.device, part)


def pairs(job: Job, span: Span) -> Iterator[Measured]:
    """Two runs side by side."""
    yield from side_by_side(NEIGHBOURS[0], job.device, job.alone(NEIGHBOURS[0]), span)


def memory_of_boards(job: Job, span: Span) -> Iterator[Measured]:
    """The rollout of many Snake boards; planned on the meta device, nothing is allocated."""
    planned = plan(resolve_config("snake", "ppo", device=job.device), PLANNED_ENVS)
    note = f"it keeps {planned.stored}"
    yield Measured(f"memory of {PLANNED_ENVS:,} × snake", "rollout", [planned.rollout / 2**20], MIB, note=note)


TOPICS: dict[str, tuple[float, Measure]] = {  # announced as → weight (about s on two cores), and what measures it
    "memory": (2.0, memory_of_boards),  # first: it takes what it takes
    "PPO on CartPole beside other libraries": (110.0, same_work),
    "what the update reaches": (12.0, share_of_products),
    "CartPole's environments alone": (40.0, stepping_cartpole),
    "Snake's, reach's and pricing's environments alone": (12.0, stepping_others),
    "training with presets": (24.0, presets),
    "runs beside a busy program": (44.0, neighbours),
    "two runs side by side": (16.0, pairs),
}


def measure_overview(
    repeats: int = 3, device: str = "auto", seconds: float = SECONDS, spent: float = 0.0
) -> dict[str, Any]:
    """Measure every topic, in about so many seconds; what comes next goes to standard error.

    Args:
        repeats: measurements of each workload, where there is time for them.
        device: of environments and agents.
        seconds: of all together.
        spent: seconds of them that are over already.

    Returns:
        Plain data for JSON: where it was measured, ``figures`` (fields of :class:`Measured`), ``left_out`` (who was not
        measured, and why) and ``seconds``.
        :func:`palaestra.train.bench.overview.overview_table.overview_table` shows it.

    Raises:
        ConfigError: if there is no such device.
    """
    budget = TimeBudget(seconds - spent, {name: weight for name, (weight, _) in TOPICS.items()})
    resolve_config("cartpole", "ppo", device=device)
    use_available_cores()
    found_at = where(device)
    job, left_out = Job(device, repeats), dict[str, str]()
    for name, (_, measure) in TOPICS.items():
        say(name)
        job.left_out, span = {}, budget.begin(name)
        try:
            for figure in measure(job, span):
                job.figures.append(figure)
        except Exception as error:  # of whatever kind: the topic is named with the reason, and the others go on
            what = "" if isinstance(error, WorkloadError) else f"{type(error).__name__}: "
            job.left_out[""] = f"{what}{' '.join(str(error).split())[:300]}"
        for who, reason in job.left_out.items():
            absent = reason == INSTALL  # wherever it would have been measured
            left_out[who if absent else f"{name}: {who}" if who else name] = reason
    return {
        **machine(resolve_device(device)),
        **found_at,
        "seconds": seconds,
        "repeats": repeats,
        "work": job.work,
        "figures": [figure.as_dict() for figure in job.figures],
        "left_out": left_out,
    }
