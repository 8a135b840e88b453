"""Requests a second and their latency, of a server on this machine with many clients at once.

    python tests/stress/serve_load.py policy.onnx [--clients 32] [--requests 20000] [--beside PYTHONPATH]

starts ``palaestra serve``, sends single observations over kept-alive connections, and ends by itself. The actions of
all answers are compared with the policy's. ``--beside`` measures another checkout in turns with this one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from palaestra.train.export.policy_file import PolicyFile


async def client(port: int, requests: list[bytes], expected: list[object], taken: list[float]) -> int:
    """Send the requests one after another; the number of wrong answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    wrong = 0
    for body, action in zip(requests, expected, strict=True):
        start = time.perf_counter()
        writer.write(b"POST /act HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        size = next(
            int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length")
        )
        answer = json.loads(await reader.readexactly(size))
        taken.append(time.perf_counter() - start)
        wrong += answer.get("action") != action
    writer.close()
    return wrong


async def load(port: int, file: PolicyFile, clients: int, count: int) -> tuple[float, float, float, int]:
    """Requests a second, median and 99th percentile of their milliseconds, and wrong answers."""
    (end,) = file.inputs
    rng = np.random.default_rng(0)
    seen = rng.uniform(0.0, 1.0, (count, *end["shape"])).astype(np.float32)
    actions = file({end["name"]: seen}, ["action"])["action"].tolist()
    bodies = [json.dumps({end["name"]: one}).encode() for one in seen.tolist()]
    taken: list[float] = []
    start = time.perf_counter()
    wrong = await asyncio.gather(
        *(client(port, bodies[i::clients], actions[i::clients], taken) for i in range(clients))
    )
    seconds = time.perf_counter() - start
    taken.sort()
    return count / seconds, 1000.0 * statistics.median(taken), 1000.0 * taken[int(0.99 * len(taken))], sum(wrong)


def cpu_seconds(process: int) -> float:
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def serving(words: list[str], path: str | None) -> Iterator[tuple[int, int]]:
    """Process and port of a server, with another PYTHONPATH where one is given."""
    places = os.environ if path is None else {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "palaestra", "serve", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=places) as server:
        assert server.stdout is not None
        try:
            yield server.pid, int(server.stdout.readline().split("http://")[1].split(" ")[0].rsplit(":", 1)[1])
        finally:
            server.terminate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--beside", metavar="PYTHONPATH", help="of another palaestra, which is served in turns")
    chosen = parser.parse_args()
    file, sides = PolicyFile(chosen.file), [None, *([chosen.beside] if chosen.beside else [])]
    found: dict[str | None, list[tuple[float, float, float]]] = {side: [] for side in sides}
    with ExitStack() as stack:
        servers = {side: stack.enter_context(serving([str(chosen.file)], side)) for side in sides}
        for _ in range(chosen.rounds):
            for side, (process, port) in servers.items():
                before = cpu_seconds(process)
                rate, median, tail, wrong = asyncio.run(load(port, file, chosen.clients, chosen.requests))
                each = 1e6 * (cpu_seconds(process) - before) / chosen.requests
                found[side].append((rate, tail, each))
                print(
                    f"{side or 'here'}: {rate:,.0f} requests/s, median {median:.1f} ms, p99 {tail:.1f} ms, "
                    f"{wrong} wrong of {chosen.requests:,}; {each:.0f} µs of the server's processor each",
                    flush=True,
                )
        for side, (process, _) in servers.items():
            rate, tail, each = (statistics.median(column) for column in zip(*found[side], strict=True))
            most = Path(f"/proc/{process}/status").read_text().split("VmHWM:")[1].split("kB")[0].strip()
            print(
                f"{side or 'here'}, medians of {chosen.rounds}: {rate:,.0f} requests/s, p99 {tail:.1f} ms (best "
                f"{min(row[1] for row in found[side]):.1f}), {each:.0f} µs; {int(most) / 1024:.0f} MB at most"
            )


if __name__ == "__main__":
    main()
