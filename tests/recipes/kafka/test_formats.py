"""Golden znodes of every version that Kafka wrote, field by field, both ways."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from recipes.kafka import formats as f
from recipes.kafka.fields import FormatError
from recipes.kafka.paths import TopicPartition

# As in the sources of Kafka: ZkData (2.8 to 3.9), ZkUtils (0.8.2), and releases between them.
BROKERS: list[tuple[str, f.Broker]] = [
    (
        '{"jmx_port":-1,"timestamp":"1700000000000","host":"h1","version":1,"port":9092}',
        f.Broker(1, (f.Endpoint("PLAINTEXT", "h1", 9092),), timestamp_ms=1700000000000, version=1),
    ),
    (
        '{"jmx_port":9999,"timestamp":"1700000000000","host":"h1","version":2,"port":9092,'
        '"endpoints":["PLAINTEXT://h1:9092","SSL://h1:9093"]}',
        f.Broker(
            1,
            (f.Endpoint("PLAINTEXT", "h1", 9092), f.Endpoint("SSL", "h1", 9093, "SSL")),
            jmx_port=9999,
            timestamp_ms=1700000000000,
            version=2,
        ),
    ),
    (
        '{"jmx_port":-1,"timestamp":"1700000000000","host":"h1","version":3,"port":9092,'
        '"endpoints":["PLAINTEXT://h1:9092"],"rack":"r1"}',
        f.Broker(
            1,
            (f.Endpoint("PLAINTEXT", "h1", 9092),),
            rack="r1",
            timestamp_ms=1700000000000,
            version=3,
        ),
    ),
    (
        '{"listener_security_protocol_map":{"CLIENT":"SSL","REPLICATION":"PLAINTEXT"},'
        '"endpoints":["CLIENT://h1:9092","REPLICATION://[::1]:9093"],"jmx_port":-1,"host":"::1",'
        '"timestamp":"1700000000000","port":9093,"version":4}',
        f.Broker(
            1,
            (
                f.Endpoint("CLIENT", "h1", 9092, "SSL"),
                f.Endpoint("REPLICATION", "::1", 9093, "PLAINTEXT"),
            ),
            timestamp_ms=1700000000000,
            version=4,
        ),
    ),
    (
        '{"version":5,"host":"h1","port":9092,"jmx_port":-1,"timestamp":"1700000000000",'
        '"endpoints":["PLAINTEXT://h1:9092"],"listener_security_protocol_map":{"PLAINTEXT":"PLAINTEXT"},'
        '"features":{},"rack":"r1"}',
        f.Broker(1, (f.Endpoint("PLAINTEXT", "h1", 9092),), rack="r1", timestamp_ms=1700000000000),
    ),
    (
        '{"features":{"feature":{"min_version":1,"max_version":3}},"version":5,"host":null,"port":-1,'
        '"jmx_port":-1,"timestamp":"0","endpoints":["SASL://h1:9092"],'
        '"listener_security_protocol_map":{"SASL":"SASL_SSL"}}',
        f.Broker(
            1,
            (f.Endpoint("SASL", "h1", 9092, "SASL_SSL"),),
            features={"feature": {"min_version": 1, "max_version": 3}},
        ),
    ),
]

TOPICS: list[tuple[str, f.Topic]] = [
    (
        '{"version":1,"partitions":{"0":[1,2],"1":[2,1]}}',
        f.Topic({0: f.Replicas((1, 2)), 1: f.Replicas((2, 1))}, version=1),
    ),
    (
        '{"version":2,"partitions":{"0":[3,1,2],"1":[2,1]},"adding_replicas":{"0":[3]},'
        '"removing_replicas":{"0":[1]}}',
        f.Topic({0: f.Replicas((3, 1, 2), (3,), (1,)), 1: f.Replicas((2, 1))}, version=2),
    ),
    (
        '{"removing_replicas":{},"partitions":{"10":[1]},"topic_id":"5r4ouxkySrOYVBLrVzA0-g",'
        '"adding_replicas":{},"version":3}',
        f.Topic({10: f.Replicas((1,))}, topic_id="5r4ouxkySrOYVBLrVzA0-g"),
    ),
    (
        '{"version":3,"partitions":{},"adding_replicas":{},"removing_replicas":{}}',
        f.Topic({}),
    ),
]

STATES: list[tuple[str, f.Leadership]] = [
    (
        '{"controller_epoch":1,"leader":1,"version":1,"leader_epoch":0,"isr":[1,2]}',
        f.Leadership(1, (1, 2), 0, 1),
    ),
    (
        '{"controller_epoch":7,"leader":-1,"version":1,"leader_epoch":12,"isr":[2],'
        '"leader_recovery_state":1}',
        f.Leadership(-1, (2,), 12, 7, recovering=True),
    ),
]

A, B = TopicPartition("t", 0), TopicPartition("u", 3)
Codec = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]

STATE: Codec = (f.encode_leadership, f.decode_leadership)
CONTROLLER: Codec = (f.encode_controller, f.decode_controller)
CHANGE: Codec = (f.encode_config_change, f.decode_config_change)
PARTITIONS: Codec = (f.encode_partitions, f.decode_partitions)
FEATURE: Codec = (f.encode_feature, f.decode_feature)
SUBSCRIPTION: Codec = (f.encode_subscription, f.decode_subscription)

GOLDEN: list[tuple[Codec, str, Any]] = [
    *(((f.encode_broker, lambda d: f.decode_broker(1, d)), text, value) for text, value in BROKERS),
    *(((f.encode_topic, lambda d: f.decode_topic("t", d)), text, value) for text, value in TOPICS),
    *((STATE, text, value) for text, value in STATES),
    (
        CONTROLLER,
        '{"version":1,"brokerid":1,"timestamp":"1700000000000"}',
        f.ControllerNode(1, 1700000000000),
    ),
    (
        CONTROLLER,
        '{"version":2,"brokerid":1,"timestamp":"1700000000000","kraftControllerEpoch":-1}',
        f.ControllerNode(1, 1700000000000, kraft_epoch=-1, version=2),
    ),
    ((f.encode_epoch, f.decode_epoch), "1", 1),
    (
        (f.encode_cluster_id, f.decode_cluster_id),
        '{"version":"1","id":"5r4ouxkySrOYVBLrVzA0-g"}',
        "5r4ouxkySrOYVBLrVzA0-g",
    ),
    (
        (f.encode_config, f.decode_config),
        '{"version":1,"config":{"retention.ms":"1000"}}',
        {"retention.ms": "1000"},
    ),
    (CHANGE, '{"version":2,"entity_path":"topics/t"}', f.ConfigChange("topics", "t")),
    (
        CHANGE,
        '{"version":2,"entity_path":"users/u/clients/c"}',
        f.ConfigChange("users", "u/clients/c"),
    ),
    (
        CHANGE,
        '{"version":1,"entity_type":"topics","entity_name":"t"}',
        f.ConfigChange("topics", "t", 1),
    ),
    (CHANGE, '"t"', f.ConfigChange("topics", "t", 0)),
    (
        PARTITIONS,
        '{"version":1,"partitions":[{"topic":"t","partition":0},{"topic":"u","partition":3}]}',
        (A, B),
    ),
    (
        (f.encode_log_dir_event, f.decode_log_dir_event),
        '{"version":1,"broker":1,"event":1}',
        1,
    ),
    (
        (f.encode_reassignment, f.decode_reassignment),
        '{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[2,3]}]}',
        {A: (2, 3)},
    ),
    (
        (f.encode_producer_ids, f.decode_producer_ids),
        '{"version":1,"broker":1,"block_start":"0","block_end":"999"}',
        f.ProducerIdBlock(1, 0, 999),
    ),
    (FEATURE, '{"features":{},"version":2,"status":1}', f.Feature({})),
    (
        FEATURE,
        '{"features":{"x":{"max_version_level":3}},"version":2,"status":0}',
        f.Feature({"x": 3}, enabled=False),
    ),
    (
        FEATURE,
        '{"features":{"x":{"max_version_level":3,"min_version_level":3}},"version":1,"status":1}',
        f.Feature({"x": 3}, version=1),
    ),
    (
        SUBSCRIPTION,
        '{"version":1,"subscription":{"t":2},"pattern":"static","timestamp":"1700000000000"}',
        f.Subscription({"t": 2}, timestamp_ms=1700000000000),
    ),
    (
        SUBSCRIPTION,
        '{"version":1,"subscription":{"t.*":1},"pattern":"white_list","timestamp":"0"}',
        f.Subscription({"t.*": 1}, f.WHITE_LIST),
    ),
    (
        (f.encode_owner, f.decode_owner),
        "g_h-1700000000000-0a1b2c3d-10",
        f.ThreadId("g_h-1700000000000-0a1b2c3d", 10),
    ),
    ((f.encode_offset, f.decode_offset), "123456789012", 123456789012),
]


@pytest.mark.parametrize(("codec", "text", "value"), GOLDEN, ids=lambda part: str(part)[:50])
def test_golden(codec: Codec, text: str, value: Any) -> None:
    encode, decode = codec
    assert decode(text.encode()) == value
    assert as_fields(encode(value)) == as_fields(text.encode())


def as_fields(data: bytes) -> Any:
    """Order of keys means nothing; text that is no JSON is compared as it is."""
    try:
        return json.loads(data)
    except ValueError:
        return data


@pytest.mark.parametrize(("text", "value"), BROKERS, ids=lambda part: str(part)[:40])
def test_unknown_fields_are_passed_over(text: str, value: f.Broker) -> None:
    more = json.dumps(json.loads(text) | {"novelty": [1]}).encode()
    assert f.decode_broker(1, more) == value


def test_later_version_is_read_as_the_last() -> None:
    text = BROKERS[4][0].replace('"version":5', '"version":9')
    assert f.decode_broker(1, text.encode()).endpoints == BROKERS[4][1].endpoints
    with pytest.raises(FormatError, match="version 9"):
        f.encode_broker(f.decode_broker(1, text.encode()))


BROKEN: list[tuple[Callable[[bytes], Any], str, str]] = [
    (lambda d: f.decode_broker(1, d), '{"version":0,"jmx_port":1}', "unsupported version 0"),
    (lambda d: f.decode_broker(1, d), '{"version":1,"jmx_port":1,"host":"h"}', "no field port"),
    (lambda d: f.decode_broker(1, d), '{"version":"5","jmx_port":1}', "is no int"),
    (lambda d: f.decode_broker(1, d), '{"version":2,"jmx_port":1,"endpoints":["h:1"]}', "endpoint"),
    (
        lambda d: f.decode_broker(1, d),
        '{"version":4,"jmx_port":1,"endpoints":["A://h:1"],"listener_security_protocol_map":{}}',
        "no security protocol",
    ),
    (lambda d: f.decode_topic("t", d), '{"partitions":{"x":[1]}}', "not a number"),
    (lambda d: f.decode_topic("t", d), '{"partitions":{"0":[true]}}', "not all int"),
    (lambda d: f.decode_topic("t", d), "[]", "not a JSON object"),
    (lambda d: f.decode_topic("t", d), "\xff", "not JSON"),
    (f.decode_leadership, '{"leader":1,"leader_epoch":0,"controller_epoch":1}', "no field isr"),
    (
        f.decode_leadership,
        '{"leader":1,"leader_epoch":0,"controller_epoch":1,"isr":[1],"leader_recovery_state":2}',
        "leader_recovery_state 2",
    ),
    (f.decode_epoch, "one", "not a decimal"),
    (f.decode_offset, "1_0", "not a decimal"),
    (f.decode_config_change, '{"version":3}', "unsupported version 3"),
    (f.decode_config_change, '{"version":2,"entity_path":"topics"}', "no slash"),
    (f.decode_feature, '{"features":{},"version":3,"status":1}', "unsupported version 3"),
    (f.decode_feature, '{"features":{},"version":2,"status":2}', "unknown status"),
    (
        f.decode_feature,
        '{"features":{"x":{"max_version_level":0}},"version":2,"status":1}',
        "level",
    ),
    (f.decode_owner, "consumer", "not a thread"),
    (f.decode_subscription, '{"subscription":{}}', "no field pattern"),
    (
        f.decode_subscription,
        '{"subscription":{"*":1},"pattern":"white_list","timestamp":"0"}',
        "not an expression",
    ),
    (
        f.decode_subscription,
        '{"subscription":{"a{99999999999999999999}":1},"pattern":"white_list","timestamp":"0"}',
        "not an expression",
    ),
    (
        f.decode_subscription,
        f'{{"subscription":{{"{"(" * 5000}{")" * 5000}":1}},"pattern":"black_list"}}',
        "not an expression",
    ),
    (f.decode_subscription, '{"subscription":{"t":0},"pattern":"static"}', "without a stream"),
    (f.decode_leadership, "[" * 100_000, "not JSON"),
    (lambda data: f.decode_topic("t", data), f'{{"partitions":{{"{"1" * 5000}":[1]}}}}', "number"),
    (f.decode_controller, "1" * 5000, "not JSON"),
    (f.decode_owner, f"consumer-{'1' * 5000}", "not a thread"),
]


@pytest.mark.parametrize(("decode", "text", "complaint"), BROKEN, ids=lambda part: str(part)[:40])
def test_what_kafka_fails_on(decode: Callable[[bytes], Any], text: str, complaint: str) -> None:
    with pytest.raises(FormatError, match=complaint):
        decode(text.encode("latin-1"))


def test_bare_controller_id_and_empty_config() -> None:
    assert f.decode_controller(b"4").broker_id == 4
    assert f.decode_config(b"") == {}
    assert f.decode_topic("t", b'{"version":1}').partitions == {}


def test_uuid_is_kafkas() -> None:
    assert f.new_uuid(uuid.UUID("e6be28bb-1932-4ab3-9854-12eb573034fa")) == "5r4ouxkySrOYVBLrVzA0-g"
    assert not f.new_uuid(uuid.UUID(int=0xF8 << 120)).startswith("-")


def test_replicas_on_the_move() -> None:
    """The example in Kafka's comment on partition reassignment."""
    moving = f.Replicas((1, 2, 3)).moved_to((4, 5, 6))
    assert moving == f.Replicas((4, 5, 6, 1, 2, 3), (4, 5, 6), (1, 2, 3))
    assert (moving.origin, moving.target) == ((1, 2, 3), (4, 5, 6))
    assert moving.moved_to((1, 7)) == f.Replicas((1, 7, 2, 3), (7,), (2, 3))


@pytest.mark.parametrize(
    ("subscription", "expected"),
    [
        (f.Subscription({"a": 2, "gone": 1}), {"a": 2}),
        (f.Subscription({"a, b*": 3}, f.WHITE_LIST), {"a": 3, "bb": 3}),
        (f.Subscription({'"a|c"': 3}, f.BLACK_LIST), {"bb": 3}),
        (f.Subscription({}, f.WHITE_LIST), {}),
    ],
)
def test_subscription(subscription: f.Subscription, expected: dict[str, int]) -> None:
    assert subscription.topics(["a", "bb", "__consumer_offsets"]) == expected
