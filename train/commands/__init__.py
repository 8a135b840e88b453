"""The commands of ``palaestra``, one a file, and the arguments and options that several of them take.

Each file has a function of the command's name, whose signature is the command line and whose docstring is its help;
:mod:`palaestra.train.cli` finds it there. The files import nothing heavy before a command runs.
"""

from __future__ import annotations

from typing import Annotated

import typer

from palaestra.train.formatting import whole_number

ENV_HELP = "Short name (snake-small), id (palaestra/Snake-v0), any Gymnasium id (CartPole-v1), or module:Id-v0."
RUN_HELP = "Run folder, model file, or latest."

EnvArgument = Annotated[str, typer.Argument(metavar="ENV", help=ENV_HELP)]
PlayerArgument = Annotated[str, typer.Argument(metavar="RUN", help=f"{RUN_HELP} Or random, or expert.")]
EnvOption = Annotated[
    str | None, typer.Option("--env", metavar="ENV", help=f"{ENV_HELP} Needed for random and expert.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Agent setting, or env.KEY for the environment; repeatable."),
]
SeedOption = Annotated[
    int, typer.Option("--seed", metavar="N", help="Seed of the episodes; held out from training.", min=0)
]
StochasticOption = Annotated[
    bool, typer.Option("--stochastic", help="Sample the agent's actions instead of taking the most likely.")
]


def read_count(text: object) -> int:
    """A number of steps, episodes, ... from the command line, at least 1."""
    try:
        count = whole_number(str(text))
    except ValueError as error:
        raise typer.BadParameter(f"{text}: {error}") from error
    if count < 1:
        raise typer.BadParameter(f"{text}: must be at least 1")
    return count


class UsageError(ValueError):
    """The command line does not make sense; the message says why."""
