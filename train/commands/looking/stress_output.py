"""The stress test of ``palaestra evaluate RUN --stress`` as it is printed, and kept for the run's report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from palaestra.train.evaluation.episodes import Evaluation
from palaestra.train.evaluation.policies import Player
from palaestra.train.evaluation.stress import stress_player
from palaestra.train.evaluation.stress_table import stress_table, told_while_running
from palaestra.train.formatting import tell, terminal_width
from palaestra.train.results.stress_file import keep_stress_test


def print_stress(
    player: Player,
    episodes: int | None,
    seed: int,
    as_json: bool,
    title: Callable[[Evaluation], str],
    as_trained: bool,
) -> None:
    """Test the player and print the table, or JSON.

    Args:
        title: of the table, from the evaluation in the unchanged environment.
        as_trained: whether it plays as the run's final evaluation does; then its run keeps the test.
    """
    test = stress_player(player, episodes, seed, told_while_running())
    print(json.dumps(test.as_dict(), indent=1) if as_json else stress_table(test, title(test.unchanged), _width()))
    if as_trained:
        try:
            keep_stress_test(test)
        except OSError as error:
            tell(f"palaestra: the test is not kept for the run's report: {error}", error=True)


def _width() -> int | None:
    return terminal_width(sys.stdout)
