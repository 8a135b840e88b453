"""``palaestra play``: an environment played with the keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palaestra.train.commands import EnvArgument, SearchOption, SeedOption, SetOption, UsageError
from palaestra.train.players import SCRIPTED, find_player

if TYPE_CHECKING:
    from palaestra.train.evaluation.policies import Player


def play(
    env: EnvArgument,
    versus: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Who plays the same episodes beside you: a run, latest:ENV or expert. In a game for two your opponent:"
            " a run, random, one-ply, two-ply or perfect.",
        ),
    ] = None,
    search: SearchOption = None,
    seed: SeedOption = 0,
    settings: SetOption = None,
) -> None:
    """Play with the keyboard, alone or beside an agent, and see what the best score is.

    \b
    palaestra play snake-small
    palaestra play cartpole --seed 1
    palaestra play snake-small --versus latest
    palaestra play pricing --versus expert
    palaestra play connect-four --versus two-ply
    palaestra play connect-four --versus latest --search 64
    """
    from palaestra.train.config.run_config import environment
    from palaestra.train.evaluation.episodes import EVALUATION_SEEDS
    from palaestra.train.play import game

    if search is not None and (versus is None or not environment(env).is_game()):
        raise UsageError(f"--search {search} is of a run that plays against you in a game for two: --versus RUN")
    if versus is not None and environment(env).is_game():
        settings, versus = [*(settings or ()), f"env.opponent={_find_opponent(versus, env, search)}"], None
    player = find_player("random", env, False, settings or ())  # for the environment's arguments
    rival = None if versus is None else _find_rival(versus, env, settings or ())
    given = [setting.partition("=")[0].strip().removeprefix("env.") for setting in settings or ()]
    played, reference = game.play(env, (rival or player).env_kwargs, EVALUATION_SEEDS + seed, rival, given)
    if played:
        print(game.table(played, reference, rival.label if rival else None))


def _find_opponent(name: str, env: str, search: int | None) -> str:
    """The setting ``opponent`` of a game that lets that player play it, with so many simulations before each move.

    Raises:
        ConfigError: if it is a run that plays another game.
        UsageError: if it cannot search.
    """
    from palaestra.envs.wrappers.two_players.opponents import SCRIPTED_OPPONENTS

    scripted = name == "expert" or all(part.strip() in SCRIPTED_OPPONENTS for part in name.split("+"))
    if search is not None and scripted:
        raise UsageError(f"--search {search}: a search needs the policy and the values of a run; {name} has none")
    if name == "expert":
        return "perfect"
    if all(part.strip() in SCRIPTED_OPPONENTS for part in name.split("+")):
        return name
    return f"{_model_of(name, env)}{'' if search is None else f'@{search}'}"


def _model_of(name: str, env: str) -> Path:
    """The model file of a run.

    Raises:
        ConfigError: if there is none, or its agent plays in another environment.
    """
    from palaestra.train.config.schema import ConfigError
    from palaestra.train.runs.finding import find_model
    from palaestra.train.runs.run_folder import RunFolder

    model_file = find_model(name)
    config = RunFolder(model_file.parent).config()
    if config is not None and not config.plays_in(env):
        way_out = f" (--versus latest:{env} is the newest that does)" if name == "latest" else ""
        raise ConfigError(f"--versus {name}: this agent plays {config.env}, not {env}{way_out}")
    return model_file


def _find_rival(name: str, env: str, settings: Sequence[str]) -> Player:
    """The agent that plays beside the user.

    Raises:
        ConfigError: if it is no run or plays in another environment.
    """
    if name not in SCRIPTED:
        _model_of(name, env)
    return find_player(name, env, False, settings)
