"""Quotas: texts, counting, refusing."""

import pytest

from tests.state.anew import recounted
from tests.state.driver import Driver
from wire.txn import CreateTxn, DeleteTxn, MultiTxn, SetDataTxn
from zkpy.state import znode as zn
from zkpy.state.quota import Quota, parse_limits

LIMITS = "/zookeeper/quota/a/zookeeper_limits"
STATS = "/zookeeper/quota/a/zookeeper_stats"


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        (b"count=5,bytes=100", Quota(5, 100)),
        (b"count=5,bytes=100=;byteHardLimit=200;countHardLimit=9", Quota(5, 100, 9, 200)),
        (b"countHardLimit=9;count=-1", Quota(-1, -1, 9, -1)),
        (b"", Quota()),
        (None, Quota()),
        (b"count=many", Quota()),
        (b"\xff\xfe", Quota()),
    ],
)
def test_limits_are_read(text: bytes | None, limits: Quota) -> None:
    assert parse_limits(text) == limits


def with_quota(text: bytes = b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3") -> Driver:
    driver = Driver()
    for path, data in [("/a", b"12"), ("/zookeeper/quota/a", b""), (LIMITS, text)]:
        driver.create(path, data)
    return driver


def exceeds(driver: Driver, path: str, count: int, size: int) -> bool:
    """With nothing on its way."""
    return driver.state.quota.would_exceed(path, count, size, lambda root: (0, 0))


def test_a_new_quota_counts_what_is_there_itself_included() -> None:
    driver = with_quota()
    assert driver.state.quota.quotas["/a"] == Quota(-1, -1, 3, 10, used_count=1, used_bytes=2)


def test_usage_follows_creates_sets_and_deletes() -> None:
    driver = with_quota()
    quota = driver.state.quota.quotas["/a"]
    driver.create("/a/b", b"345")
    driver.create("/ab", b"elsewhere")
    assert quota.usage_text() == b"count=2,bytes=5"
    driver.apply(SetDataTxn("/a/b", None, 1))
    assert quota.usage_text() == b"count=2,bytes=2"
    driver.apply(DeleteTxn("/a/b"))
    assert quota.usage_text() == b"count=1,bytes=2"


def test_hard_limits_are_reached_but_not_passed() -> None:
    driver = with_quota()
    assert not exceeds(driver, "/a/b", 2, 8)
    assert exceeds(driver, "/a/b", 3, 0) and exceeds(driver, "/a/b", 1, 9)
    assert not exceeds(driver, "/ab", 99, 99) and not exceeds(driver, "/", 99, 99)


def test_what_is_on_its_way_counts_too() -> None:
    quotas = with_quota().state.quota
    assert not quotas.would_exceed("/a/b", 1, 0, lambda root: (1, 0))
    assert quotas.would_exceed("/a/b", 1, 0, lambda root: (2, 0))
    assert quotas.would_exceed("/a/b", 0, 1, {"/a": (0, 8)}.__getitem__)


def test_a_branch_over_its_limit_can_shrink() -> None:
    driver = with_quota(b"byteHardLimit=1;countHardLimit=0")
    assert not exceeds(driver, "/a", -1, -1)
    assert not exceeds(driver, "/a", 0, 0)
    assert exceeds(driver, "/a", 1, 0)
    assert exceeds(driver, "/a", 0, 1)


def test_soft_limits_refuse_nothing() -> None:
    driver = with_quota(b"count=1,bytes=1")
    assert not exceeds(driver, "/a/b", 5, 50)


def test_limits_change_and_go_with_their_znode() -> None:
    driver = with_quota()
    driver.apply(SetDataTxn(LIMITS, b"countHardLimit=7", 1))
    assert driver.state.quota.quotas["/a"] == Quota(-1, -1, 7, -1, 1, 2)
    driver.apply(DeleteTxn(LIMITS))
    assert not driver.state.quota.quotas


def test_a_multi_that_sets_a_quota_and_fills_it_counts_once() -> None:
    driver = Driver()
    driver.create("/zookeeper/quota/a", b"")
    driver.apply(
        MultiTxn(
            (
                driver.create_txn("/a", b"12"),
                CreateTxn(LIMITS, b"count=5", driver.acl, 0, 1),
                CreateTxn("/a/b", b"345", driver.acl, 0, 1),
            )
        )
    )
    assert driver.state.quota.quotas["/a"].usage_text() == b"count=2,bytes=5"


def test_the_whole_tree_has_no_quota() -> None:
    driver = Driver()
    driver.create("/zookeeper/quota/zookeeper_limits", b"countHardLimit=6")
    assert not driver.state.quota.quotas


def with_stats() -> Driver:
    driver = with_quota()
    driver.create(STATS, b"of no meaning")
    return driver


def test_a_stats_znode_tells_the_usage_from_the_start() -> None:
    driver = with_stats()
    znode = driver.state.tree.nodes[STATS]
    assert zn.data_of(znode) == b"count=1,bytes=2"
    assert zn.data_length(znode) == 15


def test_usage_changes_the_data_of_the_stats_znode_and_nothing_else() -> None:
    driver = with_stats()
    before = driver.state.tree.nodes[STATS]
    driver.create("/a/b", b"0123456789")
    after = driver.state.tree.nodes[STATS]
    assert zn.data_of(after) == b"count=2,bytes=12"
    assert (zn.version(after), zn.mzxid(after)) == (zn.version(before), zn.mzxid(before))
    assert not zn.data_changed(before, after) and not zn.children_changed(before, after)


def test_what_a_client_writes_there_does_not_stay() -> None:
    driver = with_stats()
    driver.apply(SetDataTxn(STATS, b"count=0,bytes=0", 1))
    znode = driver.state.tree.nodes[STATS]
    assert (zn.data_of(znode), zn.version(znode)) == (b"count=1,bytes=2", 1)


def test_the_state_knows_what_it_wrote_itself() -> None:
    driver = with_stats()
    driver.create("/a/b", b"0123456789")
    again = recounted(driver.state)
    assert again.digest == driver.state.digest
    assert again.data_bytes == driver.state.data_bytes


def test_without_limits_stats_stay_as_they_are() -> None:
    driver = with_stats()
    driver.apply(DeleteTxn(LIMITS))
    driver.create("/a/b", b"345")
    assert zn.data_of(driver.state.tree.nodes[STATS]) == b"count=1,bytes=2"


@pytest.mark.parametrize("path", ["/zookeeper_limits", "/zookeeper/quotas/zookeeper_limits"])
def test_limits_elsewhere_are_ordinary_data(path: str) -> None:
    driver = Driver()
    driver.create("/zookeeper/quotas", b"")
    driver.create(path, b"countHardLimit=0")
    assert not driver.state.quota.quotas
