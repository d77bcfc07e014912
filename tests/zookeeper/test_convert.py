"""ZooKeeper's tree as the replicated state, and the other way round."""

import pytest

from tests.zookeeper.histories import ACLS, History, founded
from tests.zookeeper.test_tree import shown
from wire.records import STAT, Stat
from zkpy.state import image
from zkpy.state import znode as zn
from zkpy.state.apply import ReplicatedState
from zkpy.state.image import ImageWriter
from zkpy.state.lifetimes import is_session
from zkpy.zookeeper.convert import from_state, password_of, to_state
from zkpy.zookeeper.records import acl_of
from zkpy.zookeeper.tree import Tree


def grown(seed: int) -> Tree:
    history = History(seed)
    history.grow(150)
    history.tree.end_sessions(keep=True)
    return history.tree


def stat_of(state: ReplicatedState, path: str) -> Stat:
    return Stat(*STAT.unpack(zn.stat_of(state.tree.nodes[path])))


@pytest.mark.parametrize("seed", range(8))
def test_the_state_is_that_of_its_own_image(seed: int) -> None:
    """All that follows from a tree (children, indexes, digest) is there, and right."""
    state = to_state(grown(seed))
    writer, chunks = ImageWriter(state), []
    while (chunk := writer.next_chunk(16)) is not None:
        chunks.append(chunk)
    again = image.load(chunks)
    assert again.digest == state.digest
    assert again.tree.nodes == state.tree.nodes
    assert again.tree.children == state.tree.children
    assert indexes_of(again) == indexes_of(state)
    assert again.data_bytes == state.data_bytes


def indexes_of(state: ReplicatedState) -> tuple[object, ...]:
    lifetimes = state.lifetimes
    return lifetimes.ephemerals, lifetimes.containers, lifetimes.ttls, lifetimes.ephemeral_count


@pytest.mark.parametrize("seed", range(8))
def test_there_and_back_only_sessions_end(seed: int) -> None:
    tree = grown(seed)
    back = from_state(to_state(tree))
    tree.end_sessions(keep=False)
    assert not back.sessions
    expected, found = shown(tree), shown(back)
    assert not [path for path in found if is_session(back.nodes[path].owner)]
    del found["/zookeeper/config"]
    expected.pop("/zookeeper/config", None)
    assert found == expected


def test_what_a_client_sees() -> None:
    tree = founded()
    root = tree.nodes["/"]
    root.counter, root.pzxid, root.version = 9, 12, 4
    root.data, root.acl = None, acl_of(ACLS[1])
    tree.zxid = 20
    state = to_state(tree)
    stat = stat_of(state, "/")
    assert (stat.num_children, stat.cversion, stat.data_length) == (1, 17, 0)
    assert (stat.version, stat.pzxid) == (4, 12)
    assert zn.data_of(state.tree.nodes["/"]) is None
    assert state.tree.acl_of("/") == acl_of(ACLS[1])
    assert state.zxid == 20


def test_a_counter_that_went_past_the_end_stays_there() -> None:
    tree = founded()
    tree.nodes["/"].counter = -5
    state = to_state(tree)
    assert zn.child_counter(state.tree.nodes["/"]) == zn.COUNTER_MAX


def test_the_old_ensemble_is_not_configured() -> None:
    tree = founded()
    tree.add("/zookeeper/config", tree.nodes["/"])
    tree.nodes["/zookeeper/config"].data = b"server.1=old:1:2"
    config = to_state(tree).tree.nodes["/zookeeper/config"]
    assert zn.data_of(config) == b""


def test_sessions_keep_the_passwords_that_zookeeper_gave_them() -> None:
    """The first is that of a session of ZooKeeper 3.9.5, the second of an id that is negative."""
    given = password_of(0x10000B172F60006), password_of(0xC800012345678901 - (1 << 64))
    assert given[0].hex() == "2e682d39352a340b1102c3af6d5a761e"
    assert given[1].hex() == "da1700ba9f6dfabfdbb8dae9d73cb0b6"
