"""`zkpy recover`: of three members two are gone for good."""

import re
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.server.members import CHANGING, Member, Members, is_told
from zkpy.cli.main import zkpy


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    members = Members(tmp_path, 3, more=CHANGING)
    try:
        members.start()
        yield members
    finally:
        members.end()


def recover(member: Member, *words: str) -> Result:
    return CliRunner().invoke(zkpy, ["recover", str(member.config), *words])


def test_one_goes_on_alone(members: Members) -> None:
    left, wiped, _ = members.all
    client = members.connect(left.hosts)  # what the two others alone have would be lost
    client.create("/kept", b"v")
    client.stop()
    refused = recover(left, "--accept-loss")
    assert refused.exit_code == 1 and "is in use by another server" in refused.output
    for each in members.all:
        each.end(signal.SIGTERM)
    shutil.rmtree(wiped.data)

    looked = recover(left)
    assert looked.exit_code == 1 and "Nothing was changed" in looked.output
    assert re.search(r"^server 1: last zxid 0x1\w+, .* voters so far 1 2 3$", looked.output, re.M)
    done = recover(left, "--accept-loss")
    assert done.exit_code == 0, done.output
    for said in ("only when this server serves", "db.autocreate=false", "names this server"):
        assert said in done.output
    left.start()
    left.until_serving()
    alone = members.connect(left.hosts)
    assert alone.get("/kept")[0] == b"v"
    alone.create("/more")
    assert alone.get("/zookeeper/config")[0].decode().count("server.") == 1

    # Another joins with an empty directory, and counts again when it is added.
    wiped.write_files(wiped.config.read_text().partition("clientPortAddress=127.0.0.1\n")[2])
    wiped.start()
    wiped.until(partial(is_told, "this server is not in the configuration"))


def test_what_cannot_go_on(tmp_path: Path) -> None:
    config = tmp_path / "zoo.cfg"
    config.write_text(f"dataDir={tmp_path / 'data'}\nclientPort=1\n")
    missing = CliRunner().invoke(zkpy, ["recover", str(config), "--accept-loss"])
    assert missing.exit_code == 1 and f"{tmp_path / 'data'}: no such directory" in missing.output
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    blank = CliRunner().invoke(zkpy, ["recover", str(config), "--accept-loss"])
    assert blank.exit_code == 1 and "holds no member's data" in blank.output
    none = CliRunner().invoke(zkpy, ["recover", str(tmp_path / "none")])
    assert none.exit_code == 1 and "cannot be read" in none.output
