"""Draws that are made ahead: the same bits as those made when they are asked for, whatever is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from palaestra.envs import TensorEnv, TensorVectorEnv
from palaestra.envs.core.draws import pipeline, stock
from palaestra.envs.core.rng import Request, Rng, child_key, env_keys

N = 24
REQUESTS = st.one_of(
    st.tuples(st.just("bits"), st.sampled_from([(), (3,), (2, 2)])),
    st.tuples(
        st.just("uniform"),
        st.sampled_from([(), (4,)]),
        st.sampled_from([0.0, -1.0]),
        st.sampled_from([1.0, 2.5]),
        st.sampled_from([torch.float32, torch.float64]),
    ),
    st.tuples(st.just("integers"), st.sampled_from([(), (2,)]), st.sampled_from([0, -3]), st.just(9)),
    st.tuples(st.just("normal"), st.sampled_from([(), (5,)]), st.just(torch.float32)),
)
PLANS = st.lists(REQUESTS, max_size=4)


def drawn(rng: Rng, plan: list[Request]) -> list[Tensor]:
    return [rng.repeat(request) for request in plan]


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@given(PLANS, PLANS, st.integers(0, 2**31))
def test_a_pipeline_draws_what_the_keys_give(reset_plan: list[Request], step_plan: list[Request], seed: int) -> None:
    """Of episodes that end at any time, several steps in a row too."""
    chance = torch.Generator().manual_seed(seed)
    keys = env_keys(seed, torch.arange(N))
    episode, length = (torch.randint(0, 7, (N,), generator=chance) for _ in range(2))
    ready = pipeline.start(reset_plan, step_plan, keys, episode, length)
    for _ in range(8):
        assert torch.equal(ready.episode_keys, child_key(keys, episode))
        length = length + 1
        step, reset = ready.step_rng(length), ready.reset_rng()
        assert same(drawn(step, step_plan), drawn(Rng(child_key(keys, episode), length), step_plan))
        assert same(drawn(reset, reset_plan), drawn(Rng(child_key(keys, episode + 1), 0), reset_plan))
        assert step._key is reset._key is None, "drawn once more"
        done = torch.rand(N, generator=chance) < 0.4
        ready = ready.after(done, length)
        episode, length = episode + done, torch.where(done, 0, length)


@given(PLANS, st.integers(0, 2**31), st.sampled_from([0.02, 0.5, 1.0]))
def test_a_stock_gives_what_the_keys_give(plan: list[Request], seed: int, share: float) -> None:
    """For far more resets than it holds, of all rows alike or of one row again and again."""
    chance = torch.Generator().manual_seed(seed)
    keys, episode = env_keys(seed, torch.arange(N)), torch.randint(0, 99, (N,), generator=chance)
    resets = stock.ResetDraws(keys)
    for _ in range(3 * stock.EPISODES):
        rows = (torch.rand(N, generator=chance) < share).nonzero().squeeze(1)
        rows = rows if len(rows) else torch.tensor([5])
        begun, rng = resets.rng(rows, episode, plan)
        assert torch.equal(begun, episode[rows] + 1)
        assert torch.equal(rng.episode_key, child_key(keys[rows], begun))
        assert same(drawn(rng, plan), drawn(Rng(child_key(keys[rows], begun), 0), plan))
        episode = episode.index_copy(0, rows, begun)


@given(PLANS, PLANS)
def test_other_draws_than_those_made_ahead_are_made_then(plan: list[Request], asked: list[Request]) -> None:
    keys = env_keys(1, torch.arange(N))
    episode, zero = torch.zeros(N, dtype=torch.int64), torch.zeros(N, dtype=torch.int64)
    expected = drawn(Rng(child_key(keys, 1), 0), asked)
    assert same(drawn(pipeline.start(plan, [], keys, episode, zero).reset_rng(), asked), expected)
    assert same(drawn(stock.ResetDraws(keys).rng(torch.arange(N), episode, plan)[1], asked), expected)
    ready = pipeline.start([], plan, keys, episode, zero)
    assert same(drawn(ready.step_rng(zero + 1), asked), drawn(Rng(child_key(keys, 0), 1), asked))


@dataclass(frozen=True)
class FickleState:
    drawn: Tensor  # float32 [N, 3]
    steps: Tensor  # int64 [N]


class Fickle(TensorEnv[FickleState]):
    """Draws another number of times, and otherwise, in every call."""

    max_episode_steps = 3

    def __init__(self) -> None:
        self.observation_space, self.action_space, self.calls = Box(-9.0, 9.0, (3,)), Discrete(2), 0

    def _draw(self, rng: Rng) -> Tensor:
        self.calls += 1
        kind = self.calls % 3
        columns = [rng.uniform(), rng.uniform(-1.0, 1.0) if kind else rng.normal()]
        columns.append(rng.uniform(shape=(kind + 1,)).sum(1))
        return torch.stack(columns, 1)

    def reset(self, rng: Rng) -> FickleState:
        return FickleState(self._draw(rng), torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device))

    def step(self, state: FickleState, action: Tensor, rng: Rng) -> tuple[FickleState, Tensor, Tensor]:
        after = FickleState(self._draw(rng), state.steps + 1)
        return after, after.drawn.sum(1), after.drawn[:, 0] > 0.6

    def observe(self, state: FickleState) -> Tensor:
        return state.drawn


@pytest.mark.parametrize("dense", [False, True])
def test_rules_that_draw_otherwise_in_each_call_get_their_own_bits(
    dense: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def play(**forbidden: Any) -> list[Tensor]:
        with monkeypatch.context() as patch:
            for module in forbidden.values():
                patch.setattr(module, "fits", lambda *_: False)
            batch = TensorVectorEnv(Fickle(), N, device="cpu", seed=3)
            if dense:
                batch.reset_finished = batch._reset_by_selection  # type: ignore[method-assign]
            batch.reset()
            return [value for _ in range(30) for value in batch.step(torch.zeros(N, dtype=torch.int64))[:4]]

    assert same(play(), play(a=pipeline, b=stock))
