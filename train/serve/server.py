"""Running the application: where it listens, a new file without a lost request, and a graceful end.

The file is looked at once a second. If it has changed, and is a policy of the same environment with the same inputs and
outputs, the next request is answered with it; if not, the policy that is there goes on, and a line says why. On SIGTERM
or Ctrl-C what was accepted is answered before the server ends, with the exit status 0.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from palaestra.train.export.observation_reader import elements_of
from palaestra.train.export.policy_file import PolicyFile, PolicyFileError, signature_of
from palaestra.train.serve.app import Served, application
from palaestra.train.serve.connection import Connection

CONNECTIONS = 1000  # at once; further ones are answered with 503
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

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        watching = asyncio.create_task(_watch(served, tell))
        _settle_memory()
        yield
        watching.cancel()

    config = uvicorn.Config(
        application(served, lifespan),
        host=host,
        port=port,
        log_level="error",
        access_log=False,
        http=Connection,
        ws="none",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_LAST,
        server_header=False,
        proxy_headers=False,
    )
    sockets = [_bound(config, host, port)]
    address = sockets[0].getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    tell(f"serving {served.name} at http://{shown}:{address[1]} (Ctrl-C ends it); try /docs")
    GracefulServer(config).run(sockets=sockets)


def _settle_memory() -> None:
    """Leave what the start has made out of the collections of garbage to come.

    Each would go through all modules, and no answer leaves meanwhile: 25 to 45 ms after every 1,500 requests.
    """
    gc.collect()
    gc.freeze()


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
    asked = [_asked(contract.get("prices")) for contract in (now, before)]
    return "list of prices is another" if asked[0] != asked[1] else None


def _asked(prices: dict[str, Any] | None) -> Any:
    """Names of what is asked and answered."""
    return None if prices is None else [prices["answers"], [(ask["name"], ask.get("unit")) for ask in prices["asks"]]]


_FORM = ("name", "dtype", "shape", "kind", "first", "count", "layout", "choices")
