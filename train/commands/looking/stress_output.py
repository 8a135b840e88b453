"""The stress test of ``palaestra evaluate RUN --stress`` as it is printed, and kept for the run's report."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from palaestra.train.evaluation.policies import Player
from palaestra.train.evaluation.stress import stress_player
from palaestra.train.evaluation.stress_table import stress_table, told_while_running
from palaestra.train.formatting import tell, terminal_width
from palaestra.train.results.evaluation_report import env_of, run_of
from palaestra.train.results.stored_scores import store_stress
from palaestra.train.runs.run_folder import RunFolder


def print_stress(
    player: Player,
    episodes: int | None,
    seed: int,
    as_json: bool,
    as_trained: bool,
) -> None:
    """Test the player and print the table, or JSON.

    Args:
        as_trained: whether it plays as the run's final evaluation does; then its run keeps the test, if it has these
            weights.
    """
    test = stress_player(player, episodes, seed, told_while_running())
    title = f"{run_of(test.unchanged)} on {env_of(test.unchanged)}"
    print(json.dumps(test.as_dict(), indent=1) if as_json else stress_table(test, title, terminal_width(sys.stdout)))
    folder = RunFolder(Path(test.unchanged.run).parent)
    if as_trained and Path(test.unchanged.run) == folder.model_file and folder.config_file.is_file():
        try:
            store_stress(folder, test)
        except OSError as error:
            tell(f"palaestra: the test is not kept for the run's report: {error}", error=True)
