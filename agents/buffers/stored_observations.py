"""Moments of environments, stored as the observation, or as the environment's state where that is much smaller.

States are records of tensors and ``observe`` is a pure function of them, so a stored state gives its observation again,
bit for bit, and its action mask.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, get_args

import torch
from torch import Tensor

from palaestra.agents.buffers.memory_limits import nbytes
from palaestra.agents.buffers.replay import Content
from palaestra.agents.networks.numbering import Numbering
from palaestra.envs.core import BatchedEnv, TensorVectorEnv, state_fields
from palaestra.envs.core.rng import Rng, env_keys

RolloutStorage = Literal["auto", "observations", "states"]
_MASK = "action mask"  # its name among the observations


class MomentStore(Protocol):
    """Storage of the moments of one batch of environments."""

    def current(self, obs: Any) -> Content:
        """The content of the running episodes, whose observations are ``obs`` [N, …]."""

    def final(self, final_obs: Any) -> Content:
        """The content after the latest step, before finished episodes were reset."""

    def observe(self, content: Content) -> Any:
        """Observations [B, …] of stored moments."""

    def action_masks(self, content: Content) -> Tensor | None:
        """Legal actions, bool [B, A], of stored moments; None where all actions are always legal."""


class ObservationStore:
    """Stores observations as they are, a tensor or a dictionary of them, and the action masks, if there are any."""

    def __init__(self, batch: BatchedEnv, single: bool) -> None:
        self._batch, self._single = batch, single

    def current(self, obs: Any) -> Content:
        return self._with_mask(obs, self._batch.action_masks())

    def final(self, final_obs: Any) -> Content:
        return self._with_mask(final_obs, self._batch.final_action_masks())

    def _with_mask(self, obs: Any, mask: Tensor | None) -> Content:
        content = {"": obs} if self._single else obs
        return content if mask is None else {**content, _MASK: mask}

    def observe(self, content: Content) -> Any:
        return content[""] if self._single else {key: part for key, part in content.items() if key != _MASK}

    def action_masks(self, content: Content) -> Tensor | None:
        return content.get(_MASK)


class StateStore:
    """Stores the fields of the environment's state."""

    def __init__(self, batch: TensorVectorEnv[Any], record: type | None = None) -> None:
        """``record`` is the states' type, which is to be given where the batch has none yet."""
        self._batch, self._rules = batch, batch.env
        self._numbering = Numbering(batch.single_observation_space, batch.single_action_space)
        self._record: Any = type(batch.state) if record is None else record

    def current(self, obs: Any) -> Content:
        return state_fields(self._batch.state)

    def final(self, final_obs: Any) -> Content:
        return state_fields(self._batch.final_state)

    @torch.no_grad()
    def observe(self, content: Content) -> Any:
        return self._numbering.from_env(self._rules.observe(self._record(**content)))

    def action_masks(self, content: Content) -> Tensor | None:
        return self._rules.action_mask(self._record(**content)) if self._rules.has("action_mask") else None


def store_for(batch: BatchedEnv, obs: Any) -> MomentStore:
    """States where they take at most half the memory, or where there are action masks; else observations."""
    observations = ObservationStore(batch, not isinstance(obs, dict))
    if isinstance(batch, TensorVectorEnv):
        states = StateStore(batch)
        stored, observed = (nbytes(store.current(obs).values()) for store in (states, observations))
        if batch.env.has("action_mask") or 2 * stored <= observed:
            return states
    return observations


def replay_keeps_states(batch: BatchedEnv) -> bool:
    """True if :func:`store_for` gives states, before the batch has begun."""
    if not isinstance(batch, TensorVectorEnv):
        return False
    return batch.env.has("action_mask") or rollout_store(batch, "auto") is not None


def rollout_store(batch: BatchedEnv, storage: RolloutStorage, normalized: bool = False) -> StateStore | None:
    """What rollouts keep of that batch: a store of states, or None for observations.

    Args:
        batch: of environments, which need not have begun.
        storage: "auto" keeps states where they take at most half the memory.
        normalized: statistics are taken of all observations of a rollout, which must be there then.

    Raises:
        ValueError: if states are asked for that cannot be kept, or something else than can be asked for.
    """
    if storage not in get_args(RolloutStorage):
        raise ValueError(f'rollout_storage must be "auto", "observations" or "states", got {storage!r}')
    why = "normalize_observation takes statistics of the observations" if normalized else ""
    if not isinstance(batch, TensorVectorEnv):
        why = why or "only environments in tensors have states to keep"
    if storage == "observations" or (why and storage == "auto"):
        return None
    if why:
        raise ValueError(f'rollout_storage="states" is not possible: {why}; "auto" keeps what can be kept')
    assert isinstance(batch, TensorVectorEnv)
    state = batch.env.reset(Rng(env_keys(batch.seed, batch.env_indices[:1]), 0))
    stored, observed = nbytes(state_fields(state).values()), nbytes([batch.env.observe(state)])
    return StateStore(batch, type(state)) if storage == "states" or 2 * stored <= observed else None
