"""Trained agents as opponents in games, read by whoever can: this package knows no agents.

:mod:`palaestra.train.config.run_config` says here how model files are read; nothing of PyTorch is imported.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gymnasium import Space
    from torch import Tensor

    from palaestra.envs.core.rng import Rng


class TrainedPlayer(Protocol):
    """An agent that acts, such as :class:`palaestra.agents.PPO`."""

    @property
    def observation_space(self) -> Space[Any]:
        """What it sees."""
        ...

    @property
    def action_space(self) -> Space[Any]:
        """What it can do."""
        ...

    @property
    def remembers(self) -> bool:
        """True if it has a memory of the episode, with which it cannot play here."""
        ...

    def act(self, obs: Any, rng: Rng | None = None, mask: Tensor | None = None) -> Tensor:
        """Actions int64 [N] for observations [N, …]; with ``rng`` as it acts while training."""
        ...


ReadPlayer = Callable[[Path, str], TrainedPlayer]
_readers: list[ReadPlayer] = []


def read_players_with(reader: ReadPlayer) -> None:
    """Let ``reader`` make players of files; it gets the file and the device."""
    _readers[:] = [reader]


def read_player(file: Path, device: str) -> TrainedPlayer:
    """The agent in a model file.

    Raises:
        ValueError: if there is no such file, or nothing that reads it.
        RuntimeError: what the reader raises of a file that holds no agent.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    if not _readers:
        raise ValueError(f"{file} is read by palaestra.train.config.run_config: import that first")
    return _readers[0](file, device)
