"""Ports for the servers of tests: nobody else's, also while the server is down."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from zkpy.testing.realserver import (
    FIRST_PORT,
    HOST,
    LAST_PORT,
    PORTS_PER_BLOCK,
    RealEnsemble,
    RealServer,
    free_ports,
)

ROOT = Path(__file__).resolve().parent.parent


def test_in_a_row_and_never_twice() -> None:
    rows = [free_ports(count) for count in (3, 1, 40, 12)]
    assert all(row == [*range(row[0], row[0] + len(row))] for row in rows)
    ports = [port for row in rows for port in row]
    assert len(set(ports)) == 56


TAKE = """
import random
random.randrange = lambda count: 0
from zkpy.testing.realserver import free_ports
print(*free_ports(40), flush=True)
input()
"""


def test_what_another_process_was_given_is_not_given_here() -> None:
    """Though nobody listens there yet: two runs of the tests stand side by side, and these two
    begin at the same place."""
    others, given = [], []
    for _ in range(2):
        command = [sys.executable, "-c", TAKE]
        other = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert other.stdout is not None
        others.append(other)
        given.append(other.stdout.readline().split())
    for other in others:
        other.communicate("\n")
    assert [len(each) for each in given] == [40, 40]
    assert not {*given[0]} & {*given[1]}


def test_a_port_in_use_is_left_out() -> None:
    (before,) = free_ports(1)
    with socket.create_server((HOST, before + 1)):
        row = free_ports(2)
    assert before + 1 not in row


def test_none_is_one_that_the_kernel_gives_away(tmp_path: Path) -> None:
    ports = [RealServer(tmp_path).port, *(each.port for each in RealEnsemble(tmp_path).servers)]
    assert all(FIRST_PORT < port <= LAST_PORT for port in ports)


def test_more_than_there_are_in_a_row() -> None:
    with pytest.raises(OSError, match="49 ports in a row, not 50"):
        free_ports(PORTS_PER_BLOCK)
