"""Clients of all kinds against ``palaestra serve``: each request is answered as it should, and the server goes on.

    python tests/stress/fuzz_server.py policy.onnx [--count 10000] [--seed 0]

starts the server and sends so many requests from 64 clients at once over 127.0.0.1: right ones, changed JSON, values of
all types, bodies and heads that are too large, in pieces, in chunks, slow ones, halves, many at once without waiting,
bytes that are no HTTP, and answers that nobody reads. What the status and the action must be is known: the same bytes
are read by the reader of observations here. Then it opens more connections than the server takes, and ends the server
in the middle of requests, each of which must be answered. Prints how many had which status, the largest memory, and
what was not in order; ends by itself. tests/train/serve/test_server_fuzz.py runs a short version.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rough_client import PATIENCE, Client, ClosedError, anything, changed, request

from palaestra.train.export.observation_reader import ObservationError, ObservationReader
from palaestra.train.export.policy_file import PolicyFile, PolicyFileError
from palaestra.train.serve.request_body import LARGEST_BODY

TOGETHER = 64  # clients


class Target:
    """A server with what is known of it."""

    def __init__(self, port: int, process: int, policy: PolicyFile, seed: int) -> None:
        self.port, self.process, self.policy, self.rng = port, process, policy, random.Random(seed)
        self.reader = ObservationReader(policy.inputs)
        self.statuses: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.shape = policy.inputs[0]["shape"]
        self.name = policy.inputs[0]["name"]

    def good(self) -> Any:
        """A body that is in the contract: one observation, or several."""
        numbers = [round(self.rng.uniform(0.0, 1.0), 3) for _ in range(self.shape[0])]
        rows = self.rng.choice((0, 0, 0, 1, 2, 30))
        return {self.name: [numbers] * rows if rows else numbers}

    def expected(self, body: bytes) -> tuple[int, Any]:
        """The status, and the action where it is 200."""
        if len(body) > LARGEST_BODY:
            return 413, None
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return 400, None
        try:
            feed, several = self.reader(value)
            actions = self.policy(feed)["action"].tolist()
        except ObservationError:
            return 422, None
        except PolicyFileError:
            return 500, None
        return 200, actions if several else actions[0]

    def check(self, kind: str, body: bytes, status: int, answer: bytes) -> None:
        wanted, action = self.expected(body)
        assert status == wanted, (kind, status, wanted, body[:200], answer[:200])
        found = json.loads(answer)
        assert found["action"] == action if status == 200 else found["detail"], (kind, body[:200], answer[:200])
        self.statuses[f"{kind} {status}"] += 1


async def one(target: Target, kind: str, body: bytes, pieces: list[bytes] | None = None, pause: float = 0.0) -> None:
    """Send a body in pieces, and compare the answer."""
    client = await Client.open(target.port)
    for piece in pieces or [request(body)]:
        await client.send(piece)
        if pause:
            await asyncio.sleep(pause)
    target.check(kind, body, *await client.answer())
    client.close()


async def right(target: Target) -> int:
    """Several on a kept connection."""
    client = await Client.open(target.port)
    for _ in range(5):
        await client.send(request(body := json.dumps(target.good()).encode()))
        target.check("right", body, *await client.answer())
    client.close()
    return 5


async def malformed(target: Target) -> int:
    await one(target, "malformed", changed(json.dumps(target.good()).encode(), target.rng))
    return 1


async def typed(target: Target) -> int:
    value = {target.name: anything(target.rng)} if target.rng.random() < 0.7 else anything(target.rng)
    await one(target, "typed", json.dumps(value).encode())
    return 1


async def large(target: Target) -> int:
    """A body of more bytes than are taken, by its length alone, or as it comes."""
    client = await Client.open(target.port)
    if target.rng.random() < 0.5:
        length = target.rng.choice([LARGEST_BODY + 1, 10**12, 10**30])
        await client.send(b"POST /act HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % length + b" " * 100)
    else:
        await client.send(b"POST /act HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(20):
            await client.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    try:
        status, _ = await client.answer()
    except ClosedError:
        status = 0  # bytes that nobody reads may take the answer with them
    assert status in (0, 400, 413), status  # 400: a length beyond 64 bits
    target.statuses[f"large {status or 'closed'}"] += 1
    client.close()
    return 1


async def chunked(target: Target) -> int:
    body, rest = json.dumps(target.good()).encode(), b""
    at = 0
    while at < len(body):
        part = body[at : at + target.rng.randrange(1, 40)]
        rest, at = rest + b"%x\r\n" % len(part) + part + b"\r\n", at + len(part)
    head = b"POST /act HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n"
    await one(target, "chunked", body, [head, rest[:30], rest[30:] + b"0\r\na: b\r\n\r\n"])
    return 1


async def slow(target: Target) -> int:
    """In pieces, with pauses that together are shorter than what is allowed."""
    whole = request(body := json.dumps(target.good()).encode())
    cuts = sorted(target.rng.randrange(len(whole)) for _ in range(5))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    await one(target, "slow", body, pieces, target.rng.uniform(0.0, 0.2))
    return 1


async def half(target: Target) -> int:
    """A request that is cut, and a connection that is given up."""
    client = await Client.open(target.port)
    whole = request(json.dumps(target.good()).encode())
    await client.send(whole[: target.rng.randrange(len(whole))])
    if target.rng.random() < 0.5:
        await asyncio.sleep(target.rng.uniform(0.0, 0.05))
    client.close()
    target.statuses["half given up"] += 1
    return 1


async def ahead(target: Target) -> int:
    """Many without waiting; the answers come in their order. After them perhaps what is no HTTP."""
    client = await Client.open(target.port)
    bodies = [json.dumps(target.good()).encode() for _ in range(target.rng.choice((2, 10, 100)))]
    broken = target.rng.random() < 0.3
    await client.send(b"".join(map(request, bodies)) + b"\x00\x01no HTTP\r\n\r\n" * broken)
    for body in bodies:
        target.check("ahead", body, *await client.answer())
    client.close()
    return len(bodies)


async def no_http(target: Target) -> int:
    """Random bytes, a changed request, or an endless head: refused, or closed."""
    client, rng = await Client.open(target.port), target.rng
    whole = request(json.dumps(target.good()).encode())
    sent = rng.choice([rng.randbytes(200) + b"\r\n\r\n", changed(whole, rng), b"GET / HTTP/1.1\r\na: " + b"b" * 10**6])
    await client.send(sent)
    try:
        client.writer.write_eof()
        status, _ = await client.answer()
    except (ClosedError, OSError):
        status = 0
    assert status in (0, 200, 400, 404, 405, 408, 413, 422, 431), (status, sent[:300])
    target.statuses[f"no HTTP {status or 'closed'}"] += 1
    client.close()
    return 1


async def other(target: Target) -> int:
    """Other paths, methods and parameters."""
    rng = target.rng
    texts = ["1", "-1", "2.5", "", "nan", "9" * 40, "%00", "%F0", "1&stock=2", "x" * 3000]
    query = "&".join(
        f"{rng.choice(['stock', 'period', 'day', ''])}={rng.choice(texts)}" for _ in range(rng.randrange(4))
    )
    path = rng.choice(
        [f"/price?{query}", "/act", "/contract", "/health", "/metrics", "/docs", "/%00", "/openapi.json", "*"]
    )
    method = rng.choice(["GET", "GET", "GET", "PUT", "DELETE", "OPTIONS", "HEAD"])
    client = await Client.open(target.port)
    upgrade = "connection: upgrade\r\nupgrade: h2c\r\n" if rng.random() < 0.1 else ""
    await client.send(request(b"", method, path, upgrade))
    status, _ = await client.answer(method == "HEAD")
    assert status in (200, 400, 404, 405, 422), (method, path, status)
    target.statuses[f"other {status}"] += 1
    client.close()
    return 1


async def unread(target: Target) -> int:
    """Long answers that nobody reads for a while, and a connection that is given up."""
    client = await Client.open(target.port)
    client.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(request(b"", "GET", "/openapi.json") * 100)
    await asyncio.sleep(0.5)
    client.close()
    target.statuses["unread given up"] += 100
    return 100


KINDS: list[tuple[int, Callable[[Target], Awaitable[int]]]] = [
    (10, right),
    (30, malformed),
    (30, typed),
    (2, large),
    (10, chunked),
    (5, slow),
    (20, half),
    (1, ahead),
    (15, no_http),
    (15, other),
    (0, unread),
]


async def storm(target: Target, count: int) -> None:
    """So many requests, from :data:`TOGETHER` clients at once, until one is not in order."""
    sent = 0

    async def clients() -> None:
        nonlocal sent
        while sent < count and not target.faults:
            (kind,) = target.rng.choices([k for _, k in KINDS], [weight for weight, _ in KINDS])
            try:
                more = await kind(target)
                sent += more  # not in one statement: others add meanwhile
            except Exception as error:
                target.faults.append(f"{kind.__name__}: {error!r}")

    await asyncio.gather(unread(target), *(clients() for _ in range(TOGETHER)))


async def crowd(target: Target, most: int) -> None:
    """More connections than the server takes: further requests have 503, and 200 once they are gone."""
    idle = [await Client.open(target.port) for _ in range(most + 50)]
    try:
        await _until(target, 503)
    finally:
        for client in idle:
            client.close()
    await _until(target, 200)


async def _until(target: Target, wanted: int) -> None:
    body, end, status = json.dumps(target.good()).encode(), time.monotonic() + PATIENCE, 0
    while status != wanted:  # the server may not have seen yet who came or went
        assert time.monotonic() < end, (status, wanted)
        client = await Client.open(target.port)
        await client.send(request(body))
        status, _ = await client.answer()
        client.close()
    target.statuses[f"crowd {status}"] += 1


async def ended(target: Target, count: int) -> None:
    """The server is told to end while requests are half sent: those whose head it has are answered, each right."""
    bodies = [json.dumps(target.good()).encode() for _ in range(count)]
    clients = [await Client.open(target.port) for _ in bodies]
    cuts = [-1 - target.rng.randrange(len(body) - 1) for body in bodies]
    for client, body, cut in zip(clients, bodies, cuts, strict=True):
        await client.send(request(body)[:cut])
    for _ in range(2):
        probe = await Client.open(target.port)
        await probe.send(request(b"", "GET", "/health"))
        assert (await probe.answer())[0] == 200  # what was sent before has come in
        probe.close()
    os.kill(target.process, signal.SIGTERM)
    await asyncio.sleep(0.3)
    for client, body, cut in zip(clients, bodies, cuts, strict=True):
        await client.send(body[cut:])
        target.check("ended", body, *await client.answer())
        client.close()


def megabytes(process: int) -> float:
    """The most memory that the process has had."""
    return int(Path(f"/proc/{process}/status").read_text().split("VmHWM:")[1].split("kB")[0]) / 1024


def fuzz(path: Path, count: int, seed: int = 0, most: int = 1000, endings: int = 3) -> tuple[Target, float]:
    """What came of it, and the memory in MB; the server takes ``most`` connections."""
    policy, target, size = PolicyFile(path), None, 0.0
    imports = "from palaestra.train.serve import server\nfrom palaestra.train.cli import main"
    program = f"{imports}\nserver.CONNECTIONS = {most}\nmain()"
    words = [sys.executable, "-c", program, "serve", str(path), "--port", "0"]
    for ending in range(endings):
        with (
            tempfile.TemporaryFile("w+") as errors,
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=errors, text=True) as server,
        ):
            assert server.stdout is not None
            try:
                port = int(server.stdout.readline().split("http://")[1].split(" ")[0].rsplit(":", 1)[1])
                before = target
                target = Target(port, server.pid, policy, seed + ending)
                if before is not None:
                    target.statuses, target.faults = before.statuses, before.faults
                else:
                    asyncio.run(storm(target, count))
                    asyncio.run(crowd(target, most))
                size = max(size, megabytes(server.pid))
                asyncio.run(ended(target, TOGETHER))
                if (status := server.wait(PATIENCE)) != 0:
                    target.faults.append(f"the server ended with {status}")
                errors.seek(0)
                if said := errors.read().strip():
                    target.faults.append(f"the server said {said[-2000:]}")
            finally:
                server.kill()
    assert target is not None
    return target, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))  # for the crowd of clients
    start = time.perf_counter()
    target, size = fuzz(chosen.file, chosen.count, chosen.seed)
    for kind, times in sorted(target.statuses.items()):
        print(f"{kind:<24} {times:>7,}")
    print(f"{target.statuses.total():,} requests in {time.perf_counter() - start:.0f} s; {size:.0f} MB at most")
    print("\n".join(target.faults) or "all in order")
    sys.exit(bool(target.faults))


if __name__ == "__main__":
    main()
