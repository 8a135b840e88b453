"""``palaestra record``: episodes of a policy as a data set that others, and ``--dataset``, learn from."""

from __future__ import annotations

from typing import Annotated

import typer

from palaestra.train.commands import EnvOption, PlayerArgument, SetOption, StochasticOption, read_count, read_index


def record(
    run: PlayerArgument,
    minari: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the new Minari data set, such as snake/expert-v0.")
    ],
    env: EnvOption = None,
    episodes: Annotated[int, typer.Option(parser=read_count, metavar="N", help="How many.")] = 1000,
    seed: Annotated[
        int, typer.Option(parser=read_index, metavar="N", help="Of the episodes; evaluations never have them.")
    ] = 0,
    stochastic: StochasticOption = False,
    settings: SetOption = None,
) -> None:
    """Write whole episodes of an agent, an expert or an exported policy as a Minari data set.

    It lies below ~/.minari/datasets or MINARI_DATASETS_PATH, where other programs find it by its name.

    \b
    palaestra record expert --env pricing --minari pricing/expert-v0
    palaestra record latest --minari snake/ppo-v0 --episodes 200
    palaestra train pricing --agent bc --dataset pricing/expert-v0
    """
    from palaestra.train.config.run_config import environment
    from palaestra.train.datasets import minari_files
    from palaestra.train.datasets.played import played_episodes
    from palaestra.train.formatting import known, say
    from palaestra.train.players import find_player

    minari_files.check_new(minari)
    player = find_player(run, env, stochastic, settings or ())
    found = environment(player.env)
    played = [*played_episodes(player, episodes, seed, found.open)]
    origin = minari_files.Origin(found, player.env_kwargs, player.label if run != "expert" else "expert", seed)
    folder = minari_files.write(minari, played, origin)
    steps, mean = sum(len(each.rewards) for each in played), sum(each.rewards.sum() for each in played) / len(played)
    say(f"{minari}: {len(played):,} episodes, {steps:,} steps, mean return {known(float(mean))}; {folder}")
