"""Batches from rules and settings: the class is imported and called, its wrappers go around it, copies are made."""

from __future__ import annotations

from typing import Any

from palaestra.envs.core import TensorEnv, TensorVectorEnv
from palaestra.envs.core.user_code import import_module
from palaestra.envs.wrappers import take_settings, wrapped
from palaestra.envs.wrappers.two_players.by_settings import one_player_view, take_game_settings

_BATCH_KWARGS = ("device", "seed", "first_env_index", "max_episode_steps", "render_mode")


def load_tensor_env(entry_point: str, **kwargs: Any) -> TensorEnv[Any]:
    """Import "module:Class" and call it; a game for two is played against an opponent, as its settings say."""
    module, _, name = entry_point.partition(":")
    made = getattr(import_module(module), name)
    settings = take_game_settings(made, kwargs)
    env = made(**kwargs)
    if not isinstance(env, TensorEnv):
        raise TypeError(f"{entry_point} is not a TensorEnv")
    return one_player_view(env, settings)


def vector_env(num_envs: int, tensor_env: str | TensorEnv[Any], **kwargs: Any) -> TensorVectorEnv[Any]:
    """A :class:`TensorVectorEnv` of ``tensor_env``, an instance or "module:Class" (also for ``make_vec``)."""
    batch = {name: kwargs.pop(name) for name in _BATCH_KWARGS if name in kwargs}
    is_compiled = kwargs.pop("compile", False)
    settings = take_settings(kwargs)
    env = load_tensor_env(tensor_env, **kwargs) if isinstance(tensor_env, str) else one_player_view(tensor_env, kwargs)
    kind: type[TensorVectorEnv[Any]] = TensorVectorEnv
    if is_compiled:
        from palaestra.envs.compiled.batch import CompiledVectorEnv

        kind = CompiledVectorEnv
    return kind(wrapped(env, settings, batch.get("max_episode_steps")), num_envs, **batch)
