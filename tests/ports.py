"""Ports for servers that tests start, and start again.

They lie below those that the kernel gives to outgoing connections: of these the tests make
hundreds, and one of them could have the port of a server that is down for a moment.  Where to
begin is left to chance, since other tests may run beside these; tests/conformance has the
ports from 21000 on.
"""

import contextlib
import random
import socket
from typing import Final

HOST: Final = "127.0.0.1"
FIRST: Final = 10_000
LAST: Final = 20_999
_KINDS: Final = (socket.SOCK_STREAM, socket.SOCK_DGRAM)


def free_ports(count: int) -> list[int]:
    """In a row, each free for TCP and UDP; OSError if there is no such row."""
    start = random.randrange(FIRST, LAST)
    for port in (*range(start, LAST - count + 2), *range(FIRST, start)):
        if _are_free(port, count):
            return [*range(port, port + count)]
    raise OSError(f"no {count} free ports in a row between {FIRST} and {LAST}")


def free_port() -> int:
    return free_ports(1)[0]


def _are_free(first: int, count: int) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            for port in range(first, first + count):
                for kind in _KINDS:
                    probe = stack.enter_context(socket.socket(socket.AF_INET, kind))
                    if kind is socket.SOCK_STREAM:
                        # As servers do: connections in TIME_WAIT are in nobody's way.
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((HOST, port))
        except OSError:
            return False
    return True
