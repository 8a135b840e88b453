"""What actions brought: told to the server, checked, and in its log in the order in which it came."""

from __future__ import annotations

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from use_logs import policy_with_reference

from palaestra.train.monitoring.log_entries import EntryReader
from palaestra.train.serve.app import Served, application
from palaestra.train.serve.request_log import RequestLog

BODY = {"observation": [0.0, 1.0, 2.0, 3.0]}


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(policy_with_reference(tmp_path))


def test_the_log_of_an_episode_is_what_monitor_reads(served: Served, tmp_path: Path) -> None:
    log = RequestLog(tmp_path / "use.jsonl")
    served.log = log
    client = TestClient(application(served))
    assert client.post("/act?episode=berlin", json=BODY).status_code == 200
    assert client.post("/outcome", json={"episode": "berlin", "reward": 2.5, "sold": 1}).json() == {"logged": True}
    assert client.post("/act", json=BODY).status_code == 200
    assert client.post("/outcome", json={"episode": "berlin", "end": True, "return": -3}).status_code == 200
    both = {"observation": [BODY["observation"]] * 2}
    assert client.post("/act?episode=berlin", json=both).status_code == 200
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "use.jsonl").read_text().splitlines()]
    assert [line.get("episode") for line in lines] == ["berlin", "berlin", None, "berlin", ["berlin"] * 2]
    reader = EntryReader(served.policy.contract, served.policy.sha256, UTC)
    assert not any(map(reader.is_of_another, lines))
    first, second, third, last, two = map(reader, lines)
    assert first.feed is not None
    assert third.feed is not None
    assert (first.details[0].episode, third.details[0].episode) == ("berlin", None)
    assert (second.details[0].reward, second.details[0].sold) == (2.5, 1)
    assert [detail.episode for detail in two.details] == ["berlin", "berlin"]
    assert (last.details[0].end, last.details[0].total) == (True, -3)


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"{", 400, "the request is no JSON"),
        (b"[]", 422, "must be an object with episode"),
        (b"{}", 422, "must be a name of 1 to 200 letters"),
        (b'{"episode": "a"}', 422, "tells nothing"),
        (b'{"episode": "", "reward": 1}', 422, "must be a name"),
        (b'{"episode": "%s", "reward": 1}' % (b"a" * 201), 422, "must be a name"),
        (b'{"episode": 3, "reward": 1}', 422, "must be a name"),
        (b'{"episode": "a", "reward": NaN}', 422, "must be a number"),
        (b'{"episode": "a", "reward": 1e999}', 422, "must be a number"),
        (b'{"episode": "a", "reward": "1"}', 422, "must be a number"),
        (b'{"episode": "a", "sold": -1}', 422, "must be a whole number"),
        (b'{"episode": "a", "sold": 1.5}', 422, "must be a whole number"),
        (b'{"episode": "a", "sold": true}', 422, "must be a whole number"),
        (b'{"episode": "a", "end": 1}', 422, "must be true or false"),
        (b'{"episode": "a", "price": 3}', 422, "is none of episode, reward"),
        (b'{"episode": "a", "time": 3}', 422, "is none of episode, reward"),
        (b'{"episode": "a", "reward": 1' + b" " * 5000 + b"}", 413, "more than 4,096 bytes"),
    ],
)
def test_bad_outcomes_are_refused_and_not_logged(served: Served, content: bytes, status: int, detail: str) -> None:
    entries: list[Any] = []
    served.log = lambda entry, size: entries.append(entry)
    answer = TestClient(application(served)).post("/outcome", content=content)
    assert answer.status_code == status
    assert detail in answer.text
    assert entries == []


def test_without_a_log_there_is_nowhere_to_tell_it(served: Served) -> None:
    answer = TestClient(application(served)).post("/outcome", json={"episode": "a", "reward": 1})
    assert (answer.status_code, "--log FILE" in answer.text) == (409, True)


@pytest.mark.parametrize(
    ("query", "body", "message"),
    [
        ("?episode=", BODY, "must be a name of 1 to 200 letters"),
        (f"?episode={'a' * 201}", BODY, "must be a name of 1 to 200 letters"),
    ],
)
def test_names_of_episodes_are_checked(served: Served, query: str, body: Any, message: str) -> None:
    answer = TestClient(application(served)).post(f"/act{query}", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["query", "episode"]
    assert message in answer.json()["detail"][0]["msg"]


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    client = TestClient(application(Served(policy_with_reference(tmp_path), token="word")))
    assert client.post("/outcome", json={"episode": "a", "reward": 1}).status_code == 401
