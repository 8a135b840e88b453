"""``palaestra serve`` as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Server:
    """A running ``palaestra serve``."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def act(self, observation: Any) -> Any:
        body = json.dumps({"observation": observation}).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/act", body, timeout=20) as answer:
            return json.load(answer)["action"]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=20) as answer:
            return json.load(answer)


@contextmanager
def serving(file: Path, *words: str, before: str = "") -> Iterator[Server]:
    """The server, in whose process the lines of ``before`` run first."""
    program = (
        f"from palaestra.train.serve import connection, server\n{before}\nfrom palaestra.train.cli import main\nmain()"
    )
    start = ["-c", program] if before else ["-m", "palaestra"]
    command = [sys.executable, *start, "serve", str(file), "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            assert " at http://" in line, (line, process.stderr and process.stderr.read())
            yield Server(process, int(line.split("http://")[1].split(" ")[0].rsplit(":", 1)[1]))
        finally:
            process.kill()
