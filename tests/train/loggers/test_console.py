"""The progress display: known lines with a fake clock, and no line wider than the terminal."""

from __future__ import annotations

import io
import re
import time

import pytest
from rich.console import Console

from palaestra.envs.core import Reference
from palaestra.train.loggers.console import ProgressOutput, pack

REFERENCE = Reference(optimum=35.0, random=0.0)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def plain(total: int, clock: Clock) -> tuple[ProgressOutput, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, highlight=False)
    progress = ProgressOutput(REFERENCE.percent_of_optimal, console, clock)
    progress.total = total
    return progress, stream


def row(steps: int, mean: float = 31.4, fps: float = 112_000.0) -> dict[str, float]:
    return {"rollout/ep_rew_mean": mean, "time/fps": fps, "time/total_timesteps": steps}


def test_plain_line_known_answer() -> None:
    clock = Clock()
    progress, stream = plain(7_489_000, clock)
    with progress:
        progress.write(row(3_145_728), {}, 0)
    # (7,489,000 − 3,145,728) / 112,000 = 38.8 s; 31.4 / 35 = 89.7 %
    assert stream.getvalue() == (
        "  42%   3,145,728 steps   112,000 steps/s   training, exploring: 31.40 (89.7 %)   0:00:38 left\n"
    )


def test_percentages_are_whole_ones_of_the_steps() -> None:
    for total in (100, 131_072, 7_489_000, 10**9):
        progress, _ = plain(total, Clock())
        for percent in range(101):
            at = -(-percent * total // 100)
            for progress.steps, shown in ((at, percent), (at - 1, percent - 1)):
                if shown >= 0:
                    assert progress._percent_done() == f"{shown:4d}%"


def test_plain_lines_keep_their_distance_and_the_last_one_comes() -> None:
    clock = Clock()
    progress, stream = plain(100_000, clock)
    with progress:
        for k in range(1, 15):  # a row a second: lines after 1, 6 and 11 s, then the end
            clock.now += 1.0
            progress.write(row(1000 * k), {}, 0)
    progress.close()
    steps = [line.split()[1] for line in stream.getvalue().splitlines()]
    assert steps == ["1,000", "6,000", "11,000", "14,000"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [  # after 20 s: 40,000 of 100,000 steps at 2,000 steps/s, or 20 of so many seconds, whichever ends first
        (25.0, "  80%   40,000 steps   2,000 steps/s   0:00:05 left"),
        (60.0, "  40%   40,000 steps   2,000 steps/s   0:00:30 left"),
    ],
)
def test_a_rule_in_minutes_counts(seconds: float, expected: str) -> None:
    clock = Clock()
    progress, stream = plain(100_000, clock)
    progress.seconds = seconds
    with progress:
        clock.now += 20.0
        progress.write(row(40_000, float("nan"), 2_000.0), {}, 0)
    assert stream.getvalue().splitlines() == [expected]


def test_the_last_line_is_not_printed_twice() -> None:
    progress, stream = plain(1000, Clock())
    with progress:
        progress.write(row(1000), {}, 0)
    assert stream.getvalue().count("100%") == 1


def test_no_episode_yet_and_evaluations_and_success() -> None:
    clock = Clock()
    progress, stream = plain(1000, clock)
    with progress:
        progress.write({"rollout/ep_rew_mean": float("nan")}, {}, 100)
        clock.now += 5
        progress.write({"eval/mean_reward": 34.3, "eval/percent_of_optimal": 97.0}, {}, 500)
        clock.now += 5
        progress.write({"rollout/ep_rew_mean": 7.0, "rollout/success_rate": 0.25}, {}, 500)
        progress.write({"eval/mean_reward": 17.5}, {}, 600)
        progress.write({"rollout/ep_rew_mean": float("nan")}, {}, 700)  # within five seconds of the line before
    assert stream.getvalue().splitlines() == [
        "  10%   100 steps",
        "  50%   500 steps   evaluation, greedy: 34.30 (97.0 %)",
        "  50%   500 steps   training, exploring: 7.00 (20.0 %)   success 25.0 %",  # an evaluation is told once
        "  70%   700 steps   success 25.0 %   evaluation, greedy: 17.50 (50.0 %)",
    ]


def test_self_play_has_no_score_in_training() -> None:
    """The agent moves for both: 0.976 of the games were won by somebody, which is no 2.8 % of the best known."""
    console, clock = Console(file=io.StringIO()), Clock()
    progress = ProgressOutput(REFERENCE.percent_of_optimal, console, clock, both_sides=True)
    progress.total = 300
    progress.plan_evaluations(3, 100, lambda: 400)
    progress.write({**row(100, 0.976, 100.0), "eval/mean_reward": 7.0}, {}, 0)
    progress.write({**row(200, 0.5, 100.0), "eval/mean_reward": 17.5}, {}, 0)
    assert pictured(80, progress)[2:] == [
        "evaluation, greedy: 17.50 (50.0 %)           ▂▅·",
        "self-play games that one side wins: 50.0 %   █▅·",
    ]


def test_an_unknown_optimum_is_not_mentioned() -> None:
    stream = io.StringIO()
    console = Console(file=stream, highlight=False)
    with ProgressOutput(Reference().percent_of_optimal, console, Clock()) as progress:
        progress.write(row(10), {}, 0)
    assert "training, exploring: 31.40   0:00:00 left" in stream.getvalue()


def screen(width: int, dumb: bool = False) -> str:
    """What a terminal without colours gets from a run whose numbers are all wide."""
    stream, clock = io.StringIO(), Clock()
    environ = {"TERM": "dumb" if dumb else "xterm"}
    console = Console(
        file=stream, width=width, height=20, force_terminal=True, no_color=True, highlight=False, _environ=environ
    )
    with ProgressOutput(REFERENCE.percent_of_optimal, console, clock) as progress:
        progress.total = 1_000_000_000
        clock.now += 7261
        progress.write({**row(876_543_210, -1234.5, 1_234_567), "rollout/success_rate": 1.0}, {}, 0)
        progress.write({"eval/mean_reward": -1034.5}, {}, 876_543_210)
        progress.message("saved checkpoints/876543210.zip [bold]")
    return stream.getvalue()


@pytest.mark.parametrize("width", [40, 80])
def test_live_picture_fits_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    progress = ProgressOutput(REFERENCE.percent_of_optimal, console, Clock())
    progress.total = 1_000_000_000
    progress.write({**row(876_543_210, -1234.5, 1_234_567), "rollout/success_rate": 1.0}, {}, 0)
    progress.write({"eval/mean_reward": -1034.5}, {}, 876_543_210)
    with console.capture() as capture:
        console.print(progress._picture())
    lines = capture.get().splitlines()
    assert all(len(line) <= width for line in lines), lines
    text = "\n".join(lines)
    for part in (
        "87%   0:01:40 left",  # 123,456,790 / 1,234,567 = 100.0 s
        "876,543,210 / 1,000,000,000 steps",
        "1,234,567 steps/s",
        "0:00:00 elapsed",
        "training, exploring: -1,234.50",
        "success 100.0 %",
        "evaluation, greedy: -1,034.50",
    ):
        assert part in text


def pictured(width: int, progress: ProgressOutput, encoding: str = "utf-8") -> list[str]:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    progress._console = console = Console(file=stream, width=width, highlight=False)
    with console.capture() as capture:
        console.print(progress._picture())
    return [line.rstrip() for line in capture.get().splitlines()]


def course(clock: Clock, reference: Reference = REFERENCE) -> ProgressOutput:
    """300,000 steps asked for, in rollouts of 32,768: the third is just over, and the fourth evaluation is next."""
    progress = ProgressOutput(reference.percent_of_optimal, Console(file=io.StringIO()), clock)
    progress.total, due = 327_680, [30_000]
    progress.plan_evaluations(10, 30_000, lambda: due[0])
    for k, (greedy, exploring) in enumerate(((7.0, 3.5), (17.5, 7.0), (28.0, 10.5)), 1):
        progress.write({**row(32_768 * k, exploring, 16_384.0), "eval/mean_reward": greedy}, {}, 0)
        due[0] += 30_000
    clock.now += 0.5
    return progress


def test_the_course_of_evaluations_and_of_training() -> None:
    """At 16,384 steps/s an iteration takes 2 s; the fourth ends above 120,000 steps."""
    progress, known = course(Clock()), "evaluation, greedy: 28.00 (80.0 %)"
    assert pictured(80, progress)[1:] == [
        "98,304 / 327,680 steps   16,384 steps/s   0:00:00 elapsed",
        f"{known}    ▂▅▇·······   next in 0:00:01",
        "training, exploring: 10.50 (30.0 %)   ▂▂▃▃······",
    ]
    assert pictured(40, progress)[1:] == [
        "98,304 / 327,680 steps",
        "16,384 steps/s   0:00:00 elapsed",
        known,
        "▂▅▇·······   next in 0:00:01",
        "training, exploring: 10.50 (30.0 %)",
        "▂▂▃▃······",
    ]


def test_an_evaluation_that_takes_its_time_is_due_and_the_last_has_none_behind_it() -> None:
    clock = Clock()
    progress = course(clock)
    clock.now += 2.0
    assert "next is due" in pictured(80, progress)[2]
    progress.plan_evaluations(10, 30_000, lambda: 330_000)
    assert pictured(80, progress)[2].endswith("··········")


def test_time_ends_before_the_next_evaluation() -> None:
    progress = course(clock := Clock())
    progress.seconds = 3.6
    assert "next in 0:00:01" in pictured(80, progress)[2]
    progress.seconds, clock.now = 2.0, clock.now - 0.5
    assert "next in 0:00:02" in pictured(80, progress)[2]


def test_before_the_first_evaluation_and_after_a_resumption() -> None:
    progress = ProgressOutput(REFERENCE.percent_of_optimal, Console(file=io.StringIO()), Clock())
    progress.total = 1000
    progress.plan_evaluations(10, 100, lambda: 100)
    assert pictured(80, progress)[2] == "evaluation, greedy: none yet   ··········   first at 100 steps"
    progress.plan_evaluations(10, 100, lambda: 300, [(100, 0.0), (200, 35.0)])
    assert pictured(80, progress)[2] == "evaluation, greedy: 35.00 (100.0 %)   ▁█········   next at 300 steps"


def test_returns_where_no_optimum_is_known() -> None:
    lines = pictured(80, course(Clock(), Reference()))
    assert lines[2:] == [
        "evaluation, greedy: 28.00    ▂▅█·······   next in 0:00:01",  # 3.5 is the lowest of both, 28 the highest
        "training, exploring: 10.50   ▁▂▃▃······",
    ]


def test_a_terminal_without_blocks_gets_numbers() -> None:
    assert pictured(80, course(Clock()), "ascii")[2:] == [
        "evaluation, greedy: 28.00 (80.0 %)    next in 0:00:01",
        "training, exploring: 10.50 (30.0 %)",
    ]


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"])
def test_no_control_characters_in_a_log_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with ProgressOutput() as progress:
        progress.total = 100
        progress.write(row(50), {}, 0)
        with progress.stage("the final evaluation") as stage:
            stage.tell(0.5)
    assert capsys.readouterr().out == "  50%   50 steps   112,000 steps/s   training, exploring: 31.40   0:00:00 left\n"


def test_no_colour_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in (False, True):
        environ = {"TERM": "xterm-256color", **({"NO_COLOR": "1"} if asked else {})}
        stream = io.StringIO()
        console = Console(file=stream, width=80, force_terminal=True, highlight=False, _environ=environ)
        with ProgressOutput(None, console) as progress:
            progress.write(row(50), {}, 0)
        colours = re.findall(r"\x1b\[[\d;]*(?:3\d|4\d|38;5;\d+|9\d)m", stream.getvalue())
        assert bool(colours) != asked


def test_the_terminal_is_given_back_after_an_error() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, highlight=False, _environ={"TERM": "xterm"})
    progress = ProgressOutput(None, console)
    with pytest.raises(KeyboardInterrupt), progress:
        raise KeyboardInterrupt
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert stream.getvalue().rindex(shown) > stream.getvalue().rindex(hidden)


def test_a_message_stands_above_the_live_display() -> None:
    text = screen(80)
    assert "saved checkpoints/876543210.zip [bold]" in text
    assert text.rindex("saved checkpoints") < text.rindex("steps/s")


def test_a_narrow_dumb_terminal_gets_lines_that_fit_and_no_control_codes() -> None:
    lines = screen(40, dumb=True).splitlines()
    assert lines
    assert all(len(line) <= 40 for line in lines), lines
    assert "\x1b" not in "".join(lines)


def test_pack_fills_lines_in_order() -> None:
    assert pack(["aaaa", "bb", "cccc", "d"], 9) == ["aaaa   bb", "cccc   d"]
    assert pack(["aaaa", "bb"], 8) == ["aaaa", "bb"]


def test_a_row_costs_the_training_loop_little() -> None:
    """Time draws, rows do not: 10,000 rows cause no more than 4 redraws a second."""
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, highlight=False, _environ={"TERM": "xterm"})
    start = time.monotonic()
    with ProgressOutput(None, console) as progress:
        for k in range(10_000):
            progress.write(row(k), {}, 0)
    redraws = stream.getvalue().count("elapsed")
    assert redraws <= 4 * (time.monotonic() - start) + 3
