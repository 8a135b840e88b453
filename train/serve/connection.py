"""One client's connection: bounded in time and in memory, whatever it sends, and one write for each answer.

uvicorn parses what comes and runs the application; around it

1. a connection that sends nothing, or a request's head too slowly, is closed, and so is one that does not read its
   answers;
2. what stands around bodies (heads, the lengths of chunks, trailers) is bounded in bytes;
3. requests that a client sends ahead of their answers are parsed a few at a time: the bytes of the others wait, and
   while they wait none are read;
4. what is no HTTP any more is refused after the answers to the requests before it;
5. head and body of an answer are written together: with two writes the client's process would wake twice.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD = 10.0  # seconds for the head of a request
READ = 30.0  # seconds in which a client takes what waits for it
MOST_HEAD = 2**16  # bytes of a head
_CHUNK = 8  # bytes around each byte of a body that are no reason to refuse it
_SLICE = 1024  # bytes that are parsed before it is looked whether there is a request to answer


class Outlet:
    """A transport that writes once in a turn of the event loop, and reads only while both its users want it to."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._waiting: list[bytes] = []
        self._stopped = self._full = False

    def write(self, data: bytes) -> None:
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.append(data)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and not self._transport.is_closing():  # else the client has gone
            self._transport.write(b"".join(waiting))

    def close(self) -> None:
        """Close after what waits was written, or :data:`READ` later where the client does not take it."""
        self._flush()
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._loop.call_later(READ, self._transport.abort)

    def pause_reading(self) -> None:
        self._stopped = True
        self._turn()

    def resume_reading(self) -> None:
        self._stopped = False
        self._turn()

    def hold(self, full: bool) -> None:
        """Read nothing while there is enough."""
        if full != self._full:
            self._full = full
            self._turn()

    def _turn(self) -> None:
        if not self._transport.is_closing():
            wanted = not (self._stopped or self._full)
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(HttpToolsProtocol):
    """See the module. Without the times such a connection would count among those that are open for good."""

    _timer: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None
    _unparsed = b""
    _at_end = False  # of what will be parsed
    _came = _content = 0  # bytes since a request began, and those of its body

    def connection_made(self, transport: Any) -> None:
        self._outlet = Outlet(transport, self.loop)
        super().connection_made(cast(Any, self._outlet))
        self._timer = self.loop.call_later(HEAD, self._late)

    def data_received(self, data: bytes) -> None:
        if not self._at_end:
            self._unparsed += data
            self._parse()

    def _parse(self) -> None:
        """Parse until a request waits for the answer to another one."""
        data, at = self._unparsed, 0
        while at < len(data) and not self.pipeline and not self._at_end and not self.transport.is_closing():
            part = data[at : at + _SLICE]
            at += len(part)
            self._came += len(part)
            super().data_received(part)
            if self._came - self._content > MOST_HEAD + _CHUNK * self._content:
                self._refuse_head()
        self._unparsed = b"" if self._at_end else data[at:]
        self._outlet.hold(bool(self._unparsed))
        if self._answering:
            self._stop()
        elif self._timer is None:  # the beginning of a further request
            self._timer = self.loop.call_later(HEAD, self._late)

    def on_message_begin(self) -> None:
        self._came = self._content = 0
        super().on_message_begin()

    def on_body(self, body: bytes) -> None:
        self._content += len(body)
        super().on_body(body)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unparsed:
            self.loop.call_soon(self._parse)

    def send_400_response(self, msg: str) -> None:
        self._at_end = True
        if self.pipeline or (self._answering and not self.cycle.more_body):
            self.cycle.keep_alive = False  # closed after its answer
        else:
            super().send_400_response(msg)

    def _refuse_head(self) -> None:
        self._at_end = True
        if not self._answering:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(READ, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._unparsed, self._at_end = b"", True
        super().connection_lost(exc)  # which resumes writing

    @property
    def _answering(self) -> bool:
        """True from a request's head to the end of its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def _late(self) -> None:
        self._timer = None
        if not self._answering:
            self.transport.close()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
