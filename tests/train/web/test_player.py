"""The player in a browser: games to their end, keys, speed, and who plays."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from chromium import barriers, press, shown
from exported_runs import SMALL, TRAIN, command

from palaestra.envs.registry import resolve
from palaestra.envs.snake import Snake
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, run_episodes
from palaestra.train.players import find_player

ENVS = ("snake", "cartpole", "pricing", "reach")


def _status(page: Any) -> str:
    text: str = page.execute_script("return player.status.textContent")
    return text


def test_the_agent_plays_whole_games_of_snake_as_evaluate_does(pages: Path) -> None:
    """Twenty episodes in the page, at its own pace but fast, end with the length and return of evaluate's."""
    player = find_player(str(pages / "snake"), None, False, ())
    env = resolve(player.env).make(20, device="cpu", seed=EVALUATION_SEEDS, **player.env_kwargs)
    played = run_episodes(env, player.policy)
    with shown(pages / "snake-page.html") as page:
        found = page.execute_script("""
            const ends = [];
            for (let i = 0; i < 20; i++) {
              while (!player.agent.over) player._step(true);
              ends.push([player.agent.total, player.agent.steps]);
              player._next();
            }
            return ends;
        """)
        assert [pair[0] for pair in found] == played.returns.tolist()
        assert [pair[1] for pair in found] == played.lengths.tolist()
        page.execute_script("player.speedChoice.value = 10; player.speed = 10")
        press(page, " ")
        ended = time.monotonic() + 20
        while " — " not in (told := _status(page)) and time.monotonic() < ended:
            time.sleep(0.05)
        assert " — over" in told  # a moment later the next episode has begun


@pytest.mark.parametrize("env", ENVS)
def test_keys_play_step_and_begin_again_and_pictures_are_quick(env: str, pages: Path) -> None:
    """A step with its picture fits into a sixtieth of a second, by the page's own clock."""
    with shown(pages / f"{env}-page.html") as page:
        assert page.execute_script("return player.agent.steps") == 0
        press(page, ".")
        assert page.execute_script("return player.agent.steps") == 1
        press(page, "r")
        assert page.execute_script("return player.agent.steps") == 0
        press(page, "n")
        assert _status(page).startswith("Episode 1:")
        press(page, " ")
        time.sleep(0.6)
        assert page.execute_script("return player.running && (player.agent.steps > 0 || player.number !== 1)")
        press(page, " ")
        assert not page.execute_script("return player.running")
        milliseconds = page.execute_script("""
            const taken = [];
            for (let i = 0; i < 60; i++) {
              const from = performance.now();
              if (player._over()) player._next();
              player._step(true);
              player._show();
              taken.push(performance.now() - from);
            }
            return taken.sort((a, b) => a - b)[30];
        """)
        assert milliseconds < 1000 / 60


def test_a_person_steers_the_snake(pages: Path) -> None:
    with shown(pages / "snake-page.html") as page:
        page.execute_script("player.modeChoice.value = 'person'; player._setMode('person')")
        heading = page.execute_script("return player.agent.state.heading")
        wanted = (heading + 1) % 4
        page.execute_script(
            "player.tapped = arguments[0]; player._step(true)",
            ("ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft")[wanted],
        )
        assert page.execute_script("return player.agent.state.heading") == wanted
        back = ("ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft")[(wanted + 2) % 4]
        page.execute_script("if (!player.agent.over) { player.tapped = arguments[0]; player._step(true) }", back)
        assert page.execute_script("return player.agent.state.heading") == wanted  # no way back
        press(page, "ArrowUp")  # a key begins the game
        assert page.execute_script("return player.running || player.agent.over")


def test_a_person_asks_prices_beside_the_agent(pages: Path) -> None:
    with shown(pages / "pricing-page.html") as page:
        page.execute_script("player.modeChoice.value = 'both'; player._setMode('both')")
        press(page, " ")
        assert not page.execute_script("return player.running")  # it waits for the person
        press(page, "ArrowRight")
        press(page, "Enter")
        assert page.execute_script("return [player.agent.steps, player.person.steps]") == [1, 1]
        assert page.execute_script("return player.person.state.price") == 1
        assert page.execute_script("return [...document.querySelectorAll('.player figure')].every((f) => !f.hidden)")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("env", ENVS)
def test_nothing_bars_the_way(env: str, width: int, scheme: str, pages: Path) -> None:
    """axe-core finds nothing serious, and nothing is wider than the window."""
    with shown(pages / f"{env}-page.html", width, scheme) as page:
        page.execute_script("player.modeChoice.value = 'both'; player._setMode('both')")
        assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert barriers(page) == []


def test_the_pages_boards_are_those_of_the_preset(pages: Path) -> None:
    with shown(pages / "snake-page.html") as page:
        assert page.execute_script("return player.world.cells") == Snake(6).cells


def test_the_agent_plays_within_its_report(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same player in the report of a run, under the page's policy that lets nothing but its own script run."""
    report = pages / "with-player.html"
    assert command(monkeypatch, "report", str(pages / "reach"), "--out", str(report)) == 0
    assert report.stat().st_size < 3_000_000
    with shown(report) as page:
        press(page, ".")
        assert page.execute_script("return player.agent.steps") == 1
        assert page.execute_script("return document.querySelectorAll('svg.chart').length") > 3
        assert barriers(page) == []


def test_a_report_without_a_player_says_why(
    pages: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = pages / "without.html"
    run = str(pages / "two")
    assert command(monkeypatch, "train", "pricing-two", *TRAIN, *SMALL, "--run-dir", run) == 0
    capsys.readouterr()
    assert command(monkeypatch, "report", run, "--out", str(report)) == 0
    assert "does not play in the page: a page cannot play" in capsys.readouterr().err
    assert 'class="player"' not in report.read_text()
