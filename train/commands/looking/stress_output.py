"""The stress test of ``palaestra evaluate RUN --stress`` as it is printed, and kept for the run's report."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from palaestra.train.commands import UsageError
from palaestra.train.evaluation.policies import Player
from palaestra.train.evaluation.stress import StressTest, stress_player
from palaestra.train.evaluation.stress_table import stress_table, told_while_running
from palaestra.train.formatting import tell, terminal_width
from palaestra.train.results.evaluation_report import env_of, run_of
from palaestra.train.results.stored_scores import store_stress
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
        try:
            store_stress(folder, test)
        except OSError as error:
            tell(f"palaestra: the test is not kept for the run's report: {error}", error=True)
        if track is not None:
            _log(test, folder, track)


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
