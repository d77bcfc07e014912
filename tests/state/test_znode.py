"""The packed znode: exact Stat fields, and the form that clients read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.records import GetDataResponse, Stat
from zkpy.state import znode as zn

DATA = st.one_of(st.none(), st.binary(max_size=40))


def stat(znode: bytes) -> Stat:
    return Stat.parse(zn.stat_of(znode), 0, 68)


@given(DATA)
def test_a_new_znode_is_the_body_of_getdatas_reply(data: bytes | None) -> None:
    znode = zn.new(data, 7, zxid=5, time_ms=1000)
    expected = Stat(5, 5, 1000, 1000, 0, 0, 0, 7, len(data or b""), 0, 5)
    assert znode == GetDataResponse(data, expected).encode()
    assert zn.data_of(znode) == data
    assert zn.data_length(znode) == len(data or b"")


@given(DATA, DATA)
def test_set_data_moves_version_mzxid_mtime_and_length_only(
    first: bytes | None, second: bytes | None
) -> None:
    before = zn.with_child_created(zn.with_aversion(zn.new(first, 7, 5, 1000), 3), 1, 6)
    after = zn.with_data(before, second, 1, zxid=9, time_ms=2000)
    assert zn.data_of(after) == second
    assert stat(after) == Stat(5, 9, 1000, 2000, 1, 1, 3, 7, len(second or b""), 1, 6)
    assert zn.data_changed(before, after) and not zn.children_changed(before, after)


def test_set_acl_moves_aversion_only() -> None:
    before = zn.new(b"x", 0, 5, 1000)
    after = zn.with_aversion(before, -1)
    assert stat(after) == Stat(5, 5, 1000, 1000, 0, 0, -1, 0, 1, 0, 5)
    assert not zn.data_changed(before, after) and not zn.children_changed(before, after)


def test_children_move_cversion_count_and_pzxid() -> None:
    znode = zn.new(b"x", 0, 5, 1000)
    steps = [
        (zn.with_child_created(znode, 1, 6), 1, 1, 6, 1),
        (zn.with_child_created(zn.with_child_created(znode, 1, 6), 2, 7), 2, 2, 7, 2),
        (zn.with_child_deleted(zn.with_child_created(znode, 1, 6), 8), 2, 0, 8, 1),
    ]
    for after, cversion, children, pzxid, counter in steps:
        assert stat(after) == Stat(5, 5, 1000, 1000, 0, cversion, 0, 0, 1, children, pzxid)
        assert zn.child_counter(after) == counter
        assert zn.data_of(after) == b"x"
        assert zn.children_changed(znode, after) and not zn.data_changed(znode, after)


@given(st.lists(st.booleans(), max_size=60), st.integers(0, zn.COUNTER_MAX))
def test_counter_and_cversion_follow_creates_and_deletes(creates: list[bool], start: int) -> None:
    znode = zn.with_child_deleted(zn.with_child_created(zn.new(b"", 0, 1, 1), start, 1), 1)
    counter, children = start, 0
    for create in creates:
        if create:
            counter, children = min(counter + 1, zn.COUNTER_MAX), children + 1
            znode = zn.with_child_created(znode, counter, 2)
        elif children:
            children -= 1
            znode = zn.with_child_deleted(znode, 3)
        assert zn.child_counter(znode) == counter
        assert zn.child_count(znode) == children
        wrapped = (2 * counter - children + 2**31) % 2**32 - 2**31
        assert zn.cversion(znode) == wrapped


def test_a_full_counter_stays_and_a_change_still_shows() -> None:
    full = zn.with_child_created(zn.new(b"", 0, 1, 1), zn.COUNTER_MAX, 1)
    after = zn.with_child_created(full, zn.COUNTER_MAX, 2)
    assert zn.child_counter(after) == zn.COUNTER_MAX
    assert zn.children_changed(full, after)


@pytest.mark.parametrize("owner", [1, -1, -(2**63), 2**63 - 1])
def test_fields_come_back(owner: int) -> None:
    znode = zn.with_data(zn.new(None, owner, 5, 1000), b"abc", 4, 6, 2000)
    assert zn.ephemeral_owner(znode) == owner
    assert (zn.czxid(znode), zn.mzxid(znode), zn.pzxid(znode)) == (5, 6, 5)
    assert (zn.mtime(znode), zn.version(znode), zn.aversion(znode)) == (2000, 4, 0)


def test_ephemerals_are_found_in_columns() -> None:
    znodes = [zn.new(b"", owner, 1, 1) for owner in (0, 9, 0, -9)]
    assert zn.ephemerals_among(["/a", "/b", "/c", "/d"], znodes) == [("/b", 9), ("/d", -9)]


def test_versions_overflow_as_java_ints() -> None:
    assert zn.next_version(0) == 1
    assert zn.next_version(2**31 - 1) == -(2**31)
    assert zn.next_version(-1) == 0


@given(DATA, st.sampled_from([0, 7, -1]), st.integers(0, 9), st.integers(0, 9))
def test_facts_are_what_the_single_readers_say(
    data: bytes | None, owner: int, changes: int, creates: int
) -> None:
    znode = zn.with_aversion(zn.new(data, owner, 5, 1000), changes - 3)
    for step in range(changes):
        znode = zn.with_data(znode, data, step - 4, 6 + step, 2000)
    for number in range(creates):
        znode = zn.with_child_created(znode, number + 1, 20 + number)
    if creates:
        znode = zn.with_child_deleted(znode, 40)
    assert zn.facts_of(znode) == (
        zn.version(znode),
        zn.aversion(znode),
        zn.child_counter(znode),
        zn.child_count(znode),
        zn.data_length(znode),
        zn.ephemeral_owner(znode),
    )
    assert zn.facts_of(znode)[2:4] == (creates, creates - bool(creates))
