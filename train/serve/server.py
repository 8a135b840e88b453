"""Running the application: where it listens, a new file without a lost request, and a graceful end.

The file is looked at once a second. If it has changed, and is a policy with the same inputs and outputs, the next
request is answered with it; if not, the policy that is there goes on, and a line says why. On SIGTERM or Ctrl-C what
was accepted is answered before the server ends.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvicorn

from palaestra.train.export.policy_file import PolicyFile, PolicyFileError
from palaestra.train.serve.app import Served, application

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
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=_LAST,
        server_header=False,
    )
    sockets = [_bound(config, host, port)]
    address = sockets[0].getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    tell(f"serving {served.policy.path} at http://{shown}:{address[1]} (Ctrl-C ends it); try /docs")
    uvicorn.Server(config).run(sockets=sockets)


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


async def _watch(served: Served, tell: Callable[[str], None]) -> None:
    """Take the file anew whenever it has changed."""
    path, seen = served.policy.path, _signature(served.policy.path)
    while True:
        await asyncio.sleep(_LOOKS)
        now = _signature(path)
        if now is None or now == seen:
            continue
        seen = now
        try:
            policy = await asyncio.to_thread(PolicyFile, path)
            for what in ("inputs", "outputs"):
                forms = [
                    [(e["name"], e["dtype"], e["shape"]) for e in p.contract[what]] for p in (policy, served.policy)
                ]
                if forms[0] != forms[1]:
                    raise PolicyFileError(f"{path}: its {what} are others now")
        except (PolicyFileError, OSError) as error:
            tell(f"{error}; the policy that was served goes on")
            continue
        if policy.sha256 != served.policy.sha256:
            served.take(policy)
            tell(f"{path} is another policy now, which is served from here on")


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
