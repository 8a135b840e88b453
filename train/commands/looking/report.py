"""``palaestra report``: one page of HTML on a run, or on several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import UsageError
from palaestra.train.formatting import say, tell

if TYPE_CHECKING:
    from palaestra.train.runs.run_folder import RunFolder

_ONE, _SEVERAL = "report.html in the run's folder", "report.html here"


def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders, latest, or latest:ENV.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help=f"Page to write (default: {_ONE}; of several runs {_SEVERAL})."),
    ] = None,
    no_player: Annotated[
        bool, typer.Option("--no-player", help="Leave out the agent that plays in the page of one run.")
    ] = False,
) -> None:
    """Make a page of a run or of several, in one file that any browser opens without a network.

    It has the verdict, the score beside known policies, the curves, the recorded episode, the returns of single
    episodes with commands that show the worst ones, the stress test if there was one, cost, settings and versions.
    Training writes it at its end, without the agent that plays in it (snake, cartpole, reach and pricing) or against
    you (connect-four).

    \b
    palaestra report latest
    palaestra report latest:cartpole --out cartpole.html
    palaestra report runs/snake-small/ppo/* --out snakes.html
    """
    path = write_reports(runs, out, player=not no_player)
    say(f"{path}: {path.stat().st_size / 1e6:.2g} MB")


def write_reports(runs: list[str], out: Path | None = None, player: bool = False) -> Path:
    """Make a page of the runs, which are named as on the command line, and return where it is.

    With ``player`` the agent of a single run plays in it; where a page cannot play it, a line says why.

    Raises:
        ConfigError, UnknownEnvError: if one of the runs is none.
        PageError: if something else than a page of ours is at ``out``.
        OSError: if the page cannot be written.
    """
    from palaestra.train.report.html_page import check_page
    from palaestra.train.report.run_report import write_report
    from palaestra.train.runs.finding import find_run

    folders = []
    for name in runs:
        if name.endswith(":best"):
            raise UsageError(f"{name}: a report is of a whole run; leave :best out")
        folders.append(find_run(name))
    path = out or (folders[0].report_file if len(folders) == 1 else Path(folders[0].report_file.name))
    check_page(path)
    write_report(folders, path, _player(folders[0]) if player and len(folders) == 1 else None)
    return path


def _player(folder: RunFolder) -> dict[str, Any] | None:
    from palaestra.agents.export.policy_network import ExportError
    from palaestra.train.export.write import player_of
    from palaestra.train.players import find_player

    if not folder.model_file.is_file():
        return None  # which the page tells
    try:
        return player_of(find_player(str(folder.path), None, False, ()), folder)
    except ExportError as error:
        tell(f"palaestra: the agent does not play in the page: {error}")
        return None


def report_after_training(folder: RunFolder) -> Path | None:
    """Write the run's page and return where it is; whatever goes wrong is told in a line, for the run is whole."""
    try:
        from palaestra.train.report.run_report import write_report

        write_report([folder], folder.report_file)
    except KeyboardInterrupt:
        tell("palaestra: the report was left out; palaestra report RUN makes it", error=True)
        return None
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        tell(f"palaestra: the report could not be written ({reason}); palaestra report RUN makes it", error=True)
        return None
    return folder.report_file
