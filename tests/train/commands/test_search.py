"""``--search N`` of evaluate, watch and play: results, and one line for everything that cannot search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import command

from palaestra.agents import DQN, PPO
from palaestra.envs import make
from palaestra.train.play import game

SMALL = "--env connect-four --set env.rows=4 --set env.columns=4"
CARTPOLE = Path(__file__).parents[2] / "data/runs-885ce09/ppo-cartpole"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an agent that knows nothing and one without a policy."""
    env = make("connect-four", 4, device="cpu", rows=4, columns=4, threats=True)  # as the preset of PPO has it
    model: Any = PPO("MlpPolicy", env, n_steps=8, batch_size=32, seed=0)
    for head in (model.policy.action_net, model.policy.value_net):  # which knows nothing
        torch.nn.init.zeros_(head.weight)
    model.save(tmp_path / "four.zip")
    plain = make("connect-four", 4, device="cpu", rows=4, columns=4)
    DQN("MlpPolicy", plain, buffer_size=100).save(tmp_path / "values.zip")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_search_plays_better_and_says_so(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = {}
    for search in ("", "--search 32"):
        line = f"evaluate four.zip {SMALL} --set env.opponent=random --episodes 200 --json {search}"
        assert command(monkeypatch, line) == 0
        scores[search] = json.loads(capsys.readouterr().out)
    assert scores["--search 32"]["mean"] > scores[""]["mean"] + 0.15
    assert scores["--search 32"]["run"].endswith("four.zip with 32 simulations")


def test_a_search_is_watched(models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(monkeypatch, f"watch four.zip {SMALL} --search 8 --record game.png") == 0
    assert (models / "game.png").is_file()


def test_a_person_plays_against_a_search(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def play(name: str, env_kwargs: dict[str, Any], *others: Any) -> tuple[list[Any], None]:
        asked.update(env_kwargs)
        return [], None

    monkeypatch.setattr(game, "play", play)
    small = "--set env.rows=4 --set env.columns=4"
    assert command(monkeypatch, f"play connect-four --versus four.zip --search 12 {small}") == 0
    assert asked["opponent"] == f"{models / 'four.zip'}@12"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"evaluate four.zip {SMALL} --search 0", "--search 0: must be at least 1"),
        (f"evaluate four.zip {SMALL} --search 1000000", "simulations must be 1 to 10,000, got 1,000,000"),
        (f"evaluate values.zip {SMALL} --search 8", "DQN has no policy with values, which a search needs: ppo has"),
        ("evaluate random --env connect-four --search 8", "a search needs the policy and the values of a run; random"),
        (f"evaluate {CARTPOLE} --search 8", "a search is for games for two, such as connect-four: CartPole is none"),
        (f"watch four.zip {SMALL} --set env.sticky_actions=0.1 --search 8", "leave env settings out that change"),
        ("play connect-four --search 8", "is of a run that plays against you in a game for two: --versus RUN"),
        ("play snake-small --versus expert --search 8", "is of a run that plays against you in a game for two"),
        ("play connect-four --versus two-ply --search 8", "the policy and the values of a run; two-ply has none"),
        ("play connect-four --versus values.zip --search 8", "DQN has no policy with values"),
        (f"evaluate four.zip {SMALL} --set env.opponent=four.zip@x", "four.zip@N searches with N simulations"),
        ("evaluate --search 8", "which run? Name one, latest, random or expert"),
    ],
)
def test_what_cannot_search_is_refused_in_a_line(
    line: str, said: str, models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, line) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (error,) = shown.err.splitlines()
    assert error.startswith("palaestra: error: ")
    assert said in error
