"""The server as a process: it begins, takes a new file, answers what it accepted, and ends when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from onnx import numpy_helper
from policy_files import CONTRACT, model, written
from rough_client import Client, request
from running_server import serving

from palaestra.train import cli
from palaestra.train.export.policy_file import PolicyFile
from palaestra.train.serve import server as server_module
from palaestra.train.serve.app import Served, application
from palaestra.train.serve.server import is_loopback


def reversed_policy() -> Any:
    """The same with the other action."""
    proto = model()
    weights = np.arange(8, dtype=np.float32).reshape(4, 2)[::-1, ::-1].copy()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    return proto


def until(found: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_new_file_is_taken_and_a_bad_one_is_not(tmp_path: Path) -> None:
    path = written(tmp_path, model())
    (other := tmp_path / "other").mkdir()
    with serving(path, before="server._LOOKS = 0.05") as server:
        assert "torch" not in Path(f"/proc/{server.process.pid}/maps").read_text()
        assert server.act([1, 0, 0, 0]) == 1
        os.replace(written(other, reversed_policy()), path)
        until(lambda: server.act([1, 0, 0, 0]) == 0)
        digest = server.get("/health")["sha256"]
        path.write_bytes(path.read_bytes()[:-9])
        time.sleep(1.0)
        assert server.act([1, 0, 0, 0]) == 0
        fewer = {**CONTRACT, "inputs": [{**CONTRACT["inputs"][0], "name": "seen"}]}
        renamed = model()
        renamed.graph.input[0].name = renamed.graph.node[0].input[0] = "seen"
        os.replace(written(other, renamed, fewer), path)
        time.sleep(0.5)
        assert server.get("/health")["sha256"] == digest
        server.process.terminate()
        assert server.process.stdout is not None
        said = server.process.stdout.read()
    assert "is another policy now" in said
    assert "goes on" in said
    assert "its inputs are others now" in said


def test_no_request_is_lost_where_files_are_replaced(tmp_path: Path) -> None:
    """Each answer is the old policy's or the new one's, of one that began before the last change was told."""
    path = written(tmp_path, model())
    (other := tmp_path / "other").mkdir()
    body = json.dumps({"observation": [1, 0, 0, 0]}).encode()

    async def ask(port: int, actions: list[int], done: asyncio.Event) -> None:
        client = await Client.open(port)
        while not done.is_set():
            await client.send(request(body))
            status, answer = await client.answer()
            assert status == 200
            actions.append(json.loads(answer)["action"])
        client.close()

    async def replaced(port: int) -> list[list[int]]:
        found: list[list[int]] = [[] for _ in range(8)]
        done = asyncio.Event()
        asking = [asyncio.create_task(ask(port, actions, done)) for actions in found]
        for proto, action in ((reversed_policy(), 0), (model(), 1), (reversed_policy(), 0)):
            os.replace(written(other, proto), path)
            start = time.monotonic()
            while any(actions[-1:] != [action] for actions in found):
                assert time.monotonic() < start + 20
                await asyncio.sleep(0.02)
        done.set()
        await asyncio.gather(*asking)
        return found

    with serving(path, before="server._LOOKS = 0.05") as server:
        found = asyncio.run(replaced(server.port))
    for actions in found:
        changes = sum(a != b for a, b in pairwise(actions))
        assert (actions[0], changes, actions[-1]) == (1, 3, 0)


def test_a_file_that_was_replaced_during_the_start_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, model())
    (other := tmp_path / "other").mkdir()
    new = written(other, reversed_policy())
    before = (
        "import os\n"
        "real = server.application\n"
        f"server.application = lambda *words: [os.replace({str(new)!r}, {str(path)!r}), real(*words)][1]\n"
    )
    with serving(path, before=before) as server:
        until(lambda: server.act([1, 0, 0, 0]) == 0)


async def watched(
    served: Served, path: Path, contents: list[bytes], monkeypatch: pytest.MonkeyPatch, reads: list[Any]
) -> list[str]:
    """What the watch says of contents that come to the file one after the other."""
    said: list[str] = []
    monkeypatch.setattr(server_module, "_LOOKS", 0.01)
    real = server_module.PolicyFile
    monkeypatch.setattr(server_module, "PolicyFile", lambda path: reads.pop(0)(path) if reads else real(path))
    task = asyncio.create_task(server_module._watch(served, said.append))
    for i, content in enumerate(contents):
        (fresh := path.with_name("fresh")).write_bytes(content)
        os.replace(fresh, path)
        while len(said) <= i:
            assert not task.done()
            await asyncio.sleep(0.01)
    task.cancel()
    return said


def test_no_failure_ends_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(path: Path) -> Any:
        raise MemoryError("no\nroom")

    path = written(tmp_path, model())
    served = Served(PolicyFile(path))
    (tmp_path / "other").mkdir()
    new = written(tmp_path / "other", reversed_policy()).read_bytes()
    said = asyncio.run(watched(served, path, [new, new], monkeypatch, [failing]))
    assert "MemoryError" in said[0]
    assert "goes on" in said[0]
    assert "is another policy now" in said[1]
    assert served.policy.sha256 == PolicyFile(path).sha256


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"environment": {"id": "Acrobot-v1"}}, "its environment is Acrobot-v1 now"),
        ({"outputs": [{**CONTRACT["outputs"][0], "choices": ["right", "left"]}]}, "its outputs are others now"),
        ({"inputs": [{**CONTRACT["inputs"][0], "kind": "box"}]}, "its inputs are others now"),
        (
            {"inputs": [{**CONTRACT["inputs"][0], "elements": [{"name": n} for n in "abcd"]}]},
            "its inputs are others now",
        ),
    ],
)
def test_a_policy_that_clients_would_misread_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, text: str
) -> None:
    path = written(tmp_path, model())
    served = Served(PolicyFile(path))
    digest = served.policy.sha256
    (tmp_path / "other").mkdir()
    new = written(tmp_path / "other", reversed_policy(), {**CONTRACT, **change}).read_bytes()
    (said,) = asyncio.run(watched(served, path, [new], monkeypatch, []))
    assert text in said
    assert served.policy.sha256 == digest


def answer_on(connection: socket.socket) -> bytes:
    """An answer of JSON, up to its last brace."""
    answer = b""
    while not answer.endswith(b"}"):
        answer += (part := connection.recv(4096))
        assert part, answer
    return answer


def closed_within(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(100) == b""
    except TimeoutError:
        return False


def test_connections_that_send_no_request_are_closed(tmp_path: Path) -> None:
    """As many as the server takes: silent ones, half a head, and half a head after a request."""
    with ExitStack() as stack:
        server = stack.enter_context(
            serving(written(tmp_path, model()), before="connection.HEAD, server.CONNECTIONS = 1, 6")
        )
        address = ("127.0.0.1", server.port)
        waiting = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(5)]
        waiting[0].sendall(b"POST /act HT")
        waiting[1].sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert answer_on(waiting[1]).startswith(b"HTTP/1.1 200")
        waiting[1].sendall(b"GET /he")
        for i in range(4):  # further bytes do not prolong it
            time.sleep(0.2)
            waiting[1].sendall(b"alth"[i : i + 1])
        with pytest.raises(urllib.error.HTTPError, match="503"):
            server.get("/health")
        assert all(closed_within(connection, 5) for connection in waiting)
        assert server.act([1, 0, 0, 0]) == 1


def test_a_slow_body_and_a_kept_connection_outlast_the_time_for_a_head(tmp_path: Path) -> None:
    with serving(written(tmp_path, model()), before="connection.HEAD = 0.3") as server:
        body = json.dumps({"observation": [1, 0, 0, 0]}).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            for _ in range(2):
                head = f"POST /act HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
                connection.sendall(head + body[:5])
                time.sleep(0.5)
                connection.sendall(body[5:])
                assert answer_on(connection).startswith(b"HTTP/1.1 200")
                time.sleep(0.5)


def test_an_answer_is_one_write_and_no_collection_goes_through_the_modules(tmp_path: Path) -> None:
    """Two writes wake a client twice; a collection of all that the start has made stops all answers for 25 ms."""
    before = "import atexit, gc; atexit.register(lambda: print('frozen', gc.get_freeze_count(), len(gc.get_objects())))"
    with serving(written(tmp_path, model()), before=before) as server:
        body = json.dumps({"observation": [1, 0, 0, 0]}).encode()
        request = f"POST /act HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            for _ in range(200):
                connection.sendall(request)
                assert connection.recv(4096).endswith(b'{"action": 1}')
        server.process.terminate()
        assert server.process.stdout is not None
        _, frozen, others = server.process.stdout.read().split()
    assert int(frozen) > 10 * int(others)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered(tmp_path: Path, sent: int) -> None:
    """A request that has come in half when the signal comes is answered once the rest is there."""
    with serving(written(tmp_path, model())) as server:
        body = json.dumps({"observation": [1, 0, 0, 0]}).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            head = f"POST /act HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
            connection.sendall(head + body[:5])
            time.sleep(0.5)
            server.process.send_signal(sent)
            time.sleep(0.5)
            connection.sendall(body[5:])
            answer = b""
            while part := connection.recv(4096):
                answer += part
        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b'{"action": 1}')
        assert server.process.wait(20) == 0
        with pytest.raises(urllib.error.URLError):
            server.act([1, 0, 0, 0])


def test_the_log_has_every_answer(tmp_path: Path) -> None:
    log = tmp_path / "logs/requests.jsonl"
    with serving(written(tmp_path, model()), "--log", str(log)) as server:
        for i in range(20):
            server.act([i, 0, 0, 0])
        server.process.terminate()
        server.process.wait(20)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [entry["request"]["observation"][0] for entry in entries] == [*range(20)]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
def test_addresses_of_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org"])
def test_addresses_that_others_reach(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("policy.onnx", "--host", "0.0.0.0"), "open to other machines: give a --token"),
        (("policy.onnx", "--port", "70000"), "the largest is 65535"),
        (("policy.onnx", "--token", " "), "--token is empty"),
        (("none.onnx",), "there is no file none.onnx"),
        (("broken.onnx",), "broken.onnx is no ONNX model"),
        (("policy.onnx", "--log", "policy.onnx/log"), "policy.onnx"),
    ],
)
def test_bad_usage(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, model())
    (tmp_path / "broken.onnx").write_bytes(b"broken")
    monkeypatch.setattr(sys, "argv", ["palaestra", "serve", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_port_that_is_taken_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        monkeypatch.setattr(sys, "argv", ["palaestra", "serve", str(written(tmp_path, model())), "--port", port])
        with pytest.raises(SystemExit) as end:
            cli.main()
    assert end.value.code == 2
    assert f"cannot listen at 127.0.0.1:{port}" in " ".join(capsys.readouterr().err.split())


def test_a_run_is_exported_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first line and in /health, where the exported file's own name would say nothing."""

    def export(words: list[str], **_: Any) -> Any:
        assert words[2:5] == ["palaestra", "export", "latest"]
        os.replace(written(tmp_path, model()), words[words.index("--out") + 1])
        return subprocess.CompletedProcess(words, 0)

    found: list[Served] = []
    monkeypatch.setattr("palaestra.train.commands.in_use.serve.subprocess.run", export)
    monkeypatch.setattr(server_module, "run", lambda served, *_: found.append(served))
    monkeypatch.setattr(sys, "argv", ["palaestra", "serve", "latest"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code
    assert found[0].name == "the run latest"
    assert TestClient(application(found[0])).get("/health").json()["policy"] == "the run latest"


@pytest.mark.parametrize(("status", "wanted"), [(1, 1), (2, 2), (130, 130), (-9, 137)])
def test_the_status_of_an_export_that_failed(monkeypatch: pytest.MonkeyPatch, status: int, wanted: int) -> None:
    monkeypatch.setattr(
        "palaestra.train.commands.in_use.serve.subprocess.run",
        lambda words, **_: subprocess.CompletedProcess(words, status),
    )
    monkeypatch.setattr(sys, "argv", ["palaestra", "serve", "latest"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == wanted
