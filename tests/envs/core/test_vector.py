"""The batch: auto-reset, the two ends of an episode, statistics, replay of single episodes, and error messages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from palaestra.envs import EnvError, Reference, TensorEnv, TensorVectorEnv, make
from palaestra.envs.cartpole import CartPole
from palaestra.envs.checker.value_rules import random_actions
from palaestra.envs.core import resolve_device, state_fields
from palaestra.envs.core.rng import Rng
from palaestra.envs.snake import Snake


@dataclass(frozen=True)
class CounterState:
    count: Tensor  # int64 [N] steps taken
    start: Tensor  # float32 [N] drawn at the reset


class Counter(TensorEnv[CounterState]):
    """Observes (count, start); the reward is the action; action 2 terminates."""

    max_episode_steps = 4

    def __init__(self) -> None:
        self.observation_space = Box(0.0, 100.0, (2,))
        self.action_space = Discrete(3)

    def reset(self, rng: Rng) -> CounterState:
        return CounterState(torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device), rng.uniform())

    def step(self, state: CounterState, action: Tensor, rng: Rng) -> tuple[CounterState, Tensor, Tensor]:
        return CounterState(state.count + 1, state.start), action.float(), action == 2

    def observe(self, state: CounterState) -> Tensor:
        return torch.stack((state.count.float(), state.start), 1)

    def success(self, state: CounterState) -> Tensor:
        return state.count == 4


def counter(num_envs: int = 3, **kwargs: Any) -> TensorVectorEnv[CounterState]:
    batch = TensorVectorEnv(Counter(), num_envs, device="cpu", **kwargs)
    batch.reset()
    return batch


def test_rules_without_masks_have_none_even_before_the_first_reset() -> None:
    batch = TensorVectorEnv(Counter(), 2, device="cpu")
    assert batch.action_masks() is batch.final_action_masks() is None


def test_termination_truncation_and_auto_reset_in_one_table() -> None:
    """Row 0 terminates at step 2, row 1 is truncated at step 4, row 2 terminates there, which is not a truncation."""
    batch = counter()
    first = batch.env.observe(batch.state)[:, 1].clone()  # type: ignore[arg-type]
    actions = torch.tensor([[1, 1, 0], [2, 1, 0], [0, 1, 0], [1, 1, 2]])
    results = [batch.step(a) for a in actions]
    assert [r[2].tolist() for r in results] == [[False] * 3, [True, False, False], [False] * 3, [False, False, True]]
    assert [r[3].tolist() for r in results] == [[False] * 3, [False] * 3, [False] * 3, [False, True, False]]
    assert [r[0][:, 0].tolist() for r in results] == [[1, 1, 1], [0, 2, 2], [1, 3, 3], [2, 0, 0]]
    assert [r[4]["final_obs"][:, 0].tolist() for r in results] == [[1, 1, 1], [2, 2, 2], [1, 3, 3], [2, 4, 4]]
    assert [r[4]["_final_obs"].tolist() for r in results] == [(r[2] | r[3]).tolist() for r in results]
    assert results[1][4]["final_obs"][0, 1] == first[0]
    assert results[1][0][0, 1] != first[0]  # a new episode draws a new state
    assert [r[4]["episode"]["r"].tolist() for r in results] == [[1, 1, 0], [3, 2, 0], [0, 3, 0], [1, 4, 2]]
    assert [r[4]["episode"]["l"].tolist() for r in results] == [[1, 1, 1], [2, 2, 2], [1, 3, 3], [2, 4, 4]]
    assert [r[4]["is_success"].tolist() for r in results] == [
        [False] * 3,
        [False] * 3,
        [False] * 3,
        [False, True, True],
    ]
    assert batch.episode.tolist() == [1, 1, 1]


def test_time_limit_can_be_overridden_and_absent() -> None:
    lengths = {}
    for limit in (1, 7):
        batch = counter(1, max_episode_steps=limit)
        lengths[limit] = next(t for t in range(1, 20) if batch.step(torch.tensor([0]))[3])
    assert lengths == {1: 1, 7: 7}
    endless = Counter()
    endless.max_episode_steps = None
    batch = TensorVectorEnv(endless, 1, device="cpu")
    batch.reset()
    assert not batch.can_truncate
    assert not any(batch.step(torch.tensor([0]))[3] for _ in range(50))


def test_reset_without_a_seed_goes_on_to_new_episodes() -> None:
    batch = TensorVectorEnv(Counter(), 5, device="cpu", seed=3)
    starts = [batch.reset()[0][:, 1] for _ in range(4)]
    assert torch.stack(starts).unique().numel() == 20
    again, _ = batch.reset(seed=3)
    assert torch.equal(again[:, 1], starts[0])
    for episode, start in enumerate(starts):
        assert torch.equal(batch.reset(options={"episode": episode})[0][:, 1], start)
    assert not torch.equal(batch.reset(seed=4)[0][:, 1], starts[0])


def test_auto_reset_enters_the_episodes_that_reset_would() -> None:
    batch = counter(5)
    for episode in range(1, 4):
        obs = batch.step(torch.full((5,), 2))[0]
        other = TensorVectorEnv(Counter(), 5, device="cpu")
        assert torch.equal(obs, other.reset(options={"episode": episode})[0])


# A batch of 4,096 played for a while, its history kept; single episodes of it are then played alone.
HISTORY_STEPS = 60
MAKERS = {"snake": lambda: Snake(4), "cartpole": CartPole}


@cache
def history(name: str) -> list[dict[str, Tensor]]:
    batch = TensorVectorEnv(MAKERS[name](), 4096, device="cpu", seed=77, max_episode_steps=40)
    obs, _ = batch.reset()
    records = [{"obs": obs, "episode": batch.episode, **state_fields(batch.state)}]
    for step in range(1, HISTORY_STEPS + 1):
        actions = random_actions(batch, step)
        obs, reward, terminated, truncated, info = batch.step(actions)
        records.append(
            {
                "actions": actions,
                "obs": obs,
                "reward": reward,
                "terminated": terminated,
                "truncated": truncated,
                "final_obs": info["final_obs"],
                "return": info["episode"]["r"],
                "episode": batch.episode,
                **state_fields(batch.state),
            }
        )
    return records


@pytest.mark.parametrize("name", MAKERS)
@given(row=st.integers(0, 4095), which=st.integers(0, 5), size=st.integers(1, 9), offset=st.integers(0, 8))
def test_an_episode_of_a_batch_replays_alone_bit_for_bit(
    name: str, row: int, which: int, size: int, offset: int
) -> None:
    """From (seed, env index, episode) and the recorded actions, as one row of a batch of another size."""
    records = history(name)
    episodes = [int(r["episode"][row]) for r in records]
    episode = min(which, episodes[-1])
    start = episodes.index(episode)
    offset = min(offset, size - 1, row)
    alone = TensorVectorEnv(
        MAKERS[name](), size, device="cpu", seed=77, first_env_index=row - offset, max_episode_steps=40
    )
    obs, _ = alone.reset(options={"episode": episode})
    assert torch.equal(obs[offset], records[start]["obs"][row])
    for record in records[start + 1 :]:
        actions = torch.zeros(size, dtype=torch.int64)
        actions[offset] = record["actions"][row]
        final, reward, terminated, truncated = alone.advance(actions)
        assert torch.equal(final[offset], record["final_obs"][row])
        assert (reward[offset], terminated[offset], truncated[offset]) == tuple(
            record[key][row] for key in ("reward", "terminated", "truncated")
        )
        assert alone.episode_return[offset] == record["return"][row]
        if terminated[offset] or truncated[offset]:
            return
        for field, value in state_fields(alone.state).items():
            assert torch.equal(value[offset], record[field][row])


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("cut", [1, 1000, 2048])
def test_shards_equal_the_whole(name: str, cut: int) -> None:
    records = history(name)
    for first, last in ((0, cut), (cut, 4096)):
        shard = TensorVectorEnv(
            MAKERS[name](), last - first, device="cpu", seed=77, first_env_index=first, max_episode_steps=40
        )
        shard.reset()
        for record in records[1:]:
            obs, reward, *_ = shard.step(record["actions"][first:last])
            assert torch.equal(obs, record["obs"][first:last])
            assert torch.equal(reward, record["reward"][first:last])


@pytest.mark.parametrize("name", MAKERS)
def test_resetting_by_selection_equals_resetting_rows(name: str) -> None:
    """The path that a GPU takes, run here on the CPU."""
    records = history(name)
    dense = TensorVectorEnv(MAKERS[name](), 4096, device="cpu", seed=77, max_episode_steps=40)
    dense.reset_finished = dense._reset_by_selection  # type: ignore[method-assign]
    dense.reset()
    for record in records[1:]:
        obs, *_, info = dense.step(record["actions"])
        assert torch.equal(obs, record["obs"])
        assert torch.equal(info["episode"]["r"], record["return"])
        for field, value in state_fields(dense.state).items():
            assert torch.equal(value, record[field])


def test_what_a_step_returned_is_never_overwritten_later() -> None:
    """An agent keeps references to what it got; later steps must not change them."""
    batch = make("snake-small", 64, device="cpu")
    kept = [batch.reset()[0]]
    copies = [kept[0].clone()]
    for step in range(1, 30):
        obs, reward, terminated, truncated, info = batch.step(random_actions(batch, step))  # type: ignore[arg-type]
        kept += [obs, reward, terminated, truncated, info["final_obs"], *info["episode"].values()]
        copies += [value.clone() for value in kept[len(copies) :]]
    assert all(torch.equal(a, b) for a, b in zip(kept, copies, strict=True))


class Faulty(Counter):
    """Returns one wrong thing from the second step on."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def step(self, state: CounterState, action: Tensor, rng: Rng) -> tuple[CounterState, Tensor, Tensor]:
        after, reward, terminated = super().step(state, action, rng)
        return {
            "reward shape": (after, reward.unsqueeze(1), terminated),
            "reward dtype": (after, reward.double(), terminated),
            "reward type": (after, 1.0, terminated),
            "terminated dtype": (after, reward, terminated.float()),
            "reward device": (after, reward.to("meta"), terminated),
        }.get(self.fault, (after, reward, terminated))  # type: ignore[return-value]

    def reset(self, rng: Rng) -> CounterState:
        state = super().reset(rng)
        if self.fault == "state shape":
            return CounterState(state.count, state.start[:1])
        return CounterState(state.count, 0.5) if self.fault == "state type" else state  # type: ignore[arg-type]

    def observe(self, state: CounterState) -> Tensor:
        obs = super().observe(state)
        return {"observation shape": obs[:, :1], "observation dtype": obs.double()}.get(self.fault, obs)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("reward shape", r"Faulty: reward must have shape \(3,\), got \(3, 1\)"),
        ("reward dtype", r"Faulty: reward must be torch.float32, got torch.float64"),
        ("reward type", r"Faulty: reward must be a tensor, got float"),
        ("reward device", r"Faulty: reward must be on cpu, got meta"),
        ("terminated dtype", r"Faulty: terminated must be torch.bool, got torch.float32"),
        ("observation shape", r"Faulty: observation must have shape \(3, 2\), got \(3, 1\)"),
        ("observation dtype", r"Faulty: observation must be torch.float32, got torch.float64"),
        ("state shape", r"Faulty: state.start must be a tensor whose first dimension is 3, got \(1,\)"),
        ("state type", r"Faulty: state.start must be a tensor whose first dimension is 3, got float"),
    ],
)
def test_errors_name_the_environment_and_the_field(fault: str, message: str) -> None:
    batch = TensorVectorEnv(Faulty(fault), 3, device="cpu")

    def play() -> None:
        batch.reset()
        batch.step(torch.zeros(3, dtype=torch.int64))

    with pytest.raises(EnvError, match=message):
        play()


def test_a_state_must_be_a_record() -> None:
    with pytest.raises(EnvError, match="dataclass or a NamedTuple of tensors, got Tensor"):
        state_fields(torch.zeros(3))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (torch.tensor([0, 1, 3]), "actions must be 0 … 2, got 0 … 3"),
        (torch.tensor([-1, 1, 2]), "actions must be 0 … 2, got -1 … 2"),
        (torch.zeros(4, dtype=torch.int64), r"shape \(3,\), got \(4,\)"),
        (torch.zeros(3, 1, dtype=torch.int64), r"shape \(3,\), got \(3, 1\)"),
        ([0, 1, 2], r"shape \(3,\), got list"),
        (torch.zeros(3, dtype=torch.int64, device="meta"), "actions are on meta, the environment is on cpu"),
    ],
)
def test_wrong_actions_are_refused(actions: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        counter().step(actions)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"seed": -3}, "seed must be at least 0, got -3"),
        ({"max_episode_steps": 0}, "max_episode_steps must be at least 1, got 0"),
        ({"render_mode": "ansi"}, "render_mode must be None or \"rgb_array\", got 'ansi'"),
    ],
)
def test_wrong_arguments_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TensorVectorEnv(Counter(), **{"device": "cpu", **kwargs})


def test_step_before_reset_is_refused() -> None:
    batch = TensorVectorEnv(Counter(), 2, device="cpu")
    with pytest.raises(RuntimeError, match="reset"):
        batch.step(torch.zeros(2, dtype=torch.int64))


def test_state_of_one_row_is_on_the_host() -> None:
    state = counter().state_of(1)
    assert state.count == 0
    assert isinstance(state.count, int)
    assert isinstance(state.start, float)


def test_percent_of_optimal() -> None:
    reference = Reference(optimum=35.0, random=0.135)
    assert reference.percent_of_optimal(35.0) == 100
    assert reference.percent_of_optimal(0.135) == 0
    assert Reference(optimum=35.0).percent_of_optimal(3.0) is None
    assert Reference(optimum=1.0, random=1.0).percent_of_optimal(3.0) is None


def test_auto_device_is_the_gpu_if_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("meta").type == "meta"
