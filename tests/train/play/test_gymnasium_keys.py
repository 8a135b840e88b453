"""Keys of Gymnasium's games: what a key does to the simulator is what its legend says."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pygame
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from palaestra.train.play import gymnasium_keys as module
from palaestra.train.play.gymnasium_keys import NO_KEY, KeyMap, gymnasium_keys
from palaestra.train.recording.playback import WatchError

ARROWS = {"left": pygame.K_LEFT, "right": pygame.K_RIGHT, "up": pygame.K_UP, "down": pygame.K_DOWN}


def keys_of(env: gymnasium.Env[Any, Any]) -> KeyMap:
    keys = gymnasium_keys(env.unwrapped, env.action_space, "it")
    assert keys is not None
    return keys


def action(env: gymnasium.Env[Any, Any], *names: str) -> Any:
    return keys_of(env).actions[frozenset(ARROWS[name] for name in names)]


@pytest.mark.parametrize(
    ("name", "which"), [("CartPole-v1", 1), ("MountainCar-v0", 1), ("MountainCarContinuous-v0", 1)]
)
def test_arrows_push_to_their_side(name: str, which: int) -> None:
    """The second number of the observation is the velocity to the right."""
    for key, sign in (("left", -1), ("right", 1)):
        env = gymnasium.make(name)
        before = env.reset(seed=0)[0][which]
        after = env.step(action(env, key))[0][which]
        assert np.sign(after - before) == sign


def test_the_pendulum_turns_to_the_side_of_the_arrow() -> None:
    """The angle grows counter-clockwise, so to the left of an upright rod."""
    for key, sign in (("left", 1), ("right", -1)):
        env = gymnasium.make("Pendulum-v1")
        env.reset(seed=0)
        env.unwrapped.state = np.zeros(2)  # type: ignore[attr-defined]
        assert np.sign(env.step(action(env, key))[0][1]) == sign
    assert keys_of(env).actions[NO_KEY] == 0


def test_acrobots_lower_link_swings_to_the_side_of_the_arrow() -> None:
    """Hanging, a growing angle of the joint moves the tip to the right."""
    for key, sign in (("left", -1), ("right", 1)):
        env = gymnasium.make("Acrobot-v1")
        env.reset(seed=0)
        env.unwrapped.state = np.zeros(4)  # type: ignore[attr-defined]
        obs = env.step(action(env, key))[0]
        assert np.sign(obs[3]) == sign


def test_frozen_lake_walks_where_the_arrow_points() -> None:
    cells = {"right": 1, "down": 4, "left": 0, "up": 0}  # from the upper left corner of 4 × 4
    for key, cell in cells.items():
        env = gymnasium.make("FrozenLake-v1", is_slippery=False)
        env.reset(seed=0)
        assert env.step(action(env, key))[0] == cell
    assert keys_of(env).turn_based


def test_cliff_walking_walks_where_the_arrow_points() -> None:
    cells = {"up": 24, "left": 36, "down": 36}  # from the lower left corner of 4 × 12
    for key, cell in cells.items():
        env = gymnasium.make("CliffWalking-v1")
        env.reset(seed=0)
        assert env.step(action(env, key))[0] == cell


def test_the_taxi_drives_where_the_arrow_points_and_has_keys_for_the_passenger() -> None:
    env = gymnasium.make("Taxi-v4")
    for key, move in (("down", (1, 0)), ("up", (-1, 0)), ("right", (0, 1)), ("left", (0, -1))):
        env.reset(seed=0)
        start = env.unwrapped.encode(2, 2, 0, 1)  # type: ignore[attr-defined]
        env.unwrapped.s = start  # type: ignore[attr-defined]
        row, column, *_ = env.unwrapped.decode(int(env.step(action(env, key))[0]))  # type: ignore[attr-defined]
        assert (row - 2, column - 2) == move
    env.unwrapped.s = env.unwrapped.encode(0, 0, 0, 1)  # type: ignore[attr-defined]  # where the passenger waits
    keys = keys_of(env)
    picked = env.step(keys.actions[frozenset((pygame.K_p,))])[0]
    assert list(env.unwrapped.decode(int(picked)))[2] == 4  # type: ignore[attr-defined]
    env.unwrapped.s = env.unwrapped.encode(2, 2, 4, 1)  # type: ignore[attr-defined]  # nobody may be dropped here
    assert env.step(keys.actions[frozenset((pygame.K_d,))])[1] == -10


@pytest.mark.parametrize("continuous", [False, True])
def test_the_lander_turns_to_the_side_of_the_arrow_and_rises(continuous: bool) -> None:
    pytest.importorskip("Box2D")
    last = {}
    for key in ("left", "right", "up"):
        env = gymnasium.make("LunarLander-v3", continuous=continuous)
        env.reset(seed=1)
        for _ in range(20):
            last[key] = env.step(action(env, key))[0]
    assert last["left"][4] > 0.1 > -0.1 > last["right"][4]  # the angle grows counter-clockwise
    assert last["up"][3] > last["left"][3]
    if continuous:
        assert action(env, "left", "up").tolist() == [1.0, -1.0]


@pytest.mark.parametrize("continuous", [False, True])
def test_the_car_steers_accelerates_and_brakes(continuous: bool) -> None:
    pytest.importorskip("Box2D")
    env = gymnasium.make("CarRacing-v3", continuous=continuous)
    env.reset(seed=1)
    wheels = env.unwrapped.car.wheels  # type: ignore[attr-defined]
    env.step(action(env, "left"))
    assert wheels[0].steer > 0
    env.step(action(env, "right"))
    assert wheels[0].steer < 0
    env.step(action(env, "up"))
    assert wheels[2].gas > 0
    env.step(action(env, "down"))
    assert wheels[2].brake > 0


@pytest.mark.parametrize("table", [module._DISCRETE, module._CONTINUOUS])
def test_every_map_names_what_each_of_its_keys_does(table: dict[str, Any]) -> None:
    for keys in table.values():
        assert all(said for name, (_, said) in keys.items() if "+" not in name)
        assert {part for name in keys for part in name.split("+")} <= {"", *ARROWS, *"pdsh"}


class Own(gymnasium.Env[Any, Any]):
    """An environment with keys of its own."""

    observation_space = Box(0.0, 1.0, (1,))

    def __init__(self, keys: Any, space: Any = None) -> None:
        self.action_space, self._keys = Discrete(3) if space is None else space, keys

    def get_keys_to_action(self) -> Any:
        if isinstance(self._keys, Exception):
            raise self._keys
        return self._keys

    def get_action_meanings(self) -> list[str]:
        return ["NOOP", "FIRE", "JUMP"]


def test_an_environments_own_keys_are_read_as_gymnasium_reads_them() -> None:
    """No key is action 0, unless the map says otherwise."""
    a, b, left = pygame.K_a, pygame.K_b, pygame.K_LEFT
    keys = keys_of(Own({"a": 1, ("a", "b"): 2, (276,): np.int64(1)}))
    assert keys.actions == {frozenset((a,)): 1, frozenset((a, b)): 2, frozenset((left,)): 1, NO_KEY: 0}
    assert keys.meanings[frozenset((a,))] == "fire"
    assert keys_of(Own({(): 2, "a": 1})).actions[NO_KEY] == 2
    steering = keys_of(Own({"a": np.array([-1.0])}, Box(-1.0, 1.0, (1,))))
    assert steering.actions[frozenset((a,))].dtype == np.float32
    assert NO_KEY not in steering.actions


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (ValueError("continuous"), "get_keys_to_action raises ValueError: continuous"),
        ({"a": 7}, "gives 7, no action"),
        ({"a": "jump"}, "get_keys_to_action raises"),
        ({3.5: 1}, "get_keys_to_action raises"),
        ("wasd", "get_keys_to_action raises"),
    ],
)
def test_keys_that_make_no_sense_are_one_line(keys: Any, message: str) -> None:
    with pytest.raises(WatchError, match="it cannot be played with keys") as raised:
        gymnasium_keys(Own(keys), Discrete(3), "it")
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_keys_hold_only_for_the_environments_own_actions() -> None:
    env = gymnasium.make("Pendulum-v1").unwrapped
    assert gymnasium_keys(env, Discrete(3), "it") is None  # discretised
    assert gymnasium_keys(Own({"a": 1}), Discrete(4), "it") is None
    assert gymnasium_keys(Own({}, MultiDiscrete([2, 2])), MultiDiscrete([2, 2]), "it") is None
