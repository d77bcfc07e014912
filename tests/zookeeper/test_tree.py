"""Replaying a log on a fuzzy snapshot gives the tree that the server had."""

import random
import struct
from pathlib import Path

import pytest

from tests.zookeeper.histories import History, founded, fuzzy_snapshot, replay
from wire.codes import OpCode
from wire.records import OPEN_ACL
from zkpy.errors import CorruptionError
from zkpy.zookeeper.directory import load
from zkpy.zookeeper.records import (
    OPEN_ENTRIES,
    CloseSession,
    Create,
    CreateSession,
    CreateTtl,
    Error,
    LogHeader,
    Multi,
    OldCreate,
    Part,
    SetAcl,
    StoredEntry,
    acl_of,
)
from zkpy.zookeeper.tree import Node, Tree, digest_of

TESTDATA = Path(__file__).parent / "testdata"


@pytest.mark.parametrize("seed", range(60))
def test_any_fuzzy_snapshot_and_the_log_behind_it_are_the_tree(seed: int) -> None:
    history = History(seed)
    history.grow(150)
    rng = random.Random(seed)
    begun = rng.randrange(150)
    tree = fuzzy_snapshot(history.logged, begun, rng)
    replay(tree, history.logged[begun:])
    assert tree.sessions == history.tree.sessions
    assert shown(tree) == shown(history.tree)
    tree.check()


def shown(tree: Tree) -> dict[str, tuple[object, ...]]:
    return {
        path: tuple(getattr(node, name) for name in Node.__slots__)
        for path, node in sorted(tree.nodes.items())
    }


def header(kind: int, zxid: int = 1, session: int = 7) -> LogHeader:
    return LogHeader(session, 1, zxid, 1_000, kind)


def test_the_create_of_old_counts_for_itself() -> None:
    tree = founded()
    tree.nodes["/"].counter = 4
    tree.replay(header(OpCode.CREATE), OldCreate("/a", b"x", OPEN_ENTRIES, False).encode())
    assert tree.nodes["/a"].data == b"x"
    assert tree.nodes["/"].counter == 5


def test_the_end_of_a_session_without_a_list_takes_what_it_owned() -> None:
    tree = founded()
    tree.replay(header(OpCode.CREATE_SESSION), CreateSession(4_000).encode())
    tree.replay(header(OpCode.CREATE, 2), Create("/e", b"", OPEN_ENTRIES, True, 1).encode())
    assert tree.sessions == {7: 4_000}
    digest = struct.pack(">iq", 2, 12345)  # what newer releases put behind a record
    tree.replay(header(OpCode.CLOSE_SESSION, 3), digest)
    assert "/e" not in tree.nodes
    assert not tree.sessions
    assert tree.nodes["/"].pzxid == 3


def test_the_end_of_a_session_with_a_list() -> None:
    tree = founded()
    tree.replay(header(OpCode.CREATE, 2), Create("/e", b"", OPEN_ENTRIES, True, 1).encode())
    tree.replay(header(OpCode.CLOSE_SESSION, 3), CloseSession(["/e", "/gone"]).encode())
    assert "/e" not in tree.nodes


def test_sessions_that_own_znodes_and_are_gone_end() -> None:
    tree = founded()
    tree.replay(header(OpCode.CREATE_SESSION, session=7), CreateSession(4_000).encode())
    for zxid, session in ((2, 7), (3, 8)):
        create = Create(f"/e{session}", b"", OPEN_ENTRIES, True, zxid)
        tree.replay(header(OpCode.CREATE, zxid, session), create.encode())
    assert tree.end_sessions(keep=True) == 1
    assert "/e7" in tree.nodes and "/e8" not in tree.nodes
    assert tree.end_sessions(keep=False) == 1
    assert not tree.sessions


def test_a_multi_does_all_or_nothing() -> None:
    tree = founded()
    create = Part(OpCode.CREATE, Create("/a", b"", OPEN_ENTRIES, False, 1).encode())
    failed = Multi([create, Part(OpCode.ERROR, Error(-101).encode())])
    tree.replay(header(OpCode.MULTI), failed.encode())
    assert "/a" not in tree.nodes
    assert (tree.nodes["/"].counter, tree.zxid) == (0, 1)
    below = Part(OpCode.CREATE, Create("/a/b", b"", OPEN_ENTRIES, False, 1).encode())
    tree.replay(header(OpCode.MULTI, 2), Multi([create, below]).encode())
    assert "/a/b" in tree.nodes


@pytest.mark.parametrize(
    ("kind", "body", "complaint"),
    [
        (99, b"", "unknown type 99"),
        (OpCode.SET_DATA, b"\0\0", "cannot be read"),
        (OpCode.MULTI, Multi([Part(98, b"")]).encode(), "a part of the type 98"),
        (OpCode.MULTI, Multi([Part(OpCode.MULTI, b"")]).encode(), "a part of the type 14"),
        (OpCode.MULTI, Multi([Part(OpCode.CLOSE_SESSION, b"")]).encode(), "a part of the type -11"),
        (OpCode.CREATE_TTL, CreateTtl("/t", b"", [], 1, 0).encode(), "a TTL of 0 ms"),
        (
            OpCode.CREATE_TTL,
            CreateTtl("/t", b"", [], 1, 1 << 40).encode(),
            "a TTL of 1099511627776",
        ),
        (OpCode.MULTI, Multi([Part(OpCode.DELETE, None)]).encode(), "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told(kind: int, body: bytes, complaint: str) -> None:
    with pytest.raises(CorruptionError, match=complaint):
        founded().replay(header(kind), body)


def test_a_znode_without_a_parent_is_told() -> None:
    tree = founded()
    tree.add("/a/b", Node(b"", OPEN_ACL, 1, 1, 1, 1, 0, 0, 0, 0, 1))
    with pytest.raises(CorruptionError, match="/a/b has no parent"):
        tree.check()
    with pytest.raises(CorruptionError, match="no root"):
        Tree().check()


def test_a_list_that_came_into_use_later_is_told_by_the_log() -> None:
    tree, acl = founded(), [StoredEntry(1, "digest", b"ann:x")]
    for path, record in (
        ("/a", Create("/a", b"", acl, False, 1)),
        ("/b", SetAcl("/b", acl, 1)),
    ):
        tree.add(path, Node(b"", None, 1, 1, 1, 1, 0, 0, 0, 0, 1))
        with pytest.raises(CorruptionError, match=f"{path} has an ACL that is nowhere"):
            tree.check()
        kind = OpCode.CREATE if path == "/a" else OpCode.SET_ACL
        tree.replay(header(kind), record.encode())
        tree.check()
        assert tree.nodes[path].acl == acl_of(acl)


def test_names_that_java_wrote_as_surrogates() -> None:
    """Each of a pair in three bytes of its own, which is not UTF-8."""
    (entry,) = acl_of([StoredEntry(31, "digest", b"\xed\xa0\xbd\xed\xb8\x80:abc")])
    assert entry.id == "\U0001f600:abc"
    (half,) = acl_of([StoredEntry(31, "digest", b"\xed\xa0\xbd:abc")])
    assert half.id == "\ufffd:abc"


def test_the_digest_is_zookeepers() -> None:
    """That behind a log's last record: without what is below /zookeeper, but with that itself."""
    tree = load(str(TESTDATA)).tree
    assert tree.logged_digest is not None
    assert digest_of(tree) == tree.logged_digest
    tree.nodes["/zookeeper/quota"].version += 1
    assert digest_of(tree) == tree.logged_digest
    tree.nodes["/zookeeper"].version += 1
    assert digest_of(tree) != tree.logged_digest
