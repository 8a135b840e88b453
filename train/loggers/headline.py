"""What a run says as it begins: who trains where and for how long, and what the returns on display mean."""

from __future__ import annotations

import torch

from palaestra.agents.distributed.process_group import process_group
from palaestra.envs.core import Reference
from palaestra.train.config.run_config import RunConfig
from palaestra.train.formatting import SCORES, known


def whole_rollouts(asked: int, done: int, rollout: int) -> int:
    """The steps after which training ends that has ``done`` some: the first whole rollout at ``asked`` or above."""
    return done + -(-max(0, asked - done) // rollout) * rollout


def headline(config: RunConfig, device: torch.device, done: int, rollout: int) -> str:
    """One line on a run.

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


def returns_on_display(reference: Reference) -> str:
    """One line on what is shown beside each other: returns while training and in evaluations, and their percentages."""
    returns = "training explores, evaluations take the best actions (greedy) in held-out episodes"
    if reference.random is None or reference.optimum is None or reference.random == reference.optimum:
        return f"mean returns: {returns}"
    words = f"{SCORES['random']} ({known(reference.random)}) is 0 %, {SCORES['optimum']} ({known(reference.optimum)})"
    return f"mean returns: {returns}; {words} 100 %"
