"""What a run says as it begins and goes on: who trains where and for how long, and what the returns mean."""

from __future__ import annotations

from collections.abc import Callable

import torch

from palaestra.agents.distributed.process_group import process_group
from palaestra.envs.compiled.batch import compile_steps
from palaestra.envs.core import Reference
from palaestra.train.config.compatibility import Agent
from palaestra.train.config.run_config import RunConfig
from palaestra.train.formatting import SCORES, known, minutes
from palaestra.train.loggers.metric_names import moves_for_both


def whole_rollouts(asked: int, done: int, rollout: int) -> int:
    """The steps after which training ends that has ``done`` some: the first whole rollout at ``asked`` or above."""
    return done + -(-max(0, asked - done) // rollout) * rollout


def headlines(config: RunConfig, reference: Reference, model: Agent, done: int, rollout: int) -> list[str]:
    """The first lines of a run: who trains, how it computes, what its environment assumes, what its returns mean.

    Where steps are to be compiled they are compiled here, and a line tells how long that took, or why they are not.
    """
    assumed = config.resolved_env.remarks(config.env_kwargs)
    compiled = compile_steps(model.batch, config.resolved_env.short_name) if config.compile else []
    how = [computing(config, model), *compiled, *_fixed_opponent(config)]
    last = returns_on_display(reference, moves_for_both(config.env_kwargs))
    return [headline(config, model.batch.device, done, rollout), *how, *assumed, last]


def _fixed_opponent(config: RunConfig) -> list[str]:
    """A line on whom evaluations are played against, where that is another opponent than in training."""
    rival, trained = (kwargs.get("opponent") for kwargs in (config.evaluation_kwargs, config.env_kwargs))
    return [] if rival == trained else [f"evaluations and recordings: against {rival}; training: against {trained}"]


def computing(config: RunConfig, model: Agent) -> str:
    """One line on how a run computes: its precision, recorded operations on a GPU, and what its memory keeps."""
    on_gpu = model.batch.device.type == "cuda"
    precision = "float32"
    if config.precision != "float32":
        precision = "TF32 products, all else float32" if on_gpu else f"float32 ({config.precision} is a GPU's)"
    one_by_one = "operations one by one" + (" (--no-graph)" if not config.graph else ": these cannot be recorded")
    replayed = "CUDA graphs" if model.replays_graphs() else one_by_one
    memory = "its replay memory keeps" if model.keeps_replay else "rollouts keep"
    kept = "states, which give the observations again" if model.stores_states() else "observations"
    return "; ".join([f"computes in {precision}", *([replayed] if on_gpu else []), f"{memory} {kept}"])


def headline(config: RunConfig, device: torch.device, done: int, rollout: int) -> str:
    """One line on who trains where and for how long.

    Args:
        config: of the run.
        device: of its environments.
        done: steps before a resumption.
        rollout: steps of an iteration, over all environments.
    """
    count = torch.get_num_threads()
    threads = f", {count} thread{'s' if count != 1 else ''}" if device.type == "cpu" else ""
    processes = f" in {process_group().size} processes" if process_group().size > 1 else ""
    asked, total = config.total_timesteps, whole_rollouts(config.total_timesteps, done, rollout)
    steps = f"steps {done:,} to {total:,}" if done else f"{total:,} steps"
    whole = f" ({asked:,} in whole rollouts of {rollout:,})" if total != asked and total > done else ""
    return (
        f"{config.agent} on {config.resolved_env.short_name}: {config.num_envs:,} environments{processes} on "
        f"{device}{threads}, {steps}{whole}, seed {config.seed}"
    )


def lengthened(before: RunConfig, config: RunConfig, done: int, learning_rate: Callable[[float], float]) -> str:
    """One line on a finished run that goes on to more steps, and on what becomes of its learning rate.

    Args:
        before, config: the configurations with which it was finished, and with which it goes on.
        done: steps until now.
        learning_rate: of the share of steps that is left.
    """
    rule = None if before.stop_at == config.stop_at else before.stop_at
    without = "" if rule is None else f" without stop_at={rule}, which has ended it"
    given, total = config.agent_kwargs.get("learning_rate", ""), config.total_timesteps
    rate = f"{learning_rate(1 - done / total):.3g}"
    over = f", {given} over all of them, is {rate} now" if isinstance(given, str) and given else f" stays {rate}"
    return f"the run goes on from {done:,} to {total:,} steps{without}: the learning rate{over}"


def early_end(done: int, total: int, why: str, saved: float) -> str:
    """One line on a run that ended after ``done`` steps; those left would have taken ``saved`` seconds."""
    return (
        f"stopped after {done:,} of {total:,} steps: {why}; those that are left would have taken about {minutes(saved)}"
    )


def returns_on_display(reference: Reference, both_sides: bool = False) -> str:
    """One line on what is shown beside each other: returns while training and in evaluations, and their percentages.

    With ``both_sides`` the agent moves for both players of a game while it trains, which is no score.
    """
    trains = "in training the agent plays both sides, whose share of won games is no score" if both_sides else ""
    returns = f"{trains or 'training explores'}, evaluations take the best actions (greedy) in held-out episodes"
    if reference.random is None or reference.optimum is None or reference.random == reference.optimum:
        return f"mean returns: {returns}"
    words = f"{SCORES['random']} ({known(reference.random)}) is 0 %, {SCORES['optimum']} ({known(reference.optimum)})"
    return f"mean returns: {returns}; {words} 100 %"
