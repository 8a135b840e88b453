"""Settings, presets and what they must fit.

Here is what can be said of the names on a command line without PyTorch, whose import takes seconds. What passes is
checked again where it is used.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

AGENT_NAMES = ("ppo", "dqn", "pqn")
_NO_SETTINGS = {  # arguments of constructors
    *("self", "env", "device", "verbose", "seed", "_init_setup_model", "kwargs"),
    *("rollout_buffer_class", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"),
}
_OF_ALL = (
    "policy_kwargs",
    "stats_window_size",
    "restart_states",
    "weight_decay",
)  # settings that are in no agent's own constructor
_ALIKE = 0.8


def check_names(arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a command by their names: ``env``, ``agent`` and ``settings``.

    Raises:
        UnknownEnvError, UserCodeError: if there is no such environment.
        ConfigError: if there is no such agent or setting.
    """
    from palaestra.train.config.schema import require_choice

    if env := arguments.get("env"):
        check_env(env)
    agent = arguments.get("agent") or "ppo"
    if "agent" in arguments:
        require_choice(agent, AGENT_NAMES, "agent")
    if "agent" in arguments and not arguments.get("config"):
        _check_settings(agent, arguments.get("settings") or ())


def check_env(name: str) -> None:
    """Raise an error if there is no environment of that name; code of other people is not run for that."""
    from palaestra.envs.registry import resolve

    if ":" not in name and not name.endswith(".py"):
        resolve(name)


def option_names(agent: str) -> list[str]:
    """The settings of an agent, from its source; :func:`~palaestra.train.config.schema.options_of` has the class's."""
    package = importlib.util.find_spec("palaestra.agents")
    assert package is not None
    assert package.origin is not None
    tree = ast.parse(Path(package.origin).with_name(f"{agent}.py").read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == agent.upper())
    (init,) = (node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in (*init.args.args, *init.args.kwonlyargs)]
    return [*(name for name in names if name not in _NO_SETTINGS), *_OF_ALL]


def _check_settings(agent: str, settings: Sequence[str]) -> None:
    """Raise a ConfigError if a setting is nearly one of the agent's."""
    from palaestra.envs.core.suggest import closest
    from palaestra.train.config.schema import require_choice

    keys = [setting.partition("=")[0].partition(".")[0] for setting in settings if "=" in setting]
    names = option_names(agent) if keys else []
    for key in keys:
        if key not in names and closest(key, names, _ALIKE):
            require_choice(key, names, f"{agent} setting")
