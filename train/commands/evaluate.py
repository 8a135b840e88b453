"""``palaestra evaluate``: the score of a trained agent or a scripted policy, and finding one by its name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import (
    RUN_HELP,
    EnvOption,
    SeedOption,
    SetOption,
    StochasticOption,
    UsageError,
    read_count,
)

if TYPE_CHECKING:
    from palaestra.train.config.run_config import RunConfig
    from palaestra.train.evaluation.episodes import Evaluation
    from palaestra.train.evaluation.policies import Player
    from palaestra.train.runs.run_folder import RunFolder

SCRIPTED = ("random", "expert")
EXPORTED = ".onnx"  # files that palaestra export writes
LONGEST_VALUE = 20  # letters of a setting in a table


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
    stress: Annotated[
        bool, typer.Option("--stress", help="In changed conditions too: the environment's own, or noise and delays.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, or a list with several or no RUN.")
    ] = False,
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
    palaestra evaluate latest:cartpole:best
    palaestra evaluate expert --env snake-small
    palaestra evaluate random --env snake --episodes 10000 --json
    """
    if not run:
        if env is not None or episodes is not None or settings or seed or stochastic or stress:
            raise UsageError("which run? Name one, latest, random or expert; palaestra evaluate alone lists the runs")
        _list(as_json)
        return
    if stress and len(run) > 1:
        raise UsageError(f"--stress tests one RUN, got {len(run)}")
    if stress:
        from palaestra.train.commands.looking.stress_output import print_stress

        player, as_trained = find_player(run[0], env, stochastic, settings or ()), not (env or stochastic or settings)
        print_stress(player, episodes, seed, as_json, lambda of: f"{_run_of(of)} on {_env_of(of)}", as_trained)
    elif len(run) == 1:
        result = evaluate_player(run[0], episodes, seed, env=env, stochastic=stochastic, settings=settings or ())
        print(json.dumps(result.as_dict(), indent=1) if as_json else report(result))
    else:
        players = find_players(run, env, stochastic, settings or ())
        results = compare(players, episodes, seed)
        plain = [result.as_dict() for result in results]
        print(json.dumps(plain, indent=1) if as_json else comparison(players, results))


def _list(as_json: bool) -> None:
    from palaestra.train.results.run_list import list_runs, print_runs

    print_runs(list_runs(), as_json)


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


def find_players(names: Sequence[str], env: str | None, stochastic: bool, settings: Sequence[str]) -> list[Player]:
    """:func:`find_player` of each; without ``env`` random and expert play in the environment of the first run."""
    found = {
        place: find_player(name, env, stochastic, settings)
        for place, name in enumerate(names)
        if env is not None or name not in SCRIPTED
    }
    if (first := next(iter(found.values()), None)) is None:
        return [find_player(name, env, stochastic, settings) for name in names]
    return [found[i] if i in found else _script(name, first.env, first.env_kwargs) for i, name in enumerate(names)]


def _script(name: str, env: str, env_kwargs: dict[str, Any]) -> Player:
    """The random policy or the environment's expert."""
    from palaestra.train.config.run_config import environment
    from palaestra.train.config.schema import ConfigError
    from palaestra.train.evaluation.policies import ExpertPolicy, Player, RandomPolicy

    if name == "expert" and not environment(env).has("expert", env_kwargs):
        raise ConfigError(f"{env} has no expert")
    return Player(env, env_kwargs, RandomPolicy() if name == "random" else ExpertPolicy(), "cpu", name)


def find_player(name: str, env: str | None, stochastic: bool, settings: Sequence[str]) -> Player:
    """A scripted policy or the agent of a run, with its environment; ``settings`` may change the environment.

    Raises:
        ConfigError: if there is none of that name, or a setting is not the environment's.
    """
    from palaestra.agents.checkpoints.model_file import read
    from palaestra.envs.core.host import use_available_cores
    from palaestra.train.config.compatibility import AGENTS, check_forms, space_forms
    from palaestra.train.config.run_config import resolve_config, with_settings
    from palaestra.train.config.schema import ConfigError, env_settings
    from palaestra.train.evaluation.policies import AgentPolicy, Player
    from palaestra.train.runs.finding import find_model
    from palaestra.train.runs.run_folder import RunFolder

    env_settings(settings)
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
        config = resolve_config(env, _agent_in(model_file), settings=settings)
    else:
        config, episodes = with_settings(config, settings), _final_episodes(folder, config)
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
    policy = AgentPolicy(model, deterministic=not stochastic, name=str(model_file))
    return Player(config.env, config.env_kwargs, policy, str(model.device), config.agent, episodes)


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


def _agent_in(model_file: Path) -> str:
    from palaestra.agents.checkpoints.model_file import agent_of
    from palaestra.train.config.compatibility import AGENTS
    from palaestra.train.config.schema import require_choice

    names = {cls.__name__: name for name, cls in AGENTS.items()}
    found = agent_of(model_file)
    require_choice(found, names, f"agent in {model_file}:")
    return names[found]


def report(result: Evaluation) -> str:
    """An evaluation for people to read: what it means in a sentence, then a table."""
    from palaestra.train.formatting import NORMALISED, SCORES, figure_label, fitted, known, terminal_width

    width = terminal_width(sys.stdout)
    half = (result.ci_high - result.ci_low) / 2
    rows = [("mean return", known(result.mean, half))]
    rows += [("  95 % interval", f"{known(result.ci_low, half)} to {known(result.ci_high, half)}")]
    if result.success_rate is not None:
        rows.append(("successes", f"{100 * result.success_rate:.1f} %"))
        if (low := result.success_ci_low) is not None and (high := result.success_ci_high) is not None:
            rows.append(("  95 % interval", f"{100 * low:.1f} to {100 * high:.1f} %"))
    rows += [("middle half (IQM)", known(result.iqm, half)), ("deviation", known(result.std, half))]
    rows.append(("episode length", f"{known(result.mean_length)} steps"))
    for name, value in result.reference.items():
        if value is not None:
            rows.append((SCORES[name], known(value)))
    if result.percent_of_optimal is not None:
        rows.append((NORMALISED, f"{result.percent_of_optimal:z.1f} %"))
    for name, value in result.more.items():
        label, unit = figure_label(name)
        rows.append((label, known(value) + unit))
    column = max(len(label) for label, _ in rows)
    lines = [fitted(sentence(result), width)]
    lines += [f"  {label:<{column}}  {value}" for label, value in rows]
    if result.cut is not None:
        lines.append(fitted(result.cut, width))
    return "\n".join(lines)


def comparison(players: Sequence[Player], results: Sequence[Evaluation]) -> str:
    """Several evaluations for people to read, a row each; the environments are told where they differ."""
    from palaestra.train.formatting import NORMALISED, columns, fitted, known, terminal_width

    width, rows = terminal_width(sys.stdout), []
    environments, alike = _environments(players)
    for environment, result in zip(environments, results, strict=True):
        half = (result.ci_high - result.ci_low) / 2
        exact, share, successes = "exact_mean" in result.more, result.percent_of_optimal, result.success_rate
        rows.append(
            (
                environment,
                known(result.score, 0.0 if exact else half),
                "exact" if exact else f"{known(result.ci_low, half)} to {known(result.ci_high, half)}",
                "–" if share is None else f"{share:z.1f} %",
                "–" if successes is None else f"{100 * successes:.1f} %",
                _run_of(result),
            )
        )
    heads = ("environment", "score", "95 % interval", NORMALISED, "successes", "run")
    told = [i for i in range(len(heads)) if i in (1, 2, 5) or any(row[i] != "–" for row in rows)]
    if alike:
        told.remove(0)
    lines = columns([heads[i] for i in told], [[row[i] for i in told] for row in rows], width)
    where = f" on {rows[0][0]}, the same for all" if alike else "; the environments differ"
    first = f"mean returns of {_episodes_of(results[0])}{where}"
    cut = {result.cut: None for result in results if result.cut is not None}
    return "\n".join([fitted(first, width), *lines, *(fitted(text, width) for text in cut)])


def _environments(players: Sequence[Player]) -> tuple[list[str], bool]:
    """Each one's environment with the settings that not all have who play in it, and whether there is one only."""
    from palaestra.envs.core.user_code import one_line
    from palaestra.envs.registry import resolve

    places, missing, texts = [(resolve(player.env), player.env_kwargs) for player in players], object(), []
    for env, settings in places:
        others = [kwargs for other, kwargs in places if other == env]
        own = [(k, one_line(v)) for k, v in settings.items() if any(kw.get(k, missing) != v for kw in others)]
        texts.append(" ".join([env.short_name, *(f"{k}={v if len(v) <= LONGEST_VALUE else '…'}" for k, v in own)]))
    return texts, all(place == places[0] for place in places)


def _env_of(result: Evaluation) -> str:
    from palaestra.envs.registry import resolve

    return resolve(result.env).short_name


def _run_of(result: Evaluation) -> str:
    """The run's folder where its latest weights were measured."""
    from palaestra.train.runs.run_folder import RunFolder

    file = Path(result.run)
    return str(file.parent) if file == RunFolder(file.parent).model_file else result.run


def _episodes_of(result: Evaluation) -> str:
    number = "1 held-out episode" if result.episodes == 1 else f"{result.episodes:,} held-out episodes"
    return f"{number}, seed {result.seed}"


def sentence(result: Evaluation) -> str:
    """What the score means, with one percentage where there is something to compare with."""
    from palaestra.train.formatting import known

    half = 0.0 if "exact_mean" in result.more else (result.ci_high - result.ci_low) / 2
    verb = "earns" if "best_fixed_mean" in result.more else "scores"
    start = f"{_run_of(result)} {verb} {known(result.score, half)} an episode on {_env_of(result)}"
    end = f" ({_episodes_of(result)})"
    if fixed := result.more.get("best_fixed_mean"):
        more = 100 * (result.score / fixed - 1)
        return f"{start}, {abs(more):.1f} % {'more' if more >= 0 else 'less'} than the best fixed price{end}"
    if (share := result.percent_of_optimal) is not None:
        return f"{start}, {share:z.1f} % of the way from random play to the best known{end}"
    return start + end
