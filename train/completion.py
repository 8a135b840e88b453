"""Completion in shells: what the arguments of commands can be, found without PyTorch, whose import takes seconds.

1. typer writes the script of a shell (``palaestra --install-completion``), which runs the command at every Tab with
   ``_PALAESTRA_COMPLETE`` set. It knows commands and options; the values are found here, by the names of arguments and
   by what the help calls their values (ENV, RUN), so that commands need not say anything.
2. Runs are ``latest``, ``latest:ENV`` and the run folders below ``runs/``, the newest ``MOST_RUNS`` of those that begin
   as typed.
3. bash takes colons and equals signs for the ends of words. They are joined again, and what is in front of the last
   colon is left out of the answer, for bash puts the answer behind it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from typer import Context
from typer.models import ParameterInfo

MOST_RUNS = 50
_BEFORE = "_PALAESTRA_TYPED"  # holds the part of the word that bash keeps
_CHOICES = {
    "device": ("auto", "cpu", "cuda"),
    "track": ("auto", "online", "offline", "disabled"),
    "stop_at": ("solved", "plateau"),
}

Suggestion = str | tuple[str, str]  # with what a shell may say of it


def join_words(environ: MutableMapping[str, str]) -> None:
    """Undo bash's cuts at colons and equals signs in the words that it hands over."""
    if environ.get("_PALAESTRA_COMPLETE") != "complete_bash" or "COMP_WORDS" not in environ:
        return
    words, place = environ["COMP_WORDS"].split("\n" if "\n" in environ["COMP_WORDS"] else " "), environ["COMP_CWORD"]
    joined: list[str] = []
    inside = False
    for word in [*words, ""][: int(place) + 1]:
        sign = bool(word) and not word.strip(":=")
        if joined and word and (sign or inside):
            joined[-1] += word
        else:
            joined.append(word)
        inside = sign
    before, colon, joined[-1] = joined[-1].rpartition(":")
    environ.update({_BEFORE: before + colon, "COMP_WORDS": "\n".join(joined), "COMP_CWORD": str(len(joined) - 1)})


def with_values(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command, whose arguments tell typer what they can be."""

    @functools.wraps(command)
    def completed(**arguments: Any) -> Any:
        return command(**arguments)

    signature = inspect.signature(command, eval_str=True)
    for parameter in signature.parameters.values():
        for info in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(info, ParameterInfo):
                info.autocompletion = _completion(parameter.name, info)
    completed.__signature__ = signature  # type: ignore[attr-defined]
    completed.__annotations__ = {parameter.name: parameter.annotation for parameter in signature.parameters.values()}
    return completed


def _completion(name: str, info: ParameterInfo) -> Callable[[Context, str], list[Suggestion]]:
    """For an argument: gives what begins as typed, without the part that bash keeps."""

    def complete(ctx: Context, incomplete: str) -> list[Suggestion]:
        before = os.environ.get(_BEFORE, "")
        found = _values(name, info, ctx.params, before + incomplete)
        pairs = (value if isinstance(value, tuple) else (value, "") for value in found)
        told = [(value.removeprefix(before), about) for value, about in pairs if value.startswith(before + incomplete)]
        return [(value, about) if about else value for value, about in told]

    return complete


def _values(name: str, info: ParameterInfo, given: dict[str, Any], typed: str) -> Iterable[Suggestion]:
    """What an argument can be; ``given`` are those in front of it."""
    words = re.findall("[A-Z]+", info.metavar or "")
    if "RUN" in words:
        scripted = (word for word in ("random", "expert") if word in (info.help or ""))
        return [*_runs(typed), *scripted]
    if "ENV" in words:
        return _envs(typed)
    if name in ("agent", "agents"):
        from palaestra.train.config import agent_places

        return agent_places()
    if name in ("settings", "vary"):
        return (f"{key}=" for key in _keys(given))
    return _CHOICES.get(name, ())


def _envs(typed: str) -> Iterator[Suggestion]:
    """Ours and those of plug-ins by their short names; Gymnasium's too as soon as something is typed."""
    from palaestra.envs.registry import entries

    yield from ((entry.short_name, entry.summary) for entry in entries())
    if typed:
        import gymnasium

        yield from gymnasium.registry


def _runs(typed: str) -> Iterator[Suggestion]:
    """The names of runs that begin as typed."""
    from palaestra.train.config import agent_places
    from palaestra.train.runs.finding import runs_by_age

    yield "latest", "the run that began last"
    if typed and "latest".startswith(typed[: len("latest")]):
        trained = (Path(env) for env in _inside("runs") if any(Path(env, agent).is_dir() for agent in agent_places()))
        yield from sorted(f"latest:{env.name}" for env in trained)
    run, _, tail = typed.rpartition(":")
    if run and "best".startswith(tail) and not run.endswith(":best"):
        yield f"{run}:best"
    if "runs/".startswith(typed) or typed.startswith("runs/"):
        yield from islice((path for path in runs_by_age() if path.startswith(typed)), MOST_RUNS)


def _inside(folder: str) -> list[str]:
    """The folders in one; none if it is none."""
    with suppress(OSError), os.scandir(folder) as found:
        return [entry.path for entry in found if entry.is_dir()]
    return []


def _keys(given: dict[str, Any]) -> Iterator[str]:
    """Settings of the agent, and of an environment of ours, as their sources have them."""
    from palaestra.train.config import DEFAULT_AGENT, agent_places, option_names

    if "agent" in given:  # other commands take those of environments only
        agent = given["agent"] or DEFAULT_AGENT
        yield from option_names(agent) if agent in agent_places() else ()
    if isinstance(env := given.get("env"), str):
        from palaestra.envs.registry import entries

        places = (entry.entry_point for entry in entries() if env in (entry.short_name, entry.id))
        yield from (f"env.{name}" for place in places for name in _arguments(place))


def _arguments(place: str) -> list[str]:
    """Of the constructor of "palaestra.envs…:Class"; none of a class from elsewhere."""
    from palaestra import envs

    module, _, name = place.partition(":")
    file = Path(str(envs.__file__)).parent.joinpath(*module.split(".")[2:]).with_suffix(".py")
    if not module.startswith(f"{envs.__name__}.") or not file.is_file():
        return []
    classes = (node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef))
    bodies = (node for found in classes if found.name == name for node in found.body)
    init = next((node for node in bodies if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)
    return [] if init is None else [argument.arg for argument in (*init.args.args[1:], *init.args.kwonlyargs)]
