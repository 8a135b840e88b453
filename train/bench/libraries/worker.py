"""The process of one workload: builds it, then works when :mod:`palaestra.train.bench.libraries.process` tells it to.

One JSON object a line on standard input and output. First what to build, ``{"module", "threads", …}``, answered by
``{}``; then each ``{"seconds": s}``, perhaps with ``"epochs"`` or ``"select"`` (one of several workloads), is answered
by a sample, and the peak of memory so far.
``{"error": "…"}`` answers what fails. Whatever a library prints goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from importlib import import_module
from typing import Any, TextIO


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


def serve(requests: TextIO, answers: TextIO) -> None:
    """Answer until there are no more requests, or one fails."""

    def answer(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=answers, flush=True)

    try:
        spec = json.loads(requests.readline())
        prepare(spec["threads"], spec["device"])
        workload = import_module(f"palaestra.train.bench.libraries.{spec['module']}").build(spec)
        answer({})
        for line in requests:
            answer(_measure(workload, json.loads(line)))
    except Exception as error:  # a library may raise anything; the benchmark names it and goes on
        answer({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})


def prepare(threads: int, device: str) -> None:
    """As many threads as the benchmark itself, for PyTorch and, by the cores that it finds, for JAX.

    Threads that wait for others sleep soon, in all libraries alike, as in ``palaestra train``.
    """
    from palaestra.train.runs.machine import spin_briefly

    spin_briefly()
    import torch

    torch.set_num_threads(threads)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if threads < len(cores):
            os.sched_setaffinity(0, cores[-threads:])
    if not device.startswith("cuda"):
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # else JAX takes most of a GPU's memory at once


def _measure(workload: Any, request: dict[str, Any]) -> dict[str, Any]:
    from palaestra.train.runs.machine import peak_device_mib, peak_memory_mib

    if "epochs" in request:
        workload.set_epochs(request["epochs"])
    if "select" in request:
        workload.select(request["select"])
    sample = asdict(workload(request["seconds"]))
    return {"sample": sample, "memory_mib": peak_memory_mib(), "device_memory_mib": peak_device_mib()}


if __name__ == "__main__":
    main()
