"""Two networks in two threads: the numbers of one thread, errors of either, and when it is done."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from palaestra.agents import PPO, SharedMlp
from palaestra.agents.distributed import side_by_side as module
from palaestra.agents.distributed.side_by_side import in_halves, side_by_side
from palaestra.envs import make

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_each_has_a_thread_and_one_thread_for_its_operations() -> None:
    def seen() -> tuple[int, int]:
        return threading.get_ident(), torch.get_num_threads()

    with in_halves(True, CPU) as halves:
        assert halves
        (own, here), (other, there) = side_by_side(seen, seen)
    assert own == threading.get_ident() != other
    assert here == there == 1
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("place", [0, 1])
def test_an_error_of_either_comes_out_after_both_have_ended(place: int) -> None:
    ended = threading.Event()

    def fails() -> None:
        raise ValueError("this one")

    parts: list[Any] = [ended.set, ended.set]
    parts[place] = fails
    with pytest.raises(ValueError, match="this one"):
        side_by_side(*parts)
    assert ended.is_set()
    assert side_by_side(lambda: 1, lambda: 2) == (1, 2)


def test_only_on_a_cpu_with_two_threads_that_nobody_observes() -> None:
    for wanted, device in ((False, CPU), (True, torch.device("meta"))):
        with in_halves(wanted, device) as halves:
            assert not halves
            assert torch.get_num_threads() == 2
    with FlopCounterMode(display=False), in_halves(True, CPU) as halves:
        assert not halves
    torch.set_num_threads(1)
    with in_halves(True, CPU) as halves:
        assert not halves


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_a_thread_of_its_own() -> None:
    side_by_side(int, int)
    if (child := os.fork()) == 0:
        os._exit(side_by_side(lambda: 3, lambda: 4) != (3, 4))
    assert os.waitpid(child, 0)[1] == 0


def update(threads: int, monkeypatch: pytest.MonkeyPatch, **kwargs: Any) -> tuple[list[Tensor], int]:
    """The weights after an update from one and the same rollout; how often two functions ran side by side."""
    calls: list[int] = []
    real = side_by_side
    monkeypatch.setattr(
        "palaestra.agents.networks.manual_mlp.side_by_side", lambda *parts: (calls.append(1), real(*parts))[1]
    )
    torch.set_num_threads(1)
    settings = {"n_steps": 16, "batch_size": 1024, "n_epochs": 2, "seed": 0, **kwargs}
    model = PPO("MlpPolicy", make("reach", 128, "cpu"), **settings)
    model.learn(2048)
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    calls.clear()
    model.train()
    return [p.detach().clone() for p in model.policy.parameters()], len(calls)


@pytest.mark.parametrize("kwargs", [{}, {"clip_range_vf": 0.1, "ent_coef": 0.01}, {"batch_size": 1000}])
def test_an_update_has_the_bits_of_one_thread(kwargs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    (alone, none), (both, calls) = (update(threads, monkeypatch, **kwargs) for threads in (1, 2))
    assert none == 0
    assert calls == (6 if "batch_size" in kwargs else 4)
    assert all(torch.equal(a, b) for a, b in zip(alone, both, strict=True))


@pytest.mark.parametrize(
    "network",
    [
        {"net_arch": [16]},
        {"net_arch": {"pi": [64, 64], "vf": [256, 256]}},
        {"net_arch": [64], "activation_fn": torch.nn.ELU},
    ],
)
def test_small_unlike_and_unknown_networks_take_turns(network: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert update(2, monkeypatch, policy_kwargs=network)[1] == 0


def test_a_trunk_gets_the_sum_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small trunk below two large branches."""
    network = {
        "features_extractor_class": SharedMlp,
        "features_extractor_kwargs": {"hidden": [32]},
        "net_arch": [128, 128],
    }
    (alone, none), (both, calls) = (update(threads, monkeypatch, policy_kwargs=network) for threads in (1, 2))
    assert (none, calls) == (0, 4)
    assert all(torch.equal(a, b) for a, b in zip(alone, both, strict=True))
    assert module._second_thread.cache_info().currsize == 1
