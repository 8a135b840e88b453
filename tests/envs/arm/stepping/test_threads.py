"""Threads of the arm's steps: one where that is enough, and as many as before afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from arm_play import Play
from torch import Tensor

from palaestra.envs.arm.reach import Reach
from palaestra.envs.arm.reach_torque import ReachTorque
from palaestra.envs.arm.stepping import threads


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Rules:
    """Tells how many threads it was asked with."""

    @threads.with_enough_threads
    def step(self, state: Any, fails: bool = False) -> int:
        if fails:
            raise ZeroDivisionError
        return torch.get_num_threads()


def state(n: int, device: str = "cpu") -> SimpleNamespace:
    return SimpleNamespace(q=torch.empty(n, 7, device=device))


@pytest.mark.usefixtures("three_threads")
def test_few_arms_get_one_thread_and_many_get_them_all() -> None:
    assert [Rules().step(state(n)) for n in (1, threads.LARGE, threads.LARGE + 1)] == [1, 1, 3]
    assert Rules().step(state(1, "meta")) == 3
    torch.set_num_threads(2)
    assert Rules().step(state(threads.LARGE + 1)) == 1
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
