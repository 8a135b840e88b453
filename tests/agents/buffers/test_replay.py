"""Replay on the device: returns worked by hand, a model of plain Python lists as reference, uniform draws, sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from palaestra.agents.buffers.prioritized import Priorities
from palaestra.agents.buffers.replay import NOTHING, Replay, Transitions

GAMMA = 0.5
GOES_ON, TERMINATES, IS_CUT = "-", "T", "C"


def moment(*numbers: int) -> dict[str, Tensor]:
    """A content of two fields that names the moment: int64 [N] and float32 [N, 2]."""
    number = torch.tensor(numbers)
    return {"number": number, "pair": torch.stack((number, -number), 1).float()}


def add(replay: Replay, ends: str, final: list[int], now: list[int], rewards: Any, actions: Any, dense: bool) -> None:
    """One step; ``ends`` has a letter for each environment, ``dense`` takes the way of a GPU."""
    device = replay.device
    replay.device = torch.device("meta") if dense else device
    terminated, truncated = (torch.tensor([e == letter for e in ends]) for letter in (TERMINATES, IS_CUT))
    rewards, actions = torch.tensor(rewards, dtype=torch.float32), torch.tensor(actions)
    replay.add(actions, rewards, terminated, truncated, moment(*final), moment(*now))
    replay.device = device


def play(replay: Replay, ends: str, rewards: list[float], now: int = 0) -> None:
    """Steps of one environment; moments are numbered in the order in which they are seen."""
    for end, reward in zip(ends, rewards, strict=True):
        final = now = now + 1
        now += end != GOES_ON
        add(replay, end, [final], [now], [reward], [0], dense=False)


def one(buffer_size: int, n_steps: int, first: int = 0, **kwargs: Any) -> Replay:
    return Replay(buffer_size, moment(first), num_actions=2, gamma=GAMMA, n_steps=n_steps, **kwargs)


def rows_of(found: Transitions) -> list[tuple[int, float, float, int]]:
    """(content, return, discount, next content) of each."""
    columns = (found.content["number"], found.returns, found.discounts, found.next_content["number"])
    return list(zip(*(column.tolist() for column in columns), strict=True))


# ---------------------------------------------------------------------------------------------------- worked by hand


def test_the_return_stops_at_a_termination() -> None:
    """γ = ½, n = 3: 1 + ½·2 + ¼·4 = 3 and 2 + ½·4 = 4 with nothing after; then 8 + ½·16 = 16 up to the newest."""
    replay = one(7, 3)
    play(replay, "--T--", [1, 2, 4, 8, 16])
    found = replay.gather(torch.arange(5))
    assert rows_of(found)[:3] == [(0, 3.0, 0.0, 4), (1, 4.0, 0.0, 4), (2, 4.0, 0.0, 4)]
    assert rows_of(found)[3:] == [(4, 16.0, 0.25, 6), (5, 16.0, 0.5, 6)]
    assert found.weights.tolist() == [1.0] * 5


def test_the_return_bootstraps_from_the_last_moment_of_a_cut_episode() -> None:
    """As above with a cut: moment 3 is the last of the old episode, 4 the first of the next, two rows on."""
    replay = one(7, 3)
    play(replay, "--C--", [1, 2, 4, 8, 16])
    found = replay.gather(torch.arange(6))
    assert rows_of(found)[:3] == [(0, 3.0, 0.125, 3), (1, 4.0, 0.25, 3), (2, 4.0, 0.5, 3)]
    assert rows_of(found)[4:] == [(4, 16.0, 0.25, 6), (5, 16.0, 0.5, 6)]
    assert found.weights.tolist() == [1, 1, 1, 0, 1, 1]


def test_the_oldest_rows_are_overwritten() -> None:
    """Four rows keep three of six steps: those with rewards 8, 16, 32 in rows 3, 0, 1; row 2 is where the run is."""
    replay = one(3, 2)
    play(replay, "------", [1, 2, 4, 8, 16, 32])
    found = replay.gather(torch.tensor([3, 0, 1, 2]))
    assert rows_of(found)[:3] == [(3, 16.0, 0.25, 5), (4, 32.0, 0.25, 6), (5, 32.0, 0.5, 6)]
    assert found.weights.tolist() == [1, 1, 1, 0]


def test_a_restart_ends_the_running_episode_without_an_end() -> None:
    replay = one(7, 3)
    play(replay, "--", [1, 2])
    replay.restart(moment(10))
    play(replay, "-", [4], now=10)
    found = replay.gather(torch.tensor([0, 1, 2, 3]))
    assert [rows_of(found)[i] for i in (0, 1, 3)] == [(0, 2.0, 0.25, 2), (1, 2.0, 0.5, 2), (10, 4.0, 0.5, 11)]
    assert found.weights.tolist() == [1, 1, 0, 1]


def test_weights_count_where_there_is_a_transition() -> None:
    replay = one(7, 1)
    play(replay, "-C-", [1, 2, 4])
    assert replay.gather(torch.arange(4), torch.tensor([0.5, 0.25, 0.125, 1.0])).weights.tolist() == [
        0.5,
        0.25,
        0.0,
        1.0,
    ]


def test_too_few_rows_for_n_steps_are_refused() -> None:
    one(3, 3)
    with pytest.raises(ValueError, match="n_steps=4 needs a buffer_size above 3"):
        one(3, 4)


# ---------------------------------------------------------------------------------------------------- the reference


class Episode:
    """What one environment did between two resets."""

    def __init__(self, first: int) -> None:
        self.moments, self.actions, self.rewards, self.end = [first], list[int](), list[float](), GOES_ON

    def rows(self) -> int:
        """It takes in a column: one per step, and one for a last moment that is not the end."""
        return len(self.actions) + (self.end == IS_CUT)

    def n_step(self, t: int, n: int) -> tuple[float, float, int | None]:
        """Return, discount and next moment (None where the discount is 0) from step t."""
        stop = min(t + n, len(self.actions))
        total = sum(GAMMA ** (k - t) * self.rewards[k] for k in range(t, stop))
        if stop == len(self.actions) and self.end == TERMINATES:
            return total, 0.0, None
        return total, GAMMA ** (stop - t), self.moments[stop]


class Model:
    """N lists of episodes beside a replay, and the same steps for both."""

    def __init__(self, num_envs: int, rows: int, n_steps: int, prioritized: bool) -> None:
        self.num_envs, self.rows, self.n_steps, self.count = num_envs, rows, n_steps, 0
        first = self._numbers()
        self.columns = [[Episode(number)] for number in first]
        priorities = Priorities(num_envs * rows, 0.5) if prioritized else None
        self.replay = Replay(
            num_envs * (rows - 1), moment(*first), num_actions=300, gamma=GAMMA, n_steps=n_steps, priorities=priorities
        )
        assert self.replay.rows == rows

    def _numbers(self) -> list[int]:
        self.count += self.num_envs
        return list(range(self.count - self.num_envs, self.count))

    def restart(self) -> None:
        first = self._numbers()
        self.replay.restart(moment(*first))
        for episodes, number in zip(self.columns, first, strict=True):
            episodes[-1].end = IS_CUT
            episodes.append(Episode(number))

    def step(self, ends: str, dense: bool) -> None:
        final, fresh = self._numbers(), self._numbers()
        now = [f if e == GOES_ON else n for e, f, n in zip(ends, final, fresh, strict=True)]
        rewards, actions = [float(f % 7 - 2) for f in final], [f * 37 % 300 for f in final]
        add(self.replay, ends, final, now, rewards, actions, dense)
        for i, episodes in enumerate(self.columns):
            episodes[-1].moments.append(final[i])
            episodes[-1].actions.append(actions[i])
            episodes[-1].rewards.append(rewards[i])
            if ends[i] != GOES_ON:
                episodes[-1].end = ends[i]
                episodes.append(Episode(now[i]))

    def stored(self) -> dict[int, tuple[Episode, int]]:
        """Place → the transition (episode, step) that must be there: those of the latest T − 1 rows."""
        found = {}
        for column, episodes in enumerate(self.columns):
            begins = np.cumsum([0, *(episode.rows() for episode in episodes)])
            for begin, episode in zip(begins.tolist(), episodes, strict=False):
                for t in range(len(episode.actions)):
                    if begin + t >= int(begins[-1]) - (self.rows - 1):
                        found[(begin + t) % self.rows * self.num_envs + column] = episode, t
        return found

    def compare(self) -> None:
        places = torch.arange(self.rows * self.num_envs)
        at, stored = self.replay.gather(places), self.stored()
        assert at.weights.tolist() == [float(place in stored) for place in places.tolist()]
        assert not at.discounts[at.weights == 0].any()  # whatever is there, it is not looked at
        if self.replay.priorities is not None:
            assert torch.equal(self.replay.priorities.values > 0, at.weights > 0)
        for place, (episode, t) in stored.items():
            total, discount, next_moment = episode.n_step(t, self.n_steps)
            assert int(at.content["number"][place]) == episode.moments[t]
            assert at.content["pair"][place].tolist() == [episode.moments[t], -episode.moments[t]]
            assert int(at.actions[place]) == episode.actions[t]
            assert float(at.returns[place]) == total  # halves: exact
            assert float(at.discounts[place]) == discount
            if next_moment is not None:
                assert int(at.next_content["number"][place]) == next_moment
                assert float(at.next_content["pair"][place, 1]) == -next_moment


@given(st.data())
@settings(max_examples=100)
def test_every_place_holds_what_the_model_says(data: st.DataObject) -> None:
    num_envs, n_steps = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 5))
    rows = data.draw(st.integers(n_steps + 1, 9))
    model = Model(num_envs, rows, n_steps, prioritized=data.draw(st.booleans()))
    steps = st.lists(st.sampled_from("----TC"), min_size=num_envs, max_size=num_envs).map("".join)
    length = data.draw(st.integers(1, 4 * rows))
    event_lists = st.lists(st.one_of(*[steps] * 12, st.just("restart")), min_size=length, max_size=length)
    for event in data.draw(event_lists):
        if event == "restart":
            model.restart()
        else:
            model.step(event, dense=data.draw(st.booleans()))
        model.compare()


@pytest.mark.parametrize("letter", [GOES_ON, TERMINATES, IS_CUT])
def test_the_model_agrees_over_many_rounds_of_the_ring(letter: str) -> None:
    model = Model(3, 7, 3, prioritized=True)
    for t in range(60):
        model.step("".join(letter if (t + i) % 4 == 0 else GOES_ON for i in range(3)), dense=t % 2 == 0)
        model.compare()


# ---------------------------------------------------------------------------------------------------- uniform draws


def drawn_once_each(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> Transitions:
    """What sampling gives if every number that it may draw comes up once."""
    highest: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randint", lambda high, size, device: (highest.append(high), torch.zeros(size).long())[1])
        replay.sample(1)
        patch.setattr(torch, "randint", lambda high, size, device: torch.arange(high))
        return replay.sample(highest[0])


@pytest.mark.parametrize("steps", [1, 2, 5, 6, 7, 11, 12, 13, 40])
def test_every_stored_transition_is_drawn_equally_often(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cuts: T − 1 = 6 rows of three environments, before and after the wrap."""
    model = Model(3, 7, 2, prioritized=False)
    for t in range(steps):
        model.step("".join(TERMINATES if (t + i) % 5 == 4 else GOES_ON for i in range(3)), dense=False)
    found = drawn_once_each(model.replay, monkeypatch)
    assert sorted(found.indices.tolist()) == sorted(model.stored())
    assert len(found.indices) == 3 * min(steps, 6)
    assert found.weights.tolist() == [1.0] * len(found.indices)


def test_cut_episodes_leave_draws_without_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment 0 is cut after every second step: a third of its rows hold no transition."""
    model = Model(2, 7, 2, prioritized=False)
    for t in range(30):
        model.step((IS_CUT if t % 2 else GOES_ON) + GOES_ON, dense=False)
    found = drawn_once_each(model.replay, monkeypatch)
    assert sorted(found.indices[found.weights > 0].tolist()) == sorted(model.stored())
    assert found.weights.unique().tolist() == [0.0, 1.0]
    for column, empty in ((0, 2), (1, 0)):
        in_column = found.indices % 2 == column
        assert len(found.indices[in_column].unique()) == 6
        assert int((found.weights[in_column] == 0).sum()) == empty
    assert (model.replay.kinds[found.indices[found.weights == 0]] == NOTHING).all()


def test_draws_are_uniform() -> None:
    """χ² of 24,000 draws over 18 places: mean 17, deviation √34; each place 1,333 times on average."""
    model = Model(3, 7, 2, prioritized=False)
    for _ in range(10):
        model.step(GOES_ON * 3, dense=False)
    torch.manual_seed(0)
    counts = model.replay.sample(24_000).indices.bincount(minlength=21).double()
    counts = counts[counts > 0]
    assert len(counts) == 18
    assert float(((counts - 24_000 / 18).square() / (24_000 / 18)).sum()) < 17 + 4 * 34**0.5


# ---------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(("buffer_size", "num_envs", "rows"), [(10, 1, 11), (10, 3, 5), (9, 3, 4), (1, 4, 2)])
def test_each_environment_keeps_its_part_rounded_up(buffer_size: int, num_envs: int, rows: int) -> None:
    assert Replay.rows_for(buffer_size, num_envs) == rows


@pytest.mark.parametrize(
    ("count", "dtype"),
    [(2, torch.uint8), (256, torch.uint8), (257, torch.int16), (32_768, torch.int16), (32_769, torch.int64)],
)
def test_actions_are_stored_in_the_smallest_type_that_holds_them(count: int, dtype: torch.dtype) -> None:
    replay = Replay(4, moment(0, 1), num_actions=count, gamma=GAMMA)
    add(replay, "--", [2, 3], [2, 3], [0, 0], [count - 1, 0], dense=False)
    assert replay.actions.dtype == dtype
    found = replay.gather(torch.arange(2))
    assert found.actions.tolist() == [count - 1, 0]
    assert found.actions.dtype == torch.int64
