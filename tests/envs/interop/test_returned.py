"""Gymnasium environments that return something of another form: one line says what, or the value is taken."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, Text

from palaestra.envs import EnvError
from palaestra.envs.interop.gymnasium_adapter import GymnasiumAdapter
from palaestra.envs.wrappers import WrapperError

RESET: Any = (np.zeros(2, np.int64), {})
STEP: Any = (np.ones(2, np.int64), 1.0, False, False, {})


class Returning(gymnasium.Env[Any, Any]):
    """Two whole numbers; returns what it was made with."""

    observation_space, action_space = Box(0, 9, (2,), np.int64), Discrete(2)

    def __init__(self, at_reset: Any = RESET, at_step: Any = STEP) -> None:
        self.at_reset, self.at_step = at_reset, at_step

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        return self.at_reset

    def step(self, action: Any) -> Any:
        return self.at_step


class Bilingual(Returning):
    observation_space = Dict({"numbers": Box(0, 9, (2,), np.int64), "mission": Text(9)})  # type: ignore[assignment]

    def reset(self, **kwargs: Any) -> Any:
        return {"numbers": np.arange(2), "mission": "go"}, {}


class Refusing(Returning):
    def close(self) -> None:
        raise RuntimeError("no")


def adapted(kind: type[Any] = Returning, mode: str = "sync", **kwargs: Any) -> GymnasiumAdapter:
    spec = gymnasium.envs.registration.EnvSpec("Returning-v0", entry_point=kind, max_episode_steps=9)
    return GymnasiumAdapter(spec, 2, device="cpu", vectorization_mode=mode, **kwargs)


def with_step(**changes: Any) -> Any:
    names = ("obs", "reward", "terminated", "truncated", "info")
    return tuple(changes.get(name, value) for name, value in zip(names, STEP, strict=True))


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "four values": ({"at_step": STEP[:4]}, r"step must return \(observation, reward, terminated, truncated, info\)"),
    "no info": ({"at_reset": np.zeros((3, 2))}, r"reset must return \(observation, info\), too many values to unpack"),
    "two numbers, no info": (
        {"at_reset": np.zeros(2, np.int64)},
        r"reset: observation must have shape \(2,\), got \(\)",
    ),
    "None": ({"at_step": with_step(obs=None)}, r"step: observation must be numbers of shape \(2,\), got None"),
    "shape": ({"at_step": with_step(obs=np.zeros(3))}, r"step: observation must have shape \(2,\), got \(3,\)"),
    "fraction": ({"at_step": with_step(obs=np.array([1.0, 0.5]))}, "observation must be int64, got 0.5 in an array of"),
    "reward": ({"at_step": with_step(reward=np.ones(2))}, r"reward must be a number, got an array of shape \(2,\)"),
    "no reward": ({"at_step": with_step(reward=None)}, "step: reward must be a number, got None"),
    "flag": ({"at_step": with_step(truncated="no")}, "truncated must be a truth value or a number, got 'no'"),
    "info": ({"at_step": with_step(info=None)}, "step: info must be a dict, got None"),
}


@pytest.mark.parametrize(("kwargs", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_one_line(kwargs: dict[str, Any], message: str) -> None:
    env = adapted(**kwargs)
    if "at_step" in kwargs:
        env.reset(seed=0)
    with pytest.raises(EnvError, match=message) as caught:
        env.reset(seed=0) if "at_reset" in kwargs else env.step(torch.zeros(2, dtype=torch.int64))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("Returning: ")
    assert "environment 0" in str(caught.value)


def test_processes_say_the_same() -> None:
    env = adapted(mode="async", at_step=with_step(obs=np.zeros(3)))
    env.reset(seed=0)
    with pytest.raises(EnvError, match=r"observation must have shape \(2,\), got \(3,\).* environment [01]"):
        env.step(torch.zeros(2, dtype=torch.int64))
    env.close()


SAME = {
    "list": with_step(obs=[1, 1]),
    "whole floats": with_step(obs=np.ones(2)),
    "tensors": with_step(obs=torch.ones(2, requires_grad=True), reward=torch.tensor(1.0, requires_grad=True)),
    "one element": with_step(reward=np.ones(1), terminated=np.zeros(1, dtype=bool)),
    "integers": with_step(reward=1, truncated=0),
}


@pytest.mark.parametrize("at_step", SAME.values(), ids=SAME)
def test_what_is_the_same_in_another_form_is_taken(at_step: Any) -> None:
    env = adapted(at_step=at_step)
    env.reset(seed=0)
    obs, reward, terminated, truncated, _ = env.step(torch.zeros(2, dtype=torch.int64))
    assert (obs.tolist(), reward.tolist()) == ([[1, 1]] * 2, [1.0, 1.0])
    assert not (terminated | truncated).any()


def test_a_close_that_raises_ends_nothing() -> None:
    env = adapted(Refusing)
    env.reset(seed=0)
    with pytest.warns(UserWarning, match="Refusing: close raises RuntimeError: no"):
        env.close()


def test_texts_in_a_dict_are_left_out() -> None:
    with pytest.warns(UserWarning, match="observation mission is left out: agents read no texts"):
        env = adapted(Bilingual)
    assert {key: part.tolist() for key, part in env.reset(seed=0)[0].items()} == {"numbers": [[0, 1], [0, 1]]}


def test_wrappers_by_name() -> None:
    chosen = {"gymnasium.wrappers:RescaleObservation": {"min_obs": 0, "max_obs": 1}}
    env = adapted(wrappers=[{"gymnasium.wrappers:DtypeObservation": {"dtype": "float32"}}, chosen], frame_stack=2)
    env.reset(seed=0)
    assert env.step(torch.zeros(2, dtype=torch.int64))[0][0].tolist() == [[0.0, 0.0], pytest.approx([1 / 9] * 2)]


@pytest.mark.parametrize(
    ("wrappers", "message"),
    [
        ("gymnasium.wrappers:TimeLimit", "must be a list of module:Class"),
        (["TimeLimit"], "expected module:Class"),
        (["math:pi"], "wrappers: math:pi is not a gymnasium.Wrapper"),
        (["gymnasium.wrappers:FilterObservation"], "wrappers: gymnasium.wrappers:FilterObservation raises TypeError"),
    ],
)
def test_wrong_wrappers_are_named(wrappers: Any, message: str) -> None:
    with pytest.raises(WrapperError, match=message):
        adapted(wrappers=wrappers)
