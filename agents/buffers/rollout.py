"""Rollout storage on the device: [T, N] tensors, generalised advantage estimation, shuffled minibatches.

1. Storage is allocated at the first rollout and reused.
2. Advantages by Schulman et al., "High-dimensional continuous control using generalized advantage estimation", 2016,
   eq. 16, backwards over the T steps: δ_t = r_t + γ V_{t+1} (1 − done_t) − V_t and A_t = δ_t + γ λ (1 − done_t)
   A_{t+1}. ``done`` cuts at terminations and truncations alike; the agent has already added γ V(final_obs) to the
   reward of a truncated step, as Stable-Baselines3 does.
3. Each epoch draws one permutation and gathers every field once by it; minibatches are then slices without copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import gymnasium
import torch
from torch import Tensor

from palaestra.agents.buffers.memory_limits import nbytes, require
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

    observations: Obs
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

    def reset(self) -> None:
        """Forget the contents; the memory is kept."""
        self.pos = 0

    def _allocate(self, obs: Obs, actions: Tensor, mask: Tensor | None) -> None:
        t, n, device = self.buffer_size, self.n_envs, self.device
        parts = [*(obs.values() if isinstance(obs, dict) else [obs]), actions, *([] if mask is None else [mask])]
        require(t * (nbytes(parts) + 21 * n), device, f"a rollout of {t:,} steps of {n:,} environments (n_steps)")
        self.observations = map_obs(lambda o: torch.empty(t, *o.shape, dtype=o.dtype, device=device), obs)
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
    ) -> None:
        """Store one step of all environments, each [N, …]; ``dones`` says which episodes this step ended.

        ``place`` is 0 … T − 1, a number or int64 [].
        """
        if not hasattr(self, "observations"):
            self._allocate(obs, actions, mask)

        def write(store: Tensor, value: Tensor) -> None:
            if isinstance(place, Tensor):
                store.index_copy_(0, place.view(1), value.to(store.dtype).unsqueeze(0))
            else:
                store[place].copy_(value)

        map_obs(write, self.observations, obs)
        write(self.actions, actions)
        write(self.rewards, rewards)
        write(self.dones, dones)
        write(self.values, values)
        if log_probs is not None:  # Q-learning has none
            write(self.log_probs, log_probs)
        if mask is not None:
            assert self.masks is not None
            write(self.masks, mask)

    def compute_returns_and_advantage(self, last_values: Tensor) -> None:
        """Fill ``advantages`` and ``returns`` (= advantages + values); ``last_values`` [N] follow the last step."""
        alive = (~self.dones).to(self.values.dtype)  # [T, N]
        next_values = torch.cat((self.values[1:], last_values.unsqueeze(0)))
        delta = self.rewards + self.gamma * next_values * alive - self.values
        decay = alive.mul_(self.gamma * self.gae_lambda)
        advantage = torch.zeros_like(last_values)
        for t in reversed(range(self.buffer_size)):
            advantage = torch.addcmul(delta[t], decay[t], advantage)
            self.advantages[t].copy_(advantage)
        torch.add(self.advantages, self.values, out=self.returns)

    def get(self, batch_size: int | None = None) -> Iterator[Minibatch]:
        """One epoch of shuffled minibatches of all fields; see :meth:`shuffled`."""
        fields = [self.observations, self.actions, self.values, self.log_probs, self.advantages, self.returns]
        if self.masks is not None:
            fields.append(self.masks)
        for minibatch in self.shuffled(fields, batch_size):
            yield Minibatch(*minibatch)

    def shuffled(self, fields: Sequence[Any], batch_size: int | None = None) -> Iterator[tuple[Any, ...]]:
        """One epoch of minibatches of ``fields`` [T, N, …]; the last is smaller where the sizes do not divide."""
        size = self.buffer_size * self.n_envs
        order = torch.randperm(size, device=self.device)
        # index_select and not indexing: the same rows, several times faster on the CPU
        rows = [map_obs(lambda f: f.flatten(0, 1).index_select(0, order), field) for field in fields]
        step = size if batch_size is None else batch_size
        yield from zip(*(_pieces(field, step) for field in rows), strict=True)


def _pieces(field: Any, step: int) -> Sequence[Any]:
    """Views of ``step`` rows each; the last may have fewer."""
    if isinstance(field, dict):
        parts = [_pieces(part, step) for part in field.values()]
        return [dict(zip(field, piece, strict=True)) for piece in zip(*parts, strict=True)]
    return field.split(step)  # type: ignore[no-any-return]
