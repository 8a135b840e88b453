"""The settings that every game for two has, and the view of it that they ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from palaestra.envs.core import TensorEnv
from palaestra.envs.wrappers.two_players.against_opponent import AgainstOpponent
from palaestra.envs.wrappers.two_players.both_sides import BothSides
from palaestra.envs.wrappers.two_players.game_view import is_game
from palaestra.envs.wrappers.two_players.opponents import SELF
from palaestra.envs.wrappers.wrapper import WrapperError

GAME_SETTINGS = {"opponent": "str", "begins": "str", "judged": "bool"}
"""Settings that every game for two has beside its own, with their kinds."""


def take_game_settings(rules: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """Take those of :data:`GAME_SETTINGS` out of ``settings``; none where rules, or their class, are no game's."""
    return {key: settings.pop(key) for key in GAME_SETTINGS if key in settings} if is_game(rules) else {}


def one_player_view(rules: TensorEnv[Any], settings: Mapping[str, Any]) -> TensorEnv[Any]:
    """The rules as one player's environment: themselves, unless they are a game's.

    Args:
        settings: those of :data:`GAME_SETTINGS` that are given.

    Raises:
        WrapperError: naming the setting.
    """
    if not is_game(rules):
        return rules
    if settings.get("opponent") != SELF:
        return AgainstOpponent(rules, **settings)
    if settings.get("begins", "either") != "either":
        raise WrapperError(f"begins={settings['begins']}: opponent={SELF} moves for both players, and begins itself")
    return BothSides(rules, settings.get("judged", False))
