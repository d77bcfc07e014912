"""`zkpy init`: what it makes of a directory, and servers that start from that."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kazoo.client import KazooClient

from tests.server.members import LIMIT_S, Member, Members, is_told
from zkpy.cli.main import zkpy

FORBIDDEN = "db.autocreate=false\ntickTime=500"


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    """Three that may found nothing; none of them runs."""
    members = Members(tmp_path, 3, more=FORBIDDEN)
    try:
        yield members
    finally:
        members.end()


def init(member: Member, *words: str) -> Result:
    return CliRunner().invoke(zkpy, ["init", str(member.config), *words])


def test_founding_has_to_be_allowed_on_a_majority(members: Members) -> None:
    for each in members.all[:2]:
        done = init(each)
        assert done.exit_code == 0, done.output
        assert "may found a new ensemble" in done.output
        assert (each.data / "initialize").exists()
    members.start()
    client = members.connect(members.hosts)
    client.create("/a", b"v")
    first = members.all[0]
    first.end()
    refused = init(first)
    assert refused.exit_code == 1
    assert "is a member of an ensemble of the voters 1 2 3" in refused.output
    first.start()
    first.until_serving()
    assert not (first.data / "initialize").exists(), "it is a member now"
    assert not (members.all[2].data / "initialize").exists()


def test_a_seed_serves_alone_and_others_join_it(members: Members) -> None:
    seed, other, _ = members.all
    done = init(seed, "--seed")
    assert done.exit_code == 0, done.output
    assert "server 1 has no data yet. It is the only voter" in done.output
    seed.start()
    seed.until_serving()
    client = members.connect(seed.hosts)
    client.create("/a", b"v")
    other.start()
    other.until_serving()
    assert members.connect(other.hosts).get("/a")[0] == b"v"
    other.end()
    client.create("/alone")  # one voter is a majority of one
    refused = init(other, "--seed")
    assert refused.exit_code == 1
    assert "is a member of an ensemble of the voters 1," in refused.output


def test_the_data_of_a_server_alone_is_a_seed(members: Members) -> None:
    seed, other, _ = members.all
    config = seed.config.read_text()
    seed.config.write_text(f"dataDir={seed.data}\nclientPort={seed.client_port}\n")
    seed.start()
    write(seed)
    seed.end()
    seed.config.write_text(config)
    seed.start()
    seed.until(lambda lines: is_told("server.2, server.3: ", lines))
    assert seed.child is not None and seed.child.wait(LIMIT_S) == 1
    seed.end()
    assert is_told("leave its own line only and add the others by `zkpy reconfig`", seed.lines)
    done = init(seed, "--seed")
    assert done.exit_code == 0, done.output
    assert "server 1 keeps its data" in done.output
    assert "last zxid 0x1" in done.output
    for each in (seed, other):
        each.start()
        each.until_serving()
    joined = members.connect(other.hosts)
    joined.sync("/")
    assert joined.get("/before")[0] == b"v"
    seed.end()
    seed.start()  # as often as it likes
    seed.until_serving()


def write(member: Member) -> None:
    member.until(lambda lines: is_told(" serving on ", lines))
    client = KazooClient(member.hosts, timeout=10)
    client.start(LIMIT_S)
    client.create("/before", b"v")
    client.stop()
    client.close()


def test_a_directory_in_use_is_left_alone(members: Members) -> None:
    seed = members.all[0]
    assert init(seed, "--seed").exit_code == 0
    seed.start()
    seed.until_serving()
    refused = init(seed, "--seed")
    assert refused.exit_code == 1
    assert "is in use by another server" in refused.output


def test_a_server_alone_that_may_make_nothing_says_what_helps(members: Members) -> None:
    alone = members.all[0]
    alone.config.write_text(f"dataDir={alone.data}\nclientPort=0\ndb.autocreate=false\n")
    alone.start()
    alone.until(lambda lines: is_told("db.autocreate is false: `zkpy init` makes it", lines))
    alone.end()  # it lets go of the directory only after its last line
    assert init(alone).exit_code == 0
    alone.start()
    alone.until(lambda lines: is_told(" serving on ", lines))
