"""One transaction at a time: results, Stats and changes."""

import gc

import pytest

from tests.state.anew import recounted
from tests.state.driver import Driver
from wire.codes import ErrorCode
from wire.records import ACL, OPEN_ACL, Stat
from wire.txn import (
    CheckTxn,
    CloseSessionTxn,
    CreateTxn,
    DeleteTxn,
    ErrorTxn,
    MultiTxn,
    SetACLTxn,
    SetDataTxn,
    Txn,
)
from zkpy.state import znode as zn
from zkpy.state.acl import READ_ONLY_ACL
from zkpy.state.apply import ReplicatedState
from zkpy.state.lifetimes import CONTAINER_OWNER, owner_of_ttl

ANN = (ACL(31, "digest", "ann:hash"),)


def test_founded_state_is_that_of_a_fresh_zookeeper() -> None:
    driver = Driver()
    assert driver.state.node_count == 4
    assert driver.stat("/") == Stat(0, 0, 0, 0, 0, -1, 0, 0, 0, 1, 0)
    assert driver.stat("/zookeeper") == Stat(0, 0, 0, 0, 0, -2, 0, 0, 0, 2, 0)
    assert driver.stat("/zookeeper/config") == Stat(0, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0)
    assert driver.state.tree.acl_of("/zookeeper/config") == READ_ONLY_ACL
    assert driver.state.tree.acl_of("/zookeeper/quota") == OPEN_ACL
    assert driver.state.digest == ReplicatedState.founded().digest


def test_create() -> None:
    driver = Driver()
    root = driver.state.tree.nodes["/"]
    applied = driver.create("/a", b"xyz")
    assert (applied.error, applied.path, applied.results) == (0, "/a", None)
    assert applied.stat == Stat(1, 1, 1000, 1000, 0, 0, 0, 0, 3, 0, 1).encode()
    nodes = driver.state.tree.nodes
    assert applied.changes == [("/a", None, nodes["/a"]), ("/", root, nodes["/"])]
    assert driver.stat("/") == Stat(0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1)
    assert list(driver.state.tree.children_of("/")) == ["zookeeper", "a"]


def test_delete() -> None:
    driver = Driver()
    driver.create("/a", b"xyz")
    gone, root = driver.state.tree.nodes["/a"], driver.state.tree.nodes["/"]
    applied = driver.apply(DeleteTxn("/a"))
    nodes = driver.state.tree.nodes
    assert applied.changes == [("/a", gone, None), ("/", root, nodes["/"])]
    assert "/a" not in nodes
    assert driver.stat("/") == Stat(0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2)
    assert zn.child_counter(nodes["/"]) == 1, "a delete leaves the counter of creates alone"


def test_a_parent_without_children_has_no_row() -> None:
    driver = Driver()
    driver.create("/a")
    driver.create("/a/b")
    driver.apply(DeleteTxn("/a/b"))
    assert "/a" not in driver.state.tree.children
    assert not driver.state.tree.children_of("/a") and not driver.state.tree.children_of("/none")


def test_set_data() -> None:
    driver = Driver()
    driver.create("/a", None)
    before = driver.state.tree.nodes["/a"]
    applied = driver.apply(SetDataTxn("/a", b"four", 1))
    assert applied.stat == Stat(1, 2, 1000, 2000, 1, 0, 0, 0, 4, 0, 1).encode()
    assert applied.changes == [("/a", before, driver.state.tree.nodes["/a"])]
    assert applied.path is None


def test_set_acl_moves_neither_mzxid_nor_mtime() -> None:
    driver = Driver()
    driver.create("/a")
    applied = driver.apply(SetACLTxn("/a", ANN, 1))
    assert applied.stat == Stat(1, 1, 1000, 1000, 0, 0, 1, 0, 0, 0, 1).encode()
    assert driver.state.tree.acl_of("/a") == ANN
    driver.apply(SetACLTxn("/a", OPEN_ACL, 2))
    assert "/a" not in driver.state.tree.acls


def test_znodes_share_one_tuple_per_acl() -> None:
    driver = Driver()
    for path in ("/a", "/b"):
        driver.create(path, acl=(ACL(31, "digest", "ann:hash"),))
    assert driver.state.tree.acls["/a"] is driver.state.tree.acls["/b"]


def test_acls_without_znodes_are_forgotten() -> None:
    """Else clients could fill the memory with ACLs that nothing carries any more."""
    driver = Driver()
    system = len(driver.state.tree._pool._shared)
    for number in range(20):
        driver.create("/a", acl=(ACL(31, "digest", f"user{number}:hash"),))
        driver.apply(SetACLTxn("/a", ANN, 1))
        assert len(driver.state.tree._pool._shared) == system + 1
        driver.apply(DeleteTxn("/a"))
    assert len(driver.state.tree._pool._shared) == system


def test_deleted_znodes_leave_their_acl_for_the_watches() -> None:
    driver = Driver()
    driver.create("/a", acl=ANN)
    driver.create("/b")
    assert driver.apply(DeleteTxn("/a")).lost_acls == {"/a": ANN}
    assert driver.apply(DeleteTxn("/b")).lost_acls is None
    assert "/a" not in driver.state.tree.acls


@pytest.mark.parametrize("owner", [CONTAINER_OWNER, owner_of_ttl(5000)])
def test_owners_of_containers_and_ttl_znodes_are_shown_as_zero(owner: int) -> None:
    driver = Driver()
    digest = driver.state.digest
    applied = driver.create("/a", owner=owner)
    assert applied.stat == Stat(1, 1, 1000, 1000, 0, 0, 0, 0, 0, 0, 1).encode()
    assert driver.state.tree.owner_of("/a") == owner
    plain = Driver()
    plain.create("/a")
    assert driver.state.digest not in (digest, plain.state.digest)
    driver.apply(DeleteTxn("/a"))
    assert not driver.state.tree.owners
    assert not driver.state.lifetimes.ttls and not driver.state.lifetimes.containers


def test_close_session_removes_its_ephemerals_oldest_first_then_itself() -> None:
    driver = Driver()
    for session in (7, 8):
        driver.open_session(session)
    driver.create("/dir")
    for path, owner in [("/z", 7), ("/other", 8), ("/dir/a", 7), ("/m", 7)]:
        driver.create(path, owner=owner)
    assert driver.stat("/z").ephemeral_owner == 7
    assert driver.state.lifetimes.ephemeral_count == 4
    applied = driver.apply(CloseSessionTxn(), session=7)
    assert [path for path, _, _ in applied.changes] == ["/z", "/", "/dir/a", "/dir", "/m", "/"]
    assert list(driver.state.sessions) == [8]
    assert driver.state.lifetimes.ephemerals == {8: {"/other": None}}
    assert driver.stat("/dir").pzxid == driver.state.zxid


def test_session_table_keeps_timeout_and_password() -> None:
    driver = Driver()
    digest = driver.state.digest
    driver.open_session(-5)
    held = driver.state.sessions.get(-5)
    assert held is not None and (held.timeout_ms, held.password) == (30_000, bytes(16))
    assert "password" not in repr(held)
    assert driver.state.digest != digest
    driver.apply(CloseSessionTxn(), session=-5)
    assert driver.state.sessions.get(-5) is None and len(driver.state.sessions) == 0
    assert driver.state.digest == digest


def test_a_refusal_takes_a_zxid_and_changes_nothing() -> None:
    driver = Driver()
    digest = driver.state.digest
    applied = driver.apply(ErrorTxn(int(ErrorCode.BAD_VERSION)))
    assert (applied.error, applied.changes) == (ErrorCode.BAD_VERSION, [])
    assert (driver.state.zxid, driver.state.digest) == (1, digest)


def test_multi_is_one_zxid_and_one_list_of_changes() -> None:
    driver = Driver()
    driver.create("/a", acl=ANN)
    applied = driver.apply(
        MultiTxn(
            (
                CheckTxn("/a", 0),
                driver.create_txn("/b", b"1"),
                SetDataTxn("/b", b"22", 1),
                SetDataTxn("/b", b"333", 2),
                DeleteTxn("/a"),
            )
        )
    )
    results = applied.results
    assert results is not None and applied.error == 0
    assert [result.path for result in results] == [None, "/b", None, None, None]
    assert results[1].stat == Stat(2, 2, 2000, 2000, 0, 0, 0, 0, 1, 0, 2).encode()
    assert results[3].stat == Stat(2, 2, 2000, 2000, 2, 0, 0, 0, 3, 0, 2).encode()
    assert [path for path, _, _ in applied.changes] == ["/b", "/", "/b", "/b", "/a", "/"]
    _, before, after = applied.changes[3]
    assert before and after and zn.data_changed(before, after), "though mzxid is the same"
    assert applied.lost_acls == {"/a": ANN}


def test_a_failed_multi_answers_ok_with_an_error_in_each_result() -> None:
    driver = Driver()
    applied = driver.apply(MultiTxn((ErrorTxn(0), ErrorTxn(-101), ErrorTxn(-2))))
    assert applied.error == 0 and applied.changes == []
    assert [result.error for result in applied.results or []] == [0, -101, -2]


def test_other_entries_only_move_the_zxid() -> None:
    driver = Driver()
    digest = driver.state.digest
    driver.state.apply_other(1 << 32 | 1)
    assert (driver.state.zxid, driver.state.digest) == (1 << 32 | 1, digest)
    with pytest.raises(AssertionError):
        driver.state.apply_other(1 << 32 | 1)


@pytest.mark.parametrize(
    "txn",
    [
        CreateTxn("/a", b"", OPEN_ACL, 0, 1),
        CreateTxn("/none/b", b"", OPEN_ACL, 0, 1),
        CreateTxn("/e", b"", OPEN_ACL, 99, 1),
        DeleteTxn("/none"),
        DeleteTxn("/a"),
        SetDataTxn("/none", b"", 1),
        SetACLTxn("/none", OPEN_ACL, 1),
        CloseSessionTxn(),
    ],
)
def test_what_prepare_should_have_refused_stops_the_server(txn: Txn) -> None:
    driver = Driver()
    driver.create("/a")
    driver.create("/a/b")
    digest = driver.state.digest
    with pytest.raises(AssertionError):
        driver.apply(txn)
    assert driver.state.zxid == 2
    assert recounted(driver.state).digest == digest


def test_a_zxid_is_applied_once() -> None:
    driver = Driver()
    driver.create("/a")
    with pytest.raises(AssertionError, match="applied after"):
        driver.state.apply(1, driver.header(1), DeleteTxn("/a"))


def test_walk_and_counts_of_descendants() -> None:
    driver = Driver()
    for path in ("/a", "/a/b", "/a/b/c", "/ab"):
        driver.create(path)
    tree = driver.state.tree
    assert sorted(tree.walk("/a")) == ["/a", "/a/b", "/a/b/c"]
    assert [tree.count_descendants(path) for path in ("/a", "/ab", "/none")] == [2, 0, 0]
    assert tree.count_descendants("/") == len(list(tree.walk("/"))) - 1 == 7


def test_counters_for_admin() -> None:
    driver = Driver()
    empty = driver.state.data_bytes
    assert empty == sum(map(len, ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config")))
    driver.create("/a", b"123")
    driver.apply(SetDataTxn("/a", b"12345", 1))
    assert (driver.state.node_count, driver.state.data_bytes) == (5, empty + 7)
    driver.apply(DeleteTxn("/a"))
    assert (driver.state.node_count, driver.state.data_bytes) == (4, empty)


def test_a_long_workload_leaves_no_cyclic_garbage() -> None:
    driver = Driver()
    gc.collect()
    gc.disable()
    try:
        for number in range(300):
            driver.open_session(7)
            driver.create("/a", bytes(number), owner=7, acl=ANN)
            driver.apply(SetDataTxn("/a", b"", 1))
            driver.apply(CloseSessionTxn(), session=7)
        assert gc.collect() == 0
    finally:
        gc.enable()
