"""Progress of a training run on the screen: a live display on a terminal, plain lines anywhere else.

1. It is one more output of SB3's ``Logger`` and reads ``rollout/ep_rew_mean``, ``rollout/success_rate``, ``time/fps``,
   ``time/total_timesteps``, ``eval/mean_reward`` and ``eval/percent_of_optimal``.
2. The live display has one line for the bar, then as many as the terminal's width asks for; rich redraws it twice a
   second from the last numbers, at a quarter of a millisecond each (measured).
3. Plain lines come at most every ``LINE_INTERVAL`` seconds, and the last one always. They serve pipes, log files and
   terminals that cannot move the cursor (``TERM=dumb``).
4. It is a context manager: on the way out, by Ctrl-C or an error too, the terminal is as it was.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
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
    ) -> None:
        """Show nothing yet.

        Args:
            percent_of_optimal: of a mean return, e.g. ``Reference.percent_of_optimal``.
            console: where to; standard output by default.
            clock: in seconds.
        """
        self._percent_of_optimal = percent_of_optimal
        output = cast(TextIO, LastingOutput(sys.stdout, go_on_without))
        self._console = console or Screen(file=output, highlight=False)
        self._clock = clock
        self._live: Live | None = None
        self._closed = False
        self._start = self._row_time = clock()
        self._line_time = -math.inf
        self._unshown = False  # the newest row has not been printed yet
        self.steps, self.total, self.seconds = 0, 1, math.inf
        self._rate: float | None = None  # steps/s
        self._return: float | None = None
        self._success: float | None = None  # 0 … 1
        self._evaluation = ""

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
        self._row_time = self._clock()
        self.steps = int(key_values.get("time/total_timesteps", step))
        self._rate = _number(key_values, "time/fps") or self._rate
        if "rollout/ep_rew_mean" in key_values:
            self._return = _number(key_values, "rollout/ep_rew_mean")
        if "rollout/success_rate" in key_values:
            self._success = _number(key_values, "rollout/success_rate")
        evaluated = _number(key_values, "eval/mean_reward")
        if evaluated is not None:
            self._evaluation = self._score(
                "evaluation, greedy", evaluated, _number(key_values, "eval/percent_of_optimal")
            )
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

    def _score(self, name: str, mean: float, percent: float | None) -> str:
        if percent is None and self._percent_of_optimal is not None:
            percent = self._percent_of_optimal(mean)
        return f"{name}: {mean:,.2f}" + ("" if percent is None else f" ({percent:z.1f} %)")

    def _percent_done(self) -> str:
        return f"{int(100 * self._share() + 1e-9):4d}%"  # 100 · 0.29 is 28.999…

    def _share(self) -> float:
        """0 … 1 of the steps or of the time, whichever ends first."""
        return min(1.0, max(self.steps / self.total, (self._clock() - self._start) / max(self.seconds, 1e-9)))

    def _time_left(self) -> list[str]:
        left = self._start + self.seconds - self._clock()
        if self._rate:
            left = min(left, (self.total - self.steps) / self._rate - (self._clock() - self._row_time))
        return [f"{hours(left)} left"] if left < math.inf else []

    def _scores(self) -> list[str]:
        scores = []
        if self._return is not None:
            percent = self._percent_of_optimal(self._return) if self._percent_of_optimal else None
            scores.append(self._score("training, exploring", self._return, percent))
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
        parts += [*self._time_left(), *([self._evaluation] if self._evaluation else [])]
        # a narrow dumb terminal gets the parts that fit; files get all of them
        width = self._console.width if self._console.is_terminal else 10_000
        self.remark(pack(parts, width)[0][:width])
        self._line_time, self._unshown = self._clock(), False

    def _picture(self) -> Group:
        width = self._console.width
        bar = Table.grid(expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        done = _GAP.join([self._percent_done(), *self._time_left()])
        bar.add_row(ProgressBar(1.0, self._share()), done)
        elapsed = f"{hours(self._clock() - self._start)} elapsed"
        pace = [f"{self.steps:,} / {self.total:,} steps", *self._speed(), elapsed]
        scores = [*self._scores(), *([self._evaluation] if self._evaluation else [])]
        room = width - len("^C")  # which the terminal writes behind the last line
        lines = pack(pace, room) + pack(scores, room)
        return Group(bar, *(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))
