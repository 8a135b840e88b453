"""One HTML file in which an agent plays: the player, the environment's rules and the network, all inside."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from importlib.resources import files
from typing import Any

from palaestra.agents.export.policy_network import MASK, ExportError
from palaestra.envs.core.reference import Array
from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS
from palaestra.train.web.onnx_graph import page_network, rounded_weights
from palaestra.train.web.worlds import world_of

EPISODES = 1000  # that a page can show: those of the final evaluation
SCRIPTS = ("drawing", "random", "network", "snake", "cartpole", "season", "reach", "player")


def script() -> str:
    """All of the player's JavaScript."""
    return "\n".join(_part(f"{name}.js").replace('"use strict";\n', "", 1) for name in SCRIPTS)


def style() -> str:
    """The player's CSS; its elements are within ``.player``."""
    return _part("player.css")


def player_data(content: bytes, env: Any, precision: str) -> dict[str, Any]:
    """What the player needs: ``world``, ``network``, and the held-out episodes that it shows.

    Args:
        content: the ONNX file of the policy.
        env: the batch that it plays in.
        precision: of the weights, see :mod:`palaestra.train.web.onnx_graph`.

    Raises:
        ExportError: if a page cannot play the environment or compute the policy.
    """
    if not isinstance(env, TensorVectorEnv):
        raise ExportError("a page cannot play this environment, whose rules are not tensor code: use --format onnx")
    world = world_of(env.env)
    return {"world": world, "network": page_network(content, precision), "seed": EVALUATION_SEEDS, "episodes": EPISODES}


def page(data: dict[str, Any], name: str, contract: dict[str, Any]) -> bytes:
    """The whole file.

    Args:
        data: of :func:`player_data`.
        name: the environment's, for its heading.
        contract: of the policy, which the page carries and tells of.
    """
    parts = {
        "title": escape(f"{contract['agent']['algorithm'].upper()} plays {name}"),
        "subtitle": escape(_subtitle(contract)),
        "footer": escape(_footer(contract)),
        "style": style(),
        "script": script(),
        "data": in_script({**data, "contract": contract}),
    }
    text = _part("page.html")
    for key, part in parts.items():
        text = text.replace(f"{{{{ {key} }}}}", part)
    return text.encode()


def in_script(data: Any) -> str:
    """JSON that can stand within a script element, whatever texts are in it."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def acting(content: bytes, precision: str) -> Callable[[dict[str, Array]], Array]:
    """The actions that a page of that precision takes, computed with ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(rounded_weights(content, precision), providers=["CPUExecutionProvider"])

    def act(feed: dict[str, Array]) -> Array:
        (action,) = session.run(["action"], {name: part for name, part in feed.items() if name != MASK})
        found: Array = action
        return found

    return act


def _subtitle(contract: dict[str, Any]) -> str:
    steps = contract["agent"]["steps"]
    told = f"Trained for {steps:,} steps"
    scores = contract["scores"] or {}
    if isinstance(mean := scores.get("mean"), float):
        told += f"; mean return of held-out episodes {mean:.5g}"
        if isinstance(share := scores.get("percent_of_optimal"), float):
            told += f" ({share:.1f} % of optimal)"
    return f"{told}. These are the episodes of its evaluation; the rules run in this page."


def _footer(contract: dict[str, Any]) -> str:
    made = contract["made_with"]
    known = [f"{key} {made[key]}" for key in ("palaestra", "torch") if key in made]
    keys = "Space plays and pauses, . is one step, N the next episode, R again, T takes over"
    return f"{contract['environment']['id']}, made with {', '.join(known)} on {made['written'][:10]}. Keys: {keys}."


def _part(name: str) -> str:
    return (files("palaestra.train.web.player") / name).read_text(encoding="utf-8")
