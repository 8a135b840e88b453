"""One HTML file in which an agent plays, or a person against it: player, rules and network, all inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from importlib.resources import files
from typing import Any

from palaestra.agents.export.policy_network import ExportError
from palaestra.envs.core.reference import Array
from palaestra.envs.core.vector import TensorVectorEnv
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS
from palaestra.train.plain_json import in_script
from palaestra.train.web.onnx_graph import rounded_weights
from palaestra.train.web.worlds import GAMES, world_of

EPISODES = 1000  # that a page can show: those of the final evaluation
SCRIPTS = (
    *("drawing", "random", "network"),
    *("snake", "cartpole", "season", "reach", "player"),
    *("connect_four", "game_player"),
)
_EPISODES = "Space plays and pauses, . is one step, N the next episode, R the same again, and T takes over"
_GAME = "Click a column, or press its number; N begins a new game, U takes a move back, and H asks for a hint"


def script() -> str:
    """All of the player's JavaScript, which defines ``playerOf(element, data)``."""
    return "\n".join(_part(f"{name}.js").replace('"use strict";\n', "", 1) for name in SCRIPTS)


def script_within(data: str) -> str:
    """The same for a page that has an element ``player``, with its data where ``data`` says, in JavaScript."""
    begin = f'window.player = playerOf(document.getElementById("player"), {data});'
    return f'(() => {{\n"use strict";\n{script()}\n{begin}\n}})();'


def style() -> str:
    """The player's CSS; its elements are within ``.player``."""
    return _part("player.css")


def played_in(env: Any) -> dict[str, Any]:
    """What the player needs beside a ``network``: the ``world`` of a batch, and the held-out episodes that it shows.

    Raises:
        ExportError: if a page cannot play the environment.
    """
    if not isinstance(env, TensorVectorEnv):
        raise ExportError("a page cannot play this environment, whose rules are not tensor code: use --format onnx")
    return {"world": world_of(env.env), "seed": EVALUATION_SEEDS, "episodes": EPISODES}


def page(data: dict[str, Any], name: str) -> bytes:
    """The whole file.

    Args:
        data: of :func:`played_in`, the ``network``, and the policy's ``contract``, which the page carries and tells of.
        name: the environment's, for its heading.
    """
    contract = data["contract"]
    parts = {
        "title": escape(f"{contract['agent']['algorithm'].upper()} plays {name}"),
        "subtitle": escape(_subtitle(contract, is_for_two(data))),
        "footer": escape(f"{_made(contract)} {manual(data)}"),
        "style": style(),
        "script": script(),
        "data": in_script(data),
    }
    text = _part("page.html")
    for key, part in parts.items():
        text = text.replace(f"{{{{ {key} }}}}", part)
    return text.encode()


def acting(content: bytes, precision: str) -> Callable[[dict[str, Array]], Array]:
    """The actions that a page of that precision takes, computed with ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(rounded_weights(content, precision), providers=["CPUExecutionProvider"])
    asked = [end.name for end in session.get_inputs()]

    def act(feed: dict[str, Array]) -> Array:
        (action,) = session.run(["action"], {name: feed[name] for name in asked})
        found: Array = action
        return found

    return act


def is_for_two(data: Mapping[str, Any]) -> bool:
    """True if a person plays against the agent in the page of these data."""
    return data["world"]["kind"] in GAMES


def manual(data: Mapping[str, Any]) -> str:
    """The keys, in a sentence."""
    return f"{_GAME if is_for_two(data) else f'Keys: {_EPISODES}'}."


def _subtitle(contract: dict[str, Any], for_two: bool) -> str:
    steps = contract["agent"]["steps"]
    told = f"Trained for {steps:,} steps"
    scores = contract["scores"] or {}
    if isinstance(mean := scores.get("mean"), float):
        told += f"; mean return of held-out episodes {mean:.5g}"
        if isinstance(share := scores.get("percent_of_optimal"), float):
            told += f" ({share:.1f} % of optimal)"
    what = "You play against it" if for_two else "These are the episodes of its evaluation"
    return f"{told}. {what}; the rules run in this page."


def _made(contract: dict[str, Any]) -> str:
    made = contract["made_with"]
    known = [f"{key} {made[key]}" for key in ("palaestra", "torch") if key in made]
    return f"{contract['environment']['id']}, made with {', '.join(known)} on {made['written'][:10]}."


def _part(name: str) -> str:
    return (files("palaestra.train.web.player") / name).read_text(encoding="utf-8")
