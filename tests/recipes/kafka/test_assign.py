"""Range, round robin, placement of replicas: Kafka's own examples, and what always holds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.kafka.assign import (
    Members,
    Owners,
    Partitions,
    Strategy,
    UnequalSubscriptions,
    assign_range,
    assign_roundrobin,
    java_hash,
    threads_by_topic,
)
from recipes.kafka.formats import ThreadId
from recipes.kafka.paths import TopicPartition
from recipes.kafka.placement import PlacementError, alternate, check_manual, place_replicas

# --- groups ----------------------------------------------------------------------------


def test_range_as_in_kafkas_comment() -> None:
    """Two consumers of two streams, five partitions."""
    owners = assign_range({"C1": {"t": 2}, "C2": {"t": 2}}, {"t": range(5)})
    shown = {str(where): str(thread) for where, thread in owners.items()}
    assert shown == {"t-0": "C1-0", "t-1": "C1-0", "t-2": "C1-1", "t-3": "C2-0", "t-4": "C2-1"}


def test_streams_are_sorted_as_text() -> None:
    threads = threads_by_topic({"c": {"t": 11}})["t"]
    assert [str(each) for each in threads][:4] == ["c-0", "c-1", "c-10", "c-2"]


def test_and_by_utf_16_units() -> None:
    """Java has what lies beyond the BMP before U+FFFF."""
    threads = threads_by_topic({"\uffff": {"t": 1}, "\U00010000": {"t": 1}})["t"]
    assert [each.consumer for each in threads] == ["\U00010000", "\uffff"]


def test_without_a_stream() -> None:
    for assign in (assign_range, assign_roundrobin):
        assert assign({"a": {"t": 0}}, {"t": [0]}, None) == {}


def test_java_hash() -> None:
    """Values of Java's String.hashCode."""
    assert java_hash("") == 0
    assert java_hash("hello") == 99162322
    assert java_hash("[topic,partition]" * 3) == java_hash_slowly("[topic,partition]" * 3)
    assert java_hash("polygenelubricants") == -(2**31)


def java_hash_slowly(text: str) -> int:
    value = sum(ord(each) * 31 ** (len(text) - 1 - i) for i, each in enumerate(text)) % 2**32
    return int(value - 2**32 if value >= 2**31 else value)


def test_roundrobin_goes_by_hash() -> None:
    owners = assign_roundrobin(
        {"c1": {"a": 1, "b": 1}, "c2": {"a": 1, "b": 1}}, {"a": [0, 1], "b": [0]}
    )
    ordered = sorted(owners, key=lambda each: java_hash_slowly(f"[{each.topic},{each.partition}]"))
    assert [owners[each].consumer for each in ordered] == ["c1", "c2", "c1"]


def test_roundrobin_wants_equal_subscriptions() -> None:
    for members in ({"c1": {"a": 1}, "c2": {"b": 1}}, {"c1": {"a": 1, "b": 2}}):
        with pytest.raises(UnequalSubscriptions):
            assign_roundrobin(members, {"a": [0], "b": [0]})
    assert assign_roundrobin({}, {"a": [0]}) == {}


TOPICS = st.dictionaries(
    st.sampled_from(["a", "b", "topic-1"]), st.integers(0, 7).map(lambda n: list(range(n)))
)
NAMES = st.text("abg-_1\u00e9\uffff\U00010000", min_size=1, max_size=4)


@given(
    members=st.dictionaries(
        NAMES,
        st.dictionaries(st.sampled_from(["a", "b", "topic-1"]), st.integers(1, 12)),
        max_size=6,
    ),
    partitions=TOPICS,
)
def test_range_is_complete_and_fair(members: Members, partitions: Partitions) -> None:
    owners = assign_range(members, partitions)
    check_parts(assign_range, members, partitions)
    check_complete(owners, members, partitions)
    for topic, threads in threads_by_topic(members).items():
        check_even([owners[w] for w in owners if w.topic == topic], threads)
        runs = [owners[TopicPartition(topic, n)] for n in partitions.get(topic, ())]
        assert runs == sorted(runs, key=threads.index), "not in runs"


@given(
    consumers=st.lists(NAMES, min_size=1, max_size=6, unique=True),
    streams=st.integers(1, 3),
    partitions=TOPICS,
)
def test_roundrobin_is_complete_and_fair(
    consumers: list[str], streams: int, partitions: Partitions
) -> None:
    members = {each: dict.fromkeys(partitions, streams) for each in consumers}
    owners = assign_roundrobin(members, partitions)
    check_parts(assign_roundrobin, members, partitions)
    check_complete(owners, members, partitions)
    threads = threads_by_topic(members)
    check_even(list(owners.values()), threads[min(threads)] if threads else [])


def check_parts(strategy: Strategy, members: Members, partitions: Partitions) -> None:
    """What each member computes for itself is its part of the whole."""
    whole = strategy(members, partitions, None)
    parts = [strategy(members, partitions, each) for each in members]
    assert sum(map(len, parts)) == len(whole)
    assert {w: thread for part in parts for w, thread in part.items()} == whole


def check_complete(owners: Owners, members: Members, partitions: Partitions) -> None:
    """Each partition of a topic that somebody wants has one owner, who wants it."""
    wanted = {topic for topics in members.values() for topic in topics}
    every = {TopicPartition(t, n) for t in wanted for n in partitions.get(t, ())}
    assert set(owners) == every
    assert all(t.number < members[t.consumer][w.topic] for w, t in owners.items())


def check_even(owned: list[ThreadId], threads: list[ThreadId]) -> None:
    counts = Counter(owned)
    shares = [counts[each] for each in threads]
    assert not shares or max(shares) - min(shares) <= 1


# --- replicas --------------------------------------------------------------------------------


def test_placement_as_in_kafkas_tests() -> None:
    expected = [(0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 0), (4, 0, 1)]
    expected += [(0, 2, 3), (1, 3, 4), (2, 4, 0), (3, 0, 1), (4, 1, 2)]
    assert place_replicas(dict.fromkeys(range(5)), 10, 3, start=0) == dict(enumerate(expected))


RACKS = {0: "rack1", 1: "rack3", 2: "rack3", 3: "rack2", 4: "rack2", 5: "rack1"}


def test_racks_as_in_kafkas_tests() -> None:
    assert alternate(RACKS) == [0, 3, 1, 5, 4, 2]
    assert alternate({k: v for k, v in RACKS.items() if k != 5}) == [0, 3, 1, 4, 2]
    expected = [(0, 3, 1), (3, 1, 5), (1, 5, 4), (5, 4, 2), (4, 2, 0), (2, 0, 3), (0, 4, 2)]
    assert place_replicas(RACKS, 7, 3, start=0) == dict(enumerate(expected))


def test_topic_grows_where_it_would_have_gone_on() -> None:
    """Partitions that are added later lie as if they had been there, at Kafka's own start index."""
    whole = place_replicas(dict.fromkeys(range(5)), 9, 3, start=0)
    more = place_replicas(dict.fromkeys(range(5)), 5, 3, start=0, first_partition=4)
    assert more == {n: whole[n] for n in range(4, 9)}


@given(
    racks=st.one_of(
        st.integers(1, 7).map(lambda n: dict.fromkeys(range(n))),
        st.lists(st.sampled_from("xyz"), min_size=1, max_size=7).map(lambda r: dict(enumerate(r))),
    ),
    partitions=st.integers(1, 20),
    data=st.data(),
)
def test_placement_spreads(
    racks: dict[int, str | None], partitions: int, data: st.DataObject
) -> None:
    copies = data.draw(st.integers(1, len(racks)))
    start, shift = data.draw(st.integers(0, len(racks) - 1)), data.draw(st.integers(0, 9))
    placed = place_replicas(racks, partitions, copies, start=start, shift=shift)
    assert sorted(placed) == list(range(partitions))
    check_manual(placed, racks)
    leaders = Counter(brokers[0] for brokers in placed.values())
    assert max(leaders.values()) - min(leaders.get(each, 0) for each in racks) <= 1
    for brokers in placed.values():
        used = {racks[each] for each in brokers}
        assert len(used) == min(copies, len(set(racks.values())))


@pytest.mark.parametrize(
    ("racks", "partitions", "copies"),
    [({1: None}, 1, 2), ({1: None}, 0, 1), ({1: None}, 1, 0), ({1: "a", 2: None}, 1, 1)],
)
def test_placement_refuses(racks: dict[int, str | None], partitions: int, copies: int) -> None:
    with pytest.raises(PlacementError):
        place_replicas(racks, partitions, copies, start=0)


@pytest.mark.parametrize(
    "assignment", [{}, {1: [1]}, {0: []}, {0: [1, 1]}, {0: [1], 1: [1, 2]}, {0: [-1]}, {0: [9]}]
)
def test_manual_assignment_refuses(assignment: dict[int, list[int]]) -> None:
    with pytest.raises(PlacementError):
        check_manual(assignment, [1, 2])
