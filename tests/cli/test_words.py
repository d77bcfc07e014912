"""What the commands say of a server that is there, and gives no session."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.server.members import LIMIT_S, Members
from zkpy.cli.main import zkpy
from zkpy.cli.shell import REFUSED

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
