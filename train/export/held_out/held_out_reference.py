"""The reference of an exported policy: what it sees, does and earns in held-out episodes, kept in its contract.

``contract["reference"]`` is what ``palaestra monitor`` compares a log of use with:

* ``states`` and ``episodes`` that were played, one in each environment of a batch, to its end or for ``cut_after``
  steps (None where all have ended): about :data:`STATES` states where it is known how long episodes are, and no more
  than twice as many, nor 500 times the batch, so that an export takes seconds;
* ``mean_length`` of the episodes;
* ``returns``: ``mean``, ``std``, ``ci_low``, ``ci_high`` and ``episodes``, of the run's final evaluation where the
  contract has its scores, else of the episodes that have ended; None where none has;
* ``numbers``: a :class:`~palaestra.train.export.held_out.monitored.Distribution` of each number, in the order of the
  contract.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from palaestra.envs.core.batched_env import BatchedEnv
from palaestra.envs.core.reference import Array
from palaestra.train.evaluation.policies import AgentPolicy
from palaestra.train.evaluation.statistics import mean_interval
from palaestra.train.export.confirm import fed
from palaestra.train.export.held_out.monitored import distribution_of, numbers_of, parts_of, watched_of

STATES = 50_000
_FEWEST = 30  # episodes
_STEPS = 500  # of a whole batch
_DIGITS = 7  # significant ones that a contract keeps


@torch.no_grad()
def reference_of(
    policy: AgentPolicy, opened: Callable[[int], BatchedEnv], most: int, contract: dict[str, Any]
) -> dict[str, Any]:
    """Play an episode in each environment of a batch, and sum up what was seen, done and earned.

    Args:
        policy: the agent.
        opened: makes a batch of held-out episodes of that size.
        most: its largest size.
        contract: with inputs and outputs, and the scores if they are known.
    """
    env = opened(_batch_for(contract, most))
    try:
        values, episode, returns, cut_after = _played(policy, env, contract, min(2 * STATES, _STEPS * most))
    finally:
        env.close()
    clusters = [parts_of(episode, parts) for parts in (1, 2, 4)]
    numbers = [distribution_of(one, values[:, i], clusters) for i, one in enumerate(watched_of(contract))]
    return {
        "states": len(values),
        "episodes": env.num_envs,
        "cut_after": cut_after,
        "mean_length": len(values) / env.num_envs,
        "returns": _returns(contract.get("scores"), returns),
        "numbers": [_short(number.as_dict()) for number in numbers],
    }


def _batch_for(contract: dict[str, Any], most: int) -> int:
    """How many whole episodes give about as many states as are wanted."""
    length = (contract.get("scores") or {}).get("mean_length") or contract["environment"].get("max_episode_steps")
    return most if not length else min(most, max(_FEWEST, int(STATES / length)))


def _played(
    policy: AgentPolicy, env: BatchedEnv, contract: dict[str, Any], most: int
) -> tuple[Array, Array, Array, int | None]:
    """Watched numbers [S, numbers] of about ``most`` states at most, the episode of each [S], the returns of those that
    ended, and the step after which the others were cut."""
    obs, _ = env.reset()
    under_way = np.ones(env.num_envs, bool)
    rows: list[Array] = []
    episodes: list[Array] = []
    returns: list[float] = []
    states = 0
    while under_way.any() and states < most:
        action = policy(env, obs)
        seen = numbers_of(contract["inputs"], fed(contract["inputs"], obs, env.action_masks()))
        done = numbers_of(contract["outputs"][:1], {"action": action.cpu().numpy()})
        rows.append(np.concatenate((seen, done), 1)[under_way])
        episodes.append(np.flatnonzero(under_way))
        obs, _, terminated, truncated, info = env.step(action)
        ended = (terminated | truncated).cpu().numpy() & under_way
        if ended.any():
            returns += info["episode"]["r"].cpu().numpy()[ended].tolist()
        states += len(rows[-1])
        under_way &= ~ended
    cut_after = len(rows) if under_way.any() else None
    return np.concatenate(rows), np.concatenate(episodes), np.array(returns), cut_after


def _returns(scores: dict[str, Any] | None, returns: Array) -> dict[str, Any] | None:
    known = ("mean", "std", "ci_low", "ci_high", "episodes")
    if scores and all(scores.get(key) is not None for key in known):
        return {key: scores[key] for key in known}
    if len(returns) < 2:
        return None
    low, high = mean_interval(returns)
    mean, deviation = float(returns.mean()), float(returns.std(ddof=1))
    return {"mean": mean, "std": deviation, "ci_low": low, "ci_high": high, "episodes": len(returns)}


def _short(plain: Any) -> Any:
    """Plain data whose numbers have so many digits as are of use."""
    if isinstance(plain, dict):
        return {key: _short(value) for key, value in plain.items()}
    if isinstance(plain, list | tuple):
        return [_short(value) for value in plain]
    return float(f"{plain:.{_DIGITS}g}") if isinstance(plain, float) else plain
