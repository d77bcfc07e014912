"""What the commands say of a server that is there, and gives no session."""

import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kazoo.exceptions import SessionClosedRequireSaslError

from tests.server.members import LIMIT_S, Members
from zkpy.cli.main import zkpy
from zkpy.cli.shell import REFUSED, explain
from zkpy.cli.words import why_nobody

SOON = ("--timeout", "0.3")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Members]:
    members = Members(tmp_path, 2, 0, "tickTime=500\nreadonlymode.enabled=true")
    try:
        yield members
    finally:
        members.end()


def run(*words: str) -> Result:
    return CliRunner().invoke(zkpy, words)


def test_a_server_that_waits_for_a_quorum_is_there(pair: Members) -> None:
    first = pair.all[0]
    first.start()
    first.until(lambda lines: "looking for a leader" in "".join(lines))
    for words in (
        ("shell", "-s", first.hosts, *SOON, "ls"),
        ("reconfig", "-s", first.hosts, *SOON, "--remove", "2"),
    ):
        done = run(*words)
        assert done.exit_code == REFUSED
        assert done.stderr == (
            f"zkpy: {first.hosts} runs, but serves nobody: "
            "This ZooKeeper instance is not currently serving requests\n"
        )


def test_a_server_that_lost_its_quorum_is_read_only(pair: Members) -> None:
    pair.start()
    first, second = pair.all
    second.end()
    patient = ("-s", first.hosts, "--timeout", str(LIMIT_S))
    done = run("shell", *patient, "-r", "create", "/x")
    assert done.exit_code == REFUSED
    assert done.stderr.endswith("this server is read-only, since there is no quorum\n")
    done = run("shell", "-s", f"127.0.0.1:1,{first.hosts}", *SOON, "ls")
    assert done.exit_code == REFUSED
    assert f"{first.hosts} is read-only, since there is no quorum: `zkpy shell -r`" in done.stderr


def test_a_name_that_no_host_can_have_is_nobodys() -> None:
    assert why_nobody("a..b:2181") == "nobody answers at a..b:2181"


@pytest.mark.parametrize("linger", [None, struct.pack("ii", 1, 0)], ids=["end", "reset"])
def test_a_server_that_closes_at_once_is_full(linger: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as full:

        def refuse() -> None:
            caller, _ = full.accept()
            caller.recv(1)
            if linger is not None:
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            caller.close()

        refusing = threading.Thread(target=refuse)
        refusing.start()
        said = why_nobody(f"127.0.0.1:{full.getsockname()[1]}")
        refusing.join()
    assert "closes connections without a word: too many of them (maxClientCnxns" in said


def test_who_has_to_authenticate_is_told_how() -> None:
    assert "--auth" in explain(SessionClosedRequireSaslError())
