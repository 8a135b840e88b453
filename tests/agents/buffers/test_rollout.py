"""Rollout storage: generalised advantage estimation against hand-worked numbers and Stable-Baselines3's buffer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from palaestra.agents.buffers.rollout import TensorRolloutBuffer

OBS_SPACE = Box(-1e9, 1e9, (1,))


def buffer(steps: int, envs: int, gamma: float = 0.99, gae_lambda: float = 0.95, **spaces: Any) -> TensorRolloutBuffer:
    observation, action = spaces.get("observation", OBS_SPACE), spaces.get("action", Discrete(5))
    return TensorRolloutBuffer(steps, observation, action, "cpu", gae_lambda, gamma, envs)


def fill(store: TensorRolloutBuffer, rewards: Tensor, dones: Tensor, values: Tensor) -> None:
    """Observations count the rows: number t · N + i at step t of environment i; log-probabilities are its negative."""
    store.reset()
    steps, envs = rewards.shape
    for t in range(steps):
        number = torch.arange(envs, dtype=torch.float32) + t * envs
        store.add(number.unsqueeze(1), (number % 5).long(), rewards[t], dones[t], values[t], -number)


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers).unsqueeze(1)


def test_gae_by_hand() -> None:
    """γ = 1/2, λ = 1/2, so γλ = 1/4.

    δ₂ = 3 + ½·8 − 4 = 3                A₂ = 3
    δ₁ = 2 − 2 = 0 (the episode ends)   A₁ = 0
    δ₀ = 1 + ½·2 − 6 = −4               A₀ = −4 + ¼·0 = −4
    """
    store = buffer(3, 1, 0.5, 0.5)
    fill(store, column(1, 2, 3), column(0, 1, 0).bool(), column(6, 2, 4))
    store.compute_returns_and_advantage(torch.tensor([8.0]))
    assert store.advantages.flatten().tolist() == [-4.0, 0.0, 3.0]
    assert store.returns.flatten().tolist() == [2.0, 2.0, 7.0]


def test_gae_without_an_end_by_hand() -> None:
    """As above without the end: δ₁ = 2 + ½·4 − 2 = 2, A₁ = 2 + ¼·3 = 2.75, A₀ = −4 + ¼·2.75 = −3.3125."""
    store = buffer(3, 1, 0.5, 0.5)
    fill(store, column(1, 2, 3), column(0, 0, 0).bool(), column(6, 2, 4))
    store.compute_returns_and_advantage(torch.tensor([8.0]))
    assert store.advantages.flatten().tolist() == [-3.3125, 2.75, 3.0]


def test_the_value_after_a_last_step_that_ends_the_episode_does_not_count() -> None:
    store = buffer(1, 2, 0.9, 0.9)
    fill(store, torch.tensor([[1.0, 1.0]]), torch.tensor([[True, False]]), torch.tensor([[0.25, 0.25]]))
    store.compute_returns_and_advantage(torch.tensor([100.0, 100.0]))
    torch.testing.assert_close(store.returns, torch.tensor([[1.0, 91.0]]))


@given(
    steps=st.integers(1, 20),
    envs=st.integers(1, 6),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
    p=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_gae_equals_sb3(steps: int, envs: int, gamma: float, gae_lambda: float, p: float, seed: int) -> None:
    """Two rollouts in a row in the same storage, the second starting where the first ended."""
    generator = torch.Generator().manual_seed(seed)
    ours = buffer(steps, envs, gamma, gae_lambda)
    theirs = RolloutBuffer(steps, OBS_SPACE, Discrete(5), "cpu", gae_lambda, gamma, envs)
    starts = np.ones(envs, dtype=bool)
    for _ in range(2):
        rewards, values = torch.randn(2, steps, envs, generator=generator)
        dones = torch.rand(steps, envs, generator=generator) < p
        last = torch.randn(envs, generator=generator)
        fill(ours, rewards, dones, values)
        ours.compute_returns_and_advantage(last)
        theirs.reset()
        for t in range(steps):
            zeros = np.zeros((envs, 1))
            theirs.add(zeros, zeros, rewards[t].numpy(), starts, values[t], torch.zeros(envs))
            starts = dones[t].numpy()
        theirs.compute_returns_and_advantage(last, starts)
        np.testing.assert_allclose(ours.advantages.numpy(), theirs.advantages, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(ours.returns.numpy(), theirs.returns, rtol=1e-5, atol=1e-5)


@given(
    steps=st.integers(1, 9), envs=st.integers(1, 9), batch=st.one_of(st.none(), st.integers(1, 90)), seed=st.integers(0)
)
def test_minibatches_are_a_permutation_with_aligned_fields(steps: int, envs: int, batch: int | None, seed: int) -> None:
    torch.manual_seed(seed % 2**63)
    rewards, values = torch.randn(2, steps, envs)
    store = buffer(steps, envs)
    fill(store, rewards, torch.rand(steps, envs) < 0.3, values)
    store.compute_returns_and_advantage(torch.randn(envs))
    parts = list(store.get(batch))
    total = steps * envs
    assert [len(part.actions) for part in parts[:-1]] == [batch] * (len(parts) - 1)
    assert sum(len(part.actions) for part in parts) == total
    assert all(part.masks is None for part in parts)
    joined = [torch.cat(field) for field in zip(*(part[:6] for part in parts), strict=True)]
    order = joined[0].flatten().long()
    assert sorted(order.tolist()) == list(range(total))
    fields = (store.observations, store.actions, store.values, store.log_probs, store.advantages, store.returns)
    for shuffled, field in zip(joined, fields, strict=True):
        assert torch.equal(shuffled, field.flatten(0, 1)[order])  # type: ignore[union-attr]
    assert torch.equal(joined[3], -order.float())


def test_masks_stay_aligned_in_minibatches() -> None:
    """The mask of row r allows the actions whose bits are set in r."""
    store = buffer(3, 4)
    for t in range(3):
        number = torch.arange(4) + 4 * t
        flat = number.float()
        mask = (number.unsqueeze(1) >> torch.arange(5)) % 2 == 1
        store.add(flat.unsqueeze(1), number % 5, flat, flat < 0, flat, flat, mask)
    store.compute_returns_and_advantage(torch.zeros(4))
    parts = list(store.get(5))
    assert [len(part.actions) for part in parts] == [5, 5, 2]
    for part in parts:
        assert part.masks is not None
        assert torch.equal((part.masks * 2 ** torch.arange(5)).sum(1), part.old_values.long())


def test_epochs_are_shuffled_apart_and_uniformly() -> None:
    """Each row comes first equally often: 4,000 epochs of 8 rows, 500 ± 5 standard deviations."""
    store = buffer(4, 2)
    fill(store, torch.zeros(4, 2), torch.zeros(4, 2).bool(), torch.zeros(4, 2))
    store.compute_returns_and_advantage(torch.zeros(2))
    torch.manual_seed(1)
    first = torch.stack([next(store.get(2)).observations[0, 0] for _ in range(4000)])  # type: ignore[call-overload, index]
    counts = first.long().bincount(minlength=8)
    assert (counts - 500).abs().max() < 5 * (4000 * 7 / 64) ** 0.5


def test_dictionary_observations_stay_aligned() -> None:
    space = Dict({"a": Box(-1.0, 1.0, (2,)), "b": Discrete(100)})
    store = buffer(3, 4, observation=space)
    for t in range(3):
        number = torch.arange(4) + 4 * t
        obs = {"a": torch.stack((number, -number), 1).float(), "b": number}
        flat = number.float()
        store.add(obs, number % 5, flat, torch.zeros(4, dtype=torch.bool), flat, flat)
    store.compute_returns_and_advantage(torch.zeros(4))
    seen = []
    for batch in store.get(5):
        assert isinstance(batch.observations, dict)
        number = batch.observations["b"]
        assert number.dtype == torch.int64
        assert torch.equal(batch.observations["a"], torch.stack((number, -number), 1).float())
        assert torch.equal(batch.old_values, number.float())
        seen += number.tolist()
    assert sorted(seen) == list(range(12))


@pytest.mark.parametrize(
    ("space", "action"),
    [
        (Discrete(3), torch.tensor([2, 0])),
        (MultiDiscrete([3, 400]), torch.tensor([[2, 399], [0, 1]])),
        (MultiBinary(3), torch.tensor([[1, 0, 1], [0, 0, 1]], dtype=torch.int8)),
        (Box(-1.0, 1.0, (2,)), torch.tensor([[3.25, -0.5], [1e-3, 7.0]])),
        (Box(-5, 5, (2,), dtype=np.int64), torch.tensor([[3.25, -0.5], [1e-3, 7.0]])),
        (Box(-1.0, 1.0, (2, 2)), torch.tensor([[[0.5, 1.0], [2.0, 3.0]]] * 2)),
    ],
)
def test_actions_are_stored_as_they_were_sampled(space: Any, action: Tensor) -> None:
    """Unclipped and unrounded: the log-probability belongs to the sample, not to what the environment made of it."""
    store = buffer(1, 2, action=space)
    zeros = torch.zeros(2)
    store.add(torch.zeros(2, 1), action, zeros, zeros.bool(), zeros, zeros)
    assert torch.equal(store.actions[0], action)


def test_memory_is_reused() -> None:
    store = buffer(2, 3)
    fill(store, torch.zeros(2, 3), torch.zeros(2, 3).bool(), torch.zeros(2, 3))
    fields = ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns")
    before = [getattr(store, name).data_ptr() for name in fields]
    fill(store, torch.ones(2, 3), torch.zeros(2, 3).bool(), torch.zeros(2, 3))
    store.compute_returns_and_advantage(torch.zeros(3))
    assert [getattr(store, name).data_ptr() for name in fields] == before
