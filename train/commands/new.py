"""``palaestra new``: the package of a new environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the package and the environment.")],
    template: Annotated[
        str, typer.Option(metavar="NAME", help="What to start from: minimal, grid or continuous.")
    ] = "minimal",
    parent: Annotated[Path, typer.Option("--dir", metavar="PARENT", help="The folder to write it in.")] = Path("."),
) -> None:
    """Write an installable package with a new environment, to be changed into your own.

    minimal is the shortest one; grid has walls, an action mask and an exact optimum; continuous has forces to choose.

    \b
    palaestra new my_env
    palaestra new my_env --template grid
    palaestra new ad-bidding --dir ~/projects
    """
    from palaestra.train.scaffold.scaffold import new_package, next_commands

    folder = new_package(name, template, parent.expanduser())
    print(f"wrote {folder}: the environment is in {folder / folder.name / 'env.py'}. Next:\n")
    print("\n".join(f"  {command}" for command in next_commands(folder.name, template, str(folder))))
