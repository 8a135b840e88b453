"""A trained agent as the rival in the duopoly: its price for each pair of last prices, read from its model file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from palaestra.envs.trained_players import LEARNING, TrainedPlayer, read_player, require_spaces

_MODEL_FILE = ".zip"


def rival_file(rival: Any) -> Path | None:
    """The model file that the argument ``rival`` names; None if it names none."""
    if not (isinstance(rival, str) and rival.endswith(_MODEL_FILE)):
        return None
    return Path(rival.removeprefix(LEARNING)).expanduser()


def trained_table(market: Any, file: Path) -> Tensor:
    """The prices of the agent in a model file, int64 [225], by its own last price · 15 + the other firm's.

    Args:
        market: a ``DuopolyPricing``, whose module imports this one.
        file: of the agent.

    Raises:
        ValueError: if there is no such file, or its agent was trained in another market or has a memory of its own.
    """
    if not file.is_file():
        raise ValueError(f"rival={file}: there is no such file; name a run's model.zip")
    found = file.stat()
    player = _player(file, (found.st_mtime_ns, found.st_size))
    if player.remembers:
        raise ValueError(f"rival={file}: an agent with a memory of its own does not price by the last prices alone")
    require_spaces(player, market, f"rival={file}", "this market")
    with torch.no_grad():
        return player.act(market.observe(market.states(0)))


@lru_cache(maxsize=4)  # a command makes the rules several times
def _player(file: Path, written: tuple[int, int]) -> TrainedPlayer:
    player: TrainedPlayer = read_player(file, "cpu")
    return player
