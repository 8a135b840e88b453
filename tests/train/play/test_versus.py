"""``palaestra play GAME --versus``: who plays the other side, and that a person can play a whole game."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import pygame
import pytest
import torch
from command_line import command

from palaestra.agents import PPO
from palaestra.envs import make, resolve
from palaestra.envs.core.rng import Rng
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.wrappers.two_players.both_sides import random_openings
from palaestra.envs.wrappers.two_players.opponents import opponents_named
from palaestra.train.play import game


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the game was asked to play."""
    seen: dict[str, Any] = {}

    def play(name: str, env_kwargs: dict[str, Any], seed: int, rival: Any, given: Any) -> tuple[list[Any], None]:
        seen.update(name=name, env_kwargs=env_kwargs, rival=rival, given=[*given])
        return [], None

    monkeypatch.setattr(game, "play", play)
    return seen


@pytest.mark.parametrize(
    ("versus", "opponent"), [("two-ply", "two-ply"), ("expert", "perfect"), ("random+one-ply", "random+one-ply")]
)
def test_scripted_opponents(versus: str, opponent: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    small = "--set env.rows=4 --set env.columns=4"
    assert command(monkeypatch, f"play connect-four --versus {versus} {small}") == 0
    assert asked["env_kwargs"] == {"rows": 4, "columns": 4, "opponent": opponent, "threats": True}
    assert asked["rival"] is None, "nobody plays beside the person"
    assert "opponent" in asked["given"]


def test_an_agent_of_this_board_and_of_another(
    tmp_path: Path, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Any = PPO("MlpPolicy", make("connect-four", 4, device="cpu", rows=4, columns=4), n_steps=8, batch_size=32)
    model.save(tmp_path / "four.zip")
    monkeypatch.chdir(tmp_path)
    assert command(monkeypatch, "play connect-four --versus four.zip --set env.rows=4 --set env.columns=4") == 0
    assert Path(asked["env_kwargs"]["opponent"]) == tmp_path / "four.zip"
    assert command(monkeypatch, "play connect-four --versus four.zip") == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert (
        "four.zip: its agent was trained with observations Box(0.0, 1.0, (32,), float32), and this game has" in said[0]
    )
    assert command(monkeypatch, "play connect-four --versus gone.zip") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("search", ["", "@8"])
def test_an_opponent_sees_the_game_as_it_was_trained(search: str, tmp_path: Path) -> None:
    """Its moves in a game that shows less are those in its own, and another board has no such view."""
    file, positions = tmp_path / "four.zip", 64
    settings: dict[str, Any] = {"rows": 4, "columns": 4, "observation": "grid", "threats": True}
    env = make("connect-four", 4, device="cpu", **settings)
    model: Any = PPO("MlpPolicy", env, n_steps=8, batch_size=32, learning_rate=0.1)
    model.learn(64)
    model.save(file)
    own, plain, keys = ConnectFour(**settings), ConnectFour(4, 4), torch.arange(positions)
    state = random_openings(plain, positions)
    moves = [opponents_named(game, f"{file}{search}")[0](game, state, Rng(keys, 1)) for game in (own, plain)]
    assert torch.equal(*moves)
    assert len(moves[0].unique()) > 1
    assert ConnectFour(5, 4).seen_as(own.observation_space) is None
    with pytest.raises(ValueError, match="its agent was trained with observations"):
        opponents_named(ConnectFour(5, 4), f"{file}{search}")


class Typist:
    """A screen that presses the key of one column after the other."""

    def __init__(self, title: str, fps: float) -> None:
        self.taps: deque[int] = deque()
        self.held: set[int] = set()
        self.frames = 0

    def show(self, frame: Any) -> bool:
        self.frames += 1
        self.taps.extend([pygame.K_1 + self.frames % 7])
        return self.frames < 60

    def close(self) -> None:
        """Nothing is open."""


def test_a_person_plays_whole_games(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    played, reference = game.play("connect-four", {}, 2**32, open_console=Typist)
    assert played
    assert {one.score for one in played if one.finished} <= {-1.0, 0.0, 1.0}
    two_ply = resolve("connect-four").reference({"opponent": "two-ply"})
    assert reference == two_ply, "a person meets two-ply lookahead unless they ask for another"
