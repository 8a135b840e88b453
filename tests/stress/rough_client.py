"""A client that speaks HTTP as roughly as it is told to, and requests to send with it."""

from __future__ import annotations

import asyncio
import random
from typing import Any

PATIENCE = 60.0  # seconds for an answer: the machine may be busy, and the slowest refusal takes 10
HOST = "127.0.0.1"


class ClosedError(Exception):
    """The server has closed the connection without a further answer."""


class Client:
    """A connection, which reads answers one by one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> Client:
        return cls(*await asyncio.open_connection(HOST, port))

    async def send(self, data: bytes) -> None:
        try:
            self.writer.write(data)
            await asyncio.wait_for(self.writer.drain(), PATIENCE)
        except ConnectionError:
            pass  # the answer has come already, or the connection is closed: reading tells

    async def answer(self, head: bool = False) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        async with asyncio.timeout(PATIENCE):
            try:
                lines = (await self.reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                status = int(lines[0].split(b" ")[1])
                if status == 100:
                    return await self.answer(head)
                sizes = [int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:")]
                assert sizes or head, lines
                return status, b"" if head else await self.reader.readexactly(sizes[0])
            except (ConnectionError, asyncio.IncompleteReadError) as error:
                raise ClosedError(repr(error)) from None

    def close(self) -> None:
        self.writer.transport.abort()


def request(body: bytes, method: str = "POST", path: str = "/act", more: str = "") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode() + body


def anything(rng: random.Random, depth: int = 0) -> Any:
    """A value of JSON, and some that only Python's reader takes."""
    kind = rng.randrange(11 if depth < 4 else 8)
    if kind < 8:
        plain = [None, True, rng.randrange(-9, 9), rng.uniform(-2.0, 2.0), 10 ** rng.randrange(400), float("nan")]
        return [*plain, rng.choice(["", "a", "1", "\ud800", "\x00"]), float("inf")][kind]
    if kind == 8:
        return {rng.choice(["observation", "a", ""]): anything(rng, depth + 1) for _ in range(rng.randrange(4))}
    return [anything(rng, depth + 1) for _ in range(rng.randrange(6))]


def changed(body: bytes, rng: random.Random) -> bytes:
    """The bytes with a few of them cut, doubled, or replaced."""
    found = bytearray(body)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(found) + 1)
        size = rng.randrange(1, 5)
        new = rng.choice([b"", bytes(found[at : at + size]) * 2, rng.randbytes(size), b"[", b"]", b"1e999", b"-", b"{"])
        found[at : at + size] = new
    return bytes(found)
