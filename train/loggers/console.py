"""Progress of a training run on the screen: a live display on a terminal, plain lines anywhere else.

1. It is one more output of SB3's ``Logger`` and reads ``rollout/ep_rew_mean``, ``rollout/success_rate``, ``time/fps``,
   ``time/total_timesteps``, ``eval/mean_reward`` and ``eval/percent_of_optimal``.
2. The live display has one line for the bar, then as many as the terminal's width asks for: pace; the newest
   evaluation, a sparkline of all, and when the next is due; the returns of training. rich redraws it twice a second
   from the last numbers.
3. Plain lines come at most every ``LINE_INTERVAL`` seconds, and the last one always; an evaluation stands in the first
   line after it. They serve pipes, log files (``FORCE_COLOR`` or not) and terminals that cannot move the cursor
   (``TERM=dumb``).
4. It is a context manager: on the way out, by Ctrl-C or an error too, the terminal is as it was.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from stable_baselines3.common.logger import KVWriter

from palaestra.train.formatting import fitted, hours
from palaestra.train.interruptions import LastingOutput, Shown, go_on_without
from palaestra.train.loggers.metric_names import DECIDED, EVALUATION, TRAINING
from palaestra.train.loggers.sparkline import Sparkline, scale
from palaestra.train.loggers.stage import LINE_INTERVAL, REDRAWS_PER_SECOND, Stage

_GAP = "   "


def pack(parts: list[str], width: int) -> list[str]:
    """The parts in their order on as few lines of at most ``width`` characters as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(_GAP) + len(part) <= width:
            lines[-1] += _GAP + part
        else:
            lines.append(part)
    return lines


def _number(key_values: dict[str, Any], key: str) -> float | None:
    """A finite number, else None: SB3 reports NaN until an episode has ended."""
    value = float(key_values.get(key, math.nan))
    return value if math.isfinite(value) else None


def _below(evaluation: list[str], training: list[str], room: int) -> list[tuple[str, str]]:
    """Both as lines with their styles, part below part if they fit in the room so, else each on as many as it needs."""
    size = max(len(parts[0]) if parts else 0 for parts in (evaluation, training))
    aligned = [_GAP.join([parts[0].ljust(size), *parts[1:]]) for parts in (evaluation, training) if parts]
    both = ((evaluation, "bold"), (training, ""))
    if all(len(line) <= room for line in aligned):
        return list(zip(aligned, (style for parts, style in both if parts), strict=True))
    return [(line, style) for parts, style in both for line in pack(parts, room)]


class Screen(Console):
    """Rich's, whose width is asked of the stream that it writes to, not of descriptors 0 to 2."""

    @property  # type: ignore[misc]
    def size(self) -> ConsoleDimensions:
        try:
            columns, rows = os.get_terminal_size(self.file.fileno())
        except (OSError, ValueError):
            return super().size
        return super().size if "COLUMNS" in os.environ or not columns else ConsoleDimensions(columns, rows)


class ProgressOutput(KVWriter):
    """Shows a run's progress; to be entered with ``with`` before training starts.

    Rows may hold any subset of the keys; the last known values stay on display.

    Attributes:
        steps: those taken so far, also before a resumption.
        total: those after which training ends.
        seconds: those from its start on after which it ends at the latest.
    """

    def __init__(
        self,
        percent_of_optimal: Callable[[float], float | None] | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
        both_sides: bool = False,
    ) -> None:
        """Show nothing yet.

        Args:
            percent_of_optimal: of a mean return, e.g. ``Reference.percent_of_optimal``.
            console: where to; standard output by default.
            clock: in seconds.
            both_sides: the agent moves for both players of a game while it trains; its returns are no score.
        """
        self._percent_of_optimal, self._both_sides = percent_of_optimal, both_sides
        output = cast(TextIO, LastingOutput(sys.stdout, go_on_without))
        plain = None if output.isatty() else False  # FORCE_COLOR makes no terminal of a log file
        self._console = console or Screen(file=output, highlight=False, force_terminal=plain)
        self._clock = clock
        self._live: Live | None = None
        self._closed = False
        self._start = self._row_time = clock()
        self._line_time = -math.inf
        self._unshown = False  # the newest row has not been printed yet
        self.steps, self.total, self.seconds = 0, 1, math.inf
        self._iteration = 1  # steps between the newest two rows
        self._rate: float | None = None  # steps/s
        self._return: float | None = None
        self._success: float | None = None  # 0 … 1
        self._reached: float | None = None  # per cent of the optimum in training, where its stage has another
        self._stage: float | None = None  # of a curriculum
        self._evaluation = ""
        self._untold = False  # the newest evaluation has not been in a plain line yet
        self._due: Callable[[], float] | None = None
        self._evaluated, self._trained = Sparkline(1, 1), Sparkline(1, 1)

    def plan_evaluations(
        self, count: int, apart: int, due: Callable[[], float], found: Iterable[tuple[int, float]] = ()
    ) -> None:
        """Show the course of a run with that many evaluations.

        Args:
            count: of the whole run.
            apart: steps between two.
            due: gives the steps at which the next is due.
            found: step and mean return of those before a resumption.
        """
        self._due = due
        self._evaluated, self._trained = Sparkline(count, apart), Sparkline(count, apart)
        for step, mean in found:
            self._evaluated.evaluation(step, self._on_scale(mean, None))
            self._evaluation = self._score(EVALUATION, mean, None)

    def __enter__(self) -> ProgressOutput:
        self._start = self._row_time = self._clock()
        if Shown.progress and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                get_renderable=self._picture, console=self._console, refresh_per_second=REDRAWS_PER_SECOND
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Show the last numbers and give the terminal back; a second call does nothing."""
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._unshown:
            self._print_line()
        self._closed = True

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self._row_time, before = self._clock(), self.steps
        self.steps = int(key_values.get("time/total_timesteps", step))
        self._iteration = self.steps - before if self.steps > before else self._iteration
        self._rate = _number(key_values, "time/fps") or self._rate
        if (stage := _number(key_values, "rollout/stage")) not in (None, self._stage):
            self._stage, self._return, self._success = stage, None, None
        if "rollout/ep_rew_mean" in key_values:
            self._return = _number(key_values, "rollout/ep_rew_mean")
            self._reached = _number(key_values, "rollout/percent_of_optimal")
            if self._return is not None and self.steps > before:
                self._trained.iteration(before, self.steps, self._on_scale(self._return, self._reached, trains=True))
        if "rollout/success_rate" in key_values:
            self._success = _number(key_values, "rollout/success_rate")
        evaluated = _number(key_values, "eval/mean_reward")
        if evaluated is not None:
            percent = _number(key_values, "eval/percent_of_optimal")
            self._evaluation, self._untold = self._score(EVALUATION, evaluated, percent), True
            self._evaluated.evaluation(self.steps, self._on_scale(evaluated, percent))
        self._unshown = True
        if self._live is None and not self._closed and self._row_time - self._line_time >= LINE_INTERVAL:
            self._print_line()

    def message(self, text: str) -> None:
        """Print a line, above the live display where there is one; safe from any thread."""
        lines = fitted(text, self._console.width if self._console.is_terminal else None)
        self._console.print(lines, markup=False, highlight=False, soft_wrap=True)

    def stage(self, what: str, at_most: bool = False) -> Stage:
        """A line of progress for what comes after training."""
        return Stage(what, self._console, self._clock, at_most)

    def _percent(self, mean: float) -> float | None:
        return None if self._percent_of_optimal is None else self._percent_of_optimal(mean)

    def _on_scale(self, mean: float, percent: float | None, trains: bool = False) -> float:
        """The percentage where training has one, else the return."""
        own = self._percent(mean)
        if percent is None and self._both_sides and trains:
            return mean if own is None else 100.0 * mean
        return mean if own is None else own if percent is None else percent

    def _score(self, name: str, mean: float, percent: float | None) -> str:
        percent = self._percent(mean) if percent is None else percent
        return f"{name}: {mean:,.2f}" + ("" if percent is None else f" ({percent:z.1f} %)")

    def _percent_done(self) -> str:
        return f"{int(100 * self._share() + 1e-9):4d}%"  # 100 · 0.29 is 28.999…

    def _share(self) -> float:
        """0 … 1 of the steps or of the time, whichever ends first."""
        return min(1.0, max(self.steps / self.total, (self._clock() - self._start) / max(self.seconds, 1e-9)))

    def _seconds_until(self, step: float) -> float:
        """Until that many steps are taken or time is up; infinite before the first row."""
        left = self._start + self.seconds - self._clock()
        if self._rate:
            left = min(left, (step - self.steps) / self._rate - (self._clock() - self._row_time))
        return left

    def _time_left(self) -> list[str]:
        left = self._seconds_until(self.total)
        return [f"{hours(left)} left"] if left < math.inf else []

    def _next_evaluation(self) -> list[str]:
        """When it is due; nothing after the last one."""
        due = math.inf if self._due is None else self._due()
        if due > self.total:
            return []
        at = self.steps + math.ceil((due - self.steps) / self._iteration) * self._iteration  # the end of an iteration
        left, name = self._seconds_until(at), "next" if self._evaluation else "first"
        if left == math.inf:
            return [f"{name} at {due:,.0f} steps"]
        return [f"{name} in {hours(left)}" if left >= 1 else f"{name} is due"]

    def _scores(self) -> list[str]:
        scores = []
        if self._return is not None and self._both_sides:
            scores.append(f"{DECIDED}: {100 * self._return:.1f} %")
        elif self._return is not None:
            name = TRAINING if self._stage is None else f"stage {self._stage:.0f}, exploring"
            scores.append(self._score(name, self._return, self._reached))
        if self._success is not None:
            scores.append(f"success {100 * self._success:.1f} %")
        return scores

    def _speed(self) -> list[str]:
        return [f"{self._rate:,.0f} steps/s"] if self._rate else []

    def remark(self, text: str) -> None:
        """A line that belongs to the progress, and stays away with it."""
        if Shown.progress:
            self.message(text)

    def _print_line(self) -> None:
        parts = [f"{self._percent_done()}{_GAP}{self.steps:,} steps", *self._speed(), *self._scores()]
        parts += [*self._time_left(), *([self._evaluation] if self._untold else [])]
        # a narrow dumb terminal gets the parts that fit; files get all of them
        width = self._console.width if self._console.is_terminal else 10_000
        self.remark(pack(parts, width)[0][:width])
        self._line_time, self._unshown, self._untold = self._clock(), False, False

    def _picture(self) -> Group:
        width = self._console.width
        bar = Table.grid(expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        done = _GAP.join([self._percent_done(), *self._time_left()])
        bar.add_row(ProgressBar(1.0, self._share()), done)
        elapsed = f"{hours(self._clock() - self._start)} elapsed"
        pace = [f"{self.steps:,} / {self.total:,} steps", *self._speed(), elapsed]
        room = width - len("^C")  # which the terminal writes behind the last line
        lines = [Text(line) for line in pack(pace, room)]
        evaluation, training = self._courses()
        lines += [Text(line, style=style) for line, style in _below(evaluation, training, room)]
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        return Group(bar, *lines)

    def _courses(self) -> tuple[list[str], list[str]]:
        """The parts of the lines on evaluations and on training: score, sparkline, what else there is to say."""
        blocks = not self._console.options.ascii_only
        low, high = (0.0, 100.0) if self._percent(0.0) is not None else scale((self._evaluated, self._trained))
        evaluation = [self._evaluation] if self._evaluation else []
        if self._due is not None:
            evaluation = evaluation or [f"{EVALUATION}: none yet"]
            evaluation += [*([self._evaluated.text(low, high)] if blocks else []), *self._next_evaluation()]
        training = self._scores()
        if self._due is not None and self._return is not None and blocks:
            training.insert(1, self._trained.text(low, high))
        return evaluation, training
