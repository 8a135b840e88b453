"""Who plays, by a name on the command line: the agent of a run or of a file, an exported policy, a scripted one.

Nothing heavy is imported before a player is found.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palaestra.train.config.run_config import RunConfig
    from palaestra.train.evaluation.episodes import Evaluation
    from palaestra.train.evaluation.policies import Player
    from palaestra.train.runs.run_folder import RunFolder

SCRIPTED = ("random", "expert")
EXPORTED = ".onnx"  # files that palaestra export writes


def evaluate_player(
    run: str | Path,
    episodes: int | None = None,
    seed: int = 0,
    *,
    env: str | None = None,
    stochastic: bool = False,
    settings: Sequence[str] = (),
) -> Evaluation:
    """Play held-out episodes, as ``palaestra evaluate`` does.

    Args:
        run: a run folder, a model file, "latest", "latest:ENV", "random" or "expert".
        episodes: number of episodes; None for that of the run's final evaluation, or 1,000 without a run.
        seed: seed of the episodes; none of them is seen in training.
        env: the environment, for "random", "expert" and a model file outside a run folder.
        stochastic: sample the agent's actions instead of taking the most likely.
        settings: "env.key=value" for the environment.

    Raises:
        ConfigError: if there is no such run, or a setting is wrong.
    """
    player = find_player(str(run), env, stochastic, settings)
    return _played(player, player.episodes if episodes is None else episodes, seed)


def _played(player: Player, episodes: int, seed: int) -> Evaluation:
    from palaestra.train.evaluation.episodes import evaluate as run_evaluation

    env, kwargs, device = player.env, player.env_kwargs, player.device
    return run_evaluation(env, player.policy, episodes=episodes, seed=seed, device=device, env_kwargs=kwargs)


def compare(players: Sequence[Player], episodes: int | None = None, seed: int = 0) -> list[Evaluation]:
    """The players on as many held-out episodes each, of the same seed; None for the most that one of them asks for."""
    count = max(player.episodes for player in players) if episodes is None else episodes
    return [_played(player, count, seed) for player in players]


def teacher_named(name: str) -> str:
    """The teacher of that name on a command line as a configuration names it: ``expert``, or the path of a file.

    Raises:
        ConfigError, UnknownEnvError: if nothing has that name.
    """
    from palaestra.train.config.schema import ConfigError
    from palaestra.train.runs.finding import find_model

    if name == "random":
        raise ConfigError("--pretrain random: there is nothing to learn from it; expert, a run or FILE.onnx can teach")
    if name == "expert":
        return name
    path = Path(name) if name.endswith(EXPORTED) and not Path(name).is_dir() else find_model(name)
    return str(path.resolve())


def find_players(
    names: Sequence[str], env: str | None, stochastic: bool, settings: Sequence[str], search: int | None = None
) -> list[Player]:
    """:func:`find_player` of each; without ``env`` random and expert play in the environment of the first run."""
    found = {
        place: find_player(name, env, stochastic, settings, search)
        for place, name in enumerate(names)
        if env is not None or name not in SCRIPTED
    }
    if (first := next(iter(found.values()), None)) is None:
        return [find_player(name, env, stochastic, settings, search) for name in names]
    return [found[i] if i in found else _script(name, first.env, first.env_kwargs) for i, name in enumerate(names)]


def _script(name: str, env: str, env_kwargs: dict[str, Any]) -> Player:
    """The random policy or the environment's expert."""
    from palaestra.train.config.run_config import environment
    from palaestra.train.config.schema import ConfigError
    from palaestra.train.evaluation.policies import ExpertPolicy, Player, RandomPolicy

    env_kwargs = environment(env).evaluation_kwargs(env_kwargs)
    if name == "expert" and not environment(env).has("expert", env_kwargs):
        raise ConfigError(f"{env} has no expert: random and runs (latest, a run folder) can play there")
    return Player(env, env_kwargs, RandomPolicy() if name == "random" else ExpertPolicy(), "cpu", name)


def find_player(
    name: str, env: str | None, stochastic: bool, settings: Sequence[str], search: int | None = None
) -> Player:
    """A scripted policy or the agent of a run, with its environment; ``settings`` may change the environment.

    With ``search`` the agent searches before each move, with so many simulations.

    Raises:
        ConfigError: if there is none of that name, or a setting is not the environment's.
        NoSearchError: if it cannot search.
    """
    from palaestra.agents.checkpoints.model_file import read
    from palaestra.envs.core.host import use_available_cores
    from palaestra.train.config import AGENTS, agent_in
    from palaestra.train.config.compatibility import check_forms, space_forms
    from palaestra.train.config.run_config import resolve_config, with_settings
    from palaestra.train.config.schema import ConfigError, env_settings
    from palaestra.train.evaluation.policies import AgentPolicy, Player
    from palaestra.train.runs.finding import find_model
    from palaestra.train.runs.run_folder import RunFolder

    env_settings(settings)
    if search is not None and (name in SCRIPTED or name.endswith(EXPORTED)):
        raise ConfigError(f"--search {search}: a search needs the policy and the values of a run; {name} has none")
    if name in SCRIPTED:
        if env is None:
            raise ConfigError(f"{name} needs --env ENV")
        return _script(name, env, resolve_config(env, settings=settings).env_kwargs)
    if name.endswith(EXPORTED) and not Path(name).is_dir():
        from palaestra.train.export.exported_policy import player_of

        if stochastic:
            raise ConfigError(f"{name} acts without chance: leave --stochastic out")
        return player_of(Path(name), env, settings)
    model_file = find_model(name)
    folder, episodes = RunFolder(model_file.parent), 1000
    config = folder.config()
    if config is None and env is None:
        raise ConfigError(f"{model_file} is not in a run folder: say which environment it plays with --env ENV")
    if config is None or (env is not None and not config.plays_in(env)):
        assert env is not None
        config = resolve_config(env, agent_in(model_file), settings=settings)
    else:
        episodes = _final_episodes(folder, config)
        config = with_settings(replace(config, env_kwargs=config.evaluation_kwargs), settings)
        folder.check_environment(config, _note)
        if model_file == folder.model_file and folder.checkpoints():
            _note(
                f"this run is not finished: its agent has trained for {folder.curves.last_step():,} of "
                f"{config.total_timesteps:,} steps (palaestra train --resume goes on)"
            )
    use_available_cores(config.threads)
    model = read(AGENTS[config.agent], model_file, to_act=True)
    trained = space_forms(model.observation_space, model.action_space)
    check_forms(trained, config.resolved_env, config.env_kwargs)
    if search is None:
        policy = AgentPolicy(model, deterministic=not stochastic, name=str(model_file))
        return Player(config.env, config.evaluation_kwargs, policy, str(model.device), config.agent, episodes)
    from palaestra.train.evaluation.games.searching import SearchPolicy, require_game

    require_game(config.resolved_env, config.evaluation_kwargs, search)
    policy = SearchPolicy(model, search, not stochastic, str(model_file))
    label = f"{config.agent} + search {search:,}"
    return Player(config.env, config.evaluation_kwargs, policy, str(model.device), label, episodes)


def _final_episodes(folder: RunFolder, config: RunConfig) -> int:
    """As many as the run's final evaluation had, or will have."""
    from palaestra.train.config.schema import ConfigError

    with suppress(ConfigError):
        if isinstance(played := folder.evaluation().get("episodes"), int) and played > 0:
            return played
    return config.resolved_env.final_episodes(config.total_timesteps)


def _note(text: str) -> None:
    from palaestra.train.formatting import tell

    tell(f"palaestra: {text}", error=True)
