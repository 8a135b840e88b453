"""Rollout storage on the device: [T, N] tensors, generalised advantage estimation, shuffled minibatches.

1. Storage is allocated at the first rollout and reused.
2. Advantages by Schulman et al., "High-dimensional continuous control using generalized advantage estimation", 2016,
   eq. 16, backwards over the T steps: δ_t = r_t + γ V_{t+1} (1 − done_t) − V_t and A_t = δ_t + γ λ (1 − done_t)
   A_{t+1}. ``done`` cuts at terminations and truncations alike; the agent has already added γ V(final_obs) to the
   reward of a truncated step, as Stable-Baselines3 does.
3. Each epoch draws one permutation and gathers every field once by it; minibatches are then slices without copies.
4. With a ``store`` the environments' states are kept, and observations computed from those of a minibatch when it is
   its turn, bit for bit as they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor

from palaestra.agents.buffers.memory_limits import nbytes, require
from palaestra.agents.buffers.stored_observations import StateStore
from palaestra.envs.core import Obs, resolve_device


def map_obs(function: Any, *obs: Any) -> Any:
    """Apply a function to an observation tensor, or to each tensor of a dictionary of them."""
    if isinstance(obs[0], dict):
        return {key: function(*(o[key] for o in obs)) for key in obs[0]}
    return function(*obs)


class Minibatch(NamedTuple):
    """Rows of a rollout, fields and names as Stable-Baselines3's ``RolloutBufferSamples``."""

    observations: Obs  # [B, …]
    actions: Tensor  # [B, …]
    old_values: Tensor  # [B]
    old_log_prob: Tensor  # [B]
    advantages: Tensor  # [B]
    returns: Tensor  # [B]
    masks: Tensor | None = None  # bool [B, A] legal actions


class TensorRolloutBuffer:
    """T steps of N environments. Fields are tensors [T, N, …] on the device."""

    moments: Obs  # the observations or, with a store, the states' fields by name
    actions: Tensor
    rewards: Tensor
    dones: Tensor
    values: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    masks: Tensor | None

    def __init__(
        self,
        buffer_size: int,
        observation_space: gymnasium.Space[Any],
        action_space: gymnasium.Space[Any],
        device: torch.device | str = "auto",
        gae_lambda: float = 1.0,
        gamma: float = 0.99,
        n_envs: int = 1,
    ) -> None:
        self.buffer_size, self.n_envs, self.device = buffer_size, n_envs, resolve_device(device)
        self.observation_space, self.action_space = observation_space, action_space
        self.gae_lambda, self.gamma = gae_lambda, gamma
        self.pos = 0  # steps stored
        self._store: StateStore | None = None

    @property
    def store(self) -> StateStore | None:
        """Gives the states to keep instead of observations; None to keep observations. To be set between rollouts."""
        return self._store

    @store.setter
    def store(self, store: StateStore | None) -> None:
        self._store, self.pos = store, 0
        for name in ("moments", "_sums"):
            vars(self).pop(name, None)

    @property
    def observations(self) -> Obs:
        """All of them, [T, N, …]; with a store they are computed, and take all the memory that it saves."""
        if self._store is None:
            return self.moments
        t, n = self.rewards.shape
        flat = self._store.observe({name: field.flatten(0, 1) for name, field in self._fields().items()})
        return map_obs(lambda o: o.view(t, n, *o.shape[1:]), flat)  # type: ignore[no-any-return]

    @property
    def to_check(self) -> Obs:
        """What is finite if the observations are: themselves or, with a store, their sums over each step."""
        return self.moments if self._store is None else self._sums

    def reset(self) -> None:
        """Forget the contents; the memory is kept."""
        self.pos = 0

    def moment(self) -> Any:
        """What is kept of the environments as they are now; None where their observation is."""
        return None if self._store is None else self._store.current(None)

    def _fields(self) -> dict[str, Tensor]:
        assert isinstance(self.moments, dict)
        return self.moments

    def _allocate(self, obs: Obs, actions: Tensor, mask: Tensor | None) -> None:
        t, n, device = self.buffer_size, self.n_envs, self.device
        parts = [*(obs.values() if isinstance(obs, dict) else [obs]), actions, *([] if mask is None else [mask])]
        require(t * (nbytes(parts) + 21 * n), device, f"a rollout of {t:,} steps of {n:,} environments (n_steps)")
        self.moments = map_obs(lambda o: torch.empty(t, *o.shape, dtype=o.dtype, device=device), obs)
        self._sums = torch.empty(0 if self._store is None else t, device=device)
        # as they were sampled: a Box of integers gets rounded actions, but the samples have the log-probabilities
        self.actions = torch.empty(t, *actions.shape, dtype=actions.dtype, device=device)
        self.dones = torch.empty(t, n, dtype=torch.bool, device=device)
        for name in ("rewards", "values", "log_probs", "advantages", "returns"):
            setattr(self, name, torch.empty(t, n, device=device))
        self.masks = None if mask is None else torch.empty(t, *mask.shape, dtype=torch.bool, device=device)

    def add(self, *step: Any) -> None:
        """Store one step of all environments after the latest; see :meth:`put`."""
        self.put(self.pos, *step)
        self.pos += 1

    def put(
        self,
        place: int | Tensor,
        obs: Obs,
        actions: Tensor,
        rewards: Tensor,
        dones: Tensor,
        values: Tensor,
        log_probs: Tensor | None = None,
        mask: Tensor | None = None,
        moment: Any = None,
    ) -> None:
        """Store one step of all environments, each [N, …]; ``dones`` says which episodes this step ended.

        ``place`` is 0 … T − 1, a number or int64 []. ``moment`` is what :meth:`moment` gave before the step.
        """
        moment = obs if self._store is None else moment
        if not hasattr(self, "moments"):
            self._allocate(moment, actions, mask)

        def write(store: Tensor, value: Tensor) -> None:
            if isinstance(place, Tensor):
                store.index_copy_(0, place.view(1), value.to(store.dtype).unsqueeze(0))
            else:
                store[place].copy_(value)

        map_obs(write, self.moments, moment)
        if self._store is not None:
            write(self._sums, obs.sum())  # type: ignore[union-attr]
        write(self.actions, actions)
        write(self.rewards, rewards)
        write(self.dones, dones)
        write(self.values, values)
        if log_probs is not None:  # Q-learning has none
            write(self.log_probs, log_probs)
        if mask is not None:
            assert self.masks is not None
            write(self.masks, mask)

    def compute_returns_and_advantage(self, last_values: Tensor, discount: float | None = None) -> None:
        """Fill ``advantages`` and ``returns`` (= advantages + values); ``last_values`` [N] follow the last step.

        ``discount`` is γ, or −γ where the next state is another player's; by default the buffer's γ.
        """
        gamma = self.gamma if discount is None else discount
        alive = (~self.dones).to(self.values.dtype)  # [T, N]
        next_values = torch.cat((self.values[1:], last_values.unsqueeze(0)))
        delta = self.rewards + gamma * next_values * alive - self.values
        decay = alive.mul_(gamma * self.gae_lambda)
        advantage = torch.zeros_like(last_values)
        for t in reversed(range(self.buffer_size)):
            advantage = torch.addcmul(delta[t], decay[t], advantage)
            self.advantages[t].copy_(advantage)
        torch.add(self.advantages, self.values, out=self.returns)

    def get(self, batch_size: int | None = None) -> Iterator[Minibatch]:
        """One epoch of shuffled minibatches of all fields; see :meth:`shuffled`."""
        fields = [self.actions, self.values, self.log_probs, self.advantages, self.returns]
        if self.masks is not None:
            fields.append(self.masks)
        for minibatch in self.shuffled(fields, batch_size):
            yield Minibatch(*minibatch)

    def shuffled(self, fields: Sequence[Tensor], batch_size: int | None = None) -> Iterator[tuple[Any, ...]]:
        """One epoch of minibatches: observations [B, …], and so many rows of ``fields`` [T, N, …].

        The last is smaller where the sizes do not divide.
        """
        step = self.buffer_size * self.n_envs if batch_size is None else batch_size
        order = self._order(step)
        seen = self._gathered(order, step) if self._store is None else map(self._observed, _pieces(order, step))
        # index_select and not indexing: the same rows, several times faster on the CPU
        rows = [field.flatten(0, 1).index_select(0, order) for field in fields]
        yield from zip(seen, *(_pieces(field, step) for field in rows), strict=True)

    def _order(self, step: int) -> Tensor:
        """All rows of the flattened rollout in random order, to be cut into minibatches of ``step`` rows."""
        return torch.randperm(self.buffer_size * self.n_envs, device=self.device)

    def _gathered(self, order: Tensor, step: int) -> Sequence[Obs]:
        """The observations in that order, in pieces of ``step`` rows."""
        return _pieces(map_obs(lambda o: o.flatten(0, 1).index_select(0, order), self.moments), step)

    def _observed(self, places: Tensor) -> Obs:
        """Observations [B, …] of the states at these places of the rollout, int64 [B]."""
        assert self._store is not None
        states = {name: field.flatten(0, 1).index_select(0, places) for name, field in self._fields().items()}
        return self._store.observe(states)  # type: ignore[no-any-return]


def _pieces(field: Any, step: int) -> Sequence[Any]:
    """Views of ``step`` rows each; the last may have fewer."""
    if isinstance(field, dict):
        parts = [_pieces(part, step) for part in field.values()]
        return [dict(zip(field, piece, strict=True)) for piece in zip(*parts, strict=True)]
    return field.split(step)  # type: ignore[no-any-return]
