"""Running the application: where it listens, a new file without a lost request, and a graceful end.

The file is looked at once a second. If it has changed, and is a policy of the same environment with the same inputs and
outputs, the next request is answered with it; if not, the policy that is there goes on, and a line says why. On SIGTERM
or Ctrl-C what was accepted is answered before the server ends, with the exit status 0.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from palaestra.train.export.observation_reader import elements_of
from palaestra.train.export.policy_file import PolicyFile, PolicyFileError, signature_of
from palaestra.train.serve.app import Served, application

CONNECTIONS = 1000  # at once; further ones are answered with 503
HEAD = 10.0  # seconds for the head of a request
_LOOKS = 1.0  # seconds between two looks at the file
_LAST = 10  # seconds for the last answers


class ServeError(ValueError):
    """The server cannot begin; the message says why."""


def run(served: Served, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until a signal ends it.

    Args:
        served: the policy.
        host: the address to listen at; beyond this machine only with a token.
        port: 0 for any that is free.
        tell: takes a line for people.

    Raises:
        ServeError: if there is no token for other machines, or the port is taken.
    """
    if not is_loopback(host) and served.token is None:
        raise ServeError(f"--host {host} is open to other machines: give a --token that they must know")
    app = application(served)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(served, tell))
        yield
        watching.cancel()

    app.router.lifespan_context = lifespan
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="error",
        access_log=False,
        http=HeadTimer,
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_LAST,
        server_header=False,
    )
    sockets = [_bound(config, host, port)]
    address = sockets[0].getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    tell(f"serving {served.name} at http://{shown}:{address[1]} (Ctrl-C ends it); try /docs")
    GracefulServer(config).run(sockets=sockets)


def _bound(config: uvicorn.Config, host: str, port: int) -> Any:
    try:
        found = config.bind_socket()
        found.listen(2048)  # so that who reads the line that follows can connect
        return found
    except SystemExit:  # uvicorn's way to say so
        raise ServeError(f"cannot listen at {host}:{port}: it is taken, or no address of this machine") from None


def is_loopback(host: str) -> bool:
    """True for an address that only this machine reaches."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class GracefulServer(uvicorn.Server):
    """Ends on a signal without raising it again, so that a graceful end has the exit status 0."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


class HeadTimer(cast(Any, AutoHTTPProtocol)):  # type: ignore[misc]
    """Closes a connection that sends nothing, or a request's head too slowly.

    Without it a connection that never sends a whole head would be kept, and count among :data:`CONNECTIONS`, for good.
    """

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD, self._late)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering:
            self._stop()
        elif self._timer is None:  # the beginning of a further request
            self._timer = self.loop.call_later(HEAD, self._late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        super().connection_lost(exc)

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


async def _watch(served: Served, tell: Callable[[str], None]) -> None:
    """Take the file anew whenever it has changed since it was read."""
    path, seen = served.policy.path, served.policy.signature
    while True:
        await asyncio.sleep(_LOOKS)
        now = signature_of(path)
        if now is None or now == seen:
            continue
        seen = now
        try:
            policy = await asyncio.to_thread(PolicyFile, path)
            if changed := _changed(policy.contract, served.policy.contract):
                raise PolicyFileError(f"{path}: its {changed} now")
            if policy.sha256 == served.policy.sha256:
                continue
            served.take(policy)
        except Exception as error:  # no file may end the watch
            text = str(error) if isinstance(error, PolicyFileError | OSError) else f"{path}: {error!r}"
            tell(f"{' '.join(text.split())}; the policy that was served goes on")
        else:
            tell(f"{path} is another policy now, which is served from here on")


def _changed(now: dict[str, Any], before: dict[str, Any]) -> str | None:
    """What clients would have to know of a new contract; None if it is answered like the one before."""
    if now["environment"]["id"] != before["environment"]["id"]:
        return f"environment is {now['environment']['id']}"
    for what in ("inputs", "outputs"):
        forms = [[[end.get(key) for key in _FORM] for end in contract[what]] for contract in (now, before)]
        numbers = [[[(e.name, e.unit) for e in elements_of(end)] for end in c[what]] for c in (now, before)]
        if forms[0] != forms[1] or numbers[0] != numbers[1]:
            return f"{what} are others"
    return None


_FORM = ("name", "dtype", "shape", "kind", "first", "count", "layout", "choices")
