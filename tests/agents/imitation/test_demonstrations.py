"""Recorded episodes: their returns by hand, minibatches, and the cloning of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from stable_baselines3.common.logger import Logger

from palaestra.agents.imitation.bc import BC
from palaestra.agents.imitation.demonstrations import Demonstrations, RecordedEpisode
from palaestra.envs import make


def episode(rewards: list[float], terminated: bool, first: float = 0.0) -> RecordedEpisode:
    steps = len(rewards)
    seen = first + np.arange(steps + 1, dtype=np.float64)[:, None]
    return RecordedEpisode(seen, np.arange(steps) % 2, np.array(rewards, dtype=np.float32), terminated)


def on_cpu(*episodes: RecordedEpisode) -> Demonstrations:
    found = Demonstrations(episodes)
    found.to(torch.device("cpu"), lambda obs: obs, lambda actions: actions)
    return found


def test_returns_are_discounted_to_the_end_and_beyond_it_where_it_was_cut() -> None:
    found = on_cpu(episode([1.0, 2.0, 4.0], True), episode([8.0, 16.0], False, first=100.0))
    assert (found.steps, found.returns.tolist()) == (5, [7.0, 24.0])
    found.discount(0.5, scales=False)
    (batch,) = found.minibatches(1, 4000, lambda last: 10.0 * last.flatten())
    by_obs = dict(zip(batch.observations.flatten().tolist(), batch.returns.tolist(), strict=True))
    # γ^k V(last observation), which is 102
    expected = {0.0: 1 + 0.5 * 2 + 0.25 * 4, 1.0: 2 + 0.5 * 4, 2.0: 4.0}
    expected |= {100.0: 8 + 0.5 * 16 + 0.25 * 1020, 101.0: 16 + 0.5 * 1020}
    assert by_obs == pytest.approx(expected)
    assert torch.equal(batch.actions, batch.observations.flatten().long() % 2), "rows stay together"


def test_returns_are_divided_by_their_deviation() -> None:
    found = on_cpu(episode([1.0, 2.0, 3.0], True))
    mean, variance = found.discount(1.0, scales=True)
    returns = np.array([6.0, 5.0, 3.0])
    assert (mean, variance) == pytest.approx((returns.mean(), returns.var()))
    (batch,) = found.minibatches(1, 1000, lambda last: torch.zeros(1))
    found_returns = sorted({round(float(r), 4) for r in batch.returns})
    assert found_returns == pytest.approx(sorted(returns / returns.std()), abs=1e-3)


def test_there_must_be_episodes() -> None:
    with pytest.raises(ValueError, match="no episode to learn from"):
        Demonstrations([])


@pytest.mark.parametrize("as_dict", [False, True])
def test_observations_may_be_dictionaries(as_dict: bool) -> None:
    one = episode([0.0, 1.0], True)
    seen: Any = {"a": one.observations, "b": 2 * one.observations} if as_dict else one.observations
    found = on_cpu(RecordedEpisode(seen, one.actions, one.rewards, True))
    found.discount(1.0, scales=False)
    (batch,) = found.minibatches(1, 8, lambda last: torch.zeros(1))
    if as_dict:
        assert torch.equal(batch.observations["b"], 2 * batch.observations["a"])
    assert (batch.observations["a"] if as_dict else batch.observations).dtype == torch.float32


def test_what_was_recorded_is_cloned_without_a_step_of_an_environment() -> None:
    env = make("cartpole", num_envs=4, seed=0)
    generator = np.random.default_rng(0)
    seen = generator.normal(size=(801, 4)).astype(np.float32)
    wanted = (seen[:-1, 2] + seen[:-1, 3] > 0.0).astype(np.int64)
    recorded = Demonstrations([RecordedEpisode(seen, wanted, np.ones(800, dtype=np.float32), False)])
    settings: dict[str, Any] = {"n_steps": 64, "batch_size": 128, "learning_rate": 3e-3, "seed": 1}
    model = BC("MlpPolicy", env, teacher=recorded, normalize_reward=True, normalize_observation=True, **settings)
    model.set_logger(Logger(None, []))
    assert isinstance(env.single_action_space, Discrete)
    model.learn(4 * 64 * 200)
    assert model.num_timesteps == 4 * 64 * 200
    assert int(env.episode_length.sum()) == 0, "it has not moved"
    fresh = torch.from_numpy(generator.normal(size=(1000, 4)).astype(np.float32))
    assert ((fresh[:, 2] + fresh[:, 3] > 0.0) == model.act(fresh)).float().mean() > 0.95
