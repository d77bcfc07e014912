"""Owners and what ends by itself."""

import pytest

from zkpy.state import znode as zn
from zkpy.state.lifetimes import (
    CONTAINER_OWNER,
    TTL_MS_MAX,
    Lifetimes,
    is_container,
    is_session,
    is_ttl,
    owner_of_ttl,
)


def signed(value: int) -> int:
    return int.from_bytes(value.to_bytes(8, "big"), "big", signed=True)


def test_encodings_are_zookeepers() -> None:
    assert signed(0x8000000000000000) == CONTAINER_OWNER
    assert owner_of_ttl(1) == signed(0xFF00000000000001)
    assert owner_of_ttl(TTL_MS_MAX) == signed(0xFF0000FFFFFFFFFF)


@pytest.mark.parametrize(
    ("owner", "kind"),
    [
        (0, None),
        (CONTAINER_OWNER, is_container),
        (owner_of_ttl(1), is_ttl),
        (owner_of_ttl(TTL_MS_MAX), is_ttl),
        (1, is_session),
        (1 << 56, is_session),
        (signed(0xFE00000000000001), is_session),
        (signed(0x8000000000000001), is_session),
    ],
)
def test_each_owner_is_of_one_kind(owner: int, kind: object) -> None:
    assert [k for k in (is_container, is_ttl, is_session) if k(owner)] == ([kind] if kind else [])


@pytest.mark.parametrize("ttl_ms", [0, -1, TTL_MS_MAX + 1])
def test_a_ttl_out_of_range_is_our_bug(ttl_ms: int) -> None:
    with pytest.raises(AssertionError):
        owner_of_ttl(ttl_ms)


def test_ephemerals_are_kept_by_session_oldest_first() -> None:
    lives = Lifetimes()
    for path, session in [("/b", 1), ("/a", 1), ("/c", 2)]:
        lives.add(path, session)
    assert lives.ephemerals_of(1) == ["/b", "/a"]
    assert lives.ephemeral_count == 3
    lives.remove("/b", 1)
    lives.remove("/c", 2)
    assert lives.ephemerals == {1: {"/a": None}}
    assert lives.ephemerals_of(2) == []
    assert lives.ephemeral_count == 1


def node(creates: int = 0, children: int = 0, mtime: int = 0) -> bytes:
    znode = zn.new(b"", 0, 1, mtime)
    for counter in range(1, creates + 1):
        znode = zn.with_child_created(znode, counter, 2)
    for _ in range(creates - children):
        znode = zn.with_child_deleted(znode, 3)
    return znode


def test_containers_end_empty_and_used_or_too_old() -> None:
    lives = Lifetimes()
    nodes = {"/unused": node(), "/spent": node(2), "/busy": node(2, 1)}
    for path in nodes:
        lives.add(path, CONTAINER_OWNER)
    assert list(lives.due(nodes, wall_ms=10**9)) == ["/spent"]
    assert list(lives.due(nodes, wall_ms=1000, never_used_ms=1000)) == ["/spent"]
    assert list(lives.due(nodes, wall_ms=1001, never_used_ms=1000)) == ["/unused", "/spent"]
    lives.remove("/spent", CONTAINER_OWNER)
    assert list(lives.due(nodes, wall_ms=10**9)) == []


def test_ttl_counts_from_the_last_set_data_and_spares_parents() -> None:
    lives = Lifetimes()
    nodes = {"/young": node(mtime=500), "/old": node(mtime=499), "/parent": node(1, 1)}
    for path in nodes:
        lives.add(path, owner_of_ttl(100))
    assert list(lives.due(nodes, wall_ms=600)) == ["/old"]
    lives.remove("/old", owner_of_ttl(100))
    assert list(lives.due(nodes, wall_ms=600)) == []
