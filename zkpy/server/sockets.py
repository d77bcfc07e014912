"""Sockets, and the addresses that they take: of the own ports, and of the others."""

import errno
import socket
from collections.abc import Iterable
from typing import Any

from zkpy.config import ANY_ADDRESS, ClientAddress
from zkpy.config.ensemble import is_wildcard
from zkpy.config.values import is_address
from zkpy.membership import ANY_IPV4

Place = tuple[int, Any]
"""Address family, and what `connect` and `sendto` take."""


def look_up(host: str) -> list[str]:
    """All addresses of a name, none if there are none just now."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def place(host: str, port: int) -> Place:
    """Of an address, not a name: nothing is looked up."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return found[0][0], found[0][4]


def plain_host(host: str) -> str:
    """An IPv4 address as such, also where it came in through an IPv6 socket."""
    return host.removeprefix("::ffff:") if "." in host else host


def keep_alive(opened: Any) -> None:
    if opened is not None:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


# --- the own ports --------------------------------------------------------------------


def bind(address: ClientAddress) -> list[socket.socket]:
    """Bound sockets, not yet listening: one, or IPv4 and IPv6 for every address.

    Binding comes before anything else at start: a port that is taken is found while
    nothing has been touched.  Raises OSError.
    """
    if address.host != ANY_ADDRESS:
        return [bind_one(*_resolve(address))]
    first = bind_one(socket.AF_INET, (ANY_IPV4, address.port))
    try:
        return [first, bind_one(socket.AF_INET6, ("::", first.getsockname()[1]))]
    except OSError as why:
        if why.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6 here
            return [first]
        first.close()
        raise


def _resolve(address: ClientAddress) -> tuple[int, Any]:
    found = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return found[0][0], found[0][4]


def bind_everywhere(host: str, port: int, kind: int) -> list[socket.socket]:
    """Sockets bound to all addresses of the own host that this machine has.

    A name may stand for several (IPv4 and IPv6), and the others may use any of them.
    Raises OSError.
    """
    hosts = [ANY_IPV4, "::"] if is_wildcard(host) else _own_addresses(host)
    opened: list[socket.socket] = []
    absent: OSError | None = None
    for each in hosts:
        try:
            opened.append(bind_one(*place(each, port), kind))
        except OSError as why:
            if why.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                close_all(opened)
                raise
            absent = why
    if absent is not None and not opened:
        raise absent
    return opened


def _own_addresses(host: str) -> list[str]:
    if is_address(host):
        return [host]
    found = look_up(host)
    if not found:
        raise OSError(errno.EADDRNOTAVAIL, f"the name {host} cannot be looked up")
    return found


def bind_one(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> socket.socket:
    stream = kind == socket.SOCK_STREAM
    # Named as TCP: asyncio switches Nagle's delay off only where it reads the word.
    opened = socket.socket(family, kind, socket.IPPROTO_TCP if stream else socket.IPPROTO_UDP)
    try:
        if stream:
            # A restarted server takes its port back while old connections still fade.
            # Datagrams leave nothing that fades, and there two could share the port.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.bind(address)
        opened.setblocking(False)
    except BaseException:
        opened.close()
        raise
    return opened


def close_all(sockets: Iterable[socket.socket]) -> None:
    for each in sockets:
        each.close()
