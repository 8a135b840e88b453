"""The player in a browser: games to their end, keys, speed, and who plays."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from browser import barriers, opened

from palaestra.envs.registry import resolve
from palaestra.envs.snake import Snake
from palaestra.train.commands.evaluate import find_player
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS, run_episodes

ENVS = ("snake", "cartpole", "pricing", "reach")


def _status(browser: Any) -> str:
    text: str = browser.execute_script("return player.status.textContent")
    return text


def _press(browser: Any, key: str, kind: str = "keydown") -> None:
    browser.execute_script(
        "document.activeElement.dispatchEvent(new KeyboardEvent(arguments[1], {key: arguments[0], bubbles: true}))",
        key,
        kind,
    )


def test_the_agent_plays_whole_games_of_snake_as_evaluate_does(pages: Path) -> None:
    """Twenty episodes in the page, at its own pace but fast, end with the length and return of evaluate's."""
    player = find_player(str(pages / "snake"), None, False, ())
    env = resolve(player.env).make(20, device="cpu", seed=EVALUATION_SEEDS, **player.env_kwargs)
    played = run_episodes(env, player.policy)
    with opened(pages / "snake-page.html") as browser:
        found = browser.execute_script("""
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
        browser.execute_script("player.speedChoice.value = 10; player.speed = 10")
        _press(browser, " ")
        ended = time.monotonic() + 20
        while " — " not in _status(browser) and time.monotonic() < ended:
            time.sleep(0.05)
        assert " — over" in _status(browser)


@pytest.mark.parametrize("env", ENVS)
def test_keys_play_step_and_begin_again_and_pictures_are_quick(env: str, pages: Path) -> None:
    """A step with its picture fits into a sixtieth of a second, by the page's own clock."""
    with opened(pages / f"{env}-page.html") as browser:
        assert browser.execute_script("return player.agent.steps") == 0
        _press(browser, ".")
        assert browser.execute_script("return player.agent.steps") == 1
        _press(browser, "r")
        assert browser.execute_script("return player.agent.steps") == 0
        _press(browser, "n")
        assert _status(browser).startswith("Episode 1:")
        _press(browser, " ")
        time.sleep(0.6)
        assert browser.execute_script("return player.running && (player.agent.steps > 0 || player.number !== 1)")
        _press(browser, " ")
        assert not browser.execute_script("return player.running")
        milliseconds = browser.execute_script("""
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
    with opened(pages / "snake-page.html") as browser:
        browser.execute_script("player.modeChoice.value = 'person'; player._setMode('person')")
        heading = browser.execute_script("return player.agent.state.heading")
        wanted = (heading + 1) % 4
        browser.execute_script(
            "player.tapped = arguments[0]; player._step(true)",
            ("ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft")[wanted],
        )
        assert browser.execute_script("return player.agent.state.heading") == wanted
        back = ("ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft")[(wanted + 2) % 4]
        browser.execute_script("if (!player.agent.over) { player.tapped = arguments[0]; player._step(true) }", back)
        assert browser.execute_script("return player.agent.state.heading") == wanted  # no way back
        _press(browser, "ArrowUp")  # a key begins the game
        assert browser.execute_script("return player.running || player.agent.over")


def test_a_person_asks_prices_beside_the_agent(pages: Path) -> None:
    with opened(pages / "pricing-page.html") as browser:
        browser.execute_script("player.modeChoice.value = 'both'; player._setMode('both')")
        _press(browser, " ")
        assert not browser.execute_script("return player.running")  # it waits for the person
        _press(browser, "ArrowRight")
        _press(browser, "Enter")
        assert browser.execute_script("return [player.agent.steps, player.person.steps]") == [1, 1]
        assert browser.execute_script("return player.person.state.price") == 1
        assert browser.execute_script("return [...document.querySelectorAll('.player figure')].every((f) => !f.hidden)")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("env", ENVS)
def test_nothing_bars_the_way(env: str, width: int, scheme: str, pages: Path) -> None:
    """axe-core finds nothing serious, and nothing is wider than the window."""
    with opened(pages / f"{env}-page.html", width, scheme) as browser:
        browser.execute_script("player.modeChoice.value = 'both'; player._setMode('both')")
        assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
        assert barriers(browser) == []


def test_the_pages_boards_are_those_of_the_preset(pages: Path) -> None:
    with opened(pages / "snake-page.html") as browser:
        assert browser.execute_script("return player.world.cells") == Snake(6).cells
