"""What replay stores of a moment: the observations that were seen come back bit for bit, with their masks and types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from palaestra.agents.buffers.replay import NOTHING, Replay, Transitions
from palaestra.agents.buffers.stored_observations import (
    ObservationStore,
    StateStore,
    replay_keeps_states,
    store_for,
)
from palaestra.envs import EnvError, TensorEnv, TensorVectorEnv, make
from palaestra.envs.core.rng import Rng, env_keys
from palaestra.envs.interop.sb3_adapter import VecEnvAdapter


def history(batch: Any, rows: int, steps: int, seed: int = 0) -> tuple[Any, Replay, dict[int, Any]]:
    """Random play: how moments are stored, the replay, and (obs, next obs, mask) of every step by place."""
    obs, _ = batch.reset(seed=seed)
    store = store_for(batch, obs)
    count = int(batch.single_action_space.n)
    replay = Replay(batch.num_envs * (rows - 1), store.current(obs), num_actions=count, gamma=0.99)
    seen: dict[int, Any] = {}
    keys = env_keys(seed, torch.arange(batch.num_envs))
    for t in range(steps):
        mask = batch.action_masks()
        actions = Rng(keys, t).integers(0, count) if mask is None else Rng(keys, t).choice(mask)
        places = (replay.position * batch.num_envs + torch.arange(batch.num_envs)).tolist()
        new_obs, rewards, terminated, truncated, info = batch.step(actions)
        for i, place in enumerate(places):
            seen[place] = _row(obs, i), _row(info["final_obs"], i), None if mask is None else mask[i]
        replay.add(actions, rewards, terminated, truncated, store.final(info["final_obs"]), store.current(new_obs))
        obs = new_obs
    return store, replay, seen


def _row(obs: Any, i: int) -> Any:
    return {key: value[i] for key, value in obs.items()} if isinstance(obs, dict) else obs[i]


def assert_same(stored: Any, seen: Any) -> None:
    if isinstance(seen, dict):
        assert stored.keys() == seen.keys()
        for key in seen:
            assert_same(stored[key], seen[key])
    else:
        assert stored.dtype == seen.dtype
        assert torch.equal(stored, seen)


def check_history(store: Any, replay: Replay, seen: dict[int, Any]) -> Transitions:
    """Observations before and after each step come back bit for bit (after it, unless it terminated)."""
    found = replay.gather(torch.tensor([place for place in seen if int(replay.kinds[place]) != NOTHING]))
    obs, mask = store.observe(found.content), store.action_masks(found.content)
    next_obs = store.observe(found.next_content)
    for b, place in enumerate(found.indices.tolist()):
        before, after, legal = seen[place]
        assert_same(_row(obs, b), before)
        if float(found.discounts[b]) > 0:
            assert_same(_row(next_obs, b), after)
        assert mask is None if legal is None else torch.equal(mask[b], legal)
    return found


def test_snake_stores_states_and_sees_the_same_boards_again() -> None:
    store, replay, seen = history(make("snake-small", 16, "cpu", max_episode_steps=9), 40, 90)
    assert isinstance(store, StateStore)
    assert set(replay.content) == {"lifetime", "head", "heading", "fruit", "length", "hunger"}
    found = check_history(store, replay, seen)
    assert 0 < int((found.discounts == 0).sum()) < len(found.indices)
    assert int((replay.kinds == NOTHING).sum()) > 2 * 16  # cut episodes are among them


def test_cartpole_stores_observations() -> None:
    store, replay, seen = history(make("cartpole", 8, "cpu", max_episode_steps=7), 30, 70)
    assert isinstance(store, ObservationStore)
    assert replay.content[""].shape == (8 * 30, 4)
    check_history(store, replay, seen)


@dataclass(frozen=True)
class DoorState:
    place: Tensor  # int64 [N] 0 … 4
    doors: Tensor  # bool [N, 40] of no use, but large


class Doors(TensorEnv[DoorState]):
    """A walk on a line that may not leave it; the mask depends on the state."""

    max_episode_steps = 6

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(0.0, 1.0, (1,)), Discrete(3)

    def reset(self, rng: Rng) -> DoorState:
        return DoorState(rng.integers(0, 5), torch.zeros(rng.num_envs, 40, dtype=torch.bool))

    def step(self, state: DoorState, action: Tensor, rng: Rng) -> tuple[DoorState, Tensor, Tensor]:
        place = state.place + action - 1
        if int(place.min()) < 0 or int(place.max()) > 4:
            raise EnvError("an illegal action")
        return DoorState(place, state.doors), place.float(), torch.zeros_like(place, dtype=torch.bool)

    def observe(self, state: DoorState) -> Tensor:
        return (state.place / 4).unsqueeze(1)

    def action_mask(self, state: DoorState) -> Tensor:
        return torch.stack((state.place > 0, torch.ones_like(state.place, dtype=torch.bool), state.place < 4), 1)


def test_masks_come_from_states_even_where_they_are_large() -> None:
    store, replay, seen = history(TensorVectorEnv(Doors(), 8, device="cpu"), 20, 50)
    assert isinstance(store, StateStore)
    check_history(store, replay, seen)


def test_dictionaries_and_bytes_keep_their_types() -> None:
    """SB3's test environment: a picture of bytes, and a vector of float64 that the adapter makes float32."""
    envs = [SimpleMultiObsEnv for _ in range(3)]
    np.random.seed(0)
    store, replay, seen = history(VecEnvAdapter(DummyVecEnv(envs), "cpu"), 12, 30)
    assert isinstance(store, ObservationStore)
    assert {key: field.dtype for key, field in replay.content.items()} == {"img": torch.uint8, "vec": torch.float32}
    found = check_history(store, replay, seen)
    assert len(found.indices) > 20


def test_a_million_snake_transitions_take_246_bytes_each() -> None:
    """State 100 · 2 + 5 · 8, action 1, reward 4, kind 1; T = 1001 rows for each of 1,000 environments."""
    batch = make("snake", 1000, "meta")
    obs, _ = batch.reset()
    content = store_for(batch, obs).current(obs)
    replay = Replay(1_000_000, content, num_actions=3, gamma=0.99)
    assert replay.rows == 1001
    assert replay.nbytes == 1_001_000 * 246


@pytest.mark.parametrize("env", ["snake-small", "cartpole", "pricing", "reach", "pricing-two"])
def test_what_a_replay_memory_will_keep_is_known_before_it_begins(env: str) -> None:
    batch = make(env, 4, "cpu")
    before = replay_keeps_states(batch)
    obs, _ = batch.reset()
    assert before == isinstance(store_for(batch, obs), StateStore)
