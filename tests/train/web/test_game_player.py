"""A game for two in a browser: a whole game by clicks, keys, moves taken back, hints, and who begins."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from chromium import barriers, press, shown
from exported_runs import command

from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.envs.registry import resolve
from palaestra.train.evaluation.policies import AgentPolicy
from palaestra.train.players import find_player

CLICK = """
const box = player.canvas.getBoundingClientRect();
const x = (player.game.left + (arguments[0] + 0.5) * player.game.cell) * box.width / player.game.width;
return [box.left + x, box.top + box.height / 2];
"""  # where a column is in the window


def _click(page: Any, column: int) -> None:
    page.execute_script("player.canvas.scrollIntoView({block: 'center'})")
    x, y = page.execute_script(CLICK, column)
    for kind in ("mousePressed", "mouseReleased"):
        event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
        page.execute_cdp_cmd("Input.dispatchMouseEvent", event)


def _settled(page: Any) -> None:
    """Wait until the agent has moved."""
    until = time.monotonic() + 20
    while page.execute_script("return player.waiting !== null"):
        assert time.monotonic() < until
        time.sleep(0.01)


def _now(page: Any) -> None:
    page.execute_script("player.thoughtTime = 0")


def _moves(page: Any) -> list[int]:
    moves: list[int] = page.execute_script("return player.moves")
    return moves


def _told(page: Any) -> str:
    text: str = page.execute_script("return player.status.textContent")
    return text


def test_a_whole_game_by_clicks_is_that_of_the_agent_and_the_rules(pages: Path) -> None:
    """The person clicks the first free column from the left; every answer is the agent's best move."""
    player = find_player(str(pages / "four"), None, False, ())
    policy = player.policy
    assert isinstance(policy, AgentPolicy)
    game = resolve(player.env).make(1, device="cpu", **player.env_kwargs).env.env
    batch = TensorVectorEnv(game, 1, device="cpu")
    with shown(pages / "four-page.html") as page:
        _now(page)
        obs, _ = batch.reset()
        for turn in range(42):
            legal = batch.action_masks()
            assert legal is not None
            if turn % 2 == 0:
                column = int(legal[0].int().argmax())
                _click(page, column)
                _settled(page)
            else:
                column = int(policy.model.act(obs, None, legal))
            assert _moves(page)[turn] == column
            obs, reward, over, *_ = batch.step(torch.tensor([column]))
            if over:
                break
        assert len(_moves(page)) == turn + 1
        assert page.execute_script("return player.state.over")
        ends = {(1.0, 0): "You win!", (1.0, 1): "The agent wins."}
        assert _told(page).endswith(ends.get((float(reward), turn % 2), "A draw: the board is full."))
        line = page.execute_script("return player.state.line")
        assert (len(line) >= 4) == (float(reward) == 1.0)
        _click(page, 6)  # nothing more is moved
        press(page, "7")
        assert len(_moves(page)) == turn + 1


def test_keys_move_and_take_back_and_the_agent_may_begin(pages: Path) -> None:
    with shown(pages / "four-page.html") as page:
        _now(page)
        press(page, "u")  # there is nothing to take back
        press(page, "4")
        _settled(page)
        first = _moves(page)
        assert (first[0], len(first)) == (3, 2)
        press(page, "h")
        assert _told(page).startswith("Hint: the agent would play column")
        press(page, "9")  # there is no such column
        press(page, "u")
        assert _moves(page) == []
        assert _told(page).startswith("Your move is taken back. Your turn, with yellow.")
        press(page, "4")
        _settled(page)
        assert _moves(page) == first  # the agent's best move is the same again
        page.execute_script("player.thoughtTime = 1e6")
        press(page, "1")
        press(page, "2")  # while the agent moves nobody else does
        assert _moves(page) == [*first, 0]
        press(page, "u")
        assert _moves(page) == first
        _now(page)
        choose = "player.sideChoice.value = 1; player.sideChoice.dispatchEvent(new Event('change'))"
        page.execute_script(choose)
        _settled(page)
        assert len(_moves(page)) == 1
        assert _told(page).endswith("Your turn, with red.")
        press(page, "u")  # the agent's first move stays
        assert len(_moves(page)) == 1
        press(page, "n")
        _settled(page)
        assert len(_moves(page)) == 1


def test_a_full_column_is_told_and_takes_no_stone(pages: Path) -> None:
    with shown(pages / "four-page.html") as page:
        page.execute_script("[0, 0, 0, 0, 0, 0].forEach((column) => player._move(column)); player._show('')")
        press(page, "1")
        assert _told(page) == "Column 1 is full. Your turn, with yellow."
        assert _moves(page) == [0] * 6
        assert page.execute_script("return player.columns.map(({ drop }) => drop.ariaDisabled)") == [
            "true",
            *["false"] * 6,
        ]
        texts = page.execute_script("player.hint(); return player.columns.map(({ number }) => number.textContent)")
        assert texts[0] == "full"
        assert abs(sum(float(text.removesuffix(" %")) for text in texts[1:]) - 100) < 3


def test_drawn_moves_have_the_agents_probabilities(pages: Path) -> None:
    """4,000 draws of the first move; six standard errors."""
    with shown(pages / "four-page.html") as page:
        shares, counts = page.execute_script("""
            const shares = player.think().log_probabilities.map(Math.exp);
            const counts = shares.map(() => 0);
            for (let i = 0; i < 4000; i++) counts[drawnFrom(shares)] += 1;
            return [shares, counts];
        """)
        for share, count in zip(shares, counts, strict=True):
            assert abs(count / 4000 - share) < 6 * (share * (1 - share) / 4000) ** 0.5 + 1e-9


def test_an_agent_of_q_values_shows_them(pages: Path) -> None:
    with shown(pages / "wide-four-page.html") as page:
        _now(page)
        page.execute_script("player.columns[2].drop.click()")
        _settled(page)
        texts = page.execute_script("return player.columns.map(({ number }) => number.textContent)")
        assert len(texts) == 6
        assert all(abs(float(text.replace("−", "-"))) < 10 for text in texts)
        assert page.execute_script("return document.querySelectorAll('.player select').length") == 1


def test_nothing_bars_the_way_to_a_game(pages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the report, under whose policy the game is played: each column has its button beneath it, on a phone too."""
    report = pages / "with-game.html"
    assert command(monkeypatch, "report", str(pages / "four"), "--out", str(report)) == 0
    for width, scheme in ((1280, "light"), (390, "dark")):
        with shown(report, width, scheme) as page:
            _now(page)
            _click(page, 3)
            _settled(page)
            assert (_moves(page)[0], len(_moves(page))) == (3, 2)
            assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
            boxes = page.execute_script(
                "return player.columns.map(({ drop }) => drop.getBoundingClientRect().toJSON())"
            )
            for column, box in enumerate(boxes):
                assert abs(page.execute_script(CLICK, column)[0] - (box["left"] + box["right"]) / 2) < 2
            assert "Play against the agent" in page.page_source
            assert barriers(page) == []
