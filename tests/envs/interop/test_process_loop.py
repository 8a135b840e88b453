"""Environments divided among processes: the same episodes, wherever they run, and only where that is faster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from palaestra.envs import EnvError, make
from palaestra.envs.interop import gymnasium_adapter, process_loop
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.process_loop import ProcessLoop, time_divided
from palaestra.envs.interop.sync_loop import SyncLoop

N = 5


class Walk(gymnasium.Env[Any, Any]):
    """All that a batch has to hand on: a Dict, masks, successes, episodes of random lengths; faults on demand."""

    observation_space = spaces.Dict(
        {"place": spaces.Box(-9.0, 9.0, (2,)), "seen": spaces.Box(0, 255, (2, 3), np.uint8), "room": spaces.Discrete(7)}
    )
    action_space = spaces.Discrete(3)
    made = 0

    def __init__(self, seconds: float = 0.0, dies: int = -1, size: int = 3) -> None:
        self.seconds, self.dies = seconds, dies
        Walk.made += 1
        if dies == 99 and multiprocessing.current_process().name.startswith("environments-"):
            os._exit(3)
        if size != 3:
            self.action_space = spaces.Discrete(size + Walk.made % 2)

    def _seen(self) -> tuple[dict[str, Any], dict[str, Any]]:
        rng = self.np_random
        seen = {"place": self.place, "seen": rng.integers(0, 255, (2, 3), np.uint8), "room": int(rng.integers(7))}
        return seen, {"action_mask": np.arange(3) != int(rng.integers(3))}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.place = np.full(2, (options or {}).get("from", 0.0), np.float32)
        self.left = int(self.np_random.integers(1, 9))
        return self._seen()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(self.seconds)
        self.left -= 1
        if self.left == self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        self.place += np.float32(action)  # in place
        seen, info = self._seen()
        over = self.left == 0
        return seen, float(self.place[0]), over, False, info | ({"is_success": self.place[0] > 4.0} if over else {})


@pytest.fixture(autouse=True)
def _walk() -> Iterator[None]:
    gymnasium.register("Walk-v0", entry_point=Walk)
    yield
    del gymnasium.registry["Walk-v0"]
    assert not multiprocessing.active_children()


def adapter(num_envs: int, **kwargs: Any) -> GymnasiumAdapter:
    batch = make("Walk-v0", num_envs, "cpu", seed=4, **kwargs)
    assert isinstance(batch, GymnasiumAdapter)
    return batch


def divide(monkeypatch: pytest.MonkeyPatch, *others: int) -> None:
    monkeypatch.setattr(gymnasium_adapter, "_shares", lambda *_: list(others))
    monkeypatch.setattr(gymnasium_adapter, "available_cores", lambda: 1 + len(others))


def history(batch: GymnasiumAdapter) -> list[Any]:
    """All that 40 steps give, in NumPy."""
    rows: list[Any] = [batch.reset()[0], batch.action_masks()]
    for step in range(40):
        if step == 20:
            rows.append(batch.reset(options={"from": 1.5})[0])
        obs, *outcome, info = batch.step(torch.arange(N) * step % 3)
        rows += [obs, *outcome, info["final_obs"], info["episode"], info.get("is_success")]
        rows += [batch.action_masks(), batch.final_action_masks()]
    batch.close()
    return rows


@pytest.mark.parametrize("others", [(1,), (2, 2), (1, 1, 3), (1,) * N], ids=str)
def test_every_division_gives_the_same_episodes(others: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    here = history(adapter(N, vectorization_mode="sync"))
    divide(monkeypatch, *others)
    batch = adapter(N)
    assert isinstance(batch.loop, ProcessLoop)
    assert [len(batch.envs), len(batch.loop.processes)] == [N - sum(others), len(others)]
    there = history(batch)
    torch.testing.assert_close(there, here, rtol=0, atol=0)
    ended = [info for info in here if isinstance(info, torch.Tensor) and info.dtype == torch.bool]
    assert any(bool(flags.any()) for flags in ended)


def test_a_process_each() -> None:
    batch = adapter(N, vectorization_mode="async")
    assert [len(batch.envs), len(batch.loop.processes)] == [0, N]
    torch.testing.assert_close(history(batch), history(adapter(N, vectorization_mode="sync")), rtol=0, atol=0)


def test_processes_that_are_no_forks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows."""
    monkeypatch.setattr(process_loop, "_CONTEXT", multiprocessing.get_context("spawn"))
    rows = []
    for mode in ("async", "sync"):
        batch = make("CartPole-v1", 2, "cpu", seed=1, vectorization_mode=mode)
        rows.append([batch.reset()[0], *(batch.step(torch.tensor([1, 0]))[0] for _ in range(12))])
        batch.close()
    torch.testing.assert_close(*rows, rtol=0, atol=0)


@pytest.mark.parametrize("row", [1, 3, 4])
def test_the_death_of_a_process_names_the_environment_that_ran(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    divide(monkeypatch, 2, 2)
    batch = adapter(N, dies=0)
    batch.reset(seed=0)
    lengths = [int(np.random.default_rng(seed).integers(1, 9)) for seed in range(30)]
    # seeds that end the episode of one row in the second step, all others later
    seeds = [next(seed for seed in range(30) if lengths[seed] == (2 if i == row else 8)) for i in range(N)]
    batch.loop.reset(seeds)
    actions = torch.zeros(N, dtype=torch.int64)
    batch.step(actions)
    with pytest.raises(EnvError) as caught:
        batch.step(actions)
    assert str(caught.value) == f"the process of environment {row} was killed by SIGKILL in step 2"
    assert (caught.value.env_index, caught.value.step) == (row, 2)
    batch.close()


def test_the_death_of_a_process_that_makes_its_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    divide(monkeypatch, 2, 2)
    with pytest.raises(EnvError, match="the process of environment 1 ended with exit code 3 before its first episode"):
        adapter(N, dies=99)


@pytest.mark.parametrize("row", [0, 3])
def test_shifted_environments_are_named_so_everywhere(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    divide(monkeypatch, 2, 2)
    batch = adapter(N)
    batch.shift_indices(100)
    batch.reset(seed=0)
    actions = np.zeros(N, dtype=object)
    actions[row] = "left"
    with pytest.raises(EnvError, match=f"in environment {100 + row}, episode 0, step 1"):
        batch.loop.step(actions)
    batch.close()


def test_pictures_of_all() -> None:
    for mode in ("sync", "async"):
        batch = make("CartPole-v1", 2, "cpu", vectorization_mode=mode, render_mode="rgb_array")
        batch.reset()
        assert [picture.shape for picture in batch.render()] == [(400, 600, 3)] * 2  # type: ignore[attr-defined]
        batch.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_environments_of_different_spaces_are_refused(mode: str) -> None:
    Walk.made = 0
    with pytest.raises(EnvError, match=r"^environment [01]: action space Discrete\(\d\) is not that of the first"):
        adapter(2, vectorization_mode=mode, size=4)


def test_observations_that_cannot_be_shared() -> None:
    spec = gymnasium.envs.registration.EnvSpec("Talk-v0", entry_point=Talk)
    with pytest.raises(ValueError, match="vectorization_mode=async needs observations in arrays, not in Text"):
        GymnasiumAdapter(spec, 2, vectorization_mode="async")


class Talk(gymnasium.Env[Any, Any]):
    observation_space = spaces.Text(5)
    action_space = spaces.Discrete(2)


def test_processes_are_used_where_they_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    divided: list[tuple[float, int]] = []

    def kind(num_envs: int, cores: int = 2, share: float = 0.5, **kwargs: Any) -> list[int]:
        def time_divided(work: float, count: int) -> float:
            divided.append((work, count))
            return share * work

        monkeypatch.setattr(gymnasium_adapter, "time_divided", time_divided)
        monkeypatch.setattr(gymnasium_adapter, "LITTLE", 0.0035)  # a step of no work may be disturbed
        monkeypatch.setattr(gymnasium_adapter, "available_cores", lambda: cores)
        batch = adapter(num_envs, **kwargs)
        batch.close()
        return [len(batch.envs), len(batch.loop.processes)]

    assert kind(4, seconds=0.002) == [2, 1]
    assert divided[0][0] >= 0.008
    assert divided[0][1] == 2
    assert kind(5, cores=3, seconds=0.002) == [1, 2]
    assert kind(2, cores=8, seconds=0.002) == [1, 1]
    assert kind(4, share=0.9, seconds=0.002) == [4, 0]  # the cores are busy
    divided.clear()
    assert kind(2) == [2, 0]  # a step takes microseconds
    assert kind(1, seconds=0.002) == [1, 0]
    assert kind(4, cores=1, seconds=0.002) == [4, 0]
    assert kind(4, seconds=0.002, vectorization_mode="sync") == [4, 0]
    assert not divided
    with pytest.raises(ValueError, match="vectorization_mode must be auto, sync or async, got 'fast'"):
        adapter(2, vectorization_mode="fast")


def test_the_trial_of_dividing() -> None:
    for count in (1, 2, 3):
        assert 0.004 / count <= time_divided(0.004, count) < 1.0


def test_an_environment_that_fails_its_trial_stays_here() -> None:
    assert isinstance(adapter(2).loop, SyncLoop)
