"""Others' tools, which read and write what Kafka keeps in ZooKeeper, on what the recipes write.

Opt-in: KAFKA_TOOLS_PYTHON names the Python of an environment of its own with kafka-utils 4.1.0
and kafka-tools 0.1.9, which want an old kazoo.  Without it the tests are skipped.
"""

import json
import os
import subprocess
from typing import Any

import pytest

from recipes.kafka import paths
from recipes.kafka.brokers import BrokerRegistration
from recipes.kafka.consumer import Consumer
from recipes.kafka.controller import Controller
from recipes.kafka.formats import Broker, Leadership, Subscription, decode_leadership
from recipes.kafka.paths import TopicPartition
from recipes.kafka.topics import create_topic
from tests.recipes.faults import LIMIT_S
from tests.recipes.kafka.conftest import Place, Witness

PYTHON = os.environ.get("KAFKA_TOOLS_PYTHON", "")
pytestmark = pytest.mark.skipif(
    not PYTHON, reason="SKIPPED: KAFKA_TOOLS_PYTHON names no Python with kafka-utils, kafka-tools"
)

KAFKA_UTILS = """
import json, sys
from kafka_utils.util.config import ClusterConfig
from kafka_utils.util.zookeeper import ZK
with ZK(ClusterConfig("generic", "test", [], sys.argv[1])) as zk:
    plan = {"version": 1, "partitions": [{"topic": "t", "partition": 0, "replicas": [2, 1]}]}
    print(json.dumps({
        "brokers": zk.get_brokers(),
        "topics": zk.get_topics(),
        "config": zk.get_topic_config("t"),
        "subscribed": zk.get_my_subscribed_partitions("g", "t"),
        "offsets": zk.get_group_offsets("g"),
        "accepted": zk.execute_plan(plan),
    }))
"""
KAFKA_TOOLS = """
import json, sys
from kafka.tools.models.cluster import Cluster
cluster = Cluster.create_from_zookeeper(sys.argv[1])
print(json.dumps({
    "brokers": {b.id: [b.hostname, b.port, b.rack] for b in cluster.brokers.values()},
    "topics": {
        name: [[replica.id for replica in each.replicas] for each in topic.partitions]
        for name, topic in cluster.topics.items()
    },
}))
"""
P0 = TopicPartition("t", 0)


def run(script: str, place: Place) -> Any:
    command = [PYTHON, "-c", script, place.server.hosts + place.root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def running(place: Place, witness: Witness) -> None:
    for each in (1, 2):
        broker = Broker.at(each, f"h{each}", 9090 + each, rack=f"r{each}")
        BrokerRegistration(place.client(), broker).start()
    create_topic(witness.zk, "t", assignment={0: [1, 2]}, config={"retention.ms": "1000"})
    Controller(place.client(), 1).start()
    witness.until(paths.state(P0), lambda node: node is not None)
    consumer = Consumer(place.client(), "g", Subscription({"t": 1}))
    consumer.start()
    witness.until(paths.owner("g", P0), lambda node: node is not None)
    consumer.commit(P0, 17)


@pytest.mark.usefixtures("running")
def test_kafka_utils_lists_it_and_moves_a_partition(place: Place, witness: Witness) -> None:
    seen = run(KAFKA_UTILS, place)
    assert {n: (b["host"], b["port"], b["rack"]) for n, b in seen["brokers"].items()} == {
        "1": ("h1", 9091, "r1"),
        "2": ("h2", 9092, "r2"),
    }
    partition = seen["topics"]["t"]["partitions"]["0"]
    assert (partition["leader"], partition["isr"], partition["replicas"]) == (1, [1, 2], [1, 2])
    assert seen["config"]["config"] == {"retention.ms": "1000"}
    assert seen["subscribed"] == ["0"]
    assert seen["offsets"] == {"t": {"0": 17}}
    assert seen["accepted"] is True
    witness.until(paths.REASSIGN_PARTITIONS, lambda node: node is None)
    found = witness.read(paths.state(P0))
    assert found is not None
    assert decode_leadership(found.data) == Leadership(1, (1, 2), 1, 1)


@pytest.mark.usefixtures("running")
def test_kafka_tools_lists_it(place: Place) -> None:
    seen = run(KAFKA_TOOLS, place)
    assert seen["brokers"] == {"1": ["h1", 9091, "r1"], "2": ["h2", 9092, "r2"]}
    assert seen["topics"] == {"t": [[1, 2]]}
