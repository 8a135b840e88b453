"""Imports of user code, the precise place where one fails, and where what it prints goes."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

RAISED = (Exception, SystemExit)  # what user code may raise: sys.exit too, but Ctrl-C is the user's
_LIBRARIES = {"palaestra", "torch", "numpy", "gymnasium", "stable_baselines3", "wandb", *sys.stdlib_module_names}


class Printing:
    """A block around code of other people, which may print.

    A program with a screen of its own puts its own block in the place of :data:`printing`, where environments find it.
    """

    place: Path | None = None

    def __enter__(self) -> None:
        """Nothing is done with what they print."""

    def __exit__(self, *error: object) -> None:
        """Nothing either."""

    def keep_in(self, file: Path) -> None:
        """Where it is kept, it is kept in that file, which becomes ``place``."""

    def give_back(self) -> None:
        """What was kept so far belongs on the screen."""


printing = Printing()


class UserCodeError(ValueError):
    """User code cannot be imported, or an environment not be made; the message says why and where."""


def import_module(name: str) -> ModuleType:
    """The module of that dotted name.

    Raises:
        UserCodeError: with what its import raises.
    """
    try:
        with Printing() if name.startswith("palaestra.") else printing:
            return importlib.import_module(name)
    except RAISED as error:
        raise UserCodeError(f"cannot import {name}: {describe(error)}") from error


def import_file(path: Path) -> ModuleType:
    """The module in a Python file, imported once; modules beside it can be imported by it, as when it is run.

    Raises:
        UserCodeError: if there is no such file, or with what its import raises.
    """
    path = path.resolve()
    if not path.is_file():
        raise UserCodeError(f"there is no file {path}")
    name = f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"  # two files may have one name
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the name ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        with printing:
            spec.loader.exec_module(module)
    except RAISED as error:
        del sys.modules[name]
        raise UserCodeError(f"cannot import {path.name}: {describe(error)}") from error
    return module


def source_digest(code: Any) -> str:
    """SHA-256 of the files that define a class and its bases, or a function, without those of libraries."""
    files = set()
    for part in getattr(code, "__mro__", (code,)):
        name = part.__module__
        own = not name.startswith("palaestra.") or name.startswith("palaestra.envs.")
        if own and not name.startswith("palaestra.envs.core.") and name.split(".")[0] not in _LIBRARIES - {"palaestra"}:
            files.add(getattr(sys.modules.get(name), "__file__", None))
    digest = hashlib.sha256()
    for file in sorted(file for file in files if file is not None):
        digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()


def one_line(thing: object) -> str:
    """The text of an object without line breaks and rows of spaces."""
    return " ".join(str(thing).split())


def describe(error: BaseException) -> str:
    """Kind, message and place of an exception in one line; the place is the last one outside the libraries.

    An exception without a message, as a bare ``assert`` raises, is told by its line of code.
    """
    text = one_line(error)
    if isinstance(error, UserCodeError):  # one of these descriptions
        return text
    if isinstance(error, SyntaxError):  # its message has the place already
        return f"{type(error).__name__}: {text}"
    places = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").split(".")[0] not in _LIBRARIES and frame.f_code.co_filename[0] != "<"
    ]
    if not places:
        return f"{type(error).__name__}: {text}"
    file, line = places[-1]
    return f"{type(error).__name__}: {text or linecache.getline(file, line).strip()} ({Path(file).name}:{line})"
