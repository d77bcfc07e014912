"""What stands in Kafka's znodes, version by version: pure codecs, bytes in, records out.

Each record has the fields of the newest version; `version` says which one it was read from,
or is written as.  Readers are as tolerant as Kafka's own (`ZkData` of 2.8 to 3.9): keys that nobody
knows are passed over, a version beyond the known ones is read as the last, since Kafka looks for
fields and not for versions.  What Kafka would fail on is a FormatError.

    /brokers/ids/ID                   Broker            1..5
    /brokers/topics/T                 Topic             1..3
    .../partitions/P/state            Leadership        1
    /controller                       ControllerNode    1, 2, and a bare id
    /controller_epoch                 a number
    /cluster/id                       text
    /config/TYPE/NAME                 a mapping         1
    /config/changes/config_change_N   ConfigChange      2, 1, and a JSON string
    /isr_change_notification/...      partitions        1
    /log_dir_event_notification/...   a broker          1
    /admin/reassign_partitions        partitions and replicas  1
    /admin/preferred_replica_election partitions        1
    /latest_producer_id_block         ProducerIdBlock   1
    /feature                          Feature           1, 2
    /consumers/G/ids/C                Subscription      1
    /consumers/G/owners/T/P           a thread's id
    /consumers/G/offsets/T/P          a number

Not here: ACLs, delegation tokens and the state of a migration to KRaft.
"""

import base64
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from recipes.kafka.fields import (
    Fields,
    FormatError,
    dump,
    dump_number,
    is_number,
    load,
    load_number,
    one_of,
    parse,
)
from recipes.kafka.paths import TopicPartition

PLAINTEXT: Final = "PLAINTEXT"
PROTOCOLS: Final = (PLAINTEXT, "SSL", "SASL_PLAINTEXT", "SASL_SSL")
NO_LEADER: Final = -1
_ENDPOINT: Final = re.compile(r"(.*)://\[?([0-9a-zA-Z\-%._:]*)\]?:(-?[0-9]+)")

# --- brokers -------------------------------------------------------------------------

BROKER_VERSIONS: Final = (1, 2, 3, 4, 5)


@attrs.frozen
class Endpoint:
    """Where a listener of a broker can be reached: `PLAINTEXT://h1:9092`."""

    listener: str
    host: str | None
    port: int
    protocol: str = PLAINTEXT

    def __str__(self) -> str:
        host = self.host or ""
        return f"{self.listener}://{f'[{host}]' if ':' in host else host}:{self.port}"


NOWHERE: Final = Endpoint("", None, -1)
"""What clients that know `host` and `port` alone see of a broker without a plain listener."""


@attrs.frozen
class Broker:
    """A broker that is alive; its epoch is the znode's czxid and stands nowhere in it."""

    broker_id: int
    endpoints: tuple[Endpoint, ...]
    rack: str | None = None
    features: Mapping[str, Mapping[str, int]] = attrs.field(factory=dict)
    """Supported features: `min_version`, `max_version` by name."""
    jmx_port: int = -1
    timestamp_ms: int = 0
    version: int = 5

    @classmethod
    def at(cls, broker_id: int, host: str, port: int, rack: str | None = None) -> "Broker":
        """One plain listener."""
        return cls(broker_id, (Endpoint(PLAINTEXT, host, port),), rack)

    @property
    def plain(self) -> Endpoint:
        """The first listener without encryption and authentication."""
        plain = (each for each in self.endpoints if each.protocol == PLAINTEXT)
        return next(plain, NOWHERE)


def encode_broker(broker: Broker) -> bytes:
    """The fields of the broker's `version` and no others; `rack` only where there is one."""
    version = one_of(broker.version, BROKER_VERSIONS, "a broker of version")
    record: dict[str, Any] = {
        "version": version,
        "host": broker.plain.host,
        "port": broker.plain.port,
        "jmx_port": broker.jmx_port,
        "timestamp": str(broker.timestamp_ms),
    }
    later: list[tuple[int, str, Any]] = [
        (2, "endpoints", [str(each) for each in broker.endpoints]),
        (3, "rack", broker.rack),
        (4, "listener_security_protocol_map", {e.listener: e.protocol for e in broker.endpoints}),
        (5, "features", {name: dict(range_) for name, range_ in broker.features.items()}),
    ]
    record |= {name: value for since, name, value in later if version >= since}
    return dump({k: v for k, v in record.items() if k != "rack" or v is not None})


def decode_broker(broker_id: int, data: bytes) -> Broker:
    fields = load(data, f"broker {broker_id}")
    version = fields.number("version")
    if version < 1:
        raise FormatError(f"broker {broker_id}: unsupported version {version}")
    features = fields.inner_or_none("features")
    return Broker(
        broker_id,
        endpoints=_single_endpoint(fields) if version == 1 else _endpoints(fields),
        rack=fields.text("rack") if fields.has("rack") else None,
        features=features and {n: features.inner(n).mapping(int) for n in features.values} or {},
        jmx_port=fields.number("jmx_port"),
        timestamp_ms=fields.timestamp(),
        version=version,
    )


def _single_endpoint(fields: Fields) -> tuple[Endpoint, ...]:
    return (Endpoint(PLAINTEXT, fields.text("host"), fields.number("port")),)


def _endpoints(fields: Fields) -> tuple[Endpoint, ...]:
    protocols = fields.inner_or_none("listener_security_protocol_map")
    named = protocols.mapping(str) if protocols else None
    return tuple(parse_endpoint(text, named) for text in fields.texts("endpoints"))


def parse_endpoint(text: str, protocols: Mapping[str, str] | None = None) -> Endpoint:
    """Without `protocols`, a listener is named after its protocol, as before version 4."""
    match = _ENDPOINT.fullmatch(text)
    if match is None:
        raise FormatError(f"not an endpoint: {text!r}")
    listener = match[1].upper()
    protocol = listener if protocols is None else protocols.get(listener)
    if protocol not in PROTOCOLS:
        raise FormatError(f"endpoint {text!r}: no security protocol is known for {listener}")
    return Endpoint(listener, match[2] or None, int(match[3]), protocol)


# --- topics and partitions ------------------------------------------------------------

TOPIC_VERSIONS: Final = (1, 2, 3)


@attrs.frozen
class Replicas:
    """Brokers of a partition, the preferred leader first, and what a move is doing to them."""

    brokers: tuple[int, ...]
    adding: tuple[int, ...] = ()
    removing: tuple[int, ...] = ()

    @property
    def origin(self) -> tuple[int, ...]:
        return tuple(each for each in self.brokers if each not in self.adding)

    @property
    def target(self) -> tuple[int, ...]:
        return tuple(each for each in self.brokers if each not in self.removing)

    @property
    def moving(self) -> bool:
        return bool(self.adding or self.removing)

    def moved_to(self, target: Sequence[int]) -> "Replicas":
        """The target's brokers first, in its order, then those that are to go."""
        brokers = tuple(dict.fromkeys([*target, *self.origin]))
        return Replicas(
            brokers,
            adding=tuple(each for each in brokers if each not in self.origin),
            removing=tuple(each for each in brokers if each not in target),
        )


@attrs.frozen
class Topic:
    """Which brokers hold a topic's partitions."""

    partitions: Mapping[int, Replicas]
    topic_id: str | None = None
    """22 characters, see `new_uuid`; none before Kafka 2.8."""
    version: int = 3

    @classmethod
    def of(cls, assignment: Mapping[int, Sequence[int]], topic_id: str | None = None) -> "Topic":
        return cls({number: Replicas(tuple(to)) for number, to in assignment.items()}, topic_id)


def encode_topic(topic: Topic) -> bytes:
    version = one_of(topic.version, TOPIC_VERSIONS, "a topic of version")
    ordered = sorted(topic.partitions.items())
    record: dict[str, Any] = {
        "version": version,
        "partitions": {str(number): list(each.brokers) for number, each in ordered},
    }
    if version >= 2:
        record["adding_replicas"] = {
            str(n): list(each.adding) for n, each in ordered if each.adding
        }
        removing = {str(n): list(each.removing) for n, each in ordered if each.removing}
        record["removing_replicas"] = removing
    if version >= 3 and topic.topic_id is not None:
        record["topic_id"] = topic.topic_id
    return dump(record)


def decode_topic(name: str, data: bytes) -> Topic:
    """Kafka takes a topic without `partitions` for one that has none, and so does this."""
    fields = load(data, f"topic {name}")
    lists = {
        key: inner.numbered() if (inner := fields.inner_or_none(key)) else {}
        for key in ("partitions", "adding_replicas", "removing_replicas")
    }
    adding, removing = lists["adding_replicas"], lists["removing_replicas"]
    return Topic(
        {
            number: Replicas(brokers, adding.get(number, ()), removing.get(number, ()))
            for number, brokers in sorted(lists["partitions"].items())
        },
        topic_id=fields.text("topic_id") if fields.has("topic_id") else None,
        version=fields.number("version") if fields.has("version") else 1,
    )


@attrs.frozen
class Leadership:
    """Who leads a partition and who is in sync: the `state` znode."""

    leader: int
    isr: tuple[int, ...]
    leader_epoch: int = 0
    controller_epoch: int = 0
    recovering: bool = False
    """After an unclean election, until the leader has recovered (Kafka 3.2)."""


def encode_leadership(state: Leadership) -> bytes:
    record = {
        "version": 1,
        "leader": state.leader,
        "leader_epoch": state.leader_epoch,
        "controller_epoch": state.controller_epoch,
        "isr": list(state.isr),
    }
    return dump(record | ({"leader_recovery_state": 1} if state.recovering else {}))


def decode_leadership(data: bytes, what: str = "partition state") -> Leadership:
    fields = load(data, what)
    recovery = fields.has("leader_recovery_state") and fields.number("leader_recovery_state")
    if recovery not in (0, 1):
        raise FormatError(f"{what}: unknown leader_recovery_state {recovery}")
    return Leadership(
        leader=fields.number("leader"),
        isr=fields.numbers("isr"),
        leader_epoch=fields.number("leader_epoch"),
        controller_epoch=fields.number("controller_epoch"),
        recovering=bool(recovery),
    )


# --- controller and cluster ------------------------------------------------------------


@attrs.frozen
class ControllerNode:
    """Who is the controller."""

    broker_id: int
    timestamp_ms: int = 0
    kraft_epoch: int | None = None
    """-1 for a controller on ZooKeeper, from version 2 on."""
    version: int = 1


def encode_controller(node: ControllerNode) -> bytes:
    version = one_of(node.version, (1, 2), "a controller of version")
    record: dict[str, Any] = {
        "version": version,
        "brokerid": node.broker_id,
        "timestamp": str(node.timestamp_ms),
    }
    if version == 2:
        record["kraftControllerEpoch"] = -1 if node.kraft_epoch is None else node.kraft_epoch
    return dump(record)


def decode_controller(data: bytes) -> ControllerNode:
    """Also the bare id of Kafka 0.8's first releases."""
    if is_number(data.decode("latin-1")):
        return ControllerNode(int(data), version=0)
    fields = load(data, "controller")
    has_epoch = fields.has("kraftControllerEpoch")
    return ControllerNode(
        fields.number("brokerid"),
        fields.timestamp(),
        kraft_epoch=fields.number("kraftControllerEpoch") if has_epoch else None,
        version=fields.number("version") if fields.has("version") else 1,
    )


def encode_epoch(epoch: int) -> bytes:
    return dump_number(epoch)


def decode_epoch(data: bytes) -> int:
    return load_number(data, "controller epoch")


def encode_cluster_id(cluster_id: str) -> bytes:
    return dump({"version": "1", "id": cluster_id})


def decode_cluster_id(data: bytes) -> str:
    return load(data, "cluster id").text("id")


def new_uuid(number: uuid.UUID) -> str:
    """A random UUID as Kafka writes it: 22 characters, never beginning with a dash."""
    text = base64.urlsafe_b64encode(number.bytes).decode().rstrip("=")
    return f"A{text[1:]}" if text.startswith("-") else text


# --- configuration ------------------------------------------------------------------------


def encode_config(values: Mapping[str, str]) -> bytes:
    return dump({"version": 1, "config": dict(values)})


def decode_config(data: bytes) -> dict[str, str]:
    """Empty data is an empty configuration."""
    if not data:
        return {}
    inner = load(data, "configuration").inner_or_none("config")
    return inner.mapping(str) if inner else {}


@attrs.frozen
class ConfigChange:
    """Whose configuration has changed: `topics` and its name."""

    kind: str
    name: str
    version: int = 2

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.name}"


def encode_config_change(change: ConfigChange) -> bytes:
    """Version 0 is the string that 0.8 wrote, for topics alone."""
    version = one_of(change.version, (0, 1, 2), "a change of version")
    if version == 2:
        return dump({"version": 2, "entity_path": change.path})
    if version == 1:
        return dump({"version": 1, "entity_type": change.kind, "entity_name": change.name})
    return dump(change.name)  # type: ignore[arg-type]


def decode_config_change(data: bytes) -> ConfigChange:
    """Kafka of today refuses what 0.8 wrote; the topic's name is all there is in it."""
    value = parse(data, "configuration change")
    if isinstance(value, str):
        return ConfigChange("topics", value, 0)
    fields = load(data, "configuration change")
    version = fields.number("version")
    if version not in (1, 2):
        raise FormatError(f"configuration change: unsupported version {version}")
    if version == 1:
        return ConfigChange(fields.text("entity_type"), fields.text("entity_name"), 1)
    kind, slash, name = fields.text("entity_path").partition("/")
    if not slash:
        raise FormatError(f"configuration change: entity_path {kind!r} has no slash")
    return ConfigChange(kind, name)


# --- notifications and requests ---------------------------------------------------------------


def encode_partitions(partitions: Iterable[TopicPartition]) -> bytes:
    """Of an ISR change, and of a preferred replica election."""
    named = [{"topic": each.topic, "partition": each.partition} for each in partitions]
    return dump({"version": 1, "partitions": named})


def decode_partitions(data: bytes, what: str = "partitions") -> tuple[TopicPartition, ...]:
    fields = load(data, what)
    named = (
        TopicPartition(each.text("topic"), each.number("partition"))
        for each in fields.inners("partitions")
    )
    return tuple(dict.fromkeys(named))


def encode_log_dir_event(broker_id: int) -> bytes:
    return dump({"version": 1, "broker": broker_id, "event": 1})


def decode_log_dir_event(data: bytes) -> int:
    return load(data, "log dir event").number("broker")


Moves = Mapping[TopicPartition, tuple[int, ...]]
"""Partitions, and the brokers that they are to move to."""


def encode_reassignment(moves: Moves) -> bytes:
    named = [
        {"topic": where.topic, "partition": where.partition, "replicas": list(brokers)}
        for where, brokers in moves.items()
    ]
    return dump({"version": 1, "partitions": named})


def decode_reassignment(data: bytes) -> dict[TopicPartition, tuple[int, ...]]:
    fields = load(data, "reassignment")
    return {
        TopicPartition(each.text("topic"), each.number("partition")): each.numbers("replicas")
        for each in fields.inners("partitions")
    }


@attrs.frozen
class ProducerIdBlock:
    """The last block of producer ids that was given away."""

    broker_id: int
    first: int
    last: int


def encode_producer_ids(block: ProducerIdBlock) -> bytes:
    return dump(
        {
            "version": 1,
            "broker": block.broker_id,
            "block_start": str(block.first),
            "block_end": str(block.last),
        }
    )


def decode_producer_ids(data: bytes) -> ProducerIdBlock:
    fields = load(data, "producer id block")
    first, last = (
        load_number(fields.text(name).encode(), f"producer id block: {name}")
        for name in ("block_start", "block_end")
    )
    return ProducerIdBlock(fields.number("broker"), first, last)


@attrs.frozen
class Feature:
    """Finalized features: the level of each, by name."""

    levels: Mapping[str, int]
    enabled: bool = True
    version: int = 2


_LOWEST, _HIGHEST = "min_version_level", "max_version_level"


def encode_feature(feature: Feature) -> bytes:
    version = one_of(feature.version, (1, 2), "a feature of version")
    names = (_HIGHEST, _LOWEST) if version == 1 else (_HIGHEST,)
    features = {name: dict.fromkeys(names, level) for name, level in feature.levels.items()}
    return dump({"features": features, "version": version, "status": int(feature.enabled)})


def decode_feature(data: bytes) -> Feature:
    fields = load(data, "feature")
    version, status = fields.number("version"), fields.number("status")
    if version not in (1, 2):
        raise FormatError(f"feature: unsupported version {version}")
    if status not in (0, 1):
        raise FormatError(f"feature: unknown status {status}")
    inner = fields.inner("features")
    levels = {name: _level(inner.inner(name), version) for name in inner.values}
    return Feature(levels, bool(status), version)


def _level(fields: Fields, version: int) -> int:
    highest = fields.number(_HIGHEST)
    lowest = fields.number(_LOWEST) if version == 1 else 1
    if not 1 <= lowest <= highest:
        raise FormatError(f"{fields.what}: levels {lowest} to {highest}")
    return highest


# --- consumers of the old high-level client ------------------------------------------------------

STATIC, WHITE_LIST, BLACK_LIST = "static", "white_list", "black_list"
INTERNAL_TOPICS: Final = frozenset(["__consumer_offsets"])


@attrs.frozen
class Subscription:
    """Streams by topic; with another pattern than STATIC, streams by one regular expression."""

    streams: Mapping[str, int]
    pattern: str = STATIC
    timestamp_ms: int = 0

    def topics(self, existing: Iterable[str]) -> dict[str, int]:
        """Streams by topic, of those that exist."""
        if self.pattern == STATIC or not self.streams:
            return {name: self.streams[name] for name in existing if name in self.streams}
        (expression, streams), *_ = self.streams.items()
        return {name: streams for name in existing if self._allows(expression, name)}

    def _allows(self, expression: str, topic: str) -> bool:
        matches = re.fullmatch(clean_filter(expression), topic) is not None
        return matches == (self.pattern == WHITE_LIST) and topic not in INTERNAL_TOPICS


def clean_filter(expression: str) -> str:
    """Kafka's topic filters take `a, b` for `a|b`, and quotes around the whole."""
    return expression.strip().replace(",", "|").replace(" ", "").strip("\"'")


def encode_subscription(subscription: Subscription) -> bytes:
    return dump(
        {
            "version": 1,
            "subscription": dict(subscription.streams),
            "pattern": subscription.pattern,
            "timestamp": str(subscription.timestamp_ms),
        }
    )


def decode_subscription(data: bytes, what: str = "consumer") -> Subscription:
    """A pattern that is not known counts as static: Kafka compares with the two others."""
    fields = load(data, what)
    pattern = fields.text("pattern")
    subscription = Subscription(
        fields.inner("subscription").mapping(int),
        pattern=pattern if pattern in (WHITE_LIST, BLACK_LIST) else STATIC,
        timestamp_ms=fields.timestamp(),
    )
    try:
        subscription.topics([""])
    except (re.error, OverflowError, RecursionError) as why:
        raise FormatError(f"{what}: not an expression ({why}): {data!r:.200}") from None
    if any(streams < 1 for streams in subscription.streams.values()):
        raise FormatError(f"{what}: a topic without a stream: {data!r:.200}")
    return subscription


@attrs.frozen
class ThreadId:
    """A stream of a consumer, who is what owns a partition."""

    consumer: str
    number: int

    def __str__(self) -> str:
        return f"{self.consumer}-{self.number}"


def encode_owner(thread: ThreadId) -> bytes:
    return str(thread).encode()


def decode_owner(data: bytes) -> ThreadId:
    consumer, dash, number = data.decode("utf-8", "replace").rpartition("-")
    if not dash or not is_number(number):
        raise FormatError(f"owner: not a thread of a consumer: {data!r:.200}")
    return ThreadId(consumer, int(number))


def encode_offset(offset: int) -> bytes:
    return dump_number(offset)


def decode_offset(data: bytes) -> int:
    return load_number(data, "offset")
