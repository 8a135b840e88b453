"""``palaestra watch``: episodes in a window or a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from palaestra.train.commands import (
    EnvOption,
    PlayerArgument,
    SearchOption,
    SeedOption,
    SetOption,
    StochasticOption,
    UsageError,
    read_count,
    read_index,
)
from palaestra.train.formatting import say, two_digits
from palaestra.train.players import SCRIPTED, find_player

if TYPE_CHECKING:
    from palaestra.train.recording.show import Watched


def watch(
    run: PlayerArgument,
    env: EnvOption = None,
    record: Annotated[Path | None, typer.Option(metavar="FILE", help="Write an .mp4, .gif or .png instead.")] = None,
    grid: Annotated[str, typer.Option(metavar="RxC", help="Rows and columns of environments.")] = "1x1",
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH|H", help="Width and height of the picture, or its height: 1280x720, 480."),
    ] = None,
    fps: Annotated[
        str | None, typer.Option(metavar="N", help="Steps shown per second, instead of the environment's own pace.")
    ] = None,
    episodes: Annotated[int | None, typer.Option(parser=read_count, metavar="N", help="How many episodes.")] = None,
    seed: SeedOption = 0,
    env_index: Annotated[
        int | None, typer.Option(parser=read_index, metavar="N", help="Show that environment of the seed.")
    ] = None,
    episode: Annotated[
        int | None, typer.Option(parser=read_index, metavar="N", help="Show that episode of the environment.")
    ] = None,
    training: Annotated[
        bool, typer.Option("--training", help="Episodes of training, with the run's own seed, not held-out ones.")
    ] = False,
    stochastic: StochasticOption = False,
    search: SearchOption = None,
    settings: SetOption = None,
) -> None:
    """Show episodes in a window, or record them to a file.

    \b
    palaestra watch latest
    palaestra watch latest --record snake.mp4
    palaestra watch latest --record snake.gif --size 360 --fps 5
    palaestra watch expert --env snake --grid 4x4 --record grid.png
    palaestra watch latest --training --env-index 17 --episode 3
    """
    tiles = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", grid)
    if not tiles:
        raise UsageError(f"--grid {grid}: expected rows x columns, like 4x4")
    if training:
        if run in SCRIPTED:
            raise UsageError(f"--training shows the episodes that a run was trained on: {run} is no run")
        if env is not None or seed or settings:
            raise UsageError("--training shows the run's own episodes: leave --env, --seed and --set out")
    shown = watch_player(
        run,
        record,
        env=env,
        seed=seed,
        training=training,
        stochastic=stochastic,
        search=search,
        settings=settings or (),
        grid=(int(tiles[1]), int(tiles[2])),
        size=None if size is None else _read_size(size),
        fps=None if fps is None else _read_pace(fps),
        episodes=episodes,
        env_index=env_index,
        episode=episode,
    )
    if shown.path is not None:
        say(_said(shown, shown.path))


def _read_size(text: str) -> tuple[int | None, int]:
    """Width (None if only a height is given) and height in pixels."""
    found = re.fullmatch(r"(?:(\d{1,5})x)?(\d{1,5})p?", text.strip().lower())
    if not found:
        raise UsageError(f"--size {text}: expected pixels, width x height or the height alone, like 1280x720 or 720")
    return int(found[1]) if found[1] else None, int(found[2])


def _read_pace(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"--fps {text}: expected a number of steps per second, like 25") from error


def _said(shown: Watched, path: Path) -> str:
    """What was written, in a line."""
    width, height = shown.size
    count = f", {shown.frames:,} frames at {shown.fps:.4g} per second" if path.suffix.lower() != ".png" else ""
    cut = " (cut at the longest length for this kind of file, or for an episode)" if shown.cut else ""
    return f"{path}: {width}x{height}{count}, {two_digits(path.stat().st_size)}B{cut}"


def watch_player(
    run: str | Path,
    record: str | Path | None = None,
    *,
    env: str | None = None,
    seed: int = 0,
    training: bool = False,
    stochastic: bool = False,
    search: int | None = None,
    settings: Sequence[str] = (),
    **options: Any,
) -> Watched:
    """Show episodes in a window, or record them, as ``palaestra watch`` does.

    Args:
        run: a run folder, a model file, "latest", "latest:ENV", "random" or "expert".
        record: an .mp4, .gif or .png file; None opens a window.
        env: the environment, for "random", "expert" and a model file outside a run folder.
        seed: seed of the episodes: those that :func:`palaestra.train.evaluate` plays with that seed.
        training: show the episodes that the run was trained on instead.
        stochastic: sample the agent's actions instead of taking the most likely.
        search: in a game for two so many simulations before each of the agent's moves.
        settings: "env.key=value" for the environment.
        options: ``grid``, ``episodes``, ``env_index``, ``episode``, ``fps``, ``size`` and ``max_steps`` of
            :func:`palaestra.train.recording.show.watch`.

    Raises:
        ConfigError: if there is no such run, a setting is wrong, or its training episodes cannot be played again.
        RecordingError, NoDisplayError, WatchError: see there.
    """
    from palaestra.train.config.run_config import environment
    from palaestra.train.evaluation.episodes import EVALUATION_SEEDS
    from palaestra.train.recording.show import watch

    trained = _training_episodes(str(run)) if training else None
    player, first = find_player(str(run), env, stochastic, settings, search), EVALUATION_SEEDS + seed
    if trained is not None:
        first, player = trained[0], replace(player, env_kwargs=trained[1])
    return watch(
        environment(player.env).shortest_name,
        player.policy,
        env_kwargs=player.env_kwargs,
        seed=first,
        device=player.device,
        record=None if record is None else Path(record),
        label=player.label,
        **options,
    )


def _training_episodes(name: str) -> tuple[int, dict[str, Any]]:
    """The seed of the episodes that a run was trained on, and the environment's arguments in them.

    Raises:
        ConfigError: if there are none that could be played again.
    """
    from palaestra.train.config.compatibility import begins_elsewhere
    from palaestra.train.config.schema import ConfigError
    from palaestra.train.runs.finding import find_model
    from palaestra.train.runs.run_folder import RunFolder

    model_file = find_model(name)
    config = RunFolder(model_file.parent).config()
    if config is None:
        raise ConfigError(f"{model_file} is not in a run folder: nobody knows which episodes it was trained on")
    if not config.resolved_env.can_replay:
        raise ConfigError(f"{config.env} is not a palaestra environment: its episodes cannot be played again")
    if why := begins_elsewhere(config.agent_kwargs, config.curriculum, config.env_kwargs):
        raise ConfigError(
            f"with {why} an episode of training does not follow from its number: watch without --training"
        )
    return config.seed, config.env_kwargs
