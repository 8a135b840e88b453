"""Progress of a piece of work after training, such as the final evaluation: one line while it lasts.

On a terminal it is a bar that goes away at the end; anywhere else a line every ``LINE_INTERVAL`` seconds, so that what
is done sooner prints nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from palaestra.train.formatting import hours
from palaestra.train.interruptions import Shown

LINE_INTERVAL = 5.0  # s between plain lines
REDRAWS_PER_SECOND = 2.0


class Stage:
    """Shows what is being done, how much of it is done, and the time left; to be entered with ``with``."""

    def __init__(self, what: str, console: Console, clock: Callable[[], float], at_most: bool = False) -> None:
        """Show nothing yet.

        Args:
            what: is done, in a few words.
            console: where to.
            clock: in seconds.
            at_most: it may end at any share of what is expected.
        """
        self._what, self._console, self._clock = what, console, clock
        self._at_most = "at most " if at_most else ""
        self._start = self._line_time = clock()
        self._share = 0.0
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if Shown.progress and self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                get_renderable=self._picture,
                console=self._console,
                refresh_per_second=REDRAWS_PER_SECOND,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, share: float) -> None:
        """So much of it is done, 0 to 1."""
        self._share = max(self._share, min(share, 1.0))
        if Shown.progress and self._live is None and self._clock() - self._line_time >= LINE_INTERVAL:
            self._line_time = self._clock()
            self._console.print(f"{self._done()}   {self._what}", markup=False, soft_wrap=True)

    def _done(self) -> str:
        left = (self._clock() - self._start) * (1 - self._share) / self._share if self._share else None
        return f"{100 * self._share:4.0f}%" + ("" if left is None else f"   {self._at_most}{hours(left)} left")

    def _picture(self) -> Group:
        bar = Table.grid(expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right", no_wrap=True)
        bar.add_row(ProgressBar(1.0, self._share), self._done())
        # the last line is a short one: where the terminal's ^C does not fit behind it, the cursor would be a line lower
        return Group(bar, Text(self._what, no_wrap=True, overflow="ellipsis"), "Ctrl-C skips it")
