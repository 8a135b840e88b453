"""A game for two players as an environment for one: the other player belongs to the rules.

1. A step is the agent's move and, unless that ends the game, the opponent's reply. The reward is the agent's: its own
   move's, less what the reply earns.
2. An episode begins with the agent's turn: where the opponent begins (``begins``), ``reset`` has played its first move.
   Sides are drawn for each episode unless they are chosen, and so is the opponent of a mixture.
3. The state is the game's, with the agent's side, the number of its opponent and its return so far behind.
4. An episode is a success if the agent has won. What is seen of a finished game is what the player next in turn would
   see.

The game is any :class:`TensorEnv` with the method ``player``; :mod:`.opponents` has the opponents. Agents, evaluations,
recordings, views for Gymnasium and Stable-Baselines3 need not know that there is another player.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor

from palaestra.envs.core import Array, Reference, TensorEnv
from palaestra.envs.core.batching.records import select
from palaestra.envs.core.rng import Rng
from palaestra.envs.core.symmetries import Symmetry
from palaestra.envs.trained_players import TrainedPlayer
from palaestra.envs.wrappers.two_players.game_view import GameView
from palaestra.envs.wrappers.two_players.opponents import EarlierSelf, opponents_named
from palaestra.envs.wrappers.wrapper import WrapperError, join, split

if TYPE_CHECKING:
    from palaestra.envs.rendering.canvas import Canvas

Begins = Literal["either", "agent", "opponent"]


class AgainstOpponent(GameView):
    """A game against an opponent; see the module."""

    def __init__(
        self, env: TensorEnv[Any], opponent: str = "random", begins: Begins = "either", judged: bool = False
    ) -> None:
        """Make the environment.

        Args:
            env: the game.
            opponent: who plays the other side, see :mod:`.opponents`.
            begins: who has the first move.
            judged: whether evaluations tell the share of moves that keep the game's value.

        Raises:
            WrapperError: naming the setting.
        """
        super().__init__(env, judged)
        if begins not in get_args(Begins):
            raise WrapperError(f"begins={begins}: must be one of {', '.join(get_args(Begins))}")
        try:
            self.opponents = opponents_named(env, opponent)
        except (ValueError, RuntimeError) as error:
            raise WrapperError(f"opponent={opponent}: {error}") from error
        self.opponent, self.begins = opponent, begins

    @property
    def pool(self) -> list[int]:
        """The numbers of the opponents that are earlier selves of an agent."""
        return [number for number, one in enumerate(self.opponents) if isinstance(one, EarlierSelf)]

    def put_player(self, number: int, player: TrainedPlayer) -> None:
        """Make an agent the opponent of that number, in all episodes that have it, the running ones too."""
        # a new tuple: recorded steps see by it that their opponents have changed
        self.opponents = (*self.opponents[:number], EarlierSelf(player), *self.opponents[number + 1 :])

    def within(self, state: Any) -> tuple[TensorEnv[Any], Any]:
        return self.env, split(state)[0]

    def on_turn(self, inner: Any) -> Any:
        """States in which the agent is to move in these positions of the game."""
        side = self.env.player(inner)
        none = torch.zeros_like(side)
        return self._joined(inner, side, none, none.float())

    def reset(self, rng: Rng) -> Any:
        fresh, none = self.env.reset(rng.spawn()), torch.zeros(rng.num_envs, dtype=torch.int64, device=self.device)
        rival = rng.integers(0, len(self.opponents)) if len(self.opponents) > 1 else none
        if self.begins == "agent":
            return self._joined(fresh, none, rival, none.float())
        opened, _, _ = self.env.step(fresh, self._reply(fresh, rival, rng), rng.spawn())
        if self.begins == "opponent":
            return self._joined(opened, none + 1, rival, none.float())
        side = rng.integers(0, 2)
        return self._joined(select(side == 1, opened, fresh), side, rival, none.float())

    def step(self, state: Any, action: Tensor, rng: Rng) -> tuple[Any, Tensor, Tensor]:
        inner, side, rival, outcome = split(state)
        moved, earned, over = self.env.step(inner, action, rng.spawn())
        answered, lost, ended = self.env.step(moved, self._reply(moved, rival, rng), rng.spawn())
        reward = earned - lost.masked_fill(over, 0.0)
        after = self._joined(select(over, moved, answered), side, rival, outcome + reward)
        return after, reward, over | ended

    def _joined(self, inner: Any, side: Tensor, rival: Tensor, outcome: Tensor) -> Any:
        return join(inner, side=side, rival=rival, outcome=outcome)

    def _reply(self, inner: Any, rival: Tensor, rng: Rng) -> Tensor:
        """The opponents' moves, int64 [N]."""
        if len(self.opponents) == 1:
            return self.opponents[0](self.env, inner, rng)
        moves = torch.stack([opponent(self.env, inner, rng.spawn()) for opponent in self.opponents])  # [K, N]
        return moves.gather(0, rival.unsqueeze(0)).squeeze(0)

    def success(self, state: Any) -> Tensor:
        outcome: Tensor = split(state)[3]
        return outcome > 0.0

    def summary(self, returns: Array, lengths: Array, successes: Array | None) -> dict[str, float]:
        """The shares of draws and of losses, beside that of wins, which are the successes."""
        return {"drawn_percent": 100 * float((returns == 0).mean()), "lost_percent": 100 * float((returns < 0).mean())}

    def symmetries(self) -> list[Symmetry]:
        """The game's, where the opponents play alike on both sides of them."""
        if not all(opponent.is_symmetric for opponent in self.opponents):
            return []
        return [self._around(one) for one in self.env.symmetries()]

    def _around(self, one: Symmetry) -> Symmetry:
        def state(before: Any) -> Any:
            inner, side, rival, outcome = split(before)
            return self._joined(one.state(inner), side, rival, outcome)

        return Symmetry(one.name, state, one.observation, one.action)

    def draw(self, state: Any, canvas: Canvas) -> None:
        inner, side, rival, _ = split(state)
        players = [canvas.player, self.opponents[int(rival)].name]
        canvas.players = (players[int(side)], players[1 - int(side)])
        self.env.draw(inner, canvas)

    @property
    def reference(self) -> Reference:
        return self.env.reference_against(self.opponent, self.begins)

    _own = (*GameView._own, "success")
