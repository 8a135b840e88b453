"""``palaestra evaluate``: the score of a trained agent or a scripted policy, and finding one by its name."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palaestra.train.commands import EnvOption, PlayerArgument, SeedOption, SetOption, StochasticOption, read_count

if TYPE_CHECKING:
    from palaestra.train.evaluation.episodes import Evaluation
    from palaestra.train.evaluation.policies import Player

SCRIPTED = ("random", "expert")


def evaluate(
    run: PlayerArgument,
    env: EnvOption = None,
    episodes: Annotated[int, typer.Option(parser=read_count, metavar="N", help="How many.")] = 1000,
    seed: SeedOption = 0,
    stochastic: StochasticOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    settings: SetOption = None,
) -> None:
    """Measure a trained agent, the random policy or the environment's expert on held-out episodes.

    \b
    palaestra evaluate latest
    palaestra evaluate expert --env snake-small
    palaestra evaluate random --env snake --episodes 10000 --json
    """
    result = evaluate_player(run, episodes, seed, env=env, stochastic=stochastic, settings=settings or ())
    print(json.dumps(result.as_dict(), indent=1) if as_json else report(result))


def evaluate_player(
    run: str | Path,
    episodes: int = 1000,
    seed: int = 0,
    *,
    env: str | None = None,
    stochastic: bool = False,
    settings: Sequence[str] = (),
) -> Evaluation:
    """Play held-out episodes, as ``palaestra evaluate`` does.

    Args:
        run: a run folder, a model file, "latest", "random" or "expert".
        episodes: number of episodes.
        seed: seed of the episodes; none of them is seen in training.
        env: the environment, for "random", "expert" and a model file outside a run folder.
        stochastic: sample the agent's actions instead of taking the most likely.
        settings: "env.key=value" for the environment.

    Raises:
        ConfigError: if there is no such run, or a setting is wrong.
    """
    from palaestra.train.evaluation.episodes import evaluate as run_evaluation

    player = find_player(str(run), env, stochastic, settings)
    return run_evaluation(
        player.env, player.policy, episodes=episodes, seed=seed, device=player.device, env_kwargs=player.env_kwargs
    )


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
    from palaestra.train.evaluation.policies import AgentPolicy, ExpertPolicy, Player, RandomPolicy
    from palaestra.train.runs.run_folder import RunFolder, find_model

    env_settings(settings)
    if name in SCRIPTED:
        if env is None:
            raise ConfigError(f"{name} needs --env ENV")
        played = resolve_config(env, settings=settings)
        if name == "expert" and not played.resolved_env.has("expert", played.env_kwargs):
            raise ConfigError(f"{env} has no expert")
        return Player(env, played.env_kwargs, RandomPolicy() if name == "random" else ExpertPolicy(), "cpu", name)
    model_file = find_model(name)
    folder = RunFolder(model_file.parent)
    config = folder.config()
    if config is None and env is None:
        raise ConfigError(f"{model_file} is not in a run folder: say which environment it plays with --env ENV")
    if config is None or (env is not None and not config.plays_in(env)):
        assert env is not None
        config = resolve_config(env, _agent_in(model_file), settings=settings)
    else:
        config = with_settings(config, settings)
        folder.check_environment(config, _note)
    use_available_cores()
    model = read(AGENTS[config.agent], model_file, to_act=True)
    trained = space_forms(model.observation_space, model.action_space)
    check_forms(trained, config.resolved_env, config.env_kwargs)
    policy = AgentPolicy(model, deterministic=not stochastic, name=str(model_file))
    return Player(config.env, config.env_kwargs, policy, str(model.device), config.agent)


def _note(text: str) -> None:
    print(f"palaestra: {text}", file=sys.stderr)


def _agent_in(model_file: Path) -> str:
    from palaestra.agents.checkpoints.model_file import agent_of
    from palaestra.train.config.compatibility import AGENTS
    from palaestra.train.config.schema import require_choice

    names = {cls.__name__: name for name, cls in AGENTS.items()}
    found = agent_of(model_file)
    require_choice(found, names, f"agent in {model_file}:")
    return names[found]


def report(result: Evaluation) -> str:
    """An evaluation for people to read."""
    lines = [
        f"{result.run} on {result.env}, {result.episodes:,} held-out episodes (seed {result.seed})",
        f"  mean return    {result.mean:.3f}  (95% interval {result.ci_low:.3f} to {result.ci_high:.3f})",
        f"  IQM            {result.iqm:.3f}",
        f"  deviation      {result.std:.3f}",
        f"  mean length    {result.mean_length:.1f} steps",
    ]
    if result.cut is not None:
        lines.append(f"  cut            {result.cut}")
    if result.success_rate is not None:
        lines.append(f"  success rate   {100 * result.success_rate:.1f}%")
    if result.ratio_to_optimal_percent is not None:
        lines.append(f"  of the optimum {result.ratio_to_optimal_percent:.1f}%  ({result.reference['optimum']:g})")
    if result.percent_of_optimal is not None:
        lines.append(f"  % of optimal   {result.percent_of_optimal:.1f}%  (random policy = 0, optimum = 100)")
    width = max((len(name) for name in result.more), default=0)
    lines += [f"  {name.replace('_', ' '):<{max(14, width)}} {value:.3f}" for name, value in result.more.items()]
    return "\n".join(lines)
