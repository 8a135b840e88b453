"""Evaluation: statistics with known answers, the first episode of each row, and seeds that training never sees."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st
from probes import ProbeState
from torch import Tensor

from palaestra.agents import PPO
from palaestra.envs import Reference, Rng, TensorEnv, TensorVectorEnv, make
from palaestra.envs.core import Array, BatchedEnv
from palaestra.envs.core.rng import sample_actions
from palaestra.envs.specs import GymnasiumSpec, TensorEnvSpec
from palaestra.train.evaluation import episodes as module
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, evaluate, run_episodes, summarise
from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, RandomPolicy
from palaestra.train.evaluation.statistics import interquartile_mean


class Ladder(TensorEnv[ProbeState]):
    """Row i's e-th episode lasts 1 + (i + 3e) mod 10 steps with reward e + 1 each; it succeeds if that is odd.

    Observation and actions mean nothing. The batch's own counters are read through ``batch``.
    """

    batch: TensorVectorEnv[ProbeState]

    def __init__(self) -> None:
        self.observation_space, self.action_space = Box(-1.0, 1.0, (1,)), Discrete(2)

    def reset(self, rng: Rng) -> ProbeState:
        return ProbeState(torch.zeros(rng.num_envs))

    def observe(self, state: ProbeState) -> Tensor:
        return torch.zeros(len(state.signal), 1)

    def limit(self) -> Tensor:
        return 1 + (self.batch.env_indices + 3 * self.batch.episode) % 10

    def step(self, state: ProbeState, action: Tensor, rng: Rng) -> tuple[ProbeState, Tensor, Tensor]:
        steps = state.signal + 1
        return ProbeState(steps), (self.batch.episode + 1).float(), steps >= self.limit()

    def success(self, state: ProbeState) -> Tensor:
        return self.limit() % 2 == 1


def ladder(n: int) -> TensorVectorEnv[ProbeState]:
    env = Ladder()
    env.batch = TensorVectorEnv(env, n, device="cpu")
    return env.batch


def test_only_the_first_episode_of_each_row_counts() -> None:
    """Rows end after 1 … 10 steps; the short ones play several episodes until the longest is over."""
    result = run_episodes(ladder(20), RandomPolicy())
    expected = 1 + np.arange(20) % 10
    assert result.lengths.tolist() == expected.tolist()
    assert result.returns.tolist() == expected.tolist()  # later episodes pay more per step
    assert result.successes is not None
    assert result.successes.tolist() == (expected % 2 == 1).tolist()


def test_episodes_without_an_end_are_cut_and_count_with_what_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows last 1 … 10 steps with a reward of 1 each; cut after 7, the last three have 7."""
    monkeypatch.setattr(module, "MAX_STEPS", 7)
    result = run_episodes(ladder(10), RandomPolicy())
    assert result.lengths.tolist() == result.returns.tolist() == [1, 2, 3, 4, 5, 6, 7, 7, 7, 7]
    assert result.cut.tolist() == 7 * [False] + 3 * [True]
    assert result.successes is not None
    assert result.successes.tolist() == [True, False, True, False, True, False, True, False, False, False]


def test_who_asks_is_told_how_many_episodes_are_over() -> None:
    """Every eighth step: of rows that last 1 … 10 steps 0.8 are over after eight, all after sixteen."""
    told: list[float] = []
    run_episodes(ladder(20), RandomPolicy(), told.append)
    assert told == [16, 20]
    told.clear()
    evaluate("cartpole", RandomPolicy(), episodes=1030, env_kwargs={"max_episode_steps": 16}, tell=told.append)
    assert told == [512, 1024, 1024 + 3, 1024 + 6]  # the share of the time limit, in batches of 1,024


# ------------------------------------------------------------------------------------------- statistics


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == (2 + 3 + 4 + 5) / 4
    assert interquartile_mean(np.array([9.0, 1, 8])) == 6  # a quarter of three is none
    assert interquartile_mean(np.array([20.0, 3, 1, 0, 2, 10])) == 4
    assert interquartile_mean(np.array([9.0, 1, 5, 6, 7])) == 6
    assert interquartile_mean(np.array([2.0])) == 2


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1e9))
def test_interquartile_mean_ignores_outliers(values: list[float], outlier: float) -> None:
    array = np.array(values)
    plain = interquartile_mean(array)
    assert array.min() - 1e-6 <= plain <= array.max() + 1e-6
    if len(values) >= 4:
        wild = array.copy()
        wild[wild.argmax()] += outlier
        assert interquartile_mean(wild) == pytest.approx(plain, rel=1e-9, abs=1e-6)


class Known(Ladder):
    """Has reference returns, and more to say of its episodes."""

    @property
    def reference(self) -> Reference:
        return Reference(optimum=8.0, random=-2.0, heuristic=1.0)

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        assert successes is not None
        return {"reward_per_step": float(returns.sum() / lengths.sum()), "longest": float(lengths[successes].max())}


def test_summary_by_hand() -> None:
    returns, lengths = np.array([1.0, 2.0, 3.0, 6.0]), np.array([1, 2, 3, 3])
    flags = np.array([True, False, True, True])
    result = summarise("x", "me", 7, returns, lengths, flags, Known())
    assert (result.mean, result.iqm, result.mean_length, result.success_rate) == (3.0, 2.5, 2.25, 0.75)
    assert result.std == pytest.approx(math.sqrt(14 / 3))
    assert result.percent_of_optimal == pytest.approx(50.0)
    assert result.ratio_to_optimal_percent == pytest.approx(37.5)
    assert result.reference == {"random": -2.0, "heuristic": 1.0, "optimum": 8.0}
    assert (result.env, result.run, result.seed, result.episodes) == ("x", "me", 7, 4)
    bare = summarise("x", "me", 7, returns[:1], lengths[:1], None, None)
    assert (bare.std, bare.percent_of_optimal, bare.ratio_to_optimal_percent, bare.success_rate) == (
        0,
        None,
        None,
        None,
    )
    assert json.loads(json.dumps(result.as_dict()))["mean"] == 3.0


def test_a_share_of_an_optimum_below_zero_is_not_told() -> None:
    class Costs(Ladder):
        @property
        def reference(self) -> Reference:
            return Reference(random=-9.0, optimum=-1.0)

    result = summarise("x", "me", 7, np.array([-5.0]), np.array([1]), None, Costs())
    assert result.ratio_to_optimal_percent is None  # 500 % of the costs is no achievement
    assert result.percent_of_optimal == pytest.approx(50.0)


def test_what_an_environment_adds_stands_beside_the_rest() -> None:
    returns, lengths, flags = (
        np.array([1.0, 2.0, 3.0, 6.0]),
        np.array([1, 2, 3, 2]),
        np.array([True, False, True, True]),
    )
    told = summarise("x", "me", 7, returns, lengths, flags, Known()).as_dict()
    more = {"reward_per_step": 1.5, "longest": 3.0}
    assert {name: told[name] for name in more} == more
    for rules in (None, Ladder()):  # other people's environment, and one that adds nothing
        plain = summarise("x", "me", 7, returns, lengths, flags, rules).as_dict()
        assert plain.keys() == told.keys() - more.keys()
        assert plain["mean"] == told["mean"]


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(-1000, 1000))
def test_percent_of_optimal(random: float, optimum: float, score: float) -> None:
    reference = Reference(optimum=optimum, random=random)
    if random == optimum:
        assert reference.percent_of_optimal(score) is None
        return
    assert reference.percent_of_optimal(random) == 0
    assert reference.percent_of_optimal(optimum) == pytest.approx(100)
    if abs(optimum - random) > 1e-3:
        percent = reference.percent_of_optimal(score)
        assert percent is not None
        assert random + percent / 100 * (optimum - random) == pytest.approx(score, abs=1e-6 * (1 + abs(score)))


# ------------------------------------------------------------------------------------------- seeds and batches


class Recorder(RandomPolicy):
    """Keeps the seeds and the rows of the environments that it plays in."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, int, int]] = set()

    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        self.seen.add((env.seed, int(env.env_indices[0]), int(env.env_indices[-1])))
        return super().__call__(env, obs)


@pytest.mark.parametrize("seed", [0, 5, 2**31, 2**32 - 1])
def test_seeds_are_ones_that_training_cannot_have(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorEnvSpec, "default_batch", 40)
    policy = Recorder()
    result = evaluate("snake-small", policy, episodes=100, seed=seed)
    assert policy.seen == {(EVALUATION_SEEDS + seed, a, b) for a, b in ((0, 39), (40, 79), (80, 99))}
    assert EVALUATION_SEEDS + seed >= 2**32
    assert (result.seed, result.episodes) == (seed, 100)


def subjects() -> dict[str, Any]:
    model = PPO("MlpPolicy", make("snake-small", 4, "cpu"), n_steps=8, batch_size=32, seed=0)
    return {
        "random": RandomPolicy(),
        "expert": ExpertPolicy(),
        "agent": AgentPolicy(model),
        "sampled": AgentPolicy(model, deterministic=False),
    }


@pytest.mark.parametrize("deterministic", [True, False])
def test_nor_does_that_of_other_peoples_environments(deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on the processes that they run in."""
    model = PPO("MlpPolicy", make("CartPole-v1", 4, "cpu"), n_steps=8, batch_size=32, seed=3)  # 125 steps an episode
    policy, results = AgentPolicy(model, deterministic), []
    for batch, mode in ((10, "sync"), (3, "sync"), (4, "async")):
        monkeypatch.setattr(GymnasiumSpec, "default_batch", batch)
        results.append(evaluate("CartPole-v1", policy, episodes=10, env_kwargs={"vectorization_mode": mode}))
    assert results[0] == results[1] == results[2]
    assert evaluate("CartPole-v1", policy, episodes=10, seed=1).mean_length != results[0].mean_length


@pytest.mark.parametrize("name", ["random", "expert", "agent", "sampled"])
def test_the_result_does_not_depend_on_the_internal_batch_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on what the same policy object has played before."""
    policy, results = subjects()[name], []
    for batch in (1024, 120, 50, 7 if name == "random" else 40):
        monkeypatch.setattr(TensorEnvSpec, "default_batch", batch)
        results.append(evaluate("snake-small", policy, episodes=120, seed=1))
    assert all(result == results[0] for result in results[1:])
    assert evaluate("snake-small", policy, episodes=120, seed=2).mean_length != results[0].mean_length


def test_more_episodes_begin_with_the_same_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    summarise = module.summarise
    monkeypatch.setattr(module, "summarise", lambda *args: [seen.append(args[3]), summarise(*args)][1])
    for episodes in (50, 200):
        evaluate("snake-small", RandomPolicy(), episodes=episodes)
    np.testing.assert_array_equal(seen[0], seen[1][:50])
    assert len(seen[1]) == 200


def test_the_expert_fills_every_small_board() -> None:
    result = evaluate("snake-small", ExpertPolicy(), episodes=300)
    assert (result.mean, result.success_rate, result.percent_of_optimal) == (35.0, 1.0, 100.0)
    assert (result.iqm, result.std, result.ci_high, result.success_ci_high) == (35.0, 0.0, 35.0, 1.0)
    assert (result.ci_low, result.success_ci_low) == pytest.approx((34.56, 0.9874), abs=0.01)  # of 300 games


def test_the_random_policy_is_near_its_reference() -> None:
    """0 % of optimal, within 5 standard errors."""
    result = evaluate("snake-small", RandomPolicy(), episodes=4000)
    assert abs(result.mean - result.reference["random"]) < 5 * result.std / math.sqrt(4000)
    assert result.ci_low <= result.mean <= result.ci_high
    assert result.success_rate == 0
    cartpole = evaluate("cartpole", RandomPolicy(), episodes=2000)
    assert abs(cartpole.mean - cartpole.reference["random"]) < 5 * cartpole.std / math.sqrt(2000)
    assert cartpole.success_rate is None


def test_other_peoples_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gymnasium's CartPole under the random policy lasts 22 steps or so."""
    monkeypatch.setattr(GymnasiumSpec, "default_batch", 60)
    policy = Recorder()
    result = evaluate("CartPole-v1", policy, episodes=120, env_kwargs={"vectorization_mode": "sync"})
    assert policy.seen == {(EVALUATION_SEEDS, 0, 59), (EVALUATION_SEEDS, 60, 119)}
    assert result.mean == result.mean_length
    assert 17 < result.mean < 28
    assert result.percent_of_optimal is None


def test_environment_arguments_reach_the_environment() -> None:
    assert evaluate("snake", ExpertPolicy(), episodes=5, env_kwargs={"size": 4}).mean == 15


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        evaluate("snake-small", RandomPolicy(), episodes=0)
    with pytest.raises(ValueError, match="has no expert"):
        evaluate("cartpole", ExpertPolicy(), episodes=1)


# ------------------------------------------------------------------------------------------- the random policy


@pytest.mark.parametrize("name", ["Discrete", "Box", "MultiDiscrete", "MultiBinary"])
def test_random_actions_are_uniform(name: str) -> None:
    from gymnasium import spaces

    space = {
        "Discrete": spaces.Discrete(5, start=-2),
        "Box": spaces.Box(np.float32([-1, 3]), np.float32([1, 7])),
        "MultiDiscrete": spaces.MultiDiscrete([2, 5]),
        "MultiBinary": spaces.MultiBinary(3),
    }[name]
    n = 40_000
    actions = sample_actions(space, Rng(torch.arange(n), 0)).numpy()
    assert actions.shape == (n, *space.shape)  # type: ignore[misc]
    assert all(space.contains(a.astype(space.dtype)) for a in actions[:500])
    flat = actions.reshape(n, -1).astype(float)
    if name == "Box":
        low, high = space.low, space.high  # type: ignore[attr-defined]
        np.testing.assert_allclose(flat.mean(0), (low + high) / 2, atol=0.04)
        np.testing.assert_allclose(flat.var(0), (high - low) ** 2 / 12, rtol=0.04)
        return
    for column in flat.T:
        _, counts = np.unique(column, return_counts=True)
        expected = n / len(counts)
        assert ((counts - expected) ** 2 / expected).sum() < len(counts) + 20
    if flat.shape[1] > 1:
        assert abs(np.corrcoef(flat.T)[0, 1]) < 5 / math.sqrt(n)


def test_random_actions_are_legal_ones() -> None:
    from gymnasium import spaces

    legal = torch.tensor([[True, False, True], [False, True, False]]).repeat(2000, 1)
    actions = sample_actions(spaces.Discrete(3, start=-2), Rng(torch.arange(4000), 0), legal)
    assert set(actions[1::2].tolist()) == {-1}
    assert 900 < actions[::2].eq(-2).sum() == 2000 - actions[::2].eq(0).sum() < 1100


def test_random_actions_of_several_choices_are_legal_ones() -> None:
    """One row allows {0, 2} × {1}, the other {1} × nothing, which counts as {0, 1}."""
    from gymnasium import spaces

    legal = torch.tensor([[True, False, True, False, True], [False, True, False, False, False]]).repeat(2000, 1)
    actions = sample_actions(spaces.MultiDiscrete([3, 2], start=[5, -1]), Rng(torch.arange(4000), 0), legal)
    assert set(map(tuple, actions[::2].tolist())) == {(5, 0), (7, 0)}
    assert set(map(tuple, actions[1::2].tolist())) == {(6, -1), (6, 0)}
    assert 900 < actions[1::2, 1].eq(0).sum() < 1100


def test_where_no_action_is_legal_random_ones_are_any() -> None:
    from gymnasium import spaces

    actions = sample_actions(spaces.Discrete(3, start=-2), Rng(torch.arange(900), 0), torch.zeros(900, 3).bool())
    assert actions.unique().tolist() == [-2, -1, 0]


def test_spaces_without_random_actions_are_refused() -> None:
    from gymnasium import spaces

    with pytest.raises(ValueError, match="cannot act in a space of type Text"):
        sample_actions(spaces.Text(3), Rng(torch.arange(2), 0))


def test_an_exact_value_is_the_score() -> None:
    sampled = evaluate("pricing-duopoly", ExpertPolicy(), episodes=64)
    assert sampled.score == sampled.more["exact_mean"] != sampled.mean
    assert sampled.percent_of_optimal == pytest.approx(100.0)
    played = evaluate("pricing-duopoly", RandomPolicy(), episodes=64)
    assert played.score == played.mean
