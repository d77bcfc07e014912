"""Three real servers that speak TLS with each other, and who tries to be a fourth one."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.authority import Authority, lines_of
from tests.server.members import LIMIT_S, Members
from wire.peer import NO_CLUSTER, Hello, Notification, encode_message, encode_notification
from zkpy.config.tls import MEMBERS

KEY = "0123456789abcdef" * 4


@pytest.fixture(name="authority")
def make_authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def lines(authority: Authority, *more: str) -> str:
    """Of zoo.cfg; on one machine one certificate is that of all."""
    key_file = authority.directory / "election.key"
    key_file.write_text(f"{KEY}\n")
    key_file.chmod(0o600)
    issued = authority.issue("CN=localhost", hosts=("localhost",))
    return "\n".join([*lines_of(authority, issued, MEMBERS), f"electionKeyFile={key_file}", *more])


@pytest.fixture
def ensemble(tmp_path: Path, authority: Authority) -> Iterator[Members]:
    members = Members(tmp_path, 3, more=lines(authority, "sslQuorum=true"))
    try:
        members.start()
        yield members
    finally:
        members.end()


def test_members_over_tls(ensemble: Members, authority: Authority) -> None:
    client = ensemble.connect(ensemble.hosts)
    client.create("/a", b"x" * 500_000)
    for each in ensemble.all:
        beside = ensemble.connect(each.hosts)
        beside.sync("/a")
        assert beside.get("/a")[0] == b"x" * 500_000
        text = "".join(each.lines)
        assert "NOT AUTHENTICATED" not in text and KEY not in text
    leader = ensemble.find_leader()
    leader.end()
    for each in ensemble.all:
        if each is not leader:
            each.until(lambda found: "leading" in "".join(found) or "following" in "".join(found))
    leader.start()
    leader.until_serving()
    ensemble.connect(ensemble.hosts).create("/b")


def test_who_has_no_certificate_is_not_heard(ensemble: Members) -> None:
    leader = ensemble.find_leader()
    with socket.create_connection(("localhost", leader.quorum_port), LIMIT_S) as opened:
        other = 1 if leader.number != 1 else 2
        opened.sendall(encode_message(Hello(1, NO_CLUSTER, other, 7)))
        opened.settimeout(LIMIT_S)
        assert opened.recv(1000) == b""
    leader.until(lambda found: "it does not speak TLS" in "".join(found))
    forged = Notification(0, 0, NO_CLUSTER, other, 7, 1, 0, 1, other, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(encode_notification(forged), ("127.0.0.1", leader.election_port))
    leader.until(lambda found: "datagram without a valid signature" in "".join(found))


def test_a_rolling_change(tmp_path: Path, authority: Authority) -> None:
    """From plain links to TLS alone, one member after the other, in three rounds."""
    members = Members(tmp_path, 3)
    before = {each.number: each.config.read_text() for each in members.all}
    try:
        members.start()
        members.connect(members.hosts).create("/0")
        both, tls = "portUnification=true", "sslQuorum=true"
        for number, switches in enumerate(([both], [both, tls], [tls]), 1):
            for each in members.all:
                each.end()
                each.config.write_text(before[each.number] + lines(authority, *switches) + "\n")
                each.start()
                each.until_serving()
            members.connect(members.hosts).create(f"/{number}")
        text = "".join(line for each in members.all for line in each.lines)
        assert "NOT AUTHENTICATED" not in text
        client = members.connect(members.all[0].hosts)
        assert {"0", "1", "2", "3"} < set(client.get_children("/"))
    finally:
        members.end()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("sslQuorum=true", "ELECTION DATAGRAMS ARE NOT AUTHENTICATED (sslQuorum covers the links"),
        ("sslQuorum=true\nportUnification=true", "PEERS ARE NOT AUTHENTICATED (portUnification"),
    ],
)
def test_what_is_protected_by_half_is_said(
    tmp_path: Path, authority: Authority, more: str, said: str
) -> None:
    text = "\n".join(lines_of(authority, authority.issue(hosts=("localhost",)), MEMBERS))
    members = Members(tmp_path, 3, more=f"{text}\n{more}")
    member = members.all[0]
    try:
        member.start()
        member.until(lambda found: said in "".join(found))
    finally:
        members.end()


@pytest.mark.parametrize(
    ("text", "why"),
    [(None, "it cannot be read: No such file"), ("\n", "lines of at least 16"), ("short", "lines")],
)
def test_a_key_file_that_cannot_be_used_ends_the_start(
    tmp_path: Path, text: str | None, why: str
) -> None:
    path = tmp_path / "key"
    if text is not None:
        path.write_text(text)
    members = Members(tmp_path, 3, more=f"electionKeyFile={path}")
    member = members.all[0]
    member.start()
    member.until(lambda found: found and not found[-1])
    assert member.end() == 1
    (line,) = [line for line in member.lines if line]
    assert f"{member.config}:5: electionKeyFile={path}: {why}" in line
    assert sorted(path.name for path in member.data.iterdir()) == ["myid"]
