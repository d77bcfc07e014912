"""Where a record is to be sent: a producer's view of brokers and topics, kept up by watches.

    view = ClusterView(client, ["t"])
    view.start()
    route = choose(view.metadata, "t", key=b"k")      # a partition, and the broker that leads it

Kafka's producers have asked brokers for this since 0.8; before, they read it in ZooKeeper, as this
does.  `Metadata` is replaced as a whole; choosing is pure.  A record with a key goes where Kafka's
own partitioner sends it (murmur2 over all partitions, led or not), one without to partitions that
have a leader, in turn.

SUSPENDED: the last view stays, and may be old: a broker that no longer leads refuses what it gets.
After an expired session everything is read anew.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Final

import attrs
from kazoo.client import KazooClient

from recipes.kafka import paths
from recipes.kafka.brokers import list_brokers
from recipes.kafka.fields import FormatError
from recipes.kafka.formats import Broker, decode_leadership, decode_topic
from recipes.kafka.paths import TopicPartition
from recipes.kafka.znodes import Worker, Znode, log

_SEED: Final = 0x9747B28C
_MIX: Final = 0x5BD1E995
_WORD: Final = 0xFFFFFFFF


class NoLeader(LookupError):
    """The topic is not known, or no broker leads this partition now."""


@attrs.frozen
class Metadata:
    """Brokers that are alive, and who leads what."""

    brokers: Mapping[int, Broker] = attrs.field(factory=dict)
    leaders: Mapping[str, Mapping[int, int | None]] = attrs.field(factory=dict)
    """By topic and partition; None without a leader that is alive."""


@attrs.frozen
class Route:
    where: TopicPartition
    broker: Broker


def choose(metadata: Metadata, topic: str, key: bytes | None = None, turn: int = 0) -> Route:
    """Partition and broker for a record; `turn` counts records without a key.  NoLeader."""
    leaders = metadata.leaders.get(topic, {})
    numbers = sorted(leaders)
    if key is None:
        numbers = [each for each in numbers if leaders[each] is not None]
    if not numbers:
        raise NoLeader(f"{topic}: {len(leaders)} partitions, none has a leader")
    place = turn if key is None else murmur2(key) & 0x7FFFFFFF
    number = numbers[place % len(numbers)]
    leader = leaders[number]
    if leader is None:
        raise NoLeader(f"{topic}-{number}")
    return Route(TopicPartition(topic, number), metadata.brokers[leader])


def murmur2(data: bytes) -> int:
    """The 32-bit hash by which Kafka's clients spread keys."""
    whole = len(data) & ~3
    value = _SEED ^ len(data)
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * _MIX & _WORD
        word = (word ^ word >> 24) * _MIX & _WORD
        value = value * _MIX & _WORD ^ word
    if len(data) > whole:
        value = (value ^ int.from_bytes(data[whole:], "little")) * _MIX & _WORD
    value = (value ^ value >> 13) * _MIX & _WORD
    return value ^ value >> 15


class ClusterView(Worker):
    """Follows brokers, and the partitions of some topics."""

    def __init__(self, client: KazooClient, topics: Iterable[str]) -> None:
        super().__init__(client, "producer's view")
        self.topics = tuple(dict.fromkeys(topics))
        self.metadata = Metadata()
        self._news = threading.Condition()

    def wait_until_led(self, topic: str, partitions: int, timeout_s: float | None = None) -> bool:
        """Until so many partitions of a topic have a leader; whether in time, and before a stop."""

        def is_led() -> bool:
            leaders = self.metadata.leaders.get(topic, {})
            return sum(each is not None for each in leaders.values()) >= partitions

        with self._news:
            self._news.wait_for(lambda: is_led() or self.is_stopping(), timeout_s)
            return is_led()

    def on_stop(self) -> None:
        with self._news:
            self._news.notify_all()

    def step(self) -> None:
        """All of it, and watched: a read for each partition that is followed."""
        brokers = list_brokers(self.zk, self.wake)
        leaders = {name: self._read_topic(name, brokers) for name in self.topics}
        with self._news:
            self.metadata = Metadata(brokers, leaders)
            self._news.notify_all()

    def _read_topic(self, name: str, brokers: Mapping[int, Broker]) -> dict[int, int | None]:
        node = self.zk.read(paths.topic(name), self.wake)
        wanted = [TopicPartition(name, number) for number in _numbers(name, node)]
        found = self.zk.read_all(map(paths.state, wanted), self.wake)
        missing = [each for each in wanted if found[paths.state(each)] is None]
        for each in missing:
            found[paths.state(each)] = self.zk.read(paths.state(each), self.wake)
        return {w.partition: _leader(found[paths.state(w)], brokers) for w in wanted}


def _numbers(name: str, node: Znode | None) -> list[int]:
    try:
        return sorted(decode_topic(name, node.data).partitions) if node is not None else []
    except FormatError as why:
        log.error("topic %s has no partitions: %s", name, why)
        return []


def _leader(node: Znode | None, brokers: Mapping[int, Broker]) -> int | None:
    try:
        leader = decode_leadership(node.data).leader if node is not None else None
    except FormatError as why:
        log.error("a partition has no leader: %s", why)
        return None
    return leader if leader in brokers else None
