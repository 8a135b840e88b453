"""``palaestra serve``: a trained agent's actions over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from palaestra.train.commands import RUN_HELP, UsageError, read_index
from palaestra.train.players import EXPORTED


def serve(
    run: Annotated[str, typer.Argument(metavar="FILE|RUN", help=f"A file of palaestra export. {RUN_HELP}")],
    port: Annotated[int, typer.Option(parser=read_index, metavar="N", help="0: any that is free.")] = 8000,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Beyond this machine, as 0.0.0.0, only with a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(metavar="WORD", envvar="PALAESTRA_TOKEN", help="What requests must bring, or PALAESTRA_TOKEN."),
    ] = None,
    clamp: Annotated[bool, typer.Option("--clamp", help="Numbers out of range become the bound, not errors.")] = False,
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write requests and answers there, as lines of JSON.")
    ] = None,
) -> None:
    """Answer observations with actions over HTTP, from a file that export has written.

    It checks every request against the file's contract, takes a changed file without a lost request, and imports no
    PyTorch (a RUN is exported first).

    \b
    palaestra serve policy.onnx
    curl -X POST localhost:8000/act -d '{"observation": [0.1, 0.2, 0.3, 0.4]}'
    """
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"serve needs FastAPI and uvicorn: pip install 'palaestra[serve]' ({error})") from None
    if port > 65_535:
        raise UsageError(f"--port {port}: the largest is 65535")
    if token is not None and not token.strip():
        raise UsageError("--token is empty")
    if run.endswith(EXPORTED):
        _serve(Path(run), host, port, token, clamp, log)
        return
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, f"policy{EXPORTED}")
        words = [sys.executable, "-m", "palaestra", "export", run, "--out", str(path)]
        if status := subprocess.run(words, stdout=subprocess.DEVNULL, env=os.environ).returncode:
            raise typer.Exit(status if status > 0 else 128 - status)  # the export has said why
        _serve(path, host, port, token, clamp, log, f"the run {run}")


def _serve(
    path: Path, host: str, port: int, token: str | None, clamp: bool, log: Path | None, name: str | None = None
) -> None:
    from palaestra.train.export.policy_file import PolicyFile
    from palaestra.train.serve.app import Served
    from palaestra.train.serve.request_log import RequestLog
    from palaestra.train.serve.server import run

    requests = None if log is None else RequestLog(log)
    try:
        served = Served(PolicyFile(path), clamp, token, requests, name)
        run(served, host, port, lambda text: print(text, flush=True))
    finally:
        if requests is not None:
            requests.close()
