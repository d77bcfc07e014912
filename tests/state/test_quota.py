"""Quotas: texts, counting, refusing (PROTOCOL A10)."""

import pytest

from tests.state.driver import Driver
from wire.txn import CreateTxn, DeleteTxn, MultiTxn, SetDataTxn
from zkpy.state.quota import Quota, parse_limits

LIMITS = "/zookeeper/quota/a/zookeeper_limits"


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
    exceed = driver.state.quota.would_exceed
    assert not exceed("/a/b", 2, 8)
    assert exceed("/a/b", 3, 0) and exceed("/a/b", 1, 9)
    assert not exceed("/ab", 99, 99) and not exceed("/", 99, 99)


def test_a_branch_over_its_limit_can_shrink() -> None:
    driver = with_quota(b"byteHardLimit=1;countHardLimit=0")
    assert not driver.state.quota.would_exceed("/a", -1, -1)
    assert not driver.state.quota.would_exceed("/a", 0, 0)
    assert driver.state.quota.would_exceed("/a", 1, 0)
    assert driver.state.quota.would_exceed("/a", 0, 1)


def test_soft_limits_refuse_nothing() -> None:
    driver = with_quota(b"count=1,bytes=1")
    assert not driver.state.quota.would_exceed("/a/b", 5, 50)


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


def test_quota_on_the_root_counts_everything() -> None:
    driver = Driver()
    driver.create("/zookeeper/quota/zookeeper_limits", b"countHardLimit=6")
    assert driver.state.quota.quotas["/"].used_count == driver.state.node_count == 5
    assert driver.state.quota.would_exceed("/x/y", 2, 0)
    assert not driver.state.quota.would_exceed("/x", 1, 0)


@pytest.mark.parametrize("path", ["/zookeeper_limits", "/zookeeper/quotas/zookeeper_limits"])
def test_limits_elsewhere_are_ordinary_data(path: str) -> None:
    driver = Driver()
    driver.create("/zookeeper/quotas", b"")
    driver.create(path, b"countHardLimit=0")
    assert not driver.state.quota.quotas
