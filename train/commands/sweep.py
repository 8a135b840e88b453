"""``palaestra sweep``: a search for better settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from palaestra.train.commands import EnvArgument, SetOption, read_count, read_index


def sweep(
    env: EnvArgument,
    trials: Annotated[
        int,
        typer.Option(
            parser=read_count, metavar="N", help="How many in all, those of other workers and earlier calls too."
        ),
    ],
    agent: Annotated[str | None, typer.Option(metavar="NAME", help="ppo by default; palaestra envs lists all.")] = None,
    total_timesteps: Annotated[
        int | None, typer.Option(parser=read_count, metavar="N", help="Environment steps of each trial.")
    ] = None,
    num_envs: Annotated[int | None, typer.Option(parser=read_count, metavar="N", help="Parallel environments.")] = None,
    jobs: Annotated[
        int, typer.Option(parser=read_count, metavar="N", help="Trials at a time, which share the cores.")
    ] = 1,
    seed: Annotated[
        int, typer.Option(parser=read_index, metavar="N", help="Of everything random; each trial trains with its own.")
    ] = 0,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="DIR", help="Of the sweep (default: runs/ENV/sweeps/AGENT).")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Database that workers share (default: SQLite in the folder).")
    ] = None,
    settings: SetOption = None,
    vary: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=…", help="Vary only these: KEY=LOW..HIGH or KEY=A,B,C; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with all numbers.")] = False,
) -> None:
    """Search for better settings than the preset's, and find out whether they are better (needs palaestra[sweep]).

    The same command goes on with a sweep, and helps with it: start it in several terminals, or on several machines with
    one --storage. The exit status is 1 if no trial was any good.

    \b
    palaestra sweep cartpole --trials 40 --total-timesteps 300k
    palaestra sweep snake-small --trials 20 --vary learning_rate=1e-4..1e-2 --vary n_steps=16,32,64
    palaestra sweep pricing --trials 100 --jobs 4 --storage postgresql://user@host/sweeps
    """
    from palaestra.train.config.schema import ConfigError
    from palaestra.train.sweep import search

    options: dict[str, Any] = {"total_timesteps": total_timesteps, "num_envs": num_envs, "seed": seed}
    given = (env, agent, settings or (), vary or ())
    try:
        space = search.plan(*given, **options)
    except ConfigError:  # as a file may be elsewhere that was there when the sweep began
        again = search.plan_again(*given, folder, storage, **options)
        if again is None:
            raise
        space = again
    if not search.sweep(space, trials, jobs, folder, storage, as_json, settings=settings or ()):
        raise typer.Exit(1)
