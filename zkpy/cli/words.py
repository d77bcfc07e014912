"""`srvr`, asked by the commands: what a server says that takes no session (yet)."""

import contextlib
import socket
from typing import Final

from kazoo.hosts import collect_hosts

PATIENCE_S: Final = 2.0


def ask_srvr(host: str, port: int) -> list[str]:
    """Its lines; every server answers this word.  OSError if there is none."""
    with socket.create_connection((host, port), PATIENCE_S) as asking:
        asking.sendall(b"srvr")
        asking.settimeout(PATIENCE_S)
        said = b"".join(iter(lambda: asking.recv(4096), b""))
    return said.decode(errors="replace").splitlines()


def why_nobody(servers: str) -> str:
    """Why there was no session at HOST:PORT[,...]: nobody is there, or nobody serves."""
    for host, port in collect_hosts(servers)[0]:
        with contextlib.suppress(OSError):  # the next one may be there
            return f"{host}:{port} {_why_no_session(ask_srvr(host, port))}"
    return f"nobody answers at {servers}"


def _why_no_session(lines: list[str]) -> str:
    if "Mode: read-only" in lines:
        return "is read-only, since there is no quorum: `zkpy shell -r` takes it as it is"
    if any(line.startswith("Mode: ") for line in lines):
        return "runs, but gave no session in time (a full disk, or too many connections?)"
    said = [line for line in lines if line]
    return " ".join(["runs, but serves nobody:", *(said or ["it says nothing"])])
