"""A short run of fuzz_server.py, what its long runs have found, and its kinds of clients one by one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import fuzz_server
import pytest
from policy_files import LISTED, listed, model, written
from rough_client import Client, ClosedError, request
from running_server import Server, serving

from palaestra.train.export.policy_file import PolicyFile

BODY = json.dumps({"observation": [1, 0, 0, 0]}).encode()


def test_all_kinds_of_clients_and_an_end_in_the_middle(tmp_path: Path) -> None:
    target, megabytes = fuzz_server.fuzz(listed(tmp_path, LISTED), 400, most=100, endings=1)
    assert target.faults == []
    kinds = {status.rpartition(" ")[0] for status in target.statuses}
    assert {"right", "malformed", "typed", "chunked", "crowd", "ended", "half given", "other"} <= kinds
    assert megabytes <= 200


def test_the_harness_notices_what_is_not_in_order(tmp_path: Path) -> None:
    """An answer of another policy, and one that is lost."""
    path = written(tmp_path, model())
    with serving(path) as server:
        target = fuzz_server.Target(server.port, server.process.pid, PolicyFile(path), 0)
        target.expected = lambda body: (200, 7)  # type: ignore[method-assign]
        asyncio.run(fuzz_server.storm(target, 5))
        assert any("AssertionError" in fault for fault in target.faults)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    before = "connection.HEAD, connection.READ = 2, 2"
    with serving(written(tmp_path_factory.mktemp("served"), model()), before=before) as found:
        yield found
        assert found.act([1, 0, 0, 0]) == 1
        found.process.terminate()
        assert found.process.wait(20) == 0
        assert found.process.stderr is not None
        assert found.process.stderr.read() == ""


def memory(server: Server) -> float:
    return fuzz_server.megabytes(server.process.pid)


async def sent(server: Server, data: bytes, answers: int) -> list[tuple[int, bytes]]:
    """The answers to all that; the connection is closed after them."""
    client = await Client.open(server.port)
    await client.send(data)
    found = [await client.answer() for _ in range(answers)]
    with pytest.raises(ClosedError):
        await client.answer()
    client.close()
    return found


def test_what_is_no_http_is_refused_after_the_answers_before_it(server: Server) -> None:
    found = asyncio.run(sent(server, request(BODY) * 3 + b"\x00no HTTP\r\n\r\n", 3))
    assert found == [(200, b'{"action": 1}')] * 3
    ((status, _),) = asyncio.run(sent(server, b"\x00no HTTP\r\n\r\n", 1))
    assert status == 400


@pytest.mark.parametrize("endless", [b"GET / HTTP/1.1\r\na: ", b"GET /", b"GET / HTTP/1.1\r\na: b\r\nb: "])
def test_an_endless_head_is_refused_before_it_takes_memory(server: Server, endless: bytes) -> None:
    """Before, all that came within ten seconds was kept."""

    async def pour() -> int:
        client = await Client.open(server.port)
        await client.send(endless + b"x" * 70_000)
        status, _ = await client.answer()
        client.close()
        return status

    assert asyncio.run(pour()) == 431


def test_endless_trailers_are_refused(server: Server) -> None:
    head = b"POST /act HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    trailers = b"0\r\n" + b"".join(b"t%d: x\r\n" % i for i in range(20_000))
    assert asyncio.run(sent(server, head + trailers, 0)) == []


def test_a_body_in_many_small_chunks_is_no_endless_head(server: Server) -> None:
    body = BODY + b" " * 50_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = b"POST /act HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
    assert asyncio.run(sent(server, head + chunks, 1)) == [(200, b'{"action": 1}')]


def test_requests_far_ahead_of_their_answers_take_no_memory(server: Server) -> None:
    """Eight connections with 550,000 requests each: few are parsed, or even read, before their turn."""
    before = memory(server)

    async def ahead() -> None:
        clients = [await Client.open(server.port) for _ in range(8)]
        many = b"GET /none HTTP/1.1\r\n\r\n" * 550_000
        sending = [asyncio.create_task(client.send(many)) for client in clients]
        for _ in range(60):
            for client in clients:
                assert (await client.answer())[0] == 404
        for task, client in zip(sending, clients, strict=True):
            task.cancel()
            client.close()

    asyncio.run(ahead())
    assert memory(server) < before + 40


def test_a_client_that_reads_no_answers_is_closed(server: Server) -> None:
    """And takes no more memory than a part of them."""
    before = memory(server)

    async def unread() -> float:
        client = await Client.open(server.port)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        start = time.monotonic()
        sending = asyncio.create_task(client.send(request(b"", "GET", "/openapi.json") * 20_000))
        await sending
        while not client.writer.transport.is_closing() and time.monotonic() < start + 30:
            client.writer.write(b"x")
            await asyncio.sleep(0.1)
        client.close()
        return time.monotonic() - start

    seconds = asyncio.run(unread())
    assert 1.5 < seconds < 25
    assert memory(server) < before + 60


def test_an_upgrade_is_ignored(server: Server) -> None:
    upgrade = request(b"", "GET", "/health", "connection: upgrade, close\r\nupgrade: websocket\r\n")
    ((status, _),) = asyncio.run(sent(server, upgrade, 1))
    assert status == 200
