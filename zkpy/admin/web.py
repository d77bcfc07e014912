"""What a request to the admin server, or to the port for metrics, is answered.

In: a request as data.  Out: status, headers, and the body in pieces.  No sockets here.

    GET  /commands           the list, in HTML
    GET  /commands/NAME      one command's answer, in JSON
    POST /commands/NAME      for those that change something
    GET  /metrics            all figures, for Prometheus

Nobody is asked who he is, so that little may be had by asking:

- A command that changes something is done by POST alone, only if `4lw.commands.whitelist`
  names its four-letter word, and never for a browser, which a page of somebody else's may
  have sent.
- What comes over loopback names a host that can only be this machine: a page that has its
  own name point here, to read what is answered, names its own.
"""

import html
import ipaddress
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import attrs

from zkpy.admin import prometheus
from zkpy.admin.commands import Command, ServerView
from zkpy.admin.documents import (
    BY_NAME,
    NOT_SERVING,
    Count,
    Items,
    Rows,
    document_of,
    encode,
    needs_service,
    refusal,
)
from zkpy.admin.fourletter import is_allowed

METRICS_PATH: Final = "/metrics"
JSON: Final = "application/json"
HTML: Final = "text/html; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
NAME_SHOWN_MAX: Final = 64
OTHER_HOST: Final = (
    "over loopback, Host has to be localhost, an address, this machine's name, or that in "
    "admin.serverAddress (metricsProvider.httpHost on its port): let a proxy send one of them"
)
UNBUILT: Final = {
    ("snapshot", "snap"): "it is not there: a backup is a copy of the data directory, see "
    "docs/operations.md",
    ("restore", "rest"): "it is not there: a backup is brought back while the server is "
    "stopped, see docs/operations.md",
    ("set_trace_mask", "stmk"): "there is no trace log, and so no mask of it",
    ("observer_connection_stat_reset", "orst"): "no figures are kept of observers' connections",
}
"""Commands of ZooKeeper's that zkpy lacks -> why."""
_UNBUILT: Final = {name: (names[0], why) for names, why in UNBUILT.items() for name in names}
_SENT_BY_BROWSERS: Final = ("origin", "referer", "sec-fetch-site", "sec-fetch-mode")
"""A page's POST has one of them at least, and its author cannot leave them all out."""
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[A-Za-z0-9._-]*))(?::[0-9]*)?")


@attrs.define(frozen=True)
class Request:
    method: str
    target: str
    """Path, and what follows behind a question mark."""
    headers: Mapping[str, str]
    """Names in lower case."""
    on_loopback: bool
    """It came in over the loopback interface."""


@attrs.define(frozen=True)
class Response:
    status: int
    content_type: str
    body: bytes | Iterator[bytes]
    """An iterator where it may be long."""
    allow: str = ""
    """The methods, where another one was used."""
    change: str = ""
    """The command, where one that changes something was asked for by POST; whether it was done,
    the status says."""


@attrs.define(frozen=True)
class Site:
    """What one port has."""

    commands: str | None
    """The path of the commands, `/commands`; None where there are only metrics."""
    words: tuple[str, ...] = ()
    """`4lw.commands.whitelist`"""
    host: str = ""
    """The name or address that it listens on."""


def respond(request: Request, site: Site, view: Callable[[], ServerView]) -> Response:
    if request.on_loopback and not is_own_host(request.headers.get("host", ""), site):
        return _say(403, OTHER_HOST)
    if request.method not in ("GET", "HEAD", "POST"):
        return _say(405, "GET, HEAD or POST is needed", allow="GET, HEAD, POST")
    path = request.target.partition("?")[0]
    if path == METRICS_PATH:
        return _read_only(request) or Response(
            200, prometheus.CONTENT_TYPE, prometheus.render(view()).encode()
        )
    if site.commands is not None:
        if path.rstrip("/") == site.commands.rstrip("/"):
            return _read_only(request) or _list(site.commands.rstrip("/"))
        prefix = site.commands.rstrip("/") + "/"
        if path.startswith(prefix):
            return _command(request, path.removeprefix(prefix), site, view)
    return _say(404, "there is nothing here")


def is_own_host(header: str, site: Site) -> bool:
    """Whether a `Host` can only mean this machine.  An address does: what a browser is made to
    look up is a name.  HTTP/1.0 may go without one; no browser does."""
    found = _HOST.fullmatch(header)
    if found is None:
        return False
    if found["ipv6"] is not None:
        return _is_address(found["ipv6"], ipaddress.IPv6Address)
    host = found["host"].lower().removesuffix(".")
    if not host or host == "localhost" or host.endswith(".localhost"):
        return True
    own = (site.host.lower(), socket.gethostname().lower())
    return host in own or _is_address(host, ipaddress.IPv4Address)


def _is_address(text: str, kind: Callable[[str], object]) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


def _read_only(request: Request) -> Response | None:
    if request.method == "POST":
        return _say(405, "GET or HEAD is needed", allow="GET, HEAD")
    return None


def _say(status: int, text: str, allow: str = "") -> Response:
    return Response(status, TEXT, f"{text}\n".encode(), allow)


def _list(path: str) -> Response:
    """Links, laid out as ZooKeeper's; those that take a POST are names only."""
    commands = {command.name: command for command in BY_NAME.values()}
    lines = [_link(f"{path}/{name}", commands[name]) for name in sorted(commands)]
    return Response(200, HTML, "".join(lines).encode())


def _link(path: str, command: Command) -> str:
    if command.changes:
        return f"{command.name} (POST)\n<br/>\n"
    return f'<a href="{html.escape(path)}">{command.name}</a>\n<br/>\n'


def _command(request: Request, name: str, site: Site, view: Callable[[], ServerView]) -> Response:
    if name in _UNBUILT:
        full, why = _UNBUILT[name]
        return _refuse(501, full, why)
    command = BY_NAME.get(name)
    if command is None:
        shown = name if len(name) <= NAME_SHOWN_MAX else f"{name[:NAME_SHOWN_MAX]}..."
        return _refuse(404, shown, f"Unknown command: {shown}")
    if command.changes:
        return _change(request, command, site, view)
    if request.method == "POST":
        return _refuse(405, command.name, "GET or HEAD is needed", "GET, HEAD")
    return _run(command, view())


def _change(
    request: Request, command: Command, site: Site, view: Callable[[], ServerView]
) -> Response:
    if request.method != "POST":
        return _refuse(405, command.name, "it changes something: POST is needed", "POST")
    refused = _check_change(request, command, site)
    return attrs.evolve(refused or _run(command, view()), change=command.name)


def _check_change(request: Request, command: Command, site: Site) -> Response | None:
    if any(name in request.headers for name in _SENT_BY_BROWSERS):
        return _refuse(403, command.name, "it changes something: not for a browser")
    if not is_allowed(command.word, site.words, read_only_mode=False):
        why = f"it changes something: 4lw.commands.whitelist does not name {command.word}"
        return _refuse(403, command.name, why)
    return None


def _run(command: Command, view: ServerView) -> Response:
    if needs_service(command) and not view.mode:
        why_idle = view.status.why_idle
        return _refuse(503, command.name, NOT_SERVING + (f": {why_idle}" if why_idle else ""))
    return _show(document_of(command, view))


def _refuse(status: int, name: str, why: str, allow: str = "") -> Response:
    return Response(status, JSON, b"".join(encode(refusal(name, why))), allow)


def _show(document: dict[str, object]) -> Response:
    pieces = encode(document)
    is_long = any(isinstance(value, Rows | Items | Count) for value in document.values())
    return Response(200, JSON, pieces if is_long else b"".join(pieces))
