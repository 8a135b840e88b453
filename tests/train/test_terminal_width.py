"""Lines of a terminal's width."""

from __future__ import annotations

import io
import os

import pytest

from palaestra.train.formatting import fitted, terminal_width
from palaestra.train.markdown import on_screen


def test_lines_break_between_words() -> None:
    text = "ppo on palaestra/SnakeSmall-v0: 1,024 environments on cpu, 2 threads, 5,000,000 steps, seed 0"
    lines = fitted(text, 80).split("\n")
    assert all(len(line) <= 80 for line in lines)
    assert " ".join(lines) == text
    assert fitted(text, None) == fitted(text, len(text)) == text


@pytest.mark.parametrize(
    "command",
    [
        "palaestra train --resume runs/snake-small/ppo/20261129-051538-s0 --total-timesteps 5M --threads 1",
        "palaestra watch 'runs/my-env/ppo/20261129-051538-s0' --record episode.mp4",
        "palaestra train --resume latest --total-timesteps N",
    ],
)
@pytest.mark.parametrize("width", [40, 60, 80])
def test_commands_stay_whole(command: str, width: int) -> None:
    text = f"interrupted after 425,984 steps; go on with: {command}; or do something else for the rest of the day"
    lines = fitted(text, width).split("\n")
    assert [line for line in lines if command in line]
    assert " ".join(lines) == text
    assert all(len(line) <= max(width, len(command) + 1) for line in lines)


def test_words_behind_a_command_may_break() -> None:
    text = "unknown environment 'x'; palaestra envs lists ours, and Gymnasium has box2d, classic_control, mujoco"
    assert all(len(line) <= 40 for line in fitted(text, 40).split("\n"))


def test_paths_stay_whole() -> None:
    path = "runs/snake-small/ppo/20261129-051538-s0/videos/final.mp4"
    assert fitted(f"an episode of the agent: {path}", 40) == f"an episode of the agent:\n{path}"


@pytest.mark.parametrize("width", range(12, 60))
def test_numbers_keep_their_percent_sign_and_seeds_their_number(width: int) -> None:
    text = "a run scores 9.22, -2.7 % of the way from random play (0.1465) to 100 % (50 held-out episodes, seed 0)"
    lines = fitted(text, width).split("\n")
    assert not any(line.startswith("%") or line.endswith("seed") for line in lines)
    assert " ".join(lines) == text
    assert all(len(line) <= max(width, len("(0.1465)")) for line in lines)


REPORT = """# snake, ppo: 2 trials

| trial | score | learning_rate |
| ----- | ----- | ------------- |
| 0 (preset) | 9.5 | 0.0003 |
| `palaestra train snake` | 12 | 0.01 |

The score is the mean
return.

* trial 7: a long reason why it has failed
* trial 8: another"""


def test_markdown_on_a_terminal() -> None:
    assert on_screen(REPORT, None) == REPORT
    assert on_screen(REPORT, 80).splitlines() == [
        "# snake, ppo: 2 trials",
        "",
        "trial                  score  learning_rate",
        "0 (preset)               9.5         0.0003",
        "palaestra train snake     12           0.01",
        "",
        "The score is the mean return.",
        "",
        "* trial 7: a long reason why it has failed",
        "* trial 8: another",
    ]
    assert on_screen(REPORT, 32).splitlines()[2:] == [
        "0 (preset)",
        "  score 9.5; learning_rate",
        "  0.0003",
        "palaestra train snake",
        "  score 12; learning_rate 0.01",
        "",
        "The score is the mean return.",
        "",
        "* trial 7: a long reason why it",
        "has failed",
        "* trial 8: another",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 7


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((70 if number == 7 else 0, 24)))
    assert terminal_width(Terminal()) == 70
    assert terminal_width(io.StringIO()) is None
    monkeypatch.setenv("COLUMNS", "50")
    assert terminal_width(Terminal()) == 50
    monkeypatch.setenv("COLUMNS", "wide")
    assert terminal_width(Terminal()) is None
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(os, "get_terminal_size", lambda number: os.terminal_size((0, 0)))
    assert terminal_width(Terminal()) is None
