"""A trained agent that searches before each of its moves in a game for two (``--search N``)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from palaestra.agents.search.searching_player import SearchingPlayer, game_alone, state_of_game
from palaestra.envs.core import BatchedEnv, TensorVectorEnv
from palaestra.envs.specs import ResolvedEnv
from palaestra.train.evaluation.policies import AgentPolicy, action_rng


class NoSearchError(ValueError):
    """An agent, or an environment, cannot be searched with; the message says why."""


class SearchPolicy(AgentPolicy):
    """The best move that a search with so many simulations finds, or one drawn by their visits."""

    def __init__(self, model: Any, simulations: int, deterministic: bool, name: str) -> None:
        """Raises a NoSearchError unless the agent can search."""
        super().__init__(model, deterministic, f"{name} with {simulations:,} simulations")
        try:
            self.player = SearchingPlayer(model, simulations)
        except ValueError as error:
            raise NoSearchError(f"--search {simulations}: {error}") from error

    @torch.no_grad()
    def __call__(self, env: BatchedEnv, obs: Any) -> Tensor:
        assert isinstance(env, TensorVectorEnv)
        rng = None if self.deterministic else action_rng(env)
        try:
            return self.player.move(game_alone(env.env), state_of_game(env.env, env.state), rng)
        except (ValueError, MemoryError) as error:
            raise NoSearchError(f"--search {self.player.simulations}: {error}") from error


def require_game(env: ResolvedEnv, env_kwargs: dict[str, Any], simulations: int) -> None:
    """Raise a NoSearchError unless the environment is a game that can be searched."""
    rules = env.build(**env_kwargs)
    try:
        if rules is None:
            raise ValueError(f"a search is for games for two, such as connect-four: {env.short_name} is none")
        game_alone(rules)
    except ValueError as error:
        raise NoSearchError(f"--search {simulations}: {error}") from error
