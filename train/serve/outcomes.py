"""What actions brought, for the log: which episode a request belongs to, and what came of its last action.

``POST /act?episode=NAME`` names the episode of one observation; ``POST /outcome`` tells afterwards what its last action
brought: ``{"episode": NAME, "reward": 12.5, "sold": 1, "end": true}``, of which all but the episode may be left out.
``palaestra monitor`` reads both from the log (:mod:`palaestra.train.monitoring.log_entries`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from palaestra.envs.core.reference import Array, is_finite_number
from palaestra.train.serve.request_body import RequestError

MOST_LETTERS = 200  # of an episode's name
_LARGEST = 4096  # bytes
_LARGEST_NUMBER = 1e100  # whose squares can be added up
_KINDS = {"reward": "a number", "return": "a number", "sold": "a whole number of at least 0", "end": "true or false"}


def episode_of(request: Request, several: int | None) -> dict[str, Any]:
    """The part of a log's entry that names the episode of so many observations; empty if the request names none.

    Raises:
        RequestError: if the name is empty or long.
    """
    name = request.query_params.get("episode")
    if name is None:
        return {}
    checked = _checked_name(name, ["query", "episode"])
    return {"episode": checked if several is None else [checked] * several}


def add_outcomes(
    app: FastAPI,
    log: Callable[[], Callable[[dict[str, Any], int], None] | None],
    digest: Callable[[], str],
    intake: Any,
    dependencies: list[Any],
) -> None:
    """Add ``POST /outcome`` to an application.

    Args:
        app: the application.
        log: the log that there is now, if there is one.
        digest: SHA-256 of the policy that is served now.
        intake: takes in a request within its bounds.
        dependencies: of the route.
    """

    @app.post("/outcome", dependencies=dependencies, openapi_extra=_DESCRIPTION, response_model=None)
    async def outcome(request: Request) -> Response:
        """Tell what the last action of an episode brought; it is written to the server's log."""
        try:
            body, *_ = await intake(request, _read, _LARGEST)
            write = log()
            if write is None:
                raise RequestError(409, "this server keeps no log: start it with --log FILE")
        except RequestError as error:
            detail = {"msg": error.text} if error.place is None else {"loc": error.place, "msg": error.text}
            return Response(json.dumps({"detail": [detail]}), error.status, media_type="application/json")
        write({"time": time.time(), "sha256": digest()[:12], **body}, 1000)
        return Response('{"logged": true}', media_type="application/json")


def _read(body: Any) -> tuple[dict[str, Array], bool]:
    """Check an outcome; it has no observations."""
    if not isinstance(body, dict):
        raise RequestError(422, f"must be an object with episode, and any of {', '.join(_KINDS)}", [])
    if unknown := next((key for key in body if key not in ("episode", *_KINDS)), None):
        raise RequestError(422, f"is none of episode, {', '.join(_KINDS)}", [str(unknown)[:MOST_LETTERS]])
    _checked_name(body.get("episode"), ["episode"])
    if len(body) == 1:
        raise RequestError(422, f"tells nothing: give any of {', '.join(_KINDS)}", [])
    for key, kind in _KINDS.items():
        if key in body and not _is_well(key, body[key]):
            raise RequestError(422, f"must be {kind}", [key])
    return {}, False


def _is_well(key: str, value: Any) -> bool:
    if key == "end":
        return isinstance(value, bool)
    if key == "sold":
        return is_finite_number(value) and 0 <= value < 2**53 and value == int(value)
    return is_finite_number(value) and abs(value) <= _LARGEST_NUMBER


def _checked_name(name: Any, place: list[str | int]) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MOST_LETTERS:
        raise RequestError(422, f"must be a name of 1 to {MOST_LETTERS} letters", place)
    return name


_NUMBER = {"type": "number", "minimum": -_LARGEST_NUMBER, "maximum": _LARGEST_NUMBER}
_DESCRIPTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "episode": {"type": "string", "minLength": 1, "maxLength": MOST_LETTERS},
                        "reward": {**_NUMBER, "description": "what the last action brought"},
                        "sold": {"type": "integer", "minimum": 0, "maximum": 2**53 - 1},
                        "end": {"type": "boolean", "description": "whether the episode is over"},
                        "return": {**_NUMBER, "description": "of the whole episode, which is over"},
                    },
                    "required": ["episode"],
                    "minProperties": 2,
                    "additionalProperties": False,
                }
            }
        },
    },
    "responses": {
        status: {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}
        for status, text in {
            "200": "It is in the log.",
            "400": "The request is no JSON.",
            "401": "The token is missing or wrong.",
            "408": "The request came too slowly.",
            "409": "The server keeps no log.",
            "413": "The request is too large.",
            "422": "The outcome has another form; loc is its place.",
            "503": "Too many requests are coming in.",
        }.items()
    },
}
