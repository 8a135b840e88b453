"""A game in which one agent moves for both players, and learns from the moves of both (``opponent=self``).

1. A step is one move. Its reward is that of the player who makes it, and what follows is worth to that player the
   negative of what it is worth to the next one: the view says so (``TensorEnv.alternates``), and agents discount with
   −γ instead of γ. All else that they compute (advantages, λ-returns, n-step returns, targets) stays as it is.
2. An episode begins with one of :data:`OPENINGS` positions of random games, one of each, the more likely the earlier
   it is. Games that an agent plays against itself alone become alike, and it never learns how other beginnings end;
   there are few first positions, and what is right in them takes most games to tell.

Source: of −γ, Littman, "Markov games as a framework for multi-agent reinforcement learning", ICML 1994, for two players
who take turns, with whom the minimax over mixed moves is a maximum.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from palaestra.envs.core import Array, Reference, TensorEnv, map_state
from palaestra.envs.core.batching.records import select
from palaestra.envs.core.errors import EnvError
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.symmetries import Symmetry
from palaestra.envs.wrappers.two_players.game_view import GameView
from palaestra.envs.wrappers.two_players.opponents import SELF, random_games

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas

OPENINGS = 65_536
_EARLY = 4.0


class BothSides(GameView):
    """See the module; the arguments are those of :class:`GameView`."""

    opponent = SELF

    def __init__(self, env: TensorEnv[Any], judged: bool = False) -> None:
        super().__init__(env, judged)
        self.alternates = True

    @functools.cached_property
    def openings(self) -> Any:
        """States of :data:`OPENINGS` boards, made when environments are, not when spaces alone are asked for."""
        return random_openings(self.env, OPENINGS)

    def to(self, device: torch.device | str) -> BothSides:
        openings = self.openings  # made where values are
        super().to(device)
        self.openings = map_state(lambda field: field.to(device), openings)
        return self

    def reset(self, rng: Rng) -> Any:
        drawn = rng.integers(0, OPENINGS)
        return map_state(lambda field: field.index_select(0, drawn), self.openings)

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        """The share of draws: returns are what the player of the last move has earned in all, less the other's."""
        return {"drawn_percent": 100 * float((returns == 0).mean())}

    def symmetries(self) -> Sequence[Symmetry]:
        return self.env.symmetries()

    def draw(self, state: Any, canvas: Canvas) -> None:
        canvas.players = (canvas.player, canvas.player)
        self.env.draw(state, canvas)

    @property
    def reference(self) -> Reference:
        return Reference()

    _hidden = (*GameView._hidden, "success")


def random_openings(game: TensorEnv[Any], count: int) -> Any:
    """So many positions of random games, one of each; the one after k moves has a weight of 1 / (k + :data:`_EARLY`).

    They are the same at each call, and on every device.

    Raises:
        EnvError: if turns do not alternate: what follows would be worth the negative to the wrong player.
    """
    kept = game.reset(Rng(torch.arange(count, device=game.device), 0))
    total = 1.0 / _EARLY  # of the weights so far
    for moves, (rng, state, _, running) in enumerate(random_games(game, count), 1):
        weight = 1.0 / (moves + _EARLY)
        total += weight
        if (running & (game.player(state) != moves & 1)).any():
            raise EnvError(
                f"{type(game).__name__}: at move {moves + 1} it is not the turn of player {moves & 1}: player 0 "
                "begins, turns alternate, and to pass is an action"
            )
        kept = select(running & (rng.uniform() * total < weight), state, kept)  # the latest of so many, by chance
    return kept
