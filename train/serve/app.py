"""The web application of ``palaestra serve``: a policy's actions over HTTP, by the words of its contract.

| path | answers |
|---|---|
| ``POST /act`` | the action for one observation, or for several |
| ``POST /outcome`` | that what an action brought is in the log (:mod:`palaestra.train.serve.outcomes`) |
| ``GET /price`` | of a pricing market, the price at a moment: ``/price?period=4&stock=23`` |
| ``GET /contract`` | what every number means |
| ``GET /health`` | that it runs, and which file or run |
| ``GET /metrics`` | counts and times, as Prometheus reads them |
| ``GET /docs``, ``/openapi.json`` | a page to try it, and its description |

A request that is not in the contract is answered with 422 and the place, one that is no JSON with 400, one that is too
large with 413, one that comes too slowly with 408, one without the token with 401, one that the policy itself fails on
with 500. None of them ends the server.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPBearer
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from palaestra.envs.core.reference import Array
from palaestra.train.export.observation_reader import ObservationError, ObservationReader, elements_of
from palaestra.train.export.policy_file import PolicyFile, PolicyFileError, choice_of
from palaestra.train.export.price_table import PriceTable, QuestionError
from palaestra.train.plain_json import finite
from palaestra.train.serve.batcher import Batcher
from palaestra.train.serve.openapi import act_description, price_description
from palaestra.train.serve.outcomes import add_outcomes, episode_of
from palaestra.train.serve.request_body import Intake, RequestError, largest_body

OPEN = ("/health", "/docs", "/openapi.json")  # without the token: nothing of the policy but its form
_BYTES_PER_NUMBER = 32  # of a list
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


@dataclass(frozen=True)
class Serving:
    """A policy with what answers for it; a request keeps to one of them."""

    policy: PolicyFile
    reader: ObservationReader
    batcher: Batcher
    largest: int  # bytes of a request
    prices: PriceTable | None  # where the policy sets prices


class Served:
    """The policy that is served now; :meth:`take` takes another one between two requests."""

    def __init__(
        self,
        policy: PolicyFile,
        clamp: bool = False,
        token: str | None = None,
        log: Callable[[dict[str, Any], int], None] | None = None,
        name: str | None = None,
    ) -> None:
        """
        Args:
            policy: the first.
            clamp: whether numbers beyond their bounds become the bound.
            token: what requests must bring.
            log: takes an entry for each answer, and roughly its bytes in memory.
            name: for people; None for the file's.
        """
        self.name = name or str(policy.path)
        self.clamp, self.token, self.log = clamp, token, log
        self.runs = 0  # of all policies
        self.take(policy)

    @property
    def policy(self) -> PolicyFile:
        return self.now.policy

    def take(self, policy: PolicyFile) -> None:
        """Answer with that policy from the next request on; where it fails, nothing has changed."""
        reader = ObservationReader(policy.inputs, self.clamp)
        listed = policy.contract.get("prices")
        prices = None if listed is None else PriceTable(listed)
        self.now = Serving(policy, reader, Batcher(policy, self._count_run), largest_body(policy.inputs), prices)

    def _count_run(self) -> None:
        self.runs += 1


def application(served: Served, lifespan: Any = None) -> Entrance:
    """The application for a policy; ``lifespan`` is what FastAPI calls so."""
    contract = served.policy.contract
    app = FastAPI(
        title=f"palaestra: {contract['environment']['id']}",
        version=served.policy.sha256[:12],
        redoc_url=None,
        lifespan=lifespan,
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

    intake = Intake()

    guarded = [] if served.token is None else [Depends(HTTPBearer(auto_error=False))]  # for /docs; Entrance asks

    of_act = act_description(contract, served.now.reader.most_rows)
    refused: Any = {401: {"description": "The token is missing or wrong."}} if guarded else None

    @app.post("/act", dependencies=guarded, openapi_extra=of_act, response_model=None)
    async def act(request: Request) -> Response:
        """The policy's action for one observation, or a list of actions for several."""
        start = time.perf_counter()
        now = served.now
        try:
            body, feed, several = await intake(request, now.reader, now.largest)
            episode = episode_of(request, len(next(iter(feed.values()))) if several else None)
            outputs = await now.batcher.act(feed)
            answer = answer_of(now.policy.contract["outputs"], outputs, several)
        except (RequestError, ObservationError, PolicyFileError) as error:
            refusal = _refused(error)
            answers.labels(refusal.status_code).inc()
            return refusal
        if served.log is not None:
            entry = {
                "time": time.time(),
                "sha256": now.policy.sha256[:12],
                **episode,
                "request": body,
                "answer": answer,
            }
            served.log(entry, 1000 + _BYTES_PER_NUMBER * sum(part.size for part in (*feed.values(), *outputs.values())))
        answers.labels(200).inc()
        observations.inc(len(outputs["action"]))
        seconds.observe(time.perf_counter() - start)
        return Response(json.dumps(answer), media_type="application/json")

    of_price = price_description(served.now.prices)

    @app.get(
        "/price", dependencies=guarded, openapi_extra=of_price, include_in_schema=bool(of_price), response_model=None
    )
    async def price(request: Request) -> Response:
        """The price that the policy asks at a moment of its market."""
        try:
            found = _price_of(served.now.prices, request.query_params.multi_items())
        except RequestError as error:
            return _refusal(error)
        return Response(json.dumps(found), media_type="application/json")

    @app.get("/contract", dependencies=guarded, responses=refused, response_model=None)
    async def contract_of_the_policy() -> Response:
        """What every number means, and where the policy comes from."""
        return Response(json.dumps(served.policy.contract, indent=1), media_type="application/json")

    @app.get("/health", response_model=None)
    async def health() -> dict[str, Any]:
        """That the server answers, and which file or run, with the SHA-256 of the policy's file."""
        return {"status": "ok", "policy": served.name, "sha256": served.policy.sha256}

    @app.get("/metrics", dependencies=guarded, responses=refused, response_class=PlainTextResponse, response_model=None)
    async def metrics() -> Response:
        """Counts and times in Prometheus's form."""
        runs.set(served.runs)
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    add_outcomes(app, lambda: served.log, lambda: served.policy.sha256, intake, guarded)
    return Entrance(app, act, served, answers.labels(401).inc)


class Entrance:
    """Lets requests through that bring the token; all where there is none, and those of :data:`OPEN` always.

    ``POST /act`` is answered from here, as its route would: the way through FastAPI takes as long as the answer.
    """

    def __init__(
        self,
        app: Any,
        act: Callable[[Request], Awaitable[Response]],
        served: Served,
        refused: Callable[[], None],
    ) -> None:
        self.app, self.act, self.served, self.refused = app, act, served, refused

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        answer = self.app
        if scope["type"] == "http":
            path = scope["path"]
            if self.served.token is not None and path not in OPEN and not self._knows(scope, self.served.token):
                self.refused()
                answer = _refusal(RequestError(401, "give the server's token: Authorization: Bearer TOKEN"))
            elif path == "/act" and scope["method"] == "POST":
                answer = await self.act(Request(scope, receive, send))
        await answer(scope, receive, send)

    @staticmethod
    def _knows(scope: Any, token: str) -> bool:
        scheme, _, given = dict(scope["headers"]).get(b"authorization", b"").partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(given.strip(), token.encode())


def answer_of(outputs: list[dict[str, Any]], found: dict[str, Array], several: bool) -> dict[str, Any]:
    """The policy's outputs as JSON; choices, and numbers that stand for quantities, are told by name too."""
    answer: dict[str, Any] = {}
    for end in outputs:
        values = found[end["name"]].tolist()
        answer[end["name"]] = values if several else values[0]
        if choices := end.get("choices"):
            first = end.get("first", 0)
            names = [choice_of(choices, value - first) for value in values]
            answer["choice"] = names if several else names[0]
        if elements := elements_of(end):
            rows = found[end["name"]].reshape(len(found[end["name"]]), -1).tolist()
            told = [{e.name: e.quantity(x) for e, x in zip(elements, row, strict=True)} for row in rows]
            answer["quantities"] = told if several else told[0]
    plain: dict[str, Any] = finite(answer)  # −∞ of forbidden actions is not in JSON
    return plain


def _price_of(prices: PriceTable | None, asked: list[tuple[str, str]]) -> dict[str, Any]:
    """The answer to the parameters of /price.

    Raises:
        RequestError: if there are no prices, or a parameter is wrong.
    """
    if prices is None:
        text = "this file lists no prices: its policy sets none by moments of a market, or palaestra export wrote it"
        raise RequestError(404, f"{text} before it listed them; POST /act answers observations")
    if prices.actions is None:
        raise RequestError(404, "the moments of this market are too many to be listed; POST /act answers observations")
    try:
        return prices.ask(asked)
    except QuestionError as error:
        raise RequestError(422, str(error), ["query", error.name]) from None


def _refused(error: RequestError | ObservationError | PolicyFileError) -> Response:
    if isinstance(error, ObservationError):
        return _refusal(RequestError(422, str(error), error.place))
    if isinstance(error, PolicyFileError):
        return _refusal(RequestError(500, f"the policy failed: {error}"))
    return _refusal(error)


def _refusal(refusal: RequestError) -> Response:
    detail: dict[str, Any] = {"msg": refusal.text}
    if refusal.place is not None:
        detail = {"loc": refusal.place, **detail}
    return Response(json.dumps({"detail": [detail]}), refusal.status, media_type="application/json")
