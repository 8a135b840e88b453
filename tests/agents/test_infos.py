"""``infos`` in the locals of callbacks: what environments say, and at no cost where no callback looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

from palaestra.agents import DQN, PPO, PQN
from palaestra.envs import EnvError, make
from palaestra.envs.interop import gymnasium_adapter
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.interop.sync_loop import SyncLoop


class Lap(gymnasium.Env[Any, Any]):
    """Episodes of three steps that pay 1, 2, 3; ``info`` is one dict that is changed in place, even by ``reset``.

    SB3's own VecEnv would show what ``reset`` made of it, so that gets a dict ``anew``.
    """

    observation_space, action_space = spaces.Discrete(4, start=10), spaces.Discrete(2)

    def __init__(self, silent: bool = False, anew: bool = False) -> None:
        self.silent, self.anew = silent, anew
        self.info: dict[str, Any] = {"taken": 0, "place": np.zeros(2), "parts": {"sum": 0}}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._is_at(0)
        return np.int64(10), dict(self.info) if self.anew else self.info

    def _is_at(self, taken: int) -> None:
        self.info["taken"] = taken
        self.info["place"][:] = taken
        if self.silent:
            self.info["here"] = lambda: taken  # no pickle holds it

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._is_at(self.info["taken"] + 1)
        taken = self.info["taken"]
        return np.int64(10 + taken), float(taken), taken == 3, False, dict(self.info) if self.anew else self.info


class Keeps(BaseCallback):
    """Keeps the infos of every step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[dict[str, Any]]] = []
        self.dones: list[Any] = []
        self.held: list[Any] = []

    def _on_step(self) -> bool:
        self.seen.append(list(self.locals["infos"]))
        self.dones.append(np.array(self.locals["dones"]))
        return True


class Holds(Keeps):
    """Keeps them without a look."""

    def _on_step(self) -> bool:
        self.held.append(self.locals["infos"])
        return True


@pytest.fixture(autouse=True)
def _lap() -> Iterator[None]:
    gymnasium.register("Lap-v0", entry_point=Lap)
    yield
    del gymnasium.registry["Lap-v0"]


def agent(kind: type[Any], env: Any) -> Any:
    sizes = {"n_steps": 8, "batch_size": 16} if kind is not DQN else {"learning_starts": 8, "buffer_size": 100}
    return kind("MlpPolicy", env, seed=0, device="cpu", **sizes)


def laps(count: int, **kwargs: Any) -> GymnasiumAdapter:
    batch = make("Lap-v0", count, "cpu", seed=0, **kwargs)
    assert isinstance(batch, GymnasiumAdapter)
    return batch


MAKERS: dict[str, Callable[[], Any]] = {
    "one process": lambda: laps(2, vectorization_mode="sync"),
    "processes": lambda: laps(2, vectorization_mode="async"),
    "a VecEnv": lambda: DummyVecEnv([lambda: Monitor(Lap(anew=True))] * 2),
}


@pytest.mark.parametrize("kind", [PPO, DQN, PQN])
@pytest.mark.parametrize("name", MAKERS)
def test_a_callback_sees_what_environments_say(name: str, kind: type[Any]) -> None:
    env, callback = MAKERS[name](), Keeps()
    agent(kind, env).learn(32, callback=callback)
    env.close()
    assert len(callback.seen) == 16
    for step, (infos, done) in enumerate(zip(callback.seen, callback.dones, strict=True)):
        assert len(infos) == 2
        for info, over in zip(infos, done, strict=True):
            taken = step % 3 + 1
            assert info["taken"] == taken
            assert over == (taken == 3) == ("episode" in info) == ("terminal_observation" in info)
            if taken == 3:
                assert (info["episode"]["r"], info["episode"]["l"]) == (6.0, 3)
                assert info["terminal_observation"] == 13
                assert info["TimeLimit.truncated"] is False
            assert name == "a VecEnv" or info["place"].tolist() == [taken] * 2


def test_environments_of_our_own_tell_the_episodes_that_ended() -> None:
    callback = Keeps()
    agent(PPO, make("cartpole", 4, "cpu", seed=0)).learn(256, callback=callback)
    ended = [(i, info) for infos in callback.seen for i, info in enumerate(infos) if info]
    assert len(ended) == sum(int(done.sum()) for done in callback.dones) > 4
    lengths = [0] * 4
    for infos in callback.seen:
        for i, info in enumerate(infos):
            lengths[i] += 1
            if info:
                assert info["episode"]["r"] == info["episode"]["l"] == lengths[i]
                lengths[i] = 0


@pytest.mark.parametrize("name", ["one process", "processes"])
def test_nothing_is_asked_for_where_no_callback_looks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*args: Any) -> Any:
        raise AssertionError("nobody has looked")

    monkeypatch.setattr(SyncLoop, "infos", asked)
    monkeypatch.setattr("palaestra.envs.interop.process_loop.ProcessLoop.infos", asked)
    env, callback = MAKERS[name](), Holds()
    agent(PPO, env).learn(32, callback=callback)
    env.close()
    with pytest.raises(RuntimeError, match=r"keep list\(infos\)"):
        list(callback.held[0])


def test_infos_of_a_lasting_kind_can_be_looked_at_later() -> None:
    callback = Holds()
    agent(PPO, make("cartpole", 4, "cpu", seed=0)).learn(256, callback=callback)
    assert sum(len(info) > 0 for infos in callback.held for info in infos) > 4


def test_what_no_pipe_carries_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gymnasium_adapter, "_shares", lambda *_: [1])
    monkeypatch.setattr(gymnasium_adapter, "available_cores", lambda: 2)
    env = laps(2, silent=True)
    model = agent(PPO, env)
    with pytest.raises(EnvError, match=r"infos cannot go .* set vectorization_mode=sync") as caught:
        model.learn(16, callback=Keeps())
    assert "\n" not in str(caught.value)
    env.close()
    env = laps(2, silent=True, vectorization_mode="sync")
    callback = Keeps()
    agent(PPO, env).learn(16, callback=callback)
    assert callback.seen[1][0]["here"]() == 2
    env.close()
