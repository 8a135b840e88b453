"""Threads of the arm's steps: one where that is enough, and as many as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from arm_play import Play
from thread_number import threads
from torch import Tensor

from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.arm.stepping import integrator, thread_use


@pytest.fixture
def three_threads() -> Iterator[None]:
    with threads(3):
        yield


class Rules:
    """Tells how many threads it was asked with."""

    @thread_use.with_enough_threads
    def step(self, state: Any, fails: bool = False) -> int:
        if fails:
            raise ZeroDivisionError
        return torch.get_num_threads()


def state(n: int, device: str = "cpu") -> SimpleNamespace:
    return SimpleNamespace(q=torch.empty(n, 7, device=device))


@pytest.mark.usefixtures("three_threads")
def test_few_arms_get_one_thread_and_many_get_them_all() -> None:
    assert [Rules().step(state(n)) for n in (1, thread_use.LARGE, thread_use.LARGE + 1)] == [1, 1, 3]
    assert Rules().step(state(1, "meta")) == 3
    torch.set_num_threads(2)
    assert Rules().step(state(thread_use.LARGE + 1)) == 1
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("three_threads")
def test_threads_are_back_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        Rules().step(state(1), True)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("rules", [Reach, ReachTorque])
def test_an_arms_step_leaves_the_threads_and_has_the_same_bits_with_any(rules: Any) -> None:
    """With 5,000 arms, of whose operations some are divided between threads."""

    def steps(count: int) -> Tensor:
        torch.set_num_threads(count)
        play = Play(rules(), 5000)
        for step in range(3):
            play.step(torch.linspace(-1.0, 1.0, 5000 * 7).roll(step).view(5000, 7))
        assert torch.get_num_threads() == count
        return torch.cat((play.path("q"), play.path("dq"), play.path("tool")), -1)

    one = steps(1)
    assert torch.equal(steps(2), one)
    assert torch.equal(steps(3), one)


@pytest.mark.usefixtures("three_threads")
def test_blocks_of_threads_within_each_other() -> None:
    with thread_use.threads_within(1):
        assert (torch.get_num_threads(), thread_use.allowed_threads()) == (1, 3)
        with thread_use.threads_within(2):
            assert (torch.get_num_threads(), thread_use.allowed_threads()) == (2, 3)
        assert torch.get_num_threads() == 1
    assert (torch.get_num_threads(), thread_use.allowed_threads()) == (3, 3)


def test_the_faster_way_is_found_and_found_again_when_it_changes() -> None:
    """A way takes 1 s or 2 s; once in a while a call of the faster one is disturbed and takes 5 s."""
    way = thread_use.FasterWay()

    def went(calls: int, slow: int) -> list[int]:
        ways = []
        for call in range(calls):
            ways.append(way.choose())
            way.took(ways[-1], 5.0 if call % 7 == 3 else 2.0 if ways[-1] == slow else 1.0)
        return ways

    assert went(6, slow=1) == [0, 1, 0, 1, 0, 1]
    assert sum(went(640, slow=1)) == 10  # tried again now and then
    ways = went(640, slow=0)
    assert ways[-320:].count(0) == 5


def test_both_ways_have_the_same_bits_and_both_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = []

    class Counting(thread_use.FasterWay):
        def took(self, way: int, seconds: float) -> None:
            gone.append((way, torch.get_num_threads()))
            super().took(way, seconds)

    ways = Counting()
    monkeypatch.setattr(integrator, "faster_way", lambda *work: ways)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        play, action = Play(ReachTorque(), 2 * integrator.BLOCK + 100), torch.ones(2 * integrator.BLOCK + 100, 7)
        start = play.states[0]
        for _ in range(4):
            play.states.append(start)
            play.step(action)
        assert [way for way, _ in gone] == [0, 1, 0, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    first = play.states[2]
    assert all(torch.equal(play.states[2 * i].q, first.q) for i in range(2, 5))
