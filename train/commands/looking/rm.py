"""``palaestra rm``: deletes runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from palaestra.train.commands import UsageError


def rm(
    run: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run folders or the starts of their names, latest, or latest:ENV."),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs with everything in their folders, after a question; one that is running is left alone.

    \b
    palaestra rm latest
    palaestra rm 20261129-1218 20261129-1304 --yes
    """
    from palaestra.train.formatting import printable
    from palaestra.train.results.removal import contents, removable, remove

    folders = list(dict.fromkeys(removable(name) for name in run))
    if not yes and not sys.stdin.isatty():
        raise UsageError("rm asks first, and nobody can answer here: --yes deletes without a question")
    for folder in folders:
        told, name = contents(folder), printable(str(folder.path))
        if yes or typer.confirm(f"Delete {name} ({told})?"):
            remove(folder)
            print(f"{name}: deleted ({told})")
        else:
            print(f"{name}: kept")
