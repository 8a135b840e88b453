"""The tests of ``palaestra evaluate RUN``, ``--stress`` and ``--positions``, as they are printed and kept."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from palaestra.envs.registry import resolve
from palaestra.train.commands import UsageError
from palaestra.train.evaluation.policies import Player
from palaestra.train.evaluation.stress import StressTest, stress_player
from palaestra.train.evaluation.stress_table import stress_table, told_while_running
from palaestra.train.formatting import tell, terminal_width
from palaestra.train.results.evaluation_report import env_of, run_of, run_of_name
from palaestra.train.results.stored_scores import store_positions, store_stress
from palaestra.train.runs.run_folder import RunFolder

_COLUMNS = ("name", "score", "ci_low", "ci_high", "loss", "percent_of_optimal", "success_rate")  # of a tracker's table


def print_stress(
    player: Player,
    episodes: int | None,
    seed: int,
    as_json: bool,
    as_trained: bool,
    track: str | None = None,
) -> None:
    """Test the player and print the table, or JSON.

    Args:
        as_trained: whether it plays as the run's final evaluation does; then its run keeps the test, if it has these
            weights.
        track: trackers in which the run's curves get the worst case and the mean.

    Raises:
        UsageError: if there is no such run to add to.
    """
    if track is not None:
        _check_track(track, player, as_trained)
    test = stress_player(player, episodes, seed, told_while_running())
    title = f"{run_of(test.unchanged)} on {env_of(test.unchanged)}"
    print(json.dumps(test.as_dict(), indent=1) if as_json else stress_table(test, title, terminal_width(sys.stdout)))
    folder = _run_folder(player)
    if as_trained and folder is not None:
        _keep(lambda: store_stress(folder, test))
        if track is not None:
            _log(test, folder, track)


def print_positions(player: Player, count: int, seed: int, as_json: bool, as_trained: bool) -> None:
    """Judge the player's moves by perfect play, and print the tables, or JSON.

    Args:
        count: of positions.
        as_trained: see :func:`print_stress`.

    Raises:
        UsageError: if perfect play cannot judge them.
    """
    from palaestra.train.evaluation.games.judged_play import NotJudgedError, judge_player
    from palaestra.train.evaluation.games.judged_table import judged_tables

    told = told_while_running(before="of ")
    try:
        found = judge_player(player, count, seed, lambda done: told(done / count, f"{count:,} positions"))
    except NotJudgedError as error:
        raise UsageError(str(error)) from error
    name = resolve(found.env).short_name
    title = f"{run_of_name(found.run)} on {name}"
    width = terminal_width(sys.stdout)
    print(json.dumps(found.as_dict(), indent=1) if as_json else judged_tables(found, title, width))
    folder = _run_folder(player)
    if as_trained and folder is not None:
        _keep(lambda: store_positions(folder, found))


def _keep(store: Callable[[], None]) -> None:
    try:
        store()
    except OSError as error:
        tell(f"palaestra: the test is not kept for the run's report: {error}", error=True)


def _run_folder(player: Player) -> RunFolder | None:
    """The folder of the run whose newest model plays; None if there is none."""
    file = Path(player.policy.name)
    folder = RunFolder(file.parent)
    return folder if file == folder.model_file and folder.config_file.is_file() else None


def _check_track(track: str, player: Player, as_trained: bool) -> None:
    from palaestra.train.loggers.tracker import WANDB_MODES, trackers_of

    mode, others = trackers_of(track)
    if mode not in ("online", "disabled") or not (others or mode == "online"):
        modes = ", ".join(name for name in WANDB_MODES if name != "online")
        raise UsageError(f"--track {track}: a run gets more in online (W&B), tensorboard and trackio, not in {modes}")
    if not as_trained or _run_folder(player) is None:
        raise UsageError("--track adds to the curves of a run: name one, and leave --env, --set and --stochastic out")


def _log(test: StressTest, folder: RunFolder, track: str) -> None:
    """Add the worst case, the mean and the table to the run's curves, at its last step."""
    from palaestra.train.loggers.tracker import Tracker

    config, step = folder.config(), folder.curves.last_step()
    assert config is not None  # its agent has played
    worst = {f"stress/worst_{name}": value for name, value in test.worst.as_dict().items() if name in test.mean}
    numbers = {**worst, **{f"stress/mean_{name}": value for name, value in test.mean.items()}}
    tracker = Tracker.reopen(folder.path, config.as_dict(), track, step, id_file=folder.wandb_id_file)
    tracker.log({name: value for name, value in numbers.items() if value is not None}, step)
    rows = [[one.as_dict()[name] for name in _COLUMNS] for one in test.stressed]
    tracker.log_table("stress/conditions", _COLUMNS, rows, step)
    tracker.finish()
