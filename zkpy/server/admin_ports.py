"""The ports that speak HTTP: which ones a server has, and when it goes without.

What answers on them is imported when the first connection comes: most servers are asked
rarely, and an HTTP library is memory that a server at rest need not have.
"""

import asyncio
import errno
import importlib.util
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs

from zkpy.admin.commands import ServerView
from zkpy.config import ClientAddress, Config
from zkpy.config.ensemble import is_wildcard
from zkpy.errors import ConfigError
from zkpy.server.sockets import bind, close_all

if TYPE_CHECKING:
    from zkpy.server.admin_http import Hub

log = logging.getLogger("zkpy.server")

LIBRARY: Final = "h11"
BACKLOG: Final = 64


@attrs.define
class Port:
    """One that is bound."""

    address: ClientAddress
    path: str
    """Of what is to be found there."""
    commands: str | None
    """The path of the commands, if there are any."""
    sockets: list[socket.socket]

    @property
    def name(self) -> str:
        return "admin server" if self.commands is not None else "metrics"

    @property
    def url(self) -> str:
        host = "127.0.0.1" if is_wildcard(self.address.host) else self.address.host
        return f"http://{ClientAddress(host, self.sockets[0].getsockname()[1])}{self.path}"


def bind_http(config: Config, stack: ExitStack) -> list[Port]:
    """The ports that the configuration asks for, bound until `stack` is left.

    The admin server's is there unless zoo.cfg says no.  So if it is not named, and taken,
    the server goes without.  Raises ConfigError."""
    asked: list[tuple[ClientAddress, str, str, str, str | None]] = []
    if config.metrics is not None:
        lines = config.metrics_line, config.metrics_host_line
        asked.append((config.metrics, *lines, "/metrics", None))
    if config.admin is not None:
        path = config.admin_path
        lines = config.admin_line, config.admin_host_line
        asked.append((config.admin, *lines, path, path))
    # That which is not named comes last: it goes without where another one has its port.
    ports = [_bind(*each, stack) for each in sorted(asked, key=lambda each: not each[1])]
    return [port for port in ports if port is not None]


def _bind(
    address: ClientAddress,
    line: str,
    host_line: str,
    path: str,
    commands: str | None,
    stack: ExitStack,
) -> Port | None:
    """The lines say where port and host were asked for; "" if they were not."""
    if importlib.util.find_spec(LIBRARY) is None:
        _go_without(line, f"no HTTP on {address}: the package {LIBRARY} is not installed")
        return None
    try:
        sockets = listen(address)
    except OSError as why:
        reason = f"cannot listen on {address}: {why.strerror or why}"
        if host_line and (isinstance(why, socket.gaierror) or why.errno == errno.EADDRNOTAVAIL):
            raise ConfigError(
                f"{host_line}: {reason}: a name or an address of this machine is needed"
            ) from None
        _go_without(line, reason)
        return None
    for each in sockets:
        stack.enter_context(each)
    return Port(address, path, commands, sockets)


def listen(address: ClientAddress) -> list[socket.socket]:
    """Bound, and listening at once: two that are only bound may share a port, and which of them
    goes without it should be known before a data directory is opened.  Raises OSError."""
    sockets = bind(address)
    try:
        for each in sockets:
            each.listen(BACKLOG)
    except OSError:
        close_all(sockets)
        raise
    return sockets


def _go_without(line: str, reason: str) -> None:
    if line:
        raise ConfigError(f"{line}: {reason}")
    log.warning(
        "going on without the admin server: %s (admin.serverPort gives it another port, "
        "admin.enableServer=false ends this line)",
        reason,
    )


class HttpServer:
    """Answers on those ports, once it listens."""

    def __init__(self, ports: list[Port], config: Config, view: Callable[[], ServerView]) -> None:
        self._ports = ports
        self._config = config
        self._view = view
        self._servers: list[asyncio.Server] = []
        self._hub: Hub | None = None
        self._told_broken = False

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for port in self._ports:
            for each in port.sockets:
                server = await loop.create_server(
                    partial(self._welcome, port), sock=each, backlog=BACKLOG
                )
                self._servers.append(server)

    def tell(self) -> None:
        """Where it answers, in the log."""
        for port in self._ports:
            log.info("%s on %s", port.name, port.url)

    def stop(self) -> None:
        for server in self._servers:
            server.close()
        if self._hub is not None:
            self._hub.close()

    def _welcome(self, port: Port) -> asyncio.BaseProtocol:
        """Whatever goes wrong: what a protocol factory raises would end the server."""
        try:
            return self._open(port)
        except Exception:
            if not self._told_broken:
                log.exception("no HTTP: its connections are closed from now on")
            self._told_broken = True
            return Closed()

    def _open(self, port: Port) -> asyncio.BaseProtocol:
        # Not before somebody asks: see above.
        from zkpy.admin.web import Site
        from zkpy.server.admin_http import Connection, Hub

        if self._hub is None:
            loop = asyncio.get_running_loop()
            idle_s = self._config.admin_idle_ms / 1000
            self._hub = Hub(loop, self._view, idle_s)
        words = self._config.four_letter_words
        site = Site(port.commands, words, port.address.host)
        return Connection(self._hub, self._hub.room(port.name), site)


class Closed(asyncio.Protocol):
    """A connection that nobody takes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
