"""Names of environments, and the one function that makes a batch of any of them.

A name is a short name (``snake-small``), a full id (``palaestra/SnakeSmall-v0``), any Gymnasium id (``CartPole-v1``),
``module:Id-v0``, where importing ``module`` registers the id, or ``module:MyEnv`` or ``path/file.py:MyEnv``, the class
itself: a :class:`TensorEnv` or a ``gymnasium.Env``. Ids are also registered with Gymnasium, so
``gymnasium.make("palaestra.envs:palaestra/Snake-v0")`` works in any script.

Plug-ins: a package whose entry-point group ``palaestra.envs`` names a module is imported before names are looked up;
the module calls :func:`register`. A plug-in that fails to import is kept with its error and breaks nothing else.
(Gymnasium 1.x has no entry-point group of its own any more.)
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from palaestra.envs.core import user_code
from palaestra.envs.core.suggest import closest
from palaestra.envs.core.user_code import RAISED, UserCodeError, describe, import_file, import_module
from palaestra.envs.specs import GymnasiumSpec, ResolvedEnv, TensorEnvSpec

if TYPE_CHECKING:
    import torch

    from palaestra.envs.core import BatchedEnv

PLUGIN_GROUP = "palaestra.envs"
_REGISTERED_BEFORE = frozenset(gymnasium.registry)  # Gymnasium's own ids, and those of what was imported first


_REGISTERING = {  # how ids begin → the module whose import registers them, the package that holds it
    "ALE/": ("ale_py", "ale-py"),
    **dict.fromkeys(("MiniGrid-", "BabyAI-"), ("minigrid", "minigrid")),
    **dict.fromkeys(
        ("Fetch", "HandManipulate", "HandReach", "AdroitHand", "PointMaze", "AntMaze", "FrankaKitchen"),
        ("gymnasium_robotics", "gymnasium-robotics"),
    ),
    "Panda": ("panda_gym", "panda-gym"),
    **dict.fromkeys(
        ("highway-", "merge-", "roundabout-", "parking-", "intersection-", "racetrack-"), ("highway_env", "highway-env")
    ),
    "FlappyBird-": ("flappy_bird_gymnasium", "flappy-bird-gymnasium"),
    **dict.fromkeys(("stocks-", "forex-"), ("gym_anytrading", "gym-anytrading")),
}


class UnknownEnvError(ValueError):
    """No environment has that name; the message gives the closest match."""


_ENTRIES: dict[str, TensorEnvSpec] = {}


def register(
    id: str, entry_point: str, short_name: str, summary: str, *, presets: Mapping[str, Any] | None = None, **kwargs: Any
) -> None:
    """Register an environment here and with Gymnasium.

    Args:
        id: "namespace/Name-v0"; bump the version when behaviour changes.
        entry_point: "module:Class" of a :class:`TensorEnv`.
        short_name: what people type on the command line.
        summary: one line for ``palaestra envs``.
        presets: settings that train it well, by agent: ``{"ppo": {...}}`` with the keys ``num_envs``,
            ``total_timesteps``, ``env_kwargs`` and ``agent_kwargs`` of a run's ``config.yaml``, all optional.
        kwargs: arguments of the class.

    Raises:
        ValueError: if the id or the short name is taken by another environment.
        TypeError: if ``presets`` is no mapping.
    """
    if not isinstance(presets, Mapping | None):
        raise TypeError(f"presets of {id}: expected a mapping by agent, got {presets!r}")
    entry = TensorEnvSpec(id, short_name, id, summary, entry_point, kwargs, presets=presets or {})
    for other in _ENTRIES.values():
        if other != entry and (other.id == id or other.short_name == short_name):
            raise ValueError(f"{id} ({short_name}): the name is taken by {other.id} ({other.short_name})")
    if id in _ENTRIES:
        return
    _ENTRIES[id] = entry
    gymnasium.register(
        id,
        entry_point="palaestra.envs.interop.gymnasium_env:SingleEnv",
        vector_entry_point="palaestra.envs.building:vector_env",
        kwargs={"tensor_env": entry_point, **kwargs},
    )


def entries() -> list[TensorEnvSpec]:
    """All registered environments, built-in ones first."""
    plugin_errors()
    return list(_ENTRIES.values())


def relatives(env: ResolvedEnv) -> list[TensorEnvSpec]:
    """Registered environments of the same class, then those of the classes that it is derived from, nearest first.

    Of one class, those come first whose arguments this environment has too, its defaults included. Gymnasium
    environments have none, nor has a class that cannot be imported.
    """
    from palaestra.envs.core import TensorEnv

    try:
        bases = env.load().__mro__ if isinstance(env, TensorEnvSpec) else ()
    except RAISED:  # it is reported where the environment is made
        return []
    defaults: dict[str, Any] = {}
    for base in reversed(bases):
        parameters = inspect.signature(base).parameters if issubclass(base, TensorEnv) else {}
        defaults |= {name: parameter.default for name, parameter in parameters.items()}
    arguments = {**defaults, **getattr(env, "kwargs", {})}
    found = []
    for base in bases:
        same = [entry for entry in entries() if entry.id != env.id and _is_entry_point(entry.entry_point, base)]
        found += sorted(same, key=lambda e: any(arguments.get(name) != value for name, value in e.kwargs.items()))
    return found


def _is_entry_point(entry_point: str, found: type) -> bool:
    """True if "module:Class" is that class, which its module may have imported from another."""
    module, _, name = entry_point.partition(":")
    return getattr(sys.modules.get(module), name, None) is found


@functools.cache
def plugin_errors() -> dict[str, str]:
    """Import every plug-in once; the errors of those that failed, by entry-point name."""
    errors = {}
    for point in entry_points(group=PLUGIN_GROUP):
        try:
            point.load()
        except RAISED as error:  # it is reported by name and stops nothing else
            errors[point.name] = describe(error)
    return errors


def resolve(name: str) -> ResolvedEnv:
    """The environment of that name.

    Raises:
        UnknownEnvError: naming the closest match.
        UserCodeError: if the module, the file or the plug-in cannot be imported.
    """
    found = _found(name)
    if found.in_tensors:
        user_code.printing.give_back()
    return found


def _found(name: str) -> ResolvedEnv:
    """See :func:`resolve`."""
    if name.partition(":")[0].partition(".")[0] == "pettingzoo":
        raise UnknownEnvError(f"{name} is for several players and no Gymnasium environment; agents here play alone")
    place, _, id = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    module, absolute = (None, id) if not place else _import(place, id)
    classes = {} if module is None else _classes(module)
    if id in classes:
        return _of_class(classes[id], absolute)
    known = entries()
    for entry in known:
        if id in (entry.id, entry.short_name):
            if entry.id.startswith("palaestra/"):
                _check_it_is_from(module, place, id, "palaestra")
            # from a module that registers it when it is imported, which its id alone would not
            return replace(entry, absolute_name=absolute) if place else entry
    if id in gymnasium.registry:
        if id in _REGISTERED_BEFORE and str(gymnasium.spec(id).entry_point).startswith("gymnasium.envs."):
            _check_it_is_from(module, place, id, "gymnasium")
        return _of_spec(gymnasium.spec(id), absolute)
    if module is not None:
        raise UnknownEnvError(_none_of_that_name(module, place, id, list(classes)))
    for plugin, error in plugin_errors().items():
        if plugin in (id, id.partition("/")[0]):
            raise UserCodeError(f"the plug-in {plugin} cannot be imported: {error}")
    raise UnknownEnvError(f"unknown environment {name!r}{_way_out(id, known)}")


def _way_out(id: str, known: Sequence[TensorEnvSpec]) -> str:
    """Where an unknown id comes from, or the closest known one, or where there are lists."""
    for start, (module, package) in _REGISTERING.items():
        if id.startswith(start):
            missing = "" if importlib.util.find_spec(module) else f" (after pip install {package})"
            return f"; {package} registers it: name it {module}:{id}{missing}"
    if Path(id).is_dir():
        return f": that is a folder; name a class in a file of it, FILE.py:CLASS, or pip install -e {id}"
    names = [n for entry in known for n in (entry.short_name, entry.id)] + sorted(gymnasium.registry)
    points = (str(spec.entry_point).split(".") for spec in gymnasium.registry.values())
    kinds = sorted({parts[2] for parts in points if parts[:2] == ["gymnasium", "envs"]})
    return _closest(id, names, f"; palaestra envs lists ours, and Gymnasium has {', '.join(kinds)}")


def _import(place: str, id: str) -> tuple[ModuleType, str]:
    """The module or file at ``place``, and a name for ``id`` in it that means the same in any folder."""
    if not place.endswith(".py"):
        return import_module(place), f"{place}:{id}"
    path = Path(place).expanduser()
    return import_file(path), f"{path.resolve()}:{id}"


def _classes(module: ModuleType) -> dict[str, type]:
    """The environment classes that a module defines, by name."""
    from palaestra.envs.core import TensorEnv

    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, TensorEnv | gymnasium.Env)
        and value.__module__ == module.__name__
    }


def _of_class(found: type, absolute: str) -> ResolvedEnv:
    """An environment class under an id of its own."""
    from palaestra.envs.core import TensorEnv

    name = found.__qualname__
    if issubclass(found, TensorEnv):
        summary = (found.__doc__ or "").strip().partition("\n")[0]
        return TensorEnvSpec(absolute, name, absolute, summary, f"{found.__module__}:{name}")
    id = re.sub(r"[^\w-]", "-", found.__module__) + f"/{name}-v0"  # Gymnasium takes no dots and spaces there
    if id not in gymnasium.registry:
        entry_point: Any = found
        gymnasium.register(id, entry_point=entry_point)
    return _of_spec(gymnasium.spec(id), absolute)


def _of_spec(spec: EnvSpec, absolute: str) -> GymnasiumSpec:
    return GymnasiumSpec(spec.id, absolute.rpartition(":")[2].replace("/", "-"), absolute, "", spec)


def _none_of_that_name(module: ModuleType, place: str, id: str, classes: list[str]) -> str:
    if not id:
        return f"which environment of {place}? " + (" or ".join(f"{place}:{c}" for c in classes) or "it has none")
    otherwise = f"; it has {', '.join(classes)}" if classes else ""
    found = vars(module).get(id)
    if isinstance(found, type):
        imported = found.__module__ != module.__name__
        why = f"comes from {found.__module__}: name that" if imported else "is neither a TensorEnv nor a gymnasium.Env"
        return f"{place} has no environment {id!r}: the class {why}{otherwise}"
    return f"{place} has no environment {id!r}{_closest(id, classes, otherwise)}"


def _check_it_is_from(module: ModuleType | None, place: str, id: str, owner: str) -> None:
    """Raise an UnknownEnvError where the id is the package ``owner``'s and another was named, such as old gym."""
    if module is not None and module.__name__.partition(".")[0] != owner:
        raise UnknownEnvError(f"{place} does not register {id!r}, which is {owner}'s: name it without {place}:")


def _closest(name: str, names: list[str], otherwise: str) -> str:
    close = closest(name, names)
    return f"; did you mean {close!r}?" if close else otherwise


def make(
    id: str, num_envs: int = 1024, device: torch.device | str = "auto", seed: int = 0, **env_kwargs: Any
) -> BatchedEnv:
    """A batch of environments whose arrays are tensors on ``device``.

    Args:
        id: any name that :func:`resolve` knows.
        num_envs: how many copies, at least 1.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"cuda"``, …
        seed: at least 0.
        env_kwargs: arguments of the environment, over the registered ones; ``max_episode_steps``,
            ``first_env_index`` and ``render_mode`` are the batch's (see :class:`TensorVectorEnv`), as is ``compile``
            (True compiles its steps on the CPU, see :mod:`palaestra.envs.compiled.batch`), and those of
            :mod:`palaestra.envs.wrappers` have their names, such as ``frame_stack``.

    Raises:
        UnknownEnvError: no such environment.
        TypeError, ValueError: if the environment refuses its arguments.
    """
    return resolve(id).make(num_envs, device, seed, **env_kwargs)
