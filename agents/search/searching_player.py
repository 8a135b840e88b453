"""An agent that searches before each of its moves in a game for two."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space
from torch import Tensor

from palaestra.agents.search.evaluations import AgentEvaluation
from palaestra.agents.search.puct import TreeSearch, require_count
from palaestra.envs.core import TensorEnv
from palaestra.envs.core.rng import Rng
from palaestra.envs.wrappers.time_limit import TimeLimited
from palaestra.envs.wrappers.two_players.game_view import GameView, is_game


class SearchingPlayer:
    """The agent with a search of so many simulations, in any states of the game that it was trained in."""

    remembers = False

    def __init__(self, agent: Any, simulations: int) -> None:
        """Raises ValueError unless the agent has a policy with values, and a search can have so many simulations."""
        require_count(simulations)
        self.evaluation, self.simulations = AgentEvaluation(agent), simulations
        self.observation_space: Space[Any] = agent.observation_space
        self.action_space: Space[Any] = agent.action_space
        self._search: TreeSearch | None = None

    @torch.no_grad()
    def move(self, game: TensorEnv[Any], state: Any, rng: Rng | None = None) -> Tensor:
        """Moves int64 [N] in N states of the game: the best, or with ``rng`` drawn by their visits.

        Raises:
            ValueError: if the game has chance.
            MemoryError: if the trees do not fit into memory.
        """
        if self._search is None or self._search.game is not game:
            self._search = TreeSearch(game, self.evaluation, self.simulations)
        found = self._search(state)
        moves = found.best() if rng is None else found.sampled(rng)
        return moves + int(getattr(game.action_space, "start", 0))


def game_alone(rules: Any) -> TensorEnv[Any]:
    """The game that an environment is of.

    Raises:
        ValueError: if it is no game for two, or not as the game alone is seen.
    """
    inside = rules
    while isinstance(inside, TimeLimited):
        inside = inside.env
    if isinstance(inside, GameView):
        return inside.env
    while (within := vars(inside).get("env")) is not None and not isinstance(inside, GameView):
        inside = within
    if isinstance(inside, GameView):
        raise ValueError("a search sees the game as it is: leave env settings out that change what is seen or done")
    name = type(inside).__name__
    if is_game(inside):
        return inside  # type: ignore[no-any-return]
    raise ValueError(f"a search is for games for two, such as connect-four: {name} is none")


def state_of_game(rules: Any, state: Any) -> Any:
    """The state of the game in a state of its environment."""
    while not is_game(rules):
        rules, state = rules.within(state)
    return state
