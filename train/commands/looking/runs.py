"""``palaestra runs``: the runs that there are."""

from __future__ import annotations

from typing import Annotated

import typer

from palaestra.train.commands import ENV_HELP, UsageError, read_count, read_index


def runs(
    env: Annotated[str | None, typer.Option("--env", metavar="ENV", help=f"Runs of that one. {ENV_HELP}")] = None,
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="Runs of that agent.")] = None,
    seed: Annotated[int | None, typer.Option(parser=read_index, metavar="N", help="Runs of that seed.")] = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="Runs that are finished, running, interrupted or broken.")
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="COLUMN",
            help="began (newest first), score, percent, steps (best or most first), env, agent, seed, state.",
        ),
    ] = "began",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[
        int | None, typer.Option(parser=read_count, metavar="N", help="That many (on a terminal 20, else all).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """List the runs below runs/, the newest first, with their scores and what state they are in.

    With an interrupted one palaestra train --resume RUN goes on; the files of a broken one are damaged.

    \b
    palaestra runs
    palaestra runs --env snake-small --sort score
    palaestra runs --state interrupted
    palaestra runs --agent dqn --seed 0 --json
    """
    from palaestra.train.results.run_list import ORDERS, STATES, chosen, list_runs, print_runs

    column = {"percent": "percent_of_optimal"}.get(sort, sort)
    if column not in ORDERS:
        raise UsageError(f"--sort {sort}: expected one of {', '.join(ORDERS).replace('_of_optimal', '')}")
    if state is not None and state not in STATES:
        raise UsageError(f"--state {state}: expected one of {', '.join(STATES)}")
    rows = list_runs()
    kept = chosen(rows, env, agent, seed, state, column, reverse)
    if rows and not kept and not as_json:
        print(f"none of the {len(rows):,} runs below runs/ is like that")
    else:
        print_runs(kept, as_json, limit)
