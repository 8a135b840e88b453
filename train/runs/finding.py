"""Run folders by their names on the command line: a path, the start of a name below ``runs/``, ``latest``,
``latest:ENV``, and ``:best`` behind any of them.

1. ``latest`` is the run that began last. A folder that training named, ``runs/ENV/AGENT/TIME-sSEED``, says so itself;
   for others it is the time of ``config.yaml``, which is written as a run begins, and decides too between runs that
   began in one second. Only those others, and the newest of the former, are looked into: asking the disk after one file
   in each of ten thousand folders takes seconds unless they are in memory.
2. It must have a model, or to be resumed a model or a checkpoint.
3. Of ``latest:ENV`` the configuration decides, whatever the folder is called.
4. The start of a name is that of the last folder of a path, of four letters or more, with or without folders above it:
   ``20261129-1218``, ``ppo/20261129``. It must fit one run; a whole name goes before those that only begin with it.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palaestra.train.config.schema import ConfigError
from palaestra.train.runs.run_folder import CONFIG, ROOT, STAMP, RunFolder

if TYPE_CHECKING:
    import numpy as np

    from palaestra.envs.specs import ResolvedEnv

_SHORTEST = 4  # letters of the start of a name
_TOLD = 3  # runs in a message
_LEVELS = 3  # --run-dir may have put a run higher than our own, which lie at the third
_NAMED = re.compile(r"(\d{4}(?:0[1-9]|1[0-2])(?:[0-2]\d|3[01])-(?:[01]\d|2[0-3])[0-5]\d[0-5]\d)-s\d+(?:\.\d+)?")
_ENV = re.compile(rb"env: ([\w./:-]+)\n?")  # a configuration's first line, where its value is plain


def find_run(name: str, to_resume: bool = False) -> RunFolder:
    """The folder of that path, the newest run below ``runs/`` for ``latest``, or that of ENV for ``latest:ENV``.

    The newest is one with a model, or ``to_resume`` with a model or a checkpoint. Of a path that is not there it is the
    run whose name begins so, if there is one.

    Raises:
        ConfigError, UnknownEnvError: if there is none, no such environment, or several names begin so.
    """
    word, colon, env = name.partition(":")
    if word != "latest" or (colon and Path(name).exists()):
        return RunFolder(_beginning(name) or Path(name))
    if colon and not env:
        raise ConfigError(f"no run {name!r}: name an environment, as in latest:cartpole, or leave the colon out")
    wanted = _environment(name, env) if colon else None
    runs = (RunFolder(Path(path)) for path in runs_by_age() if wanted is None or _plays_in(wanted, path))
    found = next((run for run in runs if run.can_go_on(to_resume)), None)
    if found is None:
        run, file = f"run of {env}" if colon else "run", "checkpoint" if to_resume else "model"
        train = shlex.join(["palaestra", "train", *([env] if colon else [])])
        raise ConfigError(f"there is no {run} with a {file} below runs/ yet; {train} makes one")
    return found


def _environment(name: str, env: str) -> ResolvedEnv:
    from palaestra.envs.core.user_code import UserCodeError
    from palaestra.envs.registry import UnknownEnvError
    from palaestra.train.config.run_config import environment

    try:
        return environment(env)
    except (UserCodeError, UnknownEnvError) as error:
        if isinstance(error, UnknownEnvError) and ":" not in env:
            raise
        raise ConfigError(f"{name}: {error}; a run is named latest, latest:ENV or latest:ENV:best") from error


def find_model(name: str) -> Path:
    """The model file of that name, run folder or ``latest`` (:func:`find_run`), ``RUN:best`` its best.

    Raises:
        ConfigError, UnknownEnvError: if there is none.
    """
    path = _located(name)
    if path.is_dir():
        return RunFolder(path).model()
    if not path.is_file():
        raise ConfigError(_no_run(name))
    return path


def find_unfinished(name: str) -> Path:
    """The run folder to resume, or a file in one; names and errors are those of :func:`find_model`."""
    path = _located(name, to_resume=True)
    if not path.exists():
        raise ConfigError(_no_run(name, to_resume=True))
    return path


def curves(run: str | Path) -> dict[str, np.ndarray]:
    """The curves of a run, ``progress.csv``, as columns; ``agents/README.md`` says what each is.

    Args:
        run: a run folder or the start of its name, "latest", or "latest:ENV".

    Returns:
        Arrays [rows] by name: ``global_step`` of int64, all others of float64, in which an empty cell is NaN. The last
        row is that of the final evaluation, if there was one. Rows that cannot be read are left out, with a warning.

    Raises:
        ConfigError: if there is no such run, or it has no curves or no table in their place.
    """
    import warnings

    folder = find_run(str(run))
    if not folder.progress_file.is_file():
        raise ConfigError(f"there is no {folder.progress_file}: give a run folder with curves, or latest")
    found, unread = folder.curves.table()
    if unread:
        warnings.warn(
            f"{folder.progress_file} is damaged: {unread:,} rows that cannot be read are left out", stacklevel=2
        )
    return found


def check_run_names(arguments: Mapping[str, Any]) -> None:
    """Check the arguments ``run`` and ``resume`` of a command without PyTorch; what passes is looked up again.

    Raises:
        UnknownEnvError, UserCodeError: if there is no environment of that name behind ``latest:``.
        ConfigError: if nothing has the name of a run.
    """
    from palaestra.train.config import check_env

    for argument in ("run", "resume"):
        given = arguments.get(argument) or ()
        for name in (given,) if isinstance(given, str) else given:
            word, _, of = name.partition(":")
            if word == "latest" and not Path(name).exists():
                if of.removesuffix("best"):
                    check_env(of.removesuffix(":best"))
            elif name in ("random", "expert", "optimal") or Path(name).exists():
                continue
            elif _beginning(name.removesuffix(":best")) is None and not name.endswith(":best"):
                raise ConfigError(_no_run(name, argument == "resume"))


def _no_run(name: str, to_resume: bool = False) -> str:
    files = "a checkpoint or latest" if to_resume else "a model file, latest, random or expert"
    return f"no run {name!r}: give a run folder, {files}"


def _beginning(name: str) -> Path | None:
    """The run below ``runs/`` of which that is the start of the name; None if it is a path, or there is none.

    Raises:
        ConfigError: if there are several.
    """
    given = Path(name)
    if len(given.name) < _SHORTEST or given.exists():
        return None
    above = () if str(given.parent) == "." else given.parent.parts
    fitting = [path for path in map(Path, runs_by_age()) if path.name.startswith(given.name)]
    fitting = [path for path in fitting if not above or path.parts[:-1][-len(above) :] == above]
    whole = [path for path in fitting if path.name == given.name] or fitting
    if len(whole) > 1:
        first = ", ".join(str(path) for path in whole[:_TOLD])
        rest = f" and {len(whole) - _TOLD:,} more" if len(whole) > _TOLD else ""
        raise ConfigError(f"{name!r} is the start of {len(whole):,} runs' names: {first}{rest}; give more of it")
    return whole[0] if whole else None


def _located(name: str, to_resume: bool = False) -> Path:
    """The run folder of that name, or the best evaluation's model in it; any other path as it is."""
    if not name.endswith(":best") or Path(name).exists():
        return find_run(name, to_resume).path
    best = find_run(name.removesuffix(":best"), to_resume).best_file
    if not best.is_file():
        raise ConfigError(f"no {best}: give a run folder in which evaluations have taken place")
    return best


def runs_by_age() -> Iterator[str]:
    """The run folders below ``runs/``, those that began last first, each looked into no sooner than it is asked for."""
    for _, runs in groupby(sorted(_folders(), key=itemgetter(0), reverse=True), key=itemgetter(0)):
        dated = ((_configured(path) if written is None else written, path) for _, written, path in runs)
        there = [(written, path) for written, path in dated if written is not None]
        yield from (path for _, path in sorted(there, reverse=True))


def _folders() -> Iterator[tuple[str, int | None, str]]:
    """The runs below ``runs/``: the second in which one began, when its configuration was written, and its path.

    Folders that are named like a run's are not looked into: they have None, and may hold no run. pathlib takes ten
    times as long to find ten thousand.
    """
    folders = [str(ROOT)]
    for level in range(1, _LEVELS + 1):
        entries: list[tuple[int, str, str]] = []
        for folder in folders:
            with suppress(OSError), os.scandir(folder) as found:
                entries += [(entry.inode(), entry.name, entry.path) for entry in found]
        folders = []
        for _, name, path in sorted(entries):  # as on the disk, which is read from one end to the other
            if level == _LEVELS and (named := _NAMED.fullmatch(name)):
                yield named[1], None, path
            elif (written := _configured(path)) is not None:
                yield time.strftime(STAMP, time.gmtime(written // 10**9)), written, path
            else:
                folders.append(path)


def _configured(folder: str) -> int | None:
    """When its configuration was written, in ns; None if there is none."""
    with suppress(OSError):
        return os.stat(f"{folder}/{CONFIG}").st_mtime_ns
    return None


def _plays_in(env: ResolvedEnv, folder: str) -> bool:
    """True if a run's configuration can be read and names that environment; modules of others stay unimported."""
    from palaestra.train.config.run_config import environment, read_file

    file = Path(folder, CONFIG)
    try:
        with open(file, "rb") as lines:
            first = _ENV.fullmatch(lines.readline())  # YAML's parser takes a hundred times as long
            whole = not lines.readline().startswith(b" ")  # a long name goes on in the next line
        name = first[1].decode() if first and whole else str(read_file(file).get("env"))
        alike = name.rpartition(":")[2] in (env.id, env.short_name, env.absolute_name.rpartition(":")[2])
        return alike and environment(name) == env
    except (OSError, ValueError):  # errors of configurations and of names are ValueErrors
        return False
