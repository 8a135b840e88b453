"""The view of a game for two that an agent learns in, and what all such views have: an expert, figures, stresses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from palaestra.envs.core import Array, TensorEnv
from palaestra.envs.core.env import rules_within
from palaestra.envs.core.rng import Rng
from palaestra.envs.wrappers.two_players.opponents import (
    SCRIPTED_OPPONENTS,
    keeps_value,
    move_values,
    require_perfect_play,
)
from palaestra.envs.wrappers.wrapper import Wrapper, WrapperError


class GameView(Wrapper):
    """A game for two as an environment; subclasses say who moves for the other player."""

    opponent: str  # as the setting names who plays the other side
    _hidden: ClassVar[tuple[str, ...]] = ("player", "game_value", "exact")  # members of the game that the view lacks
    _own: ClassVar[tuple[str, ...]] = ("summary", "stresses")  # members of the view beside the game's

    def __init__(self, env: TensorEnv[Any], judged: bool = False) -> None:
        """Make the view.

        Args:
            env: the game.
            judged: whether evaluations tell the share of moves that keep the game's value.

        Raises:
            WrapperError: naming the setting.
        """
        super().__init__(env)
        if not isinstance(env.action_space, Discrete):
            raise WrapperError(f"a game for two needs Discrete actions, {type(env).__name__} has {env.action_space}")
        if not isinstance(judged, bool):
            raise WrapperError(f"judged={judged}: must be true or false")
        try:
            if judged:
                require_perfect_play(env)
        except ValueError as error:
            raise WrapperError(f"judged={judged}: {error}") from error
        self.judged = judged

    def expert(self, state: Any) -> Tensor:
        """The game's own; without one the first move that keeps the game's value."""
        env, inner = self.within(state)
        if env.has("expert"):
            return env.expert(inner)
        values = move_values(env, inner, None, Rng(torch.zeros_like(env.player(inner)), 0))
        columns = torch.arange(values.shape[1], device=values.device)
        best = torch.where(values == values.amax(1, keepdim=True), columns, values.shape[1])
        return best.amin(1) + int(getattr(self.action_space, "start", 0))

    def report_figures(self, returns: Array, lengths: Array, successes: Array | None, act: Any) -> Any:
        return self.env.report_figures(returns, lengths, successes, None)

    def step_figures(self, earlier: Any, before: Any, action: Tensor, after: Any) -> dict[str, Tensor]:
        """The share of the agent's moves after which perfect play would still end as before them."""
        env, inner = self.within(before)
        return {"value_kept_percent": 100.0 * keeps_value(env, inner, action).float()}

    def stresses(self) -> Mapping[str, Mapping[str, Any]]:
        """Every opponent, with either side beginning."""
        known = [name for name in SCRIPTED_OPPONENTS if name != "perfect" or self.env.has("game_value")]
        sides = {"first": "agent", "second": "opponent"}
        return {
            f"{name}_as_{order}": {"opponent": name, "begins": begins}
            for name in known
            for order, begins in sides.items()
        }

    def has(self, name: str) -> bool:
        """True if this view has it: it is a game no more."""
        if name in self._hidden:
            return False
        if name == "step_figures":
            return self.judged
        if name == "expert":
            return self.env.has("expert") or self.env.has("game_value")
        return name in self._own or self.env.has(name)


def is_game(rules: Any) -> bool:
    """True for rules, or a class of rules, of a game for two."""
    kind: Any = rules if isinstance(rules, type) else type(rules)
    return issubclass(kind, TensorEnv) and not issubclass(kind, Wrapper) and kind.player is not TensorEnv.player


def opponent_in(rules: Any) -> str | None:
    """The setting ``opponent`` of rules, perhaps within wrappers; None where they are no game's, and for None."""
    games = (found for found in rules_within(rules) if isinstance(found, GameView))
    return next((str(game.opponent) for game in games), None)
