"""The application: actions are the policy's, whatever else comes is answered with its status, and nothing ends it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from policy_files import CONTRACT, model, written

from palaestra.train.export.policy_file import PolicyFile, PolicyFileError
from palaestra.train.serve import request_body
from palaestra.train.serve.app import Served, answer_of, application
from palaestra.train.serve.batcher import Batcher

CHOICES = {**CONTRACT["outputs"][0], "kind": "discrete", "first": 0, "count": 2, "choices": ["left", "right"]}
NAMED = {**CONTRACT["inputs"][0], "low": -5.0, "high": 5.0, "elements": [{"name": name} for name in "abcd"]}


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(PolicyFile(written(tmp_path, model(), {**CONTRACT, "inputs": [NAMED], "outputs": [CHOICES]})))


@pytest.fixture
def client(served: Served) -> TestClient:
    return TestClient(application(served), raise_server_exceptions=True)


def test_actions_are_those_of_the_policy(client: TestClient, served: Served) -> None:
    seen = np.random.default_rng(0).uniform(-5, 5, (50, 4)).astype(np.float32)
    expected = served.policy({"observation": seen})["action"].tolist()
    assert client.post("/act", json={"observation": seen.tolist()}).json() == {
        "action": expected,
        "choice": [["left", "right"][i] for i in expected],
    }
    for one, action in zip(seen[:5].tolist(), expected, strict=False):
        assert client.post("/act", json={"observation": one}).json()["action"] == action
        assert client.post("/act", json={"observation": dict(zip("abcd", one, strict=True))}).json()["action"] == action


def test_quantities_of_an_action() -> None:
    end = {
        "name": "action",
        "elements": [{"name": "torque", "unit": "N m", "scale": 80.0}, {"name": "grip", "count": 2}],
    }
    found = {"action": np.array([[0.5, 0.0, 1.0], [-1.0, 0.25, 0.5]], np.float32)}
    first = {"torque": 40.0, "grip_0": 0.0, "grip_1": 1.0}
    assert answer_of([end], {"action": found["action"][:1]}, False) == {"action": [0.5, 0.0, 1.0], "quantities": first}
    several = answer_of([end], found, True)["quantities"]
    assert several == [first, {"torque": -80.0, "grip_0": 0.25, "grip_1": 0.5}]


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"", 400, "no JSON"),
        (b"{", 400, "no JSON"),
        (b"\xff\xfe", 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b'{"observation": [1,2,3,NaN]}', 422, "must be finite"),
        (b'{"observation": [1,2,3,1e999]}', 422, "must be finite"),
        (b'{"observation": [1,2,3,' + b"9" * 5000 + b"]}", 400, "no JSON"),
        (b'{"observation": [1,2,3,6]}', 422, "must be -5 … 5, got 6"),
        (b'{"observation": {"a":1}}', 422, "is missing"),
        (b"null", 422, "must be an object"),
        (b" " * (request_body.LARGEST_BODY + 1), 413, "more than 1,048,576 bytes"),
    ],
)
def test_bad_requests(client: TestClient, content: bytes, status: int, detail: str) -> None:
    answer = client.post("/act", content=content)
    assert (answer.status_code, detail in answer.json()["detail"][0]["msg"]) == (status, True), answer.text
    assert client.post("/act", json={"observation": [0, 0, 0, 0]}).status_code == 200


def test_the_place_of_a_fault_is_told(client: TestClient) -> None:
    answer = client.post("/act", json={"observation": [[0, 0, 0, 0], [0, 9, 0, 0]]})
    assert answer.json() == {"detail": [{"loc": ["observation", 1, "b"], "msg": "must be -5 … 5, got 9"}]}


def test_other_pages(client: TestClient, served: Served) -> None:
    assert client.get("/contract").json() == served.policy.contract
    assert client.get("/health").json()["sha256"] == served.policy.sha256
    client.post("/act", json={"observation": [[0, 0, 0, 0]] * 3})
    client.post("/act", json={})
    text = client.get("/metrics").text
    assert 'palaestra_requests_total{status="200"} 1.0' in text
    assert 'palaestra_requests_total{status="422"} 1.0' in text
    assert "palaestra_observations_total 3.0" in text
    description = client.get("/openapi.json").json()["paths"]["/act"]["post"]
    forms = description["requestBody"]["content"]["application/json"]["schema"]["properties"]["observation"]["oneOf"]
    assert forms[0] == {
        "type": "array",
        "items": {"type": "number", "minimum": -5.0, "maximum": 5.0},
        "minItems": 4,
        "maxItems": 4,
    }
    assert forms[1]["required"] == ["a", "b", "c", "d"]
    assert forms[1]["properties"]["a"] == {"type": "number", "minimum": -5.0, "maximum": 5.0}
    assert forms[2:] == [{"type": "array", "items": form, "minItems": 1, "maxItems": 4096} for form in forms[:2]]
    assert client.get("/docs").status_code == 200
    assert client.get("/nowhere").status_code == 404


def test_a_token_is_asked_for(served: Served) -> None:
    served.token = "sesame"
    client = TestClient(application(served))
    body = {"observation": [0, 0, 0, 0]}
    assert client.get("/health").status_code == 200
    for headers in (
        {},
        {"authorization": "Bearer sesam"},
        {"authorization": "sesame2"},
        {"authorization": "Bearer sésame"},
        {"authorization": "sesame"},
        {"authorization": "Basic sesame"},
    ):
        raw = {name: value.encode() for name, value in headers.items()}
        assert client.post("/act", json=body, headers=raw).status_code == 401
        assert client.get("/contract", headers=raw).status_code == 401
    for word in ("Bearer", "bearer", "BEARER"):
        assert client.post("/act", json=body, headers={"authorization": f"{word} sesame"}).status_code == 200
    metrics = client.get("/metrics", headers={"authorization": "Bearer sesame"}).text
    assert 'palaestra_requests_total{status="401"} 12.0' in metrics


def test_the_page_to_try_it_asks_for_the_token(client: TestClient, served: Served) -> None:
    assert "securitySchemes" not in client.get("/openapi.json").json().get("components", {})
    served.token = "sesame"
    guarded = TestClient(application(served))
    assert guarded.get("/docs").status_code == 200
    description = guarded.get("/openapi.json").json()
    assert description["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}
    assert description["paths"]["/act"]["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in description["paths"]["/health"]["get"]


def test_slow_requests_are_given_up(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "SLOWEST", 0.05)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(1.0)
        raise AssertionError("it waited")

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/act",
        "headers": [],
        "query_string": b"",
        "http_version": "1.1",
    }
    scope |= {"scheme": "http", "server": ("x", 80), "client": ("y", 1), "root_path": "", "raw_path": b"/act"}
    asyncio.run(application(served)(scope, receive, send))
    assert sent[0]["status"] == 408


def test_requests_are_joined(served: Served) -> None:
    runs: list[int] = []
    batcher = Batcher(served.policy, lambda: runs.append(1))
    seen = np.random.default_rng(1).uniform(-5, 5, (40, 4)).astype(np.float32)

    async def many() -> list[Any]:
        parts = [seen[i : i + 1 + i % 3] for i in range(37)]
        return await asyncio.gather(*(batcher.act({"observation": part}) for part in parts))

    answers = asyncio.run(many())
    expected = served.policy({"observation": seen})["action"]
    assert [answer["action"].tolist() for answer in answers] == [
        expected[i : i + 1 + i % 3].tolist() for i in range(37)
    ]
    assert len(runs) == 1


def test_a_policy_that_fails_fails_its_requests_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    batcher = Batcher(served.policy, lambda: None)

    async def both() -> list[Any]:
        wrong = batcher.act({"observation": np.zeros((1, 3), np.float32)})
        await asyncio.sleep(0)
        first = await asyncio.gather(wrong, return_exceptions=True)
        return [*first, await batcher.act({"observation": np.zeros((1, 4), np.float32)})]

    failed, well = asyncio.run(both())
    assert isinstance(failed, Exception)
    assert well["action"].shape == (1,)


def test_entries_of_the_log(served: Served) -> None:
    entries: list[dict[str, Any]] = []
    served.log = lambda entry, size: entries.append(entry)
    client = TestClient(application(served))
    client.post("/act", json={"observation": [0, 0, 0, 0]})
    client.post("/act", json={"observation": [9, 0, 0, 0]})
    (entry,) = entries
    assert entry["request"] == {"observation": [0, 0, 0, 0]}
    assert entry["answer"]["action"] in (0, 1)
    assert entry["sha256"] == served.policy.sha256[:12]
    json.dumps(entry)


IMAGE = {"name": "image", "kind": "image", "dtype": "uint8", "shape": [84, 84, 4]}


def test_the_largest_request_holds_one_observation_and_no_more_than_needed() -> None:
    assert request_body.largest_body([NAMED]) == 2**20
    assert request_body.largest_body([IMAGE]) == 2**23
    huge = {**IMAGE, "shape": [1024, 1024, 4]}
    assert request_body.largest_body([huge]) == 32 * 2**22


def test_a_large_request_leaves_the_others_their_answers(served: Served) -> None:
    """Eight of a megabyte each are refused; an ordinary one that comes after them is answered meanwhile."""
    body = json.dumps({"observation": [[0, 0, 0, 9]] * 70_000}).encode()
    assert 0.9 * 2**20 < len(body) < 2**20
    transport = httpx.ASGITransport(application(served))

    async def both() -> tuple[float, list[int]]:
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            large = [asyncio.create_task(client.post("/act", content=body)) for _ in range(8)]
            await asyncio.sleep(0)
            start = time.perf_counter()
            one = await client.post("/act", json={"observation": [0, 0, 0, 0]})
            seconds = time.perf_counter() - start
            return seconds, [one.status_code, *[(await answer).status_code for answer in large]]

    seconds, statuses = asyncio.run(both())
    assert statuses == [200] + [422] * 8
    assert seconds < 5.0


def test_requests_together_have_a_largest_size(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_body, "MOST_HELD", 1000)
    client = TestClient(application(served))
    assert client.post("/act", content=b" " * 1001).status_code == 503
    assert client.post("/act", json={"observation": [0, 0, 0, 0]}).status_code == 200
    assert 'palaestra_requests_total{status="503"} 1.0' in client.get("/metrics").text


def test_a_policy_that_fails_is_told_and_counted(
    client: TestClient, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(feed: Any) -> Any:
        raise PolicyFileError("p.onnx: broken")

    for found in (failing, lambda feed: {"action": np.array([2])}, lambda feed: {"action": np.array([-1])}):
        with monkeypatch.context() as patch:
            patch.setattr(served.now.batcher, "policy", found)
            answer = client.post("/act", json={"observation": [0, 0, 0, 0]})
        assert answer.status_code == 500
        assert "the policy failed" in answer.json()["detail"][0]["msg"]
    assert client.post("/act", json={"observation": [0, 0, 0, 0]}).status_code == 200
    assert 'palaestra_requests_total{status="500"} 3.0' in client.get("/metrics").text


def test_a_request_that_waits_keeps_to_its_policy(served: Served, tmp_path: Path) -> None:
    """It has been compared with that policy's contract, and is answered by it after another one was taken."""
    contract = {**CONTRACT, "inputs": [NAMED], "outputs": [{**CHOICES, "choices": ["up", "down"]}]}
    (tmp_path / "other").mkdir()
    other = PolicyFile(written(tmp_path / "other", model(), contract))

    async def both() -> list[str]:
        transport = httpx.ASGITransport(application(served))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            first, body = served.now, {"observation": [1, 0, 0, 0]}
            waiting = asyncio.create_task(client.post("/act", json=body))
            while not first.batcher._waiting:
                await asyncio.sleep(0)
            served.take(other)
            answer = await asyncio.wait_for(waiting, 20)
            return [answer.json()["choice"], (await client.post("/act", json=body)).json()["choice"]]

    assert asyncio.run(both()) == ["right", "down"]


def test_a_policy_is_taken_whole_or_not_at_all(client: TestClient, served: Served) -> None:
    """Counts go on with the next policy."""
    before = served.now
    broken: Any = SimpleNamespace(inputs=[{**NAMED, "shape": None}], contract={})
    with pytest.raises(TypeError):
        served.take(broken)
    assert served.now is before
    client.post("/act", json={"observation": [0, 0, 0, 0]})
    served.take(served.policy)
    client.post("/act", json={"observation": [0, 0, 0, 0]})
    assert "palaestra_policy_runs 2.0" in client.get("/metrics").text
