"""`srvr`, asked by the commands: what a server says that takes no session (yet)."""

import contextlib
import socket
from typing import Final

from kazoo.hosts import collect_hosts

PATIENCE_S: Final = 2.0


def ask_srvr(host: str, port: int) -> list[str]:
    """Its lines; every server answers this word.  OSError if there is none."""
    try:
        asking = socket.create_connection((host, port), PATIENCE_S)
    except UnicodeError as why:  # no name that a host could have
        raise OSError(f"{host}: {why}") from None
    with asking:
        asking.sendall(b"srvr")
        asking.settimeout(PATIENCE_S)
        said = b"".join(iter(lambda: asking.recv(4096), b""))
    return said.decode(errors="replace").splitlines()


def why_nobody(servers: str) -> str:
    """Why there was no session at HOST:PORT[,...]: nobody is there, or nobody serves."""
    for host, port in collect_hosts(servers)[0]:
        with contextlib.suppress(OSError):  # the next one may be there
            return f"{host}:{port} {_why_no_session(_ask_busy(host, port))}"
    return f"nobody answers at {servers}"


def _ask_busy(host: str, port: int) -> list[str]:
    """Nothing, if it is there and has no room for us."""
    try:
        return ask_srvr(host, port)
    except (ConnectionResetError, BrokenPipeError):
        return []


def _why_no_session(lines: list[str]) -> str:
    if "Mode: read-only" in lines:
        return "is read-only, since there is no quorum: `zkpy shell -r` takes it as it is"
    if any(line.startswith("Mode: ") for line in lines):
        return "runs, but gave no session in time (a full disk?)"
    said = [line for line in lines if line]
    if not said:
        return "closes connections without a word: too many of them (maxClientCnxns, maxCnxns)?"
    return " ".join(["runs, but serves nobody:", *said])
