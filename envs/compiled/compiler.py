"""The C++ compiler, and the folder that keeps what it made.

Objects lie in ``$PALAESTRA_CACHE_DIR/kernels``, else in ``palaestra/kernels`` in the user's folder for such files
(``$XDG_CACHE_HOME`` or ``~/.cache``), which nobody else may write to. An object's name has two digests: one of all
that it was made of (source, flags, compiler and its version, processor), and one of its bytes, so that one which is
broken is noticed and made again. It is written elsewhere in the folder and renamed: two runs may make the same at once.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-w"),
    # only short loops become straight lines: thousands of lines are no faster, and g++ takes a minute for them
    "--param=max-completely-peeled-insns=50",
    # values stay those of IEEE 754: nothing is contracted, reordered or assumed; flags that nobody reads are not set
    *("-ffp-contract=off", "-fno-fast-math", "-fno-math-errno", "-fno-trapping-math", "-fno-strict-aliasing"),
)
_loaded: dict[str, ctypes.PyDLL] = {}


class CompileError(RuntimeError):
    """Steps cannot be compiled; the message is one line that says why."""


def loaded(source: str) -> ctypes.PyDLL:
    """The library of a C++ source, compiled unless it has been.

    Raises:
        CompileError: if there is no compiler, or it fails, or the folder cannot be used.
    """
    if source not in _loaded:
        compiler = _compiler()
        made_of = "\0".join((source, *FLAGS, compiler, _version(compiler), _processor()))
        key = hashlib.sha256(made_of.encode()).hexdigest()[:32]
        try:
            _loaded[source] = _kept(key) or _made(key, source, compiler)
        except OSError as error:
            raise CompileError(f"{error.filename or cache_folder()}: {error.strerror or error}") from error
    return _loaded[source]


def cache_folder() -> Path:
    """Where objects are kept."""
    named = os.environ.get("PALAESTRA_CACHE_DIR")
    if named:
        return Path(named).expanduser() / "kernels"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "palaestra" / "kernels"


def _compiler() -> str:
    named = os.environ.get("CXX")
    candidates = [named] if named else ["g++", "clang++"]
    found = next((path for path in map(shutil.which, candidates) if path), None)
    if found is None:
        raise CompileError(f"there is no C++ compiler {candidates[0]} (install g++, or name one in CXX)")
    return found


@functools.cache
def _version(compiler: str) -> str:
    try:
        told = subprocess.run([compiler, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise CompileError(f"the C++ compiler {compiler} failed") from error
    return told.stdout


@functools.cache
def _processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    wanted = ("vendor_id", "cpu family", "model\t", "stepping", "flags", "Features", "CPU part")
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(wanted)))


def _private(folder: Path) -> Path:
    """The folder, which is made if it is not there; others may neither read nor write it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.stat()
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o022:
        raise CompileError(f"{folder}: others can write to this folder (chmod 700, or set PALAESTRA_CACHE_DIR)")
    return folder


def _kept(key: str) -> ctypes.PyDLL | None:
    """The library of that key in the folder; what is there and is none goes."""
    folder = _private(cache_folder())
    for path in sorted(folder.glob(f"{key}-*.so")):
        if path.stem.partition("-")[2] == _digest(path):
            try:
                return ctypes.PyDLL(str(path))
            except OSError:  # of another machine, say
                pass
        path.unlink(missing_ok=True)
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def _made(key: str, source: str, compiler: str) -> ctypes.PyDLL:
    folder = _private(cache_folder())
    with tempfile.TemporaryDirectory(prefix="making-", dir=folder) as place:
        text, target = Path(place) / "kernels.cpp", Path(place) / "kernels.so"
        text.write_text(source)
        command = [compiler, *FLAGS, "-o", str(target), str(text)]
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        except subprocess.CalledProcessError as error:
            raise CompileError(f"the C++ compiler {compiler} failed") from error
        if not target.is_file():
            raise CompileError(f"the C++ compiler {compiler} wrote nothing")
        path = folder / f"{key}-{_digest(target)}.so"
        target.replace(path)
    try:
        return ctypes.PyDLL(str(path))
    except OSError as error:
        path.unlink(missing_ok=True)
        raise CompileError(f"what the C++ compiler {compiler} wrote cannot be loaded") from error
