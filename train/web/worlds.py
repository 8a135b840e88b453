"""Environments that a web page can play, as plain data for its rules in JavaScript (``player/``)."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from palaestra.agents.export.policy_network import ExportError
from palaestra.envs.arm.drawing.body import length_of
from palaestra.envs.arm.drawing.scene import view
from palaestra.envs.arm.reach import Reach
from palaestra.envs.cartpole import CartPole
from palaestra.envs.core import TensorEnv
from palaestra.envs.core.reference import Array
from palaestra.envs.games.connect_four import ConnectFour
from palaestra.envs.pricing.pricing import Pricing
from palaestra.envs.snake import Snake
from palaestra.envs.wrappers.two_players.game_view import GameView

_LARGEST = 2_000_000  # numbers of a market's tables: 8 MB
CONNECT_FOUR = "connect-four"
GAMES = (CONNECT_FOUR,)  # kinds that are games for two
_KEYS = {"right": "ArrowRight", "left": "ArrowLeft", "up": "ArrowUp", "down": "ArrowDown", "w": "w", "s": "s"}


def world_of(env: TensorEnv[Any]) -> dict[str, Any]:
    """The rules of an environment as a page has them: ``kind`` and its numbers, as JSON holds them.

    A game for two is the game itself, whoever is the agent's opponent here: in the page that is a person.

    Raises:
        ExportError: if a page cannot play it.
    """
    rules = env.env if isinstance(env, GameView) else env
    world = _WORLDS.get(type(rules))
    if world is None:
        raise ExportError(
            f"a page cannot play {type(rules).__name__}: it knows snake, cartpole, reach, pricing and connect-four, "
            "without settings that change what they observe or do; --format onnx takes the agent to a program of yours"
        )
    return world(rules)


def _snake(env: Snake) -> dict[str, Any]:
    return {"kind": "snake", "size": env.size, "observation": env.observation, "actions": env.actions}


def _cartpole(env: CartPole) -> dict[str, Any]:
    names = ("gravity", "pole_mass", "half_length", "force", "cart_mass")
    return {"kind": "cartpole", "limit": env.max_episode_steps, **{name: getattr(env, name) for name in names}}


def _season(env: Pricing) -> dict[str, Any]:
    if env.is_ruled:
        raise ExportError("a page cannot play a shop's rules (max_change, hold, replenish, ...): leave them out")
    if (size := env.cdf.numel()) > _LARGEST:
        raise ExportError(f"a page cannot hold this market: its tables have {size:,} numbers, and {_LARGEST:,} fit")
    best = env.solution.policy.reshape(env.stages, env.num_states)
    return {
        "kind": "season",
        "prices": env.prices.tolist(),
        "stages": env.stages,
        "stock": env.stock,
        "lot": env.lot,
        "row": env.row,
        "cdf": text_of(env.cdf.numpy(), np.float32),
        "margin": text_of(env.margin.numpy(), np.float32),
        "outlook": text_of(env.outlook.numpy(), np.float32) if env.varies else None,
        "best": text_of(best, np.uint16),
        "optimum": env.optimal_value(),
        "currency": env.currency,
        "unit": env.time_unit,
    }


def _reach(env: Reach) -> dict[str, Any]:
    if any(high > 0.0 for _, high in env.numbers.ranges.values()):
        told = ", ".join(env.numbers.ranges)
        raise ExportError(f"a page cannot play reach with any of {told}: leave them out")
    chain = env.chain
    camera = view(chain, env.targets, *env.picture_size)
    moves = Reach(chain, "cartesian", env.start, env.targets).keys_to_action
    joints = [
        {"position": place.position, "rotation": place.rotation, "axis": axis, "turns": turns}
        for place, axis, turns in zip(chain.placements, chain.axes, chain.turning, strict=True)
    ]
    frames = {name: getattr(chain, name)._asdict() for name in ("base", "flange", "tool")}
    limits = {"low": _finite(chain.q_min), "high": _finite(chain.q_max), "span": list(zip(*chain.span, strict=True))}
    drives = {"velocity": chain.velocity, "acceleration": chain.acceleration}
    right, down, ahead = camera.axes.tolist()
    seen = {"eye": camera.position.tolist(), "right": right, "down": down, "ahead": ahead, "focal": camera.focal}
    seen |= {"middle": camera.centre, "size": length_of(chain)}
    return {
        "kind": "reach",
        "chain": {"joints": joints, **frames, **limits, **drives},
        "start": env.start_q.tolist(),
        "targets": env.targets,
        "control": env.control,
        "limit": env.max_episode_steps,
        "keys": {_KEYS[key]: move for key, move in moves.items() if key in _KEYS},
        "camera": seen,
    }


def _connect_four(env: ConnectFour) -> dict[str, Any]:
    return {"kind": CONNECT_FOUR, "rows": env.rows, "columns": env.columns, "threats": env.threats}


_WORLDS: dict[type, Callable[[Any], dict[str, Any]]] = {
    Snake: _snake,
    CartPole: _cartpole,
    Pricing: _season,
    Reach: _reach,
    ConnectFour: _connect_four,
}


def _finite(limits: tuple[float, ...]) -> list[float | None]:
    return [limit if np.isfinite(limit) else None for limit in limits]


def text_of(array: Array, dtype: Any) -> str:
    """The bytes of an array, little-endian, as base64."""
    return base64.b64encode(np.ascontiguousarray(array, np.dtype(dtype).newbyteorder("<")).tobytes()).decode()
