"""The PettingZoo view by PettingZoo's own test, and beside PettingZoo's Connect Four."""

from __future__ import annotations

import random

import numpy as np
import pytest

pytest.importorskip("pettingzoo")
from pettingzoo.test import api_test, seed_test

from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.pettingzoo import PettingZooGame


@pytest.mark.filterwarnings("ignore")
def test_its_own_test_passes() -> None:
    api_test(PettingZooGame("connect-four"), num_cycles=300)
    api_test(PettingZooGame(ConnectFour(4, 4, observation="grid")), num_cycles=100)
    seed_test(lambda: PettingZooGame("connect-four"), num_cycles=50)


def test_random_games_are_those_of_pettingzoo() -> None:
    """Boards, masks, rewards and ends of its ``connect_four_v3``, in which row 0 is above too."""
    pytest.importorskip("pygame")
    theirs_module = pytest.importorskip("pettingzoo.classic.connect_four.connect_four")
    ours, theirs = PettingZooGame("connect-four", observation="grid"), theirs_module.raw_env()
    chance = random.Random(0)
    for _ in range(30):
        ours.reset()
        theirs.reset()
        while not any(theirs.terminations.values()):
            agent = theirs.agent_selection
            assert ours.agent_selection == agent
            seen, expected = ours.observe(agent), theirs.observe(agent)
            assert np.array_equal(seen["observation"], np.moveaxis(expected["observation"], 2, 0))
            assert np.array_equal(seen["action_mask"], expected["action_mask"])
            column = chance.choice(np.flatnonzero(seen["action_mask"]).tolist())
            ours.step(column)
            theirs.step(column)
            assert ours.terminations == theirs.terminations
            assert ours.rewards["player_0"] == -ours.rewards["player_1"]
            if any(theirs.terminations.values()):
                assert ours.rewards == {name: float(value) for name, value in theirs.rewards.items()}


def test_an_illegal_move_loses_and_what_is_no_action_is_refused() -> None:
    env = PettingZooGame("connect-four")
    env.reset()
    for _ in range(6):
        env.step(0)
    with pytest.raises(ValueError, match="player_0: expected an action in Discrete"):
        env.step(7)
    env.step(0)
    assert env.rewards == {"player_0": -1.0, "player_1": 1.0}
    assert all(env.terminations.values())


def test_what_is_no_game_is_refused() -> None:
    with pytest.raises(ValueError, match="snake is no game for two players"):
        PettingZooGame("snake")
