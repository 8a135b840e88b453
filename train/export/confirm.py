"""Proof that an exported policy is the agent: both act on the same states of real episodes.

Discrete actions must be equal. Two that differ count as a tie where the agent's own scores of both (log-probabilities
or Q-values) are as close as rounding is, and those are counted. Continuous actions must agree to 1e-5 of half the
action's range (of 1 where it has no bounds), or to a few units in the last place of its bounds where that is more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from palaestra.agents.export.policy_network import ExportError, PolicyNetwork
from palaestra.envs.core.batched_env import BatchedEnv
from palaestra.envs.core.reference import Array
from palaestra.train.evaluation.policies import AgentPolicy

STATES = 10_000
TOLERANCE = 1e-5
_ROUNDING = 4.0  # units in the last place of a float32 bound
_TIE = 1e-4  # of scores, relative to the larger one where that is above 1


@dataclass(frozen=True)
class Confirmation:
    """What came of the comparison."""

    states: int
    equal: int  # of discrete actions
    ties: int  # that differ where the agent's scores are alike but for rounding
    largest_difference: float  # of continuous actions, in the environment's units

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.equal or self.ties:
            ties = f", {self.ties:,} of them ties that rounding decides" if self.ties else ""
            return f"the same action in {self.equal + self.ties:,} of {self.states:,} states of episodes{ties}"
        alike = f"actions within {self.largest_difference:.1g}" if self.largest_difference else "the same actions"
        return f"{alike} in {self.states:,} states of episodes"


def fed(inputs: list[dict[str, Any]], obs: Any, mask: Tensor | None) -> dict[str, Array]:
    """Inputs of a policy file from a batch's observations and masks, images in the file's layout."""
    parts = obs if isinstance(obs, dict) else {inputs[0]["name"]: obs}
    feed = {}
    for end in inputs:
        name = end["name"]
        part = mask if end.get("kind") == "mask" else parts[name]
        assert part is not None
        if end.get("layout") == "rows, columns, channels":
            part = part.movedim(1, -1)
        feed[name] = part.cpu().numpy().astype(end["dtype"], copy=False)
    return feed


@torch.no_grad()
def confirm(
    policy: AgentPolicy,
    exported: Callable[[dict[str, Array]], Array],
    inputs: list[dict[str, Any]],
    env: BatchedEnv,
    scores: PolicyNetwork | None,
) -> Confirmation:
    """Compare an exported policy with the agent on states of held-out episodes that the agent plays.

    Args:
        policy: the agent.
        exported: the other one, from arrays by name to the action.
        inputs: of the contract.
        env: a batch of held-out episodes.
        scores: the same policy with its distribution, which knows the scores of discrete actions.

    Raises:
        ExportError: if they act differently.
    """
    obs, _ = env.reset()
    equal = ties = states = 0
    largest = 0.0
    while states < STATES:
        action, mask = policy(env, obs), env.action_masks()
        feed = fed(inputs, obs, mask)
        found = torch.as_tensor(exported(feed))
        states += len(found)
        if isinstance(env.single_action_space, spaces.Box):
            largest = max(largest, _distance(env.single_action_space, action.cpu(), found, states))
        else:
            differ = (action.cpu() != found).flatten(1 if action.dim() > 1 else 0)
            rows = differ.any(1) if differ.dim() > 1 else differ
            if bool(rows.any()):
                _require_ties(env, scores, feed, (action.cpu(), found), rows)
                ties += int(rows.sum())
            equal += len(found) - int(rows.sum())
        obs, *_ = env.step(action)
    return Confirmation(states, equal, ties, largest)


def _distance(space: spaces.Box, action: Tensor, found: Tensor, states: int) -> float:
    """The largest difference, in the environment's units."""
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    bounded = np.isfinite(high - low)
    half = np.where(bounded, 0.5 * (high - low), 1.0)
    largest = np.where(bounded, np.maximum(np.abs(low), np.abs(high)), 0.0).astype(np.float32)
    allowed = np.maximum(TOLERANCE * half, _ROUNDING * np.spacing(largest))
    differences = np.abs(action.double().numpy() - found.double().numpy())
    if not (differences <= allowed).all():
        raise ExportError(
            f"the exported policy's actions differ from the agent's by up to {differences.max():.3g} "
            f"within {states:,} states: nothing is written"
        )
    return float(differences.max(initial=0.0))


def _require_ties(
    env: BatchedEnv, scores: PolicyNetwork | None, feed: dict[str, Array], actions: tuple[Tensor, Tensor], rows: Tensor
) -> None:
    """Raise an ExportError unless the agent scores both actions alike wherever they differ."""
    places = rows.nonzero().flatten()
    if scores is None:
        raise ExportError(f"the exported policy acts differently in {len(places):,} of {len(rows):,} states")
    inputs = [torch.as_tensor(feed[name])[places] for name in scores.inputs]
    found = dict(zip(scores.outputs, scores(*inputs), strict=True))
    first, second = (scores_of(env.single_action_space, found, action[places]) for action in actions)
    apart = (first - second).abs() / torch.maximum(first.abs(), second.abs()).clamp(min=1.0)
    if not bool((apart <= _TIE).all()):
        raise ExportError(
            f"the exported policy acts differently in {len(places):,} of {len(rows):,} states, and the agent's scores "
            f"of both actions are up to {float(apart.max()):.3g} apart: nothing is written"
        )


def scores_of(space: Any, found: dict[str, Tensor], action: Tensor) -> Tensor:
    """Log-probabilities or Q-values [n] of actions; of several choices the sum."""
    if "q_values" in found:
        return found["q_values"].gather(1, (action - int(space.start)).unsqueeze(1)).squeeze(1)
    if isinstance(space, spaces.MultiBinary):
        p = found["probabilities"].clamp(1e-30, 1.0)
        return torch.where(action > 0, p.log(), (1.0 - p).clamp(min=1e-30).log()).sum(1)
    if isinstance(space, spaces.Discrete):
        return found["log_probabilities"].gather(1, (action - int(space.start)).unsqueeze(1)).squeeze(1)
    firsts = torch.as_tensor(np.cumsum([0, *space.nvec[:-1]]) - space.start)
    return found["log_probabilities"].gather(1, action + firsts).sum(1)
