"""Which stream of which consumer gets which partition: range and round robin.

Pure; the group's subscriptions and the topics' partitions in, owners out.  Every member
computes the whole and takes its part, so all must come to the same result from the
same znodes: orders are those of Kafka 0.8.2 (`PartitionAssignor`), Java's comparison of strings
and its `hashCode` included, and groups can be mixed of its consumers and these.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from recipes.kafka.formats import ThreadId
from recipes.kafka.paths import TopicPartition

Members = Mapping[str, Mapping[str, int]]
"""Streams by topic, by consumer id."""
Partitions = Mapping[str, Sequence[int]]
Owners = dict[TopicPartition, ThreadId]
Strategy = Callable[[Members, Partitions, str | None], Owners]
"""The last argument names the one consumer whose partitions are wanted; None: all."""


class UnequalSubscriptions(ValueError):
    """Round robin is only for groups whose consumers all have the same topics and streams."""


def assign_range(members: Members, partitions: Partitions, only: str | None = None) -> Owners:
    """Topic by topic, a run of partitions for each stream; the first ones get one more."""
    owners: Owners = {}
    for topic, threads in threads_by_topic(members).items():
        numbers = sorted(partitions.get(topic, ()))
        share, extra = divmod(len(numbers), len(threads))
        for place, thread in enumerate(threads):
            if only not in (None, thread.consumer):
                continue
            start = share * place + min(place, extra)
            run = numbers[start : start + share + (place < extra)]
            owners |= dict.fromkeys((TopicPartition(topic, number) for number in run), thread)
    return owners


def assign_roundrobin(members: Members, partitions: Partitions, only: str | None = None) -> Owners:
    """All partitions of all topics, in an order that mixes the topics, dealt out to the streams."""
    threads = threads_by_topic(members)
    if not threads:
        return {}
    first, *others = threads.values()
    if any(other != first for other in others):
        raise UnequalSubscriptions(f"streams differ between topics: {dict(threads)!s:.500}")
    every = [TopicPartition(topic, n) for topic in threads for n in partitions.get(topic, ())]
    ordered = sorted(every, key=lambda each: (java_hash(f"[{each.topic},{each.partition}]"), each))
    dealt = {each: first[place % len(first)] for place, each in enumerate(ordered)}
    return {w: thread for w, thread in dealt.items() if only in (None, thread.consumer)}


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "range": assign_range,
    "roundrobin": assign_roundrobin,
}
"""By the names of Kafka's `partition.assignment.strategy`."""


def threads_by_topic(members: Members) -> dict[str, list[ThreadId]]:
    """Streams in the order of their ids as text, in which `-10` comes before `-2`."""
    threads: dict[str, list[ThreadId]] = {}
    for consumer, topics in members.items():
        for topic, streams in topics.items():
            threads.setdefault(topic, []).extend(ThreadId(consumer, n) for n in range(streams))
    known = sorted(topic for topic, its in threads.items() if its)
    return {topic: sorted(threads[topic], key=_java_order) for topic in known}


def _java_order(thread: ThreadId) -> bytes:
    """Java compares UTF-16 units, Python code points."""
    return str(thread).encode("utf-16-be")


def java_hash(text: str) -> int:
    """Java's String.hashCode: 32 bits, signed."""
    value = 0
    units = text.encode("utf-16-be")
    for high, low in zip(units[::2], units[1::2], strict=True):
        value = (31 * value + (high << 8) + low) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value
