"""Where records go: Kafka's own partitioner, and a view that follows the cluster."""

import pytest

from recipes.kafka import paths
from recipes.kafka.controller import Controller
from recipes.kafka.formats import Broker, encode_broker
from recipes.kafka.paths import TopicPartition
from recipes.kafka.producer import ClusterView, Metadata, NoLeader, choose, murmur2
from recipes.kafka.topics import add_partitions, create_topic
from tests.recipes.conftest import Spawn
from tests.recipes.faults import LIMIT_S, FaultProxy
from tests.recipes.kafka.conftest import Place, Witness

BROKERS = {each: Broker.at(each, f"h{each}", 9092) for each in (1, 2)}
METADATA = Metadata(BROKERS, {"t": {0: 1, 1: None, 2: 2}, "dead": {0: None}})


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_as_in_kafkas_tests(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected % 2**32


def test_without_a_key_in_turn_over_what_has_a_leader() -> None:
    routes = [choose(METADATA, "t", turn=turn) for turn in range(4)]
    assert [each.where.partition for each in routes] == [0, 2, 0, 2]
    assert [each.broker.broker_id for each in routes] == [1, 2, 1, 2]


def test_a_key_stays_where_it_is() -> None:
    """Also while its partition has no leader: elsewhere its order would be lost."""
    assert choose(METADATA, "t", b"abc").where == TopicPartition("t", 479470107 % 3)
    for key in (b"foobar", b"21", b"x", b"y", b"z"):
        number = (murmur2(key) & 0x7FFFFFFF) % 3
        if number == 1:
            with pytest.raises(NoLeader):
                choose(METADATA, "t", key)
        else:
            assert choose(METADATA, "t", key).where.partition == number


@pytest.mark.parametrize("topic", ["dead", "unknown"])
def test_no_leader(topic: str) -> None:
    with pytest.raises(NoLeader):
        choose(METADATA, topic)


def test_who_waits_is_told_of_a_stop(place: Place, spawn: Spawn) -> None:
    view = ClusterView(place.client(), ["t"])
    waited = spawn(view.wait_until_led, "t", 1)
    view.start()
    view.stop()
    assert waited.result(LIMIT_S) is False


def test_follows_brokers_and_topics(place: Place, proxy: FaultProxy, witness: Witness) -> None:
    for each, broker in BROKERS.items():
        witness.client.create(paths.broker(each), encode_broker(broker), makepath=True)
    controller = Controller(place.client(), 1)
    controller.start()
    view = ClusterView(place.client(proxy), ["t"])
    view.start()
    create_topic(witness.zk, "t", assignment={0: [1, 2]})
    assert view.wait_until_led("t", 1, LIMIT_S)
    assert choose(view.metadata, "t").broker == BROKERS[1]
    add_partitions(witness.zk, "t", 3)
    assert view.wait_until_led("t", 3, LIMIT_S)
    proxy.expire()
    witness.client.delete(paths.broker(1))

    def has_moved() -> bool:
        metadata = view.metadata
        return 1 not in metadata.brokers and set(metadata.leaders["t"].values()) == {2}

    with view._news:
        assert view._news.wait_for(has_moved, LIMIT_S)
    assert {choose(view.metadata, "t", turn=turn).broker.broker_id for turn in range(3)} == {2}
    assert view.failure is None
    view.stop()
    controller.stop()
