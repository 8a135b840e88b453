"""The line of progress after training: known lines with a fake clock, and nothing that stays on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from palaestra.train.interruptions import Shown
from palaestra.train.loggers.stage import Stage


class Seconds:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_every_five_seconds() -> None:
    clock, stream = Seconds(), io.StringIO()
    with Stage("final evaluation: 1,000 held-out episodes", Console(file=stream), clock) as stage:
        for second, share in ((1, 0.1), (5, 0.25), (6, 0.9), (9.9, 0.95), (10, 0.5), (15, 1.0)):
            clock.now = 100.0 + second
            stage.tell(share)
    assert stream.getvalue() == (
        "  25%   0:00:15 left   final evaluation: 1,000 held-out episodes\n"
        "  95%   0:00:00 left   final evaluation: 1,000 held-out episodes\n"  # a share never falls
        " 100%   0:00:00 left   final evaluation: 1,000 held-out episodes\n"
    )


def test_q_shows_none_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shown, "progress", False)
    for terminal in (False, True):
        clock, stream = Seconds(), io.StringIO()
        with Stage("recording an episode", Console(file=stream, force_terminal=terminal), clock) as stage:
            clock.now += 8
            stage.tell(0.5)
        assert stream.getvalue() == ""


def test_what_may_end_at_any_time_has_at_most_that_left() -> None:
    clock, stream = Seconds(), io.StringIO()
    with Stage("recording an episode", Console(file=stream), clock, at_most=True) as stage:
        clock.now += 5
        stage.tell(0.0)
        clock.now += 5
        stage.tell(0.25)
    assert stream.getvalue() == "   0%   recording an episode\n  25%   at most 0:00:30 left   recording an episode\n"


@pytest.mark.parametrize("width", [40, 80])
def test_a_terminal_shows_a_bar_that_goes_away(width: int) -> None:
    clock, stream = Seconds(), io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, height=24, legacy_windows=False, _environ={})
    with Stage("final evaluation: 1,000 held-out episodes", console, clock) as stage:
        clock.now += 8
        stage.tell(0.5)
        picture = console.render_lines(stage._picture())
    lines = ["".join(part.text for part in line) for line in picture]
    assert [len(line) for line in lines] == 3 * [width]
    assert lines[0].endswith("  50%   0:00:08 left")
    assert lines[1].startswith("final evaluation: 1,000 held-out episod")
    assert lines[2].rstrip() == "Ctrl-C skips it"
    assert stream.getvalue().endswith("\x1b[2K")  # the last thing written erases a line


def test_an_interruption_gives_the_terminal_back() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, legacy_windows=False, _environ={})
    stage = Stage("recording an episode", console, Seconds())
    with pytest.raises(KeyboardInterrupt), stage:
        raise KeyboardInterrupt
    assert console._live is None if hasattr(console, "_live") else not console._live_stack
