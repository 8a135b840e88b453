"""Requests a second and their latency, of a server on this machine with many clients at once.

    python tests/stress/serve_load.py policy.onnx [--clients 32] [--requests 20000]

starts ``palaestra serve``, sends single observations over kept-alive connections, and ends by itself. The actions of
all answers are compared with the policy's.
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


async def load(port: int, file: PolicyFile, clients: int, count: int) -> str:
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
    tail = 1000.0 * taken[int(0.99 * len(taken))]
    median = 1000.0 * statistics.median(taken)
    return (
        f"{count / seconds:,.0f} requests/s, median {median:.1f} ms, p99 {tail:.1f} ms, {sum(wrong)} wrong of {count:,}"
    )


def cpu_seconds(process: int) -> float:
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20_000)
    chosen = parser.parse_args()
    words = [sys.executable, "-m", "palaestra", "serve", str(chosen.file), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline().split("http://")[1].split(" ")[0].rsplit(":", 1)[1])
        try:
            file = PolicyFile(chosen.file)
            for _ in range(3):
                before = cpu_seconds(server.pid)
                told = asyncio.run(load(port, file, chosen.clients, chosen.requests))
                each = 1e6 * (cpu_seconds(server.pid) - before) / chosen.requests
                print(f"{told}; {each:.0f} µs of the server's processor each", flush=True)
            status = Path(f"/proc/{server.pid}/status").read_text()
            print(next(line for line in status.splitlines() if line.startswith("VmHWM")))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
