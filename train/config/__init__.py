"""Settings, presets and what they must fit.

Here is what can be said of the names on a command line without PyTorch, whose import takes seconds. What passes is
checked again where it is used.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palaestra.agents.base import OnDeviceAlgorithm

OWN_AGENTS = {
    "ppo": "palaestra.agents.ppo:PPO",
    "dqn": "palaestra.agents.dqn:DQN",
    "pqn": "palaestra.agents.pqn:PQN",
    "sac": "palaestra.agents.off_policy.sac:SAC",
    "td3": "palaestra.agents.off_policy.td3:TD3",
    "bc": "palaestra.agents.imitation.bc:BC",
    "recurrent-ppo": "palaestra.agents.recurrent.recurrent_ppo:RecurrentPPO",
}
"""The list of agents: a name and where its class is. Presets of one are in ``presets/NAME.yaml``."""
PLUGIN_GROUP = "palaestra.agents"
DEFAULT_AGENT = "ppo"
_NO_SETTINGS = {  # arguments of constructors
    *("self", "env", "device", "verbose", "seed", "_init_setup_model", "kwargs", "teacher"),
    *("rollout_buffer_class", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage", "action_noise"),
}
_OF_ALL = (
    "policy_kwargs",
    "stats_window_size",
    "restart_states",
    "weight_decay",
)  # settings that are in no agent's own constructor
_ALIKE = 0.8


@functools.cache
def agent_places() -> dict[str, str]:
    """Where the class of each agent is, "module:Class" by name: ours, then those of plug-ins.

    A plug-in is a package with an entry point ``name = "module:Class"`` in the group ``palaestra.agents``. Nothing of
    it is imported here. The names of ours stay ours.
    """
    from importlib.metadata import entry_points  # late: its import is a tenth of --help

    points = entry_points(group=PLUGIN_GROUP)
    return OWN_AGENTS | {point.name: point.value for point in points if point.name not in OWN_AGENTS}


class _Agents(Mapping[str, "type[OnDeviceAlgorithm]"]):
    """The classes of the agents by name, each imported when it is first needed; a plug-in that fails is left out.

    Looking up such a plug-in, or asking if it is there, raises a UserCodeError with what failed.
    """

    def __getitem__(self, name: str) -> type[OnDeviceAlgorithm]:
        found, error = _agent_class(name)
        if found is None:
            from palaestra.envs.core.user_code import UserCodeError

            raise UserCodeError(error)
        return found

    def __iter__(self) -> Iterator[str]:
        return (name for name in agent_places() if _agent_class(name)[0] is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)  # list() of this would ask for its length first


AGENTS: Mapping[str, type[OnDeviceAlgorithm]] = _Agents()


@functools.cache
def _agent_class(name: str) -> tuple[type[OnDeviceAlgorithm] | None, str]:
    """The class of that name, or None and why a plug-in has none. Raises a KeyError if there is no such agent."""
    from palaestra.agents.base import OnDeviceAlgorithm
    from palaestra.envs.core.user_code import RAISED, describe

    module, _, attribute = agent_places()[name].partition(":")
    try:
        found: Any = getattr(import_module(module), attribute)
    except RAISED as error:
        if name in OWN_AGENTS:
            raise
        return None, f"the plug-in agent {name} cannot be imported: {describe(error)}"
    if not isinstance(found, type) or not issubclass(found, OnDeviceAlgorithm):
        return None, f"the plug-in agent {name} cannot be used: {module}:{attribute} is no OnDeviceAlgorithm"
    return found, ""


def require_agent(name: str) -> None:
    """Raise a ConfigError unless there is such an agent, a UserCodeError if it is a plug-in that cannot be used."""
    from palaestra.train.config.schema import require_choice

    require_choice(name, agent_places(), "agent")
    AGENTS[name]


def agent_in(model_file: str | Path) -> str:
    """The name of the agent in a model file.

    Raises:
        ConfigError: if there is no such agent here.
        CheckpointError, FileNotFoundError: if it cannot be read.
    """
    from palaestra.agents.checkpoints.model_file import agent_of
    from palaestra.train.config.schema import require_choice

    names = {cls.__name__: name for name, cls in AGENTS.items()}
    found = agent_of(model_file)
    require_choice(found, names, f"agent in {model_file}:")
    return names[found]


def read_to_act(model_file: Path, device: str, simulations: int = 0) -> Any:
    """The agent in a model file as a player of games, which searches with so many simulations if there are any.

    Raises:
        ValueError: if it cannot search.
    """
    from palaestra.agents.checkpoints.model_file import read

    agent = read(AGENTS[agent_in(model_file)], model_file, device=device, to_act=True)
    if not simulations:
        return agent
    from palaestra.agents.search.searching_player import SearchingPlayer

    agent.policy.set_training_mode(False)
    return SearchingPlayer(agent, simulations)


def agent_errors() -> dict[str, str]:
    """What is wrong with the plug-ins that cannot be used, by the agent's name."""
    found = {name: _agent_class(name)[1] for name in agent_places()}
    return {name: error for name, error in found.items() if error}


def check_names(arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a command by their names: ``env``, ``agent`` and ``settings``.

    Raises:
        UnknownEnvError, UserCodeError: if there is no such environment.
        ConfigError: if there is no such agent or setting.
    """
    from palaestra.train.config.schema import require_choice

    if env := arguments.get("env"):
        check_env(env)
    agent = arguments.get("agent") or DEFAULT_AGENT
    if "agent" in arguments:
        require_choice(agent, agent_places(), "agent")
    if "agent" in arguments and not arguments.get("config"):
        _check_settings(agent, arguments.get("settings") or ())


def check_env(name: str) -> None:
    """Raise an error if there is no environment of that name; code of other people is not run for that."""
    from palaestra.envs.registry import resolve

    if ":" not in name and not name.endswith(".py"):
        resolve(name)


def option_names(agent: str) -> list[str]:
    """The settings of an agent, from its source; :func:`~palaestra.train.config.schema.options_of` has the class's.

    Those of a plug-in's agent are the class's, which is imported for that.
    """
    if agent not in OWN_AGENTS:
        from palaestra.train.config.schema import options_of

        return [*options_of(AGENTS[agent])]
    package = importlib.util.find_spec("palaestra.agents")
    assert package is not None
    assert package.origin is not None
    module, _, name = OWN_AGENTS[agent].partition(":")
    file = Path(package.origin).parent.joinpath(*module.split(".")[2:]).with_suffix(".py")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    (found,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
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
