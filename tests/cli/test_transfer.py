"""`zkpy import` and `zkpy export`: from a ZooKeeper's files to servers that run, and back."""

import base64
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kazoo.client import KazooClient

from tests.server.members import LIMIT_S, Member, Members
from tests.zookeeper.test_golden import PASSWORD, SESSION, TESTDATA
from tests.zookeeper.test_tree import shown
from zkpy.cli.main import zkpy
from zkpy.zookeeper.directory import load

TREE = json.loads((TESTDATA / "tree.json").read_text())
EPHEMERALS = [path for path, (_, stat, _) in TREE.items() if stat[7] == SESSION]


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    members = Members(tmp_path, 3, more="db.autocreate=false\ntickTime=500")
    try:
        yield members
    finally:
        members.end()


def run(command: str, member: Member, *words: str) -> Result:
    return CliRunner().invoke(zkpy, [command, str(member.config), *words])


def test_an_ensemble_takes_over_and_hands_back(members: Members, tmp_path: Path) -> None:
    seed, other, _ = members.all
    looked = run("import", seed, "--from", str(TESTDATA), "--dry-run")
    assert looked.exit_code == 0 and looked.output.endswith("6 sessions, last zxid 0x81\n")
    done = run("import", seed, "--from", str(TESTDATA))
    assert done.exit_code == 0, done.output
    assert "snapshot.47 and 58 transactions behind it" in done.output
    assert "71 znodes, 6 sessions, as of zxid 0x81." in done.output
    seed.start()
    seed.until_serving()
    identity = (SESSION, base64.b64decode(PASSWORD))
    client = KazooClient(seed.hosts, timeout=40.0, client_id=identity)
    client.start(LIMIT_S)
    try:
        assert client.client_id == identity, "its session goes on"
        for path in EPHEMERALS:
            assert client.exists(path).owner_session_id == SESSION
        client.create("/later", b"v")
    finally:
        client.stop()  # which ends it
        client.close()
    other.start()
    other.until_serving()
    learned = members.connect(other.hosts)
    assert learned.get("/later")[0] == b"v"
    assert not [path for path in EPHEMERALS if learned.exists(path)]
    for each in (other, seed):
        each.end(signal.SIGTERM)

    back = tmp_path / "back"
    done = run("export", seed, "--to", str(back))
    assert done.exit_code == 0, done.output
    tree = load(str(back)).tree
    assert not tree.sessions
    kept = {path for path, (_, stat, _) in TREE.items() if not stat[7]} | {"/later"}
    assert set(tree.nodes) == kept
    assert (back / "version-2" / "currentEpoch").read_text() == str(tree.zxid >> 32)
    assert run("export", other, "--to", str(tmp_path / "again")).exit_code == 0
    assert set(shown(load(str(tmp_path / "again")).tree)) == kept


def test_sessions_may_end_with_the_old_server(members: Members) -> None:
    done = run("import", members.all[0], "--from", str(TESTDATA), "--end-sessions")
    assert done.exit_code == 0, done.output
    ended = sum(stat[7] != 0 for _, stat, _ in TREE.values())
    left = len(TREE) - ended
    said = f"{left} znodes, as of zxid 0x81; {ended} ephemeral znodes ended with their sessions."
    assert said in done.output


def test_what_is_there_stays(members: Members, tmp_path: Path) -> None:
    member = members.all[0]
    assert run("import", member, "--from", str(TESTDATA)).exit_code == 0
    refused = run("import", member, "--from", str(TESTDATA))
    assert refused.exit_code == 1 and "nothing was changed" in refused.output
    assert run("export", member, "--to", str(tmp_path / "out")).exit_code == 0
    refused = run("export", member, "--to", str(tmp_path / "out"))
    assert refused.exit_code == 1 and "is there already" in refused.output


def test_what_cannot_be_moved_is_told(members: Members, tmp_path: Path) -> None:
    member = members.all[0]
    for words, said in (
        (("import", "--from", str(tmp_path / "none")), "there is no version-2 in it"),
        (("export", "--to", str(tmp_path / "out")), "it holds no member's data"),
    ):
        refused = run(words[0], member, *words[1:])
        assert refused.exit_code == 1 and said in refused.output, refused.output
    assert not (tmp_path / "out").exists()
    damaged = tmp_path / "damaged"
    shutil.copytree(TESTDATA / "version-2", damaged / "version-2")
    log = damaged / "version-2" / "log.49"
    log.write_bytes(log.read_bytes().replace(b"/", b"?", 1))
    refused = run("import", member, "--from", str(damaged))
    assert refused.exit_code == 1 and "log.49: an entry at byte" in refused.output
    assert not list(member.data.glob("gen-*"))


def test_a_data_directory_of_zookeeper_names_the_way(members: Members) -> None:
    member = members.all[0]
    shutil.copytree(TESTDATA / "version-2", member.data / "version-2")
    refused = run("import", member, "--from", str(TESTDATA))
    assert refused.exit_code == 1 and "`zkpy import` takes over" in refused.output
