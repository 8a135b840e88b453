"""``palaestra evaluate``: the scores of trained agents and scripted policies."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from palaestra.train.commands import (
    RUN_HELP,
    EnvOption,
    SearchOption,
    SeedOption,
    SetOption,
    StochasticOption,
    UsageError,
    read_count,
)


def evaluate(
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN...]", help=f"{RUN_HELP} Or random, or expert. Several are compared."),
    ] = None,
    env: EnvOption = None,
    episodes: Annotated[
        int | None,
        typer.Option(parser=read_count, metavar="N", help="How many (default: as many as after training, else 1,000)."),
    ] = None,
    seed: SeedOption = 0,
    stochastic: StochasticOption = False,
    search: SearchOption = None,
    stress: Annotated[
        bool, typer.Option("--stress", help="In changed conditions too: the environment's own, or noise and delays.")
    ] = False,
    positions: Annotated[
        int | None,
        typer.Option(
            parser=read_count, metavar="N", help="In a game for two: judge moves in so many positions by perfect play."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, or a list with several or no RUN.")
    ] = False,
    track: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="With --stress: worst case and mean go there (online, tensorboard, trackio)."
        ),
    ] = None,
    settings: SetOption = None,
) -> None:
    """Measure agents, the random policy or the environment's expert on held-out episodes, or list all runs.

    Several are measured on the same episodes, a row each; without RUN the runs that there are are listed, the newest
    first, with the scores of their final evaluations.

    \b
    palaestra evaluate
    palaestra evaluate latest
    palaestra evaluate latest latest:best expert random
    palaestra evaluate latest --stress
    palaestra evaluate latest:connect-four --search 64
    palaestra evaluate latest:connect-four --positions 10000
    palaestra evaluate latest:cartpole:best
    palaestra evaluate expert --env snake-small
    palaestra evaluate random --env snake --episodes 10000 --json
    """
    if not run:
        asked = (settings, seed, stochastic, search, stress, track, positions)
        if env is not None or episodes is not None or any(asked):
            raise UsageError("which run? Name one, latest, random or expert; palaestra evaluate alone lists the runs")
        _list(as_json)
        return
    if track is not None and not stress:
        raise UsageError("--track tells trackers of a stress test: give --stress too")
    from palaestra.train.players import compare, find_player, find_players

    if stress or positions is not None:
        from palaestra.train.commands.looking.stress_output import print_positions, print_stress

        _check_alone(run, stress, positions, episodes)
        as_trained = not (env or stochastic or search or settings)
        player = find_player(run[0], env, stochastic, settings or (), search)
        if positions is not None:
            print_positions(player, positions, seed, as_json, as_trained)
        else:
            print_stress(player, episodes, seed, as_json, as_trained, track)
        return
    players = find_players(run, env, stochastic, settings or (), search)
    results = compare(players, episodes, seed)
    if as_json:
        plain = [result.as_dict() for result in results]
        print(json.dumps(plain if len(plain) > 1 else plain[0], indent=1))
        return
    from palaestra.train.results.evaluation_report import comparison, report

    print(comparison(players, results) if len(results) > 1 else report(results[0]))


def _check_alone(run: list[str], stress: bool, positions: int | None, episodes: int | None) -> None:
    """Raise a UsageError unless one test of one agent is asked for."""
    test = "--stress" if stress else "--positions"
    if stress and positions is not None:
        raise UsageError("--stress and --positions are two tests: give one of them")
    if len(run) > 1:
        raise UsageError(f"{test} tests one RUN, got {len(run)}")
    if positions is not None and episodes is not None:
        raise UsageError("--positions draws positions, not episodes: leave --episodes out")


def _list(as_json: bool) -> None:
    from palaestra.train.results.run_list import list_runs, print_runs

    print_runs(list_runs(), as_json)
