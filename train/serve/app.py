"""The web application of ``palaestra serve``: a policy's actions over HTTP, by the words of its contract.

| path | answers |
|---|---|
| ``POST /act`` | the action for one observation, or for several |
| ``GET /contract`` | what every number means |
| ``GET /health`` | that it runs, and which file |
| ``GET /metrics`` | counts and times, as Prometheus reads them |
| ``GET /docs``, ``/openapi.json`` | a page to try it, and its description |

A request that is not in the contract is answered with 422 and the place, one that is no JSON with 400, one that is too
large with 413, one that comes too slowly with 408, one without the token with 401. None of them ends the server.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from palaestra.envs.core.reference import Array
from palaestra.train.export.observation_reader import ObservationError, ObservationReader, elements_of
from palaestra.train.export.policy_file import PolicyFile
from palaestra.train.serve.batcher import Batcher
from palaestra.train.serve.openapi import act_description

LARGEST_BODY = 2**20  # bytes; more for policies whose observation is larger as JSON
SLOWEST = 10.0  # seconds for a request to come in
_BYTES_PER_NUMBER = 32  # of JSON
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


@dataclass
class Served:
    """The policy that is served now; :meth:`replace` takes another one between two requests."""

    policy: PolicyFile
    clamp: bool = False
    token: str | None = None
    log: Callable[[dict[str, Any]], None] | None = None

    def __post_init__(self) -> None:
        self.take(self.policy)

    def take(self, policy: PolicyFile) -> None:
        """Answer with that policy from the next request on."""
        self.policy, self.batcher = policy, Batcher(policy)
        self.reader = ObservationReader(policy.inputs, self.clamp)
        numbers = sum(_size(end["shape"]) for end in policy.inputs)
        self.largest = max(LARGEST_BODY, 64 * numbers * _BYTES_PER_NUMBER)


class RequestError(Exception):
    """A request that is not answered; its status and its words."""

    def __init__(self, status: int, text: str, place: list[str | int] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.place = status, text, place


def application(served: Served) -> FastAPI:
    """The application for a policy."""
    contract = served.policy.contract
    app = FastAPI(
        title=f"palaestra: {contract['environment']['id']}", version=served.policy.sha256[:12], redoc_url=None
    )
    registry = CollectorRegistry()
    answers = Counter("palaestra_requests", "Requests to /act by status.", ["status"], registry=registry)
    observations = Counter("palaestra_observations", "Observations that were acted on.", registry=registry)
    seconds = Histogram(
        "palaestra_seconds", "Seconds from a request to its answer.", buckets=_SECONDS, registry=registry
    )
    runs = Gauge(
        "palaestra_policy_runs", "Runs of the policy; fewer than requests where they are joined.", registry=registry
    )

    @app.post("/act", openapi_extra=act_description(contract), response_model=None)
    async def act(request: Request) -> Response:
        """The policy's action for one observation, or a list of actions for several."""
        start = time.perf_counter()
        try:
            body = await _json(request, served)
            feed, several = served.reader(body)
            outputs = await served.batcher.act(feed)
        except RequestError as refusal:
            answers.labels(refusal.status).inc()
            return _refusal(refusal)
        except ObservationError as bad:
            answers.labels(422).inc()
            return _refusal(RequestError(422, str(bad), bad.place))
        answer = answer_of(served.policy.contract["outputs"], outputs, several)
        if served.log is not None:
            served.log({"time": time.time(), "request": body, "answer": answer})
        answers.labels(200).inc()
        observations.inc(len(outputs["action"]))
        seconds.observe(time.perf_counter() - start)
        return Response(json.dumps(answer), media_type="application/json")

    @app.get("/contract", response_model=None)
    async def contract_of_the_policy() -> Response:
        """What every number means, and where the policy comes from."""
        return Response(json.dumps(served.policy.contract, indent=1), media_type="application/json")

    @app.get("/health", response_model=None)
    async def health() -> dict[str, Any]:
        """That the server answers, and the SHA-256 of the policy's file."""
        return {"status": "ok", "file": str(served.policy.path), "sha256": served.policy.sha256}

    @app.get("/metrics", response_model=None)
    async def metrics() -> Response:
        """Counts and times in Prometheus's form."""
        runs.set(served.batcher.runs)
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.add_middleware(TokenCheck, served=served)
    return app


class TokenCheck:
    """Lets requests through that bring the token; all of them where there is none, and ``/health`` always."""

    def __init__(self, app: Any, served: Served) -> None:
        self.app, self.served = app, served

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        token = self.served.token
        if token is not None and scope["type"] == "http" and scope["path"] != "/health":
            given = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ")
            if not hmac.compare_digest(given, token.encode()):
                refusal = _refusal(RequestError(401, "give the server's token: Authorization: Bearer TOKEN"))
                return await refusal(scope, receive, send)
        await self.app(scope, receive, send)


async def _json(request: Request, served: Served) -> Any:
    """The request's body.

    Raises:
        RequestError: if it is too large, comes too slowly, or is no JSON.
    """
    large = RequestError(413, f"the request has more than {served.largest:,} bytes")
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > served.largest:
        raise large
    parts, size = [], 0
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in request.stream():
                parts.append(part)
                size += len(part)
                if size > served.largest:
                    raise large
        return json.loads(b"".join(parts))
    except TimeoutError:
        raise RequestError(408, f"the request took more than {SLOWEST:g} s to come in") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the request is no JSON: {str(error)[:200]}") from None


def answer_of(outputs: list[dict[str, Any]], found: dict[str, Array], several: bool) -> dict[str, Any]:
    """The policy's outputs as JSON; choices, and numbers that stand for quantities, are told by name too."""
    answer: dict[str, Any] = {}
    for end in outputs:
        values = found[end["name"]].tolist()
        answer[end["name"]] = values if several else values[0]
        if choices := end.get("choices"):
            first = end.get("first", 0)
            names = [choices[value - first] for value in values]
            answer["choice"] = names if several else names[0]
        if elements := elements_of(end):
            rows = found[end["name"]].reshape(len(found[end["name"]]), -1).tolist()
            told = [{e.name: e.offset + e.scale * x for e, x in zip(elements, row, strict=True)} for row in rows]
            answer["quantities"] = told if several else told[0]
    return {name: _finite(value) for name, value in answer.items()}


def _finite(value: Any) -> Any:
    """The same with None for −∞, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _refusal(refusal: RequestError) -> Response:
    detail: dict[str, Any] = {"msg": refusal.text}
    if refusal.place is not None:
        detail = {"loc": refusal.place, **detail}
    return Response(json.dumps({"detail": [detail]}), refusal.status, media_type="application/json")


def _size(shape: list[int]) -> int:
    size = 1
    for length in shape:
        size *= length
    return size
