"""Trained agents as opponents in games and as rivals, read by whoever can: this package knows no agents.

:mod:`palaestra.train.config.run_config` says here how model files are read; nothing of PyTorch is imported.

Rules with a second player who sees what the agent sees may have the agent itself for that (``meets_itself``): a policy
that begins to act in such an environment is shown to it by :func:`let_meet_itself`. Or they have another agent that
learns at the same time, ``learning:FILE``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from gymnasium import Space
    from torch import Tensor

    from palaestra.envs.core import BatchedEnv
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


NO_MEMORY = "an agent with a memory of its own cannot be its own rival, which sees the last observation alone"

LEARNING = "learning:"  # before the file of an agent that learns at the same time


def learns_too(rival: Any) -> bool:
    """True if the argument ``rival`` names an agent that has learned at the same time."""
    return isinstance(rival, str) and rival.startswith(LEARNING)


class SearchingAgent(Protocol):
    """An agent that searches before each of its moves, such as :class:`palaestra.agents.search`'s."""

    def move(self, game: Any, state: Any, rng: Rng | None = None) -> Tensor:
        """Moves int64 [N] in N states of a game; with ``rng`` drawn."""
        ...


ReadPlayer = Callable[[Path, str, int], Any]
_readers: list[ReadPlayer] = []


def read_players_with(reader: ReadPlayer) -> None:
    """Let ``reader`` make players of files.

    It gets the file, the device, and with how many simulations the agent searches: with 0 it gives a
    :class:`TrainedPlayer`, else a :class:`SearchingAgent` with the same spaces.
    """
    _readers[:] = [reader]


def read_player(file: Path, device: str, simulations: int = 0) -> Any:
    """The agent in a model file; one that searches if there are simulations.

    Raises:
        ValueError: if there is no such file, or nothing that reads it, or the agent cannot search.
        RuntimeError: what the reader raises of a file that holds no agent.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}")
    if not _readers:
        raise ValueError(f"{file} is read by palaestra.train.config.run_config: import that first")
    return _readers[0](file, device, simulations)


def require_spaces(player: Any, rules: Any, file: str, here: str) -> None:
    """Raise a ValueError unless the agent of ``file`` was trained with the spaces of the rules, called ``here``."""
    for what in ("observation", "action"):
        theirs, own = getattr(player, f"{what}_space"), getattr(rules, f"{what}_space")
        if theirs != own:
            raise ValueError(f"{file}: its agent was trained with {what}s {theirs}, and {here} has {own}")


class MeetsItself(Protocol):
    """Rules in which the agent is its own rival.

    Attributes:
        meets_itself: whether it is; other settings of the same rules may have another rival.
    """

    meets_itself: bool

    def meet(self, act: Callable[[Any], Tensor]) -> None:
        """Let the rival be a policy, a function from a batch of states to actions, in all episodes."""
        ...

    def observe(self, state: Any) -> Any:
        """What the agent sees."""
        ...


def rules_with_own_rival(rules: Any) -> MeetsItself | None:
    """Those of the rules, and of the rules inside wrappers, in which the agent that plays is its own rival."""
    from palaestra.envs.core.env import rules_within

    return next((one for one in rules_within(rules) if getattr(one, "meets_itself", False)), None)


def let_meet_itself(batch: BatchedEnv, act: Callable[[Any], Tensor], *, remembers: bool = False) -> bool:
    """Let an agent be its own rival where the rules are for that; whether they are.

    Args:
        batch: where it plays.
        act: its actions for observations [N, …].
        remembers: whether it has a memory of the episode.

    Raises:
        ValueError: if it has one.
    """
    rules = rules_with_own_rival(getattr(batch, "env", None))
    if rules is None:
        return False
    if remembers:
        raise ValueError(NO_MEMORY)
    rules.meet(lambda state: act(rules.observe(state)))
    return True
