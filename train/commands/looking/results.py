"""``palaestra results``: every environment trained with every agent, and the table of results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from palaestra.train.commands import ENV_HELP, read_count


def results(
    envs: Annotated[list[str] | None, typer.Argument(metavar="ENV...", help=f"{ENV_HELP} All by default.")] = None,
    agents: Annotated[str, typer.Option(metavar="A,B,…", help="Which agents, with commas.")] = "ppo,dqn,pqn",
    seeds: Annotated[int, typer.Option(parser=read_count, metavar="N", help="How many: 0, 1, …")] = 3,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Holds the runs: DIR/ENV/AGENT/sSEED.")] = Path(
        "runs/results"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list with all numbers.")] = False,
    readme: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Put the table between the results:begin and results:end markers of FILE."),
    ] = None,
    jobs: Annotated[
        int, typer.Option(parser=read_count, metavar="N", help="Runs at a time, which share the cores.")
    ] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything again.")] = False,
) -> None:
    """Train every environment with every agent that has a preset for it, and print the table of results.

    Every run is a process of its own, one after another unless --jobs says otherwise; the whole grid takes hours.
    Finished runs with the same settings are kept, so an interrupted grid goes on where it was. The exit status is 1 if
    a run failed.

    \b
    palaestra results cartpole
    palaestra results snake-small pricing --agents ppo,dqn --seeds 1
    palaestra results --jobs 2 --readme train/RESULTS.md
    """
    from palaestra.train.markdown import with_section, write_section
    from palaestra.train.results.grid import grid, run_grid
    from palaestra.train.results.table import collect, results_table

    planned = grid(envs or (), agents.split(","), seeds, runs)
    if readme is not None:
        with_section(readme, "results", "")  # find out now, not after hours
    failures = run_grid(planned, fresh, jobs)
    rows = collect(planned, failures)
    if readme is not None and not failures:  # a README gets no table with holes
        write_section(readme, "results", results_table(rows))
    if as_json:
        print(json.dumps(rows, indent=1))
    elif readme is None or failures:
        print(results_table(rows))
    if failures:
        raise typer.Exit(1)
