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
from tests.zookeeper.histories import History, founded
from tests.zookeeper.test_golden import PASSWORD, SESSION, TESTDATA
from zkpy.cli.main import zkpy
from zkpy.errors import StorageError
from zkpy.server import transfer
from zkpy.state.lifetimes import is_ttl
from zkpy.zookeeper.directory import load
from zkpy.zookeeper.files import write_snapshot
from zkpy.zookeeper.records import StoredEntry, acl_of
from zkpy.zookeeper.tree import Node, Tree

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
    assert looked.exit_code == 0 and looked.output.endswith("6 sessions, epoch 0, last zxid 0x81\n")
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
    tree = load(str(back), without_logs=True).tree
    assert not tree.sessions
    kept = {path for path, (_, stat, _) in TREE.items() if not stat[7]} | {"/later"}
    assert set(tree.nodes) == kept
    assert (back / "version-2" / "currentEpoch").read_text() == str(tree.zxid >> 32)
    assert run("export", other, "--to", str(tmp_path / "again")).exit_code == 0
    (tmp_path / "again" / "version-2" / "currentEpoch").unlink()
    again = load(str(tmp_path / "again"), without_logs=True)
    assert again.current_epoch == again.tree.zxid >> 32 > 0
    assert set(again.tree.nodes) == kept


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


def test_an_import_that_fails_before_it_writes_leaves_no_mark(
    members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tree: Tree) -> None:
        raise StorageError("not this one")

    monkeypatch.setattr(transfer, "to_state", refuse)
    member = members.all[0]
    refused = run("import", member, "--from", str(TESTDATA))
    assert refused.exit_code == 1 and "not this one" in refused.output
    assert not (member.data / "importing").exists()


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


def test_what_zookeeper_promised_is_kept(members: Members, tmp_path: Path) -> None:
    """The next epoch is greater than any that it may have begun; so is that of an export."""
    source = tmp_path / "source"
    shutil.copytree(TESTDATA / "version-2", source / "version-2")
    (source / "version-2" / "acceptedEpoch").write_text("5")
    member = members.all[0]
    assert run("import", member, "--from", str(source)).exit_code == 0
    back = tmp_path / "back"
    assert run("export", member, "--to", str(back)).exit_code == 0
    for name in ("acceptedEpoch", "currentEpoch"):
        assert (back / "version-2" / name).read_text() == "5"
    member.start()
    member.until_serving()
    client = members.connect(member.hosts)
    client.create("/later")
    assert client.get("/later")[1].czxid >> 32 == 6


def test_a_half_imported_directory_is_no_empty_server(members: Members) -> None:
    member = members.all[0]
    (member.data / "importing").touch()
    member.start()
    member.until(lambda lines: lines and not lines[-1])
    assert any("`zkpy import` was begun and did not end" in line for line in member.lines)
    assert member.end() == 1
    assert run("import", member, "--from", str(TESTDATA)).exit_code == 0
    assert not (member.data / "importing").exists()
    member.start()
    member.until_serving()


def test_a_failed_export_can_be_repeated(members: Members, tmp_path: Path) -> None:
    member, back = members.all[0], tmp_path / "back"
    run("import", member, "--from", str(TESTDATA))
    (back / "version-2.tmp").mkdir(parents=True)
    (back / "version-2.tmp" / "snapshot.1").touch()
    assert run("export", member, "--to", str(back)).exit_code == 0
    assert [path.name for path in back.iterdir()] == ["version-2"]
    found = sorted(path.name for path in (back / "version-2").iterdir())
    assert found == ["acceptedEpoch", "currentEpoch", "snapshot.81"]


def test_ttl_znodes_are_pointed_out(members: Members, tmp_path: Path) -> None:
    history = History(5)
    while not any(is_ttl(node.owner) for node in history.tree.nodes.values()):
        history.grow(10)
    member = members.all[0]
    done = run("import", member, "--from", write(tmp_path, history.tree), "--without-logs")
    assert done.exit_code == 0, done.output
    done = run("export", member, "--to", str(tmp_path / "back"))
    assert "TTL znodes: ZooKeeper deletes them unless it has zookeeper.extended" in done.output


def test_more_lists_than_one_write_takes_pieces(members: Members, tmp_path: Path) -> None:
    tree = founded()
    tree.zxid = 1
    for number in range(1500):
        acl = acl_of([StoredEntry(31, "digest", b"u%d:x" % number)])
        tree.add(f"/n{number}", Node(b"", acl, 1, 1, 1, 1, 0, 0, 0, 0, 1))
    member = members.all[0]
    source = write(tmp_path, tree)
    assert run("import", member, "--from", source, "--without-logs").exit_code == 0
    done = run("export", member, "--to", str(tmp_path / "back"))
    assert done.exit_code == 0, done.output
    back = load(str(tmp_path / "back"), without_logs=True).tree
    assert {path: back.nodes[path].acl for path in tree.nodes} == {
        path: node.acl for path, node in tree.nodes.items()
    }


def write(tmp_path: Path, tree: Tree) -> str:
    """A directory with this tree as a snapshot."""
    version = tmp_path / "source" / "version-2"
    version.mkdir(parents=True)
    (version / f"snapshot.{tree.zxid:x}").write_bytes(b"".join(write_snapshot(tree)))
    return str(version.parent)
