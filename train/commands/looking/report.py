"""``palaestra report``: one page of HTML on a run, or on several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from palaestra.train.commands import UsageError
from palaestra.train.formatting import say

_ONE, _SEVERAL = "report.html in the run's folder", "report.html here"


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, latest, or latest:ENV.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=f"Page to write (default: {_ONE}; of several runs {_SEVERAL})."),
    ] = None,
) -> None:
    """Make a page of a run or of several, in one file that any browser opens without a network.

    It has the verdict, the score beside known policies, the curves, the recorded episode, the returns of single
    episodes with commands that show the worst ones, the stress test if there was one, cost, settings and versions.
    Training writes it at its end.

    \b
    palaestra report latest
    palaestra report latest:cartpole --out cartpole.html
    palaestra report runs/snake-small/ppo/* --out snakes.html
    """
    path = write_reports(runs, out)
    say(f"{path}: {path.stat().st_size / 1e6:.2g} MB")


def write_reports(runs: list[str], out: Path | None = None) -> Path:
    """Make a page of the runs, which are named as on the command line, and return where it is.

    Raises:
        ConfigError, UnknownEnvError: if one of the runs is none.
        PageError: if something else than a page of ours is at ``out``.
        OSError: if the page cannot be written.
    """
    from palaestra.train.report.page import check_page
    from palaestra.train.report.run_report import write_report
    from palaestra.train.runs.finding import find_run

    folders = []
    for name in runs:
        if name.endswith(":best"):
            raise UsageError(f"{name}: a report is of a whole run; leave :best out")
        folders.append(find_run(name))
    path = out or (folders[0].report_file if len(folders) == 1 else Path(folders[0].report_file.name))
    check_page(path)
    write_report(folders, path)
    return path
