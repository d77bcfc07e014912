"""Topics and requests on a real server, under faults at each request."""

import json
import random

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError, SessionExpiredError

from recipes.kafka import paths
from recipes.kafka.formats import (
    Broker,
    Leadership,
    Topic,
    decode_config,
    decode_leadership,
    decode_partitions,
    decode_reassignment,
    decode_topic,
    encode_broker,
    encode_leadership,
)
from recipes.kafka.paths import TopicPartition
from recipes.kafka.placement import PlacementError
from recipes.kafka.topics import (
    StaleLeader,
    TopicError,
    TopicExists,
    add_partitions,
    change_isr,
    create_topic,
    delete_topic,
    prepare,
    request_moves,
    request_preferred,
)
from recipes.kafka.znodes import Znodes
from tests.recipes.conftest import MakeProxy
from tests.recipes.kafka.conftest import (
    FAULT_NAMES,
    FAULTS,
    MakeFault,
    Place,
    Witness,
    sweep,
    until_connected,
)

P0 = TopicPartition("t", 0)
STATE = Leadership(1, (1, 2), 4, 1)


def with_brokers(witness: Witness, *ids: int) -> None:
    for each in ids:
        data = encode_broker(Broker.at(each, f"h{each}", 9092, rack=f"r{each % 2}"))
        witness.client.create(paths.broker(each), data, makepath=True)


def read_topic(witness: Witness, name: str) -> Topic:
    found = witness.read(paths.topic(name))
    assert found is not None
    return decode_topic(name, found.data)


def test_prepared_as_kafka_does(witness: Witness) -> None:
    prepare(witness.zk)
    prepare(witness.zk)
    assert witness.zk.children("/config") == [
        "brokers",
        "changes",
        "clients",
        "ips",
        "topics",
        "users",
    ]
    assert witness.zk.children("/brokers") == ["ids", "seqid", "topics"]


def test_created(witness: Witness) -> None:
    with_brokers(witness, 1, 2, 3, 4)
    dice = random.Random(1)
    topic = create_topic(witness.zk, "t", 5, 2, config={"retention.ms": "1000"}, dice=dice)
    assert read_topic(witness, "t") == topic
    assert sorted(topic.partitions) == [0, 1, 2, 3, 4]
    for replicas in topic.partitions.values():
        assert len({each % 2 for each in replicas.brokers}) == 2, "both racks"
    config = witness.read(paths.config("topics", "t"))
    assert config is not None and decode_config(config.data) == {"retention.ms": "1000"}
    assert json.loads(config.data) == {"version": 1, "config": {"retention.ms": "1000"}}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "x" * 250, "\u00e4"])
def test_names_that_kafka_refuses(name: str, witness: Witness) -> None:
    with pytest.raises(TopicError):
        create_topic(witness.zk, name, assignment={0: [1]})


def test_exists_already(witness: Witness) -> None:
    create_topic(witness.zk, "a.b", assignment={0: [1]})
    for name in ("a.b", "a_b"):
        with pytest.raises(TopicExists):
            create_topic(witness.zk, name, assignment={0: [1]})
    with pytest.raises(PlacementError):
        create_topic(witness.zk, "t", 1, 1)


def test_too_many_partitions(witness: Witness) -> None:
    """In one znode."""
    with pytest.raises(TopicError, match="at most"):
        create_topic(witness.zk, "t", assignment={number: [1, 2] for number in range(80_000)})
    create_topic(witness.zk, "t", assignment={0: [1]})
    witness.client.create(paths.broker(1), encode_broker(Broker.at(1, "h1", 9092)), makepath=True)
    with pytest.raises(TopicError, match="at most"):
        add_partitions(witness.zk, "t", 100_000)


def test_a_topic_without_partitions_does_not_grow(witness: Witness) -> None:
    witness.client.create(paths.topic("odd"), b'{"partitions":{"1":[1]}}', makepath=True)
    with pytest.raises(TopicError, match=r"partitions \[1\]"):
        add_partitions(witness.zk, "odd", 3)


def test_topic_grows(witness: Witness) -> None:
    with_brokers(witness, 1, 2, 3)
    before = create_topic(witness.zk, "t", assignment={0: [2, 3]})
    after = add_partitions(witness.zk, "t", 3)
    assert read_topic(witness, "t") == after
    assert after.topic_id == before.topic_id
    assert after.partitions[0] == before.partitions[0]
    assert sorted(after.partitions) == [0, 1, 2]
    assert add_partitions(witness.zk, "t", 3) == after
    with pytest.raises(TopicError, match="cannot get fewer"):
        add_partitions(witness.zk, "t", 2)
    with pytest.raises(TopicError, match="no topic"):
        add_partitions(witness.zk, "u", 2)


def test_requests(witness: Witness) -> None:
    create_topic(witness.zk, "t", assignment={0: [1]})
    delete_topic(witness.zk, "t")
    assert witness.read(paths.delete_topic("t")) is not None
    with pytest.raises(TopicError):
        delete_topic(witness.zk, "u")
    request_moves(witness.zk, {P0: (2,)})
    request_preferred(witness.zk, [P0])
    moves, preferred = (
        witness.read(paths.REASSIGN_PARTITIONS),
        witness.read(paths.PREFERRED_ELECTION),
    )
    assert moves is not None and decode_reassignment(moves.data) == {P0: (2,)}
    assert preferred is not None and decode_partitions(preferred.data) == (P0,)
    with pytest.raises(NodeExistsError):
        request_moves(witness.zk, {P0: (3,)})


def test_isr_is_the_leaders(witness: Witness) -> None:
    witness.client.create(paths.state(P0), encode_leadership(STATE), makepath=True)
    changed = change_isr(witness.zk, P0, [1], leader=1, leader_epoch=4)
    found = witness.read(paths.state(P0))
    assert found is not None and decode_leadership(found.data) == changed
    assert changed == Leadership(1, (1,), 4, 1)
    (name,) = witness.zk.children(paths.ISR_CHANGES)
    note = witness.read(f"{paths.ISR_CHANGES}/{name}")
    assert name == "isr_change_0000000000"
    assert note is not None and decode_partitions(note.data) == (P0,)
    for leader, epoch in ((2, 4), (1, 3)):
        with pytest.raises(StaleLeader):
            change_isr(witness.zk, P0, [1, 2], leader=leader, leader_epoch=epoch)
    with pytest.raises(StaleLeader):
        change_isr(witness.zk, TopicPartition("t", 1), [1], leader=1, leader_epoch=4)


@pytest.mark.parametrize("make_fault", FAULTS, ids=FAULT_NAMES)
def test_fault_at_each_request(
    make_fault: MakeFault, place: Place, make_proxy: MakeProxy, witness: Witness
) -> None:
    """A topic is made, grows and gets another ISR, once; an expired session is told, no more."""
    with_brokers(witness, 1, 2)

    def scenario(client: KazooClient) -> None:
        for path in (paths.TOPICS, paths.ISR_CHANGES, "/config", "/admin"):
            if witness.client.exists(path):
                witness.client.delete(path, recursive=True)
        try:
            act(Znodes(client))
        except SessionExpiredError:
            until_connected(client)
            act(Znodes(client))
        assert sorted(read_topic(witness, "t").partitions) == [0, 1]
        found = witness.read(paths.state(P0))
        assert found is not None and decode_leadership(found.data).isr == (1,)
        assert witness.zk.children(paths.ISR_CHANGES)
        moves = witness.read(paths.REASSIGN_PARTITIONS)
        assert moves is not None and decode_reassignment(moves.data) == {P0: (2,)}

    def act(zk: Znodes) -> None:
        """Whoever is told of an expired session looks at what there is, and goes on."""
        if witness.read(paths.topic("t")) is None:
            create_topic(zk, "t", assignment={0: [1, 2]})
        add_partitions(zk, "t", 2)
        if witness.read(paths.state(P0)) is None:
            witness.client.create(paths.state(P0), encode_leadership(STATE), makepath=True)
        change_isr(zk, P0, [1], leader=1, leader_epoch=4)
        if witness.read(paths.REASSIGN_PARTITIONS) is None:
            request_moves(zk, {P0: (2,)})

    assert sweep(place, make_proxy, make_fault, scenario) >= 10
