"""Games for two players as PettingZoo's turn-based environments (AEC), a batch of one of the same rules.

1. Agents are ``player_0``, who begins, and ``player_1``. Observations are dicts of ``observation``, as the game gives
   it, and ``action_mask``, int8, all 0 for an agent whose turn it is not.
2. An agent whose turn it is not observes what it saw when it moved last: the rules show a position to the player who
   is to move.
3. An illegal action ends the game as a loss of the agent that took it.

PettingZoo is in the extra ``games``. Source of the interface: Terry et al., "PettingZoo: Gym for multi-agent
reinforcement learning", NeurIPS 2021.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from palaestra.envs.core import Array, TensorEnv, host_row
from palaestra.envs.core.rng import Rng, child_key, env_keys
from palaestra.envs.registry import resolve
from palaestra.envs.specs import TensorEnvSpec
from palaestra.envs.wrappers.two_players.game_view import is_game
from palaestra.envs.wrappers.two_players.opponents import legal_moves

try:
    from pettingzoo import AECEnv
except ImportError as missing:
    raise ImportError('palaestra.envs.pettingzoo needs PettingZoo: pip install "palaestra[games]"') from missing


class PettingZooGame(AECEnv):  # type: ignore[misc]
    """One game for two; see the module."""

    def __init__(self, game: str | TensorEnv[Any], render_mode: str | None = None, **kwargs: Any) -> None:
        """Make the environment; call ``reset`` first.

        Args:
            game: a name that ``palaestra.envs.make`` knows, or the rules.
            render_mode: None or ``"rgb_array"``.
            kwargs: arguments of a game that is given by its name.

        Raises:
            ValueError: if it is no game for two.
        """
        super().__init__()
        self.game = _rules(game, kwargs)
        self.render_mode = render_mode
        self.metadata = {
            "render_modes": ["rgb_array"],
            "is_parallelizable": False,
            "name": type(self.game).__name__,
            "render_fps": self.game.frames_per_second,
        }
        self.possible_agents = ["player_0", "player_1"]
        self.agents: list[str] = []
        self._moves_there_are = int(self.game.action_space.n)  # type: ignore[attr-defined]
        mask = spaces.Box(0, 1, (self._moves_there_are,), np.int8)
        seen = spaces.Dict({"observation": self.game.observation_space, "action_mask": mask})
        self.observation_spaces = dict.fromkeys(self.possible_agents, seen)
        self.action_spaces = dict.fromkeys(self.possible_agents, self.game.action_space)
        self._seed, self._episode, self._moves = 0, -1, 0
        self._state: Any = None
        self._seen: dict[str, Array] = {}

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return self.action_spaces[agent]

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin the next game, or the first one of ``seed``."""
        if seed is not None:
            self._seed, self._episode = seed, -1
        self._episode, self._moves = self._episode + 1, 0
        self._state = self.game.reset(self._rng())
        self.agents = self.possible_agents[:]
        self.rewards, self._cumulative_rewards = dict.fromkeys(self.agents, 0.0), dict.fromkeys(self.agents, 0.0)
        self.terminations, self.truncations = dict.fromkeys(self.agents, False), dict.fromkeys(self.agents, False)
        self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
        self.agent_selection = self.possible_agents[0]
        self._seen = dict.fromkeys(self.possible_agents, self._observation())

    def observe(self, agent: str) -> dict[str, Array]:
        seen, over = self._seen[agent], all(self.terminations.values())
        mask = np.zeros(self._moves_there_are, dtype=np.int8)
        if agent == self.agent_selection and not over:
            mask = legal_moves(self.game, self._state)[0].numpy().astype(np.int8)
        return {"observation": seen.copy(), "action_mask": mask}

    def step(self, action: int | None) -> None:
        """The move of the agent whose turn it is; None once the game is over."""
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        if not self.action_spaces[agent].contains(action):
            raise ValueError(f"{agent}: expected an action in {self.action_spaces[agent]}, got {action!r}")
        other = self.possible_agents[1 - self.possible_agents.index(agent)]
        self._moves += 1
        self._cumulative_rewards[agent] = 0.0
        self._state, reward, over = self.game.step(self._state, torch.tensor([int(action or 0)]), self._rng())
        self.rewards = {agent: float(reward), other: -float(reward)}
        self.terminations = dict.fromkeys(self.agents, bool(over))
        self.agent_selection = other
        self._seen[other] = self._observation()
        self._accumulate_rewards()

    def render(self) -> Array | None:
        """The board, uint8 [height, width, 3]; None without a render mode."""
        if self.render_mode is None:
            return None
        from palaestra.envs.rendering.picture import picture

        return picture(self.game, host_row(self._state, 0), over=all(self.terminations.values()))

    def close(self) -> None:
        """Nothing is open."""

    def _rng(self) -> Rng:
        return Rng(child_key(env_keys(self._seed, torch.arange(1)), self._episode), self._moves)

    def _observation(self) -> Array:
        seen: Array = self.game.observe(self._state)[0].numpy()
        return seen


def _rules(game: str | TensorEnv[Any], kwargs: dict[str, Any]) -> TensorEnv[Any]:
    """The game itself, without an opponent."""
    if isinstance(game, str):
        found = resolve(game)
        if not isinstance(found, TensorEnvSpec) or not found.is_game():
            raise ValueError(f"{game} is no game for two players")
        return found.load()(**{**found.kwargs, **kwargs})
    if not is_game(game):
        raise ValueError(f"{type(game).__name__} is no game for two players: it has no player(state)")
    return game
