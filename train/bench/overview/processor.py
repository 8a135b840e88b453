"""The processor that a table's column is named after: its name, and the widest instructions that libraries may use.

Environment variables limit them, each library by one of its own (``LIMITS``), so that a processor with AVX-512 stands
in for one with AVX2 only. Libraries that are not limited with the others are named.
"""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palaestra.envs.core import resolve_device
from palaestra.envs.core.host import available_cores
from palaestra.train.runs.machine import processor_name

LIMITS = {  # library → what limits it to AVX2, to be put before a command
    "PyTorch": "ATEN_CPU_CAPABILITY=avx2",
    "MKL": "MKL_ENABLE_INSTRUCTIONS=AVX2",
    "oneDNN": "ONEDNN_MAX_CPU_ISA=AVX2",
    "NumPy": "NPY_DISABLE_CPU_FEATURES='X86_V4 AVX512_ICL AVX512_SPR'",
    "JAX": "XLA_FLAGS=--xla_cpu_max_isa=AVX2",
}
LEVELS = {"AVX512": "AVX-512", "AVX2": "AVX2", "DEFAULT": "no AVX2"}  # PyTorch's names of what it uses
_FLAGS = Path("/proc/cpuinfo")


def where(device: str) -> dict[str, Any]:
    """Where and on what something is measured: ``processor`` (a table's column), ``load``, ``commit``, ``date``."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    facts = {"processor": processor(device), "load": None if load is None else round(load, 2), "commit": commit()}
    return {**facts, "cores": available_cores(), "date": datetime.now(UTC).date().isoformat()}


def processor(device: str) -> str:
    """The GPU's name; or the processor's, the cores that may be used, and the instructions."""
    place = resolve_device(device)
    if place.type == "cuda":
        return torch.cuda.get_device_name(place)
    cores = available_cores()
    return f"{processor_name()}, {cores} core{'s' if cores != 1 else ''}, {instructions()}"


def instructions() -> str:
    """The widest vectors that PyTorch uses, and by what they are limited."""
    used = torch.backends.cpu.get_cpu_capability()
    limited = {library for library, setting in LIMITS.items() if _is_set(setting)}
    limited -= {"NumPy"} if numpy_uses_avx512() else set()
    if "avx512f" not in _flags() or not (limited - {"NumPy"} or used == "AVX2"):
        return LEVELS.get(used, used)
    wanted = LIMITS.keys() - (set() if find_spec("jax") else {"JAX"}) - ({"PyTorch"} if used == "AVX2" else set())
    free = [library for library in LIMITS if library in wanted - limited]
    return "limited to AVX2" + (f" but for {' and '.join(free)}" if free else "")


def _is_set(setting: str) -> bool:
    """True if the environment has that setting, perhaps among others and in capital letters."""
    name, _, value = setting.partition("=")
    return value.strip("'").lower() in os.environ.get(name, "").lower()


def numpy_uses_avx512() -> bool:
    """Whether it does so for sines; before NumPy 2, which does not tell, False."""
    introspect = getattr(np.lib, "introspect", None)
    found = {} if introspect is None else introspect.opt_func_info(func_name="^sin$", signature="float32")
    return any(kind["current"].startswith(("X86_V4", "AVX512")) for kinds in found.values() for kind in kinds.values())


def _flags() -> str:
    try:
        return _FLAGS.read_text(encoding="utf-8", errors="replace")
    except OSError:  # no Linux
        return ""


def commit() -> str | None:
    """The first seven digits of the commit of palaestra's own code, with a plus where the code differs from it.

    None where it is not run from a repository.
    """
    number = _git("rev-parse", "--short=7", "HEAD")
    if number is None:
        return None
    changed = _git("status", "--porcelain", "--", ":/*.py", ":/*.yaml")
    return f"{number}+" if changed else number


def _git(*words: str) -> str | None:
    """What git says of the repository that this file is in; None if it does not know."""
    command = ["git", "-C", str(Path(__file__).resolve().parent), *words]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
