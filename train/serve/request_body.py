"""Requests as they come in: bounded in bytes, one by one and together, bounded in time, then read as observations."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect

from palaestra.envs.core.reference import Array
from palaestra.train.export.observation_reader import ObservationReader

LARGEST_BODY, LARGEST_OF_ALL = 2**20, 2**23  # bytes: of a request for small observations, and for large ones
MOST_HELD = 2**28  # bytes of all requests that are coming in
SLOWEST = 10.0  # seconds for a request to come in
_AT_ONCE = 100_000  # bytes; larger requests wait for each other and are read in a thread
_BYTES_PER_NUMBER = 32  # of JSON


class RequestError(Exception):
    """A request that is not answered; its status and its words."""

    def __init__(self, status: int, text: str, place: list[str | int] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.place = status, text, place


def largest_body(inputs: list[dict[str, Any]]) -> int:
    """Bytes of the largest request: one observation always fits, and up to 64 where that is not too much."""
    one: int = sum(math.prod(end["shape"]) for end in inputs) * _BYTES_PER_NUMBER
    return max(LARGEST_BODY, min(64 * one, LARGEST_OF_ALL), one)


class Intake:
    """Takes in all requests of a server.

    Attributes:
        held: bytes of the requests that are here and not yet read.
    """

    def __init__(self) -> None:
        self.held = 0
        self._turn = asyncio.Lock()

    async def __call__(
        self, request: Request, reader: ObservationReader, largest: int
    ) -> tuple[Any, dict[str, Array], bool]:
        """The request as JSON, its observations by input, and whether there are several.

        Raises:
            RequestError: if it is too large, comes too slowly, or is no JSON.
            ObservationError: if it is not in the contract.
        """
        large = RequestError(413, f"the request has more than {largest:,} bytes")
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > largest):
            raise large
        size = 0
        try:
            content = bytearray()
            async with asyncio.timeout(SLOWEST):
                async for part in request.stream():
                    content += part
                    size, self.held = len(content), self.held + len(part)
                    if size > largest:
                        raise large
                    if self.held > MOST_HELD:
                        raise RequestError(503, "too many large requests are coming in: try again")
            if size <= _AT_ONCE:
                return _read(content, reader)
            async with self._turn:  # one at a time: read, a request is several times as large
                return await asyncio.to_thread(_read, content, reader)
        except TimeoutError:
            raise RequestError(408, f"the request took more than {SLOWEST:g} s to come in") from None
        except ClientDisconnect:
            raise RequestError(400, "the client has gone") from None
        finally:
            self.held -= size


def _read(content: bytearray, reader: ObservationReader) -> tuple[Any, dict[str, Array], bool]:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RequestError(400, f"the request is no JSON: {str(error)[:200]}") from None
    return body, *reader(body)
