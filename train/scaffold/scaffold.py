"""The package that ``palaestra new`` writes: installable, with one tensor environment.

1. The templates in ``templates/`` are ordinary Python files, checked by the same linters, types and tests as the
   suite. Writing one replaces its names: ``my_env``, ``MyEnv``, ``SUMMARY``, ``COMMANDS``, and the module that its
   test imports.
2. The package is made beside its final place and moved there when it is complete, so a failure leaves nothing behind
   and nothing is ever overwritten.
3. No torch: names that are taken are looked up without importing an environment.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import keyword
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

_FOLDER = Path(__file__).parent / "templates"
_NAME = re.compile(r"[A-Za-z]([A-Za-z0-9_]*[A-Za-z0-9])?")  # what is both an identifier and a project's name
_OTHER_FOLDERS = ("tests", "build", "dist")  # other folders of a project


class ScaffoldError(ValueError):
    """The package cannot be written; the message says why."""


@dataclass(frozen=True)
class Template:
    """An environment to start from; ``discrete`` ones also suit DQN, and a person at the keyboard."""

    summary: str
    discrete: bool = True


TEMPLATES = {
    "minimal": Template("Catch the falling ball"),
    "grid": Template("Take the shortest way to the goal, through a house of four rooms"),
    "continuous": Template("Push a puck over smooth ice to a mark, with limited force", discrete=False),
}


def new_package(name: str, template: str = "minimal", parent: Path = Path()) -> Path:
    """Write the package and return its folder, ``parent`` / name.

    Args:
        name: of the package, its module and the environment; ``-`` becomes ``_``.
        template: a key of ``TEMPLATES``.
        parent: the folder to write it in.

    Raises:
        ScaffoldError: if the name cannot be used, the template is not known, the folder is there already or cannot be
            written.
    """
    if template not in TEMPLATES:
        close = difflib.get_close_matches(template, TEMPLATES, 1, 0.5)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(TEMPLATES)}"
        raise ScaffoldError(f"unknown template {template!r}; {hint}")
    module = name.replace("-", "_")
    if not _NAME.fullmatch(module):
        raise ScaffoldError(f"{name!r} is no name for a package: use letters, digits and _, with a letter first")
    folder = parent / module
    if folder.exists() or folder.is_symlink():
        raise ScaffoldError(f"{folder} exists already")
    if not parent.is_dir():
        raise ScaffoldError(f"there is no folder {parent}")
    _check_free(name, module)
    files = _files(module, template)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{module}-", dir=parent) as temporary:
            unfinished = Path(temporary) / module
            for path, text in files.items():
                (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
                (unfinished / path).write_text(text, encoding="utf-8")
            unfinished.rename(folder)
    except OSError as error:
        raise ScaffoldError(f"cannot write {folder.absolute()}: {error.strerror}") from error
    return folder


def next_commands(module: str, template: str, folder: str) -> list[str]:
    """The commands to run next, from where ``folder`` is the package's."""
    discrete = TEMPLATES[template].discrete
    return [
        f"pip install -e {shlex.quote(f'{folder}[test]')}",
        f"palaestra check {module}",
        f"palaestra train {module}",
        *([f"palaestra train {module} --agent dqn"] if discrete else []),
        "palaestra watch latest",
        f"palaestra evaluate expert --env {module}",
        *([f"palaestra play {module}"] if discrete else []),
        f"pytest {shlex.quote(folder)}",
    ]


def class_name(module: str) -> str:
    """``ad_bidding`` → ``AdBidding``."""
    return "".join(part[:1].upper() + part[1:] for part in module.split("_"))


def _check_free(name: str, module: str) -> None:
    """Raise a ScaffoldError unless ``module`` can be imported without hiding, or being hidden by, something else."""
    if keyword.iskeyword(module) or keyword.iskeyword(class_name(module)):
        raise ScaffoldError(f"{name!r} is a word of the Python language")
    if module in sys.stdlib_module_names:
        raise ScaffoldError(f"{module!r} is a module of Python's standard library")
    if module in _OTHER_FOLDERS:
        raise ScaffoldError(f"{module!r} is the name of another folder in a project")
    if module in (taken := {short.replace("-", "_"): short for short in _short_names()}):
        raise ScaffoldError(f"there is an environment {taken[module]!r} already")
    if (spec := importlib.util.find_spec(module)) is not None:
        where = f" ({spec.origin})" if spec.has_location else ""
        raise ScaffoldError(f"there is a module {module!r} already{where}")


def _short_names() -> set[str]:
    """Short names of the suite's environments, and of plug-ins that are called like their entry points."""
    names = {point.name for point in entry_points(group="palaestra.envs")}
    suite = importlib.util.find_spec("palaestra.envs")  # importing it would import torch
    assert suite is not None
    assert suite.origin is not None
    for node in ast.walk(ast.parse(Path(suite.origin).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register":
            names.add(ast.literal_eval(node.args[2]))
    return names


def _files(module: str, template: str) -> dict[str, str]:
    """The text of every file, by its path in the package."""
    sources = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{module}/__init__.py": "init.py",
        f"{module}/env.py": f"{template}.py",
        f"tests/test_{module}.py": f"test_{template}.py",
    }
    new = {
        f"palaestra.train.scaffold.templates.{template}": f"{module}.env",
        "my_env": module,
        "MyEnv": class_name(module),
        "SUMMARY": TEMPLATES[template].summary,
        "COMMANDS": "\n".join(next_commands(module, template, ".")),
    }
    old = re.compile("|".join(map(re.escape, new)))
    files = {}
    for path, source in sources.items():
        text = (_FOLDER / source).read_text(encoding="utf-8")
        for taken in (new["MyEnv"], new["MyEnv"] + "State"):
            if path.endswith(".py") and not taken.startswith("MyEnv") and re.search(rf"\b{taken}\b", text):
                raise ScaffoldError(f"the environment's class would be called {taken}, a name that its file needs")
        files[path] = old.sub(lambda match: new[match[0]], text)
    return files
