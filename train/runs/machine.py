"""This process: seconds since it started, the most memory it held, what the last bits of its numbers depend on.

Linux tells when a process started (``/proc``, to a hundredth of a second). Elsewhere the count starts when this module
is imported, which the command does before anything heavy. ``run.json`` holds such facts of a run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from palaestra.train.config.compatibility import Agent

LONGEST = 1e10  # s, three hundred years: what says more is damaged
_IMPORTED = time.monotonic()
_SPINS = "10000"  # looks at the others, a tenth of a millisecond, before a thread that waits for them sleeps
_STAT, _STATUS = Path("/proc/self/stat"), Path("/proc/self/status")
_CPUINFO = Path("/proc/cpuinfo")
_START_TIME = 22  # number of the field in /proc/self/stat: clock ticks after boot, see proc(5)


def process_seconds() -> float:
    """Seconds since the process started, which is what a user has waited: imports included."""
    since_import = time.monotonic() - _IMPORTED
    if not (_STAT.is_file() and hasattr(time, "CLOCK_BOOTTIME")):
        return since_import
    after_name = _STAT.read_text().rpartition(")")[2].split()  # the second field, a name in brackets, may hold spaces
    started = int(after_name[_START_TIME - 3]) / os.sysconf("SC_CLK_TCK")
    return max(since_import, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def spin_briefly() -> None:
    """Let threads that wait for each other sleep soon, unless the environment says how; before PyTorch is imported.

    At the end of an operation GNU's OpenMP, which PyTorch's wheels for Linux carry, looks for the others 300,000 times
    (some milliseconds). Where another program has taken a core, the thread that looks keeps the one that is awaited
    from computing on what is left. No result depends on it.
    """
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = _SPINS


class Stopwatch:
    """Seconds since it was made: of time, and of processors in this process and those of its own that have ended."""

    def __init__(self) -> None:
        self._wall, self._processors = time.perf_counter(), _processor_seconds()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._wall

    @property
    def cpu_seconds(self) -> float:
        return _processor_seconds() - self._processors


def _processor_seconds() -> float:
    """Of all threads since the process started; of children once they have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def peak_memory_mib() -> float | None:
    """Most memory that this process ever held; None on Windows.

    On Linux as ``/proc`` tells it: ``getrusage`` counts what the parent held when it started this process.
    """
    if _STATUS.is_file():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        peaks = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        if peaks:
            return int(peaks[0]) / 2**10
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, others KiB


def peak_device_mib() -> float | None:
    """Most memory that PyTorch ever had allocated on the current GPU; None without one."""
    import torch

    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):  # type: ignore[no-untyped-call]
        return None
    return torch.cuda.max_memory_allocated() / 2**20


def arithmetic() -> dict[str, Any]:
    """Threads, processors, version of PyTorch and precision of a GPU's products, on which sums depend to the last bit.

    ``GPU`` is None without one.
    """
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() and torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    products = "tf32" if gpu is not None and torch.backends.cuda.matmul.allow_tf32 else "float32"
    processor = f"{processor_name()} ({torch.backends.cpu.get_cpu_capability()})"
    of_torch = {"torch": str(torch.__version__), "products": products}
    return {"threads": torch.get_num_threads(), "processor": processor, "GPU": gpu, **of_torch}


def processor_name() -> str:
    """Its name, as Linux gives it, or Python elsewhere."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def other_arithmetic(began: Any) -> str | None:
    """What to tell where a run began with another :func:`arithmetic`; None if that is not so, or not known."""
    now = arithmetic()
    other = [name for name in now if isinstance(began, dict) and name in began and began[name] != now[name]]
    if not other:
        return None
    then, here = (", ".join(f"{name} {facts[name]}" for name in other) for facts in (began, now))
    return f"training began with {then} and goes on with {here}: the result is not the same to the last bit"


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """A block of only operations that give the same bits every time, if wanted; those of the CPU do anyway."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it starts
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        if wanted:  # PyTorch imports its compiler for it, which takes seconds
            torch.use_deterministic_algorithms(before)


@contextmanager
def products_in(precision: str, device: str) -> Iterator[None]:
    """A block in which a GPU multiplies matrices, in dense layers and convolutions, in "float32" or in "tf32".

    TF32 rounds the factors of a product to 10 bits after the point (a thousandth) and adds in float32. Weights,
    observations, returns and the optimizer stay float32. PyTorch's own setting is float32 for dense layers and TF32 for
    convolutions; here one word decides for both. Nothing changes on a CPU.
    """
    import torch

    from palaestra.envs.core import resolve_device  # late: this module is imported for --help

    if resolve_device(device).type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def git_commit() -> str | None:
    """Of the folder that training was started in; None outside a repository or without git."""
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def seconds_in(facts: Mapping[str, Any], name: str) -> float:
    """A span of time, or a count, in the content of a ``run.json``; 0 where it has none that can be."""
    from palaestra.envs.core.reference import is_finite_number  # late: this module is imported for --help

    value: Any = facts.get(name)
    return float(value) if is_finite_number(value) and 0.0 <= value <= LONGEST else 0.0


def write_facts(
    file: Path,
    model: Agent,
    seconds: float,
    steps_per_second: float,
    solved: tuple[float | None, float | None],
    stopped: str | None,
    unevaluated: bool,
    watch: Stopwatch,
    before: Mapping[str, Any],
    opponent: str | None = None,
) -> None:
    """``run.json``: what is needed to judge and to repeat the run.

    ``run_seconds`` and ``cpu_seconds`` are of this process, with the final evaluation and what came after it, and of
    those that the run went on from (``before``: their ``run.json``) unless they were killed. ``solved`` is the mean
    return from which the environment counts as solved, and the seconds after which that was reached; ``opponent`` is
    who evaluations of a game for two were played against.
    """
    from importlib.metadata import version  # late: this module is imported for --help

    import torch

    from palaestra.agents.distributed.process_group import process_group
    from palaestra.envs.core.atomic_write import write_whole

    facts: dict[str, Any] = {
        "palaestra": version("palaestra"),
        **{name: version(name) for name in ("torch", "stable_baselines3", "gymnasium", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "device": str(model.device),
        "threads": torch.get_num_threads(),
        "processes": process_group().size,
        "git_commit": git_commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "num_timesteps": model.num_timesteps,
        "training_seconds": round(seconds, 3),
        "run_seconds": round(watch.seconds + seconds_in(before, "run_seconds"), 3),
        "cpu_seconds": round(watch.cpu_seconds + seconds_in(before, "cpu_seconds"), 3),
        "steps_per_second": round(steps_per_second),
        "solved_at": solved[0],
        "solved_after_seconds": None if solved[1] is None else round(solved[1], 2),
        "stopped": stopped,
        "evaluation_skipped": unevaluated,
    }
    if opponent is not None:
        facts["evaluated_against"] = opponent
    write_whole(file, json.dumps(facts, indent=1).encode())
